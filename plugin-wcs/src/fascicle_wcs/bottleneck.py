"""Bottleneck distance of zero-dimensional persistence diagrams: the field's lower bound of the Gromov-Hausdorff distance.

Source: equations 2 to 4 of the paper define GH; the paper does not say how it computes it. The bound is that of Chazal et al. 2009
("Gromov-Hausdorff stable signatures for shapes using persistence"), brought to word vectors by Patra et al. 2019. In dimension 0
no Rips complex is needed: every class is born at 0 and dies with an edge of the minimum spanning tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import VectorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["bottleneck_h0", "cosine_deaths", "row_deaths", "spanning_tree"]

MEMORY = 256 * 2**20
"""Bytes that all cosines may take at once; where they would take more, one row at a time is computed."""
_BLOCK = 256


def spanning_tree(row: Callable[[int], Floats], n: int) -> tuple[NDArray[np.int64], Floats]:
    """Minimum spanning tree of n points by Prim's algorithm, in O(n^2) time and O(n) memory beside `row`.

    Args:
        row: gives the (n,) lengths of the edges from one point to all; any increasing function of the length does.
        n: points, at least 1.

    Returns:
        The edges (n - 1, 2), and what `row` said of each (n - 1,).

    >>> points = np.array([0.0, 5.0, 1.0])
    >>> edges, lengths = spanning_tree(lambda i: abs(points - points[i]), 3)
    >>> edges.tolist(), lengths.tolist()
    ([[0, 2], [2, 1]], [1.0, 4.0])
    """
    outside = np.ones(n, dtype=bool)
    nearest = np.full(n, np.inf)  # of each point outside, to the tree
    via = np.zeros(n, dtype=np.int64)
    edges, lengths = np.empty((n - 1, 2), dtype=np.int64), np.empty(n - 1)
    last = 0
    for step in range(n - 1):
        outside[last], nearest[last] = False, np.inf
        found = row(last)
        closer = outside & (found < nearest)
        nearest[closer], via[closer] = found[closer], last
        last = int(np.argmin(nearest))
        edges[step], lengths[step] = (via[last], last), nearest[last]
    return edges, lengths


def cosine_deaths(X: NDArray[Any]) -> Floats:
    """Deaths (n - 1,) of the H0 classes under the metric sqrt(2 - 2 cos), longest first.

    Args:
        X: (n, d) rows of length 1 or 0. A zero row has the cosine 0 to everything.

    Raises:
        VectorError: fewer than two rows, or numbers that are not finite.

    >>> cosine_deaths(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])).round(3).tolist()
    [0.894, 0.632]
    """
    X = _points(X)
    n = len(X)
    if n * n * X.itemsize <= MEMORY:
        _, squares = spanning_tree(_squares(X @ X.T).__getitem__, n)
    else:
        _, squares = spanning_tree(lambda i: _squares(X @ X[i]), n)
    return _longest_first(np.sqrt(squares))


def row_deaths(X: NDArray[Any]) -> Floats:
    """Deaths (n - 1,) of the H0 classes when the rows of the distance matrix are taken for points in R^n, longest first.

    Two (n, n) matrices are held: 400 MB at n = 5000.

    Args:
        X: (n, d) rows of length 1 or 0.

    Raises:
        VectorError: as `cosine_deaths`.

    >>> row_deaths(np.array([[1.0, 0.0], [0.0, 1.0]])).round(6).tolist()
    [2.0]
    """
    X = _points(X)
    D = _squares(X @ X.T)
    np.sqrt(D, out=D)
    np.fill_diagonal(D, 0)
    gram = D @ D.T
    squares = np.diagonal(gram)
    edges, _ = spanning_tree(lambda i: squares + squares[i] - 2 * gram[i], len(X))
    # Near points lose their digits in the products, so the lengths of the chosen edges are computed from the rows.
    lengths = [
        np.linalg.norm(D[part[:, 0]] - D[part[:, 1]], axis=1)
        for part in (edges[start : start + _BLOCK] for start in range(0, len(edges), _BLOCK))
    ]
    return _longest_first(np.concatenate(lengths))


def bottleneck_h0(a: NDArray[Any], b: NDArray[Any]) -> float:
    """d_B = max_i min(|a_i - b_i|, max(a_i, b_i) / 2), both sides sorted downwards and padded with zeros; exact.

    Points (0, a_i) and (0, b_i): matching two costs |a_i - b_j|, leaving one to the diagonal half its death. Some best matching
    pairs the k longest of both sides in order: if a longer one is left out for a shorter one, exchanging them, or leaving out
    both partners, costs no more than leaving the longer one out did. The best k is where leaving out starts to cost less.

    Args:
        a: (p,) finite deaths, in any order.
        b: (q,) the same of the other diagram.

    >>> bottleneck_h0(np.array([1.0, 0.5]), np.array([1.1]))
    0.25
    """
    size = max(len(a), len(b))
    if size == 0:
        return 0.0
    first, second = (np.pad(_longest_first(np.asarray(side, float)), (0, size - len(side))) for side in (a, b))
    return float(np.minimum(np.abs(first - second), np.maximum(first, second) / 2).max())


def _squares(cosines: Floats) -> Floats:
    """2 - 2 cos, in place."""
    cosines *= -2
    cosines += 2
    return np.maximum(cosines, 0, out=cosines)


def _longest_first(values: Floats) -> Floats:
    return np.sort(values)[::-1]


def _points(X: NDArray[Any]) -> Floats:
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or len(X) < 2:
        raise VectorError(f"vectors of shape {X.shape}; expected (n, d) with at least two rows")
    if not np.isfinite(X).all():
        row = int(np.argmin(np.isfinite(X).all(axis=1)))
        raise VectorError(f"row {row} has a number that is not finite; leave that word out")
    return X
