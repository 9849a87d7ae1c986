"""Boxes: the forms that are read, the many that are not, and what is compared in the original image, by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.data.boxes import format_box
from radtune.evaluate.boxes import SIZES, parse, read, scores, signatures
from radtune.evaluate.score import LOWER
from radtune.frames import Box, Frame, Letterbox, iou
from radtune.images.enhance import letterbox

# 512 x 256 in a square of 448: scale 0.875; in thousandths the original fills 0..1000 across and 250..750 down
WIDE = Letterbox(512, 256, 448, 448, 224, 0, 112)
EDGES = st.tuples(*[st.integers(0, 1000)] * 4).filter(lambda v: v[0] < v[2] and v[1] < v[3])


def said(*edges: float) -> str:
    return json.dumps([{"bbox_2d": edges, "label": "lesion"}])


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [10, 20, 30, 40.5], "label": "lesion"}]',
        '{"bbox_2d": [10, 20, 30, 40.5], "label": "lesion"}',
        '[{"bbox_2d": [10, 20, 30, 40.5]}, {"bbox_2d": [1, 2, 3, 4]}]',
        '```json\n[{"bbox_2d": [10, 20, 30, 40.5]}]\n```',
    ],
)
def test_json_forms(text: str) -> None:
    assert parse(text) == Box(10, 20, 30, 40.5, Frame.THOUSANDTHS)


def test_florence_tokens_stand_for_the_middle_of_their_bin() -> None:
    found = parse("brain region<loc_10><loc_20><loc_300><loc_999>")
    assert found == Box(10.5, 20.5, 300.5, 999.5, Frame.THOUSANDTHS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The lesion is at [10, 20, 30, 40].",
        "[10, 20, 30, 40]",
        '{"box": [10, 20, 30, 40]}',
        '{"bbox_2d": [10, 20, 30]}',
        '{"bbox_2d": "10, 20, 30, 40"}',
        '{"bbox_2d": [10, 20, 30, true]}',
        '{"bbox_2d": [10, 20, NaN, 40]}',
        '{"bbox_2d": [30, 20, 10, 40]}',
        '{"bbox_2d": [10, 20, 10, 40]}',
        '{"bbox_2d": [10, 20, 30, 1001]}',
        '{"bbox_2d": [-1, 20, 30, 40]}',
        '[{"bbox_2d": [10, 20, 30, 40]',
        "[]",
        "null",
        "[" * 100_000,
        "region<loc_10><loc_20><loc_1200><loc_30>",
        "region<loc_10><loc_20><loc_30>",
        "region<loc_800><loc_20><loc_100><loc_30>",
    ],
)
def test_nothing_else_is_guessed(text: str) -> None:
    assert parse(text) is None


def test_iou_by_hand() -> None:
    box = Box(0, 0, 10, 10)
    assert iou(box, box) == 1
    assert iou(box, Box(5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou(box, Box(10, 0, 20, 10)) == 0
    assert iou(box, Box(20, 20, 30, 30)) == 0  # apart on both axes: two negative sides are no area


@given(EDGES, EDGES)
def test_iou_is_a_share_that_takes_no_side(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    a, b = Box.of(one), Box.of(other)
    assert 0 <= iou(a, b) == iou(b, a) <= 1
    assert (iou(a, b) == 1) == (a == b)


def test_scores_by_hand_where_no_geometry_is_known() -> None:
    truth, half = said(0, 0, 100, 100), '{"bbox_2d": [0, 0, 100, 50]}'
    apart = 100 * 25 / math.hypot(1000, 1000)
    of = {"iou": 50, "acc_50": 100, "centre_error": apart}
    # 100 x 100 of 1000 x 1000 is 1 % and so no longer small
    assert scores(half, truth) == of | {f"{name}_medium": value for name, value in of.items()} | {
        "centre_error_px": 25,
        "box_unparsed": 0,
    }
    assert scores("somewhere", truth) == {
        **{"iou": 0, "acc_50": 0, "iou_medium": 0, "acc_50_medium": 0},
        "box_unparsed": 100,
    }
    assert scores(half, "no box here") == {}


@pytest.mark.parametrize(("side", "size"), [(99, "small"), (100, "medium"), (173, "medium"), (174, "large")])
def test_sizes_are_shares_of_the_picture(side: int, size: str) -> None:
    """1 % is a side of 100 thousandths, 3 % one of 173.2."""
    found = scores(said(0, 0, side, side), said(0, 0, side, side))
    assert {name for name in found if name.endswith(tuple(SIZES))} == {
        f"{name}_{size}" for name in ("iou", "acc_50", "centre_error")
    }


def test_padding_is_no_part_of_the_image() -> None:
    """The reference is the upper left quarter, 256 x 128 px; the answer adds all of the padding above it."""
    truth, answer = said(0, 250, 500, 500), said(0, 0, 500, 500)
    assert read(truth, WIDE) == read(answer, WIDE) == Box(0, 0, 256, 128)
    assert scores(answer, truth)["iou"] == 50
    found = scores(answer, truth, WIDE)
    assert (found["iou"], found["centre_error"], found["centre_error_px"]) == (100, 0, 0)
    assert found["iou_large"] == 100  # 25 % of the image, and 12.5 % of the square


def test_an_answer_in_the_padding_alone_is_a_miss_with_a_distance() -> None:
    found = scores(said(0, 0, 1000, 250), said(0, 250, 1000, 750), WIDE)
    assert (found["iou"], found["acc_50"], found["box_unparsed"]) == (0, 0, 0)
    # the padding of 112 px is 128 px of the original; its middle is 64 above the image, whose own is 128 below its edge
    assert found["centre_error_px"] == 192
    assert found["centre_error"] == pytest.approx(100 * 192 / math.hypot(512, 256))


def test_tokens_of_the_original_are_not_moved() -> None:
    """answers.box: source. A model that was never tuned still answers in Qwen3-VL's own form, of the picture."""
    tokens = "lesion<loc_0><loc_0><loc_499><loc_499>"
    assert read(tokens, WIDE, "source") == Box(0.5 * 0.512, 0.5 * 0.256, 499.5 * 0.512, 499.5 * 0.256)
    assert read(tokens, WIDE, "florence") == read(said(0.5, 0.5, 499.5, 499.5), WIDE)
    assert scores(said(0, 250, 500, 500), tokens, WIDE, "source")["iou"] > 99


