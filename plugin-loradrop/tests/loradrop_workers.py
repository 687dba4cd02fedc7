"""Two gloo processes for the distributed tests: `python loradrop_workers.py RANK WORLD FOLDER`.

Every case compares gradients (or energies) with those that one process gets on the whole batch, and writes the largest
difference, or the message of the error, to FOLDER/results.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from loradrop_models import llama, rows_of, token_batch, wake
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fascicle_loradrop.guards import check_training, shard, sync_shared_gradients
from fascicle_loradrop.layers import lora_layers, pair_parameters
from fascicle_loradrop.plan import DropPlan
from fascicle_loradrop.score import score
from fascicle_loradrop.tie import apply, shared_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

WHOLE = token_batch([8] * 4, causal=True)  # of one length, so that the mean of means is the mean


def build(checkpointing: bool | None = None) -> tuple[nn.Module, DropPlan]:
    """The same tied model on every rank; `checkpointing` is use_reentrant, None for none."""
    model = wake(llama(layers=4))
    plan = DropPlan.from_energies(score(model, [WHOLE]), threshold=0.6)
    apply(model, plan, init="keep")
    if checkpointing is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": checkpointing})
        model.enable_input_require_grads()
    return model.train(), plan


def mine() -> dict[str, Tensor]:
    rank = dist.get_rank()
    return rows_of(WHOLE, [2 * rank, 2 * rank + 1])


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, layer in lora_layers(model).items():
        for key, parameter in pair_parameters(layer, "default").items():
            grad = parameter.grad
            found[f"{name}.{key}"] = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
    return found


def reference() -> dict[str, Tensor]:
    model, _ = build()
    model(**WHOLE).loss.backward()
    return gradients(model)


def distance(model: nn.Module) -> float:
    expected = reference()
    return max(float((grad - expected[name]).abs().max()) for name, grad in gradients(model).items())


def ddp(checkpointing: bool | None, static_graph: bool, guarded: bool = True) -> float:
    model, _ = build(checkpointing)
    wrapped = DistributedDataParallel(model, static_graph=static_graph)
    if guarded:
        check_training(wrapped, world_size=dist.get_world_size())
    wrapped(**mine()).loss.backward()
    return distance(model)


def fsdp_root() -> float:
    model, _ = build()
    check_training(model, world_size=2, fsdp="root")
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    model(**mine()).loss.backward()
    return distance(model)


def fsdp_layers_guarded() -> float:
    model, _ = build()
    check_training(model, world_size=2, fsdp="layers")
    return 0.0


def fsdp_layers_bare() -> float:
    model, _ = build()
    for module in (*model.base_model.model.model.layers, model):
        fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
    model(**mine()).loss.backward()
    return distance(model)


def fsdp_recipe() -> float:
    model, plan = build()
    if dist.get_rank() == 1:  # shard() must make ranks start alike
        with torch.no_grad():
            for parameter in shared_parameters(model, plan):
                parameter.mul_(3)
    shared = shard(model, plan, list(model.base_model.model.model.layers), mesh=init_device_mesh("cpu", (2,)))
    model(**mine()).loss.backward()
    sync_shared_gradients(shared)
    return distance(model)


def fsdp_recipe_without_sync() -> float:
    model, plan = build()
    shard(model, plan, list(model.base_model.model.model.layers), mesh=init_device_mesh("cpu", (2,)))
    model(**mine()).loss.backward()
    return distance(model)


def energies() -> float:
    model = wake(llama(layers=2))
    whole = score(model, [WHOLE])
    parts = score(model, [mine()], all_reduce=True)
    assert (parts.n_tokens == whole.n_tokens).all()
    return float(abs(parts.g / whole.g - 1).max())


CASES: dict[str, Callable[[], float]] = {
    "ddp": lambda: ddp(None, False),
    "ddp non-reentrant": lambda: ddp(False, False),
    "ddp reentrant static": lambda: ddp(True, True),
    "ddp reentrant": lambda: ddp(True, False),
    "ddp reentrant unguarded": lambda: ddp(True, False, guarded=False),
    "fsdp root": fsdp_root,
    "fsdp layers": fsdp_layers_guarded,
    "fsdp layers unguarded": fsdp_layers_bare,
    "fsdp recipe": fsdp_recipe,
    "fsdp recipe without sync": fsdp_recipe_without_sync,
    "energies": energies,
}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=world)
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        try:
            results[name] = case()
        except (ValueError, RuntimeError) as error:
            results[name] = str(error)
        dist.barrier()
    if rank == 0:
        (folder / "results.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
