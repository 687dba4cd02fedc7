"""One linear map between two spaces: how it is solved for, applied, saved, joined, and turned back part of the way.

Source: equation 1 of the paper, in row convention: `W* = argmin ||X* W - Y*||`, `U S V^T = SVD(X*^T Y*)`, `W = U V^T`. The paper
prints `SVD(Y^T X)`, which gives the transpose. What happens outside the span of the pairs, the regularised variant, means, widths
that differ, and the geodesic are our choice; the paper does not say.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import MapError
from .normalization import DEFAULT_STEPS, check_steps, normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

__all__ = ["Completion", "Map", "identity_map", "polar", "procrustes"]

Completion = Literal["identity", "svd"]

_TENSORS = "map.safetensors"
_FACTS = "map.json"
_FORMAT = "fascicle-wcs map 1"
_ORTHOGONAL = 1e-6
"""Largest entry of W^T W - I up to which W counts as orthogonal."""


def polar(M: Matrix) -> Matrix:
    """`U V^T` of `M = U S V^T`: the orthogonal matrix nearest to M (d, d).

    >>> polar(np.array([[0.0, 2.0], [-3.0, 0.0]])).round(6).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    U, _, Vt = np.linalg.svd(M)
    return np.asarray(U @ Vt)


def procrustes(X: NDArray[Any], Y: NDArray[Any], *, completion: Completion = "identity", ridge: float = 0.0) -> Matrix:
    """`argmin_W ||X W - Y||_F` over orthogonal W: `W = U V^T` of `U S V^T = SVD(X^T Y)`. Reflections are allowed.

    Fewer independent pairs than dimensions leave W open outside of their span. `identity` takes, among all minimisers, the one
    nearest to the identity, `U1 V1^T + U0 polar(U0^T V0) V0^T`; `svd` takes what the decomposition happens to return.

    Args:
        X: (k, d) source rows.
        Y: (k, d) target rows, row i belonging to row i of X.
        completion: see above.
        ridge: lambda as a share of the largest singular value s of X^T Y: solves for `X^T Y + lambda s I` instead, which pulls
            to the identity. 0 is no pull; towards 0 the result becomes that of `identity`.

    Returns:
        W (d, d), float64.

    Raises:
        MapError: shapes that do not fit, numbers that are not finite, an unknown completion.

    >>> X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    >>> Q = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> np.allclose(procrustes(X, X @ Q), Q)
    True
    """
    X, Y = _paired(X, Y)
    if completion not in ("identity", "svd"):
        raise MapError(f"completion: got {completion!r}, expected 'identity' or 'svd'")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise MapError(f"ridge: got {ridge}, expected a number of at least 0")
    k, d = X.shape
    if 2 * k < d and (completion == "identity" or ridge):
        # Nothing turns outside the span of the rows of X and Y, so the problem has 2k dimensions only.
        Q, _ = np.linalg.qr(np.concatenate([X, Y]).T)
        inner = _solve((X @ Q).T @ (Y @ Q), completion, ridge)
        return np.asarray(np.eye(d) + Q @ (inner - np.eye(2 * k)) @ Q.T)
    return _solve(X.T @ Y, completion, ridge)


def _solve(M: Matrix, completion: Completion, ridge: float) -> Matrix:
    if ridge:
        return polar(M + ridge * np.linalg.norm(M, 2) * np.eye(len(M)))
    U, s, Vt = np.linalg.svd(M)
    rank = int((s > s.max(initial=0.0) * len(M) * np.finfo(np.float64).eps).sum())
    if completion == "svd" or rank == len(M):
        return np.asarray(U @ Vt)
    U0, V0t = U[:, rank:], Vt[rank:]
    return np.asarray(U[:, :rank] @ Vt[:rank] + U0 @ polar(U0.T @ V0t.T) @ V0t)


def _paired(X: NDArray[Any], Y: NDArray[Any]) -> tuple[Matrix, Matrix]:
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    if X.ndim != 2 or X.shape != Y.shape or X.size == 0:
        raise MapError(
            f"procrustes: got rows of shapes {X.shape} and {Y.shape}, expected (k, d) twice, row i beside row i"
        )
    if not (np.isfinite(X).all() and np.isfinite(Y).all()):
        raise MapError("procrustes: a row holds a number that is not finite; remove such words first")
    return X, Y


