"""Correlations of a metric with human scores, systems partialled out, with tests and intervals that know what was spent.

A *partial* correlation here removes what is common to all summaries of a group (a system): the residuals of a least-squares
fit on one-hot groups, which are the values minus their group's mean. Without it a metric is praised for telling good systems
from bad ones. Two definitions of the partial Spearman circulate: FRANK (Pagnoni et al. 2021) takes residuals, then ranks
(`residual_first`, the default); the other ranks, then takes residuals (`rank_first`). They differ.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

__all__ = [
    "Correlation",
    "Draws",
    "Williams",
    "bootstrap_correlations",
    "correlate",
    "draw_clusters",
    "holm",
    "interval",
    "residualize",
    "williams",
    "williams_test",
]

Method = Literal["pearson", "spearman", "kendall"]
Order = Literal["residual_first", "rank_first"]

METHODS = ("pearson", "spearman", "kendall")
ORDERS = ("residual_first", "rank_first")
_BITS = 40
"""Residuals are rounded to this many bits of the largest value: arithmetic must neither break ties nor make constants vary."""
_LEAST_DF = 2


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """A coefficient. `value` and `p` are NaN, with a `reason`, where it does not exist."""

    value: float
    p: float
    """Two-sided, from Student's t with `df` degrees of freedom (Kendall: scipy's, which knows of no groups)."""
    n: int
    """Pairs used."""
    df: int
    """n - k - 2, where k is the number of groups less one."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Williams:
    """Whether two correlations with the same third variable differ."""

    t: float
    """Positive where the first correlation is the larger."""
    df: int
    p: float
    """Two-sided."""
    p_greater: float
    """One-sided, for "the first is larger": what FRANK's own script prints, larger correlation first."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Coefficients on resampled clusters; NaN where a resample has none. R resamples, L label sets, M metrics."""

    pearson: Floats
    """(R, L, M) partial Pearson of every label set with every metric."""
    spearman: Floats
    """(R, M) partial Spearman, residuals first, of the first label set with every metric."""


def residualize(values: ArrayLike, groups: Sequence[Hashable] | None = None) -> Floats:
    """What is left of values once each group's mean is gone: the residuals of a least-squares fit on one-hot groups.

    Args:
        values: (..., n).
        groups: n labels, or None for one group, in which only the common mean goes.

    >>> residualize([1.0, 3.0, 10.0, 14.0], ["a", "a", "b", "b"]).tolist()
    [-1.0, 1.0, -2.0, 2.0]
    """
    values = np.asarray(values, dtype=np.float64)
    codes = _codes(groups, values.shape[-1])
    return _residuals(values, codes, int(codes.max(initial=-1)) + 1)


def correlate(
    x: ArrayLike,
    y: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    method: Method = "pearson",
    order: Order = "residual_first",
) -> Correlation:
    """Correlation of two variables, with the groups partialled out where groups are given.

    Pairs in which either is NaN are left out. A coefficient that does not exist (a variable that is constant within every
    group; fewer than four pairs, or fewer than two degrees of freedom) is NaN and says why: in a table of many metrics one bad
    metric must not hide the others.

    Args:
        x: (n,) numbers.
        y: (n,) numbers.
        groups: n labels, e.g. the system that wrote each summary. None: a raw correlation.
        method: `pearson`, `spearman` or `kendall` (tau-b).
        order: for ranks, whether residuals are taken before ranking (FRANK's) or after.

    Raises:
        MetricError: lengths differ, a value is infinite, or an option is unknown.

    >>> round(correlate([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]).value, 3)
    0.8
    >>> correlate([1, 1, 1, 1], [1, 2, 3, 4]).reason
    'the first variable is constant'
    """
    a, b = _pair(x, y)
    if method not in METHODS or order not in ORDERS:
        raise MetricError(f"method, order: got {method!r}, {order!r}; expected one of {METHODS} and one of {ORDERS}.")
    codes = _codes(groups, len(a))
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    codes = np.unique(codes[known], return_inverse=True)[1].reshape(-1)
    n, count = len(a), int(codes.max(initial=-1)) + 1
    df = n - max(count - 1, 0) - 2
    both = np.stack([a, b])
    if method != "pearson" and order == "rank_first":
        both = _ranks(both)
    rest = _residuals(both, codes, count)
    reason = _degenerate(rest, df)
    if reason:
        return Correlation(value=math.nan, p=math.nan, n=n, df=df, reason=reason)
    if method == "kendall":
        from scipy.stats import kendalltau

        found = kendalltau(rest[0], rest[1])
        return Correlation(value=float(found.statistic), p=float(found.pvalue), n=n, df=df)
    if method == "spearman" and order == "residual_first":
        rest = _ranks(rest)
    value = float(_coefficients(rest[:1], rest[1:])[0, 0])
    return Correlation(value=value, p=_p_value(value, df), n=n, df=df)


