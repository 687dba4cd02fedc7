"""Partial correlations against a least-squares reference; Williams' test by hand and by simulation; intervals."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fascicle_faithsum.correlation import (
    bootstrap_correlations,
    correlate,
    draw_clusters,
    holm,
    interval,
    residualize,
    williams,
    williams_test,
)
from fascicle_faithsum.errors import MetricError


def sample(seed: int, n: int = 60, systems: int = 4) -> tuple[np.ndarray, np.ndarray, list[int]]:
    random = np.random.default_rng(seed)
    groups = [int(g) for g in random.integers(0, systems, n)]
    level = random.normal(size=systems)[groups]
    x = random.normal(size=n) + 2 * level
    y = 0.5 * x + random.normal(size=n) + level
    return x, y, groups


def reference_residuals(values: np.ndarray, groups: list[int]) -> np.ndarray:
    """Ordinary least squares on one-hot groups."""
    onehot = (np.asarray(groups)[:, None] == np.unique(groups)[None, :]).astype(float)
    return values - onehot @ np.linalg.lstsq(onehot, values, rcond=None)[0]


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_partial_is_least_squares_then_the_plain_coefficient(seed, systems):
    x, y, groups = sample(seed, systems=systems)
    a, b = reference_residuals(x, groups), reference_residuals(y, groups)
    assert np.allclose(residualize(x, groups), a, atol=1e-9)
    assert correlate(x, y, groups).value == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-9)
    assert correlate(x, y, groups, "spearman").value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
    ranks = (reference_residuals(stats.rankdata(v), groups) for v in (x, y))
    assert correlate(x, y, groups, "spearman", "rank_first").value == pytest.approx(
        stats.pearsonr(*ranks).statistic, abs=1e-9
    )
    assert correlate(x, y, groups, "kendall").value == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-9)


def test_raw_coefficients_and_p_values_are_scipys():
    x, y, _ = sample(1)
    assert correlate(x, y).p == pytest.approx(stats.pearsonr(x, y).pvalue)
    assert correlate(x, y, method="spearman").p == pytest.approx(stats.spearmanr(x, y).pvalue)
    assert correlate(x, y).df == len(x) - 2


def test_groups_cost_degrees_of_freedom():
    """p is that of the coefficient in a regression on x and one-hot groups."""
    x, y, groups = sample(2, n=30, systems=5)
    found = correlate(x, y, groups)
    onehot = (np.asarray(groups)[:, None] == np.unique(groups)[None, :]).astype(float)
    design = np.column_stack([x, onehot])
    beta, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - design.shape[1]
    error = math.sqrt(float(residual[0]) / df * np.linalg.inv(design.T @ design)[0, 0])
    assert found.df == df
    assert found.p == pytest.approx(2 * stats.t.sf(abs(beta[0] / error), df))


@given(st.integers(0, 10_000), st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_what_is_constant_within_systems_changes_nothing(seed, shifts, scale):
    x, y, groups = sample(seed)
    moved = scale * x + np.array(shifts)[groups]
    for method in ("pearson", "spearman", "kendall"):
        assert correlate(moved, y, groups, method).value == pytest.approx(
            correlate(x, y, groups, method).value, abs=1e-6
        )
    assert correlate(-moved, y, groups).value == pytest.approx(-correlate(x, y, groups).value, abs=1e-9)


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_a_metric_that_is_the_human_score_has_1_and_a_shuffled_one_about_0(method):
    _, y, groups = sample(3, n=400)
    found = correlate(y, y, groups, method)
    assert found.value == pytest.approx(1)
    assert found.p == pytest.approx(0, abs=1e-12)
    shuffled = [correlate(np.random.default_rng(s).permutation(y), y, groups, method).value for s in range(20)]
    assert abs(np.mean(shuffled)) < 0.03
    assert max(map(abs, shuffled)) < 0.2


def test_ties_survive_the_arithmetic_of_means():
    """Equal values of a system stay equal, and a system at its own constant has residuals of exactly 0."""
    x = [0.1, 0.1, 0.1, 0.3, 0.7, 0.7]
    rest = residualize(x, list("aaabbb"))
    assert rest[:3].tolist() == [0, 0, 0]
    assert rest[4] == rest[5]


def test_missing_values_are_left_out_by_pairs():
    x, y, groups = sample(4)
    x[3], y[5] = np.nan, np.nan
    keep = [i for i in range(len(x)) if i not in (3, 5)]
    found = correlate(x, y, groups)
    assert found.n == len(keep)
    assert found.value == pytest.approx(correlate(x[keep], y[keep], [groups[i] for i in keep]).value)


@pytest.mark.parametrize(
    ("x", "y", "groups", "reason"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4], None, "first variable is constant"),
        ([1, 2, 3, 4, 5, 6], [1, 1, 1, 0.2, 0.2, 0.2], list("aaabbb"), "second variable is constant"),
        ([1, 2, 3], [1, 2, 3], None, "too few"),
        ([1, 2, 3, 4], [1, 2, 4, 3], list("abcd"), "degrees of freedom"),
        ([], [], None, "too few"),
    ],
)
def test_what_does_not_exist_is_nan_with_a_reason(x, y, groups, reason):
    found = correlate(x, y, groups)
    assert math.isnan(found.value)
    assert math.isnan(found.p)
    assert reason in found.reason


def test_one_system_partials_out_nothing():
    x, y, _ = sample(5)
    assert correlate(x, y, ["only"] * len(x)) == correlate(x, y)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1, 2], [1]), "2 and 1 values"),
        (([1, math.inf], [1, 2]), "infinite"),
        ((["a", "b"], [1, 2]), "expected numbers"),
        (([1, 2], [1, 2], ["a"]), "1 labels for 2 rows"),
        (([1, 2], [1, 2], None, "cosine"), "cosine"),
    ],
)
def test_bad_input_is_refused(arguments, said):
    with pytest.raises(MetricError, match=said):
        correlate(*arguments)


def test_williams_by_hand():
    """r .6, .4, .5, n 103: |R| = .47; t = .2 sqrt(102 * 1.5) / sqrt(2 * .47 * 102/100 + .25 * .125)."""
    found = williams(0.6, 0.4, 0.5, 103)
    t = 0.2 * math.sqrt(153) / math.sqrt(0.9588 + 0.03125)
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 100))
    assert found.p_greater == pytest.approx(stats.t.sf(t, 100))
    back = williams(0.4, 0.6, 0.5, 103)
    assert (back.t, back.p, back.p_greater) == pytest.approx((-found.t, found.p, 1 - found.p_greater))


def test_williams_keeps_its_level_and_has_power():
    def rate(second: float) -> float:
        random = np.random.default_rng(0)
        hits = 0
        for _ in range(400):
            human, common = random.normal(size=(2, 80))
            a = 0.5 * human + common + random.normal(size=80)
            b = second * human + common + random.normal(size=80)
            hits += williams_test(a, b, human).p < 0.05
        return hits / 400

    assert 0.02 < rate(0.5) < 0.09
    assert rate(1.5) > 0.9


def test_williams_uses_common_rows_and_partials_out():
    x, y, groups = sample(6)
    z = y + np.random.default_rng(1).normal(size=len(y))
    x[0], z[1] = np.nan, np.nan
    keep = list(range(2, len(x)))
    a, b, h = (reference_residuals(v[keep], [groups[i] for i in keep]) for v in (x, z, y))
    r = [float(np.corrcoef(p, q)[0, 1]) for p, q in ((a, h), (b, h), (a, b))]
    assert williams_test(x, z, y, groups).t == pytest.approx(williams(*r, len(keep) - 3).t, abs=1e-6)


def test_williams_without_an_answer():
    x, y, _ = sample(7)
    assert williams_test(np.ones_like(x), x, y).reason
    assert williams_test(x, x, y).p == 1
    with pytest.raises(MetricError, match="r_ab"):
        williams(0.1, 0.2, 1.5, 10)
    with pytest.raises(MetricError, match="at least 4"):
        williams(0.1, 0.2, 0.5, 3)


def test_holm_orders_and_bounds():
    p = [0.04, 0.001, 0.5, 0.02]
    adjusted = holm(p)
    assert adjusted == pytest.approx([0.08, 0.004, 0.5, 0.06])
    inorder = [adjusted[i] for i in np.argsort(p)]
    assert all(a <= b for a, b in pairwise(inorder))


def test_draws_take_whole_clusters_and_repeat_by_seed():
    clusters = [i // 3 for i in range(30)]
    draws = draw_clusters(clusters, 50, 1)
    for rows in draws:
        counts = np.bincount(rows, minlength=30).reshape(10, 3)
        assert counts.sum() == 30
        assert (counts == counts[:, :1]).all()
    assert all(np.array_equal(a, b) for a, b in zip(draws, draw_clusters(clusters, 50, 1), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(draws, draw_clusters(clusters, 50, 2), strict=True))


def test_bootstrap_is_the_coefficient_of_each_resample():
    x, y, groups = sample(8)
    z = np.random.default_rng(0).normal(size=len(x))
    z[4] = np.nan
    draws = draw_clusters(list(range(len(x))), 5, 0)
    found = bootstrap_correlations([y, -y], [x, z], groups, draws)
    assert found.pearson.shape == (5, 2, 2)
    for i, rows in enumerate(draws):
        kept = [r for r in rows if r != 4]
        labels = [groups[r] for r in kept]
        assert found.pearson[i, 0, 0] == pytest.approx(correlate(x[kept], y[kept], labels).value, abs=1e-9)
        assert found.pearson[i, 1, 1] == pytest.approx(correlate(z[kept], -y[kept], labels).value, abs=1e-9)
        assert found.spearman[i, 1] == pytest.approx(correlate(z[kept], y[kept], labels, "spearman").value, abs=1e-9)


def test_intervals_cover_when_documents_repeat():
    """Summaries of one document share their noise; the interval by document covers the true 0.6 in about 95 %."""
    truth, hits = 0.6, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        a = random.normal(size=60)
        b = truth * a + math.sqrt(1 - truth**2) * random.normal(size=60)
        x, y = np.repeat(a, 3), np.repeat(b, 3)
        draws = draw_clusters([i // 3 for i in range(180)], 200, seed)
        low, high = interval(bootstrap_correlations(y, x, None, draws).pearson[:, 0, 0])
        hits += low <= truth <= high
    assert hits >= 87


def test_an_interval_needs_draws():
    assert interval([]) is None
    assert interval([math.nan, math.nan, 0.5]) is None
