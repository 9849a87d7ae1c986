"""Draw head-CT phantoms with numpy and OpenCV: each patient has an anatomy, each slice a level and one lesion.

Frames: anatomy is in head units, (u, v) in -1..1 of the inner skull's half-axes, u to image right, v to the back (image
bottom). It is painted on a 512x512 canvas and mapped onto the image by one affine per patient (rotation, shift, scale).
Greys are those of a brain window (80 HU wide, centred on 40): air and fat 0, fluid 36, white and grey matter about 98
and 118, blood above 160, bone 255.
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
FLUID, WHITE, CORTEX, DEEP, BONE = 36, 98, 118, 113, 255
# (lowest level, name), base to top of the head
LEVELS = [(0.0, "posterior fossa"), (0.25, "basal ganglia"), (0.5, "lateral ventricles"), (0.78, "convexity")]
# One side's lateral ventricle: spine (u, v) and half-width from frontal to occipital horn, at five levels between which
# it is interpolated.
VENTRICLE_LEVELS = [0.2, 0.36, 0.5, 0.64, 0.8]
VENTRICLE = np.array(
    [
        [(0.13, -0.34, 0.010), (0.08, -0.26, 0.012), (0.05, -0.15, 0.0), (0.32, 0.22, 0.0), (0.38, 0.34, 0.015)],
        [(0.20, -0.42, 0.035), (0.10, -0.30, 0.050), (0.045, -0.13, 0.02), (0.28, 0.26, 0.012), (0.36, 0.46, 0.03)],
        [(0.21, -0.44, 0.045), (0.11, -0.26, 0.060), (0.07, -0.02, 0.03), (0.24, 0.26, 0.045), (0.34, 0.54, 0.035)],
        [(0.20, -0.40, 0.040), (0.12, -0.22, 0.065), (0.10, 0.02, 0.06), (0.20, 0.28, 0.065), (0.33, 0.50, 0.03)],
        [(0.14, -0.24, 0.004), (0.13, -0.12, 0.010), (0.13, 0.02, 0.014), (0.16, 0.16, 0.010), (0.20, 0.26, 0.004)],
    ]
)


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

    count = 52
    angles = (np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count
    sulci = np.stack(
        [
            angles,
            rng.uniform(0.08, 0.27, count),
            rng.normal(0, 0.09, count),
            rng.uniform(0.6, 1.5, count),
            rng.uniform(0.1, 0.75, count),
        ],
        axis=1,
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
        cortex=waves(24, 0.014),
        calcified=float(rng.uniform(0.5, 1.4) * (rng.random() < 0.7)),
        holder=bool(rng.random() < 0.5),
        pose=(rng.normal(0, 5), rng.uniform(0.94, 1.06), rng.uniform(-0.02, 0.02), rng.uniform(-0.015, 0.015)),
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
    image = image * patient.gain + tissue * (patient.noise * 1.7 * grain + 2.5 * coarse)
    x, y, w, h = cv2.boundingRect(lesion)
    margin = int(rng.integers(5, 9))  # keeps the 3 px line, drawn inward, off the lesion
    box = (max(x - margin, 0), max(y - margin, 0), min(x + w + margin, width - 1), min(y + h + margin, height - 1))
    return Slice(np.clip(image, 0, 255).astype(np.uint8), box, level, density, rim, lesion, brain)


def _paint_head(patient: Patient, level: float) -> tuple[Grey, Grey, Grey]:
    """Paint one level on the 512x512 canvas; returns the greys, the brain mask and the fluid mask."""
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    grow = np.interp(level, [0, 0.25, 0.5, 0.75, 1], [0.95, 1, 1, 0.95, 0.76])
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)  # 0 is the front; clockwise
    radius = 1 + sum(a * np.cos((k + 2) * t + p) for k, (a, p) in enumerate(patient.wobble))
    shape = np.stack([np.sin(t) * (1 - patient.egg * np.cos(t)), -np.cos(t)], axis=1) * radius[:, None]
    axes = np.array(patient.axes) * grow
    thick = patient.skull * np.interp(level, [0, 0.3, 0.6, 1], [1.25, 1, 1, 1.9])
    variation = 1 + sum(a * np.cos((k + 1) * t + p) for k, (a, p) in enumerate(patient.thickness))
    variation = np.clip(variation + 0.15 * np.cos(2 * t), 0.55, 1.6)
    inner_axes = axes - thick

    def place(points: Any) -> Points:  # head units to canvas px
        return np.asarray(points, float) * inner_axes + CANVAS / 2

    outer = shape * axes + CANVAS / 2
    inner = shape * (axes - (thick * variation)[:, None]) + CANVAS / 2
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
    if level < 0.6:
        for side in (-1, 1):
            muscle = [
                (side * 1.02, -0.45, 0.01),
                (side * 1.12, -0.2, 0.055),
                (side * 1.12, 0.1, 0.05),
                (side * 1.04, 0.3, 0.01),
            ]
            _fill(canvas, _ribbon(_scaled(muscle, place, inner_axes[0] * (1 - level))), 112)
    _fill(canvas, outer, BONE)

    brain = np.zeros_like(canvas)
    _fill(brain, inner, 255)
    tissue = _paint_tissue(patient, level, shape, place, inner_axes[0])
    fluid = np.zeros_like(canvas)
    bones = np.zeros_like(canvas)
    _paint_fluid(fluid, patient, level, place, inner_axes[0])
    _paint_midline(tissue, fluid, patient, level, place)
    _paint_base(bones, tissue, level, place, inner_axes[0])
    edge = cv2.subtract(brain, cv2.erode(brain, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))))
    tissue[edge > 0] = int(85 - 18 * min(patient.atrophy, 1.5))  # a thin film of fluid below the bone
    dark = cv2.GaussianBlur(fluid, (0, 0), 1.3).astype(np.float32) / 255
    tissue = (tissue * (1 - dark) + FLUID * dark).astype(np.uint8)
    if patient.calcified and 0.25 < level < 0.5:
        _fill(tissue, _ellipse(place((0.0, 0.2)), 3.5 * patient.calcified, 4.5 * patient.calcified), 250)
        for side in (-1, 1):
            _fill(tissue, _ellipse(place((side * 0.27, 0.3)), 2.6 * patient.calcified, 3.8 * patient.calcified), 225)
    tissue[bones > 127] = BONE
    canvas[brain > 127] = tissue[brain > 127]
    brain[bones > 64] = 0
    fluid[brain < 128] = 0
    return cv2.GaussianBlur(canvas, (0, 0), 0.6), brain, fluid


def _paint_tissue(patient: Patient, level: float, shape: Points, place: Any, unit: float) -> Grey:
    """White matter inside a folded grey cortex, with the deep grey nuclei where the level shows them."""
    tissue = np.full((CANVAS, CANVAS), CORTEX, np.uint8)
    t = np.linspace(0, 2 * np.pi, len(shape), endpoint=False)
    folds = sum(a * np.cos((k + 7) * t + p + 3 * level) for k, (a, p) in enumerate(patient.cortex))
    depth = np.interp(level, [0, 0.3, 0.6, 1], [0.6, 0.8, 0.84, 0.76])
    for side in (-1, 1):
        half = shape * (depth + folds)[:, None]
        half = half[half[:, 0] * side > 0.09]
        half = half[np.argsort(np.arctan2(half[:, 1], half[:, 0] * side))]
        _fill(tissue, place(half), int(WHITE + 10 * _between(level, -1, 0.2)))
    seen = _between(level, 0.24, 0.54)
    if seen > 0:
        grey = int(WHITE + seen * (DEEP + 6 - WHITE))
        for side in (-1, 1):
            _fill(tissue, _ellipse(place((side * 0.33, -0.10)), 0.10 * unit, 0.20 * unit, side * -14), grey)
            _fill(tissue, _ellipse(place((side * 0.135, 0.06)), 0.115 * unit, 0.19 * unit, side * 14), grey)
            _fill(tissue, _ellipse(place((side * 0.20, -0.34)), 0.07 * unit, 0.12 * unit, side * 20), grey)
            _fill(
                tissue,
                _ribbon(
                    _scaled(
                        [(side * 0.53, -0.25, 0.03), (side * 0.57, -0.05, 0.035), (side * 0.52, 0.15, 0.03)],
                        place,
                        unit,
                    )
                ),
                grey,
            )
    return cv2.GaussianBlur(tissue, (0, 0), 2.6)


def _paint_fluid(fluid: Grey, patient: Patient, level: float, place: Any, unit: float) -> None:
    """Ventricles, cisterns, Sylvian fissures and cortical sulci, as a mask."""
    spine = np.array(
        [[np.interp(level, VENTRICLE_LEVELS, VENTRICLE[:, i, j]) for j in range(3)] for i in range(VENTRICLE.shape[1])]
    )
    visible = _between(level, 0.24, 0.8)
    for side in (-1, 1):
        if visible > 0:
            horn = spine * [side, 1, patient.ventricles * visible]
            _fill(fluid, _ribbon(_scaled(horn, place, unit)), 255)
        if 0.18 < level < 0.56:
            opening = patient.atrophy * _between(level, 0.18, 0.56)
            for path in (
                [(side * 0.99, -0.22, 0.022), (side * 0.8, -0.2, 0.014), (side * 0.64, -0.1, 0.022)],
                [(side * 0.60, -0.24, 0.008), (side * 0.64, -0.06, 0.018), (side * 0.58, 0.12, 0.006)],
            ):
                _fill(fluid, _ribbon(_scaled(np.array(path) * [1, 1, opening], place, unit)), 230)
    third = _between(level, 0.22, 0.47) * patient.ventricles
    if third > 0:
        path = [(0, -0.1, 0.012 * third), (0, 0.03, 0.026 * third), (0, 0.15, 0.014 * third)]
        _fill(fluid, _ribbon(_scaled(path, place, unit)), 250)
        smile = [
            (-0.2, 0.24, 0.004),
            (-0.09, 0.29, 0.02 * third),
            (0, 0.27, 0.03 * third),
            (0.09, 0.29, 0.02 * third),
            (0.2, 0.24, 0.004),
        ]
        _fill(fluid, _ribbon(_scaled(smile, place, unit)), 220)
    low = _between(level, 0.02, 0.28)
    if low > 0:  # suprasellar star, ambient cisterns, fourth ventricle
        star = [
            (np.sin(a) * r, -0.12 - np.cos(a) * r)
            for a, r in zip(np.arange(10) * np.pi / 5, [0.17, 0.08] * 5, strict=True)
        ]
        _fill(fluid, place(star), int(200 * low))
        for side in (-1, 1):
            path = [
                (side * 0.06, 0.0, 0.01),
                (side * 0.2, 0.06, 0.016),
                (side * 0.23, 0.2, 0.014),
                (side * 0.08, 0.3, 0.012),
            ]
            _fill(fluid, _ribbon(_scaled(path, place, unit * low)), 210)
    fourth = _between(level, -0.2, 0.2) * patient.ventricles
    if fourth > 0:
        path = [(-0.1, 0.45, 0.01), (0, 0.38, 0.045), (0.1, 0.45, 0.01)]
        _fill(fluid, _ribbon(_scaled(path, place, unit * fourth)), 240)
    for angle, length, bend, wide, from_level in patient.sulci:
        if level < from_level:
            continue
        length = length * np.interp(level, [0, 0.5, 0.8, 1], [0.5, 0.8, 1.2, 1.0]) * min(1, (level - from_level) * 8)
        out = np.array([np.sin(angle), -np.cos(angle)])
        across = np.array([np.cos(angle), np.sin(angle)])
        half = 0.014 * wide * patient.atrophy
        path = [
            (*(out * 0.99), half * 1.4),
            (*(out * (0.99 - length * 0.5) + across * bend), half),
            (*(out * (0.99 - length * 0.8) - across * bend * 0.6), half * 0.9),
            (*(out * (0.99 - length) + across * bend * 0.5), half * 0.3),
        ]
        _fill(fluid, _ribbon(_scaled(path, place, unit)), 215)


def _paint_midline(tissue: Grey, fluid: Grey, patient: Patient, level: float, place: Any) -> None:
    """The falx, a fine bright line in a dark fissure: whole at the convexity, front and back below it."""
    front = np.interp(level, [0.1, 0.25, 0.6, 0.75, 0.8], [-0.6, -0.55, -0.45, -0.3, 0.05])
    back = np.interp(level, [0.2, 0.3, 0.6, 0.75, 0.8], [0.95, 0.62, 0.5, 0.35, 0.0])
    sway = 0.02 * np.sin(patient.wobble[1, 1])
    for start, end in ((-1.0, front), (1.0, back)):
        line = place([(sway * np.sin(3 * v), v) for v in np.linspace(start, end, 7)])
        fixed = np.round(line * 16).astype(np.int32)
        cv2.polylines(fluid, [fixed], False, 130, 4 if patient.atrophy > 1 else 3, cv2.LINE_AA, 4)
        cv2.polylines(fluid, [fixed], False, 0, 1, cv2.LINE_AA, 4)
        cv2.polylines(tissue, [fixed], False, 185, 2, cv2.LINE_AA, 4)


def _paint_base(bones: Grey, tissue: Grey, level: float, place: Any, unit: float) -> None:
    """Petrous ridges, sphenoid wings and air cells, which part the brain at the lowest levels."""
    strength = np.clip((0.23 - level) / 0.2, 0, 1)
    if strength <= 0:
        return
    for side in (-1, 1):
        petrous = [
            (side * 1.02, 0.26, 0.16),
            (side * 0.72, 0.18, 0.10),
            (side * 0.42, 0.04, 0.055),
            (side * 0.16, -0.06, 0.03),
        ]
        wing = [
            (side * 1.02, -0.46, 0.10),
            (side * 0.62, -0.42, 0.04),
            (side * 0.30, -0.32, 0.03),
            (side * 0.12, -0.2, 0.03),
        ]
        for path in (petrous, wing):
            _fill(bones, _ribbon(_scaled(np.array(path) * [1, 1, strength], place, unit)), 255)
        for i in range(9):  # mastoid air cells
            spot = place((side * (0.84 + 0.035 * (i % 3)), 0.19 + 0.035 * (i // 3)))
            _fill(bones, _ellipse(spot, 2.6 * strength, 2.0 * strength), 0)
            _fill(tissue, _ellipse(spot, 2.6 * strength, 2.0 * strength), 30)
    _fill(bones, _ellipse(place((0, -0.17)), 0.13 * unit * strength, 0.05 * unit * strength), 255)  # sella


def _add_lesion(
    image: npt.NDArray[np.float32], brain: Grey, fluid: Grey, density: str, rng: np.random.Generator, scale: float
) -> tuple[npt.NDArray[np.float32], Grey, bool]:
    """Add one irregular lesion; returns the image (float32), the lesion's mask and whether a dark rim surrounds it."""
    height, width = brain.shape
    wide = cv2.dilate(fluid, np.ones((5, 5), np.uint8))
    solid = np.where((brain > 127) & (cv2.GaussianBlur(wide, (0, 0), 6) < 150), 255, 0).astype(np.uint8)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    radius = min(float(np.exp(rng.uniform(np.log(9), np.log(46)))) * scale, 1.6 * float(depth.max()))
    ys, xs = np.nonzero(depth[::3, ::3] >= min(radius * 0.6, 0.9 * float(depth.max())))
    ys, xs = ys * 3, xs * 3
    cells = (ys * 5 // height) * 5 + xs * 5 // width  # the words' 5x5 grid: each cell that can hold it is as likely
    choice = rng.choice(np.nonzero(cells == rng.choice(np.unique(cells)))[0])
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    outline = 1 + sum(rng.normal(0, 0.22 / (k + 1)) * np.cos((k + 2) * t + rng.uniform(0, 6.3)) for k in range(5))
    stretch, turn = np.exp(rng.normal(0, 0.25)), rng.uniform(0, np.pi)
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
    soft = cv2.GaussianBlur(lesion, (0, 0), float(rng.uniform(1.0, 2.2))).astype(np.float32) / 255
    if density == "isodense":
        target = 108 + float(rng.choice([-6, 6]))
    else:
        target = rng.uniform(168, 212) if density == "hyperdense" else rng.uniform(42, 64)
    patches = cv2.resize(rng.standard_normal((12, 12), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    cover = soft * (0.95 if density != "isodense" else 0.85)
    return image * (1 - cover) + (target + 7 * patches) * cover, lesion, bool(rim)


def _between(level: float, low: float, high: float) -> float:
    """0 outside low..high, 1 well inside, smooth in between."""
    return float(np.clip(min(level - low, high - level) / 0.07, 0, 1))


def _scaled(path: Any, place: Any, unit: float) -> Points:
    """A path of (u, v, half-width) in head units, to canvas px."""
    points = np.asarray(path, float)
    return np.column_stack([place(points[:, :2]), points[:, 2] * unit])


def _ribbon(path: Points) -> Points:
    """The outline of a smooth band along (x, y, half-width), by three rounds of corner cutting."""
    for _ in range(3):
        cut = np.stack([0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]], axis=1)
        path = np.vstack([path[:1], cut.reshape(-1, 3), path[-1:]])
    along = np.gradient(path[:, :2], axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.column_stack([-along[:, 1], along[:, 0]]) * path[:, 2:]
    return np.vstack([path[:, :2] + side, (path[:, :2] - side)[::-1]])


def _ellipse(centre: Points, half_width: float, half_height: float, degrees: float = 0) -> Points:
    t, turn = np.linspace(0, 2 * np.pi, 24, endpoint=False), np.deg2rad(degrees)
    points = np.column_stack([half_width * np.cos(t), half_height * np.sin(t)])
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + centre


def _fill(layer: Grey, outline: Points, value: int) -> None:
    """Fill a polygon given in px, anti-aliased, to 1/16 px."""
    cv2.fillPoly(layer, [np.round(outline * 16).astype(np.int32)], value, cv2.LINE_AA, 4)
