"""Files with a few rows, tiny models, and a few steps of training, for the tests of data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from fascicle.hf.model_options import Tiny
from fascicle.hf.models import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

SMALL: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2}


def tiny(run: RunContext, architecture: Any = "bert", **options: Any) -> LoadedModel:
    return load_model(Tiny(architecture=architecture, **{**SMALL, **options}), run)


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def jsonl(path: Path, rows: Sequence[Any]) -> str:
    return written(path, "".join(json.dumps(row) + "\n" for row in rows))


def rows(data: Data, split: str = "train") -> list[dict[str, Any]]:
    return [dict(row) for row in data.splits[split]]


REVIEWS = "text,label\n" + "".join(f"review {i},{'good' if i % 3 else 'bad'}\n" for i in range(12))


def train(model: LoadedModel, data: Data, epochs: int, rate: float = 2e-3, size: int = 32) -> None:
    features = data.encode("train", model)
    made, collate = [features[i] for i in range(len(features))], data.collate(model)
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=rate)
    steps = epochs * (len(made) // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / (steps + 1))
    )
    generator = torch.Generator().manual_seed(0)
    model.model.train()
    for _ in range(epochs):
        order = torch.randperm(len(made), generator=generator).tolist()
        for start in range(0, len(made) - size + 1, size):
            model.model(**collate([made[i] for i in order[start : start + size]])).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.model.eval()
