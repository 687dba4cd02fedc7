"""Means over seeds, and paired differences with intervals that are honest about few seeds and few test rows.

The interval is a hierarchical bootstrap. Its levels: pairs (the same seed with and without the change), and, where both runs
kept one value per test row, the rows. All pairs of one test set share the rows that a draw picks, since what makes a row hard
is common to all seeds; drawing rows afresh for every pair would count one test set as many. Test sets (tasks) are not
drawn: the interval speaks of these tasks, each weighing the same.

With three seeds a plain percentile interval covers 75 %, not 95 %. So the draws give the shape, and their spread is
stretched to the unbiased variance times Student's t (our choice; the two-way components of Cornfield and Tukey 1956, degrees of
freedom of Satterthwaite 1946). For many pairs the stretch is 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

__all__ = ["DRAWS", "LEVEL", "Difference", "Pair", "Summary", "paired_difference", "summarize"]

DRAWS = 10_000
LEVEL = 0.95
SEED = 20_250_101
"""The bootstrap's own, fixed: a report of the same runs says the same."""
_BLOCKS = 2000
"""More test rows than this are drawn in blocks: same variance, bounded cost."""
_CHUNK = 1000
"""Draws at a time, to bound the memory."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean, standard deviation (n - 1 in the denominator; None for a single value) and number of values."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One run and its counterpart in the baseline: same seed, same everything but the compared choice."""

    value: float
    baseline: float
    rows: Sequence[float] = ()
    """One value per test row, whose mean is `value`; empty where there is none."""
    baseline_rows: Sequence[float] = ()
    unit: str = ""
    """The test set (task) that the pair was measured on."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of value - baseline, with its interval where there is one."""

    mean: float
    low: float | None
    high: float | None
    pairs: int
    rows: int
    """Test rows that were resampled, over all test sets; 0: only the pairs were."""
    units: int
    note: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval exists and lies wholly on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sd and n of the values that are numbers.

    >>> summarize([1.0, 2.0, 3.0])
    Summary(mean=2.0, sd=1.0, n=3)
    >>> summarize([0.5]).sd is None
    True
    """
    known = [value for value in values if math.isfinite(value)]
    n = len(known)
    if n == 0:
        return Summary(math.nan, None, 0)
    mean = math.fsum(known) / n
    if n == 1:
        return Summary(mean, None, 1)
    return Summary(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1)), n)


def paired_difference(pairs: Sequence[Pair], *, level: float = LEVEL, draws: int = DRAWS) -> Difference:
    """Mean difference to the baseline and its bootstrap interval.

    Test sets weigh the same. Where a test set has one pair only, all pairs are drawn as one sample, and rows are not: their
    noise is in the spread of the pairs already.

    Args:
        pairs: at least one; those with a value that is not a number are left out.
        level: of the interval.
        draws: of the bootstrap, whose seed is fixed.

    Raises:
        ValueError: no pair.

    >>> d = paired_difference([Pair(value=0.5, baseline=0.25), Pair(value=0.75, baseline=0.5)])
    >>> d.mean, d.low, d.high
    (0.25, 0.25, 0.25)
    >>> paired_difference([Pair(value=0.5, baseline=0.25)]).note
    'one pair only: no interval'
    """
    pairs = [pair for pair in pairs if math.isfinite(pair.value) and math.isfinite(pair.baseline)]
    if not pairs:
        raise ValueError("paired_difference needs at least one pair of numbers; got none")
    units = list(dict.fromkeys(pair.unit for pair in pairs))
    groups = [[pair for pair in pairs if pair.unit == unit] for unit in units]
    if any(len(group) < 2 for group in groups):
        groups = [pairs]
    mean = math.fsum(math.fsum(p.value - p.baseline for p in group) / len(group) for group in groups) / len(groups)
    if len(pairs) < 2:
        return Difference(mean=mean, low=None, high=None, pairs=1, rows=0, units=1, note="one pair only: no interval")
    tables = [_row_differences(group) if len({p.unit for p in group}) == 1 else None for group in groups]
    rows = sum(len(group[0].rows) for group, table in zip(groups, tables, strict=True) if table is not None)
    low, high = _interval(groups, tables, mean, level, draws)
    return Difference(mean=mean, low=low, high=high, pairs=len(pairs), rows=rows, units=len(units))


def _row_differences(pairs: Sequence[Pair]) -> Floats | None:
    """(pairs, rows) differences; None unless every pair has rows, equally many, whose mean is the metric."""
    import numpy as np

    m = len(pairs[0].rows)
    if m < 2 or any(len(p.rows) != m or len(p.baseline_rows) != m for p in pairs):
        return None
    values = np.array([p.rows for p in pairs], dtype=float)
    baseline = np.array([p.baseline_rows for p in pairs], dtype=float)
    if not (np.isfinite(values).all() and np.isfinite(baseline).all()):
        return None
    for rows, means in ((values, [p.value for p in pairs]), (baseline, [p.baseline for p in pairs])):
        if not np.allclose(rows.mean(axis=1), means, rtol=1e-3, atol=1e-6):
            return None
    table: Floats = values - baseline
    return table if m <= _BLOCKS else _in_blocks(table)


def _in_blocks(table: Floats) -> Floats:
    """Average shuffled rows into `_BLOCKS` blocks, keeping each pair's mean exactly."""
    import numpy as np

    m = table.shape[1]
    order = np.random.default_rng(SEED).permutation(m)
    mean = table.mean(axis=1, keepdims=True)
    starts = np.linspace(0, m, _BLOCKS, endpoint=False).astype(int)
    blocks: Floats = mean + np.add.reduceat((table - mean)[:, order], starts, axis=1) * (_BLOCKS / m)
    return blocks


