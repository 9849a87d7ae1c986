"""The shuffled floor: always another group of the same tag, the same for the same seed."""

import random
from collections import Counter

from radtune.evaluate.baselines import shuffled


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
