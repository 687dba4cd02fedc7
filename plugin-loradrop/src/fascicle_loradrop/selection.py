"""Selection: which modules keep their own LoRA (step 4 of the method).

`keep = {i_(1), …, i_(k)}` with `k = min{k : Σ_{j≤k} I_(j) ≥ T}`: an element stays while the sum *before* it is below
T, so the one that crosses T is kept. The budget mode is our choice, the paper does not say. Only numpy is needed.

A pool is the set of modules that are ranked together. Below, I is the importance (N,), each pool summing to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["keep_budget", "keep_count", "keep_threshold"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def keep_threshold(I: Floats, pool: Ints, T: float, floor: int = 1) -> list[int]:
    """Indices of the smallest prefix of each pool whose importances reach T, in order of entry.

    `T = 1` keeps every module: a rounded sum may reach 1 early, or never.

    Raises:
        PlanError: T is outside (0, 1].

    Example:
        >>> import numpy as np
        >>> one_pool = np.zeros(4, dtype=np.int64)
        >>> keep_threshold(np.array([0.1, 0.5, 0.1, 0.3]), one_pool, T=0.8)
        [1, 3]
        >>> keep_threshold(np.array([0.1, 0.5, 0.1, 0.3]), one_pool, T=0.81)
        [1, 3, 0]
    """
    if not 0.0 < T <= 1.0:
        raise PlanError(f"threshold must be in (0, 1], got {T!r}; T is a share of the energy, not of the modules")
    return [i for before, i, _ in _entries(I, pool, floor) if before < T or T == 1.0]


def keep_count(I: Floats, pool: Ints, k: int, floor: int = 1) -> list[int]:
    """The k most important modules of each pool (all of a pool that is smaller).

    Example:
        >>> import numpy as np
        >>> keep_count(np.array([0.1, 0.5, 0.4]), np.zeros(3, dtype=np.int64), k=2)
        [1, 2]
    """
    largest = int(np.bincount(pool).max())
    if not floor <= k <= largest:
        raise PlanError(f"keep must be between the floor ({floor}) and {largest} modules a pool, got {k}")
    return [i for _, i, rank in _entries(I, pool, floor) if rank < k]


def keep_budget(I: Floats, pool: Ints, size: Callable[[list[int]], int], limit: float, floor: int = 1) -> list[int]:
    """The largest prefix whose exact parameter count `size(keep)` is at most `limit`.

    P does not grow steadily with the prefix: a group that loses its last low module loses its shared pair too, so
    a longer prefix can be cheaper. Every prefix is therefore tried, and the longest that fits is taken.

    Raises:
        PlanError: not even the smallest plan fits.

    Example:
        >>> import numpy as np
        >>> one_pool = np.zeros(3, dtype=np.int64)
        >>> keep_budget(np.array([0.5, 0.3, 0.2]), one_pool, size=lambda keep: 10 * len(keep), limit=20)
        [0, 1]
    """
    order = [i for _, i, _ in _entries(I, pool, floor)]
    forced = sum(min(floor, int(n)) for n in np.bincount(pool))
    sizes = {k: size(order[:k]) for k in range(forced, len(order) + 1)}
    fitting = [k for k, p in sizes.items() if p <= limit]
    if not fitting:
        raise PlanError(
            f"no plan has at most {int(limit)} parameters: the smallest has {min(sizes.values())}; raise budget=, "
            "lower floor=, or use share_by='none', which shares nothing"
        )
    return order[: max(fitting)]


def _entries(I: Floats, pool: Ints, floor: int) -> Iterator[tuple[float, int, int]]:
    """`(Σ before, index, rank in its pool)` in the order in which modules enter as T grows; the floor enters at -1."""
    if floor < 1:
        raise PlanError(f"floor must be at least 1, one kept module a pool, got {floor}")
    found: list[tuple[float, int, int, float, int]] = []
    for p in range(int(pool.max()) + 1):
        members = np.flatnonzero(pool == p)
        order = members[np.argsort(-I[members], kind="stable")]
        before = np.concatenate([[0.0], np.cumsum(I[order])[:-1]])
        dead = not I[members].any()  # a pool without energy keeps its floor only, until T = 1
        for rank, (b, i) in enumerate(zip(before, order, strict=True)):
            entry = -1.0 if rank < floor else (1.0 if dead else float(b))
            found.append((entry, rank, p, -float(I[i]), int(i)))
    for entry, rank, _, _, i in sorted(found):
        yield entry, i, rank
