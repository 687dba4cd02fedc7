"""LoRA-drop: score LoRA by its output, keep the important layers, let the others share one LoRA.

Zhou, Lu, Xu, Zhu, Zhao, Yang, "LoRA-drop: Efficient LoRA Parameter Pruning based on Output Evaluation", COLING 2025.

Importing this package imports neither torch nor PEFT; names are resolved on first use.

Example:
    >>> from fascicle_loradrop.plan import DropPlan
    >>> import fascicle_loradrop
    >>> fascicle_loradrop.DropPlan.__name__
    'DropPlan'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.lazy import attach

if TYPE_CHECKING:
    from .energies import Energies
    from .errors import EnergyError, GuardError, LoraDropError, PlanError, StorageError, TieError, UnsupportedError
    from .finetune import LoraDropCallback, make_plan, probe
    from .guards import check_loaded, check_optimizer, check_training
    from .io import compact, expand, load, load_plan, save, save_compact
    from .plan import DropPlan
    from .sample import stratified_indices
    from .score import EnergyMeter
    from .stability import compare
    from .tie import TieReport, apply, retie, untie, verify
    from .uniform import UniformRank, uniform_rank

__all__ = [
    "DropPlan",
    "Energies",
    "EnergyError",
    "EnergyMeter",
    "GuardError",
    "LoraDropCallback",
    "LoraDropError",
    "PlanError",
    "StorageError",
    "TieError",
    "TieReport",
    "UniformRank",
    "UnsupportedError",
    "apply",
    "check_loaded",
    "check_optimizer",
    "check_training",
    "compact",
    "compare",
    "expand",
    "load",
    "load_plan",
    "make_plan",
    "probe",
    "retie",
    "save",
    "save_compact",
    "stratified_indices",
    "uniform_rank",
    "untie",
    "verify",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "energies": ("Energies",),
        "errors": (
            "EnergyError",
            "GuardError",
            "LoraDropError",
            "PlanError",
            "StorageError",
            "TieError",
            "UnsupportedError",
        ),
        "finetune": ("LoraDropCallback", "make_plan", "probe"),
        "guards": ("check_loaded", "check_optimizer", "check_training"),
        "io": ("compact", "expand", "load", "load_plan", "save", "save_compact"),
        "plan": ("DropPlan",),
        "sample": ("stratified_indices",),
        "score": ("EnergyMeter",),
        "stability": ("compare",),
        "tie": ("TieReport", "apply", "retie", "untie", "verify"),
        "uniform": ("UniformRank", "uniform_rank"),
    },
)
