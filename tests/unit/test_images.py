"""Image bytes to the picture that the model sees."""

import contextlib
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import EpsImagePlugin, Image, ImageDraw

from radtune.data.groups import SURE
from radtune.images import overlay, read
from radtune.images.enhance import enhance, letterbox
from radtune.images.scan import likeness, scan, thumbnail
from radtune.reasons import Reason, Unusable


def encode(image: Image.Image, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": 92} if format == "JPEG" else {}))
    return buffer.getvalue()


def textured(width: int = 300, height: int = 200) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 160, (height // 10, width // 10), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "LA", "1"])
def test_every_mode_becomes_the_same_picture(mode: str) -> None:
    image = textured().convert(mode)
    pixels, found = read.decode(encode(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert found == mode
    assert pixels.shape == ((200, 300) if mode in ("L", "1") else (200, 300, 3))
    expected = np.asarray(image.convert("L" if pixels.ndim == 2 else "RGB")).astype(int)
    assert np.abs(pixels.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_fast_way_through_jpeg_gives_pillows_pixels(mode: str) -> None:
    data = encode(textured(301, 203).convert(mode), "JPEG")
    pixels = read.decode(data).pixels.astype(int)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L" if mode == "L" else "RGB")).astype(int)
    assert np.abs(pixels - expected).max() <= 2


def test_an_orientation_tag_moves_no_pixel() -> None:
    """Boxes belong to the pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    textured().convert("RGB").save(buffer, "JPEG", exif=exif)
    assert read.decode(buffer.getvalue()).pixels.shape == (200, 300, 3)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 4095, 300 * 200).reshape(200, 300).astype(np.uint16)
    grey = read.decode(encode(Image.fromarray(ramp))).pixels
    assert (grey.min(), grey.max()) == (0, 255)
    assert len(np.unique(grey)) == 256


@pytest.mark.parametrize("mode", ["I", "F"])
def test_deep_greys_are_scaled_by_the_range_of_the_whole_picture(mode: str) -> None:
    ramp = np.linspace(-1000, 70000, 900 * 1300).reshape(900, 1300).astype(np.int32 if mode == "I" else np.float32)
    ramp[-1, -1] = 70001
    grey = read.decode(encode(Image.fromarray(ramp), "TIFF")).pixels
    expected = ((ramp.astype(float) - ramp.min()) * (255 / (float(ramp.max()) - float(ramp.min())))).round()
    assert (grey == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "L"])
def test_a_picture_of_many_strips_is_that_of_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(textured().convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    whole = read.decode(data).pixels
    monkeypatch.setattr(read, "_STRIP", 7000)
    assert (read.decode(data).pixels == whole).all()


SCAN = """
import sys
from pathlib import Path
from radtune.images.scan import scan
box = {"burned_in_box": "inpaint"}
folder = Path(sys.argv[1])
recipes = {str(folder / name): {"size": 448, "clip_limit": 2.0} | more for name, more in (("a", {}), ("b", box))}
scan(folder / "one.parquet", folder / "images.parquet", folder / "scan.parquet", recipes=recipes)
print(next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM")))  # KiB
"""


@pytest.mark.parametrize("kind", ["JPEG", "JPEG progressive", "RGBA", "16 bits"])
def test_the_largest_accepted_image_fits_into_what_the_job_asks_for(tmp_path: Path, kind: str) -> None:
    side = int(read.MAX_PIXELS**0.5)
    picture = cv2.resize(np.asarray(textured(64, 64)), (side, side))
    if kind == "16 bits":
        image = Image.fromarray(picture.astype(np.uint16) << 6)
    else:
        image = Image.fromarray(np.repeat(picture[..., None], 4 if kind == "RGBA" else 3, axis=2))
        ImageDraw.Draw(image).rectangle((99, 99, side // 2, side // 3), outline=(20, 240, 20, 255), width=3)
    buffer, jpeg = io.BytesIO(), kind.startswith("JPEG")
    options = {"progressive": "progressive" in kind, "subsampling": 0} if jpeg else {"compress_level": 1}
    image.save(buffer, "JPEG" if jpeg else "PNG", **options)
    pq.write_table(pa.table({"image": [{"bytes": buffer.getvalue(), "path": None}]}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"shard": ["one"], "row": [0], "image_sha256": ["a"]}), tmp_path / "images.parquet")
    done = subprocess.run([sys.executable, "-c", SCAN, tmp_path], capture_output=True, text=True, check=True)
    (row,) = pq.read_table(tmp_path / "scan.parquet").to_pylist()
    assert (row["reason"], row["width"], bool(row["box"])) == (None, side, kind != "16 bits")
    rule = (Path(__file__).parents[2] / "rules" / "prepare.smk").read_text().partition("rule scan_shard")[2]
    asked = int(re.search(r"mem_mb=memory\((\d+)\)", rule)[1])
    print(f"{kind}: {int(done.stdout) // 1024} MiB of {asked} MB")
    assert int(done.stdout) * 1024 < asked * 10**6


def test_no_format_that_starts_a_program_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives PostScript to Ghostscript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # looked for once a process
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(Unusable) as caught:
        read.decode(data)
    assert caught.value.reason == Reason.IMAGE_UNREADABLE
    assert not (tmp_path / "started").exists()
    with contextlib.suppress(Exception):
        Image.open(io.BytesIO(data)).load()
    assert (tmp_path / "started").exists()  # so it would have been


def claiming(size: tuple[int, int]) -> bytes:
    """A JPEG whose header claims another size."""
    data = bytearray(encode(textured(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = size[1].to_bytes(2) + size[0].to_bytes(2)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.IMAGE_MISSING),
        (claiming((65500, 65500)), Reason.IMAGE_TOO_LARGE),
        (claiming((300, 8)), Reason.IMAGE_TOO_SMALL),
        (encode(textured(), "JPEG")[:20], Reason.IMAGE_UNREADABLE),
        (b"GIF89a but no", Reason.IMAGE_UNREADABLE),
        (encode(textured(), "JPEG")[:2000], Reason.IMAGE_UNREADABLE),
        (encode(Image.new("L", (1, 1))), Reason.IMAGE_TOO_SMALL),
        (encode(Image.new("1", (20000, 20000))), Reason.IMAGE_TOO_LARGE),
    ],
)
def test_a_picture_is_read_in_full_or_not_at_all(data: bytes, reason: Reason) -> None:
    with pytest.raises(Unusable) as caught:
        read.decode(data)
    assert caught.value.reason == reason


def test_the_letterbox_keeps_the_aspect_and_pads_with_black() -> None:
    picture, place = letterbox(np.full((100, 400), 200, np.uint8), 224)
    assert (place["new_width"], place["new_height"], place["left"], place["top"]) == (224, 56, 0, 84)
    assert (picture[84:140] == 200).all()
    assert picture[:84].max() == picture[140:].max() == 0


def boxed(box: tuple[int, int, int, int], quality: int = 92) -> Image.Image:
    image = textured(512, 384).convert("RGB")
    ImageDraw.Draw(image).rectangle(box, outline=(20, 240, 20), width=3)
    return Image.open(io.BytesIO(encode(image, "JPEG"))) if quality else image


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, Path]:
    """A shard of four rows, three images, one of them broken; and who owns what."""
    good, broken = encode(boxed((100, 120, 200, 220)), "JPEG"), encode(textured(), "JPEG")[:1500]
    rows = [{"image": {"bytes": data, "path": None}} for data in (good, good, broken, encode(textured(64, 128)))]
    file, images = tmp_path / "s.parquet", tmp_path / "images.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)
    places = {"row": [0, 2, 3, 0], "image_sha256": list("abcd"), "shard": ["s", "s", "s", "t"]}
    pq.write_table(pa.table(places), images)
    return file, images


def test_the_enhanced_image_is_what_is_saved(shard: tuple[Path, Path], tmp_path: Path) -> None:
    out, geometry = tmp_path / "out", tmp_path / "geometry.parquet"
    enhance(*shard, out, geometry, size=224, clip_limit=2.0, quality=95)
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "c.jpg"]
    saved = cv2.imread(str(out / "a.jpg"), cv2.IMREAD_UNCHANGED)
    grey = cv2.cvtColor(np.asarray(boxed((100, 120, 200, 220)).convert("RGB")), cv2.COLOR_RGB2GRAY)
    expected = letterbox(cv2.createCLAHE(2.0, (8, 8)).apply(grey), 224)[0].astype(int)
    original = letterbox(grey, 224)[0].astype(int)
    assert saved.shape == (224, 224)
    assert np.abs(saved - expected).mean() < 1.5  # JPEG
    assert np.abs(saved - original).mean() > 4 * np.abs(saved - expected).mean()
    rows = pq.read_table(geometry).to_pylist()
    assert [(row["image_sha256"], row["width"], row["height"], row["top"]) for row in rows] == [
        ("a", 512, 384, 28),
        ("c", 64, 128, 0),
    ]


def test_outputs_are_the_same_bytes_each_time(shard: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        enhance(*shard, tmp_path / name, tmp_path / f"{name}.parquet", size=224, clip_limit=2.0)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_png_is_lossless_and_no_clahe_means_none(shard: tuple[Path, Path], tmp_path: Path) -> None:
    enhance(*shard, tmp_path / "out", tmp_path / "g.parquet", size=128, format="png")
    saved = np.asarray(Image.open(tmp_path / "out" / "c.png"))
    assert (saved == letterbox(np.asarray(textured(64, 128)), 128)[0]).all()


def test_a_scan_says_what_each_image_is(shard: tuple[Path, Path], tmp_path: Path) -> None:
    scan(*shard, tmp_path / "scan.parquet")
    a, b, c = pq.read_table(tmp_path / "scan.parquet").to_pylist()
    assert (a["width"], a["height"], a["mode"], a["reason"]) == (512, 384, "RGB", None)
    assert max(abs(x - y) for x, y in zip(a["box"], (100, 120, 200, 220), strict=True)) <= 1
    assert b["reason"] == "image_unreadable"
    assert (c["mode"], c["box"]) == ("L", None)


def distance(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def test_the_rectangle_makes_no_other_picture() -> None:
    """One slice with two boxes is alike, another slice is not."""
    pixels = [np.asarray(boxed(box)) for box in ((100, 120, 200, 220), (300, 60, 420, 200))]
    hashes = [likeness(thumbnail(read.to_grey(p), overlay.find_box(p))) for p in pixels]
    assert len(hashes[0]) == 32
    assert distance(*hashes) <= 14
    assert distance(hashes[0], likeness(thumbnail(read.to_grey(pixels[0])[::-1], None))) > 60


RECIPES = {
    "plain": {"size": 128, "clip_limit": 0, "format": "png"},
    "unboxed": {"size": 224, "clip_limit": 2.0, "burned_in_box": "inpaint"},
}


def test_what_the_scan_made_ahead_is_what_enhance_makes(shard: tuple[Path, Path], tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    for old in ("plain/s/old.png", "other/s/old.png", "other/another/old.png"):
        (ahead / old).parent.mkdir(parents=True)
        (ahead / old).touch()
    scan(*shard, tmp_path / "scan.parquet", recipes={str(ahead / name): recipe for name, recipe in RECIPES.items()})
    for name, recipe in RECIPES.items():
        own, made = tmp_path / f"own_{name}", ahead / name / "s"
        enhance(*shard, own, own.with_suffix(".parquet"), **recipe)
        assert {p.name: p.read_bytes() for p in own.iterdir()} == {p.name: p.read_bytes() for p in made.iterdir()}
        assert pq.read_table(own.with_suffix(".parquet")) == pq.read_table(made.with_suffix(".parquet"))
    assert not (ahead / "other" / "s").exists()  # it may be of images that this shard no longer owns
    assert (ahead / "other" / "another").exists()


def test_one_real_slice_with_two_boxes_is_recognised_and_other_patients_are_not(real_data: Path) -> None:
    """Distances on which groups.SURE and the default of split.near_duplicate_bits rest."""
    slices = sorted((real_data / "head_ct_series" / "png_window_derived").glob("*.png"))[8:24]

    def seen(path: Path, box: tuple[int, int, int, int], turn: float = 0, left_in: bool = False) -> bytes:
        image = Image.open(path).convert("L").rotate(turn, Image.Resampling.BILINEAR).convert("RGB")
        ImageDraw.Draw(image).rectangle(box, outline=(20, 240, 20), width=3)
        pixels = read.decode(encode(image, "JPEG")).pixels
        return likeness(thumbnail(read.to_grey(pixels), None if left_in else overlay.find_box(pixels)))

    here, there = (120, 140, 200, 260), (300, 220, 390, 310)
    one, other, turned = ([seen(path, *way) for path in slices] for way in ((here,), (there,), (here, 12)))
    same = [distance(a, b) for a, b in zip(one, other, strict=True)]
    assert max(same) <= SURE
    assert sum(same) < sum(distance(seen(path, here, 0, True), seen(path, there, 0, True)) for path in slices)
    neighbours = [distance(a, b) for a, b in itertools.pairwise(one)]
    assert sum(bits <= 31 for bits in neighbours) >= 3
    others = [distance(a, b) for a, b in itertools.product(one, turned)]
    assert sum(bits <= 31 for bits in others) <= 0.01 * len(others)
