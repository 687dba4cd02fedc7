"""Sharing: all low modules of a group use one LoRA (step 5 of the method).

`lora_A[adapter].weight` and `lora_B[adapter].weight` of every member *are* the owner's Parameters; the `nn.Linear`
objects stay apart, so that hooks and names stay one a module. The gradient of a shared pair is the sum over its n
users; what the weights start from after selection is our choice, the paper does not say.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from .errors import TieError
from .layers import adapter_config, base_model, lora_layers, pair, pair_parameters, unwrap
from .merge import best_shared_pair
from .reset import reset_adapter

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from .plan import DropPlan

__all__ = ["Init", "SharedGrad", "TieReport", "apply", "is_tied", "retie", "shared_parameters", "untie", "verify"]

logger = logging.getLogger(__name__)

Init = Literal["reset", "keep", "merge"]
SharedGrad = Literal["sum", "mean"]

_RECORD = "_fascicle_loradrop"
# the hook of each averaged Parameter; weak, because copies of a model drop hooks and must get their own
_MEAN: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


@dataclass(frozen=True)
class TieReport:
    """Whether a model is what its plan says.

    Example:
        >>> TieReport(adapter="default", groups=1, shared=3, parameters=96, expected=96, broken=()).ok
        True
    """

    adapter: str
    """The adapter."""
    groups: int
    """Groups that share a pair."""
    shared: int
    """Modules in those groups, owners included."""
    parameters: int
    """LoRA parameters of the adapter, shared ones counted once."""
    expected: int
    """P of the plan."""
    broken: tuple[str, ...]
    """What is wrong, one line each."""

    @property
    def ok(self) -> bool:
        """All ties hold and the size is the plan's."""
        return not self.broken and self.parameters == self.expected

    def raise_for_broken(self) -> None:
        """Raise `TieError` unless `ok`."""
        if not self.ok:
            what = "; ".join(self.broken[:3]) or f"{self.parameters} parameters instead of {self.expected}"
            raise TieError(
                f"adapter {self.adapter!r} is not shared as planned ({len(self.broken)} ties broken): {what}. "
                "Call tie.apply(model, plan) before training, or tie.retie(model, plan) after loading weights"
            )


def apply(
    model: nn.Module,
    plan: DropPlan,
    init: Init = "reset",
    shared_grad: SharedGrad = "sum",
    seed: int | None = None,
) -> TieReport:
    """Put a plan into effect, in place. Call it before the optimizer is built.

    Args:
        model: a `PeftModel` with LoRA on all of the plan's modules. Ties of an earlier plan are undone first.
        plan: which modules keep their LoRA; with `share_by="none"` the others are taken out of the adapter, whose
            config then lists the full names of the kept ones, so that it saves and reloads like any other.
        init: "reset" starts afresh, head included, with the weights that plain LoRA would have (see
            `reset.reset_adapter` on random states). "keep" goes on from the probe; a shared pair starts from its
            owner, the most important low module. "merge" is "keep" with the best rank-r fit of the group's mean ΔW.
        shared_grad: "sum" lets the gradients of a pair's n users add up, as sharing does; "mean" divides by n.
        seed: for "reset"; None uses the global random state as `get_peft_model` would.

    Returns:
        The report of `verify`.

    Raises:
        PlanError: the plan was made for another model.
        TieError: merged adapters; an init that cannot be done; members on different devices or of other dtypes.

    Example:
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> from fascicle_loradrop.energies import Energies
        >>> from fascicle_loradrop.plan import DropPlan
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        >>> net = get_peft_model(net, LoraConfig(r=2, lora_alpha=2, target_modules=["0", "1", "2"]))
        >>> e = Energies.from_arrays(names=["0", "1", "2"], g=[8, 1, 1], d_in=4, d_out=4, r=2)
        >>> report = apply(net, DropPlan.from_energies(e, keep=1))
        >>> report.ok, net.get_nb_trainable_parameters()[0]
        (True, 32)
    """
    if init not in get_args(Init):
        raise TieError(f"init must be one of {get_args(Init)}, got {init!r}")
    if shared_grad not in get_args(SharedGrad):
        raise TieError(f"shared_grad must be one of {get_args(SharedGrad)}, got {shared_grad!r}")
    plan.validate(model)
    layers = lora_layers(model, plan.adapter)
    merged = [name for name, layer in layers.items() if layer.merged]
    if merged:
        raise TieError(f"{len(merged)} layers are merged into the base ({merged[:2]}); call unmerge_adapter() first")
    _check_shareable(plan, layers)
    _separate(layers, plan.adapter)
    if init == "reset":
        reset_adapter(model, plan.adapter, seed)
    elif init == "merge":
        _merge(plan, layers)
    if plan.dropped:
        _remove(model, plan, layers)
    vars(unwrap(model)).setdefault(_RECORD, {})[plan.adapter] = shared_grad
    _tie(plan, layers)
    _average_gradients(model, plan, layers)
    report = verify(model, plan)
    report.raise_for_broken()
    logger.info("LoRA-drop: %d of %d LoRA parameters", report.parameters, plan.parameters_before)
    return report


