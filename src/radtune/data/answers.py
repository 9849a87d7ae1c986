"""What a row's `text` holds, per tag: parse it into named parts, and render the answer that the model learns.

A text repeats its own tag, without a space, then the answer; several tags can share one text. Only KNOWN tags delimit,
so that `area < 5%` or `<loc_10>` stay part of the answer. A record is a Python dict literal or JSON, never evaluated.
A form that is not known is named in the parts, to be counted, and never guessed at.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from radtune import places
from radtune.control import obeyed
from radtune.data import boxes
from radtune.frames import Box, Letterbox
from radtune.reasons import MAX_CHARS, RECORD_KEYS, Reason, Unusable

TAGS = (
    "CAPTION",
    "CAPTION_DETAILS",
    "REGION_OF_INTEREST",
    "OBSERVATION",
    "JSON_RECORD",
    "DETECT_REGION_LOC",
    "REGION_LOC_DESCRIPTION",
)
FORMS = ("loc_tokens", "list", "mapping", "several", "words", "null", "other")  # of coordinates, as they come
NUMBERS = ("loc_tokens", "list", "mapping", "several")  # of them, those that hold coordinates
REGION_LABELS = {"features": "Region features: ", "observation": "Clinical observation: "}

_TAG = re.compile(r"<(" + "|".join(TAGS) + r")>")
_LOCS = re.compile(r"<loc_[^<>]*+>(?:[\s,]*+<loc_[^<>]*+>)++")  # in a row; a lone one names no place and is left
# Four numbers one soon after the other: with what names or divides them between, or in words, where nothing does
_COORDINATES = re.compile(r"(?:\d{1,9}+(?:\.\d{1,9}+)?+\D{1,12}){3}\d")
_BARE = re.compile(r"(?:\d{1,9}+(?:\.\d{1,9}+)?+[\s,;]{1,3}){3}\d")

# The shape of a literal, looked at before any parser is: strings (s), other atoms (a), brackets, commas, colons.
# A string that never ends matches too: else each of its quotes would start another search to the end.
_STRING = re.compile(r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'?|"[^"\\]*+(?:\\.[^"\\]*+)*+"?""", re.S)
_ATOM = re.compile(
    r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?(?![\w.+-])|[A-Za-z]++"
)
_CONSTANTS = {"None", "True", "False", "null", "true", "false"}
_NO_LITERAL = re.compile(r"[^sa\[\](){},:]|[sa][sa]|[sa\])}][\[({]|[\])}][sa]")  # a call, an index, a sum
_OPENS = {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}
MAX_DEPTH = 6

Parts = dict[str, Any]


def tag_of(question: str | None) -> str:
    """The tag named by a row's question, with or without angle brackets."""
    if question is None or not question.strip():
        raise Unusable(Reason.TAG_MISSING)
    tag = question.strip().strip("<>")
    if tag not in TAGS:
        raise Unusable(Reason.TAG_UNKNOWN)
    return tag


def parse(tag: str, text: str | None) -> Parts:
    """The named parts of one text; raises Unusable and nothing else.

    Plain tags: {text}.
    REGION_OF_INTEREST: {features, observation}, or the one that is there.
    Where these hold loc tokens in fours, there is a `form` as well (and `loc`, if they are one box), and `render` moves
    them; tokens in a row that make no boxes raise BOX_UNPARSABLE or BOX_IMPOSSIBLE, here and in a record's texts.
    DETECT_REGION_LOC: {form, label} with either `loc`, [x1, y1, x2, y2] in 0..999 of the ORIGINAL image (Florence-2's
    quantisation), or `values`, four numbers that `settled` has to place. No coordinates, or more than one box (one
    region is asked for, so which is meant is unclear), raise BOX_UNPARSABLE with {form, label} in the error's parts.
    JSON_RECORD: the four texts, `bloc` as it came, `bloc_form`, and where it could be read `bloc_label` and `bloc_loc`
    or `bloc_values`, as above. `form` is one of FORMS.
    """
    if text is None or not text.strip():
        raise Unusable(Reason.TEXT_MISSING)
    if len(text) > MAX_CHARS:
        raise Unusable(Reason.TEXT_TOO_LONG)
    text = _clean(text)
    pieces = _TAG.split(text)  # [before, tag, answer, tag, answer, ...]
    found = [(name, answer.strip()) for name, answer in zip(pieces[1::2], pieces[2::2], strict=True)]
    own = _only(tag, found)
    if own is None:
        raise Unusable(Reason.TAG_NOT_IN_TEXT)
    if tag == "REGION_OF_INTEREST":
        parts = {"features": own, "observation": _only("OBSERVATION", found)}
        parts = {key: value for key, value in parts.items() if value}
        if not parts:
            raise Unusable(Reason.ANSWER_EMPTY)
        return _with_form(parts)
    if not own:
        raise Unusable(Reason.ANSWER_EMPTY)
    if tag == "JSON_RECORD":
        return _record(own)
    if tag == "DETECT_REGION_LOC":
        where = _where(own)
        if "loc" not in where and "values" not in where:
            raise Unusable(Reason.BOX_UNPARSABLE, where)
        if "loc" in where and not _possible(where["loc"]):
            raise Unusable(Reason.BOX_IMPOSSIBLE, {key: where[key] for key in ("form", "label")})
        return where
    return _with_form({"text": own})


