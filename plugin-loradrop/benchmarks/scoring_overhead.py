"""How much CPU time scoring adds to an eval forward, and how exact it is.

Three forwards are interleaved in random order, so that a noisy machine disturbs them alike: bare, with the Gram hooks
of `EnergyMeter`, and with hooks on `lora_B` (`direct=True`). Process CPU time, not wall time; medians. The bare forward
runs under `torch.no_grad` in eval mode, too. Prints one JSON object.

    python benchmarks/scoring_overhead.py --batch 32 --length 64 --rounds 40

The model is a BERT of 6 layers and width 384 (the shape of MiniLM-L6) with random weights and LoRA r = 8 on all six
linear types; weights do not matter to the time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

from fascicle_loradrop.score import EnergyMeter, score

if TYPE_CHECKING:
    from collections.abc import Callable

    from peft import PeftModel

TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


def build(rank: int) -> PeftModel:
    """A scored model: B is not zero."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, task_type="SEQ_CLS")
    model = get_peft_model(BertForSequenceClassification(config), lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model.eval()


def cpu_seconds(forward: Callable[[], object]) -> float:
    """Process CPU time of one call."""
    start = time.process_time()
    forward()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    model = build(args.rank)
    ids = torch.randint(1, 30000, (args.batch, args.length))
    mask = torch.ones_like(ids)
    mask[::2, args.length * 3 // 4 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask}

    def bare() -> float:
        with EnergyMeter(model):
            pass  # the same preamble as below: what was touched last decides what is in the caches
        with torch.no_grad():
            return cpu_seconds(lambda: model(**batch))

    # meters are entered around each forward only, so that the bare one runs without any hook
    def scored(direct: bool) -> Callable[[], float]:
        def timed() -> float:
            with EnergyMeter(model, direct=direct):
                return cpu_seconds(lambda: model(**batch))

        return timed

    kinds = {"bare": bare, "gram": scored(False), "direct": scored(True)}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = random.Random(0)
    for round_ in range(args.rounds + 3):
        for kind in order.sample(list(kinds), len(kinds)):
            took = kinds[kind]()
            if round_ >= 3:  # the first rounds warm caches
                seconds[kind].append(took)
    median = {kind: statistics.median(times) for kind, times in seconds.items()}
    # each round compares forwards that ran next to each other
    paired = {
        kind: statistics.median(t / b for t, b in zip(seconds[kind], seconds["bare"], strict=True)) - 1
        for kind in ("gram", "direct")
    }
    gram, direct = score(model, [batch]).g, score(model, [batch], direct=True).g
    report = {
        "setting": {**vars(args), "modules": len(gram), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "cpu_seconds_median": {kind: round(value, 5) for kind, value in median.items()},
        "overhead_of_medians": {kind: round(median[kind] / median["bare"] - 1, 4) for kind in ("gram", "direct")},
        "overhead_median_of_pairs": {kind: round(value, 4) for kind, value in paired.items()},
        "gram_against_direct_max_relative_difference": float((abs(gram - direct) / direct).max()),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
