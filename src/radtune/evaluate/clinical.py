"""Findings, anatomy and sides that an answer names, beside those of its reference; a denied finding is not stated.

ROUGE hardly notices a finding that is denied or made up; these scores do. The words are in lexicon.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

SIGNATURES = {
    "finding_f1": "harmonic mean of the two below",
    "finding_precision": "share in percent of the findings stated by predictions that their references state, all "
    "samples together; synonyms are one; a suspected finding is stated, a denied one is not; radtune's lexicon.yaml",
    "finding_recall": "share in percent of the findings stated by references that their predictions state, likewise",
    "findings_invented": "findings that a prediction states and its reference does not, mean number (lower is better)",
    "findings_missed": "findings that a reference states and its prediction does not, mean number (lower is better)",
    "denial": "accuracy (%): the findings that both name, stated by both or denied by both",
    "anatomy_f1": "F1 x 100 of the anatomical terms named, all samples together",
    "laterality": "accuracy (%): left, right, midline, both sides: all that the reference names and no other; a "
    "midline shift is no side",
}

Counts = tuple[int, int, int]  # in both, in the prediction alone, in the reference alone
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
    pattern, terms = _ways(section)
    found: dict[str, bool] = {}
    for part in _PART.split(_JOINED.sub(r"\1 ", text.lower().replace("’", "'"))):
        matches = list(pattern.finditer(part))
        denied = list(_denied(part)) if matches else []
        for match in matches:
            stated = not any(start < match.end() and match.start() < end for start, end in denied)
            term = terms[(match.lastindex or 0) - 1]
            found[term] = found.get(term, False) or stated
    return found


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


def counts(prediction: str, reference: str) -> dict[str, Counts]:
    """For F1 over all samples: findings stated, and anatomy named; what neither text has is left out."""
    ours, theirs = (
        {term for term, stated in named(text, "findings").items() if stated} for text in (prediction, reference)
    )
    pairs = {
        "finding": (ours, theirs),
        "anatomy": (set(named(prediction, "anatomy")), set(named(reference, "anatomy"))),
    }
    return {name: (len(a & b), len(a - b), len(b - a)) for name, (a, b) in pairs.items() if a | b}


def scores(prediction: str, reference: str) -> dict[str, float]:
    """Metrics of one pair, those alone that apply."""
    ours, theirs = named(prediction, "findings"), named(reference, "findings")
    result: dict[str, float] = {}
    if ours or theirs:
        _, invented, missed = counts(prediction, reference).get("finding", (0, 0, 0))
        result = {"findings_invented": float(invented), "findings_missed": float(missed)}
    both = ours.keys() & theirs.keys()
    if both:
        result["denial"] = 100 * sum(ours[term] == theirs[term] for term in both) / len(both)
    sides = _sides(reference)
    if sides:
        result["laterality"] = 100.0 * (_sides(prediction) == sides)
    return result


def _sides(text: str) -> set[str]:
    found = set(named(text, "sides"))
    return {"left", "right"} if found == {"both"} else found


def precision(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of rows of Counts, 0 to 100; 0 where nothing was stated."""
    both, ours, _ = totals.T
    return np.asarray(100 * both / np.maximum(both + ours, 1))


def recall(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    both, _, theirs = totals.T
    return np.asarray(100 * both / np.maximum(both + theirs, 1))


def f1(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    both, ours, theirs = totals.T
    return np.asarray(200 * both / np.maximum(2 * both + ours + theirs, 1))
