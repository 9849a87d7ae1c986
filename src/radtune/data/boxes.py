"""Boxes read from text, settled by what the pixels show, put in words, written for the model.

Edges are x1, y1, x2, y2. A box found in the pixels has inclusive outer edges in original pixels. Florence-2 quantises
on the original size: q = clamp(floor(v * 1000 / size), 0, 999), and back v = (q + 0.5) * size / 1000. Qwen3-VL grounds
in 0..1000 of the image as given, that is of the letterboxed one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from radtune.frames import Box, Frame, Letterbox, whole
from radtune.places import COLUMNS, ROWS

_RUN = re.compile(r"[\s,]*".join([r"<loc_([0-9]{1,4})>"] * 4))
_NUMBER = r"\s*(-?[0-9]{1,6}(?:\.[0-9]{1,9})?)\s*"
_FOUR = re.compile(r"[\[(]" + ",".join([_NUMBER] * 4) + r"[\])]")
_KEYS = (  # of a mapping that holds the four numbers one by one
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
)


def from_florence(text: str) -> tuple[str, list[list[int]]]:
    """Label and every [x1, y1, x2, y2] of `label<loc_..><loc_..><loc_..><loc_..>`; none where a token is left over."""
    rest = _RUN.sub(" ", text)
    label = " ".join(rest.split())
    return label, [] if "<loc" in rest else [[int(v) for v in run] for run in _RUN.findall(text)]


def from_lists(text: str) -> tuple[str, list[list[float]]]:
    """Label and every `[a, b, c, d]` or `(a, b, c, d)` in a text; their frame and order are unknown (see settle)."""
    found = _FOUR.findall(text)
    return (" ".join(_FOUR.sub(" ", text).split()) if found else text), [[float(v) for v in four] for four in found]


def from_value(value: Any) -> list[list[float]]:
    """Every four numbers of a parsed list or mapping: [a, b, c, d], {"bbox_2d": [...]}, {"x1": a, ...}, or a list of
    such; none where a part is anything else. Their frame and order are unknown (see settle).
    """
    if isinstance(value, dict):
        nested = next((value[key] for key in ("bbox_2d", "bbox", "box") if key in value), None)
        if nested is None:
            nested = next(([value[k] for k in keys] for keys in _KEYS if all(k in value for k in keys)), None)
        return from_value(nested)
    if not isinstance(value, list):
        return []
    if len(value) == 4 and all(type(v) in (int, float) for v in value):
        return [[float(v) for v in value]]
    parts = [from_value(part) for part in value]
    return [four for part in parts for four in part] if all(parts) else []


def readings(values: Sequence[float], width: int, height: int) -> dict[str, Box]:
    """What four numbers of unknown frame and order can mean, in original pixels; impossible ones are left out."""
    a, b, c, d = values
    sides = (width, height) * 2
    possible = {
        "pixels xyxy": [a, b, c, d],
        "pixels xywh": [a, b, a + c, b + d],
        "0-1000 xyxy": [v * side / 1000 for v, side in zip(values, sides, strict=True)],
        "0-999 xyxy": [(v + 0.5) * side / 1000 for v, side in zip(values, sides, strict=True)],
    }
    return {name: Box.of(edges) for name, edges in possible.items() if edges[0] < edges[2] and edges[1] < edges[3]}


def tolerance(side: int) -> float:
    """How far (px) two edges of one box lie apart along `side`: the line's 3 px and a quantisation step, or 1 %."""
    return max(3 + side / 1000, side / 100)


def settle(values: Sequence[float], found: Sequence[int], width: int, height: int) -> tuple[str, Box] | None:
    """The one reading of four numbers that agrees with the rectangle found in the pixels: its name and the box.

    None where no reading has each edge within `tolerance`, or where two that do are different boxes: more than a pixel
    and a thousandth of the side apart, which is the step between 0-999 and 0-1000.
    """
    sides = (width, height) * 2

    def near(edges: Sequence[float], others: Sequence[float], limits: Sequence[float]) -> bool:
        return all(abs(a - b) <= limit for a, b, limit in zip(edges, others, limits, strict=True))

    limits, steps = [tolerance(side) for side in sides], [max(1.0, side / 1000) for side in sides]
    agreeing = [(n, box) for n, box in readings(values, width, height).items() if near(box.edges, found, limits)]
    if not agreeing or not all(near(agreeing[0][1].edges, box.edges, steps) for _, box in agreeing):
        return None
    return min(agreeing, key=lambda one: sum(abs(a - b) for a, b in zip(one[1].edges, found, strict=True)))


def centre_of(box: Box, width: int, height: int) -> tuple[float, float]:
    """Where the middle of a box in original pixels lies across and down the picture, 0 to 1."""
    x1, y1, x2, y2 = box.edges_in(Frame.ORIGINAL)
    return (x1 + x2) / (2 * width), (y1 + y2) / (2 * height)


def words_of(box: Box, width: int, height: int) -> tuple[str, str]:
    """The words of the 5 x 5 grid for a box in original pixels, by its centre: one of COLUMNS and one of ROWS."""
    across, down = centre_of(box, width, height)
    return COLUMNS[min(4, max(0, int(across * 5)))], ROWS[min(4, max(0, int(down * 5)))]


def percent_of(box: Box, width: int, height: int) -> float:
    """The share in percent of a width x height picture that a box in original pixels takes up."""
    x1, y1, x2, y2 = box.edges_in(Frame.ORIGINAL)
    return 100 * (x2 - x1) * (y2 - y1) / (width * height)


def grounding(box: Box, label: str, form: str, place: Letterbox) -> dict[str, Any] | str:
    """A box in original pixels, clamped to the picture, in the form that the config asks for.

    qwen3vl: {"bbox_2d": [...], "label": ...}, 0..1000 of the letterboxed image. florence: loc tokens of the letterboxed
    image. source: loc tokens of the original image, as the data set has them.
    """
    box = box.clamped(place.width, place.height)
    if form != "source":
        box = box.scaled(place)
    if form in ("source", "florence"):
        return label + "".join(f"<loc_{q}>" for q in box.to_loc(place))
    steps = whole([round(v) for v in box.to_thousandths(place).edges], 1000)
    return {"bbox_2d": steps} | ({"label": label} if label else {})


def format_box(box: Box, label: str, form: str, place: Letterbox) -> str:
    """The answer to a grounding prompt: `grounding` as text, JSON for qwen3vl."""
    answer = grounding(box, label, form, place)
    return answer if isinstance(answer, str) else json.dumps([answer], ensure_ascii=False)
