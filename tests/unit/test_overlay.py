"""The burned-in rectangle: found where it is, on any picture, and taken out so that little of it is left."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from radtune.images import enhance, inpaint, overlay, read
from radtune.images.read import Pixels

sys.path.append(str(Path(__file__).parents[2] / "bench"))
from residue import GREEN, Box, band, burn, detectable, jpeg, residue


def scene(width: int = 512, height: int = 512, seed: int = 0) -> Pixels:
    """Grey tissue with noise, a black and a bright part."""
    rng = np.random.default_rng(seed)
    grey = cv2.resize(rng.uniform(40, 160, (6, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    grey += cv2.GaussianBlur(rng.normal(0, 12, (height, width)).astype(np.float32), (0, 0), 0.7)
    grey[:, : width // 4], grey[:, -width // 4 :] = 0, 255
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def natural(seed: int) -> Pixels:
    """Colour at every scale, much of it green."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 150 / k**0.5, (k, k, 3)), (500, 400), interpolation=cv2.INTER_CUBIC)
        for k in (3, 6, 12, 25, 50)
    ]
    return np.clip(sum(layers) + 120, 0, 255).astype(np.uint8)


def off(found: overlay.Found | None, box: Box) -> int:
    assert found is not None
    return max(abs(a - b) for a, b in zip(found.box, box, strict=True))


def overlap(a: Box, b: Box) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1 for i in (0, 1))
    both = max(0, width) * max(0, height)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return both / (sum(areas) - both)


@pytest.mark.parametrize("size", [(64, 48), (100, 333), (512, 512), (1000, 700), (4000, 3000)])
@pytest.mark.parametrize(("quality", "subsampling"), [(50, 2), (50, 0), (75, 2), (95, 0)])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_clean_rectangle_is_found_and_sure(size: tuple[int, int], quality: int, subsampling: int, width: int) -> None:
    w, h = size
    box = (w // 5, h // 4, w // 5 + w // 2, h - h // 4)  # over air, tissue and bone
    found = overlay.find_box(jpeg(burn(scene(w, h), box, width=width), quality, subsampling))
    coarse = quality == 50 and subsampling == 2 and width == 2  # its colour is of two pixels and few levels
    assert off(found, box) <= (2 if coarse else 1)
    assert found.confidence > (0.95 if width == 3 or (quality > 50 and min(size) > 64) else 0.75)


@pytest.mark.parametrize("colour", [(0, 255, 0), (20, 240, 20), (30, 200, 40)])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("box", [(0, 0, 120, 90), (400, 300, 511, 511), (300, 200, 307, 207), (150, 200, 390, 212)])
def test_touching_small_and_flat_ones_in_other_greens(colour: tuple[int, int, int], width: int, box: Box) -> None:
    assert off(overlay.find_box(jpeg(burn(scene(), box, colour, width), 75)), box) <= 1


@pytest.mark.parametrize("box", [(-30, 100, 120, 250), (200, -9, 300, 60), (440, 100, 600, 220), (400, 420, 700, 700)])
def test_what_leaves_the_picture_is_cut_at_its_border_and_less_sure(box: Box) -> None:
    found = overlay.find_box(jpeg(burn(scene(), box)))
    assert off(found, (max(0, box[0]), max(0, box[1]), min(511, box[2]), min(511, box[3]))) <= 1
    assert 0.6 <= found.confidence < 0.95


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 2, 4])
@pytest.mark.parametrize("quality", [75, 92])
def test_a_line_blurred_by_rescaling_lies_where_it_was(scale: float, quality: int) -> None:
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pixels = jpeg(
        cv2.resize(burn(scene(), (100, 120, 300, 220)), None, fx=scale, fy=scale, interpolation=method), quality
    )
    found = overlay.find_box(pixels)
    assert found is not None
    assert found.confidence > 0.95
    truth = [100 * scale, 120 * scale, 301 * scale - 1, 221 * scale - 1]
    assert np.abs(np.subtract(found.box, truth)).max() <= 1.5 * max(1, scale / 2)


def line(start: tuple[int, int], stop: tuple[int, int]) -> Callable[[Pixels], object]:
    return lambda pixels: cv2.line(pixels, start, stop, GREEN, 3)


