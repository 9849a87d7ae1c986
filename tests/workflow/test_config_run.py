"""A wrong config stops before anything runs; layered files and target names work."""

from pathlib import Path

import pytest
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


def test_changed_enhancement_reruns_what_it_touches(run: Run, tmp_path: Path) -> None:
    files = ("--configfile", "config/demo.yaml", "small.yaml")
    assert run(*files, "--", "prepare").returncode == 0
    (tmp_path / "mine.yaml").write_text("images: {enhanced: {clahe: {clip_limit: 3.0}}}")
    planned = run(*files, "mine.yaml", "--dry-run", "--", "prepare").stdout
    rules = {line.split()[1].rstrip(":") for line in planned.splitlines() if line.startswith(("rule ", "localrule "))}
    assert rules == {"enhance_shard", "write_sharegpt", "prepare"}


def test_lost_rows_beyond_the_limit_stop_the_run_with_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("limits: {quarantine_share: 0.001}")
    done = run("--configfile", "config/demo.yaml", "small.yaml", "mine.yaml", "--", "prepare")
    assert done.returncode != 0
    assert "radtune: " in done.stdout
    assert "more than limits.quarantine_share 0.001 allows" in done.stdout
    assert list((tmp_path / "results" / "small" / "data").glob("quarantine.refused.jsonl"))
