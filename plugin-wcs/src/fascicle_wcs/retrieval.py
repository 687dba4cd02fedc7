"""Translating words by nearest neighbours: exact, in bounded memory, with the corrections for hubs.

The paper retrieves nothing itself, its measure is what the language model says. Its baselines do: CSLS of Conneau et al. 2018, the
inverted softmax of Smith et al. 2017. See [`fascicle_wcs.hubness`] for the formulas.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from .errors import VectorError, WcsError
from .hubness import check_pair, log_partition, mean_knn, mean_knn_both
from .induction import Direction, induce
from .lazy import lazy_csls
from .search import MEMORY, Backend, search

__all__ = ["Backend", "Direction", "Method", "Mode", "induce", "mean_knn", "retrieve"]

Method = Literal["nn", "csls", "invsoftmax"]
Mode = Literal["auto", "full", "lazy"]

_LAZY_FROM = 5000  # targets: below, a full pass takes no time


def retrieve(
    X: np.ndarray,
    Y: np.ndarray,
    queries: np.ndarray | None = None,
    *,
    k: int = 1,
    method: Method = "csls",
    knn: int = 10,
    beta: float = 30.0,
    backend: Backend = "auto",
    mode: Mode = "full",
    normalized: bool = False,
    memory: int = MEMORY,
    seed: int = 0,
    stats: dict[str, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best targets of each query word, best first; of equally good ones, the first in Y.

    Every row of X counts in the hubness of a target, whether asked for or not. The result depends neither on the backend, nor on
    the memory, nor on which queries are asked for together, up to scores that differ by rounding.

    Args:
        X: (n, d) source vectors, mapped into the target space.
        Y: (m, d) target vectors, at least one.
        queries: (q,) rows of X to translate; without it all.
        k: translations per query; at most m are returned.
        method: `nn`: cosine; `csls`: 2 cos - r_T - r_S; `invsoftmax`: its logarithm, so 0 at most.
        knn: neighbours of CSLS; the literature's value is 10.
        beta: inverse temperature of the inverted softmax; 10 to 50 is usual.
        backend: `numpy`, `torch`, `faiss` or `auto`, see [`fascicle_wcs.search.search`].
        mode: `lazy`: CSLS by bounds, with the same result; cheaper where there are few queries and many targets, see
            [`fascicle_wcs.lazy`]. `auto`: lazy where that is so. `full`: the hubness of all targets.
        normalized: all rows have length 1 already; float32 matrices are then not copied.
        memory: bytes for tiles of scores; the vectors come on top.
        seed: of the lazy mode's clustering; the result does not depend on it.
        stats: gets `evaluated`, the number of targets whose hubness was worked out, and `targets`, m.

    Returns:
        (q, k) int64 rows of Y and their (q, k) float32 scores.

    Raises:
        VectorError: matrices of different widths, no targets, numbers that are not finite, or queries that are no rows of X.
        WcsError: an argument outside its range, the lazy mode with another method than CSLS, or a backend that is not installed.

    Example:
        >>> X = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> Y = np.array([[0.0, 1.0], [1.0, 1.0], [3.0, 0.0]])
        >>> rows, scores = retrieve(X, Y, np.array([1, 0]), k=2, method="nn")
        >>> rows.tolist(), scores[:, 0].tolist()
        ([[0, 1], [2, 1]], [1.0, 1.0])
    """
    _check(method, mode, k, knn, beta)
    X, Y = check_pair(X, Y, ("X", "Y"), normalized=normalized)
    if not len(Y):
        raise VectorError("Y: no rows, so there is nothing to retrieve; expected at least one target")
    rows = _rows(queries, len(X))
    stats = {} if stats is None else stats
    stats.update(evaluated=0, targets=len(Y))
    x = X if queries is None else X[rows]
    if method == "nn" or not len(rows):
        return search(x, Y, k, backend=backend, memory=memory)
    if mode == "lazy" or (mode == "auto" and method == "csls" and len(Y) >= _LAZY_FROM and 4 * k * len(rows) < len(Y)):
        index, scores = lazy_csls(X, Y, rows, k, knn, backend=backend, memory=memory, seed=seed, stats=stats)
        r_t = mean_knn(x, Y, knn, normalized=True, backend=backend, memory=memory)
        return index, scores - r_t[:, None]
    stats["evaluated"] = len(Y)
    if method == "invsoftmax":
        offset = log_partition(Y, X, beta, memory=memory)
        return search(x, Y, k, scale=beta, offset=offset, backend=backend, memory=memory)
    if queries is None and backend in ("auto", "numpy"):
        r_t, r_s = mean_knn_both(X, Y, knn, memory=memory)
    else:
        r_t = mean_knn(x, Y, knn, normalized=True, backend=backend, memory=memory)
        r_s = mean_knn(Y, X, knn, normalized=True, backend=backend, memory=memory)
    index, scores = search(x, Y, k, scale=2, offset=r_s, backend=backend, memory=memory)
    return index, scores - r_t[:, None]


def _check(method: str, mode: str, k: int, knn: int, beta: float) -> None:
    for name, value, known in (("method", method, get_args(Method)), ("mode", mode, get_args(Mode))):
        if value not in known:
            raise WcsError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, known))}")
    if mode == "lazy" and method != "csls":
        raise WcsError(f"mode='lazy' knows bounds for method='csls' only, got {method!r}; use mode='full'")
    if k < 1 or knn < 1 or not beta > 0:
        raise WcsError(f"k, knn and beta: expected k >= 1, knn >= 1, beta > 0, got k={k}, knn={knn}, beta={beta}")


def _rows(queries: np.ndarray | None, n: int) -> np.ndarray:
    if queries is None:
        return np.arange(n)
    rows = np.asarray(queries)
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise VectorError(f"queries: expected row numbers (q,), got {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.int64)
    if len(rows) and not (rows.min() >= 0 and rows.max() < n):
        raise VectorError(f"queries: rows {rows.min()} to {rows.max()}, expected rows of X: 0 to {n - 1}")
    return rows
