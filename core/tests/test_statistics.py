"""Means, and intervals that cover the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fascicle.statistics import Pair, paired_difference, summarize


def pairs_from(differences: np.ndarray, unit: str = "") -> list[Pair]:
    return [Pair(value=0.5 + d, baseline=0.5, unit=unit) for d in differences]


def test_mean_sd_and_n_are_those_of_the_textbook() -> None:
    values = [0.1, 0.4, 0.9, 0.3]
    summary = summarize(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.n == 4
    assert summarize([2.0]).sd is None
    assert summarize([1.0, math.nan, 3.0]).n == 2
    assert math.isnan(summarize([]).mean)


def test_one_pair_gives_a_difference_and_says_that_there_is_no_interval() -> None:
    difference = paired_difference([Pair(value=0.7, baseline=0.5)])
    assert difference.mean == pytest.approx(0.2)
    assert (difference.low, difference.high) == (None, None)
    assert "no interval" in difference.note
    assert not difference.excludes_zero


def test_no_pair_is_refused_and_pairs_without_numbers_do_not_count() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        paired_difference([Pair(value=math.nan, baseline=0.5)])


def test_equal_differences_have_an_interval_of_no_width() -> None:
    difference = paired_difference([Pair(value=b + 0.1, baseline=b) for b in (0.1, 0.2, 0.7)])
    assert difference.low == difference.high == difference.mean
    assert difference.mean == pytest.approx(0.1)
    assert difference.excludes_zero
    same = paired_difference([Pair(value=b, baseline=b) for b in (0.1, 0.2)])
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.excludes_zero


def test_many_pairs_give_the_interval_of_the_paired_t_test() -> None:
    d = np.random.default_rng(3).normal(0.02, 0.05, 40)
    ours = paired_difference(pairs_from(d))
    theirs = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * (theirs.high - theirs.low))
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * (theirs.high - theirs.low))


def test_the_same_pairs_give_the_same_interval_and_their_order_of_units_does_not_matter_to_the_mean() -> None:
    d = np.random.default_rng(3).normal(0, 1, 6)
    assert paired_difference(pairs_from(d)) == paired_difference(pairs_from(d))


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_interval_covers_the_truth_for_few_pairs(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = []
    for _ in range(600):
        difference = paired_difference(pairs_from(rng.normal(0.1, 1, n)), draws=1000)
        assert difference.low is not None
        assert difference.high is not None
        hits.append(difference.low <= 0.1 <= difference.high)
    assert 0.91 <= np.mean(hits) <= 0.985


def simulate(rng: np.random.Generator, n: int, m: int, pair: float, row: float, rest: float) -> list[Pair]:
    shared = rng.normal(0, row, m)
    pairs = []
    for _ in range(n):
        baseline = rng.normal(0, 1, m)
        rows = baseline + rng.normal(0, pair) + shared + rng.normal(0, rest, m)
        pairs.append(Pair(value=rows.mean(), baseline=baseline.mean(), rows=rows, baseline_rows=baseline))
    return pairs


@pytest.mark.parametrize(
    ("pair", "row", "rest"), [(0.01, 1.0, 0.1), (0.001, 0.0, 1.0), (0.1, 1.0, 1.0)], ids=["rows", "noise", "mixed"]
)
def test_the_interval_covers_the_truth_whichever_level_varies(pair: float, row: float, rest: float) -> None:
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(200):
        difference = paired_difference(simulate(rng, 3, 100, pair, row, rest), draws=500)
        assert difference.rows == 100
        assert difference.low is not None
        assert difference.high is not None
        hits.append(difference.low <= 0 <= difference.high)
    assert 0.9 <= np.mean(hits) <= 0.995


def test_a_small_test_set_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    pairs = simulate(rng, 4, 50, 0.001, 1.0, 0.01)
    with_rows = paired_difference(pairs)
    without = paired_difference([Pair(value=p.value, baseline=p.baseline) for p in pairs])
    assert with_rows.low is not None
    assert with_rows.high is not None
    assert without.low is not None
    assert without.high is not None
    assert with_rows.mean == without.mean
    assert with_rows.high - with_rows.low > 5 * (without.high - without.low)


def test_noise_is_not_counted_once_per_level() -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(10):
        pairs = simulate(rng, 30, 60, 0.0, 0.0, 1.0)
        with_rows = paired_difference(pairs, draws=2000)
        without = paired_difference([Pair(value=p.value, baseline=p.baseline) for p in pairs], draws=2000)
        assert with_rows.low is not None
        assert with_rows.high is not None
        assert without.low is not None
        assert without.high is not None
        ratios.append((with_rows.high - with_rows.low) / (without.high - without.low))
    assert np.mean(ratios) == pytest.approx(1, abs=0.15)


def test_rows_count_only_where_they_are_equally_many_and_their_mean_is_the_metric() -> None:
    rng = np.random.default_rng(0)
    good = simulate(rng, 3, 60, 0.1, 1.0, 0.1)
    assert paired_difference(good).rows == 60
    shorter = [*good[:2], Pair(value=0.0, baseline=0.0, rows=[0.0] * 59, baseline_rows=[0.0] * 59)]
    assert paired_difference(shorter).rows == 0
    percent = [Pair(value=100 * p.value, baseline=p.baseline, rows=p.rows, baseline_rows=p.baseline_rows) for p in good]
    assert paired_difference(percent).rows == 0


def test_more_rows_than_a_block_holds_keep_their_mean_and_their_variance() -> None:
    rng = np.random.default_rng(0)
    pairs = simulate(rng, 2, 9001, 0.0, 1.0, 0.0)
    difference = paired_difference(pairs)
    assert difference.low is not None
    assert difference.high is not None
    assert difference.rows == 9001
    assert difference.high - difference.low == pytest.approx(2 * 1.96 / math.sqrt(9001), rel=0.1)


def test_tasks_weigh_the_same_and_their_difference_is_no_noise() -> None:
    rng = np.random.default_rng(1)
    pairs = pairs_from(0.3 + rng.normal(0, 0.001, 5), "a") + pairs_from(0.1 + rng.normal(0, 0.001, 2), "b")
    difference = paired_difference(pairs)
    assert difference.units == 2
    assert difference.pairs == 7
    assert difference.mean == pytest.approx(0.2, abs=0.005)
    assert difference.low is not None
    assert difference.low > 0.15


def test_tasks_with_one_pair_each_are_drawn_as_pairs() -> None:
    pairs = [Pair(value=v, baseline=0.0, unit=u) for u, v in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
    difference = paired_difference(pairs)
    assert difference.rows == 0
    assert difference.low is not None
    assert difference.low < 0.1
