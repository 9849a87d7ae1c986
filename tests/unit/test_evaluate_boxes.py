"""Boxes: the forms that are read, the many that are not, and IoU worked out by hand."""

import pytest

from radtune.evaluate.boxes import iou, parse, scores


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
    assert parse(text) == (10, 20, 30, 40.5)


def test_florence_tokens_stand_for_the_middle_of_their_bin() -> None:
    assert parse("brain region<loc_10><loc_20><loc_300><loc_999>") == (10.5, 20.5, 300.5, 999.5)


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
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert iou((0, 0, 10, 10), (20, 20, 30, 30)) == 0  # apart on both axes: two negative sides are no area


def test_scores_count_an_unreadable_answer_as_a_miss() -> None:
    truth = '[{"bbox_2d": [0, 0, 100, 100], "label": "lesion"}]'
    half = '{"bbox_2d": [0, 0, 100, 50]}'
    assert scores(half, truth) == {"iou": 50, "acc_50": 100, "box_unparsed": 0}
    assert scores("somewhere", truth) == {"iou": 0, "acc_50": 0, "box_unparsed": 100}
    assert scores(half, "no box here") == {}
