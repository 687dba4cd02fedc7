"""transformers' own trainers: wrap, train, generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from faithsum_models import base, documents, guided, without_labels
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from fascicle_faithsum.diagnostics import CollapseMonitor
from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.recipe import Recipe
from fascicle_faithsum.trainer import GuidanceCallback, GuidanceTrainer


def _rows(count: int = 16) -> list[dict[str, torch.Tensor]]:
    batch = documents((11,) * count, seed=1)
    return [{name: value[i] for name, value in batch.items()} for i in range(count)]


def _collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _arguments(folder: Path, **changes: Any) -> Seq2SeqTrainingArguments:
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 20,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-3,
        "logging_steps": 5,
        "report_to": [],
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 1,
        "dataloader_pin_memory": False,
    }
    return Seq2SeqTrainingArguments(**{**given, **changes})


def test_a_plain_trainer_trains_and_generates(tmp_path: Path) -> None:
    model = guided(awake=False, init_std=0.02, recipe=Recipe(source_dropout=0.3))
    trainer = Seq2SeqTrainer(
        model, _arguments(tmp_path), train_dataset=_rows(), data_collator=_collate, callbacks=[GuidanceCallback()]
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    assert model.progress == pytest.approx(19 / 20)
    assert model.generate(**without_labels(documents()), max_new_tokens=4).shape[0] == 3


def test_parts_are_logged_and_predictions_are_text(tmp_path: Path) -> None:
    model = guided(recipe=Recipe(beta=1.0, beta_warmup=0.5))
    monitor = CollapseMonitor([documents()])
    trainer = GuidanceTrainer(
        model,
        _arguments(
            tmp_path,
            predict_with_generate=True,
            generation_max_length=6,
            gradient_accumulation_steps=2,
            max_steps=4,
            logging_steps=2,
        ),
        train_dataset=_rows(),
        eval_dataset=_rows(4),
        data_collator=_collate,
        callbacks=[monitor],
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["beta"] for row in rows] == pytest.approx([0.25, 1.0])  # steps at 0, 1/4; at 1/2, 3/4
    assert all(row["kl"] > 0 and row["reconstruction"] > 0 for row in rows)
    found = trainer.predict(_rows(4))
    assert found.predictions.shape[0] == 4
    assert monitor.history


@pytest.mark.parametrize("stop", [3])
def test_a_resumed_run_is_the_whole_run(tmp_path: Path, stop: int) -> None:
    def run(folder: Path, resume: bool) -> list[float]:
        model = guided(dropout=0.0, recipe=Recipe(beta=1.0, beta_warmup=1.0, source_dropout=0.5))
        trainer = GuidanceTrainer(
            model,
            _arguments(folder, max_steps=6, logging_steps=1, save_strategy="steps", save_steps=stop),
            train_dataset=_rows(),
            data_collator=_collate,
        )
        trainer.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{stop}") if resume else None)
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]

    assert run(tmp_path / "a", False)[stop:] == pytest.approx(run(tmp_path / "b", True)[stop:], rel=1e-5)


def test_a_model_without_guidance(tmp_path: Path) -> None:
    with pytest.raises(GuidanceError, match="expected a guided one"):
        GuidanceTrainer(base(), _arguments(tmp_path), train_dataset=_rows())
