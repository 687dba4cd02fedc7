"""The errors of this package (our choice, the paper does not say).

One small family: every message says what was expected, what came, and which argument to change. All are
[`ValueError`]s, so a caller who knows nothing of the package can still catch them.
"""

from __future__ import annotations

__all__ = ["EnergyError", "GuardError", "LoraDropError", "PlanError", "StorageError", "TieError", "UnsupportedError"]


class LoraDropError(ValueError):
    """Base of all errors raised on purpose by `fascicle_loradrop`.

    Example:
        >>> issubclass(LoraDropError, ValueError)
        True
    """


class UnsupportedError(LoraDropError):
    """The model holds something that cannot be scored or shared (a LoRA variant, a merged adapter, ...)."""


class EnergyError(LoraDropError):
    """The energies, or the batches they come from, do not make sense."""


class PlanError(LoraDropError):
    """A plan cannot be drawn, read, or does not fit the model."""


class TieError(LoraDropError):
    """Modules that should share one LoRA do not, or cannot."""


class GuardError(LoraDropError):
    """A training set-up that is known to give wrong gradients, or an optimizer with stale parameters."""


class StorageError(LoraDropError):
    """A saved adapter is incomplete, or does not say what its plan says."""
