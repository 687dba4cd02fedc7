"""Training: `fit`, and the core's answers to `fascicle_train`.

`fit` trains a model in place, on one process or, started by torchrun or accelerate, on many. What is resumed after a kill ends
with the weights and the history of a run that was left alone, bit for bit, on the same machine with the same number of processes.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ConfigError, DataError, OutputFolderError
from ..objects import TrainResult
from .adapters import AdaLoraAllocation, add_adalora, add_lora, add_vera
from .batches import StepBatches
from .checkpoints import latest, load_weights, prune, read_marker, whole
from .trainer import Arguments, ObjectiveTrainer, Stateful
from .training_options import HfAdaLora, HfLora, HfTrainer, HfVera, NoTraining

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerCallback

    from ..context import RunContext
    from ..objects import Data, LoadedModel, Objective
    from .training_options import TrainerOptions

__all__ = [
    "FitResult",
    "add_lora",
    "count_parameters",
    "fit",
    "save_model",
    "total_steps",
    "train",
    "train_adalora",
    "train_full",
    "train_lora",
    "train_none",
    "train_vera",
]

_UNSEEN = {"log_every", "eval_every", "eval_batch_size", "checkpoint_every", "keep_checkpoints", "micro_batch_size"}
"""Options that change no weight, so a checkpoint may be resumed with others."""


@dataclass(kw_only=True)
class FitResult:
    """What `fit` did; the model was trained in place."""

    history: list[dict[str, float]] = field(default_factory=list)
    """One row per logged step: `step`, `epoch`, `loss`, `learning_rate`, `grad_norm`, the objective's parts, `eval_*`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`trainable_parameters`, `total_parameters`, `steps`, `train_seconds`, `tokens_per_second`, `examples_per_second`,
    `optimizer_bytes`."""
    steps: int = 0


def fit(
    options: TrainerOptions,
    model: LoadedModel,
    data: Data,
    objective: Objective,
    run: RunContext,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    subdir: str = "train",
    prepare: Callable[[ObjectiveTrainer], None] | None = None,
    dataset: Any = None,
) -> FitResult:
    """Train `model.model` in place: what of it requires a gradient, wrapped by adapters or not.

    Checkpoints are written to `run.folder/subdir`. With `run.resume` training continues from the newest complete one, and where
    the last step was reached already it only loads the weights; without, earlier checkpoints of the stage are deleted.

    Args:
        options: how to train.
        model: is left in eval mode, with its `use_cache` as it was.
        data: rows of `train`, and of `validation` where `options.eval_every` is set.
        objective: gives the loss.
        run: seed, folder, device.
        callbacks: more `TrainerCallback`s; one that has `save_state` and `load_state` has its state kept in checkpoints.
        subdir: folder of the stage, for methods that train more than once.
        prepare: called with the trainer just before it trains.
        dataset: encoded rows to train on instead of `data.encode("train", model)`.

    Raises:
        ConfigError: options that this machine or model cannot run, or a loss that is not a number.
        DataError: no training rows, or none to measure on.
        OutputFolderError: checkpoints of other options or of another model.

    >>> FitResult(steps=3).metrics
    {}
    """
    args = _arguments(options, run, run.folder / subdir)
    _check(options, model, args)
    rows = _encoded(data, "train", model, "training") if dataset is None else dataset
    batches = _batches(options, rows, run.seed, args)
    steps = total_steps(options, len(rows))
    _set_steps(args, options, steps, batches)
    stage = run.folder / subdir
    facts = {"options": _seen(options), "training_rows": len(rows), "steps": steps}
    checkpoint = _open_stage(stage, facts, args, resume=run.resume)
    parameters = count_parameters(model.model)
    watching = list(callbacks)
    if checkpoint is not None and (read_marker(checkpoint) or {})["step"] >= steps:
        _finished(model.model, checkpoint, watching)
    else:
        evaluated = _encoded(data, "validation", model, "training.eval_every") if options.eval_every else None
        skeleton = _skeleton(model.model) if options.fsdp is not None else None
        with _as_it_was(model.model), run.progress("Training", total=steps) as bar:
            trainer = ObjectiveTrainer(
                objective=objective,
                batches=batches,
                collate=data.collate(model),
                bar=bar,
                keep=options.keep_checkpoints,
                facts=facts,
                callbacks=watching,
                model=model.model,
                args=args,
                train_dataset=rows,
                eval_dataset=evaluated,
            )
            _train(trainer, checkpoint, prepare, bar)
            model.model = _plain(trainer) if skeleton is None else _gathered(trainer, skeleton)
            del trainer
            if args.world_size > 1 or args.device.type != "cpu":
                gc.collect()  # DDP's hooks on the parameters and the optimizer's memory go with the trainer
        checkpoint = latest(stage)
    if checkpoint is None:
        raise OutputFolderError(f"{stage}: the last checkpoint is gone; is something else deleting files there?")
    return _report(checkpoint, steps, parameters)


def total_steps(options: TrainerOptions, rows: int) -> int:
    """Optimizer steps that `fit` will take on so many rows.

    >>> from fascicle.hf.training_options import TrainerOptions
    >>> total_steps(TrainerOptions(epochs=2, batch_size=8), rows=20)
    6
    """
    return options.max_steps or max(1, math.ceil(options.epochs * math.ceil(rows / options.batch_size)))


def count_parameters(model: nn.Module) -> dict[str, float]:
    """Numbers of all and of trained parameters; what is shared counts once.

    >>> from torch import nn
    >>> layer = nn.Linear(3, 2)
    >>> count_parameters(nn.Sequential(layer, layer))
    {'trainable_parameters': 8.0, 'total_parameters': 8.0}
    """
    distinct = {(p.data_ptr() or id(p), p.numel()): p for p in model.parameters()}.values()
    trained = sum(p.numel() for p in distinct if p.requires_grad)
    return {"trainable_parameters": float(trained), "total_parameters": float(sum(p.numel() for p in distinct))}


def save_model(model: LoadedModel, run: RunContext, name: str = "model") -> Path:
    """Save the model or adapter and its tokenizer to `run.folder/name`, as `from_pretrained` reads them; on the main process only.

    The folder appears whole or not at all.
    """
    folder = run.folder / name
    save = getattr(model.model, "save_pretrained", None)
    if not run.is_main:
        return folder
    new = run.path(f".{name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if save is not None:
        with _no_bars():
            save(new)
    else:
        from safetensors.torch import save_model as save_tensors

        save_tensors(model.model, str(new / "model.safetensors"))
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(new)
    if folder.exists():
        shutil.rmtree(folder)
    new.rename(folder)
    return folder


# ---- answers to `fascicle_train` ----------------------------------------------------------------------------------------


def train(cfg: Any, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Answer of `fascicle_train` for the core's own options.

    Raises:
        ConfigError, DataError, OutputFolderError: see `fit`.
    """
    answers: dict[type, Callable[..., TrainResult]] = {
        NoTraining: train_none,
        HfTrainer: train_full,
        HfLora: train_lora,
        HfAdaLora: train_adalora,
        HfVera: train_vera,
    }
    return answers[type(cfg)](cfg, model, data, objective, run)


