"""Floors: answers that never looked at the image. A score means something only by its distance from them.

A floor maps samples to one prediction a sample, None where it has none to give.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

FLOORS = {
    "shuffled": "references of the same task from another group",
    "common": "the most common answer to the task in train",
    "blank": "the tuned model's own answers to a black picture, for some of the samples",
    "nearest": "the nearest training image's answer to the task (thumbnails of 32x32 px, correlation)",
}


def shuffled(samples: Sequence[Mapping[str, str]], seed: int) -> list[str | None]:
    """Predict for each sample the reference of one with the same tag from another group; None if there is none.

    Samples hold `id`, `tag`, `group` and `reference`. Every reference is used once, unless one group holds more than
    half of a tag: then its samples draw on the others' references in turn. The same seed gives the same answer, in
    whatever order the samples come.
    """
    predictions: list[str | None] = [None] * len(samples)
    by_tag: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, sample in sorted(enumerate(samples), key=lambda item: (item[1]["id"], item[1]["reference"])):
        by_tag[sample["tag"]][sample["group"]].append(i)
    for tag, groups in by_tag.items():
        rng = random.Random(f"{seed}/{tag}")
        order: list[int] = []
        for group in sorted(sorted(groups), key=lambda _: rng.random()):
            order += rng.sample(groups[group], len(groups[group]))
        largest = max(len(members) for members in groups.values())
        for place, i in enumerate(order):
            # A group's members stand side by side, so a step of the largest group's size always leaves the group, as
            # long as the step back around the circle does too.
            partner = order[(place + largest) % len(order)]
            if 2 * largest > len(order):
                others = [j for j in order if samples[j]["group"] != samples[i]["group"]]
                if not others:
                    continue
                partner = others[place % len(others)]
            predictions[i] = samples[partner]["reference"]
    return predictions


def common(samples: Sequence[Mapping[str, str]], train: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Predict for each sample the answer that most of `train`'s ShareGPT records have under its tag; None without any.

    Of several as common, the one that sorts first.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in train:
        counts[record["tag"]][answer(record)] += 1
    most = {tag: min(found, key=lambda text: (-found[text], text)) for tag, found in counts.items()}
    return [most.get(sample["tag"]) for sample in samples]


def nearest(
    samples: Sequence[Mapping[str, str]], train: Sequence[Mapping[str, Any]], neighbours: Mapping[str, Sequence[str]]
) -> list[str | None]:
    """Predict for each sample the answer of the nearest of its image's `neighbours` that has one to its tag."""
    answers: dict[tuple[str, str], str] = {}
    for record in train:
        for image in record["images"]:
            answers.setdefault((image, record["tag"]), answer(record))
    return [
        next((answers[n, s["tag"]] for n in neighbours.get(s["image"], ()) if (n, s["tag"]) in answers), None)
        for s in samples
    ]


def answer(record: Mapping[str, Any]) -> str:
    """What a ShareGPT record's model is to say."""
    said: str = record["messages"][-1]["content"]
    return said
