"""CLAHE as clahe.c computes it, against OpenCV's."""

import contextlib
import shlex
import subprocess
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.images import clahe, read
from radtune.images.read import Pixels
from radtune.reasons import Unusable

SIDES = st.integers(16, 300)


def drawn(height: int, width: int, kind: str, seed: int) -> Pixels:
    """A grey of noise, of smooth shapes on black as a slice has them, of two levels, or of one."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height, width), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return {
        "noise": noise,
        "smooth": np.where(smooth > 128, smooth, 0).astype(np.uint8),
        "two": noise // 128 * 255,
        "one": np.full_like(noise, noise[0, 0]),
    }[kind]


def test_it_is_compiled_where_a_compiler_is(tmp_path: Path) -> None:
    command = shlex.split(f"{sysconfig.get_config_var('CC')} -shared -fPIC -xc - -o '{tmp_path}/x.so'")
    source = b"#include <stdint.h>\n"
    try:
        works = subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        works = False
    assert clahe.COMPILED or not works


compiled = pytest.mark.skipif(clahe.COMPILED is None, reason="no C compiler was there when .venv was set up")


@compiled
@given(
    SIDES,
    SIDES,
    st.sampled_from(["noise", "smooth", "two", "one"]),
    st.integers(0, 99),
    st.sampled_from([0.001, 0.5, 1.0, 2.0, 3.7, 40.0, 255.0, 300.0]),
    st.integers(1, 20),
)
def test_every_pixel_is_opencvs(height: int, width: int, kind: str, seed: int, clip_limit: float, tiles: int) -> None:
    grey = drawn(height, width, kind, seed)
    expected = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(grey)
    assert (clahe.clahe(grey, clip_limit, tiles) == expected).all()


@compiled
def test_a_part_of_a_picture_is_read_where_it_lies() -> None:
    grey = drawn(200, 300, "smooth", 0)
    part = grey[20:180:2, 30:270]
    expected = cv2.createCLAHE(2.0, (8, 8)).apply(part)
    assert (clahe.clahe(part, 2.0, 8) == expected).all()


def as_opencv(greys: list[Pixels]) -> bool:
    theirs = cv2.createCLAHE(2.0, (8, 8))
    return len(greys) > 5 and all((clahe.clahe(grey, 2.0, 8) == theirs.apply(grey)).all() for grey in greys)


@compiled
def test_phantoms_become_what_opencv_makes_of_them(phantoms: Path) -> None:
    images = pq.read_table(next(phantoms.glob("train*.parquet")), columns=["image"])["image"].to_pylist()
    datas = [image["bytes"] for image in images if image and (image["bytes"] or b"").startswith(b"\xff\xd8")]
    greys = []
    for data in datas[:40]:
        with contextlib.suppress(Unusable):
            greys.append(read.to_grey(read.decode(data).pixels))
    assert as_opencv(greys)


@compiled
def test_real_slices_become_what_opencv_makes_of_them(real_data: Path) -> None:
    paths = sorted((real_data / "head_ct_series" / "png_window_derived").glob("*.png"))
    assert as_opencv([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])


def test_without_a_compiler_opencvs_own_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = drawn(200, 300, "smooth", 0)
    with_it = clahe.clahe(grey, 2.0, 8)
    monkeypatch.setattr(clahe, "COMPILED", None)
    assert (clahe.clahe(grey, 2.0, 8) == with_it).all()
    assert (with_it != grey).any()
