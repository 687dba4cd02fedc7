"""The core's own objective: the loss that a transformers model computes from its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..objects import LossOutput

if TYPE_CHECKING:
    from ..objects import Step

__all__ = ["ModelLoss", "count_targets", "shifts_labels"]

IGNORED = -100


class ModelLoss:
    """The model's own loss, `model(**batch).loss`.

    A model's loss is a mean over the batch's targets. Batches of one optimizer step hold different numbers of targets, so with
    `num_items` the loss is multiplied by the batch's share of them: the sum over the batches is then the mean over all targets,
    whether or not the model itself accepts `num_items_in_batch`, and what a model adds to its loss (a router's balance, AdaLoRA's
    penalty) counts once.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> from fascicle.objects import Step
    >>> model = lambda labels: SimpleNamespace(loss=torch.tensor(2.0))
    >>> out = ModelLoss().loss(model, {"labels": torch.tensor([0, 1])}, Step(0, 1, 0.0), num_items=8)
    >>> out.loss.item(), out.scaled
    (0.5, True)
    """

    def loss(
        self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Tensor | int | None = None
    ) -> LossOutput:
        """Loss of one batch; see the class.

        Raises:
            DataError: the model gave no loss, because the batch has no labels it knows.
        """
        if num_items is None or "labels" not in batch:
            outputs = model(**batch)
            return LossOutput(loss=_loss(outputs, batch), outputs=outputs)
        targets = count_targets(batch, shifted=shifts_labels(model))
        # a batch without any target would make the mean 0/0; its share is 0, so any label serves, and nothing waits for the device
        labels = batch["labels"]
        batch = {**batch, "labels": torch.where(targets == 0, torch.zeros_like(labels), labels)}
        outputs = model(**batch)
        return LossOutput(loss=_loss(outputs, batch) * (targets / num_items), outputs=outputs, scaled=True)


def count_targets(batch: Mapping[str, Any], *, shifted: bool) -> Tensor:
    """Number of targets in a batch's labels; `shifted` leaves out each row's first, which nothing predicts.

    >>> count_targets({"labels": torch.tensor([[5, -100, 7]])}, shifted=True).item()
    1
    """
    labels = batch["labels"]
    if shifted and labels.dim() > 1:
        labels = labels[..., 1:]  # (B, L - 1)
    elif labels.dim() > 1 and labels.is_floating_point():
        labels = labels[..., 0]  # (B,): a row of a multi-label set is one target
    count: Tensor = labels.ne(IGNORED).sum()
    return count


def shifts_labels(model: nn.Module) -> bool:
    """Whether the model predicts each label from the tokens before it: causal language models do.

    >>> shifts_labels(nn.Linear(1, 1))
    False
    """
    from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

    inner = _plain(model)
    if getattr(getattr(inner, "config", None), "is_encoder_decoder", False):
        return False
    return LOSS_MAPPING.get(getattr(inner, "loss_type", None) or "") is ForCausalLMLoss


def _plain(model: nn.Module) -> nn.Module:
    """The transformers model under DDP, compile and PEFT wrappers."""
    for name in ("module", "_orig_mod"):
        if isinstance(inner := getattr(model, name, None), nn.Module):
            return _plain(inner)
    base = getattr(model, "get_base_model", None)
    return base() if callable(base) else model


def _loss(outputs: Any, batch: Mapping[str, Any]) -> Tensor:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if not isinstance(loss, Tensor):
        raise DataError(
            f"the model returned no loss for a batch with {sorted(batch)}; it needs a column `labels`: give the data labels, "
            "or choose an objective that computes its own loss"
        )
    return loss
