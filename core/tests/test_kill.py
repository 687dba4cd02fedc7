"""A run that is killed and started again with `run.resume=true` ends where an undisturbed one ends.

Real processes are killed with SIGKILL: at random moments, and at chosen ones that a clock would seldom hit (inside the writing of a
checkpoint, in evaluation, inside the writing of the result).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

OVERRIDES = [
    "experiment=smoke",
    "training=hf_trainer",
    "data.train_rows=256",
    "training.epochs=2",
    "training.batch_size=8",
    "training.learning_rate=1.0e-3",
    "training.checkpoint_every=5",
    "training.log_every=5",
    "seed=7",
    "run.threads=1",
]

# Runs the command line, and kills its own process at the n-th call of the named function.
SUICIDE = """
import importlib, os, signal, sys
module, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
holder = importlib.import_module(module)
for part in name.split(".")[:-1]:
    holder = getattr(holder, part)
name = name.split(".")[-1]
original, calls = getattr(holder, name), [0]
def deadly(*args, **kwargs):
    calls[0] += 1
    if calls[0] == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(holder, name, deadly)
from fascicle.cli import main
sys.exit(main(sys.argv[4:]))
"""


def command(folder: Path, *more: str) -> list[str]:
    return ["run", *OVERRIDES, f"run.dir={folder}", *more]


def start(arguments: list[str], *, script: str | None = None) -> subprocess.Popen[bytes]:
    head = [sys.executable, "-m", "fascicle.cli"] if script is None else [sys.executable, "-c", script]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*head, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()[-2000:]


def outcome(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    losses = [(row["step"], row["loss"]) for row in result["history"] if "loss" in row]
    return {"metrics": result["metrics"], "losses": losses}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    folder = tmp_path_factory.mktemp("kill") / "whole"
    begun = time.monotonic()
    finish(start(command(folder)))
    return outcome(folder), time.monotonic() - begun


@pytest.mark.parametrize("moment", range(7))
def test_killed_at_a_random_moment(tmp_path: Path, undisturbed: tuple[dict[str, Any], float], moment: int) -> None:
    expected, seconds = undisturbed
    share = (moment + random.Random(moment).random()) / 7  # one moment in each seventh of the run
    process = start(command(tmp_path / "run"))
    try:
        process.wait(timeout=share * seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.wait()
    finish(start(command(tmp_path / "run", "run.resume=true")))
    assert outcome(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("module", "function", "count"),
    [
        ("transformers.trainer", "Trainer._save_optimizer_and_scheduler", 3),
        ("fascicle.hf.evaluation", "evaluate", 1),
        ("fascicle.results", "os.replace", 2),
    ],
    ids=["inside a checkpoint", "in evaluation", "inside the result"],
)
def test_killed_where_it_hurts(
    tmp_path: Path, undisturbed: tuple[dict[str, Any], float], module: str, function: str, count: int
) -> None:
    expected, _ = undisturbed
    process = start([module, function, str(count), *command(tmp_path / "run")], script=SUICIDE)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the process was to be killed inside the run"
    assert not (tmp_path / "run" / "result.json").exists()
    finish(start(command(tmp_path / "run", "run.resume=true")))
    assert outcome(tmp_path / "run") == expected
