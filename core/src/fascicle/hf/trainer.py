"""transformers' Trainer, led by an objective: loss weights that add up, complete checkpoints, exact resumption, quiet logs.

Three things differ from the Trainer's own ways. Micro-batches are weighted by what they hold (targets or rows) instead of being
averaged, over accumulation and processes alike, so a step's gradient is that of its whole batch however it is split. A
checkpoint counts only when it is marked complete. And nothing waits for the device between two rows of the history.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from ..errors import ConfigError
from ..objects import Step
from .checkpoints import load_weights, mark_complete, prune, read_marker, save_weights, whole
from .objective import count_targets, shifts_labels

if TYPE_CHECKING:
    from torch import nn

    from ..objects import Objective
    from .batches import StepBatches

__all__ = ["Arguments", "ObjectiveTrainer", "Stateful"]


@runtime_checkable
class Stateful(Protocol):
    """A callback with a state of its own: it is written into each checkpoint and read back when a run resumes."""

    def save_state(self, folder: Path) -> None:
        """Write the state into the folder; called on the main process."""
        ...

    def load_state(self, folder: Path) -> None:
        """Read it back; called on every process, before training continues."""
        ...


class Arguments(TrainingArguments):
    """`TrainingArguments` on the device of the run, and on one device per process: several GPUs mean several processes.

    >>> import tempfile
    >>> Arguments(output_dir=tempfile.mkdtemp(), use_cpu=True, report_to="none").n_gpu
    0
    """

    chosen: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """The run's device."""
        found = super().device
        return self.chosen or found

    @property
    def n_gpu(self) -> int:
        """1, or 0 on a CPU: never transformers' DataParallel."""
        return min(1, int(super().n_gpu))


