"""What a text holds, per tag, and the answer that is made of it."""

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.control import _HIDDEN
from radtune.data.answers import FORMS, NUMBERS, TAGS, Parts, parse, render, settled, tag_of
from radtune.frames import Letterbox
from radtune.reasons import Reason, Unusable

SQUARE = Letterbox(512, 512, 448, 448, 448, 0, 0)
BOXES = ("qwen3vl", "florence", "source")
PARSED = ("REGION_OF_INTEREST", "JSON_RECORD", "DETECT_REGION_LOC")
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


def test_both_parts_of_a_region_are_labelled() -> None:
    both = "<REGION_OF_INTEREST>dense\n<OBSERVATION>\nmass effect"
    assert answer("REGION_OF_INTEREST", both) == "Region features: dense\nClinical observation: mass effect"
    assert answer("REGION_OF_INTEREST", "<REGION_OF_INTEREST>dense") == "dense"


def test_the_question_picks_its_own_part_of_a_shared_text() -> None:
    text = "<CAPTION>short<CAPTION_DETAILS>long<OBSERVATION>effect"
    assert [answer(tag, text) for tag in ("CAPTION", "CAPTION_DETAILS", "OBSERVATION")] == ["short", "long", "effect"]


@pytest.mark.parametrize("text", [str(RECORD), json.dumps(RECORD)])
def test_a_record_in_both_forms(text: str) -> None:
    assert json.loads(answer("JSON_RECORD", "<JSON_RECORD>" + text, box="source")) == RECORD
    # numbers that nothing places name no place in the letterboxed picture
    assert json.loads(answer("JSON_RECORD", "<JSON_RECORD>" + text)) == RECORD | {"bloc": None}
    assert answer("JSON_RECORD", "<JSON_RECORD>" + text, record="reference", box="source") == (
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
        ("CAPTION", "<CAPTION>a\x85b", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a\u202eb", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a\u2066b\n", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a\ud800b", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a\rb", Reason.CONTROL_TOKEN),
        ("CAPTION", "<CAPTION>a</think>", Reason.CONTROL_TOKEN),
        (
            "DETECT_REGION_LOC",
            '<DETECT_REGION_LOC>[{"bbox_2d": [1, 2, 3, 4], "label": "<|im\\u005fend|>"}]',
            Reason.CONTROL_TOKEN,
        ),
        ("REGION_OF_INTEREST", "<REGION_OF_INTEREST>a<OBSERVATION>b<OBSERVATION>c", Reason.TAG_REPEATED),
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


WIDE = Letterbox(1000, 500, 448, 448, 224, 0, 112)
RUN = "<loc_100><loc_200><loc_300><loc_400>"
STEPS = "[100, 350, 300, 450]"  # thousandths of the letterboxed picture


@pytest.mark.parametrize(
    "bloc",
    [
        "10, 20, 30, 40",
        ["10", "20", "30", "40"],
        ["a<loc_1><loc_2><loc_30><loc_40>"],
        "bbox 10 20 30 40",
        "x1=10 y1=20 x2=30 y2=40",
        "10-20-30-40",
        {"xmin": 10.5, "ymin": 20.25, "w": 3, "h": 4},
        [1, 2, 3, 4, 5],
        "left: 10, 20, 30, 40",
        "left <loc_1><loc_2><loc_30>",
    ],
)
def test_coordinates_in_no_known_form_name_no_place_in_the_letterbox(bloc: object) -> None:
    text = "<JSON_RECORD>" + json.dumps(RECORD | {"bloc": bloc})
    for box in BOXES:
        rendered = json.loads(answer("JSON_RECORD", text, box=box, letterbox=WIDE))
        assert rendered["bloc"] == (bloc if box == "source" else None)


@pytest.mark.parametrize("bloc", ["about 1.3% of 2 slices", "left, 3 cm by 2 cm and 5 mm, 4 mm", [1, 2], "9" * 9000])
def test_a_bloc_without_four_numbers_stays(bloc: object) -> None:
    text = "<JSON_RECORD>" + json.dumps(RECORD | {"bloc": bloc})
    assert json.loads(answer("JSON_RECORD", text, letterbox=WIDE))["bloc"] == bloc


@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag not in ("DETECT_REGION_LOC", "JSON_RECORD")])
def test_boxes_within_a_text_move_with_the_letterbox(tag: str) -> None:
    text = f"<{tag}>a lesion{RUN} at {RUN}, {RUN}"
    parts = parse(tag, text)
    assert parts["form"] == "several"
    assert "loc" not in parts
    moved = f'{{"bbox_2d": {STEPS}}}'
    assert answer(tag, text, letterbox=WIDE) == f"a lesion {moved} at {moved}, {moved}"
    assert parse(tag, f"<{tag}>one {RUN}.")["loc"] == [100, 200, 300, 400]
    assert parse(tag, f"<{tag}>one {RUN}.")["form"] == "loc_tokens"
    florence = answer(tag, text, box="florence", letterbox=WIDE)
    assert florence == text.removeprefix(f"<{tag}>").replace(f"{RUN}, {RUN}", RUN + RUN).replace(
        RUN, "".join(f"<loc_{q}>" for q in (100, 350, 300, 450))
    )
    assert answer(tag, text, box="source", letterbox=WIDE) == text.removeprefix(f"<{tag}>")
    assert "form" not in parse(tag, f"<{tag}>none <loc_10> of them")
    assert answer(tag, f"<{tag}>none <loc_10> of them") == "none <loc_10> of them"  # a lone token is no place


