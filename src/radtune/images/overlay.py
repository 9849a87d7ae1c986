"""The region's box that is burned into the pixels: find it, and take it out.

In the brain-CT set a green rectangle, about (20, 240, 20) after JPEG with lines 3 px wide, marks the region.
`G - max(R, B) > 90` finds its pixels; greyscale conversion turns it into a frame that stays visible.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from radtune.images.read import Pixels

MIN_GREEN = 90  # how far G stands above R and B on the line
LINE = 3  # px, the width of the drawn line
BLEED = 2  # px, how far JPEG smears it in brightness


class Found(NamedTuple):
    box: tuple[int, int, int, int]
    confidence: float


def _mask(pixels: Pixels, threshold: int) -> Pixels:
    red, green, blue = (pixels[..., i].astype(np.int16) for i in range(3))
    return (green - np.maximum(red, blue) > threshold).astype(np.uint8)


def find_box(pixels: Pixels) -> Found | None:
    """[x1, y1, x2, y2], inclusive outer edges of the rectangle in pixels of `pixels` (height x width x 3), or None.

    A box is accepted where at least half of its outline is green.
    """
    mask = _mask(pixels, MIN_GREEN)
    # a row or column that the horizontal or vertical line fills stands out from stray green pixels
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    ys, xs = np.flatnonzero(rows > 2), np.flatnonzero(columns > 2)
    if len(ys) < 2 or len(xs) < 2:
        return None
    x1, y1, x2, y2 = int(xs[0]), int(ys[0]), int(xs[-1]), int(ys[-1])
    outline = [
        mask[y1 + 1, x1 : x2 + 1],
        mask[y2 - 1, x1 : x2 + 1],
        mask[y1 : y2 + 1, x1 + 1],
        mask[y1 : y2 + 1, x2 - 1],
    ]
    share = float(np.concatenate(outline).mean())
    return Found((x1, y1, x2, y2), share) if share >= 0.5 else None


def inpaint(pixels: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """The picture without the rectangle: its lines, and the ringing that JPEG left beside them, filled from around."""
    x1, y1, x2, y2 = box
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[max(0, y1 - BLEED) : y2 + BLEED + 1, max(0, x1 - BLEED) : x2 + BLEED + 1] = 1
    inner = LINE + BLEED
    mask[y1 + inner : max(y1 + inner, y2 - inner + 1), x1 + inner : max(x1 + inner, x2 - inner + 1)] = 0
    return np.asarray(cv2.inpaint(pixels, mask, LINE, cv2.INPAINT_TELEA), np.uint8)
