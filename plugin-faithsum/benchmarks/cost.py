"""What guidance costs: time of a training step and of a summary, guided against the same BART without, side by side.

    python plugin-faithsum/benchmarks/cost.py [--width 384] [--layers 6] [--source 256] [--summary 48] [--rounds 9] [--json FILE]

Both models have the same random base; rounds alternate their order; each round's ratio is taken, and their median is told
with quartiles. Summaries are written greedily to an equal length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BartConfig, BartForConditionalGeneration

from fascicle_faithsum.modeling import GuidedForConditionalGeneration


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("width", 384), ("layers", 6), ("source", 256), ("summary", 48), ("rounds", 9), ("rows", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--latents", nargs="+", default=["sentence", "bernoulli", "gaussian"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [
        measure(latent, task, options) for latent in options.latents for task in ("training step", "greedy", "beam 4")
    ]
    for row in rows:
        print(f"{row['latent']:<10} {row['task']:<14} {row['ratio']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]")
    if options.json is not None:
        options.json.write_text("".join(json.dumps({**row, **_setting(options)}) + "\n" for row in rows))


def measure(latent: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """Ratio of guided to plain time."""
    torch.manual_seed(1)
    base = BartForConditionalGeneration(
        BartConfig(
            vocab_size=8000,
            d_model=options.width,
            encoder_layers=options.layers,
            decoder_layers=options.layers,
            encoder_attention_heads=options.width // 64,
            decoder_attention_heads=options.width // 64,
            encoder_ffn_dim=4 * options.width,
            decoder_ffn_dim=4 * options.width,
            max_position_embeddings=max(512, options.source),
        )
    )
    guided = GuidedForConditionalGeneration.from_base(base, latent_type=latent)
    batch = _batch(options)
    plain_batch = {name: value for name, value in batch.items() if name != "segment_ids"}
    work: dict[str, Callable[[], None]] = {
        "guided": _work(guided, batch, task, options),
        "plain": _work(base, plain_batch, task, options),
    }
    for run in work.values():
        run()
    ratios = []
    for number in range(options.rounds):
        seconds = {}
        for name in sorted(work, reverse=bool(number % 2)):
            start = time.perf_counter()
            work[name]()
            seconds[name] = time.perf_counter() - start
        ratios.append(seconds["guided"] / seconds["plain"])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"latent": latent, "task": task, "ratio": middle, "low": low, "high": high, "rounds": options.rounds}


def _work(model: Any, batch: dict[str, torch.Tensor], task: str, options: argparse.Namespace) -> Callable[[], None]:
    if task == "training step":
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

        def step() -> None:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step
    model.eval()
    asked = {name: value for name, value in batch.items() if name != "labels"}
    length = {"min_new_tokens": options.summary, "max_new_tokens": options.summary}
    beams = 4 if task.startswith("beam") else 1

    def write() -> None:
        with torch.no_grad():
            model.generate(**asked, num_beams=beams, do_sample=False, **length)

    return write


def _batch(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    shape = (options.rows, options.source)
    return {
        "input_ids": torch.randint(10, 8000, shape),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "segment_ids": (torch.arange(options.source) // 32).expand(shape).contiguous(),
        "labels": torch.randint(10, 8000, (options.rows, options.summary)),
    }


def _setting(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("width", "layers", "source", "summary", "rows")} | {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