def williams(r_ah: float, r_bh: float, r_ab: float, n: int) -> Williams:
    """Williams' test (1959) for two dependent correlations that share one variable.

    Args:
        r_ah: correlation of the first metric with the human score.
        r_bh: of the second with the human score.
        r_ab: of the two metrics.
        n: independent rows; for partial correlations less the number of groups less one.

    Raises:
        MetricError: a correlation outside [-1, 1], or fewer than four rows.

    >>> found = williams(0.6, 0.4, 0.5, 103)
    >>> round(found.t, 3), found.df
    (2.486, 100)
    """
    for name, value in (("r_ah", r_ah), ("r_bh", r_bh), ("r_ab", r_ab)):
        if not -1 <= value <= 1:
            raise MetricError(f"{name}: expected a correlation in [-1, 1], got {value}.")
    if n < 4:
        raise MetricError(f"n: Williams' test needs at least 4 rows, got {n}.")
    from scipy.special import stdtr

    df = n - 3
    determinant = max(0.0, 1 - r_ah**2 - r_bh**2 - r_ab**2 + 2 * r_ah * r_bh * r_ab)
    spread = 2 * determinant * (n - 1) / (n - 3) + ((r_ah + r_bh) / 2) ** 2 * (1 - r_ab) ** 3
    if spread <= 1e-15:
        if abs(r_ah - r_bh) <= 1e-12:
            return Williams(t=0.0, df=df, p=1.0, p_greater=0.5)
        return Williams(t=math.nan, df=df, p=math.nan, p_greater=math.nan, reason="the variables determine each other")
    t = (r_ah - r_bh) * math.sqrt((n - 1) * (1 + r_ab) / spread)
    return Williams(t=t, df=df, p=2 * float(stdtr(df, -abs(t))), p_greater=float(stdtr(df, -t)))


def williams_test(
    a: ArrayLike,
    b: ArrayLike,
    human: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    method: Literal["pearson", "spearman"] = "pearson",
) -> Williams:
    """Williams' test on the rows where both metrics and the human score exist, groups partialled out.

    The groups cost degrees of freedom: n is the number of rows less the number of groups less one. The test takes rows as
    independent, which several summaries of one document are not; see `bootstrap_correlations` for an interval by document.

    Raises:
        MetricError: lengths differ or a value is infinite.

    >>> human = [0, 0.5, 1, 0.2, 0.9, 0.4, 0.8, 0.1]
    >>> williams_test(human, human, human).p
    1.0
    """
    first, second = _pair(a, b)
    first, third = _pair(first, human)
    known = np.isfinite(first) & np.isfinite(second) & np.isfinite(third)
    labels = None if groups is None else [g for g, k in zip(groups, known, strict=True) if k]
    count = 1 if labels is None else len(set(labels))
    values = [v[known] for v in (first, second, third)]
    pairs = [correlate(values[i], values[j], labels, method) for i, j in ((0, 2), (1, 2), (0, 1))]
    n = int(known.sum()) - (count - 1)
    reason = next((pair.reason for pair in pairs if pair.reason), "") or ("" if n >= 4 else "too few rows")
    if reason:
        return Williams(t=math.nan, df=n - 3, p=math.nan, p_greater=math.nan, reason=reason)
    return williams(pairs[0].value, pairs[1].value, pairs[2].value, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) of p-values for their number; NaN stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03, float("nan")])
    [0.03, 0.06, 0.06, nan]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * float(p[i])))
        adjusted[i] = worst
    return [float(v) for v in adjusted]


def draw_clusters(clusters: Sequence[Hashable], resamples: int, seed: int) -> list[Indices]:
    """Rows of each bootstrap resample: whole clusters (documents) are drawn with replacement.

    >>> [sorted(set(rows.tolist())) for rows in draw_clusters(["a", "a"], 2, 0)]
    [[0, 1], [0, 1]]
    """
    codes = _codes(clusters, len(clusters))
    count = int(codes.max(initial=-1)) + 1
    if count == 0 or resamples < 1:
        return []
    members = [np.flatnonzero(codes == c) for c in range(count)]
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    return [np.concatenate([members[c] for c in row]) for row in drawn]