def test_boxes_within_a_records_texts_move_with_the_letterbox() -> None:
    text = "<JSON_RECORD>" + str(RECORD | {"notes": f"see {RUN}"})
    assert json.loads(answer("JSON_RECORD", text, letterbox=WIDE))["notes"] == f'see {{"bbox_2d": {STEPS}}}'


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ("<loc_1><loc_2>", Reason.BOX_UNPARSABLE),
        ("<loc_1><loc_2>, <loc_3>", Reason.BOX_UNPARSABLE),
        ("<loc_1><loc_2><loc_3><loc_4><loc_5>", Reason.BOX_UNPARSABLE),
        ("<loc_1><loc_2><loc_x><loc_4>", Reason.BOX_UNPARSABLE),
        ("<loc_1><loc_2><loc_3><loc_1200>", Reason.BOX_IMPOSSIBLE),
        ("<loc_3><loc_2><loc_1><loc_4>", Reason.BOX_IMPOSSIBLE),
    ],
)
@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag != "DETECT_REGION_LOC"])
def test_broken_boxes_within_a_text_have_their_reason(tag: str, tokens: str, reason: Reason) -> None:
    own = str(RECORD | {"notes": f"see {tokens}"}) if tag == "JSON_RECORD" else f"see {tokens}."
    with pytest.raises(Unusable) as caught:
        parse(tag, f"<{tag}>{own}")
    assert caught.value.reason == reason


def test_questions() -> None:
    assert tag_of(" <CAPTION> ") == tag_of("CAPTION") == "CAPTION"
    with pytest.raises(Unusable, match="question tag"):
        tag_of(None)
    with pytest.raises(Unusable, match="known tags"):
        tag_of("<SEGMENT>")


def test_taking_tokens_out_of_a_label_leaves_no_control_token() -> None:
    for label in ("<|im_{}end|>", "<ima{}ge>"):
        loc = "<loc_1><loc_2><loc_3><loc_4>"
        assert not SPECIAL.search(answer("DETECT_REGION_LOC", "<DETECT_REGION_LOC>" + label.format(loc)))


def test_windows_line_ends_are_line_ends() -> None:
    assert answer("CAPTION", "<CAPTION>a\r\nb\r\n") == "a\nb"
    assert json.loads(answer("JSON_RECORD", "<JSON_RECORD>" + str(RECORD | {"notes": "a\r\nb"})))["notes"] == "a\nb"


def record_of(notes: str) -> str:
    """A record whose text `notes` is already quoted and escaped."""
    return '<JSON_RECORD>{"caption": "c", "region of interest": "r", "observation": "o", "notes": ' + notes + "}"


