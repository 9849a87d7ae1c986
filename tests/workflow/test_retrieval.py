"""Similar cases through the whole workflow, in training, and in prediction alone with another experiment's adapter; and
over what that built, the whole wish list.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from running import SMALL, Run, place, planned, snakemake

import hub_server
from radtune.config import resolve
from radtune.files import read_json, read_jsonl, write_json
from report_page import plain

pytestmark = pytest.mark.slow
FILES = ("--configfile", "config/demo.yaml", "small.yaml")
LEFT_OUT = ("dropped", "longer", "constrained", "worded")  # of wishes.yaml
STEPS = {"max_steps": 2, "save_strategy": "steps"}
CONFIG: dict[str, Any] = SMALL | {
    "training": STEPS,
    "generation": SMALL["generation"] | {"max_new_tokens": 8},
    "experiments": SMALL["experiments"]
    | {"cases": {"retrieval": {"used_in": "training", "k": 2}, "training": {"cutoff_len": 800}}}
    | {"later": {"retrieval": {"used_in": "prediction", "k": 1}, "training": None, "init_adapter": "lora"}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = place(tmp_path_factory.mktemp("retrieval"))
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    done = snakemake(folder, *FILES)
    assert done.returncode == 0, done.stdout[-4000:]
    return folder / "results" / "small"


def dataset(results: Path, experiment: str) -> Path:
    settings = yaml.safe_load((results / "config.yaml").read_text())
    return results / "sharegpt" / settings["experiments"][experiment]["dataset"]


def test_cases_are_of_train_and_of_other_groups_in_the_splits_that_the_config_names(finished: Path) -> None:
    plain = {split: read_json(dataset(finished, "lora") / f"{split}.json") for split in ("train", "validation", "test")}
    group_of = {record["images"][0]: record["group"] for record in plain["train"]}
    answers = {(record["images"][0], record["tag"]): record["messages"][-1]["content"] for record in plain["train"]}
    for experiment, splits, k in (("cases", ("train", "validation", "test"), 2), ("later", ("test",), 1)):
        for split, before in plain.items():
            after = read_json(dataset(finished, experiment) / f"{split}.json")
            if split not in splits:
                assert after == before
                continue
            for old, new in zip(before, after, strict=True):
                assert new["messages"][-1] == old["messages"][-1]
                question = old["messages"][0]["content"].removeprefix("<image>")
                assert new["messages"][0]["content"].endswith(question)
                assert new["messages"][0]["content"].count("<image>") == 1
                groups = [case["group"] for case in new["cases"]]
                assert len(groups) == len(set(groups)) == k
                assert old["group"] not in groups
                for case in new["cases"]:
                    assert group_of[case["image"]] == case["group"]
                    assert answers[case["image"], new["tag"]] == case["answer"]


def test_an_adapter_as_it_is_answers_and_is_not_trained_again(finished: Path) -> None:
    assert {path.name for path in (finished / "train").iterdir() if path.is_dir()} == {"lora", "cases"}
    said = {name: read_jsonl(finished / "predict" / name / "test.jsonl") for name in ("base", "lora", "cases", "later")}
    assert [row["prompt"] for row in said["later"]] != [row["prompt"] for row in said["lora"]]
    assert "cases" not in said["lora"][0]


def test_copying_is_a_floor_of_those_alone_that_were_given_cases(finished: Path) -> None:
    floors = {
        name: read_json(finished / "evaluate" / name / "test.json")["overall"]["metrics"]["rouge_l"]["floors"]
        for name in ("base", "lora", "cases", "later")
    }
    assert {name for name, found in floors.items() if "copied" in found} == {"cases", "later"}
    assert "Similar training images given to" in (finished / "report" / "index.html").read_text()


def test_what_the_experiments_share_is_made_once(finished: Path) -> None:
    (encoder,) = (finished / "retrieve").iterdir()
    (recipe,) = encoder.iterdir()
    assert {path.name for path in recipe.iterdir() if not path.name.startswith(".")} == {"vectors", "index", "cases"}
    shards = {path.stem for path in (recipe / "vectors").glob("*.parquet")}
    assert shards == {shard["name"] for shard in read_json(finished / "data" / "manifest.json")["shards"]}
    train = pq.read_table(finished / "data" / "samples.parquet", filters=[("split", "=", "train")])
    indexed = pq.read_table(recipe / "index" / "cases.parquet")["image"].to_pylist()
    assert {Path(image).stem for image in indexed} == set(train["image_sha256"].to_pylist())
    assert len(list((finished / "evaluate" / "neighbours").iterdir())) == 1


SCORED = {"evaluate_split": 1, "compare_experiments": 1, "write_report": 1, "write_config": 1}
ASKED = {"predict_split": 1} | SCORED
LATER = {"add_cases": 1} | ASKED
CLIP = {"used_in": "prediction", "encoder": "some/clip", "encoder_revision": hub_server.COMMIT}


@pytest.mark.parametrize(
    ("changed", "jobs"),
    [
        ({"experiments": {"later": {"retrieval": {"k": 3}}}}, LATER),
        ({"experiments": {"later": {"retrieval": {"characters": 99}}}}, LATER),
        (
            {"experiments": {"later": {"retrieval": CLIP}}},
            {"fetch_model": 1, "embed_images": 4, "build_index": 1, "find_cases": 1} | LATER,
        ),
        # the same questions, asked of the untuned model
        ({"experiments": {"third": {"retrieval": {"used_in": "prediction", "k": 1}, "training": None}}}, ASKED),
        (
            {"prompts": {"seed": 1}},  # vectors, index and cases stay
            {"write_sharegpt": 1, "add_cases": 2, "find_neighbours": 1, "check_budget": 2}
            | {"train_adapter": 2, "predict_split": 4, "evaluate_split": 4}
            | {"compare_experiments": 1, "write_report": 1, "write_config": 1},
        ),
    ],
)  # fmt: skip
def test_a_change_reruns_what_it_can_affect(finished: Path, changed: dict[str, Any], jobs: dict[str, int]) -> None:
    folder = finished.parents[1]
    (folder / "changed.yaml").write_text(yaml.safe_dump(changed))
    done = snakemake(folder, "--dry-run", "--quiet", "rules", *FILES, "changed.yaml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert planned(done.stdout) == jobs


def test_an_encoder_is_fetched_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place(tmp_path)
    small = SMALL | {"experiments": {"cases": {"retrieval": CLIP}}}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    name = resolve({"experiments": small["experiments"]})["experiments"]["cases"]["encoder"]
    with hub_server.serving() as hub:
        hub.repositories["model", "some/clip"] = {"config.json": b"{}", "model.safetensors": b"weights"}
        for key, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(key, value)
        done = snakemake(folder, *FILES, "--", f"results/small/model/{name}")
    assert done.returncode == 0, done.stdout[-4000:]
    assert planned(done.stdout) == {"fetch_model": 1}
    made = folder / "results" / "small" / "model" / name
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert read_json(made / "revision.json")["commit"] == hub_server.COMMIT


@pytest.mark.parametrize(("layers", "cleaned", "scored"), [((), 1, 9), (("config/rewritten.yaml",), 2, 10)])
def test_the_real_wish_list_asks_no_server_unless_a_layer_does(
    run: Run, layers: tuple[str, ...], cleaned: int, scored: int
) -> None:
    files = ("config/config.yaml", "config/wishes.yaml", *layers)
    done = run("--dry-run", "--quiet", "rules", "--configfile", *files)
    jobs = planned(done.stdout)
    assert (jobs["clean_texts"], jobs["train_adapter"], jobs["evaluate_split"]) == (cleaned, scored - 3, scored)


def test_the_wish_list_is_one_command_and_each_wish_has_its_effect_in_the_report(finished: Path) -> None:
    """Those wishes that need no further training; the others are planned above."""
    folder = finished.parents[1]
    wished: dict[str, Any] = {"valid": {"generation": {"max_new_tokens": 48}}}  # an empty record takes 36
    wished |= dict.fromkeys(LEFT_OUT, False)
    (folder / "wished.yaml").write_text(yaml.safe_dump({"experiments": wished}))
    wishes = ("config/wishes.yaml", "small.yaml", "wished.yaml")
    done = snakemake(folder, "--resources", "gpu=2", "--configfile", "config/demo.yaml", *wishes)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "train_adapter" not in planned(done.stdout)

    page = plain((finished / "report" / "index.html").read_text())
    table = page.split("<h3>What each switch did</h3>")[1].split("</table>")[0]
    head, *rows = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in table.split("<tr>")[1:])
    effects = {row[0]: dict(zip(head[2:], row[2:], strict=True)) for row in rows}
    given = [name for name in experiments_of(folder / wishes[0]) if name not in LEFT_OUT]
    assert len(given) == 3
    interval = re.compile(r"<small>−?[0-9.]+ to −?[0-9.]+</small><small>(better|worse|no difference shown)<")
    for name in given:
        found = effects[f"{name} against lora"]
        measured = {key: cell for key, cell in found.items() if not key.startswith(("Findings", "Box"))}
        assert all(map(interval.search, measured.values())), name
    assert {name for name in effects if name.endswith("copied")} == {
        f"{name} against nearest case, copied" for name in ("cases", "later", "cases_later")
    }


def test_the_earlier_index_outlives_snakemakes_deletion(finished: Path) -> None:
    """The last test, as the index that it makes is another."""
    (recipe,) = (finished / "retrieve").glob("*/*")
    about = recipe / ".index.earlier" / "index.json"
    write_json(about.with_name("new.json"), read_json(about) | {"fitted": 7})
    about.with_name("new.json").rename(about)
    folder = finished.parents[1]
    target = str((recipe / "index").relative_to(folder))
    done = snakemake(folder, *FILES, "--forcerun", "build_index", "--", target)
    assert done.returncode == 0, done.stdout[-4000:]
    assert json.loads((recipe / "index" / "index.json").read_text())["fitted"] == 7


def experiments_of(path: Path) -> list[str]:
    """Those that a config adds."""
    return [name for name, of in yaml.safe_load(path.read_text())["experiments"].items() if of is not False]