class _Flow(TrainerCallback):
    """The order of the epoch, the progress bar, and a row of the history with each checkpoint."""

    def __init__(self, batches: StepBatches, bar: Any) -> None:
        self.batches, self.bar = batches, bar

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.batches.set_epoch(state.global_step // self.batches.steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.advance(1)
        state.epoch = (
            state.global_step / self.batches.steps
        )  # by steps, not by micro-batches, whose number is no one's concern
        # a resumed run starts a new row here; so the undisturbed one must, or their rows would average other steps
        control.should_log |= control.should_save

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.bar.note(f"loss {logs['loss']:.4f}")


class ObjectiveTrainer(Trainer):
    """A Trainer whose loss is an `Objective`'s. Built by `fascicle.hf.training.fit`.

    Args:
        objective: gives the loss of each micro-batch.
        batches: which rows this process sees.
        collate: turns features into a batch.
        bar: progress bar, `advance(steps)` and `note(text)`.
        keep: complete checkpoints to keep.
        facts: written into each checkpoint's marker.
        **trainer: arguments of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        batches: StepBatches,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        bar: Any,
        keep: int,
        facts: Mapping[str, Any],
        callbacks: list[TrainerCallback],
        **trainer: Any,
    ) -> None:
        self.objective: Objective = objective
        self.batches, self.keep, self.facts = batches, keep, facts
        self.stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
        self.resumed_from: Path | None = None
        self.seconds = 0.0
        self.seen = {"tokens": 0, "rows": 0}  # by this process in this session
        self.earlier = {"tokens": 0, "rows": 0}  # by all processes in the sessions before
        self._clock = 0.0
        self._shares: deque[Tensor | float] = deque()
        self._targets: Tensor | None = None
        self._parts: dict[str, Tensor] = {}
        self._parts_since = 0
        self._random_restored = False
        self.collate = collate
        super().__init__(callbacks=[_Flow(batches, bar), *callbacks], **trainer)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        # compute_loss scales what it returns; the first name is that of newer transformers, the second of older ones
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.net: nn.Module = trainer["model"]
        self._shifted = shifts_labels(self.net)

    # ---- batches and loss -----------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The rows of this process; accelerate need not shard them again."""
        rows: Any = self.train_dataset
        return DataLoader(
            rows,
            batch_sampler=self.batches,
            collate_fn=self._collate_counted,
            pin_memory=self.args.device.type == "cuda",
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one step, and the number of targets (rows where there are no labels) in it over all processes."""
        if self.resumed_from is not None:  # before collating, since a collator may draw random numbers
            self._load_rng_state(str(self.resumed_from))
        found = [item for _, item in zip(range(num_batches), epoch_iterator, strict=False)]
        rows, batches = [n for n, _ in found], [batch for _, batch in found]
        labelled = bool(batches) and all("labels" in batch for batch in batches)
        real = [batch for n, batch in found if n]
        targets = sum(int(count_targets(batch, shifted=self._shifted)) for batch in real) if labelled else 0
        self.seen["tokens"] += sum(_tokens(batch) for batch in real)
        self.seen["rows"] += sum(rows)
        total = torch.tensor([targets, sum(rows)], dtype=torch.int64).to(device, non_blocking=True)
        if self.args.world_size > 1:
            dist.all_reduce(total)
            self._shares.extend(n and n * self.args.world_size / total[1] for n in rows)
        else:
            self._shares.extend(n / sum(rows) for n in rows)
        self._targets = total[0] if labelled else None
        return batches, total[0] if labelled else total[1]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The micro-batch's share of the step's loss; shares add up over micro-batches and average over processes."""
        share = self._shares.popleft()
        out = self.objective.loss(model, dict(inputs), self._step(), self._targets)
        counts = isinstance(share, Tensor) or share > 0
        loss = out.loss * (self.args.world_size if out.scaled and counts else share)
        for name, part in out.parts.items():
            value = torch.as_tensor(part, device=loss.device).detach().float() * share
            self._parts[name] = self._parts[name] + value if name in self._parts else value
        return (loss, out.outputs) if return_outputs else loss

    def _collate_counted(self, features: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        """The number of rows that count, and the batch. The loader collates right after the sampler has chosen."""
        return len(features) if self.batches.counts else 0, dict(self.collate(features))

    def floating_point_ops(self, inputs: dict[str, Tensor | Any]) -> int:
        """Not counted: it walks over all parameters at every step."""
        return 0

    # ---- history --------------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the objective's parts to a training row; refuse a loss that is not a number.

        Raises:
            ConfigError: training has diverged.
        """
        if "loss" in logs:
            logs |= self._mean_parts()
            if not math.isfinite(logs["loss"]):
                raise ConfigError(
                    f"training.learning_rate={self.args.learning_rate}: the loss is {logs['loss']} at step "
                    f"{self.state.global_step}, expected a number; lower the rate, clip with training.max_grad_norm, "
                    "or take training.precision=fp32"
                )
        super().log(logs, start_time)

    def _mean_parts(self) -> dict[str, float]:
        steps = self.state.global_step - self._parts_since
        self._parts_since = self.state.global_step
        if not self._parts:
            return {}
        names = list(self._parts)
        values = torch.stack([self._parts[name] for name in names])
        if self.args.world_size > 1:
            dist.all_reduce(values)
            values = values / self.args.world_size
        self._parts.clear()
        return dict(zip(names, (values / max(1, steps)).tolist(), strict=True))

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The objective on the validation rows, each process on its share: mean loss, parts, accuracy of a classifier."""
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        net: Any = self.model
        size, world = self.args.per_device_eval_batch_size, self.args.world_size
        batches = math.ceil(len(rows) / size)
        sums: dict[str, Tensor] = {}
        net.eval()
        for turn in range(math.ceil(batches / world)):
            index = turn * world + self.args.process_index
            real = (
                index < batches
            )  # all processes run equally often, as sharded models require; what is over counts nothing
            start = min(index, batches - 1) * size
            chosen = [rows[i] for i in range(start, min(start + size, len(rows)))]
            batch = self._prepare_inputs(dict(self.collate(chosen)))
            for name, value in self._measure(batch, len(chosen)).items():
                sums[name] = sums.get(name, 0.0) + value.double().cpu() * float(real)
        metrics = self._mean_sums(sums, metric_key_prefix)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _measure(self, batch: dict[str, Any], rows: int) -> dict[str, Tensor]:
        """Sums over one batch; what ends in `/` counts what they are to be divided by."""
        one = torch.ones((), device=self.args.device)
        net: Any = self.model
        out = self.objective.loss(net, batch, self._step(), one if "labels" in batch else None)
        count = count_targets(batch, shifted=self._shifted) if out.scaled else one * rows
        found = {"loss": out.loss if out.scaled else out.loss * rows, "/": count, "rows/": one * rows}
        for name, value in out.parts.items():
            found[f"part {name}"] = torch.as_tensor(value, device=self.args.device) * rows
        logits, labels = getattr(out.outputs, "logits", None), batch.get("labels")
        if not isinstance(logits, Tensor) or not isinstance(labels, Tensor) or labels.is_floating_point():
            return found
        if logits.shape[:-1] == labels.shape == (rows,):
            found["accuracy"] = (logits.argmax(-1) == labels).sum()
        return found

    def _mean_sums(self, sums: dict[str, Tensor], prefix: str) -> dict[str, float]:
        names = sorted(sums)
        values = torch.stack([sums[name] for name in names])
        if self.args.world_size > 1:
            values = values.to(self.args.device)
            dist.all_reduce(values)
        total = dict(zip(names, values.tolist(), strict=True))
        targets, rows = total.pop("/"), total.pop("rows/")
        means = {f"{prefix}_loss": total.pop("loss") / max(targets, 1.0)}
        return means | {f"{prefix}_{name.removeprefix('part ')}": value / rows for name, value in total.items()}

    def _step(self) -> Step:
        return Step(self.state.global_step, self.state.max_steps, float(self.state.epoch or 0.0))

    # ---- checkpoints ----------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """`seconds` counts from here, on top of what a checkpoint told; evaluation counts, writing checkpoints does not."""
        self._clock = time.perf_counter()

    def stop_clock(self) -> None:
        """Add the time since `start_clock`."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    def resume(self, folder: Path) -> None:
        """Take weights, counts and the callbacks' state from a complete checkpoint; `train(folder)` then does the rest."""
        marker = read_marker(folder) or {}
        self.seconds, self._parts_since = marker["seconds"], marker["step"]
        self.earlier = {name: marker[name] for name in self.earlier}
        self.resumed_from = folder
        for callback in self.stateful:
            callback.load_state(folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.stop_clock()
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        super()._save_checkpoint(model, trial)
        counts = self.counts()
        self.args.distributed_state.wait_for_everyone()  # every process has written its random state
        if self.args.should_save:
            for callback in self.stateful:
                callback.save_state(folder)
            told = {**self.facts, "step": self.state.global_step, "seconds": self.seconds, **counts}
            mark_complete(folder, told)
            prune(folder.parent, keep=self.keep)
        self.args.distributed_state.wait_for_everyone()
        self.start_clock()

    def counts(self) -> dict[str, int]:
        """Tokens and rows trained on, over all processes and sessions, and the bytes of this process's optimizer state."""
        seen = torch.tensor(list(self.seen.values()), dtype=torch.int64, device=self.args.device)
        if self.args.world_size > 1:
            dist.all_reduce(seen)
        total = {name: self.earlier[name] + n for name, n in zip(self.seen, seen.tolist(), strict=True)}
        return {**total, "optimizer_bytes": _bytes(self.optimizer)}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The trained tensors; those of a sharded model gathered."""
        full = whole(self.accelerator.get_state_dict(self.model)) if self.is_fsdp_enabled else None
        self._save(output_dir, state_dict=full)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            net: Any = self.model
            save_weights(net, Path(output_dir or str(self.args.output_dir)), full=state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(self.net, Path(resume_from_checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if not self._random_restored:
            super()._load_rng_state(checkpoint)
        self._random_restored = True


def _tokens(batch: Mapping[str, Any]) -> int:
    mask, ids = batch.get("attention_mask"), batch.get("input_ids")
    if isinstance(mask, Tensor):
        return int(mask.sum())
    return ids.numel() if isinstance(ids, Tensor) else 0


def _bytes(optimizer: Any) -> int:
    states = getattr(optimizer, "state", {})
    return sum(
        v.numel() * v.element_size() for state in states.values() for v in state.values() if isinstance(v, Tensor)
    )
