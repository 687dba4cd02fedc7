"""How many neighbours a vector is near to: the terms with which CSLS and the inverted softmax correct for hubs.

Formulas of Conneau et al. 2018 (Word translation without parallel data, section 2.3) and Smith et al. 2017 (Offline bilingual word
vectors, section 2.2):

    CSLS(x, y) = 2 cos(x, y) - r_T(x) - r_S(y)        r_T(x): mean cosine of x to its K nearest targets, r_S(y): of y to sources
    inverted softmax(x, y) = exp(b cos(x, y)) / sum_n exp(b cos(x_n, y))        over all sources x_n

One pass for r_S and r_T together is our choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import VectorError, WcsError
from .search import MEMORY, candidates, cosines, products, tile_shape, top_k, unit_rows

if TYPE_CHECKING:
    from .search import Backend

_SLAB = 2**20  # scores ranked at a time: about what a processor's cache holds

__all__ = ["check_pair", "log_partition", "mean_cosine", "mean_knn", "mean_knn_both"]


def check_pair(
    A: np.ndarray, B: np.ndarray, names: tuple[str, str], *, normalized: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices as float32 unit rows, after checking that they live in one space.

    Raises:
        VectorError: see [`unit_rows`]; or different widths.
    """
    first = unit_rows(A, names[0], normalized=normalized)
    second = first if B is A else unit_rows(B, names[1], normalized=normalized)
    if first.shape[1] != second.shape[1]:
        raise VectorError(
            f"{names[0]} and {names[1]}: vectors of {first.shape[1]} and {second.shape[1]} numbers; "
            "map the first into the space of the second before"
        )
    return first, second


def mean_knn(
    A: np.ndarray,
    B: np.ndarray,
    k: int = 10,
    *,
    normalized: bool = False,
    backend: Backend = "auto",
    memory: int = MEMORY,
) -> np.ndarray:
    """Mean cosine (n,) float32 of each row of A (n, d) to its k nearest rows of B (m, d); all of B where k > m.

    Args:
        A: vectors; a zero row has the cosine 0 to everything.
        B: vectors of the same space, at least one.
        k: neighbours, CSLS's K.
        normalized: all rows have length 1 already.
        backend: see [`search`].
        memory: bytes for tiles of scores.

    Raises:
        VectorError: matrices that do not fit together, numbers that are not finite, or no rows in B.
        WcsError: k below 1, or a backend that is not installed.

    Example:
        >>> mean_knn(np.array([[2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), k=2).tolist()
        [0.5]
    """
    A, B = check_pair(A, B, ("A", "B"), normalized=normalized)
    if not len(B):
        raise VectorError("B: no rows, so there are no neighbours; expected at least one")
    return mean_cosine(A, B, candidates(A, B, k, backend=backend, memory=memory))