OTHER: dict[str, list[Callable[[Pixels], object]]] = {
    "line": [line((0, 200), (511, 200))],
    "crosshair": [line((0, 200), (511, 200)), line((100, 0), (100, 511))],
    "angle": [line((50, 200), (300, 200)), line((50, 200), (50, 300))],
    "diagonal": [line((50, 200), (300, 400))],
    "text": [lambda pixels: cv2.putText(pixels, "PATIENT 1234", (40, 60), 0, 1, GREEN, 2)],
    "circle": [lambda pixels: cv2.circle(pixels, (250, 250), 50, GREEN, 3)],
    "filled": [lambda pixels: cv2.rectangle(pixels, (100, 100), (180, 150), GREEN, -1)],
    "specks": [lambda pixels: [cv2.rectangle(pixels, (x, 90), (x + 4, 93), GREEN, -1) for x in (90, 200, 333)]],
}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("quality", [50, 92])
def test_other_green_is_no_rectangle_and_one_beside_it_is_found(name: str, quality: int) -> None:
    pixels, box = scene(), (300, 300, 420, 430)
    boxed = burn(pixels, box)
    for stroke in OTHER[name]:
        stroke(pixels)
        stroke(boxed)
    assert overlay.find_box(jpeg(pixels, quality)) is None
    if name not in ("filled", "crosshair"):  # much more green than the rectangle's: too doubtful
        assert off(overlay.find_box(jpeg(boxed, quality)), box) <= 1


def test_pictures_without_a_rectangle_have_none() -> None:
    rng = np.random.default_rng(0)
    pictures = [scene(), np.zeros((32, 32, 3), np.uint8), rng.integers(0, 256, (300, 400, 3), np.uint8)]
    pictures += [natural(seed) for seed in range(20)]
    pictures += [rng.integers(0, 256, (*rng.integers(16, 60, 2), 3), np.uint8) for _ in range(30)]
    assert [overlay.find_box(picture) for picture in pictures] == [None] * len(pictures)
    assert [overlay.find_box(jpeg(picture)) for picture in pictures] == [None] * len(pictures)


