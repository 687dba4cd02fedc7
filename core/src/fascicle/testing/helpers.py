"""Small things that every test of a verb needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..context import RunContext
    from ..objects import Data, LoadedModel

__all__ = ["load", "run_context", "run_fascicle", "run_python"]


def run_context(
    folder: Path, seed: int = 1, *, device: str = "cpu", dtype: str = "float32", resume: bool = False
) -> RunContext:
    """A run on the CPU in `folder`, without locks, bars or configuration.

    >>> import tempfile, pathlib
    >>> run_context(pathlib.Path(tempfile.mkdtemp())).path("a", "b.txt").name
    'b.txt'
    """
    from ..context import RunContext

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext(folder=folder, seed=seed, device=device, dtype=dtype, resume=resume, name="test", label="test")


def load(overrides: Sequence[str], run: RunContext) -> tuple[Data, LoadedModel]:
    """Data and model as a run with these overrides would have them, e.g. `load(["model=tiny_causal_lm"], run)`.

    Raises:
        FascicleError: as the run would.
    """
    from ..config import check, compose
    from ..plugins import manager

    checked = check(compose(overrides))
    verbs = manager().verbs(checked.providers)
    run.seed_everything()
    data = verbs.load_data(checked.options["data"].value, run)
    run.label_names = list(data.label_names) if data.label_names is not None else None
    run.num_labels = max(1, len(run.label_names)) if run.label_names is not None else None
    run.seed_everything()
    return data, verbs.load_model(checked.options["model"].value, run)


def run_fascicle(
    *args: str, cwd: Path | None = None, env: Mapping[str, str | None] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`fascicle ARGS` in a process of its own; `env` adds variables, None removes one."""
    return _run([sys.executable, "-m", "fascicle.cli", *args], cwd, env, timeout)


def run_python(
    code: str, *args: str, cwd: Path | None = None, env: Mapping[str, str | None] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`python -c CODE ARGS` in a process of its own."""
    return _run([sys.executable, "-c", code, *args], cwd, env, timeout)


def _run(
    command: Sequence[str], cwd: Path | None, env: Mapping[str, str | None] | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    merged: dict[str, str | None] = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", **(env or {})}
    clean = {key: value for key, value in merged.items() if value is not None}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
