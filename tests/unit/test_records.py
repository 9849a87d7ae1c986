"""Records held against records: JSON or not, every key, each field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.evaluate.records import SIGNATURES, parse, scores
from radtune.frames import Letterbox
from radtune.reasons import RECORD_KEYS

RECORD = {
    "caption": "A head CT with a bright area.",
    "region of interest": "It lies left-center and covers 2%.",
    "observation": "This suggests fresh blood.",
    "notes": "A follow-up scan is advised.",
    "bloc": {"bbox_2d": [100, 100, 300, 300], "label": "hyperdense area"},
}
JSON = json.dumps(RECORD)
LINE = "caption:A head CT.。region of interest:left: here。observation:blood。notes:see 1.5。bloc:[1, 2]。"


def test_a_record_agrees_with_itself() -> None:
    found = scores(JSON, JSON)
    assert found == dict.fromkeys(SIGNATURES, 100.0)


def test_the_one_line_form_is_read_and_is_no_json() -> None:
    record, is_json = parse(LINE)
    assert (record, is_json) == (
        {
            "caption": "A head CT.",
            "region of interest": "left: here",
            "observation": "blood",
            "notes": "see 1.5",
            "bloc": "[1, 2]",
        },
        False,
    )
    found = scores(LINE, LINE)
    assert "record_valid" not in found
    assert set(found.values()) == {100.0}


@pytest.mark.parametrize(
    ("answer", "valid", "keys", "fields"),
    [
        (f"```json\n{JSON}\n```", 0, 100, 100),  # read, yet not JSON alone
        (f"Here it is: {JSON}", 0, 0, 0),
        (JSON[:-1], 0, 0, 0),
        ("", 0, 0, 0),
        ("[]", 0, 0, 0),
        (json.dumps({**RECORD, "more": 1}), 100, 100, 100),
        (json.dumps({key: RECORD[key] for key in RECORD_KEYS[:4]}), 100, 0, 80),
        (json.dumps({**RECORD, "notes": None}), 100, 100, 80),
        (json.dumps({**RECORD, "notes": ["one list"]}), 100, 100, 80),
        ("[" * 100_000, 0, 0, 0),
    ],
)
def test_what_is_no_record_or_lacks_a_field(answer: str, valid: float, keys: float, fields: float) -> None:
    found = scores(answer, JSON)
    assert (found["record_valid"], found["record_keys"], found["record_fields"]) == (valid, keys, pytest.approx(fields))


def test_a_moved_box_costs_the_bloc_alone() -> None:
    moved = json.dumps({**RECORD, "bloc": {"bbox_2d": [200, 100, 400, 300], "label": "hyperdense area"}})
    found = scores(moved, JSON)
    assert found["record_bloc"] == pytest.approx(100 / 3)
    assert found["record_caption"] == found["record_notes"] == 100
    words = [json.dumps({**RECORD, "bloc": word}) for word in ("left, upper", "right, upper")]
    assert scores(words[0], words[1])["record_bloc"] == 0
    assert scores(words[0], words[0])["record_bloc"] == 100


@pytest.mark.parametrize("key", RECORD_KEYS[:4])
def test_a_word_costs_its_own_field_alone(key: str) -> None:
    """ROUGE-L of a field with one word more: 2 n / (2 n + 1)."""
    found = scores(json.dumps({**RECORD, key: f"{RECORD[key]} Indeed"}), JSON)
    n = len(str(RECORD[key]).replace("-", " ").split())
    expected = 100 * 2 * n / (2 * n + 1)
    assert found.pop(f"record_{key.replace(' ', '_')}") == pytest.approx(expected)
    assert found.pop("record_fields") == pytest.approx((expected + 400) / 5)
    assert set(found.values()) == {100.0}


def test_a_bloc_is_compared_in_the_original_image() -> None:
    """512 x 256 px lie at 250..750 down the square; what the answer adds lies in the padding above."""
    place = Letterbox(512, 256, 448, 448, 224, 0, 112)
    answer, truth = (json.dumps({**RECORD, "bloc": {"bbox_2d": [0, top, 500, 500]}}) for top in (0, 250))
    assert scores(answer, truth)["record_bloc"] == pytest.approx(50)
    assert scores(answer, truth, place)["record_bloc"] == pytest.approx(100)


def test_what_the_reference_leaves_out_is_not_scored() -> None:
    empty = json.dumps({**RECORD, "bloc": None})
    assert "record_bloc" not in scores(JSON, empty)
    assert scores(JSON, "A head CT with a bright area.") == {}


@given(st.text(), st.dictionaries(st.sampled_from(RECORD_KEYS), st.text()))
def test_nothing_an_answer_holds_is_an_error(answer: str, record: dict[str, str]) -> None:
    found = scores(answer, json.dumps(record))
    assert all(0 <= value <= 100 for value in found.values())
