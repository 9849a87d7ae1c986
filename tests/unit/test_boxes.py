"""Boxes know their frame, survive the letterbox and Florence-2's quantisation, and are placed by what pixels show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.data.boxes import (
    from_florence,
    from_lists,
    from_value,
    grounding,
    percent_of,
    settle,
    tolerance,
    words_of,
)
from radtune.frames import Box, Frame, Letterbox, iou
from radtune.images.enhance import letterbox

SIDES = st.integers(16, 3000)
SIZES = st.sampled_from([224, 448, 512])
PAIRS = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[1] - pair[0] > 0.001)
STEPS = st.lists(st.integers(0, 999), min_size=2, max_size=2, unique=True).map(sorted)


def fit(width: int, height: int, size: int) -> Letterbox:
    """The letterbox as enhance makes it for an image of this shape."""
    return Letterbox(**letterbox(np.zeros((height, width), np.uint8), size)[1])


@given(SIDES, SIDES, SIZES, PAIRS, PAIRS)
def test_through_the_letterbox_and_back(
    width: int, height: int, size: int, across: tuple[float, float], down: tuple[float, float]
) -> None:
    place = fit(width, height, size)
    box = Box(across[0] * width, down[0] * height, across[1] * width, down[1] * height)
    moved = box.scaled(place)
    assert all(0 <= v <= size for v in moved.edges)
    back = moved.to_thousandths(place).from_thousandths(place).unscaled(place)
    assert back.frame == Frame.ORIGINAL
    assert all(abs(a - b) < 0.5 for a, b in zip(back.edges, box.edges, strict=True))
    assert max(place.new_width, place.new_height) == size
    assert place.left * 2 + place.new_width in (size, size - 1)


@pytest.mark.parametrize("shape", [(512, 512), (1000, 500), (333, 700), (300, 200), (2048, 1537), (225, 224)])
@pytest.mark.parametrize("size", [224, 448])
def test_a_drawn_rectangle_lies_where_its_box_is_moved_to(shape: tuple[int, int], size: int) -> None:
    """Measured on the letterboxed pixels: each edge by how much light lies on the lines that cross it."""
    width, height = shape
    for x1, y1, x2, y2 in ((0.2, 0.3, 0.55, 0.8), (0, 0.1, 0.5, 1), (0.41, 0, 1, 0.77)):
        # x2 and y2 exclusive, as in every Box: the pixels from x1 to x2 - 1 are white
        box = Box(int(x1 * width), int(y1 * height), int(x2 * width), int(y2 * height))
        a, b, c, d = map(int, box.edges)
        drawn = np.zeros((height, width), np.uint8)
        drawn[b:d, a:c] = 255
        picture, numbers = letterbox(drawn, size)
        moved = box.scaled(Letterbox(**numbers))
        light = picture.astype(float) / 255
        across, down = (int(v) for v in moved.centre)
        for line, low, high, middle in (
            (light[down], moved.x1, moved.x2, across),
            (light[:, across], moved.y1, moved.y2, down),
        ):
            assert abs(middle - line[:middle].sum() - low) < 0.5
            assert abs(middle + line[middle:].sum() - high) < 0.5


@given(SIDES, SIDES, STEPS, STEPS)
def test_florence_tokens_survive_pixels(width: int, height: int, across: list[int], down: list[int]) -> None:
    loc = [across[0], down[0], across[1], down[1]]
    assert Box.from_loc(loc, width, height).to_loc(fit(width, height, 448)) == loc


@given(SIDES, SIDES, SIZES, STEPS, STEPS)
def test_what_the_model_learns_is_a_box_where_the_region_lies(
    width: int, height: int, size: int, across: list[int], down: list[int]
) -> None:
    place = fit(width, height, size)
    box = Box.from_loc([across[0], down[0], across[1], down[1]], width, height)
    answer = grounding(box, "lesion", "qwen3vl", place)
    assert isinstance(answer, dict)
    x1, y1, x2, y2 = answer["bbox_2d"]
    assert 0 <= x1 < x2 <= 1000
    assert 0 <= y1 < y2 <= 1000
    back = Box(x1, y1, x2, y2, Frame.THOUSANDTHS).from_thousandths(place).unscaled(place)
    # within 1.5 thousandths of the picture: a rounding, and a box too thin for one step is made one wide
    steps = (width / place.new_width * size / 1000, height / place.new_height * size / 1000) * 2
    assert all(abs(a - b) <= 1.5 * s + 1e-6 for a, b, s in zip(back.edges, box.edges, steps, strict=True))


def test_a_hand_worked_box() -> None:
    # 512x256 into 448: scale 0.875, 224 rows of picture, 112 of black above
    place = fit(512, 256, 448)
    assert place == Letterbox(512, 256, 448, 448, 224, 0, 112)
    moved = Box(0, 0, 512, 256).scaled(place)
    assert moved == Box(0, 112, 448, 336, Frame.LETTERBOXED)
    assert moved.to_thousandths(place) == Box(0, 250, 1000, 750, Frame.THOUSANDTHS)
    assert Box(256, 128, 512, 256).to_loc(place) == [500, 500, 999, 999]
    assert moved.to_loc(place) == [0, 250, 999, 750]


def test_the_wrong_frame_raises() -> None:
    place = fit(512, 256, 448)
    original = Box(10, 20, 30, 40)
    moved, steps = original.scaled(place), original.scaled(place).to_thousandths(place)
    wrong = [
        lambda: moved.scaled(place),
        lambda: steps.scaled(place),
        lambda: original.unscaled(place),
        lambda: original.to_thousandths(place),
        lambda: steps.to_thousandths(place),
        lambda: original.from_thousandths(place),
        lambda: steps.to_loc(place),
        lambda: words_of(moved, 512, 256),
        lambda: percent_of(steps, 512, 256),
        lambda: grounding(moved, "", "florence", place),
        lambda: grounding(moved, "", "source", place),
        lambda: iou(original, moved),
    ]
    for convert in wrong:
        with pytest.raises(ValueError, match=r"pixels are needed|thousandths of the letterboxed picture are needed"):
            convert()


@pytest.mark.parametrize("edges", [(1, 1, 1, 2), (3, 1, 2, 2), (0, 0, float("nan"), 1)])
def test_what_has_no_area_is_no_box(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="is no box"):
        Box(*edges)


def test_a_box_is_clamped_to_the_picture() -> None:
    place = fit(512, 256, 448)
    assert grounding(Box(-20, 100, 600, 300), "a", "qwen3vl", place) == {
        "bbox_2d": [0, round(1000 * (100 * 0.875 + 112) / 448), 1000, 750],
        "label": "a",
    }
    with pytest.raises(ValueError, match="is no box"):
        grounding(Box(600, 10, 700, 20), "a", "qwen3vl", place)


def test_tokens_that_are_left_over_are_no_box() -> None:
    assert from_florence("a <loc_1><loc_2><loc_3><loc_4>") == ("a", [[1, 2, 3, 4]])
    assert from_florence("a<loc_1><loc_2><loc_3><loc_4> b<loc_5>, <loc_6>\n<loc_7><loc_8>") == (
        "a b",
        [[1, 2, 3, 4], [5, 6, 7, 8]],
    )
    for text in ("a <loc_1><loc_2>", "a", "<loc_1>b<loc_2><loc_3><loc_4>", "<loc_" + "1" * 5000 + ">" + "<loc_1>" * 3):
        assert from_florence(text)[1] == []


def test_four_numbers_in_a_text_or_a_value() -> None:
    assert from_lists("lesion: [10, 20.5, 30, 40]") == ("lesion:", [[10, 20.5, 30, 40]])
    assert from_lists("(1,2,3,4)(5,6,7,8)")[1] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert from_lists("area [1, 2, 3]") == ("area [1, 2, 3]", [])
    for value in (
        [1, 2, 3, 4],
        [[1, 2, 3, 4]],
        {"bbox_2d": [1, 2, 3, 4]},
        [{"bbox": [1, 2, 3, 4], "label": "x"}],
        {"x1": 1, "y1": 2, "x2": 3, "y2": 4},
        {"y": 2, "x": 1, "height": 4, "width": 3},
    ):
        assert from_value(value) == [[1, 2, 3, 4]]
    for value in (None, "1, 2, 3, 4", [1, 2, 3], [1, 2, 3, True], [1, 2, 3, "4"], {"x": 1}, [[1, 2, 3, 4], "a"], []):
        assert from_value(value) == []
    assert len(from_value([[1, 2, 3, 4], [5, 6, 7, 8]])) == 2


FOUND = (100, 60, 180, 200)  # in a 512x400 image


@pytest.mark.parametrize(
    ("values", "reading"),
    [
        ((100, 60, 180, 200), "pixels xyxy"),
        ((103, 63, 177, 197), "pixels xyxy"),  # the inner edge of the line
        ((100, 60, 80, 140), "pixels xywh"),
        ((195.3, 150, 351.6, 500), "0-1000 xyxy"),
        ((195, 150, 351, 500), None),  # either of the two, a quarter of a pixel apart
    ],
)
def test_numbers_are_read_as_the_pixels_show(values: tuple[float, ...], reading: str | None) -> None:
    settled = settle(values, FOUND, 512, 400)
    assert settled is not None
    name, box = settled
    assert name == reading or (reading is None and name in ("0-999 xyxy", "0-1000 xyxy"))
    assert all(abs(a - b) < 4 for a, b in zip(box.edges, FOUND, strict=True))


@pytest.mark.parametrize(
    "values",
    [(0, 0, 0, 0), (300, 60, 380, 200), (180, 60, 100, 200), (60, 100, 200, 180), (110, 60, 180, 200), (-1e6,) * 4],
)
def test_numbers_that_no_reading_explains_are_not_settled(values: tuple[float, ...]) -> None:
    assert settle(values, FOUND, 512, 400) is None


def test_two_readings_that_differ_settle_nothing() -> None:
    # from the corner, [4, 4, 200, 200] is as near as two corners as it is as a corner and a size
    assert settle((4, 4, 200, 200), (2, 2, 202, 202), 512, 512) is None
    assert settle((0, 0, 200, 200), (0, 0, 200, 200), 512, 512) is not None  # the same box in both


@given(SIDES, SIDES, PAIRS, PAIRS, st.sampled_from(["pixels xyxy", "pixels xywh", "0-1000 xyxy", "0-999 xyxy"]))
def test_what_is_settled_agrees_with_the_pixels(
    width: int, height: int, across: tuple[float, float], down: tuple[float, float], written: str
) -> None:
    x1, x2 = (round(v * (width - 1)) for v in across)
    y1, y2 = (round(v * (height - 1)) for v in down)
    if x1 >= x2 or y1 >= y2:
        return
    sides = (width, height) * 2
    values = {
        "pixels xyxy": [x1, y1, x2, y2],
        "pixels xywh": [x1, y1, x2 - x1, y2 - y1],
        "0-1000 xyxy": [round(v * 1000 / side) for v, side in zip((x1, y1, x2, y2), sides, strict=True)],
        "0-999 xyxy": [v * 1000 // side for v, side in zip((x1, y1, x2, y2), sides, strict=True)],
    }[written]
    if settled := settle(values, (x1, y1, x2, y2), width, height):
        for a, b, side in zip(settled[1].edges, (x1, y1, x2, y2), sides, strict=True):
            assert abs(a - b) <= tolerance(side)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 10, 10), ("left", "upper")),
        ((95, 90, 105, 100), ("left", "upper")),
        ((110, 110, 120, 120), ("left-center", "upper-middle")),
        ((200, 200, 300, 300), ("central", "middle")),
        ((300, 310, 350, 400), ("right-center", "lower-middle")),
        ((400, 500, 512, 512), ("right", "bottom")),
    ],
)
def test_the_words_of_the_grid(box: tuple[int, ...], words: tuple[str, str]) -> None:
    assert words_of(Box.of(box), 512, 512) == words


def test_percent_by_hand() -> None:
    assert percent_of(Box(0, 0, 51.2, 512), 512, 512) == pytest.approx(10)
