"""Findings, anatomy and sides that an answer names, beside those of its reference; a denied finding is not stated.

ROUGE hardly notices a finding that is denied or made up; these scores do. The words are in lexicon.yaml.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radtune.language.terms import named

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
