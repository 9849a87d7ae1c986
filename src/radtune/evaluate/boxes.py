"""Boxes as a model writes them: parsed strictly, and compared by intersection over union.

Coordinates are 0..1000 of the picture, as Qwen3-VL writes them; nothing is guessed for an answer in any other form.
"""

from __future__ import annotations

import json
import re

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in 0..1000, x1 < x2, y1 < y2

SIGNATURES = {
    "iou": "mean intersection over union x 100; an answer without a readable box counts 0",
    "acc_50": "share of samples in percent with an intersection over union of at least 0.5",
    "box_unparsed": "share of answers in percent from which no box could be read (lower is better)",
}

_FLORENCE = re.compile(r"[^<>]*" + r"<loc_(\d{1,3})>" * 4)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


def parse(text: str) -> Box | None:
    """The first box of an answer in one of three forms, else None.

    `[{"bbox_2d": [x1, y1, x2, y2], ...}]`, one such object, or Florence-2's `label<loc_x1><loc_y1><loc_x2><loc_y2>`.
    A Markdown fence around the JSON is taken off, as an untuned model likes to write one. A Florence-2 token stands for
    the middle of its bin, `q + 0.5` thousandths. A box with no area or outside the picture is no box.
    """
    text = text.strip()
    if match := _FLORENCE.match(text):
        values: object = [int(q) + 0.5 for q in match.groups()]
    else:
        if fenced := _FENCE.fullmatch(text):
            text = fenced[1]
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        first = value[0] if isinstance(value, list) and value else value
        values = first.get("bbox_2d") if isinstance(first, dict) else None
    if not isinstance(values, list) or len(values) != 4 or not all(type(v) in (int, float) for v in values):
        return None
    x1, y1, x2, y2 = values
    return (x1, y1, x2, y2) if 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000 else None


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def scores(prediction: str, reference: str) -> dict[str, float]:
    """Box metrics, 0 to 100, of one pair; nothing where the reference holds no box."""
    truth, answer = parse(reference), parse(prediction)
    if truth is None:
        return {}
    overlap = iou(answer, truth) if answer else 0.0
    return {"iou": 100 * overlap, "acc_50": 100.0 * (overlap >= 0.5), "box_unparsed": 100.0 * (answer is None)}
