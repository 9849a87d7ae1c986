"""The region's rectangle that is burned into the pixels: find it, and say how sure that is: `find_box(pixels)`.

In the brain-CT set a green rectangle, about (20, 240, 20) after JPEG with lines 3 px wide, marks the region; greyscale
conversion turns it into a frame that stays visible. Pixels are uint8, height x width x 3, RGB; boxes are x1, y1, x2,
y2: inclusive outer edges in original pixels. Taking it out is inpaint.py's. Cost against decoding: `python
bench/overlay.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from radtune.images.read import Pixels

Box = tuple[int, int, int, int]

# G - max(R, B): the line has about 220 as drawn, 38 when 1 px wide and halved by 4:2:0 and quality 50; greys have 0.
MIN_PEAK = 30
MIN_SIDE = 7  # px, so that a line or a speck is no rectangle
SMALL = 16  # px: up to it lines that touch leave no hole to be seen
MIN_CONFIDENCE = 0.6
PLAIN = 8  # px: how wide the band of a plain rectangle's lines is at most; in a small one a quarter of its side
CORNERS = 2  # px of a plain line that JPEG may take from its ends
SURE = 0.9  # no other candidate is looked for
CANDIDATES = 8  # edges a side, where the plain search fails


class Found(NamedTuple):
    """A rectangle and how sure it is."""

    box: Box  # x1, y1, x2, y2: inclusive outer edges, original pixels, clipped to the picture
    confidence: float  # 0..1


class Side(NamedTuple):
    share: float  # of its length that is green; at most twice that of its middle half, which letters leave open
    width: int  # px, of the line
    length: int  # px
    outside: bool  # it lies on the picture's border and is not green: the rectangle leaves the picture


def find_box(pixels: Pixels) -> Found | None:
    """The rectangle of `pixels`, or None below MIN_CONFIDENCE.

    Confidence is the share of the outline that is green (a side out of the picture counts as half seen), times the
    share of its corners that are, times 1/2 (nearly all green of the picture lies elsewhere) to 1 (none does), times
    the share of the inside that is not green (0.8 where the lines leave no hole to be seen). A side seen by less than
    half makes it no rectangle. Of two rectangles the one with more green wins, and is less sure. Green is G - max(R, B)
    above half of its peak, so that an edge softened by JPEG or rescaling lies where it was.

    Limits: lines of 1 or 2 px at quality 50 with 4:2:0 may be off by 2 px, in pictures of 32 px by more; a letter O or
    D of up to 30 px is taken for a rectangle.
    """
    excess = excess_of(pixels)
    peak = int(cv2.minMaxLoc(excess)[1])
    if peak < MIN_PEAK:
        return None
    found = _search(excess, peak // 2)
    if found.confidence < SURE:  # a line that is faint beside other green, or faint in part
        faint = _search(excess, peak // 4)
        if faint.confidence > found.confidence:
            found = faint._replace(box=_snap(excess, faint.box))
    return found if found.confidence >= MIN_CONFIDENCE else None


def excess_of(pixels: Pixels) -> Pixels:
    """How far green stands above red and blue, 0..255."""
    planes = [np.empty(pixels.shape[:2], np.uint8) for _ in range(3)]  # OpenCV's own are copied: four times as long
    red, green, blue = cv2.split(pixels, planes)
    return np.asarray(cv2.subtract(green, cv2.max(red, blue)))


def _search(excess: Pixels, level: int) -> Found:
    """The best rectangle of pixels above `level`; a plain one is nearly always there and quickly told."""
    mask = cv2.threshold(excess, level, 1, cv2.THRESH_BINARY)[1]
    if box := _plain(mask):
        return Found(box, 1.0)
    rows, columns = (cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    total = int(rows.sum())
    found = _judge(mask, _extent(rows, columns), total)
    if found.confidence >= SURE:
        return found
    others = [_judge(mask, box, total) for box in _components(mask, rows, columns) + _edges(mask, rows, columns)]
    return max([found, *others], key=lambda each: each.confidence)


def _plain(mask: Pixels) -> Box | None:
    """The bounds of all green, where they are four lines, unbroken but for their corners, and a narrow band at them
    holds all of it.
    """
    x, y, width, height = cv2.boundingRect(mask)
    band = min(PLAIN, width // 4, height // 4)
    if band < PLAIN // 2:
        return None
    inside = mask[y : y + height, x : x + width]
    for picture in (inside, inside[::-1], inside.T, inside.T[::-1]):
        length = picture.shape[1]
        if 2 * cv2.countNonZero(picture[:1]) < length or cv2.countNonZero(picture[1:2]) < length - CORNERS:
            return None
    if cv2.countNonZero(inside[band:-band, band:-band]):
        return None
    return x, y, x + width - 1, y + height - 1


def _extent(rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32]) -> Box:
    """First and last column and row with half as much green as the fullest: specks or not."""
    (xs, ys) = (np.flatnonzero(2 * counts >= max(1, counts.max())) for counts in (columns, rows))
    return (int(xs[0]), int(ys[0]), int(xs[-1]), int(ys[-1])) if len(xs) and len(ys) else (0, 0, 0, 0)


def _components(mask: Pixels, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32]) -> list[Box]:
    """Bounds of the largest connected pieces of green: a rectangle apart from other green."""
    x1, x2, y1, y2 = (int(np.flatnonzero(counts)[i]) for counts in (columns, rows) for i in (0, -1))
    stats = cv2.connectedComponentsWithStats(mask[y1 : y2 + 1, x1 : x2 + 1])[2][1:]
    largest = np.argsort(-(stats[:, 2] + stats[:, 3]), kind="stable")[:CANDIDATES]
    return [(x1 + x, y1 + y, x1 + x + w - 1, y1 + y + h - 1) for x, y, w, h in stats[largest, :4].tolist()]


def _edges(mask: Pixels, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32]) -> list[Box]:
    """The boxes with most green on their outline, of those between the steepest edges of the rows' and columns' sums: a
    rectangle that is broken, or crossed by other green. The picture's border stands for a side outside.
    """
    height, width = mask.shape

    def steepest(counts: npt.NDArray[np.int32], last: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        rise, fall = np.diff(counts, prepend=0), -np.diff(counts, append=0)
        return (
            np.append(np.argsort(-rise, kind="stable")[:CANDIDATES], 0),
            np.append(np.argsort(-fall, kind="stable")[:CANDIDATES], last),
        )

    def green(at: npt.NDArray[np.intp], inward: int, turned: Pixels) -> npt.NDArray[np.int64]:
        """Sums from 0 to each place along the lines at rows `at` of `turned`."""
        line = np.maximum(turned[at], turned[np.clip(at + inward, 0, len(turned) - 1)])
        return np.pad(np.cumsum(line, axis=1, dtype=np.int64), ((0, 0), (1, 0)))

    (x1, x2), (y1, y2) = steepest(columns, width - 1), steepest(rows, height - 1)
    w, h = x2[None, :] - x1[:, None] + 1, y2[None, :] - y1[:, None] + 1
    across = [
        sums[:, x2 + 1][:, None, :] - sums[:, x1][:, :, None] for sums in (green(y1, 1, mask), green(y2, -1, mask))
    ]
    down = [
        sums[:, y2 + 1][:, None, :] - sums[:, y1][:, :, None] for sums in (green(x1, 1, mask.T), green(x2, -1, mask.T))
    ]
    # axes: x1, x2, y1, y2
    lines = [
        across[0].transpose(1, 2, 0)[:, :, :, None],
        across[1].transpose(1, 2, 0)[:, :, None, :],
        down[0][:, None, :, :],
        down[1][None, :, :, :],
    ]
    w4, h4 = w[:, :, None, None], h[None, None, :, :]
    lengths = [w4, w4, h4, h4]
    borders = [(y1 == 0)[None, None, :, None], (y2 == height - 1)[None, None, None, :]]
    borders += [(x1 == 0)[:, None, None, None], (x2 == width - 1)[None, :, None, None]]
    ok = (w4 >= MIN_SIDE) & (h4 >= MIN_SIDE)
    for line, length, border in zip(lines, lengths, borders, strict=True):
        ok = ok & ((2 * line >= length) | border)
    total = sum(lines)
    score = np.where(ok, total * (total / np.maximum(1, 2 * (w4 + h4))), 0)
    # the best x1, x2 of each y1, y2, so that the two edges of one long line do not take every place
    pairs = score.reshape(-1, score.shape[2], score.shape[3])
    best, at = pairs.max(axis=0), pairs.argmax(axis=0)
    boxes = []
    for k, m in np.argwhere(best > 0)[np.argsort(-best[best > 0], kind="stable")[: 2 * CANDIDATES]].tolist():
        i, j = divmod(int(at[k, m]), score.shape[1])
        boxes.append((int(x1[i]), int(y1[k]), int(x2[j]), int(y2[m])))
    return boxes


def sides_of(mask: Pixels, box: Box) -> list[Side]:
    """Top, bottom, left and right of `box` in the frame of `mask`."""
    height, width = mask.shape
    x1, y1, x2, y2 = box
    result = []
    for picture, edge, last, start, stop in (
        (mask, y1, y2, x1, x2 + 1),
        (mask[::-1], height - 1 - y2, height - 1 - y1, x1, x2 + 1),
        (mask.T, x1, x2, y1, y2 + 1),
        (mask.T[::-1], width - 1 - x2, width - 1 - x1, y1, y2 + 1),
    ):
        green = picture[max(0, edge - 1) : edge + 3, start:stop].max(axis=0)
        quarter = (stop - start) // 4  # the ends belong to the other sides
        middle = slice(quarter, stop - start - quarter)
        share, seen = float(green.mean()), float(green[middle].mean())
        profile = picture[edge : last + 1, start:stop][:, middle].sum(axis=1)
        light = np.flatnonzero(2 * profile[1:] < max(1, profile[:3].max()))
        line = int(light[0]) + 1 if len(light) else len(profile)
        result.append(Side(min(share, 2 * seen), line, stop - start, edge == 0 and share < 0.5))
    return result


def _snap(excess: Pixels, box: Box) -> Box:
    """Each side moved, by 3 px at most, to where its line rises to half of its own peak along its middle half; a side
    on the picture's border stays.
    """
    height, width = excess.shape
    x1, y1, x2, y2 = box
    result = []
    for picture, edge, start, stop in (
        (excess.T, x1, y1, y2 + 1),
        (excess, y1, x1, x2 + 1),
        (excess.T[::-1], width - 1 - x2, y1, y2 + 1),
        (excess[::-1], height - 1 - y2, x1, x2 + 1),
    ):
        first, quarter = max(0, edge - 3), (stop - start) // 4
        profile = picture[first : edge + 4, start + quarter : stop - quarter].mean(axis=1)
        result.append(first + int(np.flatnonzero(2 * profile >= profile.max())[0]) if edge and profile.max() else edge)
    return result[0], result[1], width - 1 - result[2], height - 1 - result[3]


def _judge(mask: Pixels, box: Box, total: int) -> Found:
    """`box` with its confidence, 0 where it is no rectangle; `total` is all green of `mask`."""
    x1, y1, x2, y2 = box
    nothing = Found(box, 0.0)
    if min(x2 - x1, y2 - y1) + 1 < MIN_SIDE:
        return nothing
    sides = sides_of(mask, box)
    top, bottom, left, right = (side.outside for side in sides)
    least = 0.85 if top or bottom or left or right else 0.5  # what leaves the picture is drawn right up to its border
    if (top and bottom) or (left and right) or any(side.share < least and not side.outside for side in sides):
        return nothing
    widths = [side.width for side in sides if not side.outside]
    line = min(widths)
    if min(x2 - x1, y2 - y1) > SMALL and max(widths) > 2 * line + 2:  # an area's edge, or a letter's
        return nothing
    hollow = (2 - top - bottom) * line < y2 - y1 + 1 and (2 - left - right) * line < x2 - x1 + 1
    if not hollow and max(x2 - x1, y2 - y1) + 1 > SMALL:
        return nothing
    corners = [
        _corner(mask, x, y, dx, dy)
        for y, dy, off in ((y1, -1, top), (y2 - 1, 1, bottom))
        for x, dx, beside in ((x1, -1, left), (x2 - 1, 1, right))
        if not off and not beside
    ]
    green = sum((0.5 if side.outside else side.share) * side.length for side in sides) / sum(s.length for s in sides)
    own, hole = cv2.countNonZero(mask[max(0, y1 - 1) : y2 + 2, max(0, x1 - 1) : x2 + 2]), 0.8  # none to be seen
    inner = line + 2
    if min(x2 - x1, y2 - y1) >= 2 * inner:
        inside = mask[y1 + inner : y2 + 1 - inner, x1 + inner : x2 + 1 - inner]
        filled = cv2.countNonZero(inside)
        own, hole = own - filled, 1 - filled / inside.size
    doubt = sum(corners) / len(corners) * (0.5 + 0.5 * own / total) * hole
    return Found(box, float(green * doubt))


def _corner(mask: Pixels, x: int, y: int, dx: int, dy: int) -> bool:
    """Whether the 2 x 2 px from x, y are green and not both lines go on beyond them, as in a crossing."""
    if cv2.countNonZero(mask[y : y + 2, x : x + 2]) < 2:
        return False
    u, v = x + 5 * dx, y + 5 * dy
    return not (u >= 0 and v >= 0 and mask[y : y + 2, u : u + 2].any() and mask[v : v + 2, x : x + 2].any())
