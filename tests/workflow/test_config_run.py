"""A wrong config stops before anything runs; layered files and target names work."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Run


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("training: {lora_rank: eight}", "training.lora_rank: 'eight' is not of type 'integer'."),
        ("datset: {}", "datset is no known key; did you mean dataset?"),
        ("experiments: {a: {init_adapter: b}, b: {init_adapter: a}}", "closes a circle: a -> b -> a."),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_runs(run: Run, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    done = run("--configfile", "config/demo.yaml", "mine.yaml")
    assert done.returncode != 0
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("radtune: config: ")
    assert last.endswith(sentence)
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "results").exists()


def test_with_no_config_the_real_job_is_planned(run: Run) -> None:
    done = run("--dry-run")
    assert done.returncode == 0, done.stdout
    assert "list_shards" in done.stdout


def test_a_target_stops_there_and_a_second_run_does_nothing(run: Run, tmp_path: Path) -> None:
    files = ("--configfile", "config/demo.yaml", "small.yaml")
    done = run(*files, "--", "prepare")
    assert done.returncode == 0, done.stdout
    results = tmp_path / "results" / "small"
    assert list(results.glob("sharegpt/*/dataset_info.json"))
    assert not (results / "train").exists()
    assert not (results / "model").exists()
    again = run(*files, "--", "prepare")
    assert "Nothing to be done" in again.stdout


def test_changed_enhancement_is_made_without_another_scan(run: Run, tmp_path: Path) -> None:
    files = ("--configfile", "config/demo.yaml", "small.yaml")
    assert run(*files, "--", "prepare").returncode == 0
    (ahead,) = (tmp_path / "results" / "small" / "images" / ".ahead").iterdir()
    assert not list(ahead.iterdir())  # made by scan_shard, taken by enhance_shard
    (tmp_path / "mine.yaml").write_text("images: {enhanced: {clahe: {clip_limit: 3.0}}}")
    done = run(*files, "mine.yaml", "--", "prepare")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "rule enhance_shard" in done.stdout
    assert "rule scan_shard" not in done.stdout
    assert "Nothing to be done" in run(*files, "mine.yaml", "--", "prepare").stdout


def test_vllm_takes_the_whole_model_and_the_model_card_comes_with_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("generation: {backend: vllm}")
    done = run("--configfile", "config/demo.yaml", "small.yaml", "mine.yaml", "--dry-run", "--", "export")
    assert done.returncode == 0, done.stdout
    for experiment, model in (("base", r"results/small/model/tiny-\w+"), ("lora", "results/small/train/lora/merged")):
        output = f"results/small/predict/{experiment}/test.jsonl"
        job = rf"rule predict_by_vllm:\n    input: {model}, .*\n    output: {output}\n"
        assert re.search(job, done.stdout), experiment
    assert "rule predict_split:" not in done.stdout
    card = "results/small/train/lora/merged, results/small/export/lora/README.md"
    assert f"rule export_model:\n    input: {card}\n    output: results/small/export/lora/model\n" in done.stdout


def contents(results: Path) -> dict[str, bytes]:
    """Every file that a run wrote, but for its logs and times."""
    files = [path for path in results.rglob("*") if path.is_file()]
    names = {path: str(path.relative_to(results)) for path in files}
    return {name: path.read_bytes() for path, name in names.items() if name.split("/")[0] not in ("logs", "benchmarks")}


@pytest.mark.parametrize("pictures", ["phantoms", "real slices"])
def test_one_core_and_two_write_the_same_bytes(
    run: Run, tmp_path: Path, request: pytest.FixtureRequest, pictures: str
) -> None:
    inpaint = {"size": 128, "clahe": {"clip_limit": 2.0}, "burned_in_box": "inpaint"}
    more: dict[str, Any] = {"images": {"clean": inpaint}, "experiments": {"clean": {"images": "clean"}}}
    if pictures == "real slices":
        writer = request.getfixturevalue("real_data") / "make_parquet.py"
        subprocess.run([sys.executable, writer, tmp_path / "parquet", "--images", "24"], check=True)
        more["dataset"] = {"source": "local", "path": "parquet"}
    found = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"results": f"results/{name}"} | more))
        files = ("--configfile", "config/demo.yaml", "small.yaml", f"{name}.yaml")
        done = run(*files, *(["--cores", "1"] if name == "one" else []), "--", "prepare")
        assert done.returncode == 0, done.stdout[-4000:]
        found.append(contents(tmp_path / "results" / name))
    for path in ("data/shards.json", "data/manifest.json"):  # these hold the shards' own place
        one, two = (files.pop(path) for files in found)
        assert one.replace(b"results/one", b"results/two") == two
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []
    jpegs = [name for name in found[0] if name.endswith(".jpg")]
    assert len(jpegs) == 2 * 24
    assert len({found[0][name] for name in jpegs}) > 40  # the rectangle is out of one recipe's


def test_lost_rows_beyond_the_limit_stop_the_run_with_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("limits: {quarantine_share: 0.001}")
    done = run("--configfile", "config/demo.yaml", "small.yaml", "mine.yaml", "--", "prepare")
    assert done.returncode != 0
    assert "radtune: " in done.stdout
    assert "more than limits.quarantine_share 0.001 allows" in done.stdout
    assert list((tmp_path / "results" / "small" / "data").glob("quarantine.refused.jsonl"))