def retie(model: nn.Module, plan: DropPlan, *, check_values: bool = True) -> TieReport:
    """Restore the ties after something has broken them: a plain load, `low_cpu_mem_usage=True`, a copy.

    No weight changes. An optimizer that was built before may hold stale parameters: `guards.check_optimizer` says.

    Args:
        model: the model.
        plan: its plan.
        check_values: refuse when a member's weights differ from its owner's, since tying would then change the model.

    Raises:
        TieError: members differ, or live on different devices.
        PlanError: the plan was made for another model.
    """
    plan.validate(model)
    layers = lora_layers(model, plan.adapter)
    _check_shareable(plan, layers)
    if check_values:
        for owner, members in plan.groups.items():
            for member in members:
                for key, mine, his in _pairs(layers[member], layers[owner], plan.adapter):
                    if mine is not his and not torch.equal(mine, his):
                        raise TieError(
                            f"{member!r} and {owner!r} should share {key}, but their weights differ: this adapter was "
                            "not trained under this plan. Call tie.apply to start sharing, or pass check_values=False"
                        )
    _tie(plan, layers)
    _average_gradients(model, plan, layers)
    report = verify(model, plan)
    report.raise_for_broken()
    return report


def verify(model: nn.Module, plan: DropPlan) -> TieReport:
    """Look whether all ties of the plan hold and no other pair is shared; changes nothing."""
    layers = lora_layers(model, plan.adapter)
    broken = [f"{name} is not in the adapter" for name in _expected(plan) if name not in layers]
    broken += [f"{name} should have no LoRA" for name in plan.dropped if name in layers]
    if not broken:
        for owner, members in plan.groups.items():
            for member in members:
                pairs = _pairs(layers[member], layers[owner], plan.adapter)
                broken += [f"{key} of {member} is not that of {owner}" for key, mine, his in pairs if mine is not his]
        if vars(unwrap(model)).get(_RECORD, {}).get(plan.adapter) == "mean":
            lost = [p for p in shared_parameters(model, plan) if p.requires_grad and p not in _MEAN]
            broken += ["the hook that averages shared gradients is gone"] * bool(lost)
    unique = {id(p): p for layer in layers.values() for p in pair_parameters(layer, plan.adapter).values()}
    return TieReport(
        adapter=plan.adapter,
        groups=len(plan.groups),
        shared=sum(1 + len(members) for members in plan.groups.values()),
        parameters=sum(p.numel() for p in unique.values()),
        expected=plan.parameters_after,
        broken=tuple(broken),
    )


def untie(model: nn.Module, plan: DropPlan) -> None:
    """Give every member a copy of its own; the function computed stays the same. Removed modules stay removed."""
    layers = lora_layers(model, plan.adapter)
    _separate(layers, plan.adapter)
    vars(unwrap(model)).get(_RECORD, {}).pop(plan.adapter, None)


def is_tied(model: nn.Module, adapter: str = "default") -> bool:
    """Whether any two modules of the adapter share a Parameter."""
    parameters = [p for layer in lora_layers(model, adapter).values() for p in pair_parameters(layer, adapter).values()]
    return len({id(p) for p in parameters}) < len(parameters)


def shared_parameters(model: nn.Module, plan: DropPlan) -> list[nn.Parameter]:
    """The Parameters that have several users, in the order of the network: a list, the same on every rank."""
    layers = lora_layers(model, plan.adapter)
    groups = plan.groups
    return [
        p for name, layer in layers.items() if groups.get(name) for p in pair_parameters(layer, plan.adapter).values()
    ]


def _expected(plan: DropPlan) -> list[str]:
    dropped = set(plan.dropped)
    return [m.name for m in plan.modules if m.name not in dropped]


def _pairs(member: LoraLayer, owner: LoraLayer, adapter: str) -> list[tuple[str, Tensor, Tensor]]:
    his = pair_parameters(owner, adapter)
    return [(key, mine, his[key]) for key, mine in pair_parameters(member, adapter).items()]


