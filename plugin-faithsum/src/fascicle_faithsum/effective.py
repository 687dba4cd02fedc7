"""Effective faithfulness (Ladhak et al. 2022): what a summarizer gains in faithfulness at equal extractiveness.

A system that copies more looks more faithful, by people and by lexical metrics alike. Ladhak et al. draw a trade-off curve of
control models that differ in how much they copy, and ask how far a system lies above it. `effective_faithfulness` does so;
`effective_difference` compares two systems without controls, by regression or by matching. Light: numpy and scipy.

Extractiveness is any number per summary that says how much was copied, e.g. `coverage` or `log_density`. Intervals resample
documents, whole: the same documents are drawn for every system, which makes them paired where systems share documents.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from .correlation import interval
from .errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "Curve",
    "Effective",
    "EffectiveDifference",
    "Scores",
    "effective_difference",
    "effective_faithfulness",
    "fit_curve",
]

Shape = Literal["isotonic", "points"]
Unit = Literal["systems", "summaries"]
Matching = Literal["regression", "bins"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Faithfulness and extractiveness of one system's summaries, (n,) each.

    >>> Scores(faithfulness=[1.0, 0.5], extractiveness=[0.9])
    Traceback (most recent call last):
    ...
    fascicle_faithsum.errors.MetricError: extractiveness: 1 values for 2 summaries; expected one per summary.
    """

    faithfulness: Sequence[float]
    extractiveness: Sequence[float]
    documents: Sequence[Hashable] | None = None
    """Which document each summary is of. None: summary i is of document i, in every system."""
    name: str = ""

    def __post_init__(self) -> None:
        n = len(self.faithfulness)
        if n == 0:
            raise MetricError(f"faithfulness{f' of {self.name}' if self.name else ''}: no summaries.")
        for role in ("extractiveness", "documents"):
            values = getattr(self, role)
            if values is not None and len(values) != n:
                raise MetricError(f"{role}: {len(values)} values for {n} summaries; expected one per summary.")
        for role in ("faithfulness", "extractiveness"):
            try:
                finite = bool(np.isfinite(np.asarray(getattr(self, role), dtype=np.float64)).all())
            except (TypeError, ValueError):
                finite = False
            if not finite:
                raise MetricError(
                    f"{role}: expected finite numbers; leave summaries without a score out of both lists."
                )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Faithfulness expected at an extractiveness: straight lines between knots, level beyond the first and the last."""

    x: Sequence[float]
    y: Sequence[float]

    def __call__(self, extractiveness: ArrayLike) -> Floats:
        """Expected faithfulness, same shape.

        >>> Curve(x=[0.0, 1.0], y=[0.2, 0.6])([0.5, 2.0]).tolist()
        [0.4, 0.6]
        """
        return np.asarray(np.interp(np.asarray(extractiveness, dtype=np.float64), self.x, self.y))


@dataclass(frozen=True, kw_only=True)
class Effective:
    """How far a system lies above the curve of its controls."""

    gain: float
    """Mean faithfulness less what the curve expects; above 0: more faithful than copying explains."""
    low: float | None
    """95 %, percentile bootstrap over documents; the curve is fitted anew in each resample."""
    high: float | None
    faithfulness: float
    expected: float
    extractiveness: float
    outside: float
    """Share of the evaluated points that no control is as extractive, or as abstractive, as: there the curve is a guess."""
    curve: Curve
    documents: int


@dataclass(frozen=True, kw_only=True)
class EffectiveDifference:
    """Faithfulness of the first system less that of the second, at equal extractiveness."""

    difference: float
    low: float | None
    high: float | None
    plain: float
    """Difference of the means, extractiveness ignored."""
    extractiveness: float
    """Difference of mean extractiveness."""
    matched: float
    """Share of summaries that were compared: all by regression, those in bins that hold both systems by bins."""
    slope: float | None
    """Faithfulness per unit of extractiveness within systems; None by bins."""
    documents: int
    notes: Sequence[str] = field(default_factory=tuple)


def fit_curve(controls: Sequence[Scores], shape: Shape = "isotonic", unit: Unit = "systems", bins: int = 10) -> Curve:
    """The trade-off curve of control systems.

    Args:
        controls: systems that differ in extractiveness and not, as far as one can tell, in effective faithfulness: one model
            trained on quantiles of extractiveness, checkpoints of one run, decoding settings.
        shape: `isotonic`: the closest curve that never falls. `points`: the points as they are.
        unit: `systems`: one point per control, its means, as in Ladhak et al. `summaries`: all summaries of all controls, for
            `points` in bins of equal size.
        bins: of `points` of `summaries`.

    Raises:
        MetricError: too few controls, or all of one extractiveness.

    >>> low = Scores(faithfulness=[0.5, 0.7], extractiveness=[0.2, 0.4])
    >>> high = Scores(faithfulness=[0.9, 0.9], extractiveness=[0.7, 0.9])
    >>> [round(float(v), 6) for v in fit_curve([low, high])([0.3, 0.55, 0.8])]
    [0.6, 0.75, 0.9]
    """
    _check_options(controls, shape, unit, bins)
    data = [(np.asarray(c.extractiveness, np.float64), np.asarray(c.faithfulness, np.float64)) for c in controls]
    if unit == "systems":
        x, y = (np.array([float(pair[i].mean()) for pair in data]) for i in (0, 1))
        weights = np.array([float(len(pair[0])) for pair in data])
    else:
        x, y = (np.concatenate([pair[i] for pair in data]) for i in (0, 1))
        weights = np.ones(len(x))
    if float(x.max() - x.min()) <= 0:
        raise MetricError("controls: all have the same extractiveness; a curve needs controls that copy more and less.")
    return _curve(x, y, weights, shape, unit, bins)


def effective_faithfulness(
    system: Scores,
    controls: Sequence[Scores],
    *,
    shape: Shape = "isotonic",
    unit: Unit = "systems",
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> Effective:
    """How much more faithful a system is than controls that copy as much.

    With `unit="systems"` the curve is asked at the system's mean extractiveness; with `"summaries"` at each summary's, which
    assumes that the curve holds within systems too.

    Raises:
        MetricError: see `fit_curve`.

    >>> controls = [
    ...     Scores(faithfulness=[0.5] * 4, extractiveness=[0.2] * 4),
    ...     Scores(faithfulness=[0.9] * 4, extractiveness=[0.8] * 4),
    ... ]
    >>> copier = Scores(faithfulness=[0.7] * 4, extractiveness=[0.5] * 4)
    >>> abs(round(effective_faithfulness(copier, controls, resamples=10).gain, 9))
    0.0
    """
    curve = fit_curve(controls, shape, unit, bins)
    systems = [system, *controls]
    codes, count = _documents(systems)
    x = [np.asarray(s.extractiveness, dtype=np.float64) for s in systems]
    y = [np.asarray(s.faithfulness, dtype=np.float64) for s in systems]
    mean_x, mean_y = float(x[0].mean()), float(y[0].mean())
    asked = np.array([mean_x]) if unit == "systems" else x[0]
    expected = float(curve(asked).mean())
    points = np.array([v.mean() for v in x[1:]]) if unit == "systems" else np.concatenate(x[1:])
    outside = float(((asked < points.min()) | (asked > points.max())).mean())

    gains = []
    for draw in _draws(count, resamples, seed):
        weights = [draw[c] for c in codes]
        if any(w.sum() == 0 for w in weights):
            continue
        if unit == "systems":
            px, py = (np.array([np.average(v, weights=w) for v, w in zip(of, weights, strict=True)]) for of in (x, y))
            sizes = np.array([w.sum() for w in weights[1:]])
            again = _curve(px[1:], py[1:], sizes, shape, unit, bins)
            gains.append(float(py[0]) - float(again(px[0])))
        else:
            px, py, pw = (np.concatenate(of[1:]) for of in (x, y, weights))
            again = _curve(px[pw > 0], py[pw > 0], pw[pw > 0], shape, unit, bins)
            gains.append(float(np.average(y[0] - again(x[0]), weights=weights[0])))
    low, high = interval(gains) or (None, None)
    return Effective(
        gain=mean_y - expected,
        low=low,
        high=high,
        faithfulness=mean_y,
        expected=expected,
        extractiveness=mean_x,
        outside=outside,
        curve=curve,
        documents=count,
    )


def effective_difference(
    a: Scores,
    b: Scores,
    *,
    method: Matching = "regression",
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> EffectiveDifference:
    """Faithfulness of `a` less that of `b` at equal extractiveness, without controls.

    `regression` fits faithfulness on the system and on extractiveness with one slope for both systems (analysis of covariance);
    it assumes that faithfulness rises linearly, and equally steeply in both. The slope is estimated within systems, so how much
    each of them copies on average says nothing of it. `bins` compares within bins of equal size of the pooled extractiveness,
    weighted by the smaller system's count; it assumes no shape, drops bins that hold one system, and leaves the little that
    extractiveness varies within a bin. Both take extractiveness as given: noise in it pulls the slope to 0.

    Raises:
        MetricError: an unknown method, fewer than two bins, or no bin that holds both systems.

    >>> x = [0.2, 0.4, 0.6, 0.8]
    >>> a = Scores(faithfulness=[0.5 + 0.5 * (v + 0.2) for v in x], extractiveness=[v + 0.2 for v in x])
    >>> b = Scores(faithfulness=[0.5 + 0.5 * v for v in x], extractiveness=x)
    >>> found = effective_difference(a, b, resamples=0)
    >>> round(found.plain, 6), abs(round(found.difference, 9)), round(found.slope, 6)
    (0.1, 0.0, 0.5)
    """
    if method not in ("regression", "bins") or bins < 2 or resamples < 0:
        raise MetricError(
            f"method, bins, resamples: got {method!r}, {bins}, {resamples}; expected `regression` or `bins`, at least 2, 0 or more."
        )
    codes, count = _documents([a, b])
    x = [np.asarray(s.extractiveness, dtype=np.float64) for s in (a, b)]
    y = [np.asarray(s.faithfulness, dtype=np.float64) for s in (a, b)]
    draws = _draws(count, resamples, seed)
    notes: list[str] = []
    slope: float | None = None
    if method == "regression":
        sums = _moments(x, y, codes, count)
        difference, slopes = _ancova(np.ones((1, count)), sums)
        slope, matched = float(slopes[0]), 1.0
        again = _ancova(draws, sums)[0]
        if max(float(np.ptp(v)) for v in x) == 0:
            notes.append("Extractiveness does not vary within either system: nothing could be adjusted for.")
            slope = None
    else:
        edges = np.unique(np.quantile(np.concatenate(x), np.linspace(0, 1, bins + 1)[1:-1]))
        places = [np.searchsorted(edges, v, side="left") for v in x]
        tables = [_binned(codes[i], places[i], y[i], count, len(edges) + 1) for i in (0, 1)]
        difference, share = _matched(np.ones((1, count)), tables)
        matched = float(share[0])
        if matched == 0:
            raise MetricError("bins: no bin of extractiveness holds both systems; take fewer bins, or regression.")
        if matched < 0.5:
            notes.append(
                f"Only {matched:.0%} of the summaries lie where both systems do: read the difference as theirs."
            )
        again = _matched(draws, tables)[0]
    low, high = interval(again) or (None, None)
    return EffectiveDifference(
        difference=float(difference[0]),
        low=low,
        high=high,
        plain=float(y[0].mean() - y[1].mean()),
        extractiveness=float(x[0].mean() - x[1].mean()),
        matched=matched,
        slope=slope,
        documents=count,
        notes=tuple(notes),
    )


# ---- numbers ----------------------------------------------------------------------------------------------------------


def _check_options(controls: Sequence[Scores], shape: str, unit: str, bins: int) -> None:
    if shape not in ("isotonic", "points") or unit not in ("systems", "summaries"):
        raise MetricError(
            f"shape, unit: got {shape!r}, {unit!r}; expected `isotonic` or `points`, and `systems` or `summaries`."
        )
    if bins < 2:
        raise MetricError(f"bins: expected at least 2, got {bins}.")
    if len(controls) < (2 if unit == "systems" else 1):
        raise MetricError(f"controls: got {len(controls)}; a curve of systems needs at least 2, of summaries 1.")


def _documents(systems: Sequence[Scores]) -> tuple[list[NDArray[np.intp]], int]:
    numbers: dict[Hashable, int] = {}
    codes = []
    for system in systems:
        of: Sequence[Hashable] = range(len(system.faithfulness)) if system.documents is None else system.documents
        codes.append(np.array([numbers.setdefault(d, len(numbers)) for d in of], dtype=np.intp))
    given = [system.documents is not None for system in systems]
    if any(given) and not all(given):
        raise MetricError("documents: some systems name them and some do not; name them for all, or for none.")
    return codes, len(numbers)


def _draws(count: int, resamples: int, seed: int) -> Floats:
    """(resamples, count): how often each document was drawn."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def _curve(x: Floats, y: Floats, weights: Floats, shape: Shape, unit: Unit, bins: int) -> Curve:
    order = np.argsort(x, kind="stable")
    knots, at = np.unique(x[order], return_inverse=True)
    mass = np.bincount(at.reshape(-1), weights[order])
    value = np.bincount(at.reshape(-1), weights[order] * y[order]) / mass
    if shape == "isotonic":
        from scipy.optimize import isotonic_regression

        value = isotonic_regression(value, weights=mass).x
    elif unit == "summaries":
        place = np.minimum((np.cumsum(mass) - mass / 2) / mass.sum() * bins, bins - 1e-9).astype(np.intp)
        held = np.bincount(place, mass)
        filled = held > 0
        knots = np.bincount(place, mass * knots)[filled] / held[filled]
        value = np.bincount(place, mass * value)[filled] / held[filled]
    return Curve(x=knots.tolist(), y=value.tolist())


