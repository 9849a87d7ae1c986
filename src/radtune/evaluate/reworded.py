"""Robustness to wording: scores of the same samples asked as in training and in words that training never uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radtune.evaluate import bootstrap

Floats = NDArray[np.float64]

NAME = "reworded"  # of the answers, beside the model's and the floors'
METRICS = ("rouge_l", "semantic", "slots", "laterality", "finding_f1", "iou")
CHANGES = {f"{NAME}_change_{name}": name for name in ("rouge_l", "slots")}  # by which experiments are compared
SIGNATURE = {
    NAME: "value: the score of samples asked in words that training never uses; seen: that of the same samples asked "
    "as in training (an untuned model has met neither); difference: value minus seen, on the samples that have both; "
    "unchanged: share in percent of answers that are the same to the letter",
    **{name: f"{metric} of a sample in unseen words minus in its usual ones" for name, metric in CHANGES.items()},
}


def block(
    groups: NDArray[np.str_],
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[str | None],
    seen: Mapping[str, Floats],
    unseen: Mapping[str, Floats],
    totals: Mapping[str, bootstrap.Total],
) -> dict[str, Any]:
    """{"n", "groups", "unchanged", "metrics": {metric: {value, seen, difference, interval, n, groups}}}.

    `rows`: all samples, with predictions as asked in training; `answers`: to those that were asked otherwise as well,
    None to the rest. `seen`, `unseen`: the scores of both, as in score.py. `unchanged` has value, interval, n, groups.
    """
    pairs = zip(rows, answers, strict=True)
    same = np.array([np.nan if said is None else 100.0 * (said == row["prediction"]) for row, said in pairs])
    metrics = {}
    for name in METRICS:
        if name not in seen:
            continue
        total = totals.get(name)
        difference, n, n_groups, interval = bootstrap.summary(groups, unseen[name], seen[name], total=total)
        if difference is None:
            continue
        both = ~np.isnan(seen[name] + unseen[name]).reshape(len(rows), -1).any(axis=1)
        value, before = (bootstrap.summary(groups[both], of[name][both], total=total)[0] for of in (unseen, seen))
        metrics[name] = {"value": value, "seen": before, "difference": difference, "interval": interval}
        metrics[name] |= {"n": n, "groups": n_groups}
    value, n, n_groups, interval = bootstrap.summary(groups, same)
    unchanged = {"value": value, "interval": interval, "n": n, "groups": n_groups}
    return {"n": n, "groups": n_groups, "unchanged": unchanged, "metrics": metrics}
