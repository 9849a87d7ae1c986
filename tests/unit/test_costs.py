"""What a run took, by hand: sums and maxima over benchmark files, speeds, money."""

from pathlib import Path
from typing import Any

import pytest

from radtune.files import write_json, write_jsonl, write_text
from radtune.report.costs import costs, duration


def record(seconds: float, cpu: Any = "NA", memory: Any = "NA") -> dict[str, Any]:
    return {"s": seconds, "cpu_time": cpu, "max_rss": memory, "h:m:s": "0:00:00"}


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    """A rule without wildcards, one with a job in each of two folders, one too brief to be measured, a broken file."""
    folder = tmp_path / "benchmarks"
    write_jsonl(folder / "merge_index.jsonl", [record(2.0, 1.5, 90.0)])
    write_jsonl(folder / "scan_shard" / "a.jsonl", [record(1800.0, 900.0, 120.0)])
    write_jsonl(folder / "scan_shard" / "b" / "c.jsonl", [record(1800.0), record(60.0, 30.0, 110.0)])  # one repeated
    write_jsonl(folder / "fetch_shard" / "a.jsonl", [record(0.5)])
    write_text(folder / "train_adapter" / "lora.jsonl", '{"s": 1')
    return folder


def test_rules_are_summed_and_the_longest_comes_first(benchmarks: Path) -> None:
    found = costs(benchmarks, [], [], None)
    assert [(r["rule"], r["jobs"], r["seconds"], r["cpu"], r["memory"]) for r in found["rules"]] == [
        ("scan_shard", 2, 3660.0, 930.0, 120.0),
        ("merge_index", 1, 2.0, 1.5, 90.0),
        ("fetch_shard", 1, 0.5, None, None),
    ]
    assert (found["seconds"], found["unread"], found["money"]) == (3662.5, 1, None)
    assert "scan_shard: 1 h 1 min; merge_index: 2.0 s" in found["chart"]


def test_money_is_hours_times_the_price(benchmarks: Path) -> None:
    found = costs(benchmarks, [], [], 2.0)
    assert found["rules"][0]["money"] == pytest.approx(3660 / 3600 * 2)
    assert found["money"] == pytest.approx(3662.5 / 3600 * 2)


def test_nothing_measured_is_no_error(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "absent"):
        found = costs(folder, [tmp_path / "untrained"], [], 1.0)
        assert (found["rules"], found["chart"], found["trainings"], found["money"]) == ([], None, [], 0)


def test_speeds(tmp_path: Path) -> None:
    write_json(tmp_path / "train/lora/summary.json", {"runtime": 50.0, "epochs": 2.0})
    write_json(tmp_path / "train/lora/preflight.json", {"tokens": {"train": {"all": {"count": 100, "mean": 30.0}}}})
    write_json(tmp_path / "train/bare/summary.json", {"runtime": 50.0, "epochs": 2.0})
    rows = [{"seconds": 0.5, "tokens": 20}, {"seconds": 1.5, "tokens": 40}]
    write_jsonl(tmp_path / "predict/lora/test.jsonl", rows)
    write_jsonl(tmp_path / "predict/none/test.jsonl", [{}])
    trainings, predictions = ([tmp_path / name for name in names] for names in (
        ["train/lora", "train/bare"], ["predict/lora/test.jsonl", "predict/none/test.jsonl"]
    ))  # fmt: skip
    found = costs(None, trainings, predictions, None)
    lora, bare = found["trainings"]
    assert (lora["samples"], lora["tokens"]) == (4.0, 120.0)  # 100 samples twice in 50 s, of 30 tokens
    assert (bare["seconds"], bare["samples"], bare["tokens"]) == (50.0, None, None)
    said, silent = found["predictions"]
    assert (said["samples"], said["per_sample"], said["tokens"]) == (2, 1.0, 30.0)
    assert (silent["samples"], silent["per_sample"], silent["tokens"]) == (1, None, None)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0.0 s"), (9.9, "9.9 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (185, "3 min 5 s"), (7620, "2 h 7 min")],
)
def test_durations_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