def _with_form(parts: Parts) -> Parts:
    """The texts `parts`, and where they hold coordinates their form, and `loc` if it is one box."""
    locs = [loc for text in parts.values() for loc in _locs(text)]
    if len(locs) > 1:
        return parts | {"form": "several"}
    return parts | ({"form": "loc_tokens", "loc": locs[0]} if locs else {})


def _locs(text: str) -> list[list[int]]:
    """Every [x1, y1, x2, y2] of loc tokens in a text; raises Unusable where tokens in a row are no boxes."""
    found = []
    for run in _LOCS.finditer(text) if "<loc_" in text else ():
        locs = boxes.from_florence(run[0])[1]
        if not locs:
            raise Unusable(Reason.BOX_UNPARSABLE)
        if not all(map(_possible, locs)):
            raise Unusable(Reason.BOX_IMPOSSIBLE)
        found += locs
    return found


def _clean(text: str) -> str:
    """`text` with plain line ends; raises Unusable where it holds what would be obeyed rather than read."""
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    if obeyed(text):
        raise Unusable(Reason.CONTROL_TOKEN)
    return text


def _only(tag: str, found: list[tuple[str, str]]) -> str | None:
    answers = [answer for name, answer in found if name == tag]
    if len(answers) > 1:
        raise Unusable(Reason.TAG_REPEATED)
    return answers[0] if answers else None


def _record(text: str) -> Parts:
    record = _literal(text)
    if not isinstance(record, dict):
        raise Unusable(Reason.RECORD_UNPARSABLE)
    if any(not isinstance(record.get(key), str) or not record[key].strip() for key in RECORD_KEYS[:4]):
        raise Unusable(Reason.RECORD_INCOMPLETE)
    for key in RECORD_KEYS[:4]:
        _locs(record[key])
    where = _where(record.get("bloc"))
    if "loc" in where and not _possible(where["loc"]):
        del where["loc"]
    if not ("loc" in where or "values" in where):
        del where["label"]
    return (
        {key: record[key].strip() for key in RECORD_KEYS[:4]}
        | {"bloc": record.get("bloc")}
        | {f"bloc_{key}": value for key, value in where.items()}
    )


def _literal(text: str) -> Any:
    """The value of JSON or of a Python literal; raises Unusable.

    Only strings, numbers, constants and brackets to MAX_DEPTH reach a parser, so that no text can exhaust it.
    """
    shape = "".join(_ATOM.sub(lambda m: _atom(m[0]), _STRING.sub("\0", text)).split()).replace("\0", "s")
    if _NO_LITERAL.search(shape):
        raise Unusable(Reason.RECORD_UNPARSABLE)
    depth = 0
    for sign in shape:
        depth += _OPENS.get(sign, 0)
        if not 0 <= depth <= MAX_DEPTH:
            raise Unusable(Reason.RECORD_UNPARSABLE)
    try:
        try:
            value = json.loads(text, strict=False, object_pairs_hook=_unique)
        except json.JSONDecodeError:
            tree = ast.parse(text, mode="eval")
            _unique_keys(tree.body)
            value = ast.literal_eval(tree)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise Unusable(Reason.RECORD_UNPARSABLE) from None
    return _plain(value)


def _atom(atom: str) -> str:
    return "a" if atom in _CONSTANTS or not atom[0].isalpha() else "?"


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("A key occurs twice, so which value is meant is unclear.")
    return found


