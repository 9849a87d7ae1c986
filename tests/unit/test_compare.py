"""Experiments held against each other through the files that evaluate() writes."""

import json
from pathlib import Path

import pytest

from radtune.evaluate.bootstrap import RESAMPLES
from radtune.evaluate.compare import LEVEL, METRICS, compare, enough
from radtune.evaluate.score import evaluate
from radtune.files import UserError, read_json, write_json, write_jsonl

SIDES = ["left", "right"]


def evaluated(
    folder: Path,
    experiment: str,
    right: float,
    ids: range = range(120),
    reverse: bool = False,
    unseen: float | None = None,
) -> Path:
    """Samples in groups of three, of which the share `right` has its side right, the share `unseen` in other words."""

    def said(share: float, some: range) -> list[dict[str, str]]:
        rows = []
        for n in some:
            side = SIDES[n % 2]
            answer = side if n % 10 < 10 * share else SIDES[1 - n % 2]
            texts = {"prediction": f"An infarct on the {answer} side.", "reference": f"An infarct on the {side} side."}
            rows.append({"id": f"id{n}", "tag": "CAPTION", "group": f"g{n // 3}"} | texts)
        return rows[::-1] if reverse else rows

    predictions = folder / "predict" / experiment / "test.jsonl"
    other = predictions.with_name("test.reworded.jsonl") if unseen is not None else None
    write_jsonl(predictions, said(right, ids))
    if other:
        write_jsonl(other, said(unseen, ids[: len(ids) // 2]))
    out = folder / "evaluate" / experiment
    evaluate(predictions, out / "test.json", out / "test.samples.parquet", unseen=other)
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
    assert not {"iou", "record_valid", "semantic"} & {metric for *_, metric in found}  # nothing of the kind is there
    assert found["best", "base", "findings_missed"]["better"] is None


def test_only_what_both_answered_counts(tmp_path: Path) -> None:
    samples = [evaluated(tmp_path, "a", 0.5, range(60)), evaluated(tmp_path, "b", 0.9, range(30, 90))]
    compare(samples, tmp_path / "out.json")
    assert {d["n"] for d in read_json(tmp_path / "out.json")["differences"]} == {30}
    with pytest.raises(UserError, match="c and a answered no sample of test in common"):
        compare([samples[0], evaluated(tmp_path, "c", 0.5, range(60, 90))], tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


def test_what_other_words_cost_is_compared_on_the_samples_asked_in_both(tmp_path: Path) -> None:
    """Of 60 samples one has lost 50 points of its sides, which are all of their slots, in other words; the other 10."""
    given = {"lora": (0.9, 0.4), "worded": (0.8, 0.7), "silent": (0.8, None)}
    samples = [
        evaluated(tmp_path, name, right, reverse=name == "lora", unseen=unseen)
        for name, (right, unseen) in given.items()
    ]
    compare(samples, tmp_path / "out.json")
    found = {(d["of"], d["minus"], d["metric"]): d for d in read_json(tmp_path / "out.json")["differences"]}
    change = found["worded", "lora", "reworded_change_slots"]
    assert change["value"] == pytest.approx(40)
    assert change["scores"] == pytest.approx([-10, -50])
    assert 20 < change["interval"][0] < change["interval"][1] < 60
    assert (change["n"], change["groups"], change["better"]) == (60, 20, "worded")
    assert found["worded", "lora", "slots"]["n"] == 120
    assert {pair[:2] for pair in found if pair[2].startswith("reworded")} == {("worded", "lora")}


def test_validity_and_meaning_are_compared_where_there_are_records_and_words(tmp_path: Path) -> None:
    records, samples = [{"caption": f"An infarct {n}."} for n in range(20)], []
    turns = [{"role": "user", "content": "?"}]
    said = [{"tag": "JSON_RECORD", "images": [], "messages": [*turns, {"content": json.dumps(r)}]} for r in records]
    write_json(tmp_path / "train.json", said)
    for name, end in (("lora", ""), ("valid", "}")):
        rows = [
            {"id": str(n), "tag": "JSON_RECORD", "group": str(n), "reference": json.dumps(record)}
            | {"prediction": json.dumps(record)[:-1] + end}
            for n, record in enumerate(records)
        ]
        write_jsonl(tmp_path / name / "test.jsonl", rows)
        samples.append(tmp_path / "evaluate" / name / "test.samples.parquet")
        made = (tmp_path / name / "test.jsonl", tmp_path / f"{name}.json", samples[-1])
        evaluate(*made, train=tmp_path / "train.json")
    compare(samples, tmp_path / "out.json")
    found = {d["metric"]: d for d in read_json(tmp_path / "out.json")["differences"]}
    assert (found["record_valid"]["value"], found["record_valid"]["better"]) == (100, "valid")
    assert found["semantic"]["n"] == 20


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
