"""Grow the dictionary from the map and the map from the dictionary, from few pairs or none; and tell a failed run from a good one.

Source: not in the paper (whose own augmentation asks a language model). Artetxe et al. 2018 ("A robust self-learning method for
fully unsupervised cross-lingual mappings of word embeddings"), sections 3.2 (unsupervised initialization) and 3.3 (stochastic
dictionary induction, frequency cutoff, CSLS, both directions), implemented afresh. Our choice: plain induction is tried before the
stochastic one, patience is shorter, a dictionary that no longer changes ends the run, and a control run decides on convergence.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import MapError
from .fits import check_pairs, fit, project, reduction
from .induction import induce
from .maps import procrustes
from .normalization import DEFAULT_STEPS
from .normalization import normalize as normalized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .fits import Method
    from .maps import Completion, Map

    Pairs = NDArray[np.int64]

__all__ = [
    "AGREEMENT",
    "MARGIN",
    "SelfLearning",
    "identical_seeds",
    "numeral_seeds",
    "self_learn",
    "unsupervised_seeds",
]

log = logging.getLogger("fascicle.wcs")

MARGIN = 0.2
"""By what share the objective must exceed the control's for a run to count as converged; wrong solutions reach about the same."""
AGREEMENT = 0.5
"""Share of the pairs that the control must find, too, to confirm a run whatever the objectives."""
_CONTROL_ROUNDS = 30


@dataclass(frozen=True)
class SelfLearning:
    """A map that was learnt together with its dictionary."""

    map: Map
    pairs: Pairs
    """(k, 2) rows that are each other's best match, by source row: what the map was fitted on."""
    history: list[dict[str, float]]
    """A row for each round: `objective`, the mean CSLS of the best matches of both sides; `mutual`, the share of words whose match
    is mutual; `keep`, the share of similarities that the induction saw; `pairs`, the size of the dictionary."""
    converged: bool
    """Whether the map can be trusted: a control, the same learning from random pairs, either reached a lower objective (`MARGIN`)
    or found the same pairs (`AGREEMENT`). A failed run settles as calmly as a good one, so that nothing in its own course tells."""
    reason: str
    """Why it ended, and what the verdict rests on."""


def self_learn(
    X: NDArray[Any],
    Y: NDArray[Any],
    seeds: NDArray[Any] | None = None,
    *,
    method: Method = "procrustes",
    normalize: Sequence[str] = DEFAULT_STEPS,
    completion: Completion = "identity",
    ridge: float = 0.0,
    reduce: Literal["pca"] | None = None,
    cutoff: int = 20_000,
    knn: int = 10,
    keep_start: float = 0.1,
    keep_factor: float = 2.0,
    patience: int = 10,
    threshold: float = 1e-6,
    max_iter: int = 500,
    seed: int = 0,
) -> SelfLearning:
    """Learn map and dictionary in turns, with an orthogonal map; fit `method` once at the end, on the pairs that are mutual.

    First by plain induction. Where that leads nowhere, once more from the seeds by stochastic induction: each similarity is seen
    with a probability that begins at `keep_start` and grows by `keep_factor` after `patience` rounds without a better objective, up
    to 1. A `keep_start` of 1 leaves out the second phase.

    Args:
        X: (n, d_s) source vectors in frequency order.
        Y: (m, d_t) target vectors in frequency order.
        seeds: (k, 2) rows to begin with; None takes `unsupervised_seeds`.
        method: of the final fit, as `normalize`, `completion`, `ridge`, `reduce`; see `fit`.
        cutoff: words of each side that may enter the dictionary. Cost and, in tiles, memory go with its square.
        knn: neighbours of CSLS.
        keep_start: see above; in (0, 1].
        keep_factor: see above; more than 1.
        patience: see above; Artetxe et al. have 50.
        threshold: what the objective must rise by to count as better.
        max_iter: rounds of each of the two phases at most.
        seed: of the stochastic induction and of the control.

    Returns:
        The last map also of a run that failed: look at `converged`.

    Raises:
        MapError: see `fit`; an argument outside its range; without seeds, sides of different widths.

    >>> from fascicle_wcs.planted import planted_languages
    >>> planted = planted_languages(400, 16, noise=0.01)
    >>> learnt = self_learn(planted.source.matrix, planted.target.matrix, planted.pairs[:25])
    >>> learnt.converged, bool(np.array_equal(learnt.pairs, planted.pairs))
    (True, True)
    """
    _check(cutoff=cutoff, knn=knn, patience=patience, max_iter=max_iter, keep_start=keep_start, keep_factor=keep_factor)
    if seeds is None:
        seeds = unsupervised_seeds(X, Y, first=min(4000, cutoff), knn=knn, normalize=normalize)
    seeds = check_pairs(seeds, X, Y)
    turns = _Turns(X, Y, normalize, reduce, completion=completion, ridge=ridge, cutoff=cutoff, knn=knn, seed=seed)
    control = turns.run(turns.random_pairs(), 1.0, keep_factor, patience, threshold, min(max_iter, _CONTROL_ROUNDS))
    end = turns.run(seeds, 1.0, keep_factor, patience, threshold, max_iter)
    history = end.history
    if keep_start < 1 and not end.beats(control):
        log.info("self-learning: plain induction leads nowhere, stochastic induction follows")
        end = turns.run(seeds, keep_start, keep_factor, patience, threshold, max_iter)
        history = history + end.history
    found = fit(X, Y, end.pairs, method=method, normalize=normalize, completion=completion, ridge=ridge, reduce=reduce)
    reason = (
        f"{end.ended}; objective {end.objective:.3f}, from random pairs {control.objective:.3f} with "
        f"{end.agreement(control):.0%} of the same pairs"
    )
    return SelfLearning(found, end.pairs, history, end.beats(control), reason)


