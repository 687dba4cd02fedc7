"""The plan: which modules keep their LoRA, which share one (steps 4 and 5 of the method).

    P = Σ_{i∈keep} r_i·(d_in,i + d_out,i)  +  Σ_{groups g with ≥ 1 low module} r_g·(d_in,g + d_out,g)

"The same LoRA" for layers of different shapes is our choice, the paper does not say: low modules share one pair per
(weight type, shape), see `share_by`. This module needs numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from . import controls, selection
from .energies import Normalize, Scope, pools
from .errors import PlanError
from .module import PlanModule
from .naming import layer_of
from .uniform import UniformRank, uniform_rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from .energies import Energies

__all__ = ["DropPlan", "PlanModule", "ShareBy", "UniformRank", "uniform_rank"]

ShareBy = Literal["type", "shape", "none"]
Kind = Literal["loradrop", "inverse", "random"]
Match = Literal["count", "parameters"]


@dataclass(frozen=True, kw_only=True)
class DropPlan:
    """Which modules keep their own LoRA and who shares with whom. Immutable; `tie.apply` puts it into effect.

    Example:
        >>> from fascicle_loradrop.energies import Energies
        >>> from fascicle_loradrop.plan import DropPlan
        >>> e = Energies.from_arrays(names=[f"h.{i}.q" for i in range(4)], g=[1, 6, 1, 2], d_in=8, d_out=8, r=2)
        >>> plan = DropPlan.from_energies(e, threshold=0.8)
        >>> plan.keep, plan.groups
        (('h.1.q', 'h.3.q'), {'h.0.q': ('h.2.q',)})
        >>> plan.parameters_before, plan.parameters_after, plan.fraction
        (128, 96, 0.75)
    """

    modules: tuple[PlanModule, ...]
    """All modules, in the order of the network."""
    keep: tuple[str, ...]
    """Modules that keep their own LoRA, in the order of the network."""
    selection: Mapping[str, float]
    """How `keep` was chosen: {"threshold": T}, {"keep": k} or {"budget": share}."""
    scope: Scope = "global"
    """The pool of the ranking. Change to per_type when one wide weight type takes all the energy."""
    normalize: Normalize = "none"
    """The paper ranks raw energies; per_dim and relative remove the bias towards wide outputs."""
    share_by: ShareBy = "type"
    """Who shares: low modules of one weight type and shape, of one shape, or nobody (w/o share: they get no LoRA)."""
    floor: int = 1
    """Modules kept at least in each pool."""
    kind: Kind = "loradrop"
    """"loradrop", or the control "inverse" or "random"."""
    seed: int | None = None
    """Seed of a random control."""
    adapter: str = "default"
    """Name of the adapter."""
    fingerprint: str = ""
    """Digest of the base model's names and shapes; empty skips that check."""
    tokens: str = "all"
    """Which positions were scored."""
    probes: int = 1
    """Over how many probes the energies were averaged."""

    def __post_init__(self) -> None:
        for name, allowed in (("share_by", ShareBy), ("scope", Scope), ("normalize", Normalize), ("kind", Kind)):
            if getattr(self, name) not in get_args(allowed):
                raise PlanError(f"{name} must be one of {get_args(allowed)}, got {getattr(self, name)!r}")
        names = [m.name for m in self.modules]
        if len(set(names)) != len(names):
            raise PlanError("a plan's module names must be unique")
        unknown = [name for name in self.keep if name not in set(names)]
        if unknown:
            raise PlanError(f"keep has modules that the plan does not list: {unknown[:3]}")
        if not self.keep or len(set(self.keep)) != len(self.keep):
            raise PlanError("keep must hold at least one module, each once")

    @classmethod
    def from_energies(
        cls,
        e: Energies,
        threshold: float | None = None,
        keep: int | None = None,
        budget: float | None = None,
        *,
        scope: Scope = "global",
        normalize: Normalize = "none",
        share_by: ShareBy = "type",
        floor: int = 1,
    ) -> DropPlan:
        """Draw a plan. Exactly one of `threshold`, `keep` and `budget` is given; none of them means `threshold=0.9`.

        Args:
            e: energies.
            threshold: T in (0, 1], share of the energy that the kept modules carry (the paper's option). T = 1 keeps
                all modules and equals plain LoRA. T is not the share of modules, nor of parameters.
            keep: number of modules to keep, in each pool of `scope`.
            budget: share in (0, 1] of the full LoRA's parameters: the largest prefix of the ranking whose exact P,
                shared pairs included, is at most that.
            scope, normalize, share_by, floor: see the fields.

        Raises:
            PlanError: several of the three, a value out of range, or a budget that no plan meets.
            EnergyError: energies that are all zero, or without what `normalize` needs.
        """
        given = {"threshold": threshold, "keep": keep, "budget": budget}
        chosen = {name: value for name, value in given.items() if value is not None}
        if len(chosen) > 1:
            raise PlanError(f"give one of threshold=, keep= and budget=, got {sorted(chosen)}")
        importance = e.importance(normalize, scope)
        blank = cls(
            modules=PlanModule.rows(e, importance.tolist()),
            keep=e.names[:1],
            selection={"threshold": 1.0},
            scope=scope,
            normalize=normalize,
            share_by=share_by,
            floor=floor,
            adapter=e.adapter,
            fingerprint=e.fingerprint,
            tokens=e.tokens,
            probes=e.probes,
        )
        return blank._selected(**(chosen or {"threshold": 0.9}))

    def _selected(self, **by: float) -> DropPlan:
        """This plan's energies and options under another selection."""
        I = np.array([m.importance for m in self.modules])
        pool = pools([m.name for m in self.modules], [m.type for m in self.modules], self.scope)
        (name, value), *_ = by.items()
        if name == "threshold":
            chosen = selection.keep_threshold(I, pool, float(value), self.floor)
        elif name == "keep":
            if int(value) != value:
                raise PlanError(f"keep must be a whole number of modules, got {value!r}")
            chosen = selection.keep_count(I, pool, int(value), self.floor)
        else:
            if not 0.0 < value <= 1.0:
                raise PlanError(f"budget must be a share of the full LoRA in (0, 1], got {value!r}")
            limit = float(value) * self.parameters_before * (1 + 1e-12)  # .1·30 is 3.0000000000000004
            chosen = selection.keep_budget(I, pool, self._size_of, limit, self.floor)
        return replace(self, keep=self._names(chosen), selection={name: value}, kind="loradrop", seed=None)

    def sweep(self, thresholds: Sequence[float]) -> list[DropPlan]:
        """The plans at other thresholds, same energies and options.

        Example:
            >>> from fascicle_loradrop.energies import Energies
            >>> from fascicle_loradrop.plan import DropPlan
            >>> e = Energies.from_arrays(names=["h.0.q", "h.1.q"], g=[3, 1], d_in=4, d_out=4, r=2)
            >>> [len(p.keep) for p in DropPlan.from_energies(e).sweep([0.5, 1.0])]
            [1, 2]
        """
        return [self._selected(threshold=T) for T in thresholds]

    def invert(self, match: Match = "count") -> DropPlan:
        """The control that keeps the *least* important modules.

        Args:
            match: "count" keeps as many modules as this plan, in each pool. "parameters" is the keep set of least
                total importance among all keep sets with *exactly* this plan's P (shared pairs included); one always
                exists, this plan being one of them.
        """
        if match == "parameters":
            I = [m.importance for m in self.modules]
            keep = controls.inverse_of_size(self._control_groups(), I, self.parameters_after)
            assert keep is not None  # this plan itself has that size
        elif match == "count":
            keep = []
            for members, kept in self._pool_counts():
                keep += sorted(members, key=lambda i: (self.modules[i].importance, i))[:kept]
        else:
            raise PlanError(f"match must be 'count' or 'parameters', got {match!r}")
        return replace(self, keep=self._names(keep), kind="inverse", seed=None)

    def randomize(self, seed: int, match: Match = "count") -> DropPlan:
        """The control that keeps random modules.

        Args:
            seed: the same seed gives the same plan.
            match: "count" draws as many modules as this plan keeps, in each pool. "parameters" draws uniformly among
                *all* keep sets with *exactly* this plan's P (shared pairs included). That is always achievable; where
                sizes are so uneven that this plan is the only such set, the control equals the plan.
        """
        if match == "parameters":
            keep = controls.random_of_size(self._control_groups(), self.parameters_after, seed)
            assert keep is not None  # this plan itself has that size
        elif match == "count":
            rng = np.random.default_rng(seed)
            keep = [int(i) for members, kept in self._pool_counts() for i in rng.choice(members, kept, replace=False)]
        else:
            raise PlanError(f"match must be 'count' or 'parameters', got {match!r}")
        return replace(self, keep=self._names(keep), kind="random", seed=seed)

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """`{owner: other members}` of each group of low modules; the owner is its most important member.

        A group with a single low module has an owner and no other member. Empty with `share_by="none"`.
        """
        if self.share_by == "none":
            return {}
        by_key: dict[tuple[Any, ...], list[PlanModule]] = {}
        for module in self.low:
            by_key.setdefault(self._share_key(module), []).append(module)
        out = {}
        for members in by_key.values():
            owner = max(members, key=lambda m: m.importance)  # the first of equals
            out[owner.name] = tuple(m.name for m in members if m is not owner)
        return out

    @cached_property
    def low(self) -> tuple[PlanModule, ...]:
        """Modules that do not keep a LoRA of their own."""
        kept = set(self.keep)
        return tuple(m for m in self.modules if m.name not in kept)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Modules that get no LoRA at all: the low ones with `share_by="none"`, else none."""
        return tuple(m.name for m in self.low) if self.share_by == "none" else ()

    @property
    def parameters_before(self) -> int:
        """Parameters of the full LoRA."""
        return sum(m.size for m in self.modules)

    @cached_property
    def parameters_after(self) -> int:
        """P: parameters of the kept and the shared pairs, each counted once."""
        kept = set(self.keep)
        return self._size_of([i for i, m in enumerate(self.modules) if m.name in kept])

    @property
    def fraction(self) -> float:
        """`parameters_after / parameters_before`."""
        return self.parameters_after / self.parameters_before

    @property
    def kept_importance(self) -> float:
        """Share of the importance that the kept modules carry (of all pools together)."""
        kept = set(self.keep)
        return sum(m.importance for m in self.modules if m.name in kept) / sum(m.importance for m in self.modules)

    def table(self) -> list[dict[str, Any]]:
        """One row a module, most important first: name, type, g, importance, cumulative, fate, owner, parameters.

        `fate` is "kept", "shared" or "dropped"; `owner` the module whose pair it uses; `cumulative` sums importances
        over the pool, down to and including this row.
        """
        kept, dropped = set(self.keep), set(self.dropped)
        owner_of = {member: owner for owner, members in self.groups.items() for member in (owner, *members)}
        pool = pools([m.name for m in self.modules], [m.type for m in self.modules], self.scope)
        sums: dict[int, float] = {}
        rows = []
        for i in sorted(range(len(self.modules)), key=lambda i: (-self.modules[i].importance, i)):
            m = self.modules[i]
            sums[int(pool[i])] = cumulative = sums.get(int(pool[i]), 0.0) + m.importance
            fate = "kept" if m.name in kept else "dropped" if m.name in dropped else "shared"
            rows.append(
                {
                    "name": m.name,
                    "type": m.type,
                    "layer": layer_of(m.name),
                    "g": m.g,
                    "importance": m.importance,
                    "cumulative": cumulative,
                    "fate": fate,
                    "owner": owner_of.get(m.name, m.name if fate == "kept" else ""),
                    "parameters": m.size if fate == "kept" or m.name in self.groups else 0,
                }
            )
        return rows

    def renamed(self, adapter: str) -> DropPlan:
        """The same plan for an adapter of another name."""
        return replace(self, adapter=adapter)

    def validate(self, model: nn.Module, *, fingerprint: bool = True) -> None:
        """Check that this plan was made for `model`: module names, shapes, ranks, scalings, base network.

        Args:
            model: a model with the plan's adapter.
            fingerprint: also compare the digest of the base network; switch off after resizing an embedding.

        Raises:
            PlanError: the first difference, with both values.
        """
        from .validate import validate_plan

        validate_plan(self, model, fingerprint=fingerprint)

    def to_json(self) -> str:
        """A versioned JSON text with derived groups and sizes written out."""
        from .planjson import dump

        return dump(self)

    @classmethod
    def from_json(cls, text: str) -> DropPlan:
        """Read what `to_json` wrote; every field is checked, and groups and sizes must follow from the rest.

        Raises:
            PlanError: naming the field, what was expected and what came.
        """
        from .planjson import load

        return load(text)

    def _share_key(self, m: PlanModule) -> tuple[Any, ...]:
        shape = (m.d_in, m.d_out, m.r, m.scaling, m.bias, m.device)
        return (m.type, *shape) if self.share_by == "type" else shape

    def _size_of(self, keep: Sequence[int]) -> int:
        """P of a keep set, by the formula above."""
        kept = set(keep)
        own = sum(self.modules[i].size for i in kept)
        if self.share_by == "none":
            return own
        low = {self._share_key(m): m.size for i, m in enumerate(self.modules) if i not in kept}
        return own + sum(low.values())

    def _names(self, keep: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.modules[i].name for i in sorted(keep))

    def _control_groups(self) -> list[controls.Group]:
        members: dict[tuple[Any, ...], list[int]] = {}
        for i, m in enumerate(self.modules):
            members.setdefault((m.size,) if self.share_by == "none" else self._share_key(m), []).append(i)
        return [controls.Group(tuple(g), self.modules[g[0]].size, self.share_by != "none") for g in members.values()]

    def _pool_counts(self) -> list[tuple[list[int], int]]:
        """Members of each pool and how many of them this plan keeps."""
        pool = pools([m.name for m in self.modules], [m.type for m in self.modules], self.scope)
        kept = set(self.keep)
        members: dict[int, list[int]] = {}
        for i, p in enumerate(pool):
            members.setdefault(int(p), []).append(i)
        return [(g, sum(self.modules[i].name in kept for i in g)) for g in members.values()]
