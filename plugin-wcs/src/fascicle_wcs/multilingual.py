"""Several languages in one space, and how far the maps between them contradict each other.

Source: our choice; the paper maps one language at a time into English. `fit_all` does that for many. `fit_jointly` is generalized
Procrustes analysis (Gower 1975) on the words that several languages share: each word's place is the mean of all languages' vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MapError
from .fits import fit
from .maps import Map, procrustes
from .normalization import DEFAULT_STEPS, check_steps
from .normalization import normalize as normalized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .maps import Completion

    Matrix = NDArray[np.float64]

__all__ = ["cycle_error", "fit_all", "fit_jointly"]


def fit_all(
    languages: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], pivot: NDArray[Any], **options: Any
) -> dict[str, Map]:
    """One map into the pivot's space for each language, each on its own.

    Args:
        languages: name to (vectors (n, d_s), pairs (k, 2) of its rows and the pivot's).
        pivot: (m, d) vectors of the language that all are mapped to.
        options: of `fit`.

    Raises:
        MapError: as `fit`, with the language's name.

    >>> X, pairs = np.eye(3), np.array([[0, 1], [1, 2], [2, 0]])
    >>> maps = fit_all({"fr": (X, pairs), "es": (X, pairs[::-1])}, np.eye(3), normalize=())
    >>> sorted(maps), maps["fr"].source_matrix.tolist()
    (['es', 'fr'], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    """
    maps = {}
    for name, (X, pairs) in languages.items():
        try:
            maps[name] = fit(X, pivot, pairs, **options)
        except MapError as error:
            raise MapError(f"{name}: {error}") from error
    return maps


def fit_jointly(
    languages: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    pivot: NDArray[Any],
    *,
    normalize: Sequence[str] = DEFAULT_STEPS,
    completion: Completion = "identity",
    max_iter: int = 100,
    tolerance: float = 1e-6,
) -> dict[str, Map]:
    """Orthogonal maps into the pivot's space that all languages decide on together; those of `fit_all` are the start.

    In turns each language is mapped onto the hub, which has a vector for each pivot word in a pair, and the hub becomes the mean of
    the mapped vectors of each word, the pivot's own among them. The pivot is a language like the others until the end, when all is
    turned so that it lies where it was. A row may stand in several pairs; each counts.

    Args:
        languages: see `fit_all`; all of one width.
        pivot: (m, d).
        normalize: steps on every language.
        completion: see `procrustes`.
        max_iter: turns at most.
        tolerance: ends where no map moves by more, as ||W_t - W_{t-1}||_F / sqrt(d).

    Raises:
        MapError: as `fit`, with the language's name.

    >>> X, pairs = np.eye(2), np.array([[0, 1], [1, 0]])
    >>> fit_jointly({"fr": (X, pairs)}, X, normalize=())["fr"].source_matrix.round(6).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    steps = check_steps(normalize)
    maps = fit_all(languages, pivot, normalize=steps, completion=completion)
    P, pivot_means = normalized(pivot, steps)
    rows = {name: np.asarray(pairs, dtype=np.int64) for name, (_, pairs) in languages.items()}
    words = np.unique(np.concatenate([pairs[:, 1] for pairs in rows.values()]))
    sides: list[tuple[Matrix, NDArray[np.int64]]] = [(P[words].astype(np.float64), np.arange(len(words)))]
    means = []
    for name, (X, _) in languages.items():
        Xn, mean = normalized(X, steps)
        means.append(mean)
        sides.append((Xn[rows[name][:, 0]].astype(np.float64), np.searchsorted(words, rows[name][:, 1])))
    matrices = [np.eye(P.shape[1])] + [found.source_matrix for found in maps.values()]
    turns, moved = 0, np.inf
    while turns < max_iter and moved > tolerance:
        hub = _hub(sides, matrices, len(words))
        before, matrices = matrices, [procrustes(X, hub[at], completion=completion) for X, at in sides]
        moves = [np.linalg.norm(W - V) for W, V in zip(matrices, before, strict=True)]
        turns, moved = turns + 1, float(max(moves)) / np.sqrt(P.shape[1])
    home = matrices[0].T
    return {
        name: Map(
            W @ home,
            None,
            steps,
            tuple(mean),
            steps,
            tuple(pivot_means),
            {
                "method": "joint",
                "pairs": len(rows[name]),
                "normalize": list(steps),
                "turns": turns,
                "moved": float(moved),
            },
        )
        for name, W, mean in zip(languages, matrices[1:], means, strict=True)
    }


def _hub(sides: list[tuple[Matrix, NDArray[np.int64]]], matrices: list[Matrix], size: int) -> Matrix:
    """(size, d): the mean of all mapped vectors of each word."""
    total, count = np.zeros((size, len(matrices[0]))), np.zeros(size)
    for (X, at), W in zip(sides, matrices, strict=True):
        np.add.at(total, at, X @ W)
        np.add.at(count, at, 1)
    return np.asarray(total / count[:, None])


def cycle_error(maps: Mapping[tuple[str, str], Map]) -> dict[tuple[str, ...], float]:
    """How far from the identity a way through two or three languages and back is: `||W_ab W_bc W_ca - I||_F / sqrt(d)`.

    0 where maps agree, about sqrt 2 where they have nothing to do with each other. Maps that all go through one pivot agree always
    and say nothing; compare them with maps that were fitted directly.

    Args:
        maps: orthogonal maps by (source, target). For a cycle of three, a missing direction is the other's inverse.

    Returns:
        An error for each pair with maps in both directions and each triple with maps on all sides, names in alphabetical order.

    Raises:
        MapError: a map that is not orthogonal, widths that differ.

    >>> turn = Map(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    >>> cycle_error({("en", "fr"): turn, ("fr", "en"): turn.inverse()})
    {('en', 'fr'): 0.0}
    """
    for names, found in maps.items():
        if not found.is_orthogonal:
            raise MapError(
                f"cycle_error: the map {' to '.join(names)} has an orthogonality error of {found.orthogonality_error():.1e}; "
                "expected orthogonal maps between spaces of one width"
            )
    widths = {found.dim for found in maps.values()}
    if len(widths) > 1:
        raise MapError(f"cycle_error: got maps of widths {sorted(widths)}, expected one width")
    languages = sorted({name for names in maps for name in names})
    errors: dict[tuple[str, ...], float] = {}
    for a, b in combinations(languages, 2):
        if (a, b) in maps and (b, a) in maps:
            errors[a, b] = _off(maps[a, b].source_matrix @ maps[b, a].source_matrix)
    for a, b, c in combinations(languages, 3):
        way = [_matrix(maps, *edge) for edge in ((a, b), (b, c), (c, a))]
        if all(W is not None for W in way):
            errors[a, b, c] = _off(np.linalg.multi_dot([W for W in way if W is not None]))
    return errors


def _matrix(maps: Mapping[tuple[str, str], Map], source: str, target: str) -> Matrix | None:
    if (source, target) in maps:
        return maps[source, target].source_matrix
    return maps[target, source].source_matrix.T if (target, source) in maps else None


def _off(W: Matrix) -> float:
    return float(np.linalg.norm(W - np.eye(len(W))) / np.sqrt(len(W)))
