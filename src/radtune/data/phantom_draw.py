"""Draw head-CT phantoms with numpy and OpenCV: each patient has an anatomy, each slice a level and one lesion.

Frames: anatomy is in head units, (u, v) in -1..1 of the inner skull's half-axes, u to image right, v to the back (image
bottom). It is painted on a 512x512 canvas and mapped onto the image by one affine per patient (rotation, shift, scale).
Greys are those of a brain window (80 HU wide, centred on 40): air and fat 0, fluid 36, white and grey matter about 102
and 122, blood above 165, bone 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]

CANVAS = 512
FLUID, WHITE, CORTEX, BONE = 36, 102, 122, 255
# (lowest level, name), base to top of the head
LEVELS = [(0.0, "posterior fossa"), (0.25, "basal ganglia"), (0.5, "lateral ventricles"), (0.78, "convexity")]
# One side's lateral ventricle: spine (u, v) and half-width from frontal to occipital horn, at five levels between which
# it is interpolated.
VENTRICLE_LEVELS = [0.2, 0.36, 0.5, 0.64, 0.8]
VENTRICLE = np.array(
    [
        [(0.13, -0.34, 0.010), (0.08, -0.26, 0.012), (0.05, -0.15, 0.0), (0.32, 0.22, 0.0), (0.38, 0.34, 0.015)],
        [(0.20, -0.43, 0.022), (0.12, -0.34, 0.060), (0.045, -0.13, 0.02), (0.28, 0.26, 0.012), (0.36, 0.46, 0.015)],
        [(0.22, -0.45, 0.022), (0.13, -0.32, 0.070), (0.07, -0.02, 0.03), (0.24, 0.28, 0.055), (0.34, 0.54, 0.012)],
        [(0.19, -0.42, 0.015), (0.13, -0.26, 0.075), (0.09, 0.02, 0.06), (0.18, 0.30, 0.080), (0.33, 0.52, 0.012)],
        [(0.14, -0.24, 0.004), (0.13, -0.12, 0.010), (0.13, 0.02, 0.014), (0.16, 0.16, 0.010), (0.20, 0.26, 0.004)],
    ]
)


# The other parts, as paths of (u, v, half-width); those off the midline are the right half, mirrored for the left.
TEMPORAL_MUSCLE = [(1.02, -0.45, 0.01), (1.12, -0.2, 0.055), (1.12, 0.1, 0.05), (1.04, 0.3, 0.01)]
INSULA = [(0.53, -0.25, 0.03), (0.57, -0.05, 0.035), (0.52, 0.15, 0.03)]
SYLVIAN = [(0.99, -0.22, 0.022), (0.8, -0.2, 0.014), (0.64, -0.1, 0.022)]
INSULAR_SULCUS = [(0.60, -0.24, 0.008), (0.64, -0.06, 0.018), (0.58, 0.12, 0.006)]
AMBIENT = [(0.06, 0.0, 0.01), (0.2, 0.06, 0.016), (0.23, 0.2, 0.014), (0.08, 0.3, 0.012)]
THIRD = [(0, -0.1, 0.012), (0, 0.03, 0.026), (0, 0.15, 0.014)]
QUADRIGEMINAL = [(-0.2, 0.24, 0.004), (-0.09, 0.29, 0.02), (0, 0.27, 0.03), (0.09, 0.29, 0.02), (0.2, 0.24, 0.004)]
FOURTH = [(-0.1, 0.45, 0.01), (0, 0.38, 0.045), (0.1, 0.45, 0.01)]
PETROUS = [(1.02, 0.28, 0.21), (0.72, 0.20, 0.13), (0.42, 0.04, 0.055), (0.16, -0.06, 0.03)]
SPHENOID = [(1.02, -0.46, 0.10), (0.62, -0.42, 0.04), (0.30, -0.32, 0.03), (0.12, -0.2, 0.03)]
SULCUS_WIDTHS = np.array([1.5, 1.0, 0.9, 0.3])  # from the skull inward


class Patient(NamedTuple):
    """What all slices of one patient share."""

    axes: tuple[float, float]  # outer skull half-width and half-length, canvas px
    egg: float  # how much narrower the front is than the back
    wobble: Points  # (k, 2) amplitude and phase of the skull's irregularities
    skull: float  # skull thickness, px
    thickness: Points  # (k, 2) its variation around the head
    scalp: float  # scalp thickness, px
    ventricles: float  # width of the ventricles, 1 = as in the table
    atrophy: float  # width of the sulci, 1 = usual
    sulci: Points  # (n, 5) angle, length, bend, width, the level above which it is seen
    cortex: Points  # (k, 2) amplitude and phase of the border between grey and white matter
    calcified: float  # size of pineal and choroid calcifications, 0 = none
    holder: bool  # the head rest is in the picture
    pose: tuple[float, float, float, float]  # rotation in degrees, scale, shift in x and y as a share of the image
    gain: float
    noise: float


@dataclass(frozen=True)
class Slice:
    """One drawn slice; `pixels` is (height, width) uint8 without the rectangle, `box` x1, y1, x2, y2 in its pixels."""

    pixels: Grey
    box: Box
    level: float
    density: str
    rim: bool
    lesion: Grey  # (height, width), 255 where the lesion is
    brain: Grey  # (height, width), 255 where there is brain tissue or its fluid


def level_name(level: float) -> str:
    return [name for lowest, name in LEVELS if level >= lowest][-1]


def draw_patient(rng: np.random.Generator) -> Patient:
    """Choose one patient's anatomy, pose and scanner."""

    def waves(count: int, amplitude: float) -> Points:
        return np.stack([rng.normal(0, amplitude, count), rng.uniform(0, 2 * np.pi, count)], axis=1)

    count = 60
    sulci = np.column_stack(
        [
            (np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count,
            rng.uniform([0.08, -0.1, 0.6, 0.1], [0.27, 0.1, 1.5, 0.75], (count, 4)),
        ]
    )
    return Patient(
        axes=(rng.uniform(174, 194), rng.uniform(206, 218)),
        egg=rng.uniform(0.05, 0.12),
        wobble=waves(4, 0.007),
        skull=rng.uniform(11, 18),
        thickness=waves(4, 0.12),
        scalp=rng.uniform(9, 17),
        ventricles=rng.uniform(0.65, 1.5),
        atrophy=rng.uniform(0.6, 1.5),
        sulci=sulci,
        cortex=waves(28, 0.018),
        calcified=float(rng.uniform(0.5, 1.4) * (rng.random() < 0.7)),
        holder=bool(rng.random() < 0.5),
        pose=(rng.normal(0, 5), rng.uniform(0.94, 1.06), rng.uniform(-0.06, 0.06), rng.uniform(-0.015, 0.015)),
        gain=rng.uniform(0.94, 1.08),
        noise=rng.uniform(6, 11),
    )


def draw(
    patient: Patient,
    level: float,
    rng: np.random.Generator,
    size: tuple[int, int] = (CANVAS, CANVAS),
    density: str | None = None,
) -> Slice:
    """Draw one slice with one lesion.

    level: 0 at the base of the skull, 1 near the top. size: (width, height) of the image in px.
    density: hyperdense, hypodense or isodense; drawn by lot (48, 42 and 10 %) if None.
    """
    canvas, brain, fluid = _paint_head(patient, level)
    width, height = size
    degrees, scale, dx, dy = patient.pose
    scale *= min(width, height) / CANVAS
    affine = cv2.getRotationMatrix2D((CANVAS / 2, CANVAS / 2), degrees, scale)
    affine[:, 2] += [width * (0.5 + dx) - CANVAS / 2, height * (0.5 + dy) - CANVAS / 2]
    canvas, brain, fluid = (
        cv2.warpAffine(layer, affine, (width, height), flags=cv2.INTER_AREA if layer is canvas else cv2.INTER_NEAREST)
        for layer in (canvas, brain, fluid)
    )
    density = density or str(rng.choice(["hyperdense", "hypodense", "isodense"], p=[0.48, 0.42, 0.10]))
    image, lesion, rim = _add_lesion(canvas.astype(np.float32), brain, fluid, density, rng, min(width, height) / CANVAS)
    image = cv2.GaussianBlur(image, (0, 0), 0.7)
    tissue = np.clip((image - 8) / 30, 0, 1)  # air and fat lie below the window: no noise is seen there
    coarse = cv2.resize(rng.standard_normal((24, 24), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 0.6)
    image = image * patient.gain + 2 * np.maximum(image - 220, 0)  # bone is far above the window
    image += tissue * (patient.noise * 1.7 * grain + 2.5 * coarse)
    x, y, w, h = cv2.boundingRect(lesion)
    margin = int(rng.integers(5, 9))  # keeps the 3 px line, drawn inward, off the lesion
    box = (max(x - margin, 0), max(y - margin, 0), min(x + w + margin, width - 1), min(y + h + margin, height - 1))
    return Slice(np.clip(image, 0, 255).astype(np.uint8), box, level, density, rim, lesion, brain)


def _paint_head(patient: Patient, level: float) -> tuple[Grey, Grey, Grey]:
    """Paint one level on the 512x512 canvas; returns the greys, the brain mask and the fluid mask."""
    canvas, brain, fluid, bones = (np.zeros((CANVAS, CANVAS), np.uint8) for _ in range(4))
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)  # 0 is the front; clockwise
    radius = 1 + sum(a * np.cos((k + 2) * t + p) for k, (a, p) in enumerate(patient.wobble))
    shape = np.stack([np.sin(t) * (1 - patient.egg * np.cos(t)), -np.cos(t)], axis=1) * radius[:, None]
    axes = np.array(patient.axes) * np.interp(level, [0, 0.25, 0.5, 0.75, 1], [0.95, 1, 1, 0.95, 0.76])
    thick = patient.skull * np.interp(level, [0, 0.3, 0.6, 1], [1.25, 1, 1, 1.9])
    variation = 1 + sum(a * np.cos((k + 1) * t + p) for k, (a, p) in enumerate(patient.thickness))
    variation = np.clip(variation + 0.15 * np.cos(2 * t), 0.55, 1.6)
    outer = shape * axes + CANVAS / 2
    inner = shape * (axes - (thick * variation)[:, None]) + CANVAS / 2
    frame = axes - thick

    if patient.holder:
        for side in (-1, 1):
            arc = [(CANVAS / 2 + side * (236 - 34 * s * s), 250 + 190 * s, 2.2) for s in np.linspace(-0.2, 1, 6)]
            _fill(canvas, _ribbon(np.array(arc)), 235)
    # Scalp: a bright skin line, fat that is black in this window, the temporal muscles at the lower levels.
    scalp = patient.scalp * (1 + 0.35 * np.cos(t + patient.wobble[0, 1]))[:, None]
    direction = shape / np.linalg.norm(shape, axis=1, keepdims=True)
    _fill(canvas, outer + direction * scalp, 120)
    _fill(canvas, outer + direction * (scalp - 3), 10)
    _fill(canvas, outer + direction * np.clip(scalp * 0.25, 1.5, 4), 105)
    for side in (-1, 1) if level < 0.6 else ():
        _band(canvas, TEMPORAL_MUSCLE, frame, 112, side, 1 - level)
    _fill(canvas, outer, BONE)

    _fill(brain, inner, 255)
    tissue = _paint_tissue(patient, level, shape, frame)
    _paint_fluid(fluid, patient, level, frame)
    sulci = _paint_sulci(patient, level, frame)
    np.maximum(fluid, sulci, out=fluid)
    banks = cv2.dilate(sulci, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11)))
    tissue[banks > 100] = CORTEX + 2  # cortex follows the sulci inward
    tissue = cv2.GaussianBlur(tissue, (0, 0), 2.4)
    _paint_midline(tissue, fluid, patient, level, frame)
    _paint_base(bones, tissue, patient, level, frame)
    film = cv2.subtract(brain, cv2.erode(brain, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))))
    tissue[film > 0] = int(85 - 18 * min(patient.atrophy, 1.5))  # a thin film of fluid below the bone
    halo = cv2.resize(cv2.GaussianBlur(cv2.resize(fluid, (128, 128)), (0, 0), 2.5), (CANVAS, CANVAS))
    tissue = cv2.subtract(tissue, cv2.convertScaleAbs(halo, alpha=0.06))  # fluid darkens what lies next to it
    dark = cv2.GaussianBlur(fluid, (0, 0), 1.3).astype(np.float32) / 255
    tissue = (tissue * (1 - dark) + FLUID * dark).astype(np.uint8)
    if patient.calcified and 0.25 < level < 0.5:  # pineal gland and choroid plexus
        for u, v, half in ((0, 0.2, 4.0), (-0.27, 0.3, 3.0), (0.27, 0.3, 3.0)):
            _fill(tissue, _ellipse((u, v), half / frame[0] * patient.calcified, 5 / frame[0], frame), 240)
    tissue[bones > 127] = BONE
    canvas[brain > 127] = tissue[brain > 127]
    brain[bones > 64] = 0
    fluid[brain < 128] = 0
    return _grey(cv2.GaussianBlur(canvas, (0, 0), 0.6)), brain, fluid


