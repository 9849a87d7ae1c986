"""JSON schemas of the answers that are JSON, in one place for who writes them and for who decodes under them."""

from __future__ import annotations

from typing import Any

from radtune.reasons import RECORD_KEYS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
# 0..1000 of the letterboxed picture; that x1 < x2 and y1 < y2 no JSON schema can say
_BOX: Schema = {
    "type": "object",
    "properties": {
        "bbox_2d": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 1000},
            "minItems": 4,
            "maxItems": 4,
        },
        "label": _TEXT,
    },
    "required": ["bbox_2d"],
    "additionalProperties": False,
}
# what a bloc may be besides a text or null, by the config's answers.box
_BLOCS: dict[str, list[Schema]] = {
    "qwen3vl": [_BOX],
    "florence": [],
    "source": [
        {"type": "array", "items": {"anyOf": [{"type": "number"}, _NUMBERS]}},
        {"type": "object", "additionalProperties": {"anyOf": [{"type": "number"}, _NUMBERS, _TEXT]}},
    ],
}


def schemas(box: str) -> dict[str, Schema]:
    """{tag: schema} of answers with a record of form json and boxes of form `box`, as in the config's `answers`.

    Keys stand in the order in which they are written. None nests without end, so that an answer can soon be closed.
    """
    bloc = {"anyOf": [*_BLOCS[box], _TEXT, {"type": "null"}]}
    record = {
        "type": "object",
        "properties": dict.fromkeys(RECORD_KEYS[:-1], _TEXT) | {RECORD_KEYS[-1]: bloc},
        "required": list(RECORD_KEYS),
        "additionalProperties": False,
    }
    boxes = {"type": "array", "items": _BOX, "minItems": 1, "maxItems": 1}
    return {"JSON_RECORD": record} | ({"DETECT_REGION_LOC": boxes} if box == "qwen3vl" else {})