@pytest.mark.parametrize("quoted", [r'"\u0000"', r'"a\u202e"', r'"<|im\u005fend|>"', r'"\ud800"', r'"\u003cimage>"'])
def test_an_escape_hides_nothing(quoted: str) -> None:
    python = record_of(quoted.replace('"', "'")).replace('{"', "{'").replace('": "', "': '").replace('", "', "', '")
    for text in (record_of(quoted), python.replace("\": '", "': '"), record_of('"n", "bloc": [' + quoted + "]")):
        assert not SPECIAL.search(text)
        with pytest.raises(Unusable) as caught:
            parse("JSON_RECORD", text)
        assert caught.value.reason == Reason.CONTROL_TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "{'a': " * 2500 + "1" + "}" * 2500,
        "-" * 10_000 + "1",
        "1" + "-1" * 5000,
        "[]" + "()" * 5000,
        "[]" + "[0]" * 5000,
        "9**9**9",
        "9" * 10_000,
        "0x" + "f" * 10_000,
        "1e999",
        "'a' * 1000000000",
        "f'{1}'",
        "b'a'",
        "r'a'",
        "{'a', 'b'}",
        "1j",
        "...",
        "NaN",
        "-Infinity",
        "lambda: 0",
        "[x for x in 'a']",
        "{**{}}",
        "'''a'1'''" + "[" * 150 + "'",
        "{'a': 1, 'a': 2}",
        '{"a": 1, "a": 2}',
        "(" * 7 + "1" + ")" * 7,
        "\\" * 10_000,
        "'" * 10_000,
        "'\\" * 9_000,
        '{"a":' * 3000,
    ],
)
def test_no_literal_exhausts_the_parser(text: str) -> None:
    """Rejected alone and as a value, fast, and whether or not the interpreter's own limits would have held."""
    started = time.process_time()
    for whole in (text, record_of('"n", "bloc": ' + text).removeprefix("<JSON_RECORD>"), f"{{'bloc': {text}}}"):
        with pytest.raises(Unusable) as caught:
            parse("JSON_RECORD", "<JSON_RECORD>" + whole)
        assert caught.value.reason == Reason.RECORD_UNPARSABLE
    assert time.process_time() - started < 0.5


def test_a_nest_within_the_limit_is_read() -> None:
    assert parse("JSON_RECORD", record_of('"n", "bloc": [[[[[1]]]]]'))["bloc"] == [[[[[1]]]]]


WHERE = [
    ("[10, 20, 30, 40]", "list"),
    ("'lesion [10, 20, 30, 40]'", "list"),
    ("'(10, 20, 30, 40)'", "list"),
    ("{'x1': 10, 'y1': 20, 'x2': 30, 'y2': 40}", "mapping"),
    ("{'bbox_2d': [10, 20, 30, 40], 'label': 'lesion'}", "mapping"),
    ("[[10, 20, 30, 40], [1, 2, 3, 4]]", "several"),
    ("'lesion<loc_10><loc_20><loc_30><loc_40>'", "loc_tokens"),
    ("'lesion<loc_10><loc_20>'", "loc_tokens"),
    ("'upper-middle, left'", "words"),
    ("'unclear'", "other"),
    ("[1, 2]", "other"),
    ("7", "other"),
    ("None", "null"),
    ("' '", "null"),
]


@pytest.mark.parametrize(("bloc", "form"), WHERE)
def test_forms_of_bloc_are_named_and_kept(bloc: str, form: str) -> None:
    text = "<JSON_RECORD>" + str(RECORD).replace("[1, 2, 3, 4]", bloc)
    parts = orjson.loads(orjson.dumps(parse("JSON_RECORD", text)))  # as it travels between the stages
    assert parts["bloc_form"] == form
    assert form in FORMS
    assert ("bloc_values" in parts) == ("10" in bloc and form in ("list", "mapping"))
    rendered = json.loads(render("JSON_RECORD", parts, record="json", box="qwen3vl", letterbox=SQUARE))
    assert list(rendered) == list(RECORD)
    if "bloc_loc" not in parts:
        assert rendered["bloc"] == (None if form in NUMBERS else parts["bloc"])  # no frame, no coordinates