@dataclass(frozen=True)
class _End:
    """Where taking turns ended."""

    pairs: Pairs
    history: list[dict[str, float]]
    ended: str

    @property
    def objective(self) -> float:
        return self.history[-1]["objective"]

    def agreement(self, other: _End) -> float:
        """Share of these pairs that are the other's, too."""
        known = set(map(tuple, other.pairs.tolist()))
        return sum(tuple(pair) in known for pair in self.pairs.tolist()) / len(self.pairs)

    def beats(self, control: _End) -> bool:
        """See `SelfLearning.converged`."""
        return self.agreement(control) >= AGREEMENT or self.objective > control.objective + MARGIN * abs(
            control.objective
        )


class _Turns:
    """Two normalised vocabularies, between which map and dictionary take turns."""

    def __init__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any],
        steps: Sequence[str],
        reduce: Literal["pca"] | None,
        *,
        completion: Completion,
        ridge: float,
        cutoff: int,
        knn: int,
        seed: int,
    ) -> None:
        X, Y = normalized(X, steps)[0], normalized(Y, steps)[0]
        A, B = reduction(X, Y, reduce)
        self.X, self.Y = project(X, A), project(Y, B)
        self.completion: Completion = completion
        self.ridge, self.cutoff, self.knn = ridge, cutoff, knn
        self.rng = np.random.default_rng(seed)

    def random_pairs(self) -> Pairs:
        """As many as the smaller side has words that may enter the dictionary."""
        n, m = min(len(self.X), self.cutoff), min(len(self.Y), self.cutoff)
        return np.stack([self.rng.permutation(n)[: min(n, m)], self.rng.permutation(m)[: min(n, m)]], axis=1)

    def run(self, pairs: Pairs, keep: float, factor: float, patience: int, threshold: float, max_iter: int) -> _End:
        """Take turns until nothing gets better."""
        best, waited, ended = -np.inf, 0, f"{max_iter} rounds were over"
        history: list[dict[str, float]] = []
        for _ in range(max_iter):
            before, (pairs, row) = pairs, self.induced(self.mapped(pairs), keep)
            history.append(row)
            waited = 0 if row["objective"] > best + threshold else waited + 1
            best = max(best, row["objective"])
            if keep == 1 and np.array_equal(before, pairs):
                ended = "the dictionary no longer changes"
                break
            if waited >= patience:
                if keep == 1:
                    ended = f"no better objective in {patience} rounds"
                    break
                keep, waited = min(1.0, keep * factor), 0
        return _End(induce(self.mapped(pairs), self.Y, knn=self.knn, cutoff=self.cutoff), history, ended)

    def mapped(self, pairs: Pairs) -> NDArray[Any]:
        """Source words that may enter the dictionary, under the map of these pairs."""
        W = procrustes(self.X[pairs[:, 0]], self.Y[pairs[:, 1]], completion=self.completion, ridge=self.ridge)
        return np.asarray(self.X[: self.cutoff] @ W.astype(self.X.dtype))

    def induced(self, mapped: NDArray[Any], keep: float) -> tuple[Pairs, dict[str, float]]:
        """The dictionary of both directions and the round's row of the history."""
        stats: dict[str, float] = {}
        pairs = induce(
            mapped,
            self.Y,
            knn=self.knn,
            mutual="union",
            cutoff=self.cutoff,
            keep=keep,
            seed=int(self.rng.integers(2**31)),
            stats=stats,
        )
        n, m = len(mapped), min(len(self.Y), self.cutoff)
        return pairs, {
            "objective": (stats["forward"] + stats["backward"]) / 2,
            "mutual": max(0, n + m - len(pairs)) / min(n, m),  # a mutual pair is found from both sides, and stands once
            "keep": keep,
            "pairs": float(len(pairs)),
        }


