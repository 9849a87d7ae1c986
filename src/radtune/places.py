"""Places and shares of an area as sentences state them: English words of the data set's 5 x 5 grid, and percentages.

Read by the score that notices a swapped side, and by the check of a text against the rectangle in its pixels.
"""

from __future__ import annotations

import re

COLUMNS = ("left", "left-center", "central", "right-center", "right")
ROWS = ("upper", "upper-middle", "middle", "lower-middle", "bottom")

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
_ON_AXIS = {"horizontal": re.compile(_HORIZONTAL), "vertical": re.compile(_VERTICAL)}
_TIED = {
    axis: re.compile(
        rf"\b({words.pattern})\b(?:\s+[a-z]+){{0,2}}?\s+{axis}ly\b"
        rf"|\b{axis}ly[\s,:]+(?:[a-z]+\s+){{0,3}}?({words.pattern})\b"
    )
    for axis, words in _ON_AXIS.items()
}
_LOCATED = re.compile(
    r"\b(?:located|positioned|situated|location|lies|lying|cent(?:er|re)ed)\b(.*?)(?=[.;。\n](?:\W|$)|$)", re.S
)
_PLACE = re.compile(
    rf"\b(?:{_COMPOUND})\b|\b(?:{_ANY})(?=(?:(?:\s+and\s+|[\s,-]+)(?:{_ANY}))*\s+(?:part|portion|region|area|section"
    r"|side|corner|quadrant|third|of the (?:image|picture|scan))\b)"
)
_DECIMALS, _PERCENT = r"(?:[.,]\d+)?", r"\s*(?:[%％]|per ?cent)"
# Two, each of which knows how a match begins: as one pattern they took three times as long
_AREA = (
    re.compile(
        rf"(?:occup|cover|compris|account|area|size|占(?!位)|面积|大小|覆盖)[^.%％。]{{0,60}}?(\d+{_DECIMALS}){_PERCENT}"
    ),
    re.compile(rf"(\d(?<!\d\d)\d*{_DECIMALS}){_PERCENT}[^.%％。]{{0,40}}?(?:image|area|picture|图像|影像|面积)"),
)
_PERCENT_WORDS = re.compile("百分之([零一二两三四五六七八九十点.0-9]+)")
_TENS = re.compile(r"(\d?)十(\d?)")

_SYNONYMS = {"top": "upper", "lower": "bottom"}


def _canonical(word: str) -> str:
    word = word.replace(" ", "-")
    if word.startswith("cent"):
        return "central"
    return _SYNONYMS.get(word, re.sub("cent(?:re|ral)$", "center", word))


def names_a_place(text: str) -> bool:
    """Whether lower-case `text` holds any word of place at all, of the image or of anatomy."""
    return _WORD.search(text) is not None


def named(text: str) -> set[str]:
    """Every word of place in lower-case `text`, in the grid's spelling."""
    return {_canonical(match[0]) for match in _WORD.finditer(text)}


def place(text: str, axis: str) -> str | None:
    """The word of COLUMNS (axis "horizontal") or ROWS ("vertical") that lower-case `text` states, or None."""
    return _place(text, axis) if names_a_place(text) else None


def both(text: str) -> dict[str, str]:
    """By axis the words that lower-case `text` states, as place() has them."""
    found = {axis: _place(text, axis) for axis in _ON_AXIS} if names_a_place(text) else {}
    return {axis: word for axis, word in found.items() if word}


def _place(text: str, axis: str) -> str | None:
    is_on_axis = _ON_AXIS[axis].fullmatch
    tied = _TIED[axis].search(text)
    if tied:
        return _canonical(tied[1] or tied[2])
    for phrase in _LOCATED.findall(text):
        for match in _WORD.finditer(phrase):
            if is_on_axis(match[0]) and not _ANATOMY.match(phrase, match.end()):
                return _canonical(match[0])
    for match in _PLACE.finditer(text):
        if is_on_axis(match[0]):
            return _canonical(match[0])
    return None


def area(text: str) -> str | None:
    """The share of the image in percent that lower-case `text` states, in the digits it has there, or None."""
    text = _PERCENT_WORDS.sub(lambda match: f"{_digits(match[1])}%", text)
    if "%" not in text and "％" not in text and "cent" not in text:
        return None
    found = sorted((match.start(), match[1].replace(",", ".")) for area in _AREA for match in area.finditer(text))
    return next((share for _, share in found if float(share) <= 100), None)


def _digits(number: str) -> str:
    """Of a Chinese number up to 99, its decimals after 点: 十二点五 is 12.5."""
    number = number.translate(str.maketrans("零一二两三四五六七八九点", "01223456789."))
    return _TENS.sub(lambda match: f"{match[1] or 1}{match[2] or 0}", number)
