"""Uniform LoRA of a smaller rank at the same size: the baseline that this family of papers rarely shows (our choice).

`P(r') = r'·Σ_i (d_in,i + d_out,i) + Σ_i [bias] d_out,i`. The largest integer rank usually falls short of the target,
so a second version gives some modules rank r' + 1: its size is as near to the target as such ranks allow and never
above it. Which modules get the extra rank ignores their importance: they are spread evenly over the depth.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import PlanError
from .module import PlanModule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peft import LoraConfig

    from .energies import Energies
    from .plan import DropPlan

__all__ = ["UniformRank", "uniform_rank"]


@dataclass(frozen=True)
class UniformRank:
    """The equal-size control.

    Example:
        >>> u = UniformRank(rank=2, parameters=48, target=60, parameters_exact=56, rank_pattern={"h.0.q": 3})
        >>> u.ranks(["h.0.q", "h.1.q"])
        {'h.0.q': 3, 'h.1.q': 2}
    """

    rank: int
    """r', the largest rank that fits for all modules."""
    parameters: int
    """P(r')."""
    target: int
    """The size to match."""
    parameters_exact: int
    """P with `rank_pattern`: between `parameters` and `target`."""
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Modules with rank r' + 1, by full name."""

    def ranks(self, names: list[str]) -> dict[str, int]:
        """The rank of each module in the exact version."""
        return {name: self.rank_pattern.get(name, self.rank) for name in names}

    def lora_config(self, config: LoraConfig, *, exact: bool = True) -> LoraConfig:
        """A copy of `config` with the smaller rank and the *same* scaling s for every module.

        Args:
            config: that of the plan's adapter.
            exact: use `rank_pattern`; else the integer rank everywhere, which is smaller but loads anywhere.
        """
        out = copy.deepcopy(config)
        root = math.sqrt if config.use_rslora else float
        s = config.lora_alpha / root(config.r)
        out.r, out.lora_alpha = self.rank, _whole(s * root(self.rank))
        out.rank_pattern, out.alpha_pattern = {}, {}
        if exact and self.rank_pattern:
            keys = {re.escape(name): rank for name, rank in self.rank_pattern.items()}
            out.rank_pattern = keys
            out.alpha_pattern = {key: _whole(s * root(rank)) for key, rank in keys.items()}
        return out


def uniform_rank(of: Energies | DropPlan, budget: float | DropPlan | None = None) -> UniformRank:
    """The largest uniform rank whose size is at most a plan's (or a share of the full LoRA), and the exact version.

    Args:
        of: energies or a plan: the modules.
        budget: a plan whose size to match, or a share of the full LoRA in (0, 1]; may be left out where `of` is a plan.

    Raises:
        PlanError: the target is below rank 1, or no target is given.

    Example:
        >>> from fascicle_loradrop.energies import Energies
        >>> e = Energies.from_arrays(names=["h.0.q", "h.1.q"], g=[3.0, 1.0], d_in=4, d_out=4, r=4)
        >>> u = uniform_rank(e, budget=0.7)  # 44.8 of 64 parameters, 16 a rank
        >>> u.rank, u.parameters, u.parameters_exact, dict(u.rank_pattern)
        (2, 32, 40, {'h.0.q': 3})
    """
    from .plan import DropPlan

    modules = of.modules if isinstance(of, DropPlan) else PlanModule.rows(of)
    if budget is None:
        if not isinstance(of, DropPlan):
            raise PlanError("uniform_rank of energies needs budget=, a plan or a share of the full LoRA")
        budget = of
    full = sum(m.size for m in modules)
    if isinstance(budget, DropPlan):
        target = budget.parameters_after
    elif 0.0 < budget <= 1.0:
        target = math.floor(budget * full)
    else:
        raise PlanError(f"budget must be a plan or a share in (0, 1], got {budget!r}")
    step = {m.name: m.d_in + m.d_out for m in modules}  # parameters of one more rank
    fixed = full - sum(m.r * step[m.name] for m in modules)  # biases
    rank = (target - fixed) // sum(step.values())
    if rank < 1:
        raise PlanError(f"{target} parameters are less than rank 1 on all modules; raise budget=")
    parameters = fixed + rank * sum(step.values())
    extra = _fill(step, target - parameters)
    return UniformRank(
        rank=rank,
        parameters=parameters,
        target=target,
        parameters_exact=parameters + sum(step[name] for name in extra),
        rank_pattern=dict.fromkeys(extra, rank + 1),
    )


def _fill(step: Mapping[str, int], room: int) -> list[str]:
    """Names whose steps come nearest to `room` from below; within a step size spread evenly over the depth."""
    classes: dict[int, list[str]] = {}
    for name, size in step.items():
        classes.setdefault(size, []).append(name)
    best: dict[int, tuple[int, ...]] = {0: ()}  # sum → how many of each class; the first found stays
    for size, names in classes.items():
        grown: dict[int, tuple[int, ...]] = {}
        for total, counts in best.items():
            for n in range(min(len(names), (room - total) // size) + 1):
                grown.setdefault(total + n * size, (*counts, n))
        best = grown
    chosen: set[str] = set()
    for names, n in zip(classes.values(), best[max(best)], strict=True):
        chosen.update(names[(len(names) * j) // n] for j in range(n))
    return [name for name in step if name in chosen]


def _whole(alpha: float) -> Any:
    """alpha as the int that LoraConfig asks for, where it is one."""
    return int(alpha) if float(alpha).is_integer() else alpha
