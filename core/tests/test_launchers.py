"""Sweeps in parallel and guided sweeps, through Hydra's own plugins; each is skipped where its plugin is not installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from fascicle.testing import run_fascicle

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
SMALL = ("experiment=smoke", "run.device=cpu", "training.max_steps=2")


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    missing = find_spec("hydra_plugins") is None or find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: pip install 'fascicle[{extra}]'")


def seeds_of(root: Path) -> list[int]:
    return sorted(json.loads(file.read_text(encoding="utf-8"))["seed"] for file in root.glob("smoke/*/result.json"))


@needs("hydra_plugins.hydra_joblib_launcher", "joblib")
def test_joblib_runs_a_sweep_in_parallel(tmp_path: Path) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = run_fascicle("run", "-m", *SMALL, "seed=1,2,3", *launcher, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert seeds_of(tmp_path / "outputs") == [1, 2, 3]


@needs("hydra_plugins.hydra_joblib_launcher", "joblib")
def test_joblib_passes_an_error_on_in_our_words(tmp_path: Path) -> None:
    done = run_fascicle("run", "-m", *SMALL, "training.epochs=-1,1", "hydra/launcher=joblib", cwd=tmp_path, timeout=600)
    assert done.returncode == 2
    assert "error: training.epochs" in done.stderr


@needs("hydra_plugins.hydra_ray_launcher", "ray")
def test_ray_runs_a_sweep(tmp_path: Path) -> None:
    done = run_fascicle("run", "-m", *SMALL, "seed=1,2", "hydra/launcher=ray", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert seeds_of(tmp_path / "outputs") == [1, 2]


@needs("hydra_plugins.hydra_submitit_launcher", "submitit")
def test_submitit_runs_a_sweep_here(tmp_path: Path) -> None:
    done = run_fascicle("run", "-m", *SMALL, "seed=1,2", "hydra/launcher=submitit_local", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert seeds_of(tmp_path / "outputs") == [1, 2]


@needs("hydra_plugins.hydra_optuna_sweeper", "optuna")
def test_optuna_optimises_the_primary_metric(tmp_path: Path) -> None:
    sweeper = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.direction=maximize",
    )
    space = "training.learning_rate=interval(0.0001,0.01)"
    done = run_fascicle("run", "-m", *SMALL, *sweeper, space, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(seeds_of(tmp_path / "outputs")) == 3
    found = (tmp_path / "outputs" / "optimization_results.yaml").read_text(encoding="utf-8")
    assert "training.learning_rate" in found
    assert "best_value" in found
