"""Two processes at the same global batch train what one process trains: same curve, same weights, same files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_tiny import bert, context, data, distance, llama, weights

from fascicle.hf.evaluation import evaluate
from fascicle.hf.objective import ModelLoss
from fascicle.hf.training import fit, train
from fascicle.hf.training_options import Classification, HfLora, LoraOptions, TrainerOptions

pytestmark = pytest.mark.slow

# 22 rows: the last step of an epoch has 6, in micro-batches of 2 per process
CHOSEN: dict[str, Any] = {
    "max_steps": 7,
    "batch_size": 8,
    "micro_batch_size": 2,
    "learning_rate": 1e-2,
    "log_every": 2,
    "eval_every": 3,
    "eval_batch_size": 3,
    "checkpoint_every": 2,
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes did: what each told, and its weights."""
    out = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("hf_two_processes.py")
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), str(out), json.dumps(CHOSEN)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    told = [json.loads((out / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    tensors = [torch.load(out / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1)]
    return {"out": out, "told": told, "weights": tensors}


@pytest.mark.parametrize(("name", "make"), [("bert", bert), ("llama", llama)])
def test_two_processes_train_as_one(name: str, make: Any, two: dict[str, Any], tmp_path: Path) -> None:
    model = make()
    fitted = fit(TrainerOptions(**CHOSEN), model, data(model.task), ModelLoss(), context(tmp_path))
    told = two["told"][0][name]
    assert [row["step"] for row in told] == [row["step"] for row in fitted.history]
    for there, here in zip(told, fitted.history, strict=True):
        assert there.keys() == here.keys()
        assert there == pytest.approx(here, rel=2e-4)
    assert distance(two["weights"][0][name], weights(model)) < 5e-5
    assert two["told"][0][f"{name} metrics"]["trainable_parameters"] == fitted.metrics["trainable_parameters"]


def test_steps_that_do_not_divide_are_trained_exactly_too(two: dict[str, Any], tmp_path: Path) -> None:
    model = bert()
    chosen = TrainerOptions(**{**CHOSEN, "micro_batch_size": 7, "batch_size": 7})  # 7 rows on 2 processes, one by one
    fit(chosen, model, data("classification"), ModelLoss(), context(tmp_path))
    assert distance(two["weights"][0]["odd"], weights(model)) < 5e-5


def test_adapters_train_as_on_one_process_and_one_process_saves(two: dict[str, Any], tmp_path: Path) -> None:
    result = train(
        HfLora(**CHOSEN, lora=LoraOptions(r=2)), bert(), data("classification"), ModelLoss(), context(tmp_path)
    )
    assert distance(two["weights"][0]["lora"], weights(result.model)) < 5e-5
    assert two["told"][0]["lora files"] == ["model", "train"]


def test_both_processes_hold_the_same_weights(two: dict[str, Any]) -> None:
    for name, tensors in two["weights"][0].items():
        assert distance(tensors, two["weights"][1][name]) == 0


def test_a_resumed_run_of_two_processes_is_bit_equal(two: dict[str, Any]) -> None:
    assert [told["resumed"] for told in two["told"]] == [True, True]


def test_the_main_process_evaluates_and_tells_the_other(two: dict[str, Any], tmp_path: Path) -> None:
    result = train(
        HfLora(**CHOSEN, lora=LoraOptions(r=2)), bert(), data("classification"), ModelLoss(), context(tmp_path)
    )
    here = evaluate(Classification(), result.model, data("classification"), None, context(tmp_path))  # type: ignore[arg-type]
    for told in two["told"]:
        assert told["measured"]["values"] == pytest.approx(here.values, rel=1e-3)
        assert told["measured"]["rows"] == 10
    assert all("labels per token" in told["refused"] for told in two["told"])


def test_tokens_and_rows_are_counted_over_both(two: dict[str, Any], tmp_path: Path) -> None:
    fit(TrainerOptions(**CHOSEN), bert(), data("classification"), ModelLoss(), context(tmp_path))
    markers = [
        json.loads((f / "train" / "checkpoint-7" / "complete.json").read_text())
        for f in (two["out"] / "bert", tmp_path)
    ]
    assert markers[0]["rows"] == markers[1]["rows"] == 22 + 22 + 8
    assert markers[0]["tokens"] == markers[1]["tokens"]
