"""Set-ups in which sharing goes wrong silently, refused before they train (our measurements).

The paper trains in one process. Under DistributedDataParallel with re-entrant checkpointing a shared pair is ready
once for each user: DDP reduces it after the first, and then either stops in the middle of the backward pass or goes on
with a wrong gradient. Per-layer FSDP cannot place a Parameter in two units. DeepSpeed ZeRO-3 and torch.compile are untested.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Literal

from .errors import GuardError
from .layers import lora_layers, pair_parameters, unwrap
from .tie import is_tied, shared_parameters, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch
    from torch import nn

    from .plan import DropPlan

__all__ = [
    "FSDP_MESSAGE",
    "check_loaded",
    "check_optimizer",
    "check_training",
    "drop_stale",
    "reentrant_checkpointing",
    "shard",
    "sync_shared_gradients",
]

logger = logging.getLogger(__name__)

FSDP_MESSAGE = (
    "LoRA-drop shares Parameters between layers, and FSDP per layer cannot: torch stops in the first forward. Shard "
    "the whole model as one unit (fully_shard(model)), or use "
    "guards.shard(model, plan, layers) with guards.sync_shared_gradients after each backward"
)

Fsdp = Literal["none", "root", "layers"]


def check_optimizer(optimizer: Any, model: nn.Module, adapter: str = "default") -> None:
    """Raise unless the optimizer holds the model's parameters as they are now.

    Args:
        optimizer: anything with `param_groups`.
        model: the model after `tie.apply`.
        adapter: the adapter.

    Raises:
        GuardError: it holds parameters that `apply` or `retie` has replaced, or lacks a LoRA parameter that trains.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> net = get_peft_model(nn.Sequential(nn.Linear(4, 3)), LoraConfig(r=2, target_modules=["0"]))
        >>> check_optimizer(torch.optim.SGD(net.parameters(), lr=0.1), net)
    """
    model = unwrap(model)
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    known = {id(p) for p in model.parameters()}
    stale = [p for key, p in held.items() if key not in known]
    if stale:
        raise GuardError(
            f"the optimizer holds {len(stale)} stale parameters (shapes {[tuple(p.shape) for p in stale[:3]]}) that "
            "the model no longer uses; build the optimizer after tie.apply / tie.retie"
        )
    for name, layer in lora_layers(model, adapter).items():
        if any(p.requires_grad and id(p) not in held for p in pair_parameters(layer, adapter).values()):
            raise GuardError(f"the optimizer lacks the LoRA of {name!r}; pass all trainable parameters to it")


def drop_stale(optimizer: Any, model: nn.Module) -> int:
    """Let an optimizer forget parameters that `retie` has just replaced; their number.

    Right only then: the shared pair that replaces them has the same values and is in the optimizer already. After
    `apply` build a new optimizer instead.
    """
    known, dropped = {id(p) for p in unwrap(model).parameters()}, 0
    for group in optimizer.param_groups:
        stale = [p for p in group["params"] if id(p) not in known]
        group["params"] = [p for p in group["params"] if id(p) in known]
        for parameter in stale:
            optimizer.state.pop(parameter, None)
        dropped += len(stale)
    return dropped


def check_training(
    model: nn.Module,
    *,
    adapter: str = "default",
    world_size: int = 1,
    gradient_checkpointing: bool | None = None,
    use_reentrant: bool | None = None,
    static_graph: bool | None = None,
    fsdp: Fsdp = "none",
    deepspeed_stage: int = 0,
) -> None:
    """Raise when shared pairs would get wrong gradients in this set-up; says nothing about a model without ties.

    Args:
        model: the model after `tie.apply`; a DDP wrapper is looked through (and its `static_graph` read).
        adapter: the adapter.
        world_size: number of processes.
        gradient_checkpointing: None asks the model's modules.
        use_reentrant: None asks the checkpoint function that transformers has set; unknown counts as re-entrant.
        static_graph: DDP's option; None asks the wrapper, False where there is none.
        fsdp: "root" for one unit around the model, "layers" for a unit a layer.
        deepspeed_stage: ZeRO stage.

    Raises:
        GuardError: DDP with re-entrant checkpointing and without static_graph; FSDP per layer.

    Example:
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> net = get_peft_model(nn.Sequential(nn.Linear(4, 3)), LoraConfig(r=2, target_modules=["0"]))
        >>> check_training(net, world_size=8, gradient_checkpointing=True, use_reentrant=True)  # nothing is shared
    """
    if not is_tied(model, adapter):
        return
    if fsdp not in ("none", "root", "layers"):
        raise GuardError(f"fsdp must be 'none', 'root' or 'layers', got {fsdp!r}")
    if fsdp == "layers":
        raise GuardError(FSDP_MESSAGE)
    if deepspeed_stage >= 3:
        logger.warning("LoRA-drop is untested under DeepSpeed ZeRO-3; compare a few gradients with one process first")
    if hasattr(model, "_orig_mod"):
        logger.warning("LoRA-drop is untested under torch.compile; compare a few losses with the eager model first")
    reentrant = reentrant_checkpointing(model)
    if gradient_checkpointing is False:
        reentrant = False
    elif use_reentrant is not None:
        reentrant = use_reentrant and (gradient_checkpointing or reentrant is not None)
    elif gradient_checkpointing and reentrant is None:
        reentrant = True  # unknown checkpoint function
    if static_graph is None:
        static_graph = bool(getattr(model, "static_graph", False))
    if world_size > 1 and reentrant and not static_graph and fsdp == "none":
        raise GuardError(
            "DistributedDataParallel with re-entrant gradient checkpointing does not work with shared LoRA: torch fails "
            "in the backward pass ('mark a variable ready only once'), or gives WRONG gradients silently. Set "
            "gradient_checkpointing_kwargs={'use_reentrant': False}, or DDP's static_graph=True "
            "(ddp_static_graph=True in TrainingArguments)"
        )


def reentrant_checkpointing(model: nn.Module) -> bool | None:
    """Whether the model checkpoints re-entrantly: True, False, or None where nothing is checkpointed.

    Example:
        >>> from torch import nn
        >>> reentrant_checkpointing(nn.Linear(2, 2)) is None
        True
    """
    found: bool | None = None
    for module in model.modules():
        if not getattr(module, "gradient_checkpointing", False):
            continue
        function: Callable[..., Any] | None = getattr(module, "_gradient_checkpointing_func", None)
        options = function.keywords if isinstance(function, functools.partial) else {}
        # torch takes a missing use_reentrant for True
        found = bool(found) or options.get("use_reentrant") is not False
    return found


def check_loaded(model: nn.Module, plan: DropPlan) -> None:
    """Raise when loading weights has untied the model, as `low_cpu_mem_usage=True` does: it assigns new tensors.

    Raises:
        GuardError: naming the first broken tie and the remedy.
    """
    report = verify(model, plan)
    if not report.ok:
        first = report.broken[0] if report.broken else f"{report.parameters} parameters, not {report.expected}"
        raise GuardError(
            f"loading has untied adapter {plan.adapter!r} ({first}), as low_cpu_mem_usage=True does: the copies would "
            "drift apart in training. Call tie.retie(model, plan), then build the optimizer"
        )


def shard(
    model: nn.Module, plan: DropPlan, layers: Sequence[nn.Module], **options: Any
) -> list[torch.nn.parameter.Parameter]:
    """FSDP2 per layer for a model with shared pairs: the pairs stay whole on every rank, all else is sharded.

    `ignored_params` goes to *every* `fully_shard` call, the root's included. FSDP does not reduce the gradients of
    ignored parameters: call `sync_shared_gradients` between `backward` and `optimizer.step`, or they are wrong.
    Rank 0's pairs are broadcast, so that all ranks start alike.

    Args:
        model: the model after `tie.apply`, with torch.distributed initialised.
        plan: its plan.
        layers: the modules to shard one by one, inner before outer, `model.base_model.model.model.layers` for example.
        options: for `torch.distributed.fsdp.fully_shard` (mesh, mp_policy, reshard_after_forward, ...).

    Returns:
        The shared Parameters, for `sync_shared_gradients`.
    """
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    shared = shared_parameters(model, plan)
    for parameter in shared:
        dist.broadcast(parameter.data, src=0)
    for module in (*layers, model):
        fully_shard(module, ignored_params=set(shared), **options)
    return shared


def sync_shared_gradients(shared: Iterable[nn.Parameter]) -> None:
    """Average the gradients of `shard`'s ignored pairs over all ranks, in one fixed order."""
    import torch.distributed as dist

    world = dist.get_world_size()
    for parameter in shared:  # a list: the order of a set differs between ranks, and the run would hang
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad.div_(world)