@dataclass(frozen=True, eq=False)
class Map:
    """A map of two languages into one space of d dimensions, with the normalisation it was fitted on.

    Where `target_matrix` is None the shared space is the target's own, normalised. Comparisons in the shared space are by cosine.

    Raises:
        MapError: shapes, steps and means that do not fit each other.

    >>> Map(np.array([[0.0, 1.0], [-1.0, 0.0]])).apply(np.array([[1.0, 0.0]])).tolist()
    [[0.0, 1.0]]
    """

    source_matrix: Matrix
    """(d_s, d): sends a normalised source row x to x W."""
    target_matrix: Matrix | None = None
    """(d_t, d), or None: the identity."""
    source_steps: tuple[str, ...] = ()
    source_means: tuple[Matrix, ...] = ()
    """What the `center` steps subtract, (d_s,) each."""
    target_steps: tuple[str, ...] = ()
    target_means: tuple[Matrix, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    """What is worth knowing about the fit; must fit into JSON to be saved."""

    def __post_init__(self) -> None:
        for side in ("source", "target"):
            matrix = getattr(self, f"{side}_matrix")
            if matrix is not None:
                object.__setattr__(self, f"{side}_matrix", np.asarray(matrix, dtype=np.float64))
            object.__setattr__(self, f"{side}_steps", check_steps(getattr(self, f"{side}_steps")))
            means = tuple(np.asarray(mean, dtype=np.float64) for mean in getattr(self, f"{side}_means"))
            object.__setattr__(self, f"{side}_means", means)
        _check(self)

    @property
    def dim(self) -> int:
        """Width d of the shared space."""
        return int(self.source_matrix.shape[1])

    @property
    def source_dim(self) -> int:
        """Width of source vectors."""
        return int(self.source_matrix.shape[0])

    @property
    def target_dim(self) -> int:
        """Width of target vectors."""
        return self.dim if self.target_matrix is None else int(self.target_matrix.shape[0])

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Source vectors (n, d_s) in the shared space, (n, d); words that the fit never saw, too.

        Raises:
            MapError: vectors of another width.
        """
        return _applied(X, self.source_steps, self.source_means, self.source_matrix, "source", self.source_dim)

    def apply_target(self, Y: NDArray[Any]) -> NDArray[Any]:
        """Target vectors (m, d_t) in the shared space, (m, d).

        Raises:
            MapError: vectors of another width.
        """
        return _applied(Y, self.target_steps, self.target_means, self.target_matrix, "target", self.target_dim)

    @cached_property
    def is_orthogonal(self) -> bool:
        """Whether it only turns (or mirrors) the source space into a target space of the same width."""
        square = self.target_matrix is None and self.source_dim == self.dim
        return square and self.orthogonality_error() < _ORTHOGONAL

    def orthogonality_error(self) -> float:
        """Largest entry of `|W^T W - I|`, over both sides.

        >>> Map(2 * np.eye(3)).orthogonality_error()
        3.0
        """
        sides = [W for W in (self.source_matrix, self.target_matrix) if W is not None]
        return max(float(np.abs(W.T @ W - np.eye(self.dim)).max(initial=0.0)) for W in sides)

    def determinant_sign(self) -> int:
        """1 for a rotation, -1 for one with a reflection, 0 for a singular matrix; of the source side.

        Raises:
            MapError: a matrix that is not square.
        """
        if self.source_dim != self.dim:
            raise MapError(f"determinant_sign: a matrix of shape {self.source_matrix.shape} has no determinant")
        return int(np.linalg.slogdet(self.source_matrix)[0])

    def compose(self, other: Map) -> Map:
        """First this map, then `other`: from this source to the target of `other`. For orthogonal maps.

        Raises:
            MapError: a map that is not orthogonal, or a middle language that the two maps normalise differently.

        >>> turn = Map(np.array([[0.0, 1.0], [-1.0, 0.0]]))
        >>> turn.compose(turn).source_matrix.tolist()
        [[-1.0, 0.0], [0.0, -1.0]]
        """
        _demand_orthogonal(self, "compose")
        _demand_orthogonal(other, "compose")
        if self.dim != other.dim:
            raise MapError(f"compose: the first map ends in {self.dim} dimensions, the second begins in {other.dim}")
        same = self.target_steps == other.source_steps and all(
            np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(self.target_means, other.source_means, strict=True)
        )
        if not same:
            raise MapError(
                "compose: the two maps normalise the language between them differently; fit both with the same steps and "
                "the same vectors of it"
            )
        return Map(
            self.source_matrix @ other.source_matrix,
            None,
            self.source_steps,
            self.source_means,
            other.target_steps,
            other.target_means,
            {"composed": [self.meta, other.meta]},
        )

    def inverse(self) -> Map:
        """The map from target to source. An orthogonal one is transposed.

        Of any other the two sides change places in the same shared space, which leaves all cosines as they are.

        >>> turn = Map(np.array([[0.0, 1.0], [-1.0, 0.0]]))
        >>> turn.inverse().apply(turn.apply(np.eye(2))).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        if self.is_orthogonal:
            source, target = self.source_matrix.T.copy(), None
        else:
            source = np.eye(self.dim) if self.target_matrix is None else self.target_matrix
            target = self.source_matrix
        return Map(
            source,
            target,
            self.target_steps,
            self.target_means,
            self.source_steps,
            self.source_means,
            {**self.meta, "inverse": not self.meta.get("inverse", False)},
        )

    def geodesic(self, a: float) -> Map:
        """The point at fraction `a` of the shortest path of orthogonal matrices from the identity to W.

        W turns planes by angles; the result turns each by `a` times its angle. With det(W) = -1 no such path exists: one axis is
        mirrored. That axis is left alone for `a < 1/2` and mirrored from 1/2 on, so that `a = 0` is the identity, `a = 1` is W, and
        all between is orthogonal, with one jump. Steps and means stay.

        Raises:
            MapError: a map that is not orthogonal, `a` outside [0, 1].

        >>> Map(np.array([[0.0, 1.0], [-1.0, 0.0]])).geodesic(0.5).source_matrix.round(3).tolist()
        [[0.707, 0.707], [-0.707, 0.707]]
        """
        _demand_orthogonal(self, "geodesic")
        if not 0 <= a <= 1:
            raise MapError(f"geodesic: got the fraction {a}, expected 0 to 1")
        meta = {**self.meta, "geodesic": float(a) * float(self.meta.get("geodesic", 1.0))}
        if a in (0, 1):  # exact, not up to rounding
            return replace(self, source_matrix=np.eye(self.dim) if a == 0 else self.source_matrix, meta=meta)
        basis, planes, mirrored = self._turns
        T = np.eye(self.dim)
        for i, j, angle in planes:
            cos, sin = np.cos(a * angle), np.sin(a * angle)
            T[i, i] = T[j, j] = cos
            T[i, j], T[j, i] = sin, -sin
        if mirrored is not None and a >= 0.5:
            T[mirrored, mirrored] = -1
        return replace(self, source_matrix=basis @ T @ basis.T, meta=meta)

    @cached_property
    def _turns(self) -> tuple[Matrix, list[tuple[int, int, float]], int | None]:
        """(basis, planes as two columns of it and an angle, column of a mirrored axis)."""
        from scipy.linalg import schur

        T, basis = schur(self.source_matrix, output="real")
        planes, flipped, i = [], [], 0
        while i < self.dim:
            if i + 1 < self.dim and abs(T[i + 1, i]) > 1e-9:
                planes.append((i, i + 1, float(np.arctan2(T[i, i + 1] - T[i + 1, i], T[i, i] + T[i + 1, i + 1]))))
                i += 2
                continue
            if T[i, i] < 0:
                flipped.append(i)
            i += 1
        # Two mirrored axes are one half turn of their plane.
        planes += [(p, q, np.pi) for p, q in zip(flipped[::2], flipped[1::2], strict=False)]
        return basis, planes, flipped[-1] if len(flipped) % 2 else None

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `map.safetensors` and `map.json`, each whole or not at all.

        Raises:
            MapError: `meta` that does not fit into JSON, a folder that cannot be written.
        """
        from safetensors.numpy import save

        path = Path(folder)
        tensors = {"source_matrix": self.source_matrix}
        if self.target_matrix is not None:
            tensors["target_matrix"] = self.target_matrix
        for side, means in (("source", self.source_means), ("target", self.target_means)):
            tensors.update({f"{side}_mean_{i}": mean for i, mean in enumerate(means)})
        written = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
        facts = {
            "format": _FORMAT,
            "source_steps": self.source_steps,
            "target_steps": self.target_steps,
            "meta": self.meta,
            "sha256": hashlib.sha256(written).hexdigest(),
        }
        try:
            told = json.dumps(facts, indent=1, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise MapError(f"{path}: meta does not fit into JSON: {error}") from error
        try:
            path.mkdir(parents=True, exist_ok=True)
            for file, content in ((_TENSORS, written), (_FACTS, told)):
                _write(path / file, content)
        except OSError as error:
            raise MapError(f"{path}: cannot write the map: {error}") from error
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Map:
        """What `save` wrote.

        Raises:
            MapError: a folder that holds no map, or a broken one.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Map.load(Map(np.eye(2), meta={"layer": 9}).save(folder)).meta
        {'layer': 9}
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = Path(folder)
        try:
            facts = json.loads((path / _FACTS).read_bytes())
            content = (path / _TENSORS).read_bytes()
        except OSError as error:
            raise MapError(f"{path}: no saved map: {error}; expected {_FACTS} and {_TENSORS}") from error
        except ValueError as error:
            raise MapError(f"{path / _FACTS}: not JSON ({error}); save the map again") from error
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
            raise MapError(f"{path / _FACTS}: expected the format {_FORMAT!r}, got {found!r}")
        if facts.get("sha256") != hashlib.sha256(content).hexdigest():
            raise MapError(f"{path}: {_FACTS} and {_TENSORS} are not of the same saving; save the map again")
        try:
            tensors = load(content)
            means = {side: _means(tensors, side) for side in ("source", "target")}
            return cls(
                tensors["source_matrix"],
                tensors.get("target_matrix"),
                tuple(facts["source_steps"]),
                means["source"],
                tuple(facts["target_steps"]),
                means["target"],
                dict(facts["meta"]),
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise MapError(f"{path}: a broken map ({error!r}); save the map again") from error


def identity_map(X: NDArray[Any], Y: NDArray[Any], *, normalize: Sequence[str] = DEFAULT_STEPS) -> Map:
    """No map, only the normalisation of both sides: the control that every fit should be compared with.

    Raises:
        MapError: sides of different widths, an unknown step.

    >>> identity_map(np.eye(2), np.eye(2)).meta
    {'method': 'identity'}
    """
    if np.shape(X)[1] != np.shape(Y)[1]:
        raise MapError(f"identity_map: got widths {np.shape(X)[1]} and {np.shape(Y)[1]}, expected one width")
    steps = check_steps(normalize)
    means = [tuple(_normalized(side, steps)[1]) for side in (X, Y)]
    return Map(np.eye(np.shape(X)[1]), None, steps, means[0], steps, means[1], {"method": "identity"})


_normalized = normalize
"""`identity_map` and the fits have an argument of that name."""


def _applied(
    rows: NDArray[Any],
    steps: tuple[str, ...],
    means: tuple[Matrix, ...],
    matrix: Matrix | None,
    side: str,
    width: int,
) -> NDArray[Any]:
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise MapError(f"the map's {side} side takes rows of shape (n, {width}), got {rows.shape}")
    # Half precision is for keeping, not for computing.
    rows, _ = normalize(rows.astype(np.float32) if rows.dtype == np.float16 else rows, steps, means)
    return rows if matrix is None else np.asarray(rows @ matrix.astype(rows.dtype))


def _check(found: Map) -> None:
    for side, matrix in (("source", found.source_matrix), ("target", found.target_matrix)):
        if matrix is not None and (matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all()):
            raise MapError(f"{side}_matrix: shape {matrix.shape}; expected finite numbers of shape (width, d)")
    target = found.target_matrix
    if target is not None and target.shape[1] != found.dim:
        raise MapError(f"target_matrix: shape {target.shape}, expected (width, {found.dim}) as the source's")
    sides = (
        ("source", found.source_steps, found.source_means, found.source_dim),
        ("target", found.target_steps, found.target_means, found.target_dim),
    )
    for side, steps, means, width in sides:
        shapes = [mean.shape for mean in means]
        if shapes != [(width,)] * steps.count("center"):
            raise MapError(f"{side}_means: shapes {shapes}, expected ({width},) for each center step of {steps}")


def _demand_orthogonal(found: Map, verb: str) -> None:
    if not found.is_orthogonal:
        raise MapError(
            f"{verb}: expected an orthogonal map between spaces of one width, got {found.source_dim} to {found.target_dim} "
            f"dimensions with an orthogonality error of {found.orthogonality_error():.1e}; fit with method='procrustes'"
        )


def _means(tensors: dict[str, NDArray[Any]], side: str) -> tuple[NDArray[Any], ...]:
    count = sum(name.startswith(f"{side}_mean_") for name in tensors)
    return tuple(tensors[f"{side}_mean_{i}"] for i in range(count))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
