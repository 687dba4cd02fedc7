"""Fit a map on the pairs of a dictionary: Procrustes, VecMap's multi-step map, RCSLS.

Sources: Procrustes, equation 1 of the paper. The other two are not in the paper. `vecmap`: whitening, orthogonal map, re-weighting
and de-whitening of Artetxe et al. 2018 ("Generalizing and improving bilingual word embedding mappings"). `rcsls`: the relaxed
retrieval criterion of Joulin et al. 2018 ("Loss in translation", equation 5). Both formulas are implemented afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import MapError
from .maps import Map, polar, procrustes
from .normalization import DEFAULT_STEPS, check_steps
from .normalization import normalize as normalized
from .search import candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .maps import Completion

    Matrix = NDArray[np.float64]
    Pairs = NDArray[np.int64]

__all__ = [
    "Method",
    "Rcsls",
    "check_pairs",
    "fit",
    "minimize_rcsls",
    "principal_axes",
    "project",
    "rcsls_loss",
    "reduction",
    "vecmap",
]

Method = Literal["procrustes", "vecmap", "rcsls"]


@dataclass(frozen=True, kw_only=True)
class Rcsls:
    """How the RCSLS loss is minimised; the values of Joulin et al. where they have one."""

    knn: int = 10
    """Neighbours in the hubness terms."""
    learning_rate: float = 1.0
    """Step of the first descent; halved whenever the loss would rise."""
    iterations: int = 10
    """Steps at most."""
    max_neg: int = 200_000
    """Most frequent words of each side among which neighbours are looked for."""
    orthogonal: bool = False
    """Go back to the nearest orthogonal matrix after each step."""

    def __post_init__(self) -> None:
        if self.knn < 1 or self.iterations < 0 or self.max_neg < 1 or not self.learning_rate > 0:
            raise MapError(
                f"{self}: expected knn and max_neg of at least 1, a positive learning_rate, iterations from 0 on"
            )


def fit(
    X: NDArray[Any],
    Y: NDArray[Any],
    pairs: NDArray[Any],
    *,
    method: Method = "procrustes",
    normalize: Sequence[str] = DEFAULT_STEPS,
    completion: Completion = "identity",
    ridge: float = 0.0,
    reduce: Literal["pca"] | None = None,
    reweight: float = 0.5,
    rcsls: Rcsls | None = None,
) -> Map:
    """The map of X into the space of Y that the pairs teach.

    Args:
        X: (n, d_s) vectors of all source words, in frequency order: their means are the normalisation's.
        Y: (m, d_t) of all target words.
        pairs: (k, 2) rows of X and of Y; a row may stand in several pairs.
        method: `procrustes`, orthogonal; `vecmap`, linear maps of both sides; `rcsls`, a linear map of the source side.
        normalize: steps on both sides, see `fascicle_wcs.normalization`.
        completion: of `procrustes` where pairs are few, also as the start of `rcsls`.
        ridge: of `procrustes`, see there.
        reduce: where d_s and d_t differ, `pca` first projects the wider side onto its principal axes, as many as the other side has
            dimensions; of that side's normalised rows, which are not centred again. None refuses such a pair.
        reweight: of `vecmap`: the power of the singular values on each side.
        rcsls: options of `rcsls`.

    Raises:
        MapError: pairs outside of X or Y, numbers that are not finite, widths that differ, an unknown method.

    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> Q = np.linalg.qr(X[:4])[0]
    >>> pairs = np.stack([np.arange(50), np.arange(50)], axis=1)
    >>> bool(np.allclose(fit(X, X @ Q, pairs).source_matrix, Q))
    True
    """
    pairs, steps = check_pairs(pairs, X, Y), check_steps(normalize)
    if method not in ("procrustes", "vecmap", "rcsls"):
        raise MapError(f"method: got {method!r}, expected 'procrustes', 'vecmap' or 'rcsls'")
    (Xn, source_means), (Yn, target_means) = normalized(X, steps), normalized(Y, steps)
    A, B = reduction(Xn, Yn, reduce)  # (d_s, d), (d_t, d) or None for the identity
    Xd, Yd = project(Xn[pairs[:, 0]], A), project(Yn[pairs[:, 1]], B)  # (k, d)
    W: Matrix
    V: Matrix | None = None
    if method == "vecmap":
        W, V = vecmap(Xd, Yd, reweight=reweight)
    else:
        W = procrustes(Xd, Yd, completion=completion, ridge=ridge)
        if method == "rcsls":
            options = rcsls or Rcsls()
            X_all, Y_all = project(Xn[: options.max_neg], A), project(Yn[: options.max_neg], B)
            W = minimize_rcsls(Xd, Yd, X_all, Y_all, W, options)
    meta: dict[str, Any] = {"method": method, "pairs": len(pairs), "normalize": list(steps)}
    if A is not None or B is not None:
        meta["reduced"] = {"side": "target" if A is None else "source", "from": max(X.shape[1], Y.shape[1])}
    return Map(
        W if A is None else A @ W,
        _joined(B, V),
        steps,
        tuple(source_means),
        steps,
        tuple(target_means),
        meta,
    )


def check_pairs(pairs: NDArray[Any], X: NDArray[Any], Y: NDArray[Any]) -> Pairs:
    """The pairs as int64 (k, 2), after a look at their rows in X and Y.

    Raises:
        MapError: no pairs, a row outside, a row whose numbers are not finite.

    >>> check_pairs([(0, 1)], np.eye(2), np.eye(2)).tolist()
    [[0, 1]]
    """
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or pairs.dtype.kind not in "iu":
        raise MapError(
            f"pairs: got {pairs.dtype} of shape {pairs.shape}, expected row numbers of shape (k, 2), k at least 1"
        )
    for side, name, rows in ((0, "source", X), (1, "target", Y)):
        if np.ndim(rows) != 2:
            raise MapError(f"the {name} vectors have the shape {np.shape(rows)}, expected (n, d)")
        used = pairs[:, side]
        if used.min() < 0 or used.max() >= len(rows):
            raise MapError(
                f"pairs: the {name} rows reach from {used.min()} to {used.max()}, expected 0 to {len(rows) - 1}"
            )
        if not np.isfinite(rows).all():
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise MapError(f"the {name} vectors: row {row} holds a number that is not finite; remove such words first")
    return pairs.astype(np.int64)


def principal_axes(rows: NDArray[Any], d: int) -> Matrix:
    """The d orthonormal directions (width, d) along which rows (n, width) are longest; their largest entries are positive.

    >>> principal_axes(np.array([[0.0, 2.0], [1.0, 0.0], [0.0, -2.0]]), 1).tolist()
    [[0.0], [1.0]]
    """
    width = rows.shape[1]
    moment = np.zeros((width, width))
    for start in range(0, len(rows), 1 << 14):
        block = rows[start : start + (1 << 14)].astype(np.float64)
        moment += block.T @ block
    axes = np.linalg.eigh(moment)[1][:, ::-1][:, :d]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))


def reduction(X: NDArray[Any], Y: NDArray[Any], reduce: str | None) -> tuple[Matrix | None, Matrix | None]:
    """What brings source rows (n, d_s) and target rows (m, d_t) to one width: (d_s, d) and (d_t, d), None where nothing is needed.

    Raises:
        MapError: widths that differ without `reduce`, or an unknown `reduce`.

    >>> reduction(np.eye(2), np.eye(2), None)
    (None, None)
    """
    if reduce not in (None, "pca"):
        raise MapError(f"reduce: got {reduce!r}, expected 'pca' or None")
    d_s, d_t = X.shape[1], Y.shape[1]
    if d_s == d_t:
        return None, None
    if reduce is None:
        raise MapError(
            f"source and target vectors have {d_s} and {d_t} dimensions; reduce='pca' brings them to {min(d_s, d_t)}"
        )
    return (principal_axes(X, d_t), None) if d_s > d_t else (None, principal_axes(Y, d_s))


def project(rows: NDArray[Any], P: Matrix | None) -> NDArray[Any]:
    """`rows P`, or the rows themselves.

    >>> project(np.eye(2), None).shape
    (2, 2)
    """
    return rows if P is None else np.asarray(rows @ P)


def _joined(P: Matrix | None, V: Matrix | None) -> Matrix | None:
    if P is None or V is None:
        return V if P is None else P
    return P @ V


# ---- VecMap --------------------------------------------------------------------------------------------------------------


def vecmap(X: NDArray[Any], Y: NDArray[Any], *, reweight: float = 0.5) -> tuple[Matrix, Matrix]:
    """Whitening, orthogonal map, re-weighting, de-whitening: the matrices (d, d) of the source and of the target side.

    With A = (X^T X)^(-1/2), B = (Y^T Y)^(-1/2) and U S V^T = SVD((X A)^T (Y B)) they are

        A U S^p (U^T A^-1 U)        B V S^p (V^T B^-1 V)

    Args:
        X: (k, d) source rows.
        Y: (k, d) target rows, row i belonging to row i of X.
        reweight: p.

    Raises:
        MapError: fewer independent rows than dimensions, which cannot be whitened.

    >>> X = np.random.default_rng(0).normal(size=(9, 3))
    >>> Y = X[:, ::-1]
    >>> source, target = vecmap(X, Y)
    >>> bool(np.allclose(X @ source, Y @ target))
    True
    """
    (A, A_inverse), (B, B_inverse) = _whitening(X, "source"), _whitening(Y, "target")
    M = A @ (np.asarray(X, dtype=np.float64).T @ np.asarray(Y, dtype=np.float64)) @ B
    U, s, Vt = np.linalg.svd(M)
    V, weights = Vt.T, s**reweight
    return (A @ U) * weights @ (U.T @ A_inverse @ U), (B @ V) * weights @ (V.T @ B_inverse @ V)


def _whitening(rows: NDArray[Any], side: str) -> tuple[Matrix, Matrix]:
    """`(R^T R)^(-1/2)` and its inverse."""
    R = np.asarray(rows, dtype=np.float64)
    _, s, Vt = np.linalg.svd(R, full_matrices=False)
    rank = int((s > s.max(initial=0.0) * max(R.shape) * np.finfo(np.float64).eps).sum())
    if rank < R.shape[1]:
        raise MapError(
            f"vecmap: {len(R)} pairs span {rank} of {R.shape[1]} dimensions of the {side} side, expected all of them; give more "
            "pairs, or take method='procrustes'"
        )
    return (Vt.T / s) @ Vt, (Vt.T * s) @ Vt


# ---- RCSLS ---------------------------------------------------------------------------------------------------------------


def rcsls_loss(
    W: Matrix,
    X: NDArray[Any],
    Y: NDArray[Any],
    X_all: NDArray[Any],
    Y_all: NDArray[Any],
    knn: int = 10,
) -> tuple[float, Matrix]:
    """The RCSLS loss and its gradient (d, d) at W, over pairs (x, y) of rows of X and Y (k, d), which have length 1.

        loss = -1/k sum [ 2 <xW, y> - 1/knn sum_{y' in N(xW)} <xW, y'> - 1/knn sum_{x' in N(y)} <x'W, y> ]

    N(xW) are the nearest rows of Y_all (m, d), N(y) those of X_all (n, d), once mapped. Where neighbours change the loss has kinks,
    elsewhere the gradient is exact.

    >>> I = np.eye(2)
    >>> rcsls_loss(I, I, I, I, I, knn=1)[0]
    0.0
    """
    X_allW = X_all @ W.astype(X_all.dtype)
    near_y = candidates(_single(X @ W), _single(Y_all), knn, backend="numpy")  # (k, knn)
    near_x = candidates(_single(Y), _single(X_allW), knn, backend="numpy")
    y_mean, x_mean = _means(Y_all, near_y), _means(X_all, near_x)  # (k, d)
    gradient = (X.T @ (y_mean - 2 * Y) + x_mean.T @ Y) / len(X)
    return float((gradient * W).sum()), np.asarray(gradient)  # the loss is linear in W between the kinks


def _single(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows, dtype=np.float32)


def _means(rows: NDArray[Any], index: NDArray[np.int64]) -> Matrix:
    total = np.zeros((len(index), rows.shape[1]))
    for column in index.T:
        total += rows[column]
    return np.asarray(total / index.shape[1])


def minimize_rcsls(
    X: NDArray[Any], Y: NDArray[Any], X_all: NDArray[Any], Y_all: NDArray[Any], W: Matrix, options: Rcsls
) -> Matrix:
    """Gradient descent on `rcsls_loss` from W; a step that would raise it is not taken, and the next one is half as long.

    >>> I = np.eye(2)
    >>> bool(np.allclose(minimize_rcsls(I, I, I, I, I, Rcsls(iterations=0)), I))
    True
    """
    X, Y, rate = X.astype(np.float64), Y.astype(np.float64), options.learning_rate
    value, gradient = rcsls_loss(W, X, Y, X_all, Y_all, options.knn)
    for _ in range(options.iterations):
        tried = W - rate * gradient
        if options.orthogonal:
            tried = polar(tried)
        after, slope = rcsls_loss(tried, X, Y, X_all, Y_all, options.knn)
        if after > value:
            rate /= 2
        else:
            W, value, gradient = tried, after, slope
    return W