def bootstrap_correlations(
    labels: ArrayLike,
    metrics: ArrayLike,
    groups: Sequence[Hashable] | None,
    draws: Sequence[Indices],
) -> Draws:
    """Partial correlations on every resample; residuals are taken anew in each.

    Rows that hold a NaN in any label set or metric are left out of every resample, so that all share their rows.

    Args:
        labels: (L, n); Spearman is of the first.
        metrics: (M, n).
        groups: n labels, or None.
        draws: row numbers of each resample (`draw_clusters`).
    """
    human = np.atleast_2d(np.asarray(labels, dtype=np.float64))
    scores = np.atleast_2d(np.asarray(metrics, dtype=np.float64))
    if human.shape[1] != scores.shape[1]:
        raise MetricError(
            f"labels, metrics: got {human.shape[1]} and {scores.shape[1]} columns; expected the same rows."
        )
    codes = _codes(groups, human.shape[1])
    count = int(codes.max(initial=-1)) + 1
    both = np.concatenate([human, scores])
    known = np.isfinite(both).all(axis=0)
    split, size = len(human), len(scores)
    pearson = np.full((len(draws), split, size), np.nan)
    spearman = np.full((len(draws), size), np.nan)
    for i, drawn in enumerate(draws):
        rows = drawn[known[drawn]]
        if len(rows) < 3:
            continue
        rest = _residuals(both[:, rows], codes[rows], count)
        pearson[i] = _coefficients(rest[:split], rest[split:])
        ranks = _ranks(np.concatenate([rest[:1], rest[split:]]))
        spearman[i] = _coefficients(ranks[:1], ranks[1:])[0]
    return Draws(pearson=pearson, spearman=spearman)


def interval(draws: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of resampled values; None where fewer than half of them exist.

    >>> interval([float(i) for i in range(101)], level=0.5)
    (25.0, 75.0)
    """
    values = np.asarray(draws, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or len(finite) * 2 < len(values):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ---- numbers ----------------------------------------------------------------------------------------------------------


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    found = []
    for name, given in (("x", x), ("y", y)):
        try:
            value = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise MetricError(f"{name}: expected numbers, NaN where there is none.") from None
        if value.ndim != 1 or np.isinf(value).any():
            raise MetricError(
                f"{name}: expected a flat list of finite numbers, got shape {value.shape} or an infinite one."
            )
        found.append(value)
    if len(found[0]) != len(found[1]):
        raise MetricError(f"x, y: {len(found[0])} and {len(found[1])} values; expected one of each per row.")
    return found[0], found[1]


def _codes(groups: Sequence[Hashable] | None, n: int) -> Indices:
    if groups is None:
        return np.zeros(n, dtype=np.intp)
    if len(groups) != n:
        raise MetricError(f"groups: {len(groups)} labels for {n} rows; expected one per row.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(g, len(numbers)) for g in groups], dtype=np.intp)


def _residuals(values: Floats, codes: Indices, count: int) -> Floats:
    """(..., n) minus group means, rounded relative to the largest magnitude of each variable."""
    if values.shape[-1] == 0:
        return values
    onehot = np.zeros((len(codes), count))
    onehot[np.arange(len(codes)), codes] = 1.0
    means = (values @ onehot) / np.maximum(onehot.sum(axis=0), 1.0)
    scale = np.abs(values).max(axis=-1, keepdims=True)
    grain = np.exp2(np.ceil(np.log2(np.where(scale > 0, scale, 1.0))) - _BITS)
    return np.asarray(np.rint((values - means[..., codes]) / grain) * grain)


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=-1), dtype=np.float64)


def _coefficients(a: Floats, b: Floats) -> Floats:
    """(A, n) and (B, n) to (A, B) Pearson coefficients; NaN where a variable does not vary."""
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (a, b))
    norms = np.sqrt(np.outer((a * a).sum(axis=1), (b * b).sum(axis=1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 0, np.clip((a @ b.T) / norms, -1.0, 1.0), np.nan)


def _degenerate(rest: Floats, df: int) -> str:
    if rest.shape[1] < 4:
        return f"{rest.shape[1]} pairs: too few"
    if df < _LEAST_DF:
        return f"{df} degrees of freedom: too many groups for {rest.shape[1]} pairs"
    for name, row in zip(("first", "second"), rest, strict=True):
        if float(row.max() - row.min()) == 0:
            return f"the {name} variable is constant"
    return ""


def _p_value(r: float, df: int) -> float:
    from scipy.special import stdtr

    if abs(r) >= 1:
        return 0.0
    return 2 * float(stdtr(df, -abs(r) * math.sqrt(df / (1 - r * r))))