def unsupervised_seeds(
    X: NDArray[Any],
    Y: NDArray[Any],
    *,
    first: int = 4000,
    knn: int = 10,
    normalize: Sequence[str] = DEFAULT_STEPS,
) -> Pairs:
    """Pairs from the vectors alone: words whose similarities to the other words of their language are distributed alike.

    The rows of `sqrt(X X^T)`, each sorted, are compared across languages by CSLS, in both directions.

    Args:
        X: (n, d_s) source vectors in frequency order.
        Y: (m, d_t) target vectors in frequency order; widths may differ.
        first: words of each side; the smaller side's number where there are fewer.
        knn: neighbours of CSLS.
        normalize: steps on both sides before.

    Returns:
        (k, 2) rows; most of them wrong unless the languages are very alike, and good enough to begin with.

    >>> from fascicle_wcs.planted import planted_languages
    >>> planted = planted_languages(400, 16, noise=0.0)
    >>> seeds = unsupervised_seeds(planted.source.matrix, planted.target.matrix)
    >>> bool(np.array_equal(seeds, planted.pairs))
    True
    """
    _check(first=first, knn=knn)
    size = min(first, len(X), len(Y))
    profiles = []
    for side in (X, Y):
        U, s, _ = np.linalg.svd(
            normalized(np.asarray(side)[:size], normalize)[0].astype(np.float64), full_matrices=False
        )
        profiles.append(normalized(np.sort((U * s) @ U.T, axis=1), DEFAULT_STEPS)[0])
    return induce(profiles[0], profiles[1], knn=knn, mutual="union")


def identical_seeds(source_words: Sequence[str], target_words: Sequence[str]) -> Pairs:
    """Pairs (k, 2) of words that are spelt alike, in source order.

    >>> identical_seeds(["le", "photo", "rose"], ["rose", "the", "photo"]).tolist()
    [[1, 2], [2, 0]]
    """
    rows = {word: row for row, word in enumerate(target_words)}
    return _rows([(i, rows[word]) for i, word in enumerate(source_words) if word in rows])


def numeral_seeds(source_words: Sequence[str], target_words: Sequence[str]) -> Pairs:
    """Pairs (k, 2) of words that consist of the same digits 0-9, in source order: for scripts that share nothing else.

    >>> numeral_seeds(["le", "1990", "rose"], ["rose", "1990"]).tolist()
    [[1, 1]]
    """
    pairs = identical_seeds(source_words, target_words)
    return _rows([(i, j) for i, j in pairs.tolist() if source_words[i].isascii() and source_words[i].isdigit()])


def _rows(pairs: list[tuple[int, int]]) -> Pairs:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _check(**values: float) -> None:
    for name, value in values.items():
        low = {"keep_start": value > 0, "keep_factor": value > 1}.get(name, value >= 1)
        if not low or (name == "keep_start" and value > 1):
            expected = {"keep_start": "more than 0, at most 1", "keep_factor": "more than 1"}.get(name, "at least 1")
            raise MapError(f"{name}: got {value}, expected {expected}")
