"""Floors: answers that never looked at the image. A score means something only by its distance from them.

A floor maps samples to one prediction a sample, None where it has none to give.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radtune.files import UserError

SEED = 0
_REQUIRED = ("id", "tag", "group", "prediction", "reference")

FLOORS = {
    "shuffled": "references of the same task from another group",
    "common": "the most common answer to the task in train",
    "blank": "the tuned model's own answers to a black picture, for some of the samples",
    "nearest": "the nearest training image's answer to the task (thumbnails of 32x32 px, correlation)",
    "copied": "the answer of the first of the similar cases that stand in the question",
}


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of predictions; UserError, naming file and line, where there is none or one lacks a key."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}); predict this split again") from None
        wrong = [key for key in _REQUIRED if not isinstance(row, dict) or not isinstance(row.get(key), str)]
        if wrong:
            raise UserError(f"{path}, line {number}: needs text under {', '.join(wrong)}; predict this split again")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} holds no prediction; check that this split has samples, then predict it again")
    return rows


def floors(
    rows: list[dict[str, Any]], train: list[dict[str, Any]], neighbours: Path | None, blank: Path | None
) -> dict[str, list[str | None]]:
    """{floor: an answer a row}, of FLOORS those that can be made from the rows, train's ShareGPT records and the two
    files.
    """
    found = {"shuffled": shuffled(rows, SEED)}
    if train:
        found["common"] = common(rows, train)
    if train and neighbours:
        import pyarrow.parquet as pq

        table = pq.read_table(neighbours, columns=["image", "neighbours"]).to_pydict()
        found["nearest"] = nearest(rows, train, dict(zip(table["image"], table["neighbours"], strict=True)))
    if any(row.get("cases") for row in rows):
        found["copied"] = [cases[0]["answer"] if (cases := row.get("cases")) else None for row in rows]
    if blank:
        found["blank"] = others(blank, rows)
    return found


def others(path: Path, rows: list[dict[str, Any]]) -> list[str | None]:
    """Other answers to `rows`, of a file of predictions; None to those that it lacks."""
    said = {(row["id"], row["tag"]): row["prediction"] for row in read_predictions(path)}
    return [said.get((row["id"], row["tag"])) for row in rows]


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