def _paint_tissue(patient: Patient, level: float, shape: Points, frame: Points) -> Grey:
    """White matter inside a folded grey cortex, with the deep grey nuclei where the level shows them."""
    tissue = np.full((CANVAS, CANVAS), CORTEX, np.uint8)
    t = np.linspace(0, 2 * np.pi, len(shape), endpoint=False)
    folds = sum(a * np.cos((k + 7) * t + p + 3 * level) for k, (a, p) in enumerate(patient.cortex))
    white = shape * (np.interp(level, [0, 0.3, 0.6, 1], [0.6, 0.86, 0.9, 0.86]) + folds)[:, None]
    nuclei = _between(level, 0.24, 0.54)
    for side in (-1, 1):
        half = white[white[:, 0] * side > 0.06]
        half = half[np.argsort(np.arctan2(half[:, 1], half[:, 0] * side))]
        _fill(tissue, _place(half, frame), int(WHITE + 10 * _between(level, -1, 0.2)))
        if nuclei:
            grey = int(WHITE + nuclei * (CORTEX - WHITE))
            _fill(tissue, _ellipse((side * 0.33, -0.10), 0.10, 0.20, frame, side * -14), grey)  # lentiform
            _fill(tissue, _ellipse((side * 0.135, 0.06), 0.115, 0.19, frame, side * 14), grey)  # thalamus
            _fill(tissue, _ellipse((side * 0.20, -0.34), 0.07, 0.12, frame, side * 20), grey)  # caudate
            _band(tissue, INSULA, frame, grey, side)
    return tissue