def mean_cosine(A: np.ndarray, B: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Mean product (n,) float32 of row i of A (n, d) with the rows `index[i]` (k,) of B.

    >>> mean_cosine(np.eye(2), np.eye(2), np.array([[0, 1], [0, 1]])).tolist()
    [0.5, 0.5]
    """
    values = np.sort(cosines(A, B, index), axis=1)  # in one order, so that the sum is rounded in one way
    return np.asarray(values.mean(axis=1), dtype=np.float32)


def mean_knn_both(X: np.ndarray, Y: np.ndarray, k: int = 10, *, memory: int = MEMORY) -> tuple[np.ndarray, np.ndarray]:
    """(r_T (n,), r_S (m,)): [`mean_knn`] of X to Y and of Y to X, from one matrix product.

    Args:
        X: (n, d) float32 unit rows, at least one.
        Y: (m, d) float32 unit rows, at least one.
        k: neighbours.
        memory: bytes for tiles of scores.

    Example:
        >>> I = np.eye(2, dtype=np.float32)
        >>> [r.tolist() for r in mean_knn_both(I, I[:1], k=1)]
        [[1.0, 0.0], [1.0]]
    """
    if k < 1:
        raise WcsError(f"knn: expected at least 1, got {k}")
    rows = max(1, min(len(X), memory // (8 * len(Y))))
    buffer = np.empty(rows * len(Y), np.float32)
    of_x = np.empty((len(X), min(k, len(Y))), np.int64)
    of_y = _Columns(len(Y), min(k, len(X)))
    slab = max(1, _SLAB // len(Y))
    for start in range(0, len(X), rows):
        tile = products(X[start : start + rows], Y, buffer)
        for top in range(0, len(tile), slab):
            part = tile[top : top + slab]
            of_x[start + top : start + top + len(part)] = top_k(part, of_x.shape[1])
        of_y.add(start, tile)
    return mean_cosine(X, Y, of_x), mean_cosine(Y, X, of_y.rows)


class _Columns:
    """The k largest of every column, over tiles that come from top to bottom. To turn the tiles round would cost half a product."""

    def __init__(self, columns: int, k: int) -> None:
        self.rows = np.zeros((columns, k), np.int64)
        self.scores = np.full((columns, k), -np.inf, np.float32)

    def add(self, start: int, tile: np.ndarray) -> None:
        """Takes in a tile (r, m) of the rows from `start` on. After the first few tiles, hardly anything in it is large enough."""
        k = self.rows.shape[1]
        large = tile >= self._floor(tile) if not start else tile > self.scores.min(axis=1)
        at = np.flatnonzero(large)
        score, (row, column) = tile.reshape(-1)[at], np.divmod(at, tile.shape[1])
        order = np.lexsort((-score, column))
        row, column, score = row[order], column[order], score[order]
        rank = np.arange(len(column)) - np.searchsorted(column, column)  # of a score in its column
        row, column, score, rank = (part[rank < k] for part in (row, column, score, rank))
        columns, place = np.unique(column, return_inverse=True)
        scores, rows = np.full((len(columns), k), -np.inf, np.float32), np.zeros((len(columns), k), np.int64)
        scores[place, rank], rows[place, rank] = score, row + start
        scores = np.concatenate([self.scores[columns], scores], axis=1)
        rows = np.concatenate([self.rows[columns], rows], axis=1)
        best = top_k(scores, k)
        self.scores[columns] = np.take_along_axis(scores, best, axis=1)
        self.rows[columns] = np.take_along_axis(rows, best, axis=1)

    def _floor(self, tile: np.ndarray) -> np.ndarray:
        """Something at most the k-th largest of each column: the k-th largest of the maxima of groups of rows."""
        k = self.rows.shape[1]
        group = len(tile) // (6 * k)
        if not group:
            return np.full(tile.shape[1], -np.inf, np.float32)
        maxima = tile[: 6 * k * group].reshape(6 * k, group, -1).max(axis=1)
        return np.asarray(np.partition(maxima, 5 * k, axis=0)[5 * k])


def log_partition(Y: np.ndarray, X: np.ndarray, beta: float, *, memory: int = MEMORY) -> np.ndarray:
    """log sum_n exp(beta cos(x_n, y)) for each row y of Y: (m,) float32.

    Args:
        Y: (m, d) float32 unit rows.
        X: (n, d) float32 unit rows, at least one.
        beta: inverse temperature, positive.
        memory: bytes for tiles of scores.

    Example:
        >>> I = np.eye(2, dtype=np.float32)
        >>> bool(np.isclose(log_partition(I[:1], I, beta=2.0)[0], np.log(np.exp(2) + np.exp(0))))
        True
    """
    if not beta > 0:
        raise WcsError(f"beta: expected a positive inverse temperature, got {beta}")
    rows, width = tile_shape(len(Y), len(X), memory)
    buffer = np.empty(rows * width, np.float32)
    result = np.full(len(Y), -np.inf)
    for start in range(0, len(Y), rows):
        for left in range(0, len(X), width):
            tile = products(Y[start : start + rows], X[left : left + width], buffer)
            tile *= np.float32(beta)
            largest = tile.max(axis=1, keepdims=True)
            tile -= largest
            np.exp(tile, out=tile)
            part = largest[:, 0] + np.log(tile.sum(axis=1, dtype=np.float64))
            at = slice(start, start + len(tile))
            result[at] = np.logaddexp(result[at], part)
    return result.astype(np.float32)
