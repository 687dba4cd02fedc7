"""Finding the LoRA pairs `ΔW_i = s·B_i·A_i`, i = 1..N, of a PEFT model (the modules that the paper ranks).

Everything here uses public PEFT names only. Module names are those of the *base* model, the ones `LoraConfig`
understands, whether or not the model is wrapped.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["adapter_config", "base_model", "fingerprint", "lora_layers", "pair", "pair_parameters", "unwrap"]


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside `DistributedDataParallel`, FSDP1 or `torch.compile`; the model itself otherwise.

    Example:
        >>> from torch import nn
        >>> unwrap(nn.DataParallel(nn.Linear(2, 2)))
        Linear(in_features=2, out_features=2, bias=True)
    """
    while True:
        if hasattr(model, "_orig_mod"):
            model = cast("nn.Module", model._orig_mod)
        elif type(model).__name__ in {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}:
            model = cast("nn.Module", model.module)
        else:
            return model


def base_model(model: nn.Module) -> nn.Module:
    """The network that the LoRA pairs were put into, `PeftModel` wrappers removed (LoRA layers remain inside)."""
    model = unwrap(model)
    get_base = getattr(model, "get_base_model", None)
    return cast("nn.Module", get_base()) if callable(get_base) else model


def adapter_config(model: nn.Module, adapter: str) -> Any:
    """The `LoraConfig` of one adapter.

    Raises:
        UnsupportedError: the model has no such adapter, or the adapter is not plain LoRA.
    """
    configs = getattr(unwrap(model), "peft_config", None) or {}
    if adapter not in configs:
        raise UnsupportedError(
            f"expected a model with the LoRA adapter {adapter!r}, found {sorted(configs) or 'no adapter'}; "
            "build it with peft.get_peft_model first, or pass adapter="
        )
    config = configs[adapter]
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise UnsupportedError(
            f"LoRA-drop works on plain LoRA, and adapter {adapter!r} is of type {kind}; use a LoraConfig"
        )
    return config


def lora_layers(model: nn.Module, adapter: str = "default") -> dict[str, LoraLayer]:
    """The LoRA layers of one adapter by name, in the order of the network.

    Args:
        model: a `PeftModel`, or a transformers model with an adapter added.
        adapter: which adapter.

    Raises:
        UnsupportedError: no such adapter; or a layer is no plain pair of linear maps: LoRA on an embedding, a
            convolution, a raw parameter or `nn.MultiheadAttention`, AdaLoRA, DoRA and every other LoRA variant.

    Example:
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        >>> list(lora_layers(get_peft_model(net, LoraConfig(r=2, target_modules=["0", "1"]))))
        ['0', '1']
    """
    adapter_config(model, adapter)
    found: dict[str, LoraLayer] = {}
    for name, module in base_model(model).named_modules():
        if not isinstance(module, LoraLayer):
            continue
        _refuse_unsupported(name, module, adapter)
        if adapter in module.lora_A:
            found[name] = module
    if not found:
        raise UnsupportedError(f"adapter {adapter!r} has no LoRA layer on this model; check target_modules")
    return found


def pair(layer: LoraLayer, adapter: str) -> tuple[nn.Linear, nn.Linear]:
    """A and B of one layer as modules, shapes (r, d_in) and (d_out, r)."""
    return cast("nn.Linear", layer.lora_A[adapter]), cast("nn.Linear", layer.lora_B[adapter])


def pair_parameters(layer: LoraLayer, adapter: str) -> dict[str, nn.Parameter]:
    """The Parameters of one layer's pair by their name in a checkpoint: A, B and, under `lora_bias`, the bias of B."""
    lora_A, lora_B = pair(layer, adapter)
    found = {"lora_A.weight": lora_A.weight, "lora_B.weight": lora_B.weight, "lora_B.bias": lora_B.bias}
    return {key: cast("nn.Parameter", value) for key, value in found.items() if value is not None}


def _refuse_unsupported(name: str, layer: LoraLayer, adapter: str) -> None:
    kind = type(layer).__name__
    advice = f"take {name!r} out of target_modules (or list it in exclude_modules)"
    if adapter in getattr(layer, "lora_embedding_A", {}):
        raise UnsupportedError(f"{name!r} is LoRA on an embedding, which has no hidden state to score; {advice}")
    if adapter not in layer.lora_A:
        return
    if isinstance(layer.get_base_layer(), nn.MultiheadAttention) or hasattr(layer, "parameter_name"):
        raise UnsupportedError(f"{name!r} ({kind}) merges its LoRA into a weight, so no ΔW·x can be seen; {advice}")
    if not isinstance(layer.lora_A, nn.ModuleDict):
        raise UnsupportedError(f"{name!r} ({kind}) is not plain LoRA (AdaLoRA keeps singular values); use LoraConfig")
    variant = getattr(layer, "lora_variant", {}).get(adapter)
    if variant is not None:
        raise UnsupportedError(
            f"{name!r} uses the LoRA variant {type(variant).__name__} (DoRA, aLoRA, Arrow, ...), whose output is not "
            "s·B·A·x; build the adapter without that option"
        )
    if not (isinstance(layer.lora_A[adapter], nn.Linear) and isinstance(layer.lora_B[adapter], nn.Linear)):
        raise UnsupportedError(f"{name!r} ({kind}) is not a pair of linear maps (a convolution?); {advice}")


def fingerprint(model: nn.Module) -> str:
    """A digest of the base network: names and logical shapes of all modules that own weights.

    It is the same before and after LoRA is added, and for a quantised copy of the same network; it does not look at
    the values of the weights.

    Example:
        >>> from torch import nn
        >>> fingerprint(nn.Linear(2, 3)) == fingerprint(nn.Linear(2, 3)) != fingerprint(nn.Linear(3, 2))
        True
    """
    digest = hashlib.sha256()
    for name, module in _base_modules(base_model(model), ""):
        digest.update(f"{name}:{_logical_shape(module)};".encode())
    return digest.hexdigest()[:16]


def _base_modules(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, BaseTunerLayer):
        module = module.get_base_layer()
    module = getattr(module, "original_module", module)  # modules_to_save keeps the untouched copy there
    if next(module.parameters(recurse=False), None) is not None:
        yield name, module
    for child_name, child in module.named_children():
        yield from _base_modules(child, f"{name}.{child_name}" if name else child_name)


def _logical_shape(module: nn.Module) -> tuple[Any, ...]:
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return (int(cast("int", module.in_features)), int(cast("int", module.out_features)))
    return tuple(sorted((n, tuple(p.shape)) for n, p in module.named_parameters(recurse=False)))