INSIDE = st.tuples(st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.floats(0.51, 0.999), st.floats(0.51, 0.999))


@given(st.integers(32, 2000), st.integers(32, 2000), st.sampled_from([224, 448]), INSIDE, INSIDE)
def test_where_no_padding_is_touched_the_letterbox_changes_nothing(
    width: int, height: int, size: int, a: tuple[float, ...], b: tuple[float, ...]
) -> None:
    place = Letterbox(**letterbox(np.zeros((height, width), np.uint8), size)[1])
    one, other = (Box.of(v * side for v, side in zip(s, (width, height) * 2, strict=True)) for s in (a, b))
    texts = [json.dumps({"bbox_2d": box.scaled(place).to_thousandths(place).edges}) for box in (one, other)]
    assert scores(*texts, place)["iou"] == pytest.approx(scores(*texts)["iou"], abs=1e-6)
    assert scores(*texts, place)["iou"] == pytest.approx(100 * iou(one, other), abs=1e-6)


@pytest.mark.parametrize("form", ["qwen3vl", "florence", "source"])
def test_what_the_model_is_taught_is_read_back(form: str) -> None:
    """As data writes the answer, so evaluation reads it: within a step of the box in original pixels."""
    box = Box(100, 50, 300, 200)
    found = read(format_box(box, "lesion", form, WIDE), WIDE, form)
    assert found is not None
    assert iou(found, box) > 0.98


def test_every_metric_has_its_signature() -> None:
    names = {key for side in (50, 150, 500) for key in scores(said(0, 0, side, side), said(0, 0, side, side))}
    assert names == set(signatures(True)) == set(signatures(False))
    assert {name for name in names if "centre_error" in name} | {"box_unparsed"} == LOWER & names
    assert "original" in signatures(True)["iou"]
    assert "original" not in signatures(False)["iou"]
