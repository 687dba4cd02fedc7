"""Training guided models with transformers' own trainers.

    model = GuidedForConditionalGeneration.from_base(base, tokenizer=tokenizer)
    Seq2SeqTrainer(model, arguments, train_dataset=rows, data_collator=collator, callbacks=[GuidanceCallback()]).train()
    model.generate(**inputs)

Without the callback a model stays at the start of its recipe's schedules. [`GuidanceTrainer`] brings it, and logs the loss's parts.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Seq2SeqTrainer, TrainerCallback

from .data import is_guided, unwrapped
from .errors import GuidanceError

__all__ = ["GuidanceCallback", "GuidanceTrainer"]


class GuidanceCallback(TrainerCallback):
    """Tells a guided model how much of its training is done; from the step alone, so a resumed run goes on where it was."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the batches of an optimizer step."""
        unwrapped(kwargs["model"]).progress = state.global_step / max(1, state.max_steps)


class GuidanceTrainer(Seq2SeqTrainer):
    """A Seq2SeqTrainer with [`GuidanceCallback`] that adds the parts of the loss to its log, means over documents of this process.

    Raises:
        GuidanceError: a model without guidance.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_guided(self.model):
            raise GuidanceError(
                f"model: got a {type(unwrapped(self.model)).__name__}, expected a guided one; make it with "
                "GuidedForConditionalGeneration.from_base"
            )
        self.add_callback(GuidanceCallback())
        self._parts: dict[str, Any] = {}
        self._documents = 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The trainer's, which remembers the parts."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        parts = outputs.get("parts")
        if parts is not None:
            rows = len(outputs["nll"])
            self._documents += rows
            for name, part in parts.items():
                self._parts[name] = self._parts.get(name, 0.0) + torch.as_tensor(part).detach() * rows
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts since the last row to a row of training."""
        if "loss" in logs and self._documents:
            logs |= {name: float(total / self._documents) for name, total in self._parts.items()}
            self._parts, self._documents = {}, 0
        super().log(logs, start_time)
