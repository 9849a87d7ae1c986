"""Facts a finding states in words: where it lies across and down the image, its density, its share of the area.

ROUGE hardly notices "left" for "right"; these scores do. English words of the data set's 5 x 5 grid only.
"""

from __future__ import annotations

import re
from functools import lru_cache

SIGNATURES = {
    "slots": "share in percent of the reference's location and density words that the prediction states too",
    "slot_horizontal": "accuracy (%): left, left-center, central, right-center or right where the reference says",
    "slot_vertical": "accuracy (%): upper, upper-middle, middle, lower-middle or bottom where the reference says",
    "slot_density": "accuracy (%): hyperdense, isodense or hypodense where the reference says",
    "area_error": "mean absolute error of the area in percentage points where both state one (lower is better)",
    "area_missing": "share in percent of predictions without an area where the reference states one (lower is better)",
}

# Longest first, so that "left-center" is not read as "left" nor "upper-middle" as "upper" or "middle".
_HORIZONTAL = r"left[- ]cent(?:er|re|ral)|right[- ]cent(?:er|re|ral)|left|right|cent(?:rally|ral|er|re)"
_VERTICAL = r"upper[- ]middle|lower[- ]middle|upper|top|middle|lower|bottom"
_COMPOUND = r"(?:left|right)[- ]cent(?:er|re|ral)|(?:upper|lower)[- ]middle"
_ANY = f"{_HORIZONTAL}|{_VERTICAL}"
_WORD = re.compile(rf"\b(?:{_ANY})\b")
# A word that names anatomy says nothing of the place in the image: "left hemisphere", "middle cerebral artery".
_ANATOMY = re.compile(
    r"[\s-]+(?:lateral|cerebr\w+|cerebell\w+|hemispher\w+|frontal|parietal|temporal|occipital|basal|thalam\w+|insula\w*"
    r"|lobe|ventric\w+|sulcus|gyrus|nervous|fossa|sinus|kidney|lung|eye|orbit\w*|artery|vein)\b"
)
# Place phrases, the surest first: a word tied to its axis, then words after "located", then a compound or a word
# followed by "part of the image" anywhere.
_AXIS = {"horizontal": "horizontally", "vertical": "vertically"}
_LOCATED = re.compile(
    r"\b(?:located|positioned|situated|location|lies|lying|cent(?:er|re)ed)\b(.*?)(?=[.;。\n](?:\W|$)|$)", re.S
)
_PLACE = re.compile(
    rf"\b(?:{_COMPOUND})\b|\b(?:{_ANY})(?=(?:(?:\s+and\s+|[\s,-]+)(?:{_ANY}))*\s+(?:part|portion|region|area|section"
    r"|side|corner|quadrant|third|of the (?:image|picture|scan))\b)"
)
_DENSITY = re.compile(r"\b(no|not|without|nor)?\s*\b(?:an?\s+)?(hyper|hypo|iso)[- ]?dens(?:e|ity|ities)\b")
_AREA = re.compile(
    r"(?:occup|cover|compris|account|area|size)[^.%％]{0,60}?(\d+(?:\.\d+)?)\s*(?:[%％]|percent)"
    r"|(\d+(?:\.\d+)?)\s*(?:[%％]|percent)[^.%％]{0,40}?(?:image|area|picture)"
)

_SYNONYMS = {"top": "upper", "lower": "bottom"}


def _canonical(word: str) -> str:
    word = word.replace(" ", "-")
    if word.startswith("cent"):
        return "central"
    return _SYNONYMS.get(word, re.sub("cent(?:re|ral)$", "center", word))


def _is(axis: str, word: str) -> bool:
    return re.fullmatch(_HORIZONTAL if axis == "horizontal" else _VERTICAL, word) is not None


def _place(text: str, axis: str) -> str | None:
    words = _HORIZONTAL if axis == "horizontal" else _VERTICAL
    adverb = _AXIS[axis]
    tied = re.search(
        rf"\b({words})\b(?:\s+[a-z]+){{0,2}}?\s+{adverb}\b|\b{adverb}[\s,:]+(?:[a-z]+\s+){{0,3}}?({words})\b", text
    )
    if tied:
        return _canonical(tied[1] or tied[2])
    for phrase in _LOCATED.findall(text):
        for match in _WORD.finditer(phrase):
            if _is(axis, match[0]) and not _ANATOMY.match(phrase, match.end()):
                return _canonical(match[0])
    for match in _PLACE.finditer(text):
        if _is(axis, match[0]):
            return _canonical(match[0])
    return None


@lru_cache(maxsize=2**16)
def extract(text: str) -> dict[str, str | float | None]:
    """`horizontal`, `vertical` and `density` words and the `area` in percent of the image; None where not stated."""
    text = text.lower()
    density = next((m[2] + "dense" for m in _DENSITY.finditer(text) if not m[1]), None)
    areas = [float(m[1] or m[2]) for m in _AREA.finditer(text)]
    return {
        "horizontal": _place(text, "horizontal"),
        "vertical": _place(text, "vertical"),
        "density": density,
        "area": next((a for a in areas if a <= 100), None),
    }


def scores(prediction: str, reference: str) -> dict[str, float]:
    """Slot metrics of one pair, only those the reference states."""
    truth, answer = extract(reference), extract(prediction)
    words = {s: 100.0 * (answer[s] == truth[s]) for s in ("horizontal", "vertical", "density") if truth[s] is not None}
    result = {f"slot_{slot}": score for slot, score in words.items()}
    if words:
        result["slots"] = sum(words.values()) / len(words)
    stated, given = truth["area"], answer["area"]
    if isinstance(stated, float):
        result["area_missing"] = 0.0 if isinstance(given, float) else 100.0
        if isinstance(given, float):
            result["area_error"] = abs(given - stated)
    return result
