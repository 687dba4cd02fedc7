"""Saving and loading: an ordinary LoRA checkpoint, and a compact one without the copies (our choice).

`save` writes what `save_pretrained` writes, where every member of a group has its own copy of the shared pair: any
loader of LoRA reads it, with one r and one alpha. `lora_drop.json` beside it brings the ties back. The compact form
holds each pair once; `expand` turns it into the ordinary form again, byte for byte. Nothing is unpickled, and the
conversions between the two forms import neither PEFT nor transformers.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import StorageError
from .plan import DropPlan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from peft import PeftConfig, PeftModel
    from torch import Tensor, nn

__all__ = ["COMPACT_FILE", "PLAN_FILE", "compact", "expand", "load", "load_plan", "save", "save_compact", "write_plan"]

PLAN_FILE = "lora_drop.json"
COMPACT_FILE = "lora_drop.safetensors"
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
ALIAS = "lora_drop_alias"
_PREFIX = "base_model.model."
_SUFFIXES = (".lora_A.weight", ".lora_B.weight", ".lora_B.bias")


def save(model: nn.Module, plan: DropPlan, directory: str | os.PathLike[str], **options: Any) -> Path:
    """Write the adapter as an ordinary LoRA checkpoint, with `lora_drop.json` beside it.

    Files are written to a sibling folder and then moved in, so that an interrupted save leaves no half adapter. Other
    files in `directory` stay.

    Args:
        model: a `PeftModel` after `tie.apply`.
        plan: its plan.
        directory: where to; as in PEFT, an adapter that is not called "default" goes into a sub-folder of its name.
        options: for `PeftModel.save_pretrained`.

    Returns:
        The folder with `adapter_config.json`.

    Raises:
        TieError: the model is not shared as planned (its copies would differ).

    Example:
        >>> from torch import nn
        >>> from fascicle_loradrop.plan import DropPlan
        >>> from peft import LoraConfig, get_peft_model
        >>> from fascicle_loradrop.energies import Energies
        >>> from fascicle_loradrop.tie import apply
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        >>> net = get_peft_model(net, LoraConfig(r=2, lora_alpha=2, target_modules=["0", "1"]))
        >>> e = Energies.from_arrays(names=["0", "1"], g=[8, 1], d_in=4, d_out=4, r=2)
        >>> plan = DropPlan.from_energies(e, keep=1)
        >>> _ = apply(net, plan)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(p.name for p in save(net, plan, folder).iterdir())
        ['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'lora_drop.json']
    """
    from .tie import verify

    peft_model = _peft_model(model)
    verify(peft_model, plan).raise_for_broken()
    directory = Path(directory)
    with _staging(directory) as temporary:
        peft_model.save_pretrained(str(temporary), selected_adapters=[plan.adapter], **options)
        folder = _adapter_folder(temporary, plan)
        (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
    return _adapter_folder(directory, plan)


def write_plan(plan: DropPlan, directory: str | os.PathLike[str]) -> Path:
    """Write only `lora_drop.json`, beside an adapter that something else (a Trainer) has saved."""
    folder = _adapter_folder(Path(directory), plan)
    folder = folder if folder.is_dir() else Path(directory)
    with _staging(folder) as temporary:
        (temporary / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
    return folder / PLAN_FILE


def load_plan(directory: str | os.PathLike[str]) -> DropPlan:
    """Read `lora_drop.json` of a folder.

    Raises:
        StorageError: there is none.
        PlanError: it was tampered with, or is of another version.
    """
    path = Path(directory) / PLAN_FILE
    if not path.is_file():
        raise StorageError(f"{PLAN_FILE} is missing in {path.parent}; it was not saved by fascicle_loradrop.save")
    return DropPlan.from_json(path.read_text(encoding="utf-8"))


def load(
    base_model: nn.Module,
    directory: str | os.PathLike[str],
    is_trainable: bool = False,
    *,
    adapter: str | None = None,
    config: PeftConfig | None = None,
) -> PeftModel:
    """Load a saved adapter with its ties, and verify them.

    For inference alone, `PeftModel.from_pretrained` gives the same outputs; the ties matter to further training.

    Args:
        base_model: the plain base model; it gets the LoRA layers.
        directory: what `save` returned.
        is_trainable: for further training.
        adapter: name of the adapter in the new model; that of the plan by default.
        config: a `LoraConfig` to use instead of the saved one.

    Raises:
        PlanError: another base model, or a plan that was tampered with.
        StorageError: no plan, or no safetensors file (a pickled adapter is never opened).
        TieError: the weights are not shared as the plan says.
    """
    from peft import PeftModel

    from .tie import retie
    from .validate import check_base

    directory = Path(directory)
    plan = load_plan(directory)
    if adapter is not None:
        plan = plan.renamed(adapter)
    if not (directory / WEIGHTS_FILE).is_file():
        raise StorageError(f"{WEIGHTS_FILE} is missing in {directory}; pickled adapters are not loaded")
    check_base(plan, base_model)
    model = PeftModel.from_pretrained(
        base_model, str(directory), adapter_name=plan.adapter, is_trainable=is_trainable, config=config
    )
    retie(model, plan)
    return model


def save_compact(model: nn.Module, plan: DropPlan, directory: str | os.PathLike[str], **options: Any) -> Path:
    """Write the adapter with every shared pair once: `lora_drop.safetensors`, the config and the plan.

    Args:
        model, plan, options: as for `save`.
        directory: a folder. PEFT does not read this form, see `expand`.

    Returns:
        The folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        return compact(save(model, plan, temporary, **options), directory)


def compact(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Path:
    """Turn an ordinary checkpoint with a plan into the compact form; reads and writes safetensors, needs no model.

    Raises:
        StorageError: a member's tensor is not that of its owner, so dropping it would lose weights.
    """
    source, target = Path(source), Path(target)
    plan = load_plan(source)
    tensors, metadata = _read(source / WEIGHTS_FILE)
    alias = {key: owner for key, owner in _aliases(plan) if owner in tensors}
    for key, owner in alias.items():
        if key not in tensors:
            raise StorageError(f"{source / WEIGHTS_FILE} lacks {key!r}; it is no complete LoRA checkpoint")
        if not _same_bytes(tensors[key], tensors[owner]):
            raise StorageError(f"{key!r} differs from {owner!r}, which the plan says it shares; was it saved untied?")
    unique = {key: tensor for key, tensor in tensors.items() if key not in alias}
    with _staging(target) as temporary:
        text = json.dumps(alias, separators=(",", ":"))
        save_file(unique, temporary / COMPACT_FILE, metadata={**metadata, ALIAS: text})
        for name in (CONFIG_FILE, PLAN_FILE):
            shutil.copyfile(source / name, temporary / name)
    return target


def expand(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Path:
    """Turn the compact form into an ordinary LoRA checkpoint; reads and writes safetensors, needs no model.

    Raises:
        StorageError: not a compact checkpoint, or one whose aliases are not those of its plan.
    """
    source, target = Path(source), Path(target)
    plan = load_plan(source)
    tensors, metadata = _read(source / COMPACT_FILE)
    try:
        alias = json.loads(metadata.pop(ALIAS))
    except (KeyError, json.JSONDecodeError) as error:
        raise StorageError(f"{source / COMPACT_FILE} has no list of aliases; is it a compact checkpoint?") from error
    if alias != {key: owner for key, owner in _aliases(plan) if owner in tensors}:
        raise StorageError(f"the aliases of {COMPACT_FILE} are not those of {PLAN_FILE}; the two are of different runs")
    tensors |= {key: tensors[owner].clone() for key, owner in alias.items()}
    with _staging(target) as temporary:
        save_file(dict(sorted(tensors.items())), temporary / WEIGHTS_FILE, metadata=metadata)
        for name in (CONFIG_FILE, PLAN_FILE):
            shutil.copyfile(source / name, temporary / name)
    return target


def _peft_model(model: nn.Module) -> PeftModel:
    from peft import PeftModel

    from .layers import unwrap

    model = unwrap(model)
    if not isinstance(model, PeftModel):
        raise StorageError(f"expected a PeftModel, got {type(model).__name__}; wrap it with peft.get_peft_model")
    return model


def _adapter_folder(directory: Path, plan: DropPlan) -> Path:
    return directory if plan.adapter == "default" else directory / plan.adapter


def _aliases(plan: DropPlan) -> Iterator[tuple[str, str]]:
    """`(member's key, owner's key)` in PEFT's file format."""
    for owner, members in plan.groups.items():
        for member in members:
            yield from ((f"{_PREFIX}{member}{end}", f"{_PREFIX}{owner}{end}") for end in _SUFFIXES)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            return {key: file.get_tensor(key) for key in keys}, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} is no readable safetensors file: {error}") from error


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    """Equality of bits: NaN equals itself."""
    same = a.dtype == b.dtype and a.shape == b.shape
    return same and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """A folder beside `directory`, moved into it at the end; the plan last, so that it never outruns its weights."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        yield temporary
        files = [path for path in temporary.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == PLAN_FILE, path)):
            goal = directory / path.relative_to(temporary)
            goal.parent.mkdir(parents=True, exist_ok=True)
            path.replace(goal)
    except OSError as error:
        raise StorageError(f"could not write to {directory}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
