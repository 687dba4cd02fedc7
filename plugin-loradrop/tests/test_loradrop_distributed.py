"""Two real gloo processes give the gradients of one, or our own error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import loradrop_workers
import pytest

from fascicle_loradrop.guards import FSDP_MESSAGE


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All cases in one pair of processes: starting them is what takes time."""
    folder = tmp_path_factory.mktemp("gloo")
    script = Path(loradrop_workers.__file__)
    paths = [str(script.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(
    "case", ["ddp", "ddp non-reentrant", "ddp reentrant static", "fsdp root", "fsdp recipe", "energies"]
)
def test_two_processes_agree_with_one(results, case):
    assert results[case] <= 1e-6


def test_reentrant_checkpointing_under_ddp_is_refused_because_torch_fails_or_errs(results):
    assert "use_reentrant" in results["ddp reentrant"]
    bare = results["ddp reentrant unguarded"]
    failed = isinstance(bare, str) and "mark a variable ready only once" in bare
    assert failed or bare > 1e-4, "torch gives right gradients now: the guard can go"


def test_fsdp_per_layer_raises_our_message(results):
    assert results["fsdp layers"] == FSDP_MESSAGE
    assert "shared with a parameter already managed" in results["fsdp layers unguarded"]


def test_the_recipe_needs_its_synchronisation(results):
    assert results["fsdp recipe without sync"] > 1e-4
