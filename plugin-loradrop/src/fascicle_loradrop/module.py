"""One row of a plan: a LoRA pair with its sizes and its importance (the paper's module i)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .energies import Energies

__all__ = ["PlanModule"]


@dataclass(frozen=True)
class PlanModule:
    """One LoRA pair `ΔW = s·B·A`."""

    name: str
    """Module name as `LoraConfig.target_modules` knows it."""
    type: str
    """Weight type."""
    d_in: int
    """Width of the input."""
    d_out: int
    """Width of the output."""
    r: int
    """Rank."""
    scaling: float
    """s."""
    bias: bool
    """Whether B has a bias."""
    device: str
    """Device when scored."""
    g: float
    """Energy."""
    importance: float
    """Share of the pool's (normalised) energy."""

    @property
    def size(self) -> int:
        """`r·(d_in + d_out)`, plus d_out with a bias."""
        return self.r * (self.d_in + self.d_out) + self.d_out * self.bias

    @staticmethod
    def rows(e: Energies, importance: Sequence[float] | None = None) -> tuple[PlanModule, ...]:
        """One row a module of `e`."""
        I = [0.0] * len(e.names) if importance is None else importance
        return tuple(
            PlanModule(
                name=e.names[i],
                type=e.types[i],
                d_in=int(e.d_in[i]),
                d_out=int(e.d_out[i]),
                r=int(e.r[i]),
                scaling=float(e.scaling[i]),
                bias=bool(e.bias[i]),
                device=e.devices[i],
                g=float(e.g[i]),
                importance=float(I[i]),
            )
            for i in range(len(e.names))
        )
