"""Training throughput of a run against a bare script on transformers' Trainer: the same model, rows, order of magnitude, and steps.

Both train LoRA on a classifier of MiniLM's shape (6 layers, width 384, random weights) on generated sentences; both log every
ten steps and write one checkpoint at the end. A round trains each once, in random order. Process CPU time of everything from
building the trainer to the last checkpoint, so start-up of the trainers counts too; medians, and the median of the ratios
within a round. Prints one JSON object; `throughput` is above 1 where the run is the faster one.

    python core/benchmarks/throughput.py --batch 16 --steps 20 --rounds 9
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from fascicle.hf.objective import ModelLoss
from fascicle.hf.training import fit
from fascicle.hf.training_options import TrainerOptions
from fascicle.testing import load, run_context

if TYPE_CHECKING:
    from fascicle.objects import Data, LoadedModel


def model_of(vocabulary: int) -> torch.nn.Module:
    """A fresh model with LoRA on every linear layer; no dropout, so that both draw as few random numbers."""
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    config = BertConfig(
        vocab_size=vocabulary, **shape, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0
    )
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="SEQ_CLS")
    return get_peft_model(BertForSequenceClassification(config), lora)


def ours(loaded: LoadedModel, data: Data, args: argparse.Namespace) -> float:
    """CPU seconds of `fit`, as a run calls it."""
    loaded.model = model_of(len(loaded.tokenizer))  # type: ignore[arg-type]
    options = TrainerOptions(
        max_steps=args.steps, batch_size=args.batch, learning_rate=1e-4, log_every=10, checkpoint_every=args.steps
    )
    with tempfile.TemporaryDirectory() as folder:
        run = run_context(Path(folder))
        start = time.process_time()
        fit(options, loaded, data, ModelLoss(), run)
        return time.process_time() - start


def bare(loaded: LoadedModel, data: Data, args: argparse.Namespace) -> float:
    """CPU seconds of what a user would write with the Trainer alone."""
    model = model_of(len(loaded.tokenizer))  # type: ignore[arg-type]
    rows = data.encode("train", loaded)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=args.steps,
            per_device_train_batch_size=args.batch,
            learning_rate=1e-4,
            warmup_steps=2,
            logging_steps=10,
            save_steps=args.steps,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        collate: Any = data.collate(loaded)
        Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate).train()
        return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=tiny_classifier", "data=generated_classification", "data.train_rows=640"]
        data, loaded = load(overrides, run_context(Path(folder)))
        kinds = {"fascicle": ours, "trainer": bare}
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        order = random.Random(0)
        for round_ in range(args.rounds + 1):
            for kind in order.sample(list(kinds), len(kinds)):
                took = kinds[kind](loaded, data, args)
                if round_:  # the first round warms caches
                    seconds[kind].append(took)
    ratios = [t / f for f, t in zip(seconds["fascicle"], seconds["trainer"], strict=True)]
    report = {
        "setting": {**vars(args), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "cpu_seconds_median": {kind: round(statistics.median(times), 3) for kind, times in seconds.items()},
        "throughput_median_of_pairs": round(statistics.median(ratios), 4),
        "throughput_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)],
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
