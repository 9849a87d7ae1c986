"""Experiments held against each other through the files that evaluate() writes."""

from pathlib import Path

import pytest

from radtune.evaluate.bootstrap import RESAMPLES
from radtune.evaluate.compare import LEVEL, METRICS, compare, enough
from radtune.evaluate.score import evaluate
from radtune.files import UserError, read_json, write_jsonl

SIDES = ["left", "right"]


def evaluated(folder: Path, experiment: str, right: float, ids: range = range(120), reverse: bool = False) -> Path:
    """Samples in groups of three, of which the share `right` has its side right."""
    rows = []
    for n in ids:
        side = SIDES[n % 2]
        said = side if n % 10 < 10 * right else SIDES[1 - n % 2]
        texts = {"prediction": f"An infarct on the {said} side.", "reference": f"An infarct on the {side} side."}
        rows.append({"id": f"id{n}", "tag": "CAPTION", "group": f"g{n // 3}"} | texts)
    write_jsonl(folder / "predict" / experiment / "test.jsonl", rows[::-1] if reverse else rows)
    out = folder / "evaluate" / experiment
    evaluate(folder / "predict" / experiment / "test.jsonl", out / "test.json", out / "test.samples.parquet")
    return out / "test.samples.parquet"


def test_a_difference_is_shown_and_none_is_said_to_be_none(tmp_path: Path) -> None:
    samples = [
        evaluated(tmp_path, name, right, reverse=name == "best")
        for name, right in (("base", 0.5), ("same", 0.5), ("best", 0.9))
    ]
    compare(samples, tmp_path / "out.json")
    found = {(d["of"], d["minus"], d["metric"]): d for d in read_json(tmp_path / "out.json")["differences"]}
    assert {pair[:2] for pair in found} == {("same", "base"), ("best", "base"), ("best", "same")}
    side = found["best", "base", "laterality"]
    assert side["value"] == pytest.approx(40)
    assert side["interval"][0] > 20
    assert (side["better"], side["n"], side["groups"]) == ("best", 120, 40)
    assert side["p"] < 0.05
    none = found["same", "base", "laterality"]
    assert (none["value"], none["better"], none["p"]) == (0, None, 1)
    assert "iou" not in {metric for *_, metric in found}
    assert found["best", "base", "findings_missed"]["better"] is None


def test_only_what_both_answered_counts(tmp_path: Path) -> None:
    samples = [evaluated(tmp_path, "a", 0.5, range(60)), evaluated(tmp_path, "b", 0.9, range(30, 90))]
    compare(samples, tmp_path / "out.json")
    assert {d["n"] for d in read_json(tmp_path / "out.json")["differences"]} == {30}
    with pytest.raises(UserError, match="c and a answered no sample of test in common"):
        compare([samples[0], evaluated(tmp_path, "c", 0.5, range(60, 90))], tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


def test_one_experiment_alone_is_compared_with_none(tmp_path: Path) -> None:
    compare([evaluated(tmp_path, "a", 0.5)], tmp_path / "out.json")
    assert read_json(tmp_path / "out.json")["differences"] == []


def test_many_pairs_do_not_hide_a_difference(tmp_path: Path) -> None:
    assert enough(1) == RESAMPLES
    assert len(METRICS) * 36 / enough(36) <= LEVEL / 2  # the smallest p of nine experiments' pairs, after Holm
    compare(
        [evaluated(tmp_path, f"e{n}", right, range(90)) for n, right in enumerate((0.5, 1.0))], tmp_path / "out.json"
    )
    found = read_json(tmp_path / "out.json")
    assert f"{enough(1)} draws" in found["p"]
