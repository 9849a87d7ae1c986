"""Where a report's figures come from: what is stated holds against the files, what is not known is said to be so."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from radtune.code import git_state
from radtune.files import write_json, write_text
from radtune.report.provenance import provenance

HUB = {"source": "huggingface", "path": None, "repo": "Qwen/Qwen3-VL-8B-Instruct", "revision": "main"}


def config(folder: Path) -> dict[str, Any]:
    local = {"source": "local", "path": str(folder / "own"), "repo": "unused", "revision": "unused"}
    return {
        "dataset": {"source": "local", "phantom": {"seed": 5}},
        "split": {"seed": 1},
        "training": {"seed": 42},
        "experiments": {
            "base": {"model": HUB, "model_name": "hub", "training": None},
            "lora": {"model": HUB, "model_name": "hub", "training": {"seed": 7}},
            "own": {"model": local, "model_name": "own", "training": {"seed": 42}},
        },
    }


def found(folder: Path, told: Any = None, **given: Any) -> dict[str, Any]:
    run = folder / "run.json"
    run.unlink(missing_ok=True)
    if told:
        write_json(run, told)
    arguments = {"manifest": None, "models": folder / "model", "trainings": [], "locks": None, "run": run}
    return provenance(config(folder), **(arguments | given))


def test_models_and_adapters_are_named_with_what_was_read(tmp_path: Path) -> None:
    write_json(tmp_path / "model/hub/revision.json", {"commit": "0c351dd"})
    write_text(tmp_path / "own/weights", "a")
    write_text(tmp_path / "train/lora/adapter/weights", "b")
    trainings = [tmp_path / "train/lora", tmp_path / "train/own"]
    before = found(tmp_path, trainings=trainings)
    hub, own = before["models"]
    assert (hub["name"], hub["revision"], hub["commit"]) == (HUB["repo"], "main", "0c351dd")
    assert hub["experiments"] == ["base", "lora"]
    assert (own["name"], own["revision"], own["commit"]) == (str(tmp_path / "own"), None, None)
    assert before["adapters"].keys() == {"lora"}
    write_text(tmp_path / "own/weights", "b")
    write_text(tmp_path / "train/lora/adapter/weights", "c")
    after = found(tmp_path, trainings=trainings)
    assert after["models"][0] == hub
    assert after["models"][1]["digest"] != own["digest"]
    assert after["adapters"] != before["adapters"]


def test_an_encoder_from_a_hub_is_named_with_the_experiments_that_use_it(tmp_path: Path) -> None:
    given, fetched = config(tmp_path), {"source": "huggingface", "repo": "some/clip", "revision": "main"}
    given["experiments"]["lora"] |= {"fetched": fetched, "encoder": "clip-1"}
    write_json(tmp_path / "model/clip-1/revision.json", {"commit": "77"})
    arguments = {"manifest": None, "models": tmp_path / "model", "trainings": [], "locks": None, "run": tmp_path / "no"}
    (encoder,) = (model for model in provenance(given, **arguments)["models"] if model["name"] == "some/clip")
    assert (encoder["revision"], encoder["commit"], encoder["experiments"]) == ("main", "77", ["lora"])


def test_seeds_are_those_in_use_and_an_experiment_s_own(tmp_path: Path) -> None:
    assert found(tmp_path)["seeds"] == {"split.seed": 1, "training.seed": 42, "experiments.lora.training.seed": 7}


def test_versions_are_those_of_the_locks_of_the_place(tmp_path: Path) -> None:
    write_text(tmp_path / "prepare.lock.txt", "# pillow==1.0\npillow==11.3.0 \\\n    --hash=sha256:00\n")
    write_text(tmp_path / "train.lock.txt", "peft==0.18.1\n")
    write_text(tmp_path / "torch.lock.txt", "torch==2.7.1 ; python_version < '4'\n")
    wheel = "torch @ https://example.org/cu118/torch-2.7.1%2Bcu118-cp311-cp311-manylinux_2_28_x86_64.whl \\\n"
    write_text(tmp_path / "torch-cu118.lock.txt", wheel)
    outside, inside = (
        dict(found(tmp_path, {"images": images}, locks=tmp_path)["software"]) for images in (None, {"train": "x"})
    )
    # workflow, prepare, train, evaluate
    assert outside["pillow"][:4] == [None, "11.3.0", None, None]
    assert outside["peft"][:4] == [None, None, "0.18.1", None]
    assert (outside["torch"][2], inside["torch"][2]) == ("2.7.1", "2.7.1+cu118")


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def test_the_code_s_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> str:
        text: str = found(tmp_path, {"git": git_state(tree)})["code"]
        return text

    (tree := tmp_path / "tree").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert said().startswith("Commit not known: not a git repository")
    write_text(tree / "file", "a")
    git(tree, "init")
    git(tree, "add", "file")
    git(tree, "commit", "-m", "one")
    state = git_state(tree)
    assert len(state["commit"]) == 40
    assert said() == f"Commit {state['commit']}, unchanged."
    write_text(tree / "file", "b")
    write_text(tree / "folder" / "new", "c")
    assert said() == f"Commit {state['commit']}, with 2 changed or new files that it does not have."
    monkeypatch.setenv("PATH", str(tmp_path))
    assert said() == "Commit not known: git is not installed."
    assert found(tmp_path)["code"] == "Commit not known: this page was not written by the workflow."
