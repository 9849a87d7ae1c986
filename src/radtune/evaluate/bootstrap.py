"""How sure a score is: whole groups are resampled, as samples of one group are no independent evidence.

Values are one number a sample or, for a metric of all samples together, a row of counts with a `total` that makes a
score of each row of their sums. NaN: the metric does not apply to that sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

SEED = 0
RESAMPLES = 2000
_AT_ONCE = 2**20
SIGNATURE = (
    f"95 %, percentile bootstrap over groups, {RESAMPLES} resamples, numpy {version('numpy')}, seed {SEED}; none below "
    "two groups"
)

Floats = NDArray[np.float64]
Total = Callable[[Floats], Floats]


def summary(
    groups: NDArray[np.str_ | np.intp], values: Floats, minus: Floats | None = None, *, total: Total | None = None
) -> tuple[float | None, int, int, list[float] | None]:
    """Score of the samples that have one, their number, that of their groups, and a 95 % interval over groups.

    With `minus`, the difference of two scores over the samples that have both, resampled together.
    """
    both = [values] if minus is None else [values, minus]
    there = ~np.any([np.isnan(v).reshape(len(v), -1).any(axis=1) for v in both], axis=0)
    if not there.any():
        return None, 0, 0, None
    both = [v[there].reshape(there.sum(), -1) for v in both]
    names, index = np.unique(groups[there], return_inverse=True)
    sums = [_sums(v, index) for v in both]

    def scores(draws: Floats) -> Floats:
        return np.asarray(np.subtract.reduce([_score(draws @ of, draws @ counts, total) for of, counts in sums]))

    difference = float(scores(np.ones((1, len(names))))[0])
    if len(names) < 2:
        return difference, len(index), len(names), None
    interval = [float(v) for v in np.percentile(scores(_draws(len(names))), [2.5, 97.5])]
    return difference, len(index), len(names), interval


def p_signature(draws: int) -> str:
    return (
        f"two-sided p of a mean difference, from {draws} draws of signs for whole groups or, where there are no more, "
        f"all of them (numpy {version('numpy')}, seed {SEED}), after Holm for all differences of the table"
    )


def p_value(groups: NDArray[np.str_], ours: Floats, theirs: Floats, draws: int = RESAMPLES) -> float | None:
    """How often the mean of ours minus theirs is as far from 0 as it is, were each group's sign a matter of chance.

    One number a sample; None below two groups. No p is below 1 / (draws + 1). scipy.stats.permutation_test gives the
    same, and for thousands of groups takes twenty times as long, and gigabytes.
    """
    there = ~(np.isnan(ours) | np.isnan(theirs))
    names, index = np.unique(groups[there], return_inverse=True)
    if len(names) < 2:
        return None
    differences = np.bincount(index, (ours - theirs)[there])
    total = differences.sum()
    least = abs(total) - 1e-9 * np.abs(differences).sum()  # as far, but for rounding
    counts = [
        np.count_nonzero(np.abs(total - 2 * (turned @ differences)) >= least) for turned in _turned(len(names), draws)
    ]
    if 2 ** len(names) <= draws:
        return float(sum(counts) / 2 ** len(names))
    return float((sum(counts) + 1) / (draws + 1))


def _turned(n_groups: int, draws: int) -> Iterator[Floats]:
    """Which groups' signs are turned (1 or 0), in parts of up to _AT_ONCE numbers: all ways, or so many draws."""
    if 2**n_groups <= draws:
        yield (np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1).astype(np.float64)
        return
    rng = np.random.default_rng(SEED)
    rows = max(1, _AT_ONCE // n_groups)
    for first in range(0, draws, rows):
        yield rng.integers(0, 2, (min(rows, draws - first), n_groups), np.int8).astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values after Holm's correction (1979): the chance that any difference shown is none stays below its p."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values)[order]), 1)
    return [float(p) for p in adjusted[np.argsort(order)]]


def _sums(values: Floats, index: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Of each group, 0 to index.max(): the sums of its samples' values (n, k), and how many they are (n, 1)."""
    sums = np.stack([np.bincount(index, column) for column in values.T], axis=1)
    return sums.astype(np.float64), np.bincount(index)[:, None].astype(np.float64)


def _score(sums: Floats, counts: Floats, total: Total | None) -> Floats:
    """The score of each row, of whose samples these are the sums and the number."""
    return total(sums) if total else (sums / counts)[:, 0]


@lru_cache(maxsize=4)
def _draws(n_groups: int) -> Floats:
    """RESAMPLES x n_groups: how often each group is drawn in each resample."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=RESAMPLES).astype(np.float64)