def _unique_keys(node: ast.expr | None) -> None:
    if isinstance(node, ast.Dict):
        _unique([(key.value, None) for key in node.keys if isinstance(key, ast.Constant)])
        for value in node.values:
            _unique_keys(value)
    elif isinstance(node, ast.List | ast.Tuple):
        for value in node.elts:
            _unique_keys(value)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it; its strings are looked at again, as an escape hides a control token from `parse`."""
    if isinstance(value, str):
        return _clean(value)
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_clean(key): _plain(part) for key, part in value.items()}
    raise Unusable(Reason.RECORD_UNPARSABLE)


def _where(value: Any) -> Parts:
    """{form, label} of coordinates in a text or a parsed value, with `loc` or `values` where there is just one box."""
    text = value.strip() if isinstance(value, str) else None
    if value is None or text == "":
        return {"form": "null", "label": ""}
    if text and "<loc_" in text:
        label, locs = boxes.from_florence(text)
        where: Parts = {"form": "several" if len(locs) > 1 else "loc_tokens", "label": _clean(label)}
        return where | ({"loc": locs[0]} if len(locs) == 1 else {})
    form, without, label = "mapping" if isinstance(value, dict) else "list", "other", ""
    if text and text[0] in "[({":
        try:
            value = _literal(text)
        except Unusable as error:
            if error.reason == Reason.CONTROL_TOKEN:
                raise
    if text and isinstance(value, str):
        label, fours = boxes.from_lists(text)
        without = "words" if places.names_a_place(text.lower()) else "other"
    else:
        fours = boxes.from_value(value)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and isinstance(first.get("label"), str):
            label = first["label"].strip()
    if len(fours) != 1:
        return {"form": "several" if fours else without, "label": label}
    return {"form": form, "label": _clean(label), "values": fours[0]}


def _possible(loc: list[int]) -> bool:
    x1, y1, x2, y2 = loc
    return 0 <= x1 < x2 <= 999 and 0 <= y1 < y2 <= 999


def _prefix(tag: str) -> str:
    return {"JSON_RECORD": "bloc_", "DETECT_REGION_LOC": ""}[tag]


def settled(tag: str, parts: Parts, found: Sequence[int] | None, width: int, height: int) -> Parts:
    """`parts` with the box that their four numbers mean, by the rectangle `found` in the width x height original.

    Adds `box`, [x1, y1, x2, y2] in original pixels, and `reading`, the name of the frame and order (for a record
    `bloc_box`, `bloc_reading`); parts without such numbers are returned as they are. Where nothing agrees, a record
    keeps its bloc as it came and a DETECT_REGION_LOC raises BOX_UNSETTLED.
    """
    if tag not in ("JSON_RECORD", "DETECT_REGION_LOC") or (values := parts.get(f"{_prefix(tag)}values")) is None:
        return parts
    one = boxes.settle(values, found, width, height) if found else None
    if one is None:
        if tag == "DETECT_REGION_LOC":
            raise Unusable(Reason.BOX_UNSETTLED, parts)
        return parts
    return parts | {f"{_prefix(tag)}box": list(one[1].edges), f"{_prefix(tag)}reading": one[0]}


def render(tag: str, parts: Parts, *, record: str, box: str, letterbox: Letterbox) -> str:
    """The answer in the form that the config asks for.

    `record`: json (one object with fixed keys) or reference (one line of `key:value。`). `box`: see boxes.grounding;
    coordinates are moved with the letterbox, since the model sees that picture and no other, those within a text as
    well. Numbers of a bloc that are not placed become null, for they name no place in that picture, but stay with `box`
    source; words stay as they came.
    A DETECT_REGION_LOC that is not placed raises BOX_UNSETTLED.
    """

    def text(key: str) -> str:
        return _moved(parts[key], box, letterbox)

    if tag == "REGION_OF_INTEREST":
        there = [key for key in REGION_LABELS if key in parts]
        return text(there[0]) if len(there) == 1 else "\n".join(REGION_LABELS[key] + text(key) for key in there)
    if tag == "JSON_RECORD":
        placed = _box(parts, "bloc_", letterbox)
        bloc = boxes.grounding(placed, parts.get("bloc_label", ""), box, letterbox) if placed else parts.get("bloc")
        if not placed and box != "source" and _names_coordinates(bloc, parts.get("bloc_form")):
            bloc = None
        values = {key: text(key) for key in RECORD_KEYS[:4]} | {"bloc": bloc}
        if record == "json":
            return json.dumps(values, ensure_ascii=False)
        line = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in values.items() if v}
        return "".join(f"{key}:{value}。" for key, value in line.items())
    if tag == "DETECT_REGION_LOC":
        placed = _box(parts, "", letterbox)
        if placed is None:
            raise Unusable(Reason.BOX_UNSETTLED, parts)
        return boxes.format_box(placed, parts["label"], box, letterbox)
    return text("text")


def _moved(text: str, form: str, letterbox: Letterbox) -> str:
    """`text` with the boxes that its loc tokens name in the asked form, of the letterboxed picture."""
    if form == "source" or "<loc_" not in text:
        return text

    def moved(run: re.Match[str]) -> str:
        found = [Box.from_loc(loc, letterbox.width, letterbox.height) for loc in _locs(run[0])]
        answers = [boxes.grounding(each, "", form, letterbox) for each in found]
        if form == "florence":
            return "".join(map(str, answers))
        words = ", ".join(map(json.dumps, answers))
        return words if not run.start() or text[run.start() - 1].isspace() else f" {words}"

    return _LOCS.sub(moved, text)


def _names_coordinates(bloc: Any, form: str | None) -> bool:
    """Whether a bloc holds numbers of the original's frame, known by its form or the look of it."""
    if form in NUMBERS:
        return True
    text = bloc if isinstance(bloc, str) else json.dumps(bloc)
    return "<loc_" in text or bool((_BARE if form == "words" else _COORDINATES).search(text))


def _box(parts: Parts, prefix: str, letterbox: Letterbox) -> Box | None:
    """The box in original pixels: what was settled or found in the pixels, else what the loc tokens say."""
    if box := parts.get(f"{prefix}box"):
        return Box.of(box)
    if loc := parts.get(f"{prefix}loc"):
        return Box.from_loc(loc, letterbox.width, letterbox.height)
    return None
