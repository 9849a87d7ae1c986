"""How much of the burned-in rectangle is left after it was taken out, on phantoms or real slices.

As the mean difference to the same picture that was never drawn on, and as what a small detector, trained for it, still
sees. The box taken out is the one that overlay.find_box finds. bench/overlay.py prints both, and tests hold them.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import map_coordinates
from scipy.stats import rankdata

from radtune.data.phantom_draw import draw, draw_patient
from radtune.images import inpaint, overlay, read
from radtune.images.read import Pixels

Box = tuple[int, int, int, int]
Floats = npt.NDArray[np.float64]
GREEN = (20, 240, 20)


def jpeg(pixels: Pixels, quality: int = 92, subsampling: int = 2) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return read.decode(buffer.getvalue()).pixels


def burn(pixels: Pixels, box: Box, colour: tuple[int, int, int] = GREEN, width: int = 3) -> Pixels:
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).rectangle(box, outline=colour, width=width)
    return np.array(image)


def slices(real: Path | None, count: int) -> Iterator[tuple[Pixels, Box]]:
    """Pictures without a rectangle, and where to draw one."""
    files = sorted((real / "head_ct_series" / "png_window_derived").glob("*.png"))[2:-2] if real else []
    for k in range(count):
        rng = np.random.default_rng([1, k])
        if real:
            turn = cv2.getRotationMatrix2D((256, 256), rng.uniform(-12, 12), rng.uniform(0.86, 1.08))
            file = str(files[int(rng.integers(len(files)))])
            grey = cv2.warpAffine(cv2.imread(file, cv2.IMREAD_GRAYSCALE), turn, (512, 512))
        else:
            grey = draw(draw_patient(rng), rng.uniform(0, 1), rng).pixels
        w, h = (int(side) for side in rng.integers(18, 130, 2))
        x, y = int(rng.integers(60, 440 - w)), int(rng.integers(60, 440 - h))
        yield np.repeat(grey[..., None], 3, axis=2), (x, y, x + w, y + h)


def band(shape: tuple[int, ...], box: Box, margin: int) -> npt.NDArray[np.bool_]:
    """The 3 px lines of `box` and `margin` px on both sides."""
    x1, y1, x2, y2 = box
    mask = np.zeros(shape[:2], bool)
    mask[max(0, y1 - margin) : y2 + margin + 1, max(0, x1 - margin) : x2 + margin + 1] = True
    inner = 3 + margin
    mask[y1 + inner : max(y1 + inner, y2 + 1 - inner), x1 + inner : max(x1 + inner, x2 + 1 - inner)] = False
    return mask


def grey(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


CLAHE = cv2.createCLAHE(2.0, (8, 8))


def found_in(pixels: Pixels) -> Box:
    found = overlay.find_box(pixels)
    assert found is not None
    return found.box


def residue(real: Path | None) -> tuple[float, float, float]:
    """Mean |mended - never drawn| in the band, against it of two pixels there that are the band's width apart; also
    after CLAHE; and of the frame left in.
    """
    sums = np.zeros((3, 2))
    for clean, box in slices(real, 24):
        drawn, never = jpeg(burn(clean, box)), jpeg(clean)
        mended = inpaint.inpaint(drawn, found_in(drawn))
        mask = band(drawn.shape, box, inpaint.MARGIN)
        for row, (picture, truth) in zip(
            sums,
            [
                (grey(mended), grey(never)),
                (CLAHE.apply(grey(mended)), CLAHE.apply(grey(never))),
                (grey(drawn), grey(never)),
            ],
            strict=True,
        ):
            apart = [
                np.abs(truth - np.roll(truth.astype(float), inpaint.MARGIN * 2 + 3, axis))[mask].mean()
                for axis in (0, 1)
            ]
            row += np.abs(picture - truth.astype(float))[mask].mean(), np.mean(apart)
    plain, enhanced, left_in = sums[:, 0] / sums[:, 1]
    return plain, enhanced, left_in


def detectable(real: Path | None, count: int) -> tuple[float, float]:
    """AUC of a detector of the frame's place: of mended pictures, and of pictures with the frame left in."""
    features: dict[str, list[Floats]] = {"mended": [], "left in": []}
    labels, group = [], []
    for k, (clean, box) in enumerate(slices(real, count)):
        rng = np.random.default_rng([2, k])
        drawn = jpeg(burn(clean, box))
        places = [box]
        w, h = box[2] - box[0], box[3] - box[1]
        while len(places) < 4:
            x, y = int(rng.integers(60, 440 - w)), int(rng.integers(60, 440 - h))
            if max(abs(x - box[0]), abs(y - box[1])) > 16:
                places.append((x, y, x + w, y + h))
        for name, picture in (("mended", inpaint.inpaint(drawn, found_in(drawn))), ("left in", drawn)):
            seen = cv2.resize(CLAHE.apply(grey(picture)), (448, 448), interpolation=cv2.INTER_CUBIC).astype(float)
            features[name] += [describe(seen, place, 448 / 512) for place in places]
        labels += [1, 0, 0, 0]
        group += [k % 2] * 4
    y, half = np.array(labels), np.array(group)
    scores = []
    for rows in features.values():
        x = np.array(rows)
        scores.append(np.mean([auc(fit(x[half == a], y[half == a])(x[half != a]), y[half != a]) for a in (0, 1)]))
    return float(scores[0]), float(scores[1])


def describe(seen: Floats, box: Box, scale: float) -> Floats:
    """Step, gradients across and along, and variance of the band at `box` against its surroundings: mean of the four
    sides, and the most.
    """
    x1, y1, x2, y2 = (edge * scale for edge in box)
    away = np.arange(-10, 9) + 0.5  # px of `seen` outward from the outer edge
    inside = (away > -4.5) & (away < 2)
    between = (away[1:] > -4.5) & (away[:-1] < 2)
    rows = []
    for level, edge, low, high, sign in (
        (True, y1, x1, x2, -1),
        (True, y2 + scale, x1, x2, 1),
        (False, x1, y1, y2, -1),
        (False, x2 + scale, y1, y2, 1),
    ):
        across, along = np.meshgrid(
            edge + sign * away - 0.5, np.linspace(low, high, max(8, int(high - low))), indexing="ij"
        )
        strip = map_coordinates(seen, [across, along] if level else [along, across], order=1, mode="nearest")
        mean, variance = strip.mean(axis=1), strip.var(axis=1)
        gradients = np.abs(np.diff(strip, axis=0)).mean(axis=1), np.abs(np.diff(strip, axis=1)).mean(axis=1)
        pairs = ((gradients[0], between), (gradients[1], inside), (variance, inside))
        ratios = [np.log1p(values[at].mean()) - np.log1p(values[~at].mean()) for values, at in pairs]
        rows.append([abs(mean[inside].mean() - mean[~inside].mean()), *ratios])
    return np.concatenate([np.mean(rows, axis=0), np.abs(rows).max(axis=0)])


def fit(x: Floats, y: npt.NDArray[np.int64]) -> Callable[[Floats], Floats]:
    """Logistic regression by Newton's method, ridge 1."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    ridge = np.diag([1.0] * x.shape[1] + [0.0])
    weights = np.zeros(z.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(z @ weights, -30, 30)))
        weights -= np.linalg.solve((z.T * (p * (1 - p) + 1e-9)) @ z + ridge, z.T @ (p - y) + ridge @ weights)
    return lambda x: np.column_stack([(x - mean) / spread, np.ones(len(x))]) @ weights


def auc(scores: Floats, y: npt.NDArray[np.int64]) -> float:
    positive = int(y.sum())
    return float((rankdata(scores)[y == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))
