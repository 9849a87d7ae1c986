"""Boxes as a model writes them: parsed strictly, mapped back to the original image, and compared there.

An answer's coordinates are 0..1000 of the letterboxed picture that the model saw, as Qwen3-VL writes them; nothing is
guessed for an answer in any other form.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress

from radtune.frames import Box, Frame, Letterbox, iou

# Below so many percent of the picture, to either side of the 1.3 % that the data set's texts give as an example; they
# are squares of 51 and 89 px in one of 512 x 512.
SIZES = {"small": 1.0, "medium": 3.0, "large": math.inf}

_FLORENCE = re.compile(r"[^<>]*" + r"<loc_(\d{1,3})>" * 4)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


def signatures(original: bool) -> dict[str, str]:
    """What each box metric is; `original`: whether boxes were mapped back to the original image."""
    frame = "pixels of the original image, clipped to it" if original else "0..1000 of the picture that the model saw"
    metrics = {
        "iou": "mean intersection over union x 100; an answer without a readable box counts 0",
        "acc_50": "share of samples in percent with an intersection over union of at least 0.5",
        "centre_error": "mean distance of the boxes' centres in percent of the picture's diagonal, over answers with a "
        "box (lower is better)",
    }
    of = {
        "small": "below 1 % of the picture's area",
        "medium": "from 1 % to below 3 %",
        "large": "3 % and more",
    }
    return {
        **{name: f"{what}; boxes in {frame}" for name, what in metrics.items()},
        "centre_error_px": f"the same in {'pixels of the original image' if original else '0..1000 of the picture'} "
        "(lower is better)",
        **{f"{name}_{size}": f"{name} where the reference's box is {of[size]}" for name in metrics for size in SIZES},
        "box_unparsed": "share of answers in percent from which no box could be read (lower is better)",
    }


def parse(text: str) -> Box | None:
    """The first box of an answer in one of three forms, in thousandths, else None.

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
    return Box(x1, y1, x2, y2, Frame.THOUSANDTHS) if 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000 else None


def read(text: str, place: Letterbox | None = None, form: str = "qwen3vl") -> Box | None:
    """parse()'s box in pixels of the original image and clipped to it; in thousandths where `place` is not known.

    `form` is the config's answers.box: Florence-2's tokens are of the original with `source`, all else of the picture.
    A box that lies wholly in the padding stays there, where it meets no other.
    """
    box = parse(text)
    if box is None or place is None:
        return box
    if form == "source" and _FLORENCE.match(text.strip()):
        sides = (place.width, place.height) * 2
        return Box.of(v * side / 1000 for v, side in zip(box.edges, sides, strict=True))
    box = box.from_thousandths(place).unscaled(place)
    with suppress(ValueError):
        return box.clamped(place.width, place.height)
    return box


def scores(prediction: str, reference: str, place: Letterbox | None = None, form: str = "qwen3vl") -> dict[str, float]:
    """Box metrics of one pair, those alone that apply; nothing where the reference holds no box."""
    answer, truth = read(prediction, place, form), read(reference, place, form)
    if truth is None:
        return {}
    overlap = iou(answer, truth) if answer else 0.0
    found = {"iou": 100 * overlap, "acc_50": 100.0 * (overlap >= 0.5)}
    width, height = (place.width, place.height) if place else (1000, 1000)
    pixels = {}
    if answer:
        apart = math.dist(answer.centre, truth.centre)
        pixels = {"centre_error_px": apart}
        found["centre_error"] = 100 * apart / math.hypot(width, height)
    share = 100 * truth.area / (width * height)
    size = next(name for name, below in SIZES.items() if share < below)
    by_size = {f"{name}_{size}": value for name, value in found.items()}
    return found | pixels | by_size | {"box_unparsed": 100.0 * (answer is None)}
