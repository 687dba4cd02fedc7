"""What a measure of likeness must be held against: permuted pairs, Gaussians without structure, and its own spread over words.

Our choice: the paper reports Gromov-Hausdorff distances without a control.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import VectorError, WcsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Interval", "Measure", "Null", "gaussian_control", "interval", "null", "shuffled"]

Measure = Callable[[Any, Any], float]
"""Of X (n, d) and Y (n, d')."""


@dataclass(frozen=True, eq=False)
class Null:
    """A measure under permuted pairs.

    >>> Null(0.5, np.array([0.1, 0.2, 0.6])).p_value("high")
    0.5
    """

    value: float
    """Under the true pairs."""
    values: NDArray[np.float64]
    """Under permuted pairs, one for each permutation."""

    def p_value(self, better: str = "high") -> float:
        """Share of pairings, the true one counted in, at least as good as the true one; never 0.

        Args:
            better: `high` or `low`, whichever means more alike.

        Raises:
            WcsError: another direction.
        """
        if better not in ("high", "low"):
            raise WcsError(f"better: got {better!r}, expected 'high' or 'low'")
        sign = 1 if better == "high" else -1
        slack = 1e-12 * max(1.0, abs(self.value))  # a measure that ignores the pairing differs by rounding only
        as_good = int((sign * self.values >= sign * self.value - slack).sum())
        return (1 + as_good) / (1 + len(self.values))


@dataclass(frozen=True)
class Interval:
    """A value and an interval for it."""

    value: float
    low: float
    high: float


def shuffled(Y: NDArray[Any], seed: int) -> NDArray[Any]:
    """The rows of Y (n, d) in random order: the same space, all pairs broken.

    >>> sorted(shuffled(np.array([[1], [2], [3]]), seed=0).ravel().tolist())
    [1, 2, 3]
    """
    return np.asarray(Y)[np.random.default_rng(seed).permutation(len(Y))]


def gaussian_control(X: NDArray[Any], seed: int, *, covariance: bool = False) -> NDArray[np.float64]:
    """Gaussian rows of the same shape (n, d) as X: what has no word in it.

    Args:
        X: (n, d).
        seed: of the draw.
        covariance: False: all directions alike, each row as long as that of X. True: mean and covariance of X, a harder control.
            It has all that a linear statistic sees, and no neighbourhoods.

    >>> X = np.array([[3.0, 4.0], [0.0, 1.0]])
    >>> np.linalg.norm(gaussian_control(X, seed=0), axis=1).round(6).tolist()
    [5.0, 1.0]
    """
    X = np.asarray(X, dtype=np.float64)
    rng = np.random.default_rng(seed)
    if covariance:
        mean = X.mean(axis=0)
        _, s, Vt = np.linalg.svd(X - mean, full_matrices=False)
        return np.asarray(mean + rng.normal(size=(len(X), len(s))) * (s / math.sqrt(max(len(X) - 1, 1))) @ Vt)
    rows = rng.normal(size=X.shape)
    rows *= np.linalg.norm(X, axis=1, keepdims=True) / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def null(measure: Measure, X: NDArray[Any], Y: NDArray[Any], *, permutations: int = 100, seed: int = 0) -> Null:
    """A measure under random pairings of the rows of X (n, d) and Y (n, d').

    A measure that ignores the pairing (GH, EVS, RSIM-U) gets the p-value 1: it cannot tell true pairs from false ones.

    Raises:
        VectorError: X and Y of different length.
        WcsError: no permutations.

    >>> X = np.random.default_rng(0).normal(size=(9, 2))
    >>> null(lambda X, Y: float((X * Y).sum()), X, X, permutations=19).p_value()
    0.05
    """
    X, Y = _paired(X, Y)
    if permutations < 1:
        raise WcsError(f"permutations: got {permutations}, expected at least 1")
    rng = np.random.default_rng(seed)
    values = [measure(X, Y[rng.permutation(len(Y))]) for _ in range(permutations)]
    return Null(measure(X, Y), np.array(values, dtype=np.float64))


def interval(
    measure: Measure,
    X: NDArray[Any],
    Y: NDArray[Any],
    *,
    resamples: int = 20,
    seed: int = 0,
    fraction: float = 0.5,
    level: float = 0.95,
) -> Interval:
    """The measure on all pairs, with an interval from its spread over subsamples of words.

    Words are drawn without replacement: a bootstrap would draw words twice, at distance 0 of each other, and change every
    measure that looks at near neighbours. m of n words spread by sqrt((n - m) / m) more than all n do; with half of the words
    the spread is right as it is. It is scaled by that, and Student's t allows for few resamples. For measures that are smooth
    in the words (RSIM, residual) this is the delete-d jackknife; for GH, a maximum, it is a guide and no more.

    Args:
        measure: of paired rows.
        X: (n, d).
        Y: (n, d').
        resamples: subsamples, at least 2.
        seed: of the draws.
        fraction: m / n, in (0, 1).
        level: of the interval.

    Raises:
        VectorError: X and Y of different length.
        WcsError: too few resamples or words, or a fraction outside (0, 1).

    >>> X = np.random.default_rng(0).normal(size=(50, 1))
    >>> found = interval(lambda X, Y: float(X.mean()), X, X)
    >>> found.low < found.value < found.high
    True
    """
    from scipy.special import stdtrit

    X, Y = _paired(X, Y)
    n, m = len(X), round(fraction * len(X))
    if resamples < 2 or not 2 <= m < n:
        raise WcsError(
            f"interval: got {resamples} resamples of {m} of {n} words; expected 2 resamples or more of 2 words to {n - 1}"
        )
    rng = np.random.default_rng(seed)
    draws = (np.sort(rng.choice(n, size=m, replace=False)) for _ in range(resamples))
    values = np.array([measure(X[rows], Y[rows]) for rows in draws])
    value = measure(X, Y)
    spread = float(values.std(ddof=1)) * math.sqrt(m / (n - m))
    half = float(stdtrit(resamples - 1, (1 + level) / 2)) * spread
    return Interval(value, value - half, value + half)


def _paired(X: NDArray[Any], Y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    X, Y = np.asarray(X), np.asarray(Y)
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise VectorError(
            f"X and Y: got shapes {X.shape} and {Y.shape}; expected (n, d) and (n, d'), row i beside row i"
        )
    return X, Y
