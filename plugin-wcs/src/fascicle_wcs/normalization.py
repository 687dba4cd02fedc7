"""Length and mean normalisation of word vectors before a map is fitted.

Source: our choice; the paper mentions no normalisation. The default, length, mean, length, is that of Artetxe et al. 2018
("Generalizing and improving bilingual word embedding mappings with a multi-step framework of linear transformations").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MapError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEFAULT_STEPS", "STEPS", "check_steps", "normalize"]

STEPS = ("unit", "center")
"""`unit` gives each row length 1, `center` subtracts the mean of the rows."""
DEFAULT_STEPS = ("unit", "center", "unit")


def check_steps(steps: Sequence[str]) -> tuple[str, ...]:
    """The steps as a tuple.

    Raises:
        MapError: a step that does not exist.

    >>> check_steps(["unit"])
    ('unit',)
    """
    if isinstance(steps, str):
        raise MapError(f"normalize: got the text {steps!r}, expected a sequence of steps such as ({steps!r},)")
    for step in steps:
        if step not in STEPS:
            raise MapError(f"normalize: got the step {step!r}, expected steps out of {', '.join(STEPS)}")
    return tuple(steps)


def normalize(
    X: NDArray[Any], steps: Sequence[str] = DEFAULT_STEPS, mean: Sequence[NDArray[Any]] | None = None
) -> tuple[NDArray[Any], list[NDArray[np.float64]]]:
    """Apply the steps in their order; a copy, of the same float type.

    A row of zeros is a word without a vector: it stays zero and takes no part in a mean.

    Args:
        X: (n, d).
        steps: out of `STEPS`; none leaves the rows as they are.
        mean: what the `center` steps subtract, one (d,) for each; None takes the means of X itself.

    Returns:
        The rows (n, d), and the means (d,) that the `center` steps subtracted.

    Raises:
        MapError: an unknown step, a shape that does not fit.

    >>> rows, means = normalize(np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]), ("unit", "center"))
    >>> rows.round(1).tolist()
    [[0.3, -0.1], [-0.3, 0.1], [0.0, 0.0]]
    >>> means[0].round(1).tolist()
    [0.3, 0.9]
    """
    steps = check_steps(steps)
    rows = np.asarray(X)
    if rows.ndim != 2:
        raise MapError(f"normalize: got an array of shape {rows.shape}, expected (n, d)")
    given = None if mean is None else list(mean)
    if given is not None and len(given) != steps.count("center"):
        raise MapError(f"normalize: got {len(given)} means for {steps.count('center')} center steps; give one for each")
    rows = rows.astype(rows.dtype if rows.dtype.kind == "f" else np.float64, copy=True)
    present = np.asarray(rows.any(axis=1))
    means: list[NDArray[np.float64]] = []
    for step in steps:
        if step == "unit":
            _unit(rows)
        else:
            center = _mean(rows, present) if given is None else np.asarray(given[len(means)], dtype=np.float64)
            if center.shape != rows.shape[1:]:
                raise MapError(f"normalize: got a mean of shape {center.shape} for rows of width {rows.shape[1]}")
            means.append(center)
            np.subtract(rows, center.astype(rows.dtype), out=rows, where=present[:, None])
    return rows, means


def _unit(rows: NDArray[Any]) -> None:
    # Squares of half-precision states overflow, so lengths are computed in double.
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    lengths[lengths == 0] = 1
    np.divide(rows, lengths[:, None], out=rows, casting="same_kind")


def _mean(rows: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = rows.sum(axis=0, dtype=np.float64)
    return total / max(int(present.sum()), 1)
