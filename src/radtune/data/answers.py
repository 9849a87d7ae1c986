"""What a row's `text` holds, per tag: parse it into named parts, and render the answer that the model learns.

A text repeats its own tag, without a space, then the answer; several tags can share one text. Only KNOWN tags delimit,
so that `area < 5%` or `<loc_10>` stay part of the answer. A record is a Python dict literal or JSON, never evaluated.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from radtune.data.boxes import Box, Letterbox, format_box, from_florence
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

_TAG = re.compile(r"<(" + "|".join(TAGS) + r")>")
# Qwen's control tokens, and the placeholders that LLaMA-Factory replaces by pixels
_CONTROL = re.compile(
    r"<\|[a-z_]+\|>|<(?:image|video|audio)>|</?(?:think|tool_call|tool_response)>|[\x00-\x08\x0b-\x1f]"
)

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
    """The named parts of one text; raises Unusable.

    Plain tags give {text}; REGION_OF_INTEREST {features, observation} or the one that is there; JSON_RECORD the record;
    DETECT_REGION_LOC {label, loc}: loc = [x1, y1, x2, y2], 0..999 of the ORIGINAL image (Florence-2's quantisation).
    """
    if text is None or not text.strip():
        raise Unusable(Reason.TEXT_MISSING)
    if len(text) > MAX_CHARS:
        raise Unusable(Reason.TEXT_TOO_LONG)
    if _CONTROL.search(text):
        raise Unusable(Reason.CONTROL_TOKEN)
    pieces = _TAG.split(text)  # [before, tag, answer, tag, answer, ...]
    found = [(name, answer.strip()) for name, answer in zip(pieces[1::2], pieces[2::2], strict=True)]
    own = [answer for name, answer in found if name == tag]
    if not own:
        raise Unusable(Reason.TAG_NOT_IN_TEXT)
    if len(own) > 1:
        raise Unusable(Reason.TAG_REPEATED)
    if tag == "REGION_OF_INTEREST":
        parts = {"features": own[0], "observation": dict(found).get("OBSERVATION", "")}
        parts = {key: value for key, value in parts.items() if value}
        if not parts:
            raise Unusable(Reason.ANSWER_EMPTY)
        return parts
    if not own[0]:
        raise Unusable(Reason.ANSWER_EMPTY)
    if tag == "JSON_RECORD":
        return _record(own[0])
    if tag == "DETECT_REGION_LOC":
        label, loc = from_florence(own[0])
        if loc is None:
            raise Unusable(Reason.BOX_UNPARSABLE)
        if not (0 <= loc[0] < loc[2] <= 999 and 0 <= loc[1] < loc[3] <= 999):
            raise Unusable(Reason.BOX_IMPOSSIBLE)
        return {"label": label, "loc": loc}
    return {"text": own[0]}


def _record(text: str) -> Parts:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise Unusable(Reason.RECORD_UNPARSABLE) from None
    if not isinstance(record, dict):
        raise Unusable(Reason.RECORD_UNPARSABLE)
    if any(not isinstance(record.get(key), str) or not record[key].strip() for key in RECORD_KEYS[:4]):
        raise Unusable(Reason.RECORD_INCOMPLETE)
    return {key: record[key].strip() for key in RECORD_KEYS[:4]} | {"bloc": record.get("bloc")}


def render(tag: str, parts: Parts, *, record: str, box: str, letterbox: Letterbox) -> str:
    """The answer in the form that the config asks for.

    `record`: json (one object with fixed keys) or reference (one line of `key:value。`). `box`: see boxes.FORMATS;
    coordinates are moved with the letterbox, since the model sees that picture and no other.
    """
    if tag == "REGION_OF_INTEREST":
        return "\n".join(parts.values())
    if tag == "JSON_RECORD":
        if record == "json":
            return json.dumps({key: parts.get(key) for key in RECORD_KEYS}, ensure_ascii=False)
        return "".join(f"{key}:{parts[key]}。" for key in RECORD_KEYS if parts.get(key) is not None)
    if tag == "DETECT_REGION_LOC":
        return format_box(Box.from_loc(parts["loc"], letterbox.width, letterbox.height), parts["label"], box, letterbox)
    return str(parts["text"])
