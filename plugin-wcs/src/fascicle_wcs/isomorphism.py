"""How alike two spaces are: Gromov-Hausdorff, eigenvector and relational similarity, held-out residual, all beside controls.

Source: the paper's section 3.1 uses GH only, computed in a way that it does not state. `gh_h0` is the bottleneck bound under the
metric sqrt(2 - 2 cos); `gh_legacy` is what the scripts of Patra et al. 2019 and Vulić et al. 2020 compute, on whose scale the
published values are. EVS is that of Søgaard et al. 2018, RSIM that of Vulić et al. 2020, its unsupervised form that of Marchisio
et al. 2022. The residual, the report and its verdict are our choice: GH ignores which words belong together, so that it can be
low between spaces that no map aligns.

Everywhere X is (n, d) and Y is (m, d') with one row a word, the most frequent first; where words are paired, n = m and row i of X
belongs to row i of Y. `steps` is the normalisation before measuring, `()` for rows that are normalised already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .bottleneck import bottleneck_h0, cosine_deaths, row_deaths
from .controls import Null, gaussian_control, interval, null
from .errors import VectorError, WcsError
from .maps import procrustes
from .normalization import DEFAULT_STEPS, normalize
from .retrieval import retrieve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .controls import Measure
    from .maps import Completion

    Floats = NDArray[np.float64]

__all__ = [
    "CHANCE_RESIDUAL",
    "NEAR_CHANCE",
    "SHARED",
    "IsomorphismReport",
    "Reading",
    "evs",
    "gh_h0",
    "gh_legacy",
    "isomorphism_report",
    "residual",
    "rsim",
    "rsim_null",
    "rsim_u",
]

CHANCE_RESIDUAL = math.sqrt(2)
"""Residual of vectors of one length in independent directions."""
NEAR_CHANCE = math.sqrt(2 - 2 * 0.2)
"""A larger residual counts as near chance: held-out pairs meet at a mean cosine below 0.2."""
SHARED = 1.0
"""A smaller residual without any map counts as one space: pairs meet at a mean cosine above 0.5 as they are."""
_BLOCK = 512
_DENSE = 4096
"""Up to so many words the cosines of both sides are held for the null of RSIM."""


# ---- measures that ignore the pairing ------------------------------------------------------------------------------------


def gh_h0(X: NDArray[Any], Y: NDArray[Any], *, steps: Sequence[str] = DEFAULT_STEPS) -> float:
    """Bottleneck distance of the H0 diagrams under d = sqrt(2 - 2 cos); half of it bounds the Gromov-Hausdorff distance below.

    Exact, in O(n^2 d) time; at most 256 MB beside the vectors, rows one by one where all cosines would take more.

    Raises:
        VectorError: fewer than two rows, or numbers that are not finite.

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> gh_h0(X, -X) < 1e-7
    True
    """
    return bottleneck_h0(cosine_deaths(_normal(X, steps)), cosine_deaths(_normal(Y, steps)))


def gh_legacy(X: NDArray[Any], Y: NDArray[Any], *, steps: Sequence[str] = DEFAULT_STEPS) -> float:
    """GH as earlier work has it, for comparison with published values only.

    Its scripts hand the matrix of distances to gudhi as a list of points, so that each row becomes a point in R^n. The value
    depends on the number of words even where the spaces do not.

    Raises:
        VectorError: as `gh_h0`.

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> gh_legacy(X, -X) < 1e-7
    True
    """
    return bottleneck_h0(row_deaths(_normal(X, steps)), row_deaths(_normal(Y, steps)))


def evs(
    X: NDArray[Any],
    Y: NDArray[Any],
    *,
    neighbours: int = 1,
    words: int = 10_000,
    energy: float = 0.9,
    largest: bool = True,
    steps: Sequence[str] = DEFAULT_STEPS,
) -> float:
    """sum_{i <= k} (lambda_i^X - lambda_i^Y)^2 over Laplacian eigenvalues of the neighbour graphs; 0 is most alike.

    k is the smaller of the two numbers of eigenvalues that hold 90 % of the sum. Graphs of one neighbour fall into small parts,
    whose spectra are computed apart; with more neighbours the largest part is dense, O(n^2) memory.

    Args:
        X: (n, d).
        Y: (m, d').
        neighbours: of each word; an edge needs one direction only.
        words: the first so many of each side.
        energy: share of the sum, in (0, 1].
        largest: from the largest eigenvalue down, as Søgaard et al. define it. False: from the smallest up, as the scripts of
            Vulić et al. do; values of the two forms do not compare.
        steps: see above.

    Raises:
        VectorError: too few rows for the neighbours, or numbers that are not finite.
        WcsError: energy outside (0, 1].

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> evs(X, -X) < 1e-7
    True
    """
    if not 0 < energy <= 1:
        raise WcsError(f"energy: got {energy}, expected a share in (0, 1]")
    spectra = []
    for rows in (X, Y):
        spectrum = _laplacian_spectrum(_normal(np.asarray(rows)[:words], steps), neighbours)
        spectra.append(spectrum[::-1] if largest else spectrum)
    k = min(int(np.searchsorted(np.cumsum(s), energy * s.sum() * (1 - 1e-12))) + 1 for s in spectra)
    return float(((spectra[0][:k] - spectra[1][:k]) ** 2).sum())


def rsim_u(X: NDArray[Any], Y: NDArray[Any], *, steps: Sequence[str] = DEFAULT_STEPS) -> float:
    """Pearson correlation of the sorted cosines of both sides, n(n - 1)/2 each; 1 is most alike.

    Two sorted lists always correlate: only differences between values near 1 mean anything. Memory: 4 n^2 bytes.

    Raises:
        VectorError: sides of different length, fewer than three rows, or numbers that are not finite.

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> round(rsim_u(X, X[::-1]), 6)
    1.0
    """
    X, Y = _pair(X, Y, steps)
    lists = [np.sort(_cosines(rows)).astype(np.float64) for rows in (X, Y)]
    a, b = (values - values.mean() for values in lists)
    return _correlation(float(a @ b), float(a @ a), float(b @ b))


def _laplacian_spectrum(X: Floats, neighbours: int) -> Floats:
    """Eigenvalues of D - A, smallest first, of the graph that joins each row to its nearest."""
    from scipy.sparse import coo_array, csr_array, diags_array
    from scipy.sparse.csgraph import connected_components

    n = len(X)
    if not 1 <= neighbours < n:
        raise VectorError(
            f"evs: got {n} rows for {neighbours} neighbours each; expected more rows, or a neighbour or more"
        )
    found = np.concatenate([_nearest(X, start, neighbours) for start in range(0, n, _BLOCK)])
    at = np.repeat(np.arange(n), neighbours)
    directed = coo_array((np.ones(n * neighbours), (at, found.ravel())), shape=(n, n))
    A = csr_array(((directed + directed.T) > 0).astype(float))
    parts, label = connected_components(A, directed=False)
    order = np.argsort(label, kind="stable")
    laplacian = csr_array(diags_array(A.sum(axis=1)) - A)[order][:, order]
    ends = np.cumsum(np.bincount(label, minlength=parts))
    starts = np.concatenate([[0], ends[:-1]])
    spectra = [np.linalg.eigvalsh(laplacian[a:b, a:b].toarray()) for a, b in zip(starts, ends, strict=True)]
    return np.sort(np.maximum(np.concatenate(spectra), 0))


def _nearest(X: Floats, start: int, k: int) -> NDArray[np.int64]:
    """The k rows nearest by cosine to each row of a block, itself left out."""
    cosines = X[start : start + _BLOCK] @ X.T
    at = np.arange(len(cosines))
    cosines[at, start + at] = -np.inf
    if k == 1:
        return np.asarray(cosines.argmax(axis=1)[:, None])
    return np.asarray(np.argpartition(-cosines, k - 1, axis=1)[:, :k])


def _cosines(X: Floats) -> NDArray[np.float32]:
    n = len(X)
    values = np.empty(n * (n - 1) // 2, dtype=np.float32)
    end = 0
    for i in range(n - 1):
        start, end = end, end + n - 1 - i
        values[start:end] = X[i + 1 :] @ X[i]
    return values


# ---- measures of paired words --------------------------------------------------------------------------------------------


def rsim(X: NDArray[Any], Y: NDArray[Any], *, steps: Sequence[str] = DEFAULT_STEPS) -> float:
    """Pearson correlation of cos(x_i, x_j) and cos(y_i, y_j) over all i < j; 1 is most alike, 0 where one side does not vary.

    Computed in blocks of rows, in two passes, without an (n, n) matrix.

    Raises:
        VectorError: sides of different length, fewer than three rows, or numbers that are not finite.

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> round(rsim(X, X @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])), 6)
    1.0
    """
    X, Y = _pair(X, Y, steps)
    mean_x, mean_y = _mean_cosine(X), _mean_cosine(Y)
    xy = xx = yy = 0.0
    for start in range(0, len(X), _BLOCK):
        a, b = (
            np.triu(rows[start : start + _BLOCK] @ rows[start:].T - mean, 1)
            for rows, mean in ((X, mean_x), (Y, mean_y))
        )
        xy, xx, yy = xy + float(np.vdot(a, b)), xx + float(np.vdot(a, a)), yy + float(np.vdot(b, b))
    return _correlation(xy, xx, yy)


def rsim_null(
    X: NDArray[Any], Y: NDArray[Any], *, permutations: int = 100, seed: int = 0, steps: Sequence[str] = DEFAULT_STEPS
) -> Null:
    """[`fascicle_wcs.controls.null`] of RSIM, faster: permuting the pairs permutes the cosines, so they are computed once.

    Raises:
        VectorError: as `rsim`.
        WcsError: no permutations.

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> rsim_null(X, X, permutations=19).p_value("high")
    0.05
    """
    X, Y = _pair(X, Y, steps)
    if len(X) > _DENSE or permutations < 1:
        return null(partial(rsim, steps=()), X, Y, permutations=permutations, seed=seed)
    A, B = ((rows @ rows.T - _mean_cosine(rows)).astype(np.float32) for rows in (X, Y))
    for matrix in (A, B):
        np.fill_diagonal(matrix, 0)
    scale = float(np.linalg.norm(A)) * float(np.linalg.norm(B))
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(X)) for _ in range(permutations))
    values = [float(np.vdot(A, B[np.ix_(order, order)])) / scale if scale else 0.0 for order in orders]
    return Null(rsim(X, Y, steps=()), np.array(values))


def residual(
    X: NDArray[Any],
    Y: NDArray[Any],
    *,
    folds: int = 5,
    completion: Completion = "identity",
    seed: int = 0,
    steps: Sequence[str] = DEFAULT_STEPS,
) -> float:
    """||X W - Y||_F / sqrt((||X||^2 + ||Y||^2) / 2) on pairs that the orthogonal W has not seen; 0 is isomorphic, sqrt 2 chance.

    W is fitted anew for each fold, on the other folds. The normalisation sees all words, but not which belong together. Where the
    widths differ the narrower side gets columns of zeros, which leaves its geometry as it is.

    Args:
        X: (n, d).
        Y: (n, d').
        folds: 2 to n.
        completion: see [`fascicle_wcs.maps.procrustes`].
        seed: of the division into folds.
        steps: see above.

    Raises:
        VectorError: sides of different length, fewer than three rows, or numbers that are not finite.
        WcsError: a number of folds that does not fit.

    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> residual(X, X @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])) < 1e-7
    True
    """
    X, Y = _same_width(*_pair(X, Y, steps))
    fit = partial(procrustes, completion=completion)
    return _root(_held_out(X, Y, fit, folds=folds, seed=seed).errors)


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """What maps did to pairs that they have not seen."""

    errors: Floats
    """(n,) squared distances of x W to y, in units of the mean squared length."""
    hits: NDArray[np.bool_]
    """(n,) whether CSLS finds y among all target rows; all False where it was not asked."""


def _held_out(
    X: Floats,
    Y: Floats,
    fit: Callable[[Floats, Floats], Floats] | None,
    *,
    folds: int,
    seed: int,
    retrieval: bool = False,
    shuffle: bool = False,
) -> _HeldOut:
    """Cross-validate a map; `fit` None is the identity, `shuffle` breaks the pairs that it is fitted on."""
    n = len(X)
    if not 2 <= folds <= n:
        raise WcsError(f"folds: got {folds} for {n} pairs, expected 2 to {n}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    errors, hits = np.empty(n), np.zeros(n, dtype=bool)
    for test in np.array_split(order, folds):
        train = np.setdiff1d(order, test)
        targets = rng.permutation(train) if shuffle else train
        Z = X if fit is None else X @ fit(X[train], Y[targets])
        errors[test] = ((Z[test] - Y[test]) ** 2).sum(axis=1)
        if retrieval:
            hits[test] = retrieve(Z, Y, test, method="csls", backend="numpy")[0][:, 0] == test
    length = (float((X**2).sum()) + float((Y**2).sum())) / (2 * n)
    return _HeldOut(errors / length if length else np.full(n, 2.0), hits)


def _root(errors: Floats) -> float:
    return math.sqrt(float(errors.mean()))


def _normal(X: NDArray[Any], steps: Sequence[str]) -> Floats:
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2:
        raise VectorError(f"vectors of shape {X.shape}; expected (n, d)")
    if not np.isfinite(X).all():
        row = int(np.argmin(np.isfinite(X).all(axis=1)))
        raise VectorError(f"row {row} has a number that is not finite; leave that word out")
    return normalize(X, steps)[0] if steps else X


def _pair(X: NDArray[Any], Y: NDArray[Any], steps: Sequence[str]) -> tuple[Floats, Floats]:
    if np.ndim(X) != 2 or np.ndim(Y) != 2 or len(X) != len(Y) or len(X) < 3:
        raise VectorError(
            f"X and Y: got shapes {np.shape(X)} and {np.shape(Y)}; expected (n, d) and (n, d'), n at least 3, "
            "row i beside row i"
        )
    return _normal(X, steps), _normal(Y, steps)


def _same_width(X: Floats, Y: Floats) -> tuple[Floats, Floats]:
    width = max(X.shape[1], Y.shape[1])
    X, Y = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (X, Y))
    return X, Y


def _mean_cosine(X: Floats) -> float:
    """Mean over i < j, from the sum of the rows."""
    n = len(X)
    total = X.sum(axis=0)
    return float(total @ total - np.vdot(X, X)) / (n * (n - 1))


def _correlation(xy: float, xx: float, yy: float) -> float:
    scale = math.sqrt(xx) * math.sqrt(yy)
    return max(-1.0, min(1.0, xy / scale)) if scale else 0.0


# ---- the report ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """One measure with what it must be held against.

    >>> Reading(0.2, controls={"gaussian": 0.6}).value
    0.2
    """

    value: float
    low: float | None = None
    high: float | None = None
    """95 % interval over words; for `residual` and `p_at_1` given the maps."""
    controls: Mapping[str, float] = field(default_factory=dict)
    """`gaussian`: Y replaced by a Gaussian of its size; `covariance`: of its covariance, too. `null`: mean under permuted pairs,
    `p`: its p-value. `identity`: no map; `shuffled`: a map fitted on permuted pairs."""


@dataclass(frozen=True)
class IsomorphismReport:
    """Measures beside their controls, and what they say together."""

    words: int
    readings: Mapping[str, Reading]
    """`gh`, `gh_legacy`, `evs`, `rsim_u` (blind to the pairing); `rsim`, `residual`, `p_at_1` (on held-out pairs)."""
    reasons: tuple[str, ...]
    """Why the spaces do not count as alignable; empty where they do."""

    @property
    def alignable(self) -> bool:
        """Whether a map learned from some pairs holds for others."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """`alignable`, with a word where no map is needed; or `not alignable` and why."""
        if not self.alignable:
            return f"not alignable: {'; '.join(self.reasons)}"
        found = self.readings["p_at_1"]
        identity = found.controls.get("identity", -1.0)
        if found.value <= identity:
            return f"alignable, and one space already: held-out P@1 {identity:.3f} without a map, {found.value:.3f} with one"
        return "alignable"

    def values(self) -> dict[str, float]:
        """All numbers but the intervals, by name: `rsim`, `rsim_null`, `rsim_p`, and so on.

        >>> IsomorphismReport(9, {"gh": Reading(0.2, controls={"gaussian": 0.6})}, ()).values()
        {'gh': 0.2, 'gh_gaussian': 0.6}
        """
        found: dict[str, float] = {}
        for name, reading in self.readings.items():
            found[name] = reading.value
            found |= {f"{name}_{control}": value for control, value in reading.controls.items()}
        return found


def isomorphism_report(
    X: NDArray[Any],
    Y: NDArray[Any],
    *,
    permutations: int = 100,
    resamples: int = 20,
    folds: int = 5,
    legacy: bool = False,
    completion: Completion = "identity",
    seed: int = 0,
    steps: Sequence[str] = DEFAULT_STEPS,
) -> IsomorphismReport:
    """All measures of two paired sets, beside their controls, with a verdict that a low GH alone cannot earn.

    "Not alignable" is said where any of these holds: RSIM is within its permutation null; the held-out residual is near chance
    (`NEAR_CHANCE`); retrieval of held-out pairs is no better than by a map fitted on a shuffled dictionary, or no better than
    without a map (but for spaces that lie on each other already, see `SHARED`). It is said of maps learned from so many pairs: more
    pairs than these can show more.

    Args:
        X: (n, d).
        Y: (n, d'); row i belongs to row i of X.
        permutations: of RSIM's null.
        resamples: subsamples of half the words for the intervals of GH, EVS, RSIM and RSIM-U; 0 leaves those intervals out.
        folds: of the held-out measures.
        legacy: also `gh_legacy`.
        completion: of the maps, see [`fascicle_wcs.maps.procrustes`].
        seed: of everything random.
        steps: normalisation of both sides, once, before all measures.

    Raises:
        VectorError: sides of different length, fewer than ten rows, or numbers that are not finite.
        WcsError: numbers of folds, permutations or resamples that do not fit.

    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> report = isomorphism_report(X, X[:, [1, 2, 3, 0]], permutations=20, resamples=5)
    >>> report.verdict, round(report.readings["rsim"].value, 6)
    ('alignable', 1.0)
    >>> isomorphism_report(X, X[::-1], permutations=20, resamples=5).alignable
    False
    """
    if len(X) < 10:
        raise VectorError(f"isomorphism_report: got {len(X)} pairs, expected at least 10")
    X, Y = _pair(X, Y, steps)
    readings = _unpaired(X, Y, resamples, legacy, seed, steps)
    found = rsim_null(X, Y, permutations=permutations, seed=seed, steps=())
    controls = {"null": float(found.values.mean()), "p": found.p_value("high")}
    readings["rsim"] = _reading(partial(rsim, steps=()), X, Y, resamples, seed, controls)
    arms = _arms(X, Y, folds, completion, seed)
    readings["residual"], readings["p_at_1"] = _residual_reading(arms), _retrieval_reading(arms)
    reasons = _reasons(readings, null_high=float(np.quantile(found.values, 0.95)))
    return IsomorphismReport(len(X), readings, reasons)


def _reading(
    measure: Measure, X: Floats, Y: Floats, resamples: int, seed: int, controls: Mapping[str, float]
) -> Reading:
    if not resamples:
        return Reading(measure(X, Y), controls=controls)
    found = interval(measure, X, Y, resamples=resamples, seed=seed)
    return Reading(found.value, found.low, found.high, controls)


def _unpaired(
    X: Floats, Y: Floats, resamples: int, legacy: bool, seed: int, steps: Sequence[str]
) -> dict[str, Reading]:
    fakes = {
        name: _normal(gaussian_control(Y, seed, covariance=name == "covariance"), steps)
        for name in ("gaussian", "covariance")
    }
    measures: dict[str, Measure] = {"gh": partial(gh_h0, steps=())}
    if legacy:
        measures["gh_legacy"] = partial(gh_legacy, steps=())
    measures |= {"evs": partial(evs, steps=()), "rsim_u": partial(rsim_u, steps=())}
    readings = {}
    for name, measure in measures.items():
        controls = {fake: measure(X, rows) for fake, rows in fakes.items()}
        draws = 0 if name == "gh_legacy" else resamples  # its value depends on the number of words
        readings[name] = _reading(measure, X, Y, draws, seed, controls)
    return readings


def _arms(X: Floats, Y: Floats, folds: int, completion: Completion, seed: int) -> dict[str, _HeldOut]:
    """The map, a map from shuffled pairs and, where the widths are one, no map."""
    comparable = X.shape[1] == Y.shape[1]
    X, Y = _same_width(X, Y)
    fit = partial(procrustes, completion=completion)
    arms = {
        "map": _held_out(X, Y, fit, folds=folds, seed=seed, retrieval=True),
        "shuffled": _held_out(X, Y, fit, folds=folds, seed=seed, retrieval=True, shuffle=True),
    }
    if comparable:
        arms["identity"] = _held_out(X, Y, None, folds=folds, seed=seed, retrieval=True)
    return arms


def _residual_reading(arms: Mapping[str, _HeldOut]) -> Reading:
    errors = arms["map"].errors
    mean, half = float(errors.mean()), 1.96 * float(errors.std(ddof=1)) / math.sqrt(len(errors))
    controls = {name: _root(arm.errors) for name, arm in arms.items() if name != "map"}
    return Reading(math.sqrt(mean), math.sqrt(max(mean - half, 0)), math.sqrt(mean + half), controls)


def _retrieval_reading(arms: Mapping[str, _HeldOut]) -> Reading:
    from scipy.stats import binomtest

    hits = arms["map"].hits
    within = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    controls = {name: float(arm.hits.mean()) for name, arm in arms.items() if name != "map"}
    return Reading(float(hits.mean()), float(within.low), float(within.high), controls)


def _reasons(readings: Mapping[str, Reading], null_high: float) -> tuple[str, ...]:
    related, left, found = readings["rsim"], readings["residual"], readings["p_at_1"]
    reasons = []
    if related.value <= null_high:
        reasons.append(f"RSIM {related.value:.3f} is within its null (p = {related.controls['p']:.2g})")
    if left.value > NEAR_CHANCE:
        reasons.append(f"the held-out residual {left.value:.3f} is near chance, {CHANCE_RESIDUAL:.3f}")
    shuffled, identity = found.controls["shuffled"], found.controls.get("identity", -1.0)
    if found.low is not None and found.low <= shuffled:
        reasons.append(f"held-out P@1 {found.value:.3f} is no better than {shuffled:.3f} with a shuffled dictionary")
    if found.value <= identity and left.controls["identity"] > SHARED:
        reasons.append(f"held-out P@1 {found.value:.3f} is no better than {identity:.3f} without a map")
    blind = readings["gh"]
    if reasons and blind.value < blind.controls["gaussian"] / 2:
        reasons.append(f"the low GH {blind.value:.3f} says nothing, since it ignores which words belong together")
    return tuple(reasons)
