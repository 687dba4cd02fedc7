"""Batches: texts that are verified together in one pass, against one after the other, and against plain batched decoding.

The three write the same batch in turns; wall seconds, medians over the repeats. Every text must be that of plain decoding.

    FASCICLE_DATA=<folder with spec_bench/> python benchmarks/batches.py --rows 4 8

Without FASCICLE_DATA it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ouroboros_speed import load

from fascicle_ouroboros import DraftingOptions, OuroborosEngine


def prompts(folder: Path, category: str, count: int) -> list[str]:
    """The first prompts of a category of Spec-Bench."""
    with (folder / "spec_bench" / "question.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["turns"][0] for row in rows if row["category"] == category][:count]


def batch_of(texts: list[str], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Padded on the left."""
    rows = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in texts
    ]
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def main() -> None:
    """Measure and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("FASCICLE_DATA"))
    parser.add_argument("--category", default="translation")
    parser.add_argument("--rows", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.data is None:
        sys.stdout.write(
            "no measurement: --data, or FASCICLE_DATA in the environment, names the folder with spec_bench/\n"
        )
        return
    model, tokenizer = load(None, "cpu", "float32")
    settings = {"max_new_tokens": args.new_tokens, "min_new_tokens": args.new_tokens, "do_sample": False}
    settings["pad_token_id"] = 0
    for count in args.rows:
        batch = batch_of(prompts(Path(args.data), args.category, count), tokenizer)
        seconds: dict[str, list[float]] = {"plain": [], "one by one": [], "together": []}
        same: dict[str, float] = {}
        passes: dict[str, int] = {}
        for repeat in range(args.repeats):
            texts = {}
            names = list(seconds)
            for name in names[repeat % 3 :] + names[: repeat % 3]:
                rows = 1 if name == "one by one" else count
                engine = OuroborosEngine(model, options=DraftingOptions(batch_rows=rows))
                begin = time.perf_counter()
                write = model.generate if name == "plain" else engine.generate
                texts[name] = write(**batch, **settings)
                seconds[name].append(time.perf_counter() - begin)
                passes[name] = max((s.target_forwards for s in engine.row_stats), default=args.new_tokens)
            same = {n: float((out == texts["plain"]).all(1).float().mean()) for n, out in texts.items()}
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        line = {
            "rows": count,
            "category": args.category,
            "new_tokens": args.new_tokens,
            "threads": torch.get_num_threads(),
            "seconds": {name: round(value, 2) for name, value in middle.items()},
            "together / one by one": round(middle["together"] / middle["one by one"], 3),
            "together / plain": round(middle["together"] / middle["plain"], 3),
            "texts as in plain decoding": same,
            "passes of the slowest row": passes,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
