"""What a text holds, per tag, and the answer that is made of it."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.data.answers import TAGS, parse, render, tag_of
from radtune.data.boxes import Letterbox
from radtune.reasons import Reason, Unusable

SQUARE = Letterbox(512, 512, 448, 448, 448, 0, 0)
RECORD = {"caption": "c", "region of interest": "r", "observation": "o", "notes": "n", "bloc": [1, 2, 3, 4]}


def answer(tag: str, text: str, record: str = "json", box: str = "qwen3vl", letterbox: Letterbox = SQUARE) -> str:
    return render(tag, parse(tag, text), record=record, box=box, letterbox=letterbox)


def test_plain_answers_follow_their_tag() -> None:
    assert answer("CAPTION", "<CAPTION>A head CT. \n") == "A head CT."


def test_only_known_tags_delimit() -> None:
    text = "<REGION_OF_INTEREST>area < 5% and > 1% <loc_10> <b>\n<OBSERVATION>\nnone"
    assert parse("REGION_OF_INTEREST", text) == {"features": "area < 5% and > 1% <loc_10> <b>", "observation": "none"}


def test_a_region_without_observation_keeps_the_part_that_is_there() -> None:
    assert parse("REGION_OF_INTEREST", "<REGION_OF_INTEREST>dense") == {"features": "dense"}
    assert parse("REGION_OF_INTEREST", "<REGION_OF_INTEREST>\n<OBSERVATION>o") == {"observation": "o"}


def test_the_question_picks_its_own_part_of_a_shared_text() -> None:
    text = "<CAPTION>short<CAPTION_DETAILS>long<OBSERVATION>effect"
    assert [answer(tag, text) for tag in ("CAPTION", "CAPTION_DETAILS", "OBSERVATION")] == ["short", "long", "effect"]


@pytest.mark.parametrize("text", [str(RECORD), json.dumps(RECORD)])
def test_a_record_in_both_forms(text: str) -> None:
    assert json.loads(answer("JSON_RECORD", "<JSON_RECORD>" + text)) == RECORD
    assert answer("JSON_RECORD", "<JSON_RECORD>" + text, record="reference") == (
        "caption:c。region of interest:r。observation:o。notes:n。bloc:[1, 2, 3, 4]。"
    )


def test_boxes_move_with_the_letterbox() -> None:
    # 1000x500 into 448: scaled by 0.448, 112 rows of black above; loc 100 of 1000 px is 100.5 px
    wide = Letterbox(1000, 500, 448, 448, 224, 0, 112)
    text = "<DETECT_REGION_LOC>lesion<loc_100><loc_200><loc_300><loc_400>"
    expected = [
        round(v / 448 * 1000) for v in (100.5 * 0.448, 100.25 * 0.448 + 112, 300.5 * 0.448, 200.25 * 0.448 + 112)
    ]
    assert json.loads(answer("DETECT_REGION_LOC", text, letterbox=wide)) == [{"bbox_2d": expected, "label": "lesion"}]
    assert answer("DETECT_REGION_LOC", text, box="source", letterbox=wide) == text.removeprefix("<DETECT_REGION_LOC>")


@pytest.mark.parametrize(
    ("tag", "text", "reason"),
    [
        ("CAPTION", None, Reason.TEXT_MISSING),
        ("CAPTION", "  ", Reason.TEXT_MISSING),
        ("CAPTION", "no tag", Reason.TAG_NOT_IN_TEXT),
        ("CAPTION", "<CAPTION>a<CAPTION>b", Reason.TAG_REPEATED),
        ("CAPTION", "<CAPTION> \n", Reason.ANSWER_EMPTY),
        ("CAPTION", "<CAPTION>see <image>", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a<|im_end|>b", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a\x00b", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>" + "word " * 20000, Reason.TEXT_TOO_LONG),
        ("REGION_OF_INTEREST", "<REGION_OF_INTEREST> <OBSERVATION> ", Reason.ANSWER_EMPTY),
        ("JSON_RECORD", "<JSON_RECORD>{'caption': 'a", Reason.RECORD_UNPARSABLE),
        ("JSON_RECORD", "<JSON_RECORD>[1, 2]", Reason.RECORD_UNPARSABLE),
        ("JSON_RECORD", "<JSON_RECORD>" + "[" * 5000, Reason.RECORD_UNPARSABLE),
        ("JSON_RECORD", "<JSON_RECORD>__import__('os').system('touch pwned')", Reason.RECORD_UNPARSABLE),
        ("JSON_RECORD", "<JSON_RECORD>{'caption': 'only this'}", Reason.RECORD_INCOMPLETE),
        ("JSON_RECORD", "<JSON_RECORD>" + str(RECORD | {"notes": None}), Reason.RECORD_INCOMPLETE),
        ("DETECT_REGION_LOC", "<DETECT_REGION_LOC>left<loc_1><loc_2>", Reason.BOX_UNPARSABLE),
        ("DETECT_REGION_LOC", "<DETECT_REGION_LOC>a<loc_10><loc_20><loc_1200><loc_30>", Reason.BOX_IMPOSSIBLE),
        ("DETECT_REGION_LOC", "<DETECT_REGION_LOC>a<loc_800><loc_20><loc_100><loc_30>", Reason.BOX_IMPOSSIBLE),
    ],
)
def test_a_row_that_cannot_be_used_has_its_reason(tag: str, text: str | None, reason: Reason) -> None:
    with pytest.raises(Unusable) as caught:
        parse(tag, text)
    assert caught.value.reason == reason


def test_questions() -> None:
    assert tag_of(" <CAPTION> ") == tag_of("CAPTION") == "CAPTION"
    with pytest.raises(Unusable, match="question tag"):
        tag_of(None)
    with pytest.raises(Unusable, match="known tags"):
        tag_of("<SEGMENT>")


@given(st.sampled_from(TAGS), st.text(max_size=300))
def test_any_text_is_parsed_or_has_a_reason(tag: str, text: str) -> None:
    with contextlib.suppress(Unusable):  # the one exception that a text may raise
        parts = parse(tag, f"<{tag}>{text}")
        assert render(tag, parts, record="json", box="qwen3vl", letterbox=SQUARE).strip()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="<>|"), min_size=1, max_size=200))
def test_plain_text_survives_unchanged(text: str) -> None:
    if text.strip():
        assert answer("CAPTION", "<CAPTION>" + text) == text.strip()
