"""Where an experiment goes wrong: places taken for others, answers that contradict, and how long its answers are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radtune import places
from radtune.report import figures
from radtune.report.words import Words, join, said, t

GRIDS = {"horizontal": places.COLUMNS, "vertical": places.ROWS}
FAR = 2  # cells between words and box: one may be a border's, or the letterbox of a picture that is not square
NONE = "none"  # no word of place on that axis
_WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3400-\u4dbf\u4e00-\u9fff]+")  # a CJK character counts as a word


def confusions(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Words, str]]:
    """(caption, SVG) for each axis: how often the place that a reference states is said to be which place."""
    found = []
    captions = {"horizontal": t("Place, horizontal"), "vertical": t("Place, vertical")}
    for axis, words in GRIDS.items():
        pairs: Counter[tuple[str, str]] = Counter()
        for row in rows:
            truth = places.place(row["reference"].lower(), axis)
            if truth:
                pairs[truth, places.place(row["prediction"].lower(), axis) or NONE] += 1
        if pairs:
            answers = [*words, *([NONE] if any(answer == NONE for _, answer in pairs) else [])]
            counts = np.array([[pairs[truth, answer] for answer in answers] for truth in words])
            labels = [said(word) for word in words], [said(answer) for answer in answers]
            found.append((captions[axis], figures.confusion(captions[axis], *labels, counts)))
    return found


def contradictions(rows: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> dict[int, list[Words]]:
    """{line: what contradicts} of the answers whose place, side or box is not the reference's or not their own.

    `scores`: per-sample scores, line by line. An answer's words are also held against the box that was predicted for
    the same picture, where that lies FAR cells of the 5 x 5 grid or more away.
    """
    boxes = {row["id"]: box for row, of in zip(rows, scores, strict=True) if (box := of["box_prediction"])}
    found = {}
    for i, (row, of) in enumerate(zip(rows, scores, strict=True)):
        reference, prediction = row["reference"].lower(), row["prediction"].lower()
        doubts = [t("side: wrong or not said")] if of["laterality"] == 0 else []
        if of["box_prediction"] and of["iou"] == 0:
            doubts.append(t("box: does not touch the reference's"))
        for low, (axis, grid) in enumerate(GRIDS.items()):
            if not (answer := places.place(prediction, axis)):
                continue
            if (truth := places.place(reference, axis)) and truth != answer:
                doubts.append(t("words: {answer}, reference: {truth}", answer=said(answer), truth=said(truth)))
            if box := boxes.get(row["id"]):
                seen = min(int((box[low] + box[low + 2]) / 2 * len(grid) / 1000), len(grid) - 1)
                if abs(seen - grid.index(answer)) >= FAR:
                    doubts.append(t("words: {answer}, own box: {seen}", answer=said(answer), seen=said(grid[seen])))
        if doubts:
            found[i] = doubts
    return found


def lengths(rows: Sequence[Mapping[str, Any]]) -> str:
    """Words an answer of each task, of the references and of the predictions."""
    tags = sorted({row["tag"] for row in rows})
    texts = {"reference": t("reference"), "prediction": t("prediction")}
    values: dict[str, Any] = {
        join((tag, name), ", "): np.array([len(_WORD.findall(row[of])) for row in rows if row["tag"] == tag])
        for tag in tags
        for of, name in texts.items()
    }
    return figures.spread_chart(t("Length of answers"), values, t("words an answer"))