def test_a_bloc_in_tokens_moves_with_the_letterbox() -> None:
    wide = Letterbox(1000, 500, 448, 448, 224, 0, 112)
    text = "<JSON_RECORD>" + str(RECORD | {"bloc": "lesion<loc_100><loc_200><loc_300><loc_400>"})
    detected = "<DETECT_REGION_LOC>lesion<loc_100><loc_200><loc_300><loc_400>"
    assert [json.loads(answer("JSON_RECORD", text, letterbox=wide))["bloc"]] == json.loads(
        answer("DETECT_REGION_LOC", detected, letterbox=wide)
    )


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("left, upper-middle", "words"),
        ("cannot be said", "other"),
        ("a<loc_1><loc_2>", "loc_tokens"),
        ("a<loc_1><loc_2><loc_3><loc_4>b<loc_5><loc_6><loc_7><loc_8>", "several"),
        ("[1, 2, 3, 4] and [5, 6, 7, 8]", "several"),
        ("a<loc_9><loc_2><loc_3><loc_4>", "loc_tokens"),
    ],
)
def test_a_text_without_one_box_names_its_form(text: str, form: str) -> None:
    with pytest.raises(Unusable) as caught:
        parse("DETECT_REGION_LOC", "<DETECT_REGION_LOC>" + text)
    assert caught.value.parts is not None
    assert caught.value.parts["form"] == form
    assert set(caught.value.parts) == {"form", "label"}


@pytest.mark.parametrize(
    "text",
    [
        "lesion [100, 50, 300, 150]",
        '[{"bbox_2d": [100, 50, 200, 100], "label": "lesion"}]',
        "{'bbox_2d': [100, 100, 300, 300], 'label': 'lesion'}",
    ],
)
def test_a_list_is_placed_by_the_pixels_or_not_at_all(text: str) -> None:
    wide = Letterbox(1000, 500, 448, 448, 224, 0, 112)
    parts = parse("DETECT_REGION_LOC", "<DETECT_REGION_LOC>" + text)
    assert (parts["form"], parts["label"]) == ("list", "lesion")
    with pytest.raises(Unusable) as unsettled:
        render("DETECT_REGION_LOC", parts, record="json", box="qwen3vl", letterbox=wide)
    assert unsettled.value.reason == Reason.BOX_UNSETTLED
    for found in (None, (500, 50, 700, 150)):
        with pytest.raises(Unusable) as unsettled:
            settled("DETECT_REGION_LOC", parts, found, 1000, 500)
        assert unsettled.value.reason == Reason.BOX_UNSETTLED
    placed = settled("DETECT_REGION_LOC", parts, (100, 50, 300, 150), 1000, 500)
    (box,) = json.loads(render("DETECT_REGION_LOC", placed, record="json", box="qwen3vl", letterbox=wide))
    assert box == {"bbox_2d": [100, 300, 300, 400], "label": "lesion"}


def test_a_settled_bloc_is_written_like_a_box() -> None:
    parts = parse("JSON_RECORD", "<JSON_RECORD>" + str(RECORD | {"bloc": [128, 128, 256, 384]}))
    assert settled("JSON_RECORD", parts, (10, 10, 90, 90), 512, 512) == parts
    placed: Parts = settled("JSON_RECORD", parts, (127, 128, 256, 384), 512, 512)
    assert placed["bloc_reading"] == "pixels xyxy"
    rendered = json.loads(render("JSON_RECORD", placed, record="json", box="qwen3vl", letterbox=SQUARE))
    assert rendered == RECORD | {"bloc": {"bbox_2d": [250, 250, 500, 750]}}
    line = render("JSON_RECORD", placed, record="reference", box="source", letterbox=SQUARE)
    assert line.endswith("。notes:n。bloc:<loc_250><loc_250><loc_500><loc_750>。")


def test_a_box_from_the_pixels_stands_in_for_words() -> None:
    with pytest.raises(Unusable) as caught:
        parse("DETECT_REGION_LOC", "<DETECT_REGION_LOC>left, upper-middle")
    assert caught.value.parts is not None
    detected = caught.value.parts | {"box": [128, 128, 256, 384]}
    record = parse("JSON_RECORD", "<JSON_RECORD>" + str(RECORD | {"bloc": "left"})) | {"bloc_box": [128, 128, 256, 384]}
    (box,) = json.loads(render("DETECT_REGION_LOC", detected, record="json", box="qwen3vl", letterbox=SQUARE))
    assert box == {"bbox_2d": [250, 250, 500, 750], "label": "left, upper-middle"}
    bloc = json.loads(render("JSON_RECORD", record, record="json", box="qwen3vl", letterbox=SQUARE))["bloc"]
    assert bloc == {"bbox_2d": [250, 250, 500, 750]}