def _paint_fluid(fluid: Grey, patient: Patient, level: float, frame: Points) -> None:
    """Ventricles, cisterns and Sylvian fissures into the mask."""
    spine = [[np.interp(level, VENTRICLE_LEVELS, knots) for knots in point.T] for point in VENTRICLE.swapaxes(0, 1)]
    lateral = _between(level, 0.24, 0.8) * patient.ventricles
    sylvian = _between(level, 0.18, 0.56) * patient.atrophy
    third = _between(level, 0.22, 0.47) * patient.ventricles
    fourth = _between(level, -0.2, 0.2) * patient.ventricles
    low = _between(level, 0.02, 0.28)
    for side in (-1, 1):
        _band(fluid, spine, frame, 255, side, lateral)
        _band(fluid, SYLVIAN, frame, 230, side, sylvian)
        _band(fluid, INSULAR_SULCUS, frame, 230, side, sylvian)
        _band(fluid, AMBIENT, frame, 210, side, low)
    _band(fluid, THIRD, frame, 250, 1, third)
    _band(fluid, QUADRIGEMINAL, frame, 220, 1, third)
    _band(fluid, FOURTH, frame, 240, 1, fourth)
    if low:  # the suprasellar star
        turns = np.arange(10) * np.pi / 5
        star = np.column_stack([np.sin(turns), -np.cos(turns)]) * np.tile([0.17, 0.08], 5)[:, None] + [0, -0.12]
        _fill(fluid, _place(star, frame), int(200 * low))


