"""Does a plan fit a model? (our choice, the paper does not say)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import PlanError
from .layers import fingerprint as digest
from .layers import lora_layers, pair

if TYPE_CHECKING:
    from torch import nn

    from .plan import DropPlan

__all__ = ["check_base", "validate_plan"]


def check_base(plan: DropPlan, model: nn.Module) -> None:
    """Raise `PlanError` when the base network is not the plan's; LoRA need not be there yet."""
    found = digest(model)
    if plan.fingerprint and plan.fingerprint != found:
        raise PlanError(
            f"the plan was made for another base model: expected fingerprint {plan.fingerprint}, got {found} (names "
            "or shapes of weights differ); load the base model that was scored"
        )


def validate_plan(plan: DropPlan, model: nn.Module, *, fingerprint: bool = True) -> None:
    """See `DropPlan.validate`."""
    if fingerprint:
        check_base(plan, model)
    layers = lora_layers(model, plan.adapter)
    expected = {m.name for m in plan.modules} - set(plan.dropped)
    missing = sorted(expected - set(layers))
    extra = sorted(set(layers) - {m.name for m in plan.modules})
    if missing or extra:
        raise PlanError(
            f"plan and model have different LoRA modules: the model lacks {missing[:3]} and has {extra[:3]} besides; "
            "use the target_modules that were scored"
        )
    for m in plan.modules:
        if m.name not in layers:
            continue
        layer = layers[m.name]
        lora_A, lora_B = pair(layer, plan.adapter)
        found = (lora_A.in_features, lora_B.out_features, lora_A.out_features, lora_B.bias is not None)
        if found != (m.d_in, m.d_out, m.r, m.bias):
            raise PlanError(
                f"{m.name!r} has (d_in, d_out, r, bias) {found}, the plan says {(m.d_in, m.d_out, m.r, m.bias)}; "
                "was the adapter built with another LoraConfig?"
            )
        if abs(layer.scaling[plan.adapter] - m.scaling) > 1e-6 * abs(m.scaling):
            raise PlanError(
                f"{m.name!r} has scaling {layer.scaling[plan.adapter]}, the plan says {m.scaling}; check lora_alpha"
            )
