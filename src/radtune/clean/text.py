"""What can be wrong with the wording of a text, and what of it shows in the text alone: the lexicon's ways
(wording.yaml), which are chatty, vague or empty, and garbled characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from radtune.language.words import CJK
from radtune.reasons import RECORD_KEYS, Code

OFTEN = 10  # times as many texts have the term that a word misspells; times that a phrase would occur by chance
SHARE, GROUPS = 0.05, 10  # of train's groups, and so many of them at least, have a sentence that is boilerplate
_SHORT = 120  # characters: a longer text does say something


class Kind(Code):
    """What is wrong with a wording."""

    EMPTY = "empty", "The answer, or a field of the record, says nothing."
    CHATTY = "chatty", "It speaks as an assistant does: of itself, of the request, to the reader."
    VAGUE = "vague", "It takes back what it says, doubts twice, or tells how things seem."
    GARBLED = "garbled", "Wrongly decoded characters, remains of markup, or characters and words said over and over."
    MISSPELT = "misspelt", f"A word that is one letter from a term that {OFTEN} times as many texts of train have."
    RARE = "rare", "It has a word, or a Chinese character, that no other group of train has."
    PHRASE = (
        "phrase",
        "It has two words, or Chinese characters, side by side as in no other group of train, though each is so common "
        f"that chance alone would bring them together {OFTEN} times.",
    )
    BOILERPLATE = (
        "boilerplate",
        f"A sentence that stands to the letter in {SHARE:.0%} of train's groups, and in {GROUPS} at least.",
    )
    CONTRADICTION = "contradiction", "What it says of the region is not what the rectangle in its own pixels shows."


class Finding(NamedTuple):
    kind: Kind
    start: int
    end: int
    note: str = ""
    group: int | None = None  # that alone is meant, where others may have the text as well


_ESCAPE = re.compile(
    r"\\[nrt]|\\u[0-9a-f]{4}|&(?:amp|lt|gt|quot|nbsp|#\d+);|</?(?:unk|pad|s|bos|eos|br|p)/?>"
    r"|\[(?:unk|mask|pad|cls|sep)\]|(?<!\w)##\w+|[\u2581\ufffd]|锟斤拷|烫烫"
)
_AGAIN = re.compile(rf"([a-z])\1{{3,}}|([{CJK}])\2{{2,}}|\b(?!(?:had|that)\b)([a-z]{{2,}}) \3\b|([!?;,])\4{{3,}}")
_ANY = re.compile(f"[a-z0-9{CJK}]")
_DIGITS_INSIDE = re.compile(r"(?<![a-z0-9_])[a-z]{2,}[0-9]+[a-z]{2,}(?![a-z0-9_])")
# what UTF-8 looks like to who reads it as Windows-1252: a run of letters beyond ASCII that decodes
_MISREAD = re.compile("[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122]{2,}")


def fields(tag: str, parts: Mapping[str, Any]) -> dict[str, str]:
    """The free texts of an answer's parts (data/samples.parquet) by the name of their field."""
    names = {"JSON_RECORD": RECORD_KEYS[:4], "REGION_OF_INTEREST": ("features", "observation")}
    named = names.get(tag, ("label",) if tag == "DETECT_REGION_LOC" else ("text",))
    return {name: parts[name] for name in named if parts.get(name)}


def lower(text: str) -> str:
    """In lower case and of the same length: a few letters would become two."""
    low = text.lower().replace("’", "'")
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


@cache
def _ways(kind: str) -> tuple[re.Pattern[str], list[str]]:
    """One pattern for all ways of a kind, and why of each of its groups; an empty group at a way's end tells which."""
    lexicon = yaml.safe_load(Path(__file__).with_name("wording.yaml").read_text(encoding="utf-8"))
    ways = [(way, why) for why, ways in lexicon[kind].items() for way in ways]
    ways.sort(key=lambda way: not way[0].isascii())
    english, chinese = (
        "|".join(f"(?:{way}){end}()" for way, _ in ways if way.isascii() == bool(end)) for end in (r"\b", "")
    )
    return re.compile(rf"\b(?:{english})|(?=[^\x00-\x7f])(?:{chinese})", re.ASCII), [why for _, why in ways]


def chatter(text: str, kinds: Sequence[Kind] = (Kind.CHATTY, Kind.VAGUE)) -> Iterator[Finding]:
    """Every place where `text` is worded as the lexicon forbids."""
    for kind in kinds:
        pattern, whys = _ways(kind)
        for match in pattern.finditer(lower(text)):
            yield Finding(kind, *match.span(), whys[(match.lastindex or 0) - 1])


def by_lexicon(low: str) -> Iterator[Finding]:
    """The first place of each kind where a text, in lower case, is worded as the lexicon forbids, or says nothing."""
    for kind in (Kind.CHATTY, Kind.VAGUE):
        pattern, whys = _ways(kind)
        if match := pattern.search(low):
            yield Finding(kind, *match.span(), whys[(match.lastindex or 0) - 1])
    if len(low) < _SHORT:
        pattern, whys = _ways(Kind.EMPTY)
        bare = low.strip(" \t\n.。,，:;-")
        if not _ANY.search(bare) or pattern.fullmatch(bare):
            yield Finding(Kind.EMPTY, 0, len(low), whys[0])


def garbled(low: str, text: str) -> Iterator[Finding]:
    """The first place where `text`, `low` in lower case, holds what no one wrote."""
    for pattern in (_ESCAPE, _AGAIN, _DIGITS_INSIDE):
        if match := pattern.search(low):
            yield Finding(Kind.GARBLED, *match.span())
            return
    if not text.isascii():
        for match in _MISREAD.finditer(text):
            try:
                meant = match[0].encode("cp1252").decode()
            except UnicodeError:
                continue
            yield Finding(Kind.GARBLED, *match.span(), meant)
            return
