"""Take the burned-in rectangle out of the pixels before CLAHE would bring it out: `inpaint(pixels, found.box)`.

What the line covered is lost: something likely is put there, not the truth. Pixels are uint8, height x width x 3, RGB;
boxes are as overlay.find_box gives them.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from radtune.images.overlay import MIN_PEAK, Box, excess_of, sides_of
from radtune.images.read import Pixels

Floats = npt.NDArray[np.float32]

# px beside the line that are replaced with it. Measured as |drawn - not drawn| in grey after the same JPEG: 5-7 grey
# levels at 1 px, 2-3 at 2 px (colour that bleeds and is clipped at black or white); from 3 px on no more than the
# JPEG's own error, without bias, up to the end of the 8 px block.
MARGIN = 2
BESIDE = 12  # rows beside the band that are looked at
WANDER = 0.7  # of how far a strip beside the band bends between its ends; two of them, so that variances add up to one
BENT = 12  # grey levels, beyond which a bend is an edge, which would be copied as a ghost
EDGE = 2  # of them, those that the new texture has to go on from
CROSSING = 40  # grey levels between its two sides: an edge crosses the band
SHEARS = np.array([0, 1, 2, 4, 7, 11, 16, -1, -2, -4, -7, -11, -16], np.float32)  # px, from side to side
STRAIGHT = 2.0  # grey levels a px of shear that noise must not buy


def inpaint(pixels: Pixels, box: Box) -> Pixels:
    """A copy without the rectangle `box`, as `find_box` gave it; bit-equal farther than MARGIN px from its lines.

    Each band is interpolated between the clean pixels on both sides, along an edge where one crosses it, and given the
    texture beside it, fitted to the pixels it meets by simple kriging, so that noise goes on with its own strength and
    grain. It is filled with greys, as radiographs are. A person hardly finds it after CLAHE, but for very oblique bone
    and thin bright lines; a detector trained to find it still does better than chance (tests/unit/test_overlay.py).
    """
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = box
    left, top, right, bottom = max(0, x1 - 8), max(0, y1 - 8), min(width, x2 + 9), min(height, y2 + 9)
    excess = excess_of(np.ascontiguousarray(pixels[top:bottom, left:right]))
    level = max(MIN_PEAK, int(cv2.minMaxLoc(excess)[1])) // 2
    mask = cv2.threshold(excess, level, 1, cv2.THRESH_BINARY)[1]
    sides = sides_of(mask, (x1 - left, y1 - top, x2 - left, y2 - top))
    # [outer, inner) of each band, as half-open ranges; a side out of the picture has none
    (a0, a1), (b0, b1), (c0, c1), (d0, d1) = (
        (edge, edge) if side.outside else (edge - MARGIN, edge + side.width + MARGIN)
        for edge, side in zip((y1, height - 1 - y2, x1, width - 1 - x2), sides, strict=True)
    )
    ys = [max(0, a0), a1, height - b1, height - max(0, b0)]
    xs = [max(0, c0), c1, width - d1, width - max(0, d0)]
    if ys[2] - ys[1] < MARGIN or xs[2] - xs[1] < MARGIN:  # nothing clean inside
        uprights, levels = [], [(ys[0], ys[3])]
    else:
        uprights, levels = [(xs[0], xs[1]), (xs[2], xs[3])], [(ys[0], ys[1]), (ys[2], ys[3])]
    # grey is what the JPEG coded beside its colours, so it is clean where the line's green has bled; and near is enough
    near = BESIDE + int(SHEARS.max())
    top, left = max(0, ys[0] - near), max(0, xs[0] - near)
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[top : ys[3] + near, left : xs[3] + near]), cv2.COLOR_RGB2GRAY)
    result = pixels.copy()
    for start, stop in uprights:
        _fill(grey.T, start - left, stop - left, ys[1] - top, ys[2] - top)
        result[ys[1] : ys[2], start:stop] = grey[ys[1] - top : ys[2] - top, start - left : stop - left, None]
    for start, stop in levels:
        _fill(grey, start - top, stop - top, xs[0] - left, xs[3] - left, True)
        result[start:stop, xs[0] : xs[3]] = grey[start - top : stop - top, xs[0] - left : xs[3] - left, None]
    return result


def _fill(grey: Pixels, start: int, stop: int, left: int, right: int, ends: bool = False) -> None:
    """Replace rows start..stop, columns left..right of `grey` (half-open) from the rows on both sides of it. With
    `ends` the columns left and right of it are clean, too, and are met.
    """
    width = grey.shape[1]
    size, length = stop - start, right - left
    if size <= 0 or length <= 0:
        return
    pad = int(SHEARS.max()) if ends else 0
    low, high = max(0, left - pad), min(width, right + pad)
    need = size + 2 * EDGE
    inner = slice(left - low, right - low)
    textures: list[Floats] = []
    near = []  # each side's smooth rows, nearest first, and the texture that they lack, as many rows as are needed
    for strip in (grey[max(0, start - BESIDE) : start][::-1], grey[stop : stop + BESIDE]):
        if len(strip):
            clean = np.ascontiguousarray(strip[:, low:high])
            smooth = cv2.bilateralFilter(clean, 9, 40, 4).astype(np.float32)  # keeps edges
            texture = (clean - smooth)[:, inner]
            textures.append(texture)
            turns = np.arange(need) % max(1, 2 * len(texture) - 2)
            near.append((smooth, texture[np.minimum(turns, 2 * len(texture) - 2 - turns)]))
    if not near:
        return
    (above, grain), (below, grain_below) = near[0], near[-1]
    part: Floats = (np.arange(size, dtype=np.float32) + 1) / np.float32(size + 1)
    from_above, from_below = _along(above, below, part, np.arange(left - low, right - low))
    base = (1 - part[:, None]) * above[0][from_above] + part[:, None] * below[0][from_below]
    # beside a band a strip as wide is no straight line from end to end either: so much must the band's middle wander
    for smooth, _ in near:
        if len(smooth) > size + 1:
            own = smooth[: size + 2, inner]
            bend = own[1:-1] - own[0] - part[:, None] * (own[-1] - own[0])
            base += WANDER * np.clip(bend, -BENT, BENT)
    if ends:
        fade = np.clip(1 - np.arange(1, length + 1, dtype=np.float32) / (size + 1), 0, 1)
        for x, i, weight in ((left - 1, 0, fade), (right, -1, fade[::-1])):
            if 0 <= x < width:
                edge = cv2.blur(np.ascontiguousarray(grey[start:stop, x : x + 1], np.float32), (1, 3))[:, 0]
                base = base + weight * (edge - base[:, i])[:, None]
    # a texture of its own, farther rows to both ends; variances add up to one side's
    mix = np.clip((np.arange(need, dtype=np.float32)[:, None] - EDGE + 1) / (size + 1), 0, 1)
    texture = grain[::-1] * np.sqrt(1 - mix) + grain_below * np.sqrt(mix)
    wanted = np.concatenate([grain[:EDGE][::-1], grain_below[:EDGE]])
    got = np.concatenate([texture[:EDGE], texture[EDGE + size :]])
    texture = texture[EDGE : EDGE + size] + _weights(textures, size) @ (wanted - got)
    grey[start:stop, left:right] = np.clip(np.rint(base + texture), 0, 255)


def _weights(textures: list[Floats], size: int) -> Floats:
    """Simple kriging: size x (2 EDGE) weights by which a band's rows depend on the EDGE rows at each side, from how the
    rows of `textures` (each rows x columns) resemble each other. A scanner's noise is not alike in both directions.
    """
    rows = size + 2 * EDGE
    covariance = np.zeros(rows)
    for texture in textures:
        count = len(texture)
        lags = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).ravel()
        mean = np.bincount(lags, (texture @ texture.T).ravel()) / np.bincount(lags)
        covariance[: min(rows, count // 2 + 1)] += mean[: min(rows, count // 2 + 1)]
    correlation = covariance / max(covariance[0], 1e-6)
    places = np.arange(rows)
    known = np.concatenate([places[:EDGE], places[EDGE + size :]])
    among = correlation[np.abs(known[:, None] - known)] + 0.01 * np.eye(len(known))
    towards = correlation[np.abs(known[:, None] - places[EDGE : EDGE + size])]
    return np.asarray(np.linalg.solve(among, towards).T, np.float32)


def _along(
    above: Floats, below: Floats, part: Floats, columns: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The columns of the rows above and below (nearest first) that each pixel of a band lies between: straight across,
    or along the edge that crosses the band there, as a skull's does.
    """
    last, k = above.shape[1] - 1, min(2, len(above) - 1, len(below) - 1)
    from_above, from_below = (np.repeat(columns[None], len(part), axis=0) for _ in range(2))
    step = cv2.blur(np.abs(above[0] - below[0])[columns][None], (5, 1))[0] >= CROSSING
    if not step.any():
        return from_above, from_below
    active = np.flatnonzero(cv2.dilate(step[None].astype(np.uint8), np.ones((1, 9), np.uint8))[0])
    shift = SHEARS * part[:, None, None]  # band rows x columns x shears
    beyond = k / (len(part) + 1) * SHEARS  # a path goes on into the rows behind
    up, down, far_up, far_down = (
        np.clip(columns[active][:, None] + np.rint(way).astype(np.intp), 0, last)
        for way in (-shift, SHEARS - shift, -shift - beyond, SHEARS - shift + beyond)
    )
    here, there = above[0][up], below[0][down]
    cost = np.abs(here - there) + 0.5 * (np.abs(here - above[k][far_up]) + np.abs(there - below[k][far_down]))
    best = (cv2.blur(cost, (5, 3)) + STRAIGHT * np.abs(SHEARS)).argmin(axis=2)[..., None]
    from_above[:, active] = np.take_along_axis(up, best, 2)[..., 0]
    from_below[:, active] = np.take_along_axis(down, best, 2)[..., 0]
    return from_above, from_below