def _check_shareable(plan: DropPlan, layers: dict[str, LoraLayer]) -> None:
    """One Parameter has one device and one dtype."""
    for owner, members in plan.groups.items():
        for member in members:
            for key, mine, his in _pairs(layers[member], layers[owner], plan.adapter):
                if (mine.device, mine.dtype) != (his.device, his.dtype):
                    raise TieError(
                        f"{member!r} and {owner!r} cannot share {key}: {mine.device}, {mine.dtype} against "
                        f"{his.device}, {his.dtype}; score the model as it is placed, groups then stay on one device"
                    )


def _tie(plan: DropPlan, layers: dict[str, LoraLayer]) -> None:
    for owner, members in plan.groups.items():
        his_A, his_B = pair(layers[owner], plan.adapter)
        for member in members:
            lora_A, lora_B = pair(layers[member], plan.adapter)
            lora_A.weight, lora_B.weight = his_A.weight, his_B.weight
            if his_B.bias is not None:
                lora_B.bias = his_B.bias


def _separate(layers: dict[str, LoraLayer], adapter: str) -> None:
    """Every second user of a Parameter gets a copy; averaging hooks go."""
    seen: set[int] = set()
    for layer in layers.values():
        for module in pair(layer, adapter):
            for key, parameter in list(module.named_parameters(recurse=False)):
                if parameter in _MEAN:
                    _MEAN[parameter].remove()
                    del _MEAN[parameter]
                if id(parameter) in seen:
                    copy = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
                    setattr(module, key, copy)
                seen.add(id(parameter))


def _merge(plan: DropPlan, layers: dict[str, LoraLayer]) -> None:
    for owner, others in plan.groups.items():
        pairs = [pair(layers[name], plan.adapter) for name in (owner, *others)]
        lora_A, lora_B = pairs[0]
        scaling = layers[owner].scaling[plan.adapter]
        A, B = best_shared_pair([a.weight for a, _ in pairs], [b.weight for _, b in pairs], scaling)
        with torch.no_grad():
            if lora_B.bias is not None:
                lora_B.bias.copy_(torch.stack([b.bias for _, b in pairs]).mean(0))
            lora_A.weight.copy_(A)
            lora_B.weight.copy_(B)


def _average_gradients(model: nn.Module, plan: DropPlan, layers: dict[str, LoraLayer]) -> None:
    """`∂L/∂A → (1/n)·∂L/∂A` for the n users of a pair, where the model was applied with shared_grad="mean"."""
    if vars(unwrap(model)).get(_RECORD, {}).get(plan.adapter) != "mean":
        return
    for owner, members in plan.groups.items():
        n = 1 + len(members)
        for parameter in pair_parameters(layers[owner], plan.adapter).values():
            if n > 1 and parameter.requires_grad and parameter not in _MEAN:
                _MEAN[parameter] = _divide(parameter, n)


def _divide(parameter: nn.Parameter, n: int) -> RemovableHandle:
    handle: RemovableHandle = parameter.register_hook(lambda grad: grad / n)  # type: ignore[no-untyped-call]
    return handle


def _remove(model: nn.Module, plan: DropPlan, layers: dict[str, LoraLayer]) -> None:
    """Take the dropped modules out of the adapter, and leave what PEFT would have built on the kept names."""
    config, base = adapter_config(model, plan.adapter), base_model(model)
    if config.bias == "lora_only":
        raise TieError("share_by='none' cannot undo biases trained by LoraConfig.bias='lora_only'; set it to 'none'")
    for name in plan.dropped:
        layer = layers.pop(name, None)
        if layer is None:
            continue
        active = list(layer.active_adapters)
        with warnings.catch_warnings():  # PEFT announces which adapter it makes active instead; we put ours back
            warnings.simplefilter("ignore")
            layer.delete_adapter(plan.adapter)
        if layer.lora_A or layer.lora_embedding_A:
            layer.set_adapter(active)
        else:
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, layer.base_layer)
    kept = _expected(plan)
    config.target_modules = _targets(base, kept)
    config.layers_to_transform = config.layers_pattern = None
    tuner = getattr(unwrap(model), "base_model", None)
    if tuner is not None and hasattr(tuner, "targeted_module_names"):
        tuner.targeted_module_names = list(kept)


def _targets(base: nn.Module, kept: list[str]) -> set[str] | str:
    """Full names; as one regular expression where PEFT's matching by suffix would find more than these."""
    chosen = set(kept)
    inside = tuple(f"{name}." for name in kept)
    others = [name for name, _ in base.named_modules() if name not in chosen and not name.startswith(inside)]
    if any(name.endswith(tuple(f".{k}" for k in kept)) for name in others):
        return "|".join(name.replace(".", r"\.") for name in kept)
    return chosen
