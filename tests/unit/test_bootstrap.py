"""Intervals and p values beside SciPy's own and beside what they promise."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from radtune.evaluate.bootstrap import holm, p_value, summary

RNG = np.random.default_rng(1)
GROUPS = np.repeat([f"g{n}" for n in range(60)], 5)


def grouped(shift: float, spread: float = 1.0) -> np.ndarray:
    """300 values of 60 groups, those of a group alike."""
    return np.repeat(RNG.normal(shift, spread, 60), 5) + RNG.normal(0, 0.1, 300)


def test_the_interval_is_scipys_over_groups() -> None:
    values = grouped(3)
    value, n, groups, interval = summary(GROUPS, values)
    assert (value, n, groups) == (pytest.approx(values.mean()), 300, 60)
    means = values.reshape(60, 5).mean(axis=1)
    theirs = stats.bootstrap((means,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert interval == pytest.approx(list(theirs), abs=0.03)
    alone = stats.bootstrap((values,), np.mean, method="percentile", rng=2).confidence_interval
    assert interval[1] - interval[0] > 1.8 * (alone.high - alone.low)  # what counting samples would pretend


def test_a_difference_is_taken_sample_by_sample() -> None:
    hard = grouped(50, 20)
    value, _, _, interval = summary(GROUPS, hard + 1 + RNG.normal(0, 0.5, 300), hard)
    assert value == pytest.approx(1, abs=0.1)
    assert interval is not None
    assert 0.8 < interval[0] < interval[1] < 1.2
    nans = np.where(np.arange(300) < 150, np.nan, hard)
    assert summary(GROUPS, nans, hard)[:3] == (0, 150, 30)


def test_a_total_is_made_of_sums() -> None:
    counts = np.stack([RNG.integers(0, 5, 300), RNG.integers(5, 9, 300)], axis=1).astype(float)
    value, _, _, interval = summary(GROUPS, counts, total=lambda sums: sums[:, 0] / sums[:, 1])
    assert value == pytest.approx(counts[:, 0].sum() / counts[:, 1].sum())
    assert interval is not None
    assert interval[0] < value < interval[1]


def test_p_is_small_for_a_difference_and_even_for_none() -> None:
    base = grouped(50, 20)
    assert p_value(GROUPS, base + grouped(1), base) < 0.01
    assert p_value(GROUPS, base + 1, base, 20_000) < 1 / 10_000 < p_value(GROUPS, base + 1, base)
    assert p_value(GROUPS, base, base) == 1
    none = [p_value(GROUPS, base + np.repeat(RNG.normal(0, 1, 60), 5), base) for _ in range(100)]
    assert sum(p < 0.1 for p in none) < 25
    assert sum(p > 0.5 for p in none) > 30
    assert p_value(np.full(300, "one"), base + 1, base) is None


@pytest.mark.parametrize(("groups", "off"), [(6, 0), (60, 0.03)])
def test_p_is_scipys_with_all_choices_of_signs_and_with_draws(groups: int, off: float) -> None:
    ours, theirs = RNG.normal(0.15, 1, groups), np.zeros(groups)
    how = {"permutation_type": "samples", "n_resamples": 5000, "rng": 3}
    expected = stats.permutation_test((ours, theirs), lambda a, b: np.sum(a - b), **how).pvalue
    assert p_value(np.arange(groups).astype(str), ours, theirs, 5000) == pytest.approx(expected, abs=off)


def test_many_groups_and_draws_take_little_memory() -> None:
    names, values = np.arange(1500).astype(str), RNG.normal(0, 1, 1500)
    tracemalloc.start()
    assert p_value(names, values, np.zeros(1500), 20_000)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()


def test_holm_is_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []
