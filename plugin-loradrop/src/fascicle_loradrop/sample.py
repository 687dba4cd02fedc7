"""Stratified sampling `D_s ⊂ D` at a ratio (step 1 of the method).

Strata are classes; for a regression quantile bins of the label, for language modelling bins of the length: our
choice, the paper does not say. Only numpy is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import LoraDropError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["stratified_indices"]


def stratified_indices(
    labels: Sequence[Any] | NDArray[Any] | None = None,
    ratio: float = 0.1,
    seed: int = 0,
    *,
    lengths: Sequence[int] | NDArray[Any] | None = None,
    bins: int = 10,
) -> NDArray[np.int64]:
    """Indices of a sample of about `ratio·n` examples, in ascending order, with every stratum in proportion.

    Every stratum is represented at least once, so the sample can be a little larger than `ratio·n`; otherwise its
    size is `ratio·n` rounded, shared out by largest remainders.

    Args:
        labels: one a example: integers or strings are classes, floats are cut into quantile bins.
        ratio: in (0, 1].
        seed: the same seed gives the same sample.
        lengths: lengths in tokens, cut into quantile bins; give either these or labels.
        bins: number of quantile bins.

    Raises:
        LoraDropError: both or neither of labels and lengths, none at all, not a number, or a ratio out of range.

    Example:
        >>> stratified_indices(["a"] * 8 + ["b"] * 2, ratio=0.5, seed=1).shape
        (5,)
        >>> stratified_indices([0] * 99 + [1], ratio=0.1)[-1]  # the only example of class 1 is in
        np.int64(99)
    """
    if (labels is None) == (lengths is None):
        raise LoraDropError("stratified_indices needs either labels or lengths=")
    if not 0.0 < ratio <= 1.0:
        raise LoraDropError(f"ratio must be in (0, 1], got {ratio!r}")
    values = np.asarray(labels if labels is not None else lengths)
    if values.ndim != 1 or not len(values):
        raise LoraDropError(f"one label or length an example is needed, at least one; got shape {values.shape}")
    if lengths is not None or values.dtype.kind == "f":
        strata = _quantile_bins(values.astype(np.float64), bins)
    else:
        _, strata = np.unique(values, return_inverse=True)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    counts = _apportion(np.array([len(m) for m in members]), ratio)
    return np.sort(np.concatenate([rng.choice(m, c, replace=False) for m, c in zip(members, counts, strict=True)]))


def _quantile_bins(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Bins of about equal size; equal values stay together, so there may be fewer."""
    if not np.isfinite(values).all():
        raise LoraDropError("labels or lengths must be finite, got NaN or infinity")
    if bins < 1:
        raise LoraDropError(f"bins must be at least 1, got {bins}")
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))[1:-1]
    bin_of: NDArray[np.int64] = np.searchsorted(edges, values, side="left").astype(np.int64)
    return bin_of


def _apportion(sizes: NDArray[np.int64], ratio: float) -> NDArray[np.int64]:
    """Largest remainders of `ratio·size`, at least one each."""
    exact = sizes * ratio
    counts = np.floor(exact).astype(np.int64)
    missing = round(float(sizes.sum()) * ratio) - int(counts.sum())
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[: max(missing, 0)]] += 1
    at_least_one: NDArray[np.int64] = np.minimum(np.maximum(counts, 1), sizes)
    return at_least_one
