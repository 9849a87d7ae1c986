"""Records as a model writes them: valid JSON, with every key, and field by field beside the reference's."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from radtune.evaluate import boxes, text
from radtune.frames import Letterbox
from radtune.reasons import RECORD_KEYS

_AGREE = "mean over records of the reference's {0}: ROUGE-L x 100 of the prediction's, 0 where it has none"
SIGNATURES = {
    "record_valid": "share in percent of answers that are one JSON object and nothing else; not where the reference is "
    "a record of one line",
    "record_keys": f"share in percent of answers with all of the keys {', '.join(RECORD_KEYS)}, whatever their form",
    "record_fields": "mean of the fields below over those that the reference fills in",
    **{f"record_{key.replace(' ', '_')}": _AGREE.format(key) for key in RECORD_KEYS[:-1]},
    "record_bloc": "intersection over union x 100, as iou, where the reference's bloc holds a box, else exact match",
}

Record = dict[str, Any]
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_FIELD = re.compile(rf"(?:^|(?<=。))({'|'.join(RECORD_KEYS)}):")


@lru_cache(maxsize=2**14)
def parse(answer: str) -> tuple[Record | None, bool]:
    """The record that an answer holds, and whether it is JSON alone.

    Read as well are JSON in a Markdown fence, as an untuned model writes it, and the public recipe's one line of
    `key:value。`. None where nothing of a record is there.
    """
    answer = answer.strip()
    fenced = _FENCE.fullmatch(answer)
    for form in (answer, fenced[1] if fenced else None):
        try:
            value = json.loads(form or "")
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value, form is answer
    found = list(_FIELD.finditer(answer))
    ends = [*(match.start() for match in found[1:]), len(answer)]
    line = {match[1]: answer[match.end() : end].removesuffix("。") for match, end in zip(found, ends, strict=False)}
    return (line or None), False


def scores(prediction: str, reference: str, place: Letterbox | None = None, form: str = "qwen3vl") -> dict[str, float]:
    """Metrics of one pair, 0 to 100; nothing where the reference is no record. `place`, `form`: see boxes.read."""
    truth, is_json = parse(reference)
    if truth is None:
        return {}
    answer, valid = parse(prediction)
    said = answer or {}
    fields = {key: _agreement(key, said.get(key), truth[key], place, form) for key in RECORD_KEYS if truth.get(key)}
    result = {f"record_{key.replace(' ', '_')}": score for key, score in fields.items()}
    result["record_keys"] = 100.0 * (answer is not None and all(key in answer for key in RECORD_KEYS))
    if is_json:
        result["record_valid"] = 100.0 * valid
    if fields:
        result["record_fields"] = sum(fields.values()) / len(fields)
    return result


def _agreement(key: str, ours: object, theirs: object, place: Letterbox | None, form: str) -> float:
    said, meant = (value if isinstance(value, str) else json.dumps(value) for value in (ours, theirs))
    if ours is None:
        return 0.0
    if key != "bloc":
        return text.rouge_l(said, meant)
    box = boxes.scores(said, meant, place, form)
    return box["iou"] if box else text.exact_match(said, meant)
