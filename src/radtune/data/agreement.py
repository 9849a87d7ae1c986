"""Does a text say what its pixels show? Its coordinates, place words and percentage against the burned-in rectangle.

The words are the data set's own, so a text that contradicts its rectangle is a wrong label, and counted as one. Limits
are generous: what a writer's rounding, the quantisation or the width of the drawn line can explain is no disagreement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from radtune import places
from radtune.data.boxes import centre_of, percent_of, readings, tolerance, words_of
from radtune.frames import Box, iou

KINDS = ("coordinates", "horizontal", "vertical", "percentage")
MIN_IOU = 0.5  # the usual bound of "the same box"; two boxes that merely lie near each other stay below it
GRID = 0.01  # of the side: how far over a cell's border its word may still be the writer's
LINE = 3  # px, the width of the drawn line: a writer's box may be its outer or its inner edge
SHARE = 0.05  # of the percentage
MAX_CHARS = 4000  # that are searched for words; answers have hundreds
_HALF = re.compile(r"\b(?:left|right|upper|top|lower|bottom)(?:[- ]hand)? (?:side|half)\b")


class Comparison(NamedTuple):
    """One statement of a text beside what the pixels show."""

    kind: str  # one of KINDS
    text_says: Any
    pixels_say: Any
    agrees: bool


def stated(tag: str, parts: dict[str, Any]) -> dict[str, Any]:
    """What the parts of an answer (answers.parse) say of the region, for `compare`; empty where they say nothing.

    `loc` or `values` (coordinates as they came), `horizontal` and `vertical` (words of the 5 x 5 grid), `half` (the
    words name a side of the picture, no cell), `share` (percent of the image, in its digits). A box that was itself
    taken from the pixels is no statement.
    """
    prefix = "bloc_" if tag == "JSON_RECORD" else ""
    found = {key: parts[f"{prefix}{key}"] for key in ("loc", "values") if f"{prefix}{key}" in parts}
    text = _sentences(tag, parts)[:MAX_CHARS].lower()
    if words := places.both(text):
        found |= words
        if (" side" in text or " half" in text) and _HALF.search(text):
            found["half"] = True
    if share := places.area(text):
        found["share"] = share
    return found


def compare(says: dict[str, Any], found: Sequence[int] | None, width: int, height: int) -> list[Comparison]:
    """Each kind that `says`, from `stated`, holds and the rectangle can check, at most one of a kind.

    `found`: inclusive outer edges [x1, y1, x2, y2] in pixels of the width x height original; without it nothing can be
    checked. Coordinates of an unknown frame disagree where no reading of them does otherwise.
    """
    if not says or found is None or not (found[0] < found[2] and found[1] < found[3]):
        return []
    pixels = Box.of(found)
    result = []
    if numbers := says.get("loc") or says.get("values"):
        loc = [Box.from_loc(numbers, width, height)] if "loc" in says else readings(numbers, width, height).values()
        same = any(_same(box, pixels, width, height) for box in loc)
        result.append(Comparison("coordinates", numbers, list(found), same))
    if "horizontal" in says or "vertical" in says:
        centre, words = centre_of(pixels, width, height), words_of(pixels, width, height)
        for i, (axis, grid) in enumerate((("horizontal", places.COLUMNS), ("vertical", places.ROWS))):
            if word := says.get(axis):
                agrees = word == words[i] or _near(word, grid, centre[i], "half" in says)
                result.append(Comparison(axis, word, words[i], agrees))
    if share := says.get("share"):
        percent = round(percent_of(pixels, width, height), 2)
        result.append(Comparison("percentage", float(share), percent, _rounds_to(share, pixels, width, height)))
    return result


def _same(a: Box, b: Box, width: int, height: int) -> bool:
    # a small box's inner and outer edge overlap by less than half, so edges that lie close are enough
    limits = (tolerance(width), tolerance(height)) * 2
    close = all(abs(p - q) <= limit for p, q, limit in zip(a.edges, b.edges, limits, strict=True))
    return close or iou(a, b) >= MIN_IOU


def _sentences(tag: str, parts: dict[str, Any]) -> str:
    """The text that tells of the region."""
    if tag == "JSON_RECORD":
        return f"{parts['region of interest']}. {parts['bloc'] if parts['bloc_form'] == 'words' else ''}"
    if tag == "REGION_OF_INTEREST":
        return str(parts.get("features") or parts["observation"])
    return str(parts.get("text") or parts.get("label", ""))


def _near(word: str, grid: Sequence[str], centre: float, half: bool) -> bool:
    cell = grid.index(word)
    low, high = cell / 5, (cell + 1) / 5
    if half and cell in (0, 4):  # "on the left side" names a half, no cell
        low, high = (0.0, 0.5) if cell == 0 else (0.5, 1.0)
    return low - GRID <= centre <= high + GRID


def _rounds_to(share: str, pixels: Box, width: int, height: int) -> bool:
    """Whether a share in its stated digits can be that of the box, with its line or without, edges counted or not."""
    x1, y1, x2, y2 = pixels.edges
    outer = 100 * (x2 - x1 + 1) * (y2 - y1 + 1) / (width * height)
    inner = 100 * max(0, x2 - x1 - 2 * LINE) * max(0, y2 - y1 - 2 * LINE) / (width * height)
    half = 0.5 * 10.0 ** -len(share.partition(".")[2]) + 1e-9
    return inner * (1 - SHARE) - half <= float(share) <= outer * (1 + SHARE) + half
