"""Where an experiment goes wrong: which places it takes for which, and how long its answers are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radtune import places
from radtune.report import figures

NONE = "none"  # no word of place on that axis
_WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3400-\u4dbf\u4e00-\u9fff]+")  # a CJK character counts as a word


def confusions(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(caption, SVG) for each axis: how often the place that a reference states is said to be which place."""
    found = []
    for axis, words in (("horizontal", places.COLUMNS), ("vertical", places.ROWS)):
        pairs: Counter[tuple[str, str]] = Counter()
        for row in rows:
            truth = places.place(row["reference"].lower(), axis)
            if truth:
                pairs[truth, places.place(row["prediction"].lower(), axis) or NONE] += 1
        if pairs:
            said = [*words, *([NONE] if any(answer == NONE for _, answer in pairs) else [])]
            counts = np.array([[pairs[truth, answer] for answer in said] for truth in words])
            found.append((f"Place, {axis}", figures.confusion(f"Place, {axis}", list(words), said, counts)))
    return found


def lengths(rows: Sequence[Mapping[str, Any]]) -> str:
    """Words an answer of each task, of the references and of the predictions."""
    tags = sorted({row["tag"] for row in rows})
    values = {
        f"{tag}, {of}": np.array([len(_WORD.findall(row[of])) for row in rows if row["tag"] == tag])
        for tag in tags
        for of in ("reference", "prediction")
    }
    return figures.spread_chart("Length of answers", values, "words an answer")
