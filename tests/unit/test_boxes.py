"""Boxes through the letterbox and back, and Florence-2's quantisation."""

from hypothesis import given
from hypothesis import strategies as st

from radtune.data.boxes import Box, Letterbox, from_florence
from radtune.images.enhance import letterbox

SIDES = st.integers(16, 3000)


def fit(width: int, height: int, size: int) -> Letterbox:
    """The letterbox as enhance makes it for an image of this shape."""
    import numpy as np

    return Letterbox(**letterbox(np.zeros((height, width), np.uint8), size)[1])


@given(SIDES, SIDES, st.sampled_from([224, 448, 512]), st.tuples(*[st.floats(0, 1)] * 4))
def test_through_the_letterbox_and_back(width: int, height: int, size: int, at: tuple[float, ...]) -> None:
    place = fit(width, height, size)
    box = Box(at[0] * width, at[1] * height, at[2] * width, at[3] * height)
    moved = box.scaled(place)
    assert all(0 <= v <= size for v in moved)
    assert all(abs(a - b) < 0.5 for a, b in zip(moved.unscaled(place), box, strict=True))
    assert max(place.new_width, place.new_height) == size
    assert place.left * 2 + place.new_width in (size, size - 1)


@given(SIDES, SIDES, st.tuples(*[st.integers(0, 999)] * 4))
def test_florence_tokens_survive_pixels(width: int, height: int, loc: tuple[int, ...]) -> None:
    assert Box.from_loc(list(loc), width, height).to_loc(width, height) == list(loc)


def test_a_hand_worked_box() -> None:
    # 512x256 into 448: scale 0.875, 224 rows of picture, 112 of black above
    place = fit(512, 256, 448)
    assert place == Letterbox(512, 256, 448, 448, 224, 0, 112)
    assert Box(0, 0, 512, 256).scaled(place) == Box(0, 112, 448, 336)
    assert Box(256, 128, 512, 256).to_loc(512, 256) == [500, 500, 999, 999]


def test_tokens_of_another_number_are_no_box() -> None:
    assert from_florence("a <loc_1><loc_2><loc_3><loc_4>") == ("a", [1, 2, 3, 4])
    assert from_florence("a <loc_1><loc_2>")[1] is None
    assert from_florence("a")[1] is None
