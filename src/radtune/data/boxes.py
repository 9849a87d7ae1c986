"""Boxes and the frames they live in: original pixels, letterboxed pixels, and 0..1000 of a picture.

A Box is [x1, y1, x2, y2] in ORIGINAL pixels unless a name says otherwise. Florence-2 quantises on the original size:
q = clamp(floor(v * 1000 / size), 0, 999), and back v = (q + 0.5) * size / 1000. Qwen3-VL grounds in 0..1000 of the
image as given, that is of the letterboxed one.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_LOC = re.compile(r"<loc_(\d+)>")


class Letterbox(NamedTuple):
    """A width x height image scaled to fit a size x size canvas, centred: x' = x * new_width / width + left."""

    width: int
    height: int
    size: int
    new_width: int
    new_height: int
    left: int
    top: int


class Box(NamedTuple):
    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def from_loc(cls, loc: list[int], width: int, height: int) -> Box:
        """From Florence-2's 0..999 of a width x height image, to the middle of each quantisation step, in pixels."""
        return cls(*((q + 0.5) * size / 1000 for q, size in zip(loc, (width, height, width, height), strict=True)))

    def to_loc(self, width: int, height: int) -> list[int]:
        sizes = (width, height, width, height)
        return [min(999, max(0, int(v * 1000 // size))) for v, size in zip(self, sizes, strict=True)]

    def scaled(self, box: Letterbox) -> Box:
        """From original to letterboxed pixels."""
        sx, sy = box.new_width / box.width, box.new_height / box.height
        return Box(self.x1 * sx + box.left, self.y1 * sy + box.top, self.x2 * sx + box.left, self.y2 * sy + box.top)

    def unscaled(self, box: Letterbox) -> Box:
        """From letterboxed back to original pixels."""
        sx, sy = box.width / box.new_width, box.height / box.new_height
        return Box(
            (self.x1 - box.left) * sx, (self.y1 - box.top) * sy, (self.x2 - box.left) * sx, (self.y2 - box.top) * sy
        )


def from_florence(text: str) -> tuple[str, list[int] | None]:
    """Label and [x1, y1, x2, y2] of `label<loc_..><loc_..><loc_..><loc_..>`; None where there are not exactly four."""
    values = [int(v) for v in _LOC.findall(text)]
    return _LOC.sub("", text).strip(), values if len(values) == 4 else None


def format_box(box: Box, label: str, form: str, letterbox: Letterbox) -> str:
    """The answer to a grounding prompt.

    qwen3vl: [{"bbox_2d": [...], "label": ...}], 0..1000 of the letterboxed image. florence: loc tokens of the
    letterboxed image. source: loc tokens of the original image, as the data set has them.
    """
    if form == "source":
        return label + "".join(f"<loc_{q}>" for q in box.to_loc(letterbox.width, letterbox.height))
    moved = box.scaled(letterbox)
    if form == "florence":
        return label + "".join(f"<loc_{q}>" for q in moved.to_loc(letterbox.size, letterbox.size))
    return json.dumps(
        [{"bbox_2d": [round(v * 1000 / letterbox.size) for v in moved], "label": label}], ensure_ascii=False
    )
