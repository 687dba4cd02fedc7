"""Energies `g_i` and importances `I_i = g_i / Σ_j g_j` (step 3 of the method).

The widths `d_out` bias raw energy towards wide outputs; `normalize=` and `scope=` are our answers to that, the paper
does not say. This module needs numpy only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import EnergyError
from .naming import layer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Energies", "Normalize", "Scope", "pools"]

Normalize = Literal["none", "per_dim", "relative"]
Scope = Literal["global", "per_type", "per_layer"]
FORMAT = "fascicle-loradrop/energies"
VERSION = 1


def pools(names: Sequence[str], types: Sequence[str], scope: str) -> NDArray[np.int64]:
    """The pool in which each module is ranked: one for all, one a weight type, or one a layer; shape (N,).

    Example:
        >>> pools(["h.0.q", "h.0.v", "h.1.q"], ["q", "v", "q"], "per_type").tolist()
        [0, 1, 0]
    """
    if scope == "global":
        keys = [""] * len(names)
    elif scope == "per_type":
        keys = list(types)
    elif scope == "per_layer":
        keys = [layer_of(name) for name in names]
    else:
        raise EnergyError(f"scope must be 'global', 'per_type' or 'per_layer', got {scope!r}")
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([index[key] for key in keys], dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Energies:
    """What a scoring pass has seen: `g_i = Σ_x ‖ΔW_i x‖²` and all that is needed to re-use it.

    Arrays have shape (N,), one entry a module, in the order of the network.

    Example:
        >>> from fascicle_loradrop.energies import Energies
        >>> e = Energies.from_arrays(names=["h.0.q", "h.1.q"], g=[3.0, 1.0], d_in=[4, 4], d_out=[4, 4], r=[2, 2])
        >>> e.importance().tolist()
        [0.75, 0.25]
    """

    names: tuple[str, ...]
    """Module names as `LoraConfig.target_modules` knows them."""
    types: tuple[str, ...]
    """Weight type of each module, `self_attn.q_proj` for example."""
    g: NDArray[np.float64]
    """Energy, the squared length of the LoRA output summed over tokens."""
    n_tokens: NDArray[np.int64]
    """Number of (unmasked) positions each module has seen."""
    d_in: NDArray[np.int64]
    """Width of the input."""
    d_out: NDArray[np.int64]
    """Width of the output."""
    r: NDArray[np.int64]
    """Rank."""
    scaling: NDArray[np.float64]
    """s: lora_alpha / r, or lora_alpha / √r with rsLoRA."""
    bias: NDArray[np.bool_]
    """Whether `lora_B` has a bias (`LoraConfig.lora_bias`)."""
    devices: tuple[str, ...]
    """Device of each pair: one Parameter cannot live on two, so sharing stays within a device."""
    adapter: str = "default"
    fingerprint: str = ""
    """Digest of names and shapes of the base model; empty when unknown."""
    tokens: str = "all"
    """Which positions were counted: "all" (unpadded) or "labels"."""
    probes: int = 1
    """Over how many probes these are an average."""
    base: NDArray[np.float64] | None = None
    """`Σ_x ‖W_i x + b_i‖²` of the frozen layer, where it was measured; needed for `normalize="relative"`."""
    S: tuple[NDArray[np.float64], ...] | None = None
    """`Σ_x h hᵀ`, h = A·x, one r by r matrix a module (r + 1 with a bias); None after averaging or a direct pass."""
    gram: tuple[NDArray[np.float64], ...] | None = None
    """`BᵀB`, one matrix a module, of the same shape as `S`."""

    def __post_init__(self) -> None:
        n = len(self.names)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray | tuple) and len(value) != n:
                raise EnergyError(f"{field.name} must have one entry for each of the {n} modules, got {len(value)}")
        if n == 0:
            raise EnergyError("energies need at least one module, got none")
        if len(set(self.names)) != n:
            raise EnergyError(f"module names must be unique, got {n - len(set(self.names))} repeated")
        if not np.isfinite(self.g).all() or (self.g < 0).any():
            bad = [name for name, g in zip(self.names, self.g, strict=True) if not (np.isfinite(g) and g >= 0)]
            raise EnergyError(f"energies must be finite and not negative; look at {bad[:3]} (did the probe diverge?)")

    @classmethod
    def from_arrays(cls, names: Sequence[str], g: Any, d_in: Any, d_out: Any, r: Any, **rest: Any) -> Energies:
        """Build from plain sequences; all other fields have neutral defaults. Handy for simulations and tests."""
        from .naming import module_types

        n = len(names)
        defaults: dict[str, Any] = {
            "types": module_types(names),
            "n_tokens": np.zeros(n, dtype=np.int64),
            "scaling": np.ones(n),
            "bias": np.zeros(n, dtype=bool),
            "devices": ("cpu",) * n,
        }
        for key, value in {"d_in": d_in, "d_out": d_out, "r": r}.items():
            defaults[key] = np.broadcast_to(np.asarray(value, dtype=np.int64), (n,)).copy()
        return cls(names=tuple(names), g=np.asarray(g, dtype=np.float64), **(defaults | rest))

    def importance(self, normalize: Normalize = "none", scope: Scope = "global") -> NDArray[np.float64]:
        """`I_i = g_i / Σ_j g_j`, shape (N,); the sum runs over the pool of i, so each pool sums to 1.

        Args:
            normalize: "none" is the paper; "per_dim" takes g / d_out; "relative" takes ‖ΔWx‖² / ‖Wx‖².
            scope: "global" pools all modules; "per_type" and "per_layer" rank within a weight type or a layer.

        Raises:
            EnergyError: all energies are zero (B = 0: nothing was trained), or the base output was not measured.
        """
        if not self.g.any():
            raise EnergyError("all energies are zero: B is still 0, so train a probe before scoring")
        if normalize == "none":
            weight = self.g
        elif normalize == "per_dim":
            weight = self.g / self.d_out
        elif normalize == "relative":
            if self.base is None:
                raise EnergyError("normalize='relative' needs the energy of the base output; score with base=True")
            weight = np.divide(self.g, self.base, out=np.zeros_like(self.g), where=self.base > 0)
        else:
            raise EnergyError(f"normalize must be 'none', 'per_dim' or 'relative', got {normalize!r}")
        pool = pools(self.names, self.types, scope)
        total = np.bincount(pool, weights=weight)[pool]
        return np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)

    def per_rank(self) -> tuple[NDArray[np.float64], ...]:
        """`s²·(BᵀB)_kk·S_kk`: the energy that rank component k would have alone; one array of length r a module.

        Cross terms between components are left out, so these do not add up to `g` unless components are orthogonal.

        Raises:
            EnergyError: the matrices are gone, after averaging over probes or a direct pass.
        """
        if self.S is None or self.gram is None:
            raise EnergyError("per-rank scores need the matrices S; score with direct=False and do not average")
        rows = zip(self.S, self.gram, self.scaling, self.r, strict=True)
        return tuple(s * s * (np.diag(G) * np.diag(S))[:r] for S, G, s, r in rows)

    def __add__(self, other: Energies) -> Energies:
        """Energies of two passes of the *same* probe over different batches: `g`, `S` and `n_tokens` add up."""
        self._check_same_modules(other)
        gram = self.gram
        same = gram is not None and other.gram is not None and all(map(np.array_equal, gram, other.gram))
        if gram is not None and other.gram is not None and not same:
            raise EnergyError("+ joins passes of one probe, and B differs here; use Energies.mean for several probes")
        S = None
        if self.S is not None and other.S is not None:
            S = tuple(a + b for a, b in zip(self.S, other.S, strict=True))
        return replace(
            self,
            g=self.g + other.g,
            n_tokens=self.n_tokens + other.n_tokens,
            base=None if self.base is None or other.base is None else self.base + other.base,
            S=S,
            gram=gram if S is not None else None,
        )

    @classmethod
    def mean(cls, energies: Sequence[Energies]) -> Energies:
        """`Ī_i = (1/m) Σ_p g_i^p / Σ_j g_j^p`: the average over m probes, each probe weighing the same.

        Example:
            >>> from fascicle_loradrop.energies import Energies
            >>> a = Energies.from_arrays(names=["h.0.q", "h.1.q"], g=[30.0, 10.0], d_in=4, d_out=4, r=2)
            >>> b = Energies.from_arrays(names=["h.0.q", "h.1.q"], g=[1.0, 3.0], d_in=4, d_out=4, r=2)
            >>> Energies.mean([a, b]).importance().tolist()
            [0.5, 0.5]
        """
        if not energies:
            raise EnergyError("Energies.mean needs at least one probe, got none")
        first = energies[0]
        for other in energies[1:]:
            first._check_same_modules(other)
        if any(not e.g.any() for e in energies):
            raise EnergyError("a probe has only zero energies (B = 0), so it cannot be averaged; train it first")
        totals = [e.g.sum() for e in energies]
        based = [e.base / t for e, t in zip(energies, totals, strict=True) if e.base is not None]
        return replace(
            first,
            g=np.mean([e.g / t for e, t in zip(energies, totals, strict=True)], axis=0),
            n_tokens=np.sum([e.n_tokens for e in energies], axis=0),
            base=np.mean(based, axis=0) if len(based) == len(energies) else None,
            probes=sum(e.probes for e in energies),
            S=None,
            gram=None,
        )

    def _check_same_modules(self, other: Energies) -> None:
        for field in ("names", "adapter", "fingerprint", "tokens"):
            if getattr(self, field) != getattr(other, field):
                raise EnergyError(f"energies of different models cannot be joined: {field} differs")
        for field in ("d_in", "d_out", "r", "scaling", "bias"):
            if not np.array_equal(getattr(self, field), getattr(other, field)):
                raise EnergyError(f"energies of different models cannot be joined: {field} differs")

    def to_json(self) -> str:
        """A JSON text; `from_json` gives the same energies back, bit for bit."""
        out: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for field in fields(self):
            out[field.name] = _plain(getattr(self, field.name))
        return json.dumps(out)

    @classmethod
    def from_json(cls, text: str) -> Energies:
        """Read what `to_json` wrote.

        Raises:
            EnergyError: not such a text, another version, or a field that is missing or unknown.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise EnergyError(f"energies must be JSON: {error}") from error
        if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise EnergyError(f"expected a JSON object with format {FORMAT!r} and version {VERSION}")
        data = {k: v for k, v in data.items() if k not in {"format", "version"}}
        wanted = {field.name for field in fields(cls)}
        if set(data) != wanted:
            raise EnergyError(f"energies have wrong fields: {sorted(set(data) ^ wanted)} missing or unknown")
        try:
            return cls(**{name: _typed(name, value) for name, value in data.items()})
        except (TypeError, ValueError) as error:
            raise EnergyError(f"energies have a field of the wrong kind: {error}") from error


_ARRAYS: dict[str, Any] = {
    "g": np.float64,
    "base": np.float64,
    "scaling": np.float64,
    "n_tokens": np.int64,
    "d_in": np.int64,
    "d_out": np.int64,
    "r": np.int64,
    "bias": np.bool_,
}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _typed(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _ARRAYS:
        return np.array(value, dtype=_ARRAYS[name])
    if name in {"S", "gram"}:
        return tuple(np.array(v, dtype=np.float64) for v in value)
    return tuple(value) if isinstance(value, list) else value