def _moments(x: Sequence[Floats], y: Sequence[Floats], codes: Sequence[NDArray[np.intp]], count: int) -> Floats:
    """(2, 5, count): per system and document the sums of 1, x, y, x x, x y, around the pooled means for accuracy."""
    cx, cy = float(np.concatenate(x).mean()), float(np.concatenate(y).mean())
    sums = np.empty((2, 5, count))
    for i in (0, 1):
        u, v = x[i] - cx, y[i] - cy
        for k, values in enumerate((np.ones_like(u), u, v, u * u, u * v)):
            sums[i, k] = np.bincount(codes[i], values, minlength=count)
    return sums


def _ancova(draws: Floats, sums: Floats) -> tuple[Floats, Floats]:
    """Adjusted difference and common slope of every resample; NaN where a system has no summary in it."""
    n, sx, sy, sxx, sxy = np.moveaxis(np.einsum("rd,skd->rks", draws, sums), 1, 0)
    n = np.where(n > 0, n, np.nan)
    within = (sxx - sx * sx / n).sum(axis=1)
    covariance = (sxy - sx * sy / n).sum(axis=1)
    slope = np.where(within > 1e-12, covariance / np.where(within > 1e-12, within, 1.0), 0.0)
    mean_x, mean_y = sx / n, sy / n
    return (mean_y[:, 0] - mean_y[:, 1]) - slope * (mean_x[:, 0] - mean_x[:, 1]), slope


def _binned(codes: NDArray[np.intp], places: NDArray[np.intp], y: Floats, count: int, bins: int) -> Floats:
    """(2, count, bins): per document and bin, how many summaries and the sum of their faithfulness."""
    flat = codes * bins + places
    return np.stack([np.bincount(flat, w, minlength=count * bins).reshape(count, bins) for w in (np.ones_like(y), y)])


def _matched(draws: Floats, tables: Sequence[Floats]) -> tuple[Floats, Floats]:
    (na, ya), (nb, yb) = (np.einsum("rd,kdb->krb", draws, table) for table in tables)
    both = (na > 0) & (nb > 0)
    weight = np.where(both, np.minimum(na, nb), 0.0)
    gap = np.where(both, ya / np.maximum(na, 1e-12) - yb / np.maximum(nb, 1e-12), 0.0)
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore"):
        difference = np.where(total > 0, (weight * gap).sum(axis=1) / np.where(total > 0, total, 1.0), math.nan)
    share = np.where(both, na + nb, 0.0).sum(axis=1) / np.maximum((na + nb).sum(axis=1), 1e-12)
    return difference, share
