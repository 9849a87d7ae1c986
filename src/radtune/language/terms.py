"""Terms of lexicon.yaml that a text names: findings, anatomy, densities, sides; each stated or denied.

Read by the scores that watch findings, and by the check that a rewritten text says what its original said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import yaml

Ways = tuple[re.Pattern[str], list[str]]  # a pattern, and the term of each of its groups
_PART = re.compile(r'[;!?。；！？\n"]+|\.+(?!\d)')  # a quotation mark ends a record's field
_JOINED = re.compile(r"\b(fronto|parieto|temporo|occipito)-?(?=[a-z])", re.IGNORECASE)  # two lobes in one word


@cache
def _lexicon() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = yaml.safe_load(
        Path(__file__).with_name("lexicon.yaml").read_text(encoding="utf-8")
    )
    return found


@cache
def _ways(section: str) -> Ways:
    """One pattern for all ways to say the section's terms in lower case, the longest first.

    An empty group at its end tells which way it was. No way begins with a group and none ignores case, as texts are put
    in lower case: then `re` skips most ways by their first letter.
    """
    ways = [(way.lower(), term) for term, ways in _lexicon()[section].items() for way in ways]
    ways.sort(key=lambda way: (not way[0].isascii(), -len(way[0])))
    english, chinese = (
        "|".join(f"(?:{way}){end}()" for way, _ in ways if way.isascii() == bool(end)) or "(?!)" for end in (r"\b", "")
    )
    # What is called non-haemorrhagic or 非出血性 is not named. The edges stand outside, as most places in a text have
    # none and all ways need not be tried there; re.ASCII, so that a word ends where Chinese begins.
    pattern = rf"\b(?<!non-)(?:{english})|(?=[^\x00-\x7f])(?<!非)(?:{chinese})"
    return re.compile(pattern, re.ASCII), [term for _, term in ways]


@lru_cache(maxsize=2**16)
def named(text: str, section: str) -> dict[str, bool]:
    """{term: whether it is stated, not denied} of the lexicon's section that `text` names."""
    found: dict[str, bool] = {}
    for _, _, term, stated in mentions(normal(text), section):
        found[term] = found.get(term, False) or stated
    return found


def normal(text: str) -> str:
    """In lower case, with straight apostrophes, and two lobes in one word as two words."""
    return _JOINED.sub(r"\1 ", text.lower().replace("’", "'"))


def mentions(text: str, section: str) -> Iterator[tuple[int, int, str, bool]]:
    """Start, end (characters), term, and whether it is stated, of each place in a `normal` text."""
    pattern, terms = _ways(section)
    start = 0
    for stop in (*_PART.finditer(text), None):
        part = text[start : stop.start() if stop else None]
        matches = list(pattern.finditer(part))
        denied = list(_denied(part)) if matches else []
        for match in matches:
            stated = not any(first < match.end() and match.start() < last for first, last in denied)
            yield start + match.start(), start + match.end(), terms[(match.lastindex or 0) - 1], stated
        start = stop.end() if stop else start


def _denied(part: str) -> Iterator[tuple[int, int]]:
    """Where in a sentence's part things are denied, as character positions."""
    pattern, kinds = _ways("negation")
    cues = [(match, kinds[(match.lastindex or 0) - 1]) for match in pattern.finditer(part)]
    limits = [match.start() for match, kind in cues if kind == "until"]
    for match, kind in cues:
        if kind == "before":
            yield match.end(), min((limit for limit in limits if limit >= match.end()), default=len(part))
        elif kind == "after":
            yield max((limit for limit in limits if limit < match.start()), default=0), match.start()


@cache
def pieces() -> re.Pattern[str]:
    """What the lexicon's English terms are spelt with, six letters and more: `emorrhag` of all forms of haemorrhage."""
    ways = " ".join(
        way for section in ("findings", "anatomy", "density") for of in _lexicon()[section].values() for way in of
    )
    return re.compile("|".join(sorted(set(re.findall("[a-z]{6,}", ways)))))


def denials(text: str) -> tuple[int, int]:
    """How often `text` denies anything; and how often it begins like a denial and is none: "cannot be excluded"."""
    pattern, kinds = _ways("negation")
    found = [kinds[(match.lastindex or 0) - 1] for match in pattern.finditer(text.lower())]
    return sum(kind in ("before", "after") for kind in found), found.count("none")
