"""Checkpoints that are complete or do not exist: a folder counts only once `complete.json` lists what is in it.

A checkpoint holds the exact training state (trained weights, buffers, optimizer, scheduler, random states), not a model to
publish: that is `model/` beside it. Weights are named and shared tensors stored once, so that any module can be resumed,
wrapped by an adapter or not, with tied layers or not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import OutputFolderError
from ..results import atomic_write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "latest",
    "load_weights",
    "mark_complete",
    "prune",
    "read_marker",
    "save_weights",
    "trained_tensors",
    "whole",
]

MARKER = "complete.json"
WEIGHTS = "training_weights.safetensors"
PREFIX = "checkpoint-"


def mark_complete(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the marker: the names and sizes of the files, and `facts` to find again when resuming.

    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp()) / "checkpoint-3"
    >>> folder.mkdir()
    >>> _ = (folder / "a").write_text("12")
    >>> mark_complete(folder, {"seconds": 1.5})
    >>> read_marker(folder)["files"], latest(folder.parent).name
    ({'a': 2}, 'checkpoint-3')
    """
    files = {
        str(p.relative_to(folder)): p.stat().st_size
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MARKER
    }
    atomic_write_text(folder / MARKER, json.dumps({**facts, "files": files}, indent=1) + "\n")


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What `mark_complete` wrote, or None where a listed file is missing, has another size, or the marker itself is not there."""
    try:
        told = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in told["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return told if whole else None


def latest(stage: Path) -> Path | None:
    """The newest complete checkpoint of a stage, None where there is none."""
    return next((folder for _, folder in reversed(_steps(stage)) if read_marker(folder)), None)


def prune(stage: Path, keep: int | None = None) -> None:
    """Delete incomplete checkpoints, and all but the `keep` newest complete ones."""
    complete = [folder for _, folder in _steps(stage) if read_marker(folder)]
    kept = set(complete if keep is None else complete[max(0, len(complete) - keep) :])
    for _, folder in _steps(stage):
        if folder not in kept:
            (folder / MARKER).unlink(
                missing_ok=True
            )  # a kill half-way leaves an incomplete one, never one that seems whole
            shutil.rmtree(folder)


def trained_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What training changes: trainable parameters and saved buffers, each shared tensor once, under its first name.

    >>> from torch import nn
    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.bias.requires_grad_(False)
    >>> [name for name, _ in trained_tensors(layer)]
    ['weight']
    """
    for name, parameter in module.named_parameters():  # each once, whatever it is tied to
        if parameter.requires_grad:
            yield name, parameter
    persistent = module.state_dict(keep_vars=True).keys()
    for name, buffer in module.named_buffers():
        if name in persistent:
            yield name, buffer


def save_weights(module: nn.Module, folder: Path, full: Mapping[str, Tensor] | None = None) -> None:
    """Write the trained tensors; `full` has them gathered where the module's own are shards."""
    from safetensors.torch import save_file

    tensors = {name: (tensor if full is None else full[name]) for name, tensor in trained_tensors(module)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().contiguous().cpu().clone() for name, t in tensors.items()}, folder / WEIGHTS)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without shards, on the CPU; every process must ask together.

    >>> whole({"a": torch.ones(1)})
    {'a': tensor([1.])}
    """
    return {name: (t.full_tensor() if hasattr(t, "full_tensor") else t).cpu() for name, t in tensors.items()}


def load_weights(module: nn.Module, folder: Path) -> None:
    """Put back what `save_weights` wrote, in place, so that ties and optimizers stay valid.

    Raises:
        OutputFolderError: the checkpoint is of another model.
    """
    from safetensors.torch import load_file

    found = load_file(folder / WEIGHTS)
    own = dict(trained_tensors(module))
    wrong = sorted(found.keys() ^ own.keys()) or sorted(n for n, t in own.items() if t.shape != found[n].shape)
    if wrong:
        raise OutputFolderError(
            f"{folder}: the checkpoint is of another model ({len(wrong)} tensors differ, for example {wrong[0]!r}); "
            "resume with the options it was made with, or start again with run.overwrite=true"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[name])


def _steps(stage: Path) -> list[tuple[int, Path]]:
    found = [(path.name.removeprefix(PREFIX), path) for path in stage.glob(f"{PREFIX}*") if path.is_dir()]
    return sorted((int(step), path) for step, path in found if step.isdigit())