def train_none(cfg: NoTraining, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Leave the model as it is."""
    counted = count_parameters(model.model)
    return TrainResult(model=model, metrics={**counted, "trainable_parameters": 0.0})


def train_full(
    cfg: TrainerOptions, model: LoadedModel, data: Data, objective: Objective, run: RunContext
) -> TrainResult:
    """Train all weights."""
    model.model.requires_grad_(True)
    return _result(model, fit(cfg, model, data, objective, run), run)


def train_lora(cfg: HfLora, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Train LoRA adapters (and a classifier's head)."""
    adapted = add_lora(model, cfg.lora, run)
    return _result(adapted, fit(cfg, adapted, data, objective, run), run)


def train_adalora(cfg: HfAdaLora, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Train AdaLoRA adapters; the page tells which ranks they ended with."""
    rows = _encoded(data, "train", model, "training")
    steps = total_steps(cfg, len(rows))
    adapted = add_adalora(model, cfg, steps, run)
    allocation = AdaLoraAllocation(adapted.model)
    fitted = fit(cfg, adapted, data, objective, run, callbacks=[allocation], dataset=rows)
    result = _result(adapted, fitted, run)
    result.sections.append(allocation.section())
    return result


def train_vera(cfg: HfVera, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
    """Train VeRA's vectors (and a classifier's head)."""
    adapted = add_vera(model, cfg, run)
    return _result(adapted, fit(cfg, adapted, data, objective, run), run)


def _result(model: LoadedModel, fitted: FitResult, run: RunContext) -> TrainResult:
    folder = save_model(model, run)
    return TrainResult(model=model, history=fitted.history, metrics=fitted.metrics, artifacts={"model": folder})


# ---- parts of fit -------------------------------------------------------------------------------------------------------


def _arguments(options: TrainerOptions, run: RunContext, stage: Path) -> Arguments:
    """The Trainer's arguments; the steps are set once the rows are counted."""
    on_cpu = run.device == "cpu"
    if options.precision == "fp16" and on_cpu:
        raise ConfigError(
            "training.precision: got 'fp16' on a CPU, expected 'fp32' or 'bf16'; fp16 needs a GPU (run.device=cuda)"
        )
    more: dict[str, Any] = {}
    if options.gradient_checkpointing:
        newer = "activation_checkpointing" in Arguments.__dataclass_fields__  # how newer transformers call it
        name = "activation_checkpointing" if newer else "gradient_checkpointing"
        more |= {name: True, f"{name}_kwargs": {"use_reentrant": options.use_reentrant}}
    if options.fsdp is not None:
        more |= {"fsdp": True, "fsdp_config": {**options.fsdp, "version": 2, "state_dict_type": "FULL_STATE_DICT"}}
    args = Arguments(
        output_dir=str(stage),
        seed=run.seed,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(options.schedule, options.schedule),
        max_grad_norm=options.max_grad_norm,
        per_device_eval_batch_size=options.eval_batch_size,
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        use_cpu=on_cpu,
        logging_steps=options.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would wait for the device at every micro-batch, and hide a divergence
        eval_strategy="steps" if options.eval_every else "no",
        eval_steps=options.eval_every,
        remove_unused_columns=False,  # the data's collator decides
        disable_tqdm=True,
        report_to="none",
        **more,
    )
    if run.device.startswith("cuda") and args.world_size == 1:
        args.chosen = torch.device(run.device)
        torch.cuda.set_device(args.chosen)
    return args


def _check(options: TrainerOptions, model: LoadedModel, args: Arguments) -> None:
    trained = [p for p in model.model.parameters() if p.requires_grad]
    if not trained:
        raise ConfigError(
            "training: no parameter of the model requires a gradient, expected at least one; choose training=none"
        )
    if options.precision == "fp16" and any(p.dtype is torch.float16 for p in trained):
        raise ConfigError(
            "training.precision: got 'fp16' with weights in float16, expected float32 weights, whose gradients can be scaled; "
            "set run.dtype=float32"
        )
    if options.fsdp is not None and (args.world_size == 1 or args.device.type == "cpu"):
        raise ConfigError(
            f"training.fsdp: got {args.world_size} process(es) on {args.device.type}, expected several on GPUs; "
            "start with torchrun, or leave it null"
        )


def _encoded(data: Data, split: str, model: LoadedModel, key: str) -> Any:
    if split not in data.splits:
        raise DataError(
            f"{key}: the data {data.name!r} has no split {split!r}, only {sorted(data.splits)}; give it one"
        )
    rows = data.encode(split, model)
    if len(rows) == 0:
        raise DataError(f"{key}: the split {split!r} of {data.name!r} has no rows, expected at least one")
    return rows


def _batches(options: TrainerOptions, rows: Any, seed: int, args: Arguments) -> StepBatches:
    lengths = [len(row) for row in rows["input_ids"]] if options.group_by_length else None
    return StepBatches(
        rows=len(rows),
        batch_size=options.batch_size,
        micro_batch_size=options.micro_batch_size or math.ceil(options.batch_size / args.world_size),
        seed=seed,
        rank=args.process_index,
        world_size=args.world_size,
        lengths=lengths,
    )


def _set_steps(args: Arguments, options: TrainerOptions, steps: int, batches: StepBatches) -> None:
    args.max_steps = steps
    args.warmup_steps = math.ceil(options.warmup_ratio * steps)
    args.save_steps = steps if options.fsdp is not None else options.checkpoint_every or math.ceil(steps / 4)
    args.save_only_model = (
        options.fsdp is not None
    )  # shards of an optimizer are not resumed from, so they are not written
    args.gradient_accumulation_steps = batches.accumulation
    args.per_device_train_batch_size = min(batches.micro_batch_size, batches.rows)


def _seen(options: TrainerOptions) -> dict[str, Any]:
    told = {name: value for name, value in dataclasses.asdict(options).items() if name not in _UNSEEN}
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain


def _open_stage(stage: Path, facts: dict[str, Any], args: Arguments, *, resume: bool) -> Path | None:
    """Delete what is partial, and all where the run is a new one; the checkpoint to continue from, if any."""
    if args.process_index == 0:
        stage.mkdir(parents=True, exist_ok=True)
        prune(stage, keep=None if resume else 0)
    args.distributed_state.wait_for_everyone()
    checkpoint = latest(stage)
    if checkpoint is not None:
        told = read_marker(checkpoint) or {}
        differ = sorted(name for name in facts if told.get(name) != facts[name])
        if differ:
            was, now = ({name: side.get(name) for name in differ} for side in (told, facts))
            raise OutputFolderError(
                f"{checkpoint} was made with {was}, this run has {now}; resume with the options it was made with, "
                "or start again with run.overwrite=true"
            )
    return checkpoint


def _train(
    trainer: ObjectiveTrainer, checkpoint: Path | None, prepare: Callable[[ObjectiveTrainer], None] | None, bar: Any
) -> None:
    if prepare is not None:
        prepare(trainer)
    if checkpoint is not None:
        trainer.resume(checkpoint)
        bar.advance((read_marker(checkpoint) or {})["step"])
    trainer.start_clock()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def _finished(model: nn.Module, checkpoint: Path, callbacks: Sequence[Any]) -> None:
    load_weights(model, checkpoint)
    for callback in callbacks:
        if isinstance(callback, Stateful):
            callback.load_state(checkpoint)
    model.eval()


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """transformers draws a bar of its own while it writes weights."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what the Trainer does to a model besides training it: no cache, wrapped forward, recomputed activations."""
    config: Any = getattr(model, "config", None)
    use_cache = getattr(config, "use_cache", None)
    own_forward = "forward" in vars(model)
    try:
        yield
    finally:
        if not own_forward:
            vars(model).pop("forward", None)  # what accelerate leaves behind of mixed precision
        if use_cache is not None:
            config.use_cache = use_cache
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            for name in ("activation_checkpointing_disable", "gradient_checkpointing_disable"):
                if callable(disable := getattr(model, name, None)):
                    disable()
                    break
        model.zero_grad(set_to_none=True)
        model.eval()


def _plain(trainer: ObjectiveTrainer) -> nn.Module:
    """The trained model without accelerate's wrappers."""
    plain: nn.Module = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    trainer.model_wrapped = plain
    return plain


def _skeleton(model: nn.Module) -> nn.Module:
    """A copy of the model without weights: FSDP turns those of the model itself into shards, for good."""
    memo: dict[int, Any] = {
        id(p): torch.nn.Parameter(p.to("meta"), requires_grad=p.requires_grad) for p in model.parameters()
    }
    return copy.deepcopy(model, memo)


def _gathered(trainer: ObjectiveTrainer, skeleton: nn.Module) -> nn.Module:
    """The whole trained model on the main process; the others, which only wait from here on, keep one without weights."""
    full = whole(trainer.accelerator.get_state_dict(trainer.model))
    if trainer.args.process_index == 0:
        skeleton.load_state_dict(full, assign=True)
        if callable(tie := getattr(skeleton, "tie_weights", None)):
            tie()
        skeleton.to(trainer.args.device)
    return skeleton.eval()


def _report(checkpoint: Path, steps: int, parameters: dict[str, float]) -> FitResult:
    """History and metrics, from the last checkpoint alone: so a resumed run reports what an undisturbed one does."""
    told = read_marker(checkpoint) or {}
    log = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    history: dict[int, dict[str, float]] = {}
    for row in log:
        history.setdefault(row["step"], {"step": row["step"]}).update(row)
    seconds = max(told["seconds"], 1e-9)
    metrics = {
        **parameters,
        "steps": float(steps),
        "train_seconds": told["seconds"],
        "tokens_per_second": told["tokens"] / seconds,
        "examples_per_second": told["rows"] / seconds,
        "optimizer_bytes": float(told["optimizer_bytes"]),
    }
    return FitResult(history=list(history.values()), metrics=metrics, steps=steps)
