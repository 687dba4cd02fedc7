"""What each of two processes does in `test_hf_distributed`: started by torchrun, writes what the test compares."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import contextlib

import torch
from hf_tiny import bert, data, equal, llama, weights
from transformers import TrainerCallback

from fascicle.context import RunContext
from fascicle.errors import FascicleError
from fascicle.hf.evaluation import evaluate
from fascicle.hf.objective import ModelLoss
from fascicle.hf.training import add_lora, fit, train
from fascicle.hf.training_options import Classification, HfLora, LoraOptions, Perplexity, TrainerOptions

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class Stop(Exception):
    """The kill."""


class StopAt(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= 4:
            raise Stop


def run(folder: Path, resume: bool = False) -> RunContext:
    return RunContext(folder=folder, seed=1, rank=RANK, world_size=WORLD, resume=resume)


def main(out: Path, chosen: dict[str, Any]) -> None:
    told: dict[str, Any] = {}
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    options = TrainerOptions(**chosen)
    for name, make in (("bert", bert), ("llama", llama)):
        model = make()
        fitted = fit(options, model, data(model.task), ModelLoss(), run(out / name))
        told[name], tensors[name] = fitted.history, weights(model)
        told[f"{name} metrics"] = fitted.metrics

    one_by_one = bert()
    fit(
        TrainerOptions(**{**chosen, "micro_batch_size": 1, "batch_size": 7}),
        one_by_one,
        data("classification"),
        ModelLoss(),
        run(out / "odd"),
    )
    tensors["odd"] = weights(one_by_one)

    lora = HfLora(**chosen, lora=LoraOptions(r=2))
    result = train(lora, bert(), data("classification"), ModelLoss(), run(out / "lora"))
    told["lora files"] = sorted(p.name for p in (out / "lora").iterdir()) if RANK == 0 else []
    tensors["lora"] = weights(result.model)

    whole = add_lora(bert(dropout=0.2), LoraOptions(r=2), run(out / "whole"))
    fit(options, whole, data("classification"), ModelLoss(), run(out / "whole"))
    killed = add_lora(bert(dropout=0.2), LoraOptions(r=2), run(out / "killed"))
    with contextlib.suppress(Stop):
        fit(options, killed, data("classification"), ModelLoss(), run(out / "killed"), callbacks=[StopAt()])
    again = add_lora(bert(dropout=0.2), LoraOptions(r=2), run(out / "killed"))
    fit(options, again, data("classification"), ModelLoss(), run(out / "killed", resume=True))
    told["resumed"] = equal(weights(whole), weights(again))

    measured = evaluate(Classification(), result.model, data("classification"), None, run(out / "lora"))  # type: ignore[arg-type]
    told["measured"] = {"values": measured.values, "rows": len(list(measured.per_example["accuracy"]))}
    try:
        evaluate(Perplexity(split="train"), result.model, data("classification"), None, run(out / "lora"))  # type: ignore[arg-type]
    except FascicleError as error:
        told["refused"] = str(error)
    torch.save(tensors, out / f"weights-{RANK}.pt")
    (out / f"told-{RANK}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
    torch.distributed.destroy_process_group()