def test_what_is_hidden_is_never_printable() -> None:
    """So a printable text needs no second look."""
    assert not [c for c in map(chr, range(sys.maxunicode + 1)) if c.isprintable() and _HIDDEN.search(c)]


# Qwen3's special tokens as its tokenizer lists them, and LLaMA-Factory's placeholders
SPECIAL = re.compile(
    "|".join(
        re.escape(token)
        for token in (
            *(f"<|{name}|>" for name in ("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end")),
            *(f"<|{name}|>" for name in ("box_start", "box_end", "quad_start", "quad_end", "vision_start")),
            *(f"<|{name}|>" for name in ("vision_end", "vision_pad", "image_pad", "video_pad", "fim_prefix")),
            *(f"<|{name}|>" for name in ("fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")),
            *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
            *("<image>", "<video>", "<audio>"),
        )
    )
)
# Pieces that fall together into tags, tokens, literals and boxes far more often than any single characters do
PIECES = st.lists(
    st.one_of(
        st.sampled_from(["<|im_", "end|>", "<ima", "ge>", "<thi", "nk>", "<|", "|>", "<loc_1>", "<loc_999>", "<", ">"]),
        st.sampled_from(["\\u003c", "\\x3c", "im\\u005fend", "'a'", '"b"', "\\", "{'bbox_2d':", "'label':", "|"]),
        st.sampled_from(["[1,2,3,4]", *"[](){}'\",:", "1", "-2", "0.5", "None", "null", "left", "upper-middle"]),
        st.sampled_from([f"<{tag}>" for tag in TAGS]),
        st.sampled_from(["\n", " ", "<loc_1><loc_2><loc_3><loc_4>", '"caption": "c"']),
        st.text(max_size=4),
    ),
    max_size=25,
).map("".join)


@given(st.sampled_from(TAGS), st.one_of(st.text(max_size=300), PIECES), st.booleans(), st.sampled_from(BOXES))
def test_any_text_is_parsed_or_has_a_reason(tag: str, text: str, tagged: bool, box: str) -> None:
    with contextlib.suppress(Unusable):  # the one exception that a text may raise
        parts = orjson.loads(orjson.dumps(parse(tag, f"<{tag}>{text}" if tagged else text)))
        for record in ("json", "reference"):
            rendered = render(tag, parts, record=record, box=box, letterbox=SQUARE)
            assert rendered.strip()
            assert not SPECIAL.search(rendered)
            rendered.encode()


PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Cn", "Zl", "Zp"]), min_size=1, max_size=80).filter(
    lambda text: text.strip() and not SPECIAL.search(text) and not re.search(r"<\|[\w.-]+\|>|</?tools?>", text)
)
NUMBER = st.one_of(st.integers(-999, 2000), st.floats(0, 1000, allow_nan=False))
BLOC = st.one_of(
    st.none(),
    PLAIN,
    NUMBER,
    st.lists(NUMBER, max_size=5),
    st.dictionaries(st.sampled_from(["x1", "y1", "x2", "y2", "label", "bbox_2d"]), NUMBER),
    st.lists(st.integers(0, 999), min_size=4, max_size=4).map(lambda v: "a" + "".join(f"<loc_{q}>" for q in v)),
)


@given(st.tuples(*[PLAIN] * 4), BLOC, st.sampled_from([str, repr, json.dumps]), st.sampled_from(BOXES))
def test_a_record_comes_out_as_json_with_its_keys(
    texts: tuple[str, ...], bloc: object, write: Callable[[object], str], box: str
) -> None:
    record = dict(zip(RECORD, (*texts, bloc), strict=True))
    parts = parse("JSON_RECORD", "<JSON_RECORD>" + write(record))
    rendered = json.loads(render("JSON_RECORD", parts, record="json", box=box, letterbox=SQUARE))
    assert list(rendered) == list(RECORD)
    for key, text in zip(RECORD, texts, strict=False):
        assert rendered[key] == text.strip()


@given(st.dictionaries(st.sampled_from([t for t in TAGS if t not in PARSED]), PLAIN, min_size=1))
def test_known_tags_delimit_whatever_lies_between(answers: dict[str, str]) -> None:
    text = "".join(f"<{tag}>{answer}" for tag, answer in answers.items())
    for tag, own in answers.items():
        assert answer(tag, text) == own.strip()