def _interval(
    groups: Sequence[Sequence[Pair]], tables: Sequence[Floats | None], mean: float, level: float, draws: int
) -> tuple[float, float]:
    import numpy as np
    from scipy.special import ndtri, stdtrit

    total = np.zeros(draws)
    parts: list[tuple[float, float]] = []  # (variance, degrees of freedom) of what the mean is uncertain about
    for index, (group, table) in enumerate(zip(groups, tables, strict=True)):
        d = np.array([p.value - p.baseline for p in group])
        total += _draw(d, table, index, draws) / len(groups)
        parts += [(variance / len(groups) ** 2, df) for variance, df in _components(d, table)]
    variance = math.fsum(v for v, _ in parts)
    spread = float(total.std())
    # differences that are equal but for rounding have no spread to resample
    if spread == 0 or math.sqrt(variance) <= 1e-12 * max(abs(p.value) + abs(p.baseline) for g in groups for p in g):
        return mean, mean
    df = variance**2 / math.fsum(v**2 / df for v, df in parts)
    tail = (1 - level) / 2
    stretch = float(stdtrit(df, 1 - tail) / ndtri(1 - tail)) * math.sqrt(variance) / spread
    low, high = np.quantile(total, [tail, 1 - tail]) - total.mean()
    return mean + stretch * float(low), mean + stretch * float(high)


def _components(d: Floats, table: Floats | None) -> list[tuple[float, float]]:
    """Var(mean) = s_pairs^2 / n + max(0, s_rows^2 / m - s_rest^2 / (n m)), each with its degrees of freedom."""
    n = len(d)
    parts = [(float(d.var(ddof=1)) / n, float(n - 1))]
    if table is not None:
        m = table.shape[1]
        by_row = table.mean(axis=0)
        rest = table - table.mean(axis=1, keepdims=True) - by_row + table.mean()
        s_rest = float((rest**2).sum()) / ((n - 1) * (m - 1))
        parts.append((max(0.0, float(by_row.var(ddof=1)) / m - s_rest / (n * m)), float(m - 1)))
    return parts


def _draw(d: Floats, table: Floats | None, index: int, draws: int) -> Floats:
    """(draws,) means over resampled pairs and, given `table`, over resampled rows that all pairs share."""
    import numpy as np

    n = len(d)
    rng = np.random.default_rng([SEED, index, n])
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n  # (draws, n)
    if table is None:
        return np.asarray(weights @ d)
    m = table.shape[1]
    means = np.concatenate(
        [
            _row_counts(index, m, start, min(_CHUNK, draws - start)).astype(float) @ table.T
            for start in range(0, draws, _CHUNK)
        ]
    )  # (draws, n)
    return np.asarray((weights * means).sum(axis=1) / m)


@lru_cache(maxsize=40)
def _row_counts(index: int, m: int, start: int, draws: int) -> Floats:
    """(draws, m) how often each row was picked; kept, since every arm of a table meets the same test rows."""
    import numpy as np

    rng = np.random.default_rng([SEED, index, m, start, 1])
    picks = rng.integers(0, m, size=(draws, m)) + m * np.arange(draws)[:, None]
    counts: Floats = np.bincount(picks.ravel(), minlength=draws * m).reshape(draws, m).astype(np.uint8)
    return counts
