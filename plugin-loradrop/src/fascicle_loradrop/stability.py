"""Do two probes agree? Spearman of the importances, Jaccard of the kept sets (our choice; not in the paper).

Energy is concentrated and the *number* of kept modules steady, but *which* modules are kept varies between probes.
Look at this before drawing conclusions about single layers, or average several probes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from .errors import EnergyError
from .plan import DropPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .energies import Energies

__all__ = ["THRESHOLDS", "Stability", "compare"]

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Stability:
    """Agreement of m probes.

    Example:
        >>> import numpy as np
        >>> Stability(spearman=np.array([[1, 0.5], [0.5, 1]]), jaccard={}, kept={}).mean_spearman
        0.5
    """

    spearman: NDArray[np.float64]
    """Rank correlation of the importances, shape (m, m)."""
    jaccard: dict[float, NDArray[np.float64]]
    """Modules kept by both, over modules kept by either, at each threshold, shape (m, m)."""
    kept: dict[float, tuple[int, ...]]
    """Number of modules each probe keeps at each threshold."""

    @property
    def mean_spearman(self) -> float:
        """Mean over pairs of different probes."""
        return _off_diagonal(self.spearman)

    def mean_jaccard(self, threshold: float) -> float:
        """Mean over pairs of different probes at one threshold."""
        return _off_diagonal(self.jaccard[threshold])


def compare(energies: Sequence[Energies], thresholds: Sequence[float] = THRESHOLDS, **options: Any) -> Stability:
    """Compare probes of the same model.

    Args:
        energies: at least two.
        thresholds: at which T to compare the kept sets.
        options: `scope`, `normalize` and so on, as for `DropPlan.from_energies`.

    Raises:
        EnergyError: fewer than two probes, or probes of different modules.

    Example:
        >>> from fascicle_loradrop.energies import Energies
        >>> a = Energies.from_arrays(names=["h.0.q", "h.1.q", "h.2.q"], g=[4, 2, 1], d_in=4, d_out=4, r=2)
        >>> b = Energies.from_arrays(names=["h.0.q", "h.1.q", "h.2.q"], g=[8, 1, 3], d_in=4, d_out=4, r=2)
        >>> report = compare([a, b], thresholds=[0.8])
        >>> round(report.mean_spearman, 6), report.kept, round(report.mean_jaccard(0.8), 3)
        (0.5, {0.8: (2, 2)}, 0.333)
    """
    if len(energies) < 2:
        raise EnergyError(f"stability needs at least two probes, got {len(energies)}")
    if any(e.names != energies[0].names for e in energies):
        raise EnergyError("stability compares probes of one model; these have different modules")
    plans = [DropPlan.from_energies(e, threshold=1.0, **options) for e in energies]
    importances = [[m.importance for m in plan.modules] for plan in plans]
    m = len(energies)
    spearman = np.eye(m)
    for a, b in itertools.combinations(range(m), 2):
        constant = len(set(importances[a])) == 1 or len(set(importances[b])) == 1
        rho = np.nan if constant else float(spearmanr(importances[a], importances[b]).statistic)
        spearman[a, b] = spearman[b, a] = rho
    sets = {T: [set(plan.sweep([T])[0].keep) for plan in plans] for T in thresholds}
    return Stability(
        spearman=spearman,
        jaccard={T: np.array([[len(x & y) / len(x | y) for y in kept] for x in kept]) for T, kept in sets.items()},
        kept={T: tuple(len(k) for k in kept) for T, kept in sets.items()},
    )


def _off_diagonal(matrix: NDArray[np.float64]) -> float:
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())