def test_confidence_falls_with_what_is_missing_or_doubtful() -> None:
    clean, box = scene(), (150, 120, 250, 220)
    boxed = burn(clean, box)
    confidences = []
    for gap in (0, 16, 30):
        broken = boxed.copy()
        broken[200 - gap // 2 : 200 + gap // 2] = clean[200 - gap // 2 : 200 + gap // 2]
        broken[:, 200 - gap // 2 : 200 + gap // 2] = clean[:, 200 - gap // 2 : 200 + gap // 2]
        found = overlay.find_box(jpeg(broken))
        assert off(found, box) <= 1
        confidences.append(found.confidence)
    assert confidences[0] > 0.99
    assert confidences[0] - 0.1 > confidences[1] > confidences[2] + 0.08
    boxed[120:221, 248:251] = clean[120:221, 248:251]  # a whole side
    assert overlay.find_box(jpeg(boxed)) is None
    two = overlay.find_box(jpeg(burn(burn(clean, box), (300, 300, 360, 380))))
    assert off(two, box) <= 1
    assert two.confidence < 0.85


def test_phantoms_boxes_are_recovered(phantoms: Path) -> None:
    recovered(phantoms, ("RGB", "RGBA"))


def test_real_slices_boxes_are_recovered(real_data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, real_data / "make_parquet.py", tmp_path / "real", "--images", "60"], check=True)
    recovered(tmp_path / "real", (None,))


def recovered(folder: Path, modes: tuple[str | None, ...]) -> None:
    """Every box within 1 px on each side, nearly all exact, and a mean IoU over 0.95."""
    rows = [
        row for file in folder.glob("*.parquet") for row in pq.read_table(file, columns=["id", "image"]).to_pylist()
    ]
    images = {row["id"]: row["image"] for row in rows}
    truth = [json.loads(text) for text in (folder / "truth.jsonl").read_text().splitlines()]
    truth = [each for each in truth if each["box"] and not each["defect"] and each.get("mode") in modes]
    assert len(truth) >= 15
    founds = [overlay.find_box(read.decode(images[each["id"]]["bytes"]).pixels) for each in truth]
    boxes = [tuple(each["box"]) for each in truth]
    assert max(off(found, box) for found, box in zip(founds, boxes, strict=True)) <= 1
    overlaps = [overlap(found.box, box) for found, box in zip(founds, boxes, strict=True) if found]
    print(f"{len(overlaps)} boxes, mean IoU {np.mean(overlaps):.4f}, exact {np.mean(np.array(overlaps) == 1):.2f}")
    assert np.mean(overlaps) > 0.95
    assert np.mean(np.array(overlaps) == 1) > 0.98


# --- taking it out


@pytest.mark.parametrize(
    "box",
    [
        (200, 200, 300, 260),
        (0, 0, 60, 80),
        (440, 400, 511, 511),
        (-20, 300, 90, 400),
        (250, 250, 257, 257),
        (200, 300, 350, 316),
    ],
)
@pytest.mark.parametrize("width", [1, 3, 5])
def test_only_the_band_changes_and_nothing_is_found_after(box: Box, width: int) -> None:
    drawn = jpeg(burn(scene(), box, width=width))
    found = overlay.find_box(drawn)
    assert found is not None
    mended = inpaint.inpaint(drawn, found.box)
    assert overlay.find_box(mended) is None
    mask = band(drawn.shape, (box[0], box[1], box[2], box[3]), width + 2 + inpaint.MARGIN)  # wide enough for 5 px lines
    assert (mended == drawn)[~mask].all()
    line_ = band(drawn.shape, box, 0)
    assert (mended != drawn)[line_].any()
    flat = mended[line_]
    assert (flat.max(axis=1) - flat.min(axis=1)).max() <= 40  # no green is left


def rendered(pixels: Pixels) -> Pixels:
    """What the inpaint recipe makes of `pixels`, at its own size and without CLAHE."""
    recipe = enhance.Recipe(512, format="png", burned_in_box="inpaint")
    data, _ = enhance.render(pixels, read.to_grey(pixels), overlay.find_box(pixels), recipe)
    return read.decode(data).pixels


def test_every_rectangle_is_taken_out() -> None:
    clean, boxes = scene(), [(150, 120, 250, 220), (300, 300, 360, 380), (200, 380, 280, 440)]
    drawn = clean
    for count, box in enumerate(boxes, start=1):
        drawn = burn(drawn, box)
        left = rendered(jpeg(drawn)).astype(float) - read.to_grey(jpeg(clean))
        for each in boxes[:count]:
            assert np.abs(left[band(left.shape, each, 0)]).mean() < 20, (count, each)  # a frame left in has 60 and more


def test_what_only_may_be_a_rectangle_is_taken_out_too_and_costs_its_lines_alone() -> None:
    """A letter, here. A frame left in would give the answer away."""
    for text, size in (("D", 2.0), ("0", 1.2)):
        letter = scene()
        cv2.putText(letter, text, (300, 200), 0, size, GREEN, 2)
        pixels = jpeg(letter)
        found = overlay.find_box(pixels)
        assert found is not None
        assert found.confidence < 0.8
        x1, y1, x2, y2 = found.box
        y, x = np.nonzero(rendered(pixels) != read.to_grey(pixels))
        outside = np.max([y1 - y, y - y2, x1 - x, x - x2], axis=0)  # px from the outer edge; inside it below 0
        assert outside.size > 0
        assert outside.max() <= inpaint.MARGIN
        assert outside.min() >= -12


def test_little_is_left_of_the_frame_on_phantoms() -> None:
    plain, enhanced, left_in = residue(None)
    assert max(plain, enhanced) < 0.75
    assert left_in > 2 * plain


def test_little_is_left_of_the_frame_on_real_slices(real_data: Path) -> None:
    plain, enhanced, left_in = residue(real_data)
    assert max(plain, enhanced) < 0.65
    assert left_in > 2 * plain


def test_a_trained_detector_hardly_finds_the_frame_on_phantoms() -> None:
    mended, left_in = detectable(None, 80)
    assert left_in > 0.95
    assert mended < 0.8  # better than chance: what varied across the line is lost, so its step is too small


def test_a_trained_detector_hardly_finds_the_frame_on_real_slices(real_data: Path) -> None:
    mended, left_in = detectable(real_data, 120)
    assert left_in > 0.95
    assert mended < 0.8
