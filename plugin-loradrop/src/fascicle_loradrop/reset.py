"""Starting stage 2 afresh, `init="reset"` (our choice, the paper does not say).

Every pair is drawn as `peft.get_peft_model` draws it, in the same order and with the same use of the random state,
also for modules that share: a kept module starts with the very weights it would have under plain LoRA.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from .errors import TieError
from .layers import adapter_config, base_model, lora_layers, pair

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

__all__ = ["reset_adapter"]


def reset_adapter(model: nn.Module, adapter: str = "default", seed: int | None = None) -> None:
    """Draw A and B of every layer anew, and put the modules of `modules_to_save` (a head) back to their first values.

    Without `seed` the global random state is used up exactly as `get_peft_model` would: after the same
    `torch.manual_seed`, both give the same weights and leave the same state behind. With `seed` the global state is
    left alone, and the weights are those of `torch.manual_seed(seed)` followed by `get_peft_model`. The equality is
    exact for base models on any device whose weights are not quantised.

    Args:
        model: a `PeftModel`.
        adapter: which adapter.
        seed: seed of the draw.

    Raises:
        TieError: an initialisation that changes the base weights (pissa, olora, corda, eva, ...), or trained biases
            or tokens whose first values are gone; use `init="keep"`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> config = LoraConfig(r=2, target_modules=["0"])
        >>> _ = torch.manual_seed(7)
        >>> first = get_peft_model(nn.Sequential(nn.Linear(4, 3)), config).base_model.model[0].lora_A["default"].weight
        >>> other = get_peft_model(nn.Sequential(nn.Linear(4, 3)), config)
        >>> _ = torch.manual_seed(7)
        >>> _ = nn.Linear(4, 3)  # the base model's own draw
        >>> reset_adapter(other)
        >>> torch.equal(first, other.base_model.model[0].lora_A["default"].weight)
        True
    """
    config = adapter_config(model, adapter)
    _check_resettable(config)
    context = nullcontext() if seed is None else torch.random.fork_rng(devices=[])
    with context, torch.no_grad():
        if seed is not None:
            torch.manual_seed(seed)
        for layer in lora_layers(model, adapter).values():
            A, B, bias = _fresh_pair(layer, adapter, config.init_lora_weights)
            rounded = _base_dtype(layer) or A.dtype  # PEFT rounds to the base dtype before it casts up
            lora_A, lora_B = pair(layer, adapter)
            lora_A.weight.copy_(A.to(rounded))
            lora_B.weight.copy_(B.to(rounded))
            if bias is not None:
                lora_B.bias.copy_(bias)
        for module in base_model(model).modules():
            saved = getattr(module, "modules_to_save", None)
            if isinstance(saved, nn.ModuleDict) and adapter in saved:
                _copy_state(cast("nn.Module", module.original_module), saved[adapter])


def _check_resettable(config: Any) -> None:
    init = config.init_lora_weights
    if init is not True and init not in ("gaussian", "orthogonal"):
        raise TieError(
            f"init='reset' needs init_lora_weights True, 'gaussian' or 'orthogonal', got {init!r} (it has changed, or "
            "depends on, the base weights); use init='keep'"
        )
    if config.bias != "none" or getattr(config, "trainable_token_indices", None):
        raise TieError(
            "init='reset' cannot bring back trained biases (LoraConfig.bias) or tokens (trainable_token_indices); use "
            "init='keep', or rebuild the model"
        )


def _fresh_pair(layer: LoraLayer, adapter: str, init: bool | str) -> tuple[Tensor, Tensor, Tensor | None]:
    """One draw in PEFT's order: both linear maps first (their own draws are overwritten), then the initialisation."""
    lora_A, lora_B = pair(layer, adapter)
    d_in, d_out, r = lora_A.in_features, lora_B.out_features, lora_A.out_features
    A: Tensor = nn.Linear(d_in, r, bias=False).weight
    fresh_B = nn.Linear(r, d_out, bias=lora_B.bias is not None)
    if init == "orthogonal":
        Q, _ = torch.linalg.qr(torch.randn(r, r))
        A = (torch.randn(d_in, r // 2) @ Q[0::2]).T / 10.0
        B = torch.randn(r // 2, d_out).T @ Q[1::2] / 10.0
        return A, B, fresh_B.bias
    if init == "gaussian":
        nn.init.normal_(A, std=1 / r)
    else:
        nn.init.kaiming_uniform_(A, a=math.sqrt(5))
    nn.init.zeros_(fresh_B.weight)
    if fresh_B.bias is not None:
        nn.init.zeros_(fresh_B.bias)
    return A, fresh_B.weight, fresh_B.bias


def _base_dtype(layer: LoraLayer) -> torch.dtype | None:
    weight = getattr(layer.get_base_layer(), "weight", None)
    return weight.dtype if isinstance(weight, Tensor) and weight.is_floating_point() else None


def _copy_state(source: nn.Module, target: nn.Module) -> None:
    values = dict(source.named_parameters()) | dict(source.named_buffers())
    for name, tensor in [*target.named_parameters(), *target.named_buffers()]:
        tensor.copy_(values[name])
