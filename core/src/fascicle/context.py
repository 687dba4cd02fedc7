"""What a run carries with it: seed, device, dtype, its folder, a logger, one progress bar, and its timings.

A run's folder is `<root>/<name>/<label>-<hash>`, where the hash is that of the configuration. So a killed run finds its folder
again by being started with the same configuration and `run.resume=true`. While a run is alive its folder is locked; the lock goes
with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ConfigError, OutputFolderError

if TYPE_CHECKING:
    from .config import Checked

__all__ = ["Bar", "RunContext", "open_run", "run_label"]

RUN_FILE, LOCK_FILE, RESULT_FILE = "run.json", ".lock", "result.json"


class Bar(Protocol):
    """A progress bar; `advance` counts, `note` says something beside it."""

    def advance(self, steps: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


class _Quiet:
    def advance(self, steps: int = 1) -> None:
        """Nothing to draw on."""

    def note(self, text: str) -> None:
        """Nothing to draw on."""


@dataclass(kw_only=True)
class RunContext:
    """One run's circumstances. Verbs receive it as `run`."""

    folder: Path
    seed: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    """Name of a torch dtype: the type of the weights."""
    resume: bool = False
    rank: int = 0
    world_size: int = 1
    name: str = "run"
    label: str = ""
    identity: str = ""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("fascicle"))
    show_progress: bool = False
    num_labels: int | None = None
    """Classes of the data that was loaded, for the model's head; None where the task has none."""
    label_names: list[str] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    """Phase to seconds of wall time."""
    overrides: list[str] = field(default_factory=list)

    @property
    def is_main(self) -> bool:
        """The process that writes files: rank 0."""
        return self.rank == 0

    def path(self, *parts: str) -> Path:
        """A path inside the run's folder, its parents made.

        Raises:
            ValueError: the path would lie outside the folder.
        """
        path = self.folder.joinpath(*parts)
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{'/'.join(parts)!r} leads out of the run's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def seed_everything(self, offset: int = 0) -> None:
        """Seed Python, numpy and torch with `seed + offset`; every phase of a run begins from a seed of its own."""
        import random

        import numpy as np
        import torch

        seed = (self.seed + offset) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - libraries below us draw from the legacy state
        torch.manual_seed(seed)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the wall time of the block to `timings[phase]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[phase] = self.timings.get(phase, 0.0) + time.perf_counter() - start

    @contextlib.contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Bar]:
        """One bar with the time left; quiet when nobody watches and on every process but the first."""
        if not (self.show_progress and self.is_main):
            yield _Quiet()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(title, total=total, note="")

            class Drawn:
                def advance(self, steps: int = 1) -> None:
                    progress.advance(task, steps)

                def note(self, text: str) -> None:
                    progress.update(task, note=text.replace("[", "\\["))

            yield Drawn()


def run_label(overrides: Sequence[str]) -> str:
    """The readable part of a run's folder, from its overrides.

    >>> run_label(["experiment=quick", "seed=2", "training=loradrop", "run.resume=true"])
    'seed=2,training=loradrop'
    """
    told = sorted(
        o.lstrip("+~") for o in overrides if not re.match(r"[+~]*(run\.|vars\.|report\.|experiment=|name=|hydra)", o)
    )
    return re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", ",".join(told))[:80].strip("._,") or "default"


def _identity_of(folder: Path) -> dict[str, Any] | None:
    """What run a folder says it holds; None where it holds none."""
    try:
        told = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputFolderError(f"{folder / RUN_FILE} cannot be read ({error}); choose another run.dir") from error
    return told if isinstance(told, dict) else None


def _choose_folder(checked: Checked, label: str) -> Path:
    """The folder of this run; may exist already if it is to be resumed. Nothing is written here."""
    options = checked.run
    if options.dir is not None:
        folder = Path(options.dir).expanduser()
        if not folder.exists() or not any(f.name != LOCK_FILE for f in folder.iterdir()):
            return folder
        told = _identity_of(folder)
        if told is None:
            raise OutputFolderError(
                f"run.dir={folder}: the folder is not empty and holds no run; choose another or empty it"
            )
        if told.get("identity") != checked.identity and not options.overwrite:
            differ = _differences(told.get("config", {}), checked.raw)
            raise OutputFolderError(
                f"run.dir={folder} holds another run (seed or options differ: {differ}); "
                "choose another folder, or delete it with run.overwrite=true"
            )
        if not (options.resume or options.overwrite):
            raise OutputFolderError(
                f"run.dir={folder} holds this run already; add run.resume=true or run.overwrite=true"
            )
        return folder
    base = Path(options.root).expanduser() / re.sub(r"[^A-Za-z0-9_.+-]+", "_", checked.name)
    stem = f"{label}-{checked.identity[:8]}"
    taken = [folder for n in range(1, 1000) if (folder := base / (stem if n == 1 else f"{stem}-{n}")).exists()]
    if taken and (options.resume or options.overwrite):
        return taken[-1]
    return base / (stem if not taken else f"{stem}-{len(taken) + 1}")


def _differences(old: Any, new: Any, path: str = "") -> str:
    found: list[str] = []

    def walk(a: Any, b: Any, path: str) -> None:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in sorted({*a, *b}):
                walk(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
        elif a != b:
            found.append(f"{path}: {a!r} there, {b!r} here")

    walk(old, new, path)
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


@contextlib.contextmanager
def open_run(checked: Checked, overrides: Sequence[str] = ()) -> Iterator[RunContext]:
    """Open this run's folder: choose or find it, lock it, say in it what it holds; seed and threads are set.

    Raises:
        OutputFolderError: the folder holds another run, holds no run, is in use, or cannot be written.
        ConfigError: a device that this machine does not have.
    """
    import torch
    from filelock import FileLock, Timeout

    label = checked.run.label or run_label(overrides)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = _device(checked.run.device)
    if checked.run.threads is not None:
        torch.set_num_threads(checked.run.threads)
    with contextlib.ExitStack() as stack:
        folder = _choose_folder(checked, label) if rank == 0 else Path()
        if rank == 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / LOCK_FILE, timeout=0))
            except Timeout as error:
                raise OutputFolderError(
                    f"{folder} is in use by a living run; wait for it, or choose another run.dir"
                ) from error
            except OSError as error:
                raise OutputFolderError(
                    f"{folder} cannot be written: {error}; choose another run.root or run.dir"
                ) from error
            if checked.run.overwrite:
                _empty(folder)
            _claim(folder, checked, overrides)
        if world_size > 1:
            folder = _agree(folder, device)
        yield RunContext(
            folder=folder,
            seed=checked.seed,
            device=device,
            dtype="float32" if checked.run.dtype == "auto" else checked.run.dtype,
            resume=checked.run.resume,
            rank=rank,
            world_size=world_size,
            name=checked.name,
            label=label,
            identity=checked.identity,
            show_progress=sys.stderr.isatty(),
            overrides=list(overrides),
        )


def _claim(folder: Path, checked: Checked, overrides: Sequence[str]) -> None:
    from .results import atomic_write_text

    told = {"identity": checked.identity, "name": checked.name, "overrides": list(overrides), "config": checked.raw}
    atomic_write_text(folder / RUN_FILE, json.dumps(told, indent=1, sort_keys=True) + "\n")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK_FILE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _agree(folder: Path, device: str) -> Path:
    """All processes of a distributed run work in the folder that rank 0 chose."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=device == "cpu")
    return Path(broadcast_object_list([str(folder)])[0])


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        wanted = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"run.device: this machine has no device {wanted!r} ({reason}); use auto or cpu") from error
    return wanted