def _paint_sulci(patient: Patient, level: float, frame: Points) -> Grey:
    """The sulci of one level as a mask: from the skull inward, longer and more of them towards the top."""
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    for angle, length, bend, wide, from_level in patient.sulci[patient.sulci[:, 4] < level]:
        length *= np.interp(level, [0, 0.5, 0.8, 1], [0.5, 0.8, 1.2, 1.0]) * min(1, (level - from_level) * 8)
        out, across = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])
        spots = [out * (0.99 - length * d) + across * bend * b for d, b in ((0, 0), (0.5, 1), (0.8, 0.1), (1, 0.8))]
        path = np.column_stack([spots, 0.011 * wide * SULCUS_WIDTHS])
        _band(mask, path, frame, int(225 - 60 * abs(np.sin(9 * angle))), 1, patient.atrophy)
    return mask


def _paint_midline(tissue: Grey, fluid: Grey, patient: Patient, level: float, frame: Points) -> None:
    """The falx, a fine bright line in a dark fissure: whole at the convexity, front and back below it."""
    front = np.interp(level, [0.1, 0.25, 0.6, 0.75, 0.8], [-0.6, -0.55, -0.45, -0.3, 0.05])
    back = np.interp(level, [0.2, 0.3, 0.6, 0.75, 0.8], [0.95, 0.62, 0.5, 0.35, 0.0])
    sway = 0.02 * np.sin(patient.wobble[1, 1])
    for start, end in ((-1.0, front), (1.0, back)):
        line = _place([(sway * np.sin(3 * v), v) for v in np.linspace(start, end, 7)], frame)
        fixed = np.round(line * 16).astype(np.int32)
        cv2.polylines(fluid, [fixed], False, 130, 4 if patient.atrophy > 1 else 3, cv2.LINE_AA, 4)
        cv2.polylines(fluid, [fixed], False, 0, 1, cv2.LINE_AA, 4)
        cv2.polylines(tissue, [fixed], False, 185, 2, cv2.LINE_AA, 4)


