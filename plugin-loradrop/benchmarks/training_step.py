"""What a training step costs once modules share their LoRA, and what optimizer and checkpoint weigh.

Plain LoRA and LoRA-drop at 50 % and at 60 % of its parameters train in turns, in random order, on the same batch: forward,
backward, clip, AdamW, zero. Process CPU time, medians, and medians of the ratios within a round. Prints one JSON object.

    python benchmarks/training_step.py --batch 32 --length 32 --rounds 30

The model is a BERT of 6 layers and width 384 (the shape of MiniLM-L6) with random weights and LoRA r = 8 on all six
linear types; weights do not matter to the time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

import fascicle_loradrop

if TYPE_CHECKING:
    from collections.abc import Callable

    from peft import PeftModel

TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
BUDGETS = {"loradrop_0.5": 0.5, "loradrop_0.6": 0.6}


def build(rank: int) -> PeftModel:
    """LoRA on all linear types, and nothing else trained."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS)
    return get_peft_model(BertForSequenceClassification(config), lora)


def trainer(model: PeftModel, batch: dict[str, torch.Tensor]) -> tuple[torch.optim.Optimizer, Callable[[], float]]:
    """The optimizer, and one step that tells its CPU time."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step() -> float:
        start = time.process_time()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start

    return optimizer, step


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of Adam's moments; the step counters, one number a tensor, are left out."""
    tensors = [v for state in optimizer.state.values() for k, v in state.items() if k != "step"]
    return sum(v.numel() * v.element_size() for v in tensors)


def weight(folder: Path) -> int:
    """Bytes of the tensors' files in a checkpoint."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    ids = torch.randint(1, 30000, (args.batch, args.length))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
    models = {"lora": build(args.rank), **{name: build(args.rank) for name in BUDGETS}}
    plans = {}
    for name, budget in BUDGETS.items():
        plans[name] = fascicle_loradrop.make_plan(models[name], [batch], budget=budget, steps=2)
        fascicle_loradrop.apply(models[name], plans[name])
    trainers = {name: trainer(model.train(), batch) for name, model in models.items()}

    seconds: dict[str, list[float]] = {name: [] for name in models}
    order = random.Random(0)
    for round_ in range(args.rounds + 3):
        for name in order.sample(list(models), len(models)):
            took = trainers[name][1]()
            if round_ >= 3:  # the first rounds warm caches and make Adam's moments
                seconds[name].append(took)

    report = {
        "setting": {**vars(args), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "cpu_seconds_median": {name: round(statistics.median(times), 4) for name, times in seconds.items()},
    }
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, "lora")
        models["lora"].save_pretrained(plain)
        for name, plan in plans.items():
            ordinary, small = Path(scratch, name), Path(scratch, f"{name}-compact")
            fascicle_loradrop.save(models[name], plan, ordinary)
            fascicle_loradrop.save_compact(models[name], plan, small)
            pairs = zip(seconds[name], seconds["lora"], strict=True)
            report[name] = {
                "parameters": round(plan.fraction, 4),
                "step_time_median_of_pairs": round(statistics.median(t / base for t, base in pairs), 4),
                "optimizer_state": round(state_bytes(trainers[name][0]) / state_bytes(trainers["lora"][0]), 4),
                "compact_checkpoint": round(weight(small) / weight(plain), 4),
                "vanilla_checkpoint": round(weight(ordinary) / weight(plain), 4),
            }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
