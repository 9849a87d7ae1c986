"""The floors: shuffled, always another group of the same tag; the most common answer; the nearest image's."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

from radtune.evaluate.baselines import FLOORS, common, floors, nearest, shuffled
from radtune.evaluate.score import evaluate
from radtune.files import read_json, write_jsonl


def make(sizes: dict[str, dict[str, int]]) -> list[dict[str, str]]:
    samples = [
        {"id": f"{group}-{i}", "tag": tag, "group": group, "reference": f"{tag}|{group}|{i}"}
        for tag, groups in sizes.items()
        for group, size in groups.items()
        for i in range(size)
    ]
    random.Random(1).shuffle(samples)
    return samples


def test_every_reference_goes_once_to_another_group_of_its_tag() -> None:
    samples = make({"A": {"g1": 5, "g2": 3, "g3": 2}, "B": {"g1": 2, "g2": 2, "g4": 1, "g5": 7, "g6": 3}})
    for seed in range(20):
        predictions = shuffled(samples, seed)
        assert Counter(predictions) == Counter(s["reference"] for s in samples)
        for sample, prediction in zip(samples, predictions, strict=True):
            assert prediction is not None
            tag, group, _ = prediction.split("|")
            assert tag == sample["tag"]
            assert group != sample["group"]


def test_a_group_larger_than_half_its_tag_draws_on_the_others_in_turn() -> None:
    samples = make({"A": {"big": 7, "small": 2}})
    predictions = shuffled(samples, 0)
    assert all(p and p.split("|")[1] != s["group"] for p, s in zip(predictions, samples, strict=True))
    given_to_big = Counter(p for p, s in zip(predictions, samples, strict=True) if s["group"] == "big")
    assert set(given_to_big.values()) == {3, 4}


def test_a_tag_with_one_group_has_no_floor() -> None:
    samples = make({"A": {"g1": 3}, "B": {"g1": 1, "g2": 1}})
    predictions = shuffled(samples, 0)
    assert {s["tag"]: p for s, p in zip(samples, predictions, strict=True)}["A"] is None
    assert {s["reference"]: p for s, p in zip(samples, predictions, strict=True)}["B|g1|0"] == "B|g2|0"


def test_deterministic_whatever_the_order_and_different_by_seed() -> None:
    samples = make({"A": {f"g{i}": 3 for i in range(8)}})

    def by_id(order: list[dict[str, str]], seed: int) -> dict[str, str | None]:
        return {s["id"]: p for s, p in zip(order, shuffled(order, seed), strict=True)}

    assert by_id(samples, 0) == by_id(samples[::-1], 0)
    assert by_id(samples, 0) != by_id(samples, 1)


def test_no_samples() -> None:
    assert shuffled([], 0) == []


def record(tag: str, answer: str, image: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": answer}]
    return {"tag": tag, "messages": turns, "images": [image]}


TRAIN = [record(*row) for row in (("A", "x", "1"), ("A", "y", "2"), ("A", "y", "3"), ("B", "z", "3"), ("B", "w", "1"))]


def test_the_most_common_answer_of_each_task() -> None:
    samples = [{"tag": tag} for tag in "ABC"]
    assert common(samples, TRAIN) == ["y", "w", None]  # of two as common the first


def test_the_nearest_images_answer_to_the_same_task() -> None:
    asked = (("A", "p"), ("B", "p"), ("B", "q"), ("C", "p"), ("A", "r"))
    samples = [{"tag": tag, "image": image} for tag, image in asked]
    assert nearest(samples, TRAIN, {"p": ["2", "3"], "q": ["2"]}) == ["y", "z", None, None, None]


def test_the_first_case_in_the_question_is_a_floor(tmp_path: Path) -> None:
    rows = [{"id": str(n), "tag": "A", "group": str(n), "reference": "r", "image": "p"} for n in range(3)]
    assert "copied" not in floors(rows, TRAIN, None, None)
    rows[0] |= {"cases": [{"answer": "first"}, {"answer": "second"}]}
    rows[1] |= {"cases": []}
    assert floors(rows, TRAIN, None, None)["copied"] == ["first", None, None]
    lines = [row | {"prediction": "p"} for row in rows]
    write_jsonl(tmp_path / "test.jsonl", lines)
    evaluate(tmp_path / "test.jsonl", tmp_path / "test.json", tmp_path / "test.parquet")
    found = read_json(tmp_path / "test.json")
    assert found["signatures"]["floors"]["copied"] == FLOORS["copied"]
    assert found["overall"]["metrics"]["rouge_l"]["floors"]["copied"]["n"] == 1
