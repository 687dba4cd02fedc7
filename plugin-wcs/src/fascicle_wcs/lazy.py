"""CSLS without the hubness of every target: the same predictions from a small part of the work. Our own; no part of the paper.

The best target of a word x is the y with the largest 2 cos(x, y) - r_S(y), and r_S(y), a mean over the nearest of all sources, is
what CSLS pays for. A mean over the nearest of some of the sources is a lower bound of r_S(y), and so gives an upper bound of the
score. A y whose upper bound is below a known score cannot win, so that only few r_S(y) are worked out:

1. bounds: sources are clustered, and a target is compared with the clusters around its own only, where most of its nearest
   sources are;
2. each word lists the targets with the largest upper bounds, and works out the true r_S of those in the lead, until the leader is
   a true one;
3. a word whose list is too short for a decision goes on with a longer one, and in the end with the r_S of all targets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .hubness import mean_knn
from .search import MARGIN, MEMORY, candidates, cosines, search

if TYPE_CHECKING:
    from .search import Backend

__all__ = ["lazy_csls", "lower_hubness"]

_SHARE = 0.03  # of the sources that a target is compared with for its bound
_LISTS = (32, 256)  # upper bounds per word, and per word left over
_ROUNDS = 5  # of Lloyd's algorithm


def lower_hubness(
    Y: np.ndarray, X: np.ndarray, knn: int, *, share: float = _SHARE, memory: int = MEMORY, seed: int = 0
) -> np.ndarray:
    """A lower bound (m,) float32 of `mean_knn(Y, X, knn)`, mostly a close one, from about `share` of its products.

    Args:
        Y: (m, d) float32 unit rows.
        X: (n, d) float32 unit rows, at least one.
        knn: neighbours.
        share: of the sources that each target is compared with, in (0, 1].
        memory: bytes for tiles of scores.
        seed: of the clustering. It changes the bound, never what follows from it.

    Example:
        >>> X = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
        >>> X /= np.linalg.norm(X, axis=1, keepdims=True)
        >>> bool((lower_hubness(X, X, 5) <= mean_knn(X, X, 5)).all())
        True
    """
    centres = _centres(X, max(1, round(len(X) ** 0.5)), memory, seed)
    sources = _members(candidates(X, centres, 1, backend="numpy", memory=memory)[:, 0], len(centres))
    targets = _members(candidates(Y, centres, 1, backend="numpy", memory=memory)[:, 0], len(centres))
    sizes = np.array([len(rows) for rows in sources])
    enough = min(len(X), max(knn, round(share * len(X))))
    bound = np.empty(len(Y), np.float32)
    for cluster, rows in enumerate(targets):
        if len(rows):
            near = np.argsort(-(centres @ centres[cluster]), kind="stable")
            near = near[: 1 + int(np.searchsorted(np.cumsum(sizes[near]), enough))]
            some = X[np.concatenate([sources[c] for c in near])]
            bound[rows] = mean_knn(Y[rows], some, knn, normalized=True, backend="numpy", memory=memory)
    return bound - np.float32(MARGIN)


def _centres(X: np.ndarray, clusters: int, memory: int, seed: int) -> np.ndarray:
    """Unit centres (c, d) of a sample, by k-means of cosines."""
    rng = np.random.default_rng(seed)
    sample = X[np.sort(rng.choice(len(X), min(len(X), 64 * clusters), replace=False))]
    centres = sample[np.sort(rng.choice(len(sample), clusters, replace=False))]
    for _ in range(_ROUNDS):
        cluster = candidates(sample, centres, 1, backend="numpy", memory=memory)[:, 0]
        order = np.argsort(cluster, kind="stable")
        some, first = np.unique(cluster[order], return_index=True)
        sums = np.add.reduceat(sample[order], first, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres[some] = sums / np.where(lengths > 0, lengths, 1)
    return centres


def _members(cluster: np.ndarray, clusters: int) -> list[np.ndarray]:
    order = np.argsort(cluster, kind="stable")
    return np.split(order, np.searchsorted(cluster[order], np.arange(1, clusters)))


@dataclass
class _Hubness:
    """r_S of the targets: bounds, and true values where they were asked for."""

    X: np.ndarray
    Y: np.ndarray
    knn: int
    backend: Backend
    memory: int
    value: np.ndarray
    """(m,) float32."""
    known: np.ndarray = field(init=False)
    """(m,) bool: a true value."""

    def __post_init__(self) -> None:
        self.known = np.zeros(len(self.value), dtype=bool)

    def work_out(self, rows: np.ndarray) -> None:
        """Makes the values of these rows of Y true ones."""
        rows = np.unique(rows[~self.known[rows]])
        if len(rows):
            self.value[rows] = mean_knn(
                self.Y[rows], self.X, self.knn, normalized=True, backend=self.backend, memory=self.memory
            )
            self.known[rows] = True


def lazy_csls(
    X: np.ndarray,
    Y: np.ndarray,
    queries: np.ndarray,
    k: int,
    knn: int,
    *,
    backend: Backend = "auto",
    memory: int = MEMORY,
    seed: int = 0,
    stats: dict[str, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each query x the k targets y with the largest `2 cos(x, y) - r_S(y)`: what [`search`] finds with the r_S of all targets.

    Args:
        X: (n, d) float32 unit rows; r_S is taken over all of them.
        Y: (m, d) float32 unit rows, at least one.
        queries: (q,) rows of X.
        k: at least 1; at most m are returned.
        knn: neighbours.
        backend: see [`search`].
        memory: bytes for tiles of scores.
        seed: of the clustering; the result does not depend on it.
        stats: gets `evaluated`, of how many targets r_S was worked out, and `targets`, m.

    Returns:
        (q, k) int64 rows of Y, best first, ties by index, and their (q, k) float32 scores, without the r_T of the query.

    Example:
        >>> X = np.eye(3, dtype=np.float32)
        >>> lazy_csls(X, X[::-1].copy(), np.arange(3), k=1, knn=1)[0].tolist()
        [[2], [1], [0]]
    """
    k = min(k, len(Y))
    index, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    r_s = _Hubness(X, Y, knn, backend, memory, lower_hubness(Y, X, knn, memory=memory, seed=seed))
    left = np.flatnonzero(X[queries].any(axis=1))
    zero = np.setdiff1d(np.arange(len(queries)), left)
    for length in _LISTS:
        length = min(max(length, 4 * k), len(Y))  # noqa: PLW2901
        unsure = []
        step = max(1, memory // (4 * X.shape[1] + 64 * length))
        for start in range(0, len(left), step):
            rows = left[start : start + step]
            index[rows], scores[rows], sure = _decide(X[queries[rows]], r_s, k, length)
            unsure.append(rows[~sure])
        left = np.concatenate(unsure) if unsure else left
    left = np.concatenate([left, zero])  # to a zero row all targets are equally near
    if len(left):
        r_s.work_out(np.arange(len(Y)))
        index[left], scores[left] = search(
            X[queries[left]], Y, k, scale=2, offset=r_s.value, backend=backend, memory=memory
        )
    if stats is not None:
        stats.update(evaluated=int(r_s.known.sum()), targets=len(Y))
    return index, scores


def _decide(x: np.ndarray, r_s: _Hubness, k: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best of the `length` targets with the largest upper bounds, and whether (q,) no other target can be among them."""
    listed = candidates(x, r_s.Y, length, scale=2, offset=r_s.value, backend=r_s.backend, memory=r_s.memory)
    twice = 2 * cosines(x, r_s.Y, listed)
    rest = (twice - r_s.value[listed]).min(axis=1)  # what is not listed has no larger bound
    active, lead = np.arange(len(x)), k
    while len(active):
        bounds = twice[active] - r_s.value[listed[active]]
        leaders = np.take_along_axis(listed[active], np.argsort(-bounds, axis=1)[:, :lead], axis=1)
        unknown = ~r_s.known[leaders[:, :k]].all(axis=1)
        active = active[unknown]
        r_s.work_out(leaders[unknown])
        lead += 1  # a round over few rows is a slow matrix product; let there be few rounds
    # A bound that is no true value is below the leaders', but may be rounded to the same.
    score = np.where(r_s.known[listed], twice - r_s.value[listed], -np.inf).astype(np.float32)
    order = np.lexsort((listed, -score), axis=1)[:, :k]
    score = np.take_along_axis(score, order, axis=1)
    sure = (score[:, -1] > rest + MARGIN) if length < len(r_s.Y) else np.ones(len(x), dtype=bool)
    return np.take_along_axis(listed, order, axis=1), score, sure
