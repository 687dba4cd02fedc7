"""A dictionary from two sets of vectors in one space: which words are each other's best translations.

The dictionary step of self-learning (Artetxe et al. 2018, A robust self-learning method for fully unsupervised cross-lingual
mappings of word embeddings, section 3.2, with its random dropout of similarities). The paper itself induces its dictionary by
prompts; this is what its baselines do. Both directions come from the same matrix products, which is our choice.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from .errors import WcsError
from .hubness import check_pair, log_partition, mean_knn_both
from .search import MEMORY, products

__all__ = ["Direction", "induce"]

Direction = Literal["forward", "backward", "mutual", "union"]


def induce(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    method: Literal["nn", "csls", "invsoftmax"] = "csls",
    knn: int = 10,
    beta: float = 30.0,
    mutual: bool | Direction = True,
    cutoff: int | None = None,
    keep: float = 1.0,
    normalized: bool = False,
    memory: int = MEMORY,
    seed: int = 0,
    stats: dict[str, float] | None = None,
) -> np.ndarray:
    """The pairs of best translations among the first words of both sides, sorted, each once.

    Args:
        X: (n, d) source vectors in the target space, in order of frequency.
        Y: (m, d) target vectors, in order of frequency.
        method: see [`fascicle_wcs.retrieval.retrieve`].
        knn: neighbours of CSLS.
        beta: inverse temperature of the inverted softmax.
        mutual: `True` or `mutual`: pairs of which each is the other's best; `forward`: every source word with its best target;
            `backward`: every target word with its best source; `union`: all of both (a pair found both ways once, where
            Artetxe et al. count it twice).
        cutoff: only the first so many rows of X and of Y are candidates, and only they count in hubness; 20000 is usual.
        keep: every similarity takes part with this probability, in (0, 1], the same for both directions. (Artetxe et al. set
            the others to 0 instead.) A word of which none is left has no pair. Hubness is taken over all of them.
        normalized: all rows have length 1 already.
        memory: bytes for tiles of scores.
        seed: of the dropout; the draws do not depend on `memory`.
        stats: gets `forward` and `backward`, the mean over words of the best score, before dropout: the objective by which
            self-learning is seen to converge. CSLS scores here are complete, inverted softmax ones logarithms.

    Returns:
        (k, 2) int64 pairs of a row of X and a row of Y.

    Raises:
        VectorError: matrices that do not fit together, or numbers that are not finite.
        WcsError: an argument outside its range.

    Example:
        >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
        >>> induce(X, X[::-1], method="nn").tolist()
        [[0, 2], [1, 1], [2, 0]]
        >>> induce(X, X[:1], method="nn", mutual="forward").tolist()
        [[0, 0], [1, 0], [2, 0]]
    """
    direction = _check(method, mutual, knn, beta, cutoff, keep, memory)
    X, Y = check_pair(X[:cutoff], Y[:cutoff], ("X", "Y"), normalized=normalized)
    if not (len(X) and len(Y)):
        return np.empty((0, 2), np.int64)
    of_x, of_y, scale = np.zeros(len(X), np.float32), np.zeros(len(Y), np.float32), 1.0
    if method == "csls":
        (of_x, of_y), scale = mean_knn_both(X, Y, knn, memory=memory), 2.0
    elif method == "invsoftmax":
        of_x, of_y = log_partition(X, Y, beta, memory=memory), log_partition(Y, X, beta, memory=memory)
        scale = beta
    best = _Best(len(X), len(Y))
    rng = np.random.default_rng(seed)
    rows = max(1, min(len(X), memory // (16 * len(Y))))
    buffer = np.empty(rows * len(Y), np.float32)
    for start in range(0, len(X), rows):
        tile = products(X[start : start + rows], Y, buffer)
        tile *= np.float32(scale)
        dropped = rng.random(tile.shape, np.float32) >= keep if keep < 1 else None
        best.add(start, tile, of_x[start : start + rows], of_y, dropped)
    if stats is not None:
        # The inverted softmax is normalised over the words that a target competes for; CSLS subtracts both terms.
        forward, backward = (of_x.mean(), of_y.mean()) if method == "csls" else (0.0, 0.0)
        stats.update(forward=float(best.forward_sum / len(X) - forward), backward=float(best.objective() - backward))
    return _pairs(best, direction)


class _Best:
    """The best target of each source and the best source of each target, over tiles that come from top to bottom."""

    def __init__(self, n: int, m: int) -> None:
        self.target = np.full(n, -1)
        self.source = np.full(m, -1)
        self.score = np.full(m, -np.inf, np.float32)
        self.undropped = np.full(m, -np.inf, np.float32)
        self.forward_sum = 0.0

    def add(self, start: int, tile: np.ndarray, of_x: np.ndarray, of_y: np.ndarray, dropped: np.ndarray | None) -> None:
        """Takes in the scaled products (r, m) of the rows from `start` on; hubness is subtracted for each direction apart."""
        scores = tile - of_y
        self.forward_sum += float(scores.max(axis=1).sum(dtype=np.float64))
        if dropped is not None:
            scores[dropped] = -np.inf
        target = scores.argmax(axis=1)
        found = scores[np.arange(len(tile)), target] > -np.inf
        self.target[start : start + len(tile)] = np.where(found, target, -1)
        np.subtract(tile, of_x[:, None], out=scores)
        np.maximum(self.undropped, scores.max(axis=0), out=self.undropped)
        if dropped is not None:
            scores[dropped] = -np.inf
        highest = scores.max(axis=0)
        better = np.flatnonzero(highest > self.score)  # of equal ones the first, which an earlier tile had
        self.source[better] = start + scores[:, better].argmax(axis=0)
        self.score[better] = highest[better]

    def objective(self) -> float:
        """Mean over targets of the best score, whatever was dropped."""
        return float(self.undropped.mean(dtype=np.float64))


def _pairs(best: _Best, direction: Direction) -> np.ndarray:
    n, m = len(best.target), len(best.source)
    forward = (np.arange(n) * m + best.target)[best.target >= 0]
    backward = (best.source * m + np.arange(m))[best.source >= 0]
    if direction == "forward":
        keys = forward
    elif direction == "backward":
        keys = np.sort(backward)
    elif direction == "mutual":
        keys = np.intersect1d(forward, backward, assume_unique=True)
    else:
        keys = np.union1d(forward, backward)
    return np.stack(np.divmod(keys, m), axis=1).astype(np.int64)


def _check(
    method: str, mutual: bool | Direction, knn: int, beta: float, cutoff: int | None, keep: float, memory: int
) -> Direction:
    if method not in ("nn", "csls", "invsoftmax"):
        raise WcsError(f"method: got {method!r}, expected 'nn', 'csls' or 'invsoftmax'")
    direction: Direction
    if isinstance(mutual, bool):
        direction = "mutual" if mutual else "forward"
    elif mutual in get_args(Direction):
        direction = mutual
    else:
        raise WcsError(f"mutual: got {mutual!r}, expected True, 'mutual', 'forward', 'backward' or 'union'")
    if knn < 1 or not beta > 0 or not 0 < keep <= 1 or memory < 1 or (cutoff is not None and cutoff < 1):
        raise WcsError(
            "knn, beta, keep, memory and cutoff: expected knn >= 1, beta > 0, 0 < keep <= 1, memory >= 1, cutoff >= 1 or None, "
            f"got knn={knn}, beta={beta}, keep={keep}, memory={memory}, cutoff={cutoff}"
        )
    return direction