def _paint_base(bones: Grey, tissue: Grey, patient: Patient, level: float, frame: Points) -> None:
    """Petrous ridges, sphenoid wings, sella and air cells, which part the brain at the lowest levels."""
    strength = float(np.clip((0.23 - level) / 0.2, 0, 1))
    if strength == 0:
        return
    for side in (-1, 1):
        _band(bones, PETROUS, frame, 255, side, strength)
        _band(bones, SPHENOID, frame, 255, side, strength)
        for i, (angle, length, bend, wide, _) in enumerate(patient.sulci[:14]):  # mastoid cells, scattered by lot
            spot = (side * (0.98 - length * 0.9), 0.24 + bend * 0.8 + 0.02 * (i % 3))
            cell = _ellipse(spot, 0.016 * wide * strength, 0.015 * strength, frame, 57 * angle)
            _fill(bones, cell, 0)
            _fill(tissue, cell, 20)
    _fill(bones, _ellipse((0, -0.17), 0.13 * strength, 0.05 * strength, frame), 255)


def _add_lesion(
    image: npt.NDArray[np.float32], brain: Grey, fluid: Grey, density: str, rng: np.random.Generator, scale: float
) -> tuple[npt.NDArray[np.float32], Grey, bool]:
    """Add one irregular lesion; returns the image (float32), the lesion's mask and whether a dark rim surrounds it."""
    height, width = brain.shape
    wide = cv2.dilate(fluid, np.ones((5, 5), np.uint8))
    solid = np.where((brain > 127) & (cv2.blur(wide, (15, 15)) < 150), 255, 0).astype(np.uint8)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    radius = min(float(np.exp(rng.uniform(np.log(16), np.log(56)))) * scale, 1.6 * float(depth.max()))
    ys, xs = np.nonzero(depth[::3, ::3] >= min(radius * 0.6, 0.9 * float(depth.max())))
    ys, xs = ys * 3, xs * 3
    cells = (
        ys * 5 // height
    ) * 5 + xs * 5 // width  # the words' 5x5 grid; small cells get more than their area's share
    names, counts = np.unique(cells, return_counts=True)
    cell = rng.choice(names, p=np.sqrt(counts) / np.sqrt(counts).sum())
    choice = rng.choice(np.nonzero(cells == cell)[0])
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    outline = 1 + sum(
        rng.normal(0, 0.17 / (k + 1) ** 0.7) * np.cos((k + 2) * t + rng.uniform(0, 6.3)) for k in range(5)
    )
    stretch, turn = np.exp(rng.uniform(-0.3, 0.3)), rng.uniform(0, np.pi)
    blob = np.stack([np.cos(t) * stretch, np.sin(t) / stretch], axis=1) * np.clip(outline, 0.45, 1.6)[:, None] * radius
    blob = blob @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + [xs[choice], ys[choice]]
    lesion = np.zeros_like(brain)
    _fill(lesion, blob, 255)
    inside = cv2.erode(brain, np.ones((5, 5), np.uint8))
    lesion[inside < 128] = 0
    rim = density == "hyperdense" and rng.random() < 0.45
    if rim:
        spread = 2 * round((5 + radius * 0.25) * max(scale, 0.6)) + 1
        halo = cv2.dilate(lesion, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (spread, spread)))
        halo[inside < 128] = 0
        image = image - 42 * cv2.GaussianBlur(halo, (0, 0), 2.5).astype(np.float32) / 255 * (image > 75)
    blur = float(np.clip(radius * rng.uniform(0.05, 0.1), 0.5, 2.2))
    soft = cv2.GaussianBlur(lesion, (0, 0), blur).astype(np.float32) / 255
    if density == "isodense":
        target = 112 + float(rng.choice([-6, 6]))
    else:
        target = rng.uniform(168, 212) if density == "hyperdense" else rng.uniform(42, 64)
    patches = cv2.resize(rng.standard_normal((12, 12), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    cover = soft * (0.95 if density != "isodense" else 0.85)
    return image * (1 - cover) + (target + 7 * patches) * cover, lesion, bool(rim)


def _between(level: float, low: float, high: float) -> float:
    """0 outside low..high, 1 well inside, smooth in between."""
    return float(np.clip(min(level - low, high - level) / 0.07, 0, 1))


def _place(points: Any, frame: Points) -> Points:
    """Head units to canvas px; `frame` is the inner skull's half-axes in px."""
    return np.asarray(points, float) * frame + CANVAS / 2


def _band(layer: Grey, path: Any, frame: Points, value: int, side: int = 1, width: float = 1) -> None:
    """Fill a smooth band along (u, v, half-width) in head units; side -1 mirrors it, `width` scales its width."""
    if width > 0:
        points = np.asarray(path, float) * [side, 1, width]
        _fill(layer, _ribbon(np.column_stack([_place(points[:, :2], frame), points[:, 2] * frame[0]])), value)


def _ribbon(path: Points) -> Points:
    """The outline of a smooth band along (x, y, half-width) in px, by three rounds of corner cutting."""
    for _ in range(3):
        cut = np.stack([0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]], axis=1)
        path = np.vstack([path[:1], cut.reshape(-1, 3), path[-1:]])
    x, y, half = path.T
    ends = np.arange(len(path))
    before, after = np.maximum(ends - 1, 0), np.minimum(ends + 1, len(path) - 1)
    dx, dy = x[after] - x[before], y[after] - y[before]
    half = half / (np.hypot(dx, dy) + 1e-9)
    side = np.column_stack([-dy * half, dx * half])
    outline: Points = np.vstack([path[:, :2] + side, (path[:, :2] - side)[::-1]])
    return outline


def _ellipse(centre: tuple[float, float], across: float, along: float, frame: Points, degrees: float = 0) -> Points:
    """An ellipse's outline in px; centre and half-axes in head units, the latter of the head's width both."""
    t, turn = np.linspace(0, 2 * np.pi, 24, endpoint=False), np.deg2rad(degrees)
    points = np.column_stack([across * np.cos(t), along * np.sin(t)]) * frame[0]
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    outline: Points = points @ rotation + _place(centre, frame)
    return outline


def _fill(layer: Grey, outline: Points, value: int) -> None:
    """Fill a polygon given in px, anti-aliased, to 1/16 px."""
    cv2.fillPoly(layer, [np.round(outline * 16).astype(np.int32)], value, cv2.LINE_AA, 4)


def _grey(image: Any) -> Grey:
    result: Grey = np.asarray(image, np.uint8)
    return result
