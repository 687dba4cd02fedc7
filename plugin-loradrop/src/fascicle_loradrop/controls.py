"""Control selections of the same exact size: random and inverse (our choice).

The ablations of this family compare sets of the same *count*, which under unequal widths means unequal budgets. Here
a control can have exactly the plan's parameter count P:

    P(c) = Σ_g c_g·a_g + Σ_{g : c_g < n_g} a_g        c_g of the n_g modules of group g are kept, a_g the pair's size

(the second sum, the shared pairs, is absent without sharing). All modules of a group have the same size, so a keep
set's P depends on its count vector c alone, and a dynamic programme over the groups covers all keep sets exactly.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Group", "inverse_of_size", "random_of_size"]


@dataclass(frozen=True)
class Group:
    """Modules that have the same size and would share one pair."""

    members: tuple[int, ...]
    """Indices of its modules."""
    size: int
    """Parameters of one pair, a_g."""
    shares: bool
    """Whether its low modules share a pair (else they get none)."""

    def parameters(self, kept: int) -> int:
        """`c·a + [c < n]·a`."""
        return self.size * (kept + (self.shares and kept < len(self.members)))


def random_of_size(groups: Sequence[Group], total: int, seed: int) -> list[int] | None:
    """A keep set drawn uniformly among all non-empty keep sets with exactly `total` parameters; None if there is none.

    `W_g(p) = Σ_c C(n_g, c)·W_{g+1}(p - P_g(c))` counts the keep sets of groups g, g+1, … with p parameters; sampling
    the counts by these weights and then members uniformly is uniform over the sets.

    Example:
        >>> two = [Group((0, 1, 2), size=4, shares=False), Group((3, 4), size=8, shares=False)]
        >>> keep = random_of_size(two, total=12, seed=0)
        >>> sum(4 if i < 3 else 8 for i in keep)
        12
    """
    ways: list[dict[int, int]] = [{} for _ in groups] + [{0: 1}]
    for g in range(len(groups) - 1, -1, -1):
        n = len(groups[g].members)
        for kept in range(n + 1):
            cost, subsets = groups[g].parameters(kept), comb(n, kept)
            for rest, count in ways[g + 1].items():
                if cost + rest <= total:
                    ways[g][cost + rest] = ways[g].get(cost + rest, 0) + subsets * count
    possible = ways[0].get(total, 0)
    empty_fits = sum(group.parameters(0) for group in groups) == total
    if possible - empty_fits <= 0:
        return None
    rng = random.Random(seed)  # noqa: S311 - exact draws from large integers, which numpy has not
    while True:  # the empty set is one of at least two, so this ends
        keep = _draw(groups, ways, total, rng)
        if keep:
            return sorted(keep)


def _draw(groups: Sequence[Group], ways: Sequence[dict[int, int]], total: int, rng: random.Random) -> list[int]:
    keep: list[int] = []
    for g, group in enumerate(groups):
        n, ticket = len(group.members), rng.randrange(ways[g][total])
        for kept in range(n + 1):
            weight = comb(n, kept) * ways[g + 1].get(total - group.parameters(kept), 0)
            if ticket < weight:
                break
            ticket -= weight
        keep += rng.sample(group.members, kept)
        total -= group.parameters(kept)
    return keep


def inverse_of_size(groups: Sequence[Group], importance: Sequence[float], total: int) -> list[int] | None:
    """The non-empty keep set of least total importance among those with exactly `total` parameters; None if none.

    Example:
        >>> one = [Group((0, 1, 2), size=4, shares=True)]
        >>> inverse_of_size(one, [0.6, 0.3, 0.1], total=8)
        [2]
    """
    # (p, any kept) → (importance, kept counts so far); of equal sums the first found stays
    best: dict[tuple[int, bool], tuple[float, tuple[int, ...]]] = {(0, False): (0.0, ())}
    ranked = [sorted(group.members, key=lambda i: (importance[i], i)) for group in groups]
    for group, order in zip(groups, ranked, strict=True):
        step: dict[tuple[int, bool], tuple[float, tuple[int, ...]]] = {}
        for (p, some), (weight, counts) in best.items():
            gained = weight
            for kept in range(len(order) + 1):
                gained += importance[order[kept - 1]] if kept else 0.0
                state = (p + group.parameters(kept), some or kept > 0)
                if state[0] <= total and (state not in step or gained < step[state][0]):
                    step[state] = (gained, (*counts, kept))
        best = step
    if (total, True) not in best:
        return None
    return sorted(i for order, kept in zip(ranked, best[total, True][1], strict=True) for i in order[:kept])
