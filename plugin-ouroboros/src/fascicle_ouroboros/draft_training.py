"""`training=ouroboros_draft`: cut a draft model out of the run's model, let that model write, distil, save.

The target's texts are written to the run's folder before training begins, so that a resumed run does not write them again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fascicle.errors import ConfigError, DataError
from fascicle.hf.generation import prompts
from fascicle.hf.objective import ModelLoss
from fascicle.hf.training import count_parameters, fit, save_model
from fascicle.objects import TrainResult
from fascicle.results import atomic_write_text

from .acceptance import TARGET
from .draft import IGNORED, Distillation, fitting, own_outputs, prune_layers, quantized
from .errors import UnsupportedError

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel, Objective

    from .draft_options import OuroborosDraft

__all__ = ["train"]

log = logging.getLogger("fascicle.ouroboros")


def train(cfg: OuroborosDraft, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Make a draft model for `model`. Answers `fascicle_train`; the run goes on with the draft model.

    Raises:
        ConfigError: layers that the model has not, a model that cannot be cut, or an objective that would be ignored.
        DataError: no training rows.
    """
    if not isinstance(objective, ModelLoss):
        raise ConfigError(
            f"objective: got {type(objective).__name__} with training=ouroboros_draft, which imitates the model and asks no "
            "objective; set objective=model_loss"
        )
    run.seed_everything()
    try:
        if cfg.control == "quantized":
            net = quantized(model.model)
        else:
            net = prune_layers(model.model, cfg.layers if cfg.keep is None else cfg.keep)
    except UnsupportedError as error:
        key = "training.keep" if cfg.keep is not None else "training"
        raise ConfigError(f"{key}: {error}") from error
    drafted = dataclasses.replace(model, model=net, extra={**model.extra, TARGET: model})
    if cfg.control == "quantized":
        return TrainResult(model=drafted)
    facts = {"draft_layers": float(net.config.num_hidden_layers), **_sizes(model, drafted)}
    if cfg.control == "untrained":
        counted = {**count_parameters(net), "trainable_parameters": 0.0}
        return TrainResult(model=drafted, metrics={**counted, **facts}, artifacts={"model": save_model(drafted, run)})
    rows, seconds = _texts(cfg, model, data, run)
    net.requires_grad_(True)
    if not cfg.train_embeddings:
        for module in (net.get_input_embeddings(), net.get_output_embeddings()):
            module.requires_grad_(False)
    loss = Distillation(model.model, cross_entropy=cfg.cross_entropy, temperature=cfg.temperature)
    fitted = fit(cfg, drafted, data, loss, run, dataset=rows)
    labelled = sum(sum(label != IGNORED for label in row) for row in rows["labels"])
    return TrainResult(
        model=drafted,
        history=fitted.history,
        metrics={**fitted.metrics, **facts, "own_tokens": float(labelled), "own_seconds": seconds},
        artifacts={"model": save_model(drafted, run)},
    )


def _sizes(target: LoadedModel, draft: LoadedModel) -> dict[str, float]:
    sizes = [count_parameters(m.model)["total_parameters"] for m in (draft, target)]
    return {"draft_fraction": sizes[0] / sizes[1]}


def _texts(cfg: OuroborosDraft, model: LoadedModel, data: Data, run: RunContext) -> tuple[Any, float]:
    """Rows to train on, prompts masked, and the seconds that writing them took."""
    import datasets

    if "train" not in data.splits:
        raise DataError(
            f"training: the data {data.name!r} has no split 'train', only {sorted(data.splits)}; give it one"
        )
    features = data.encode("train", model)
    if len(features) == 0:
        raise DataError(f"training: the split 'train' of {data.name!r} has no rows, expected at least one")
    if cfg.source == "data":
        if "labels" not in features.column_names:
            raise ConfigError(
                f"training.source: got 'data', but rows of {data.name!r} have no completion; set data.completion_column, or "
                "training.source=greedy"
            )
        return features, 0.0
    asked = [list(row["input_ids"]) for row in prompts(features, model)]
    asked = fitting(asked, model.extra.get("max_length"), cfg.new_tokens)
    written, seconds = _written(cfg, model, asked, run)
    pairs = [(ids, text) for ids, text in zip(asked, written, strict=True) if text]
    columns = {
        "input_ids": [ids + text for ids, text in pairs],
        "attention_mask": [[1] * (len(ids) + len(text)) for ids, text in pairs],
        "labels": [[IGNORED] * len(ids) + text for ids, text in pairs],
    }
    return datasets.Dataset.from_dict(columns), seconds


def _written(
    cfg: OuroborosDraft, model: LoadedModel, asked: list[list[int]], run: RunContext
) -> tuple[list[list[int]], float]:
    """What the target writes after each prompt; each process writes a share. From the run's folder where it was kept."""
    kept = run.path("ouroboros", "own_outputs.json")
    how = [cfg.source, cfg.sample_temperature, cfg.new_tokens, cfg.write_batch_size, run.seed, model.fingerprint]
    key = hashlib.sha256(json.dumps([how, asked]).encode()).hexdigest()
    if run.resume and kept.exists():
        told = json.loads(kept.read_text(encoding="utf-8"))
        if told["key"] == key:
            log.info("the target's texts were written earlier, going on from them")
            return told["texts"], told["seconds"]
    started = time.perf_counter()
    model.model.eval()
    mine = asked[run.rank :: run.world_size]
    with run.progress("Writing texts to learn from", total=len(mine)) as bar:
        texts = own_outputs(
            model.model,
            mine,
            max_new_tokens=cfg.new_tokens,
            batch_size=cfg.write_batch_size,
            do_sample=cfg.source == "sample",
            temperature=cfg.sample_temperature,
            seed=(run.seed * 1_000_003 + run.rank) % 2**62,
            progress=bar.advance,
        )
    if run.world_size > 1:
        texts = _gathered(texts, run.world_size)
    seconds = time.perf_counter() - started
    if run.is_main:
        atomic_write_text(Path(kept), json.dumps({"key": key, "seconds": seconds, "texts": texts}) + "\n")
    return texts, seconds


def _gathered(texts: list[list[int]], world_size: int) -> list[list[int]]:
    """The shares of all processes, dealt back into the order of the prompts."""
    from accelerate.utils import gather_object

    shares: list[list[list[int]]] = gather_object([texts])
    total = sum(map(len, shares))
    return [shares[i % world_size][i // world_size] for i in range(total)]
