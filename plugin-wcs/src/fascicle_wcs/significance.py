"""Whether two systems differ on the same test words: paired bootstrap of the difference in P@1, and McNemar's exact test.

Our choice: the paper's tables have no test, and the difference that it reports for WCS alone (+0.03 points) is three words of ten
thousand. One run of each system is compared here; means over seeds are [`fascicle.statistics`]' matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .errors import WcsError

__all__ = ["Comparison", "compare", "mcnemar"]


@dataclass(frozen=True)
class Comparison:
    """P@1 of a first system minus that of a second one, on the same words."""

    difference: float
    low: float
    high: float
    """Ends of the bootstrap interval of the difference, over test words."""
    p_value: float
    """McNemar's exact test, two-sided."""
    words: int
    only_first: int
    """Words that only the first system has right."""
    only_second: int


def compare(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two systems word by word.

    The interval is the percentile one of the paired bootstrap. A resample of n words matters only by how many of them one system
    alone has right, so these counts are drawn, which is the same and takes no time. Systems that agree on every word give an
    interval of length 0.

    Args:
        first: 1 or 0 by test word, e.g. `BliScores.hits`.
        second: the same of the other system.
        resamples: draws of n words.
        level: of the interval.
        seed: of the draws.

    Raises:
        WcsError: no words, different words, values other than 0 and 1, no resamples, or a level outside (0, 1).

    >>> hits = {f"w{i}": 1.0 for i in range(40)}
    >>> told = compare(hits, {word: float(i >= 10) for i, word in enumerate(hits)})
    >>> told.difference, told.low > 0.1, told.high < 0.5, round(told.p_value, 4)
    (0.25, True, True, 0.002)
    """
    if resamples < 1 or not 0 < level < 1:
        raise WcsError(f"compare: got resamples={resamples}, level={level}; expected at least 1, and a level in (0, 1)")
    a, b = _aligned(first, second)
    n, only_first, only_second = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    shares = [only_first / n, only_second / n, (n - only_first - only_second) / n]
    counts = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    tail = (1 - level) / 2
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [tail, 1 - tail])
    return Comparison(
        difference=(only_first - only_second) / n,
        low=float(low),
        high=float(high),
        p_value=mcnemar(only_first, only_second),
        words=n,
        only_first=only_first,
        only_second=only_second,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value: were both equally good, each word that one alone has right would be a toss of a coin.

    >>> mcnemar(5, 5), mcnemar(0, 0), mcnemar(6, 0)
    (1.0, 1.0, 0.03125)
    """
    from scipy.stats import binomtest

    if only_first < 0 or only_second < 0:
        raise WcsError(f"mcnemar: got counts {only_first} and {only_second}, expected at least 0")
    tosses = only_first + only_second
    return float(binomtest(only_first, tosses).pvalue) if tosses else 1.0


def _aligned(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    if not first or first.keys() != second.keys():
        shared = len(first.keys() & second.keys())
        raise WcsError(
            f"compare: got {len(first)} and {len(second)} words, {shared} of them in both; expected the same words, one or more. "
            "Score both systems on one dictionary, with one policy for words without a vector"
        )
    sides = [np.array([hits[word] for word in first], dtype=float) for hits in (first, second)]
    if not all(np.isin(side, (0, 1)).all() for side in sides):
        raise WcsError("compare: expected 1 or 0 for each word, right or wrong; got other values")
    return sides[0] == 1, sides[1] == 1
