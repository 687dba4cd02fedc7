"""Guidance as the objective of a run: the recipe's loss, its schedules, and its parts for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fascicle.hf.objective import ModelLoss, count_targets
from fascicle.objects import LossOutput

from .data import is_guided, unwrapped
from .diagnostics import active_units
from .errors import GuidanceError
from .likelihood import smoothed_nll
from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fascicle.objects import Step

__all__ = ["Guided"]


class Guided:
    """The loss of `recipe.guided_loss`, over the target tokens of the optimizer step.

    In training z is drawn from the posterior; in evaluation it is the prior's, so a validation loss never sees the summary through
    the guidance. Schedules follow the step alone, so a resumed run continues them. A model without guidance, the twin of a
    comparison, is trained by the reconstruction alone.

    Args:
        recipe: None takes its defaults.

    >>> Guided().recipe == Recipe()
    True
    """

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = Recipe() if recipe is None else recipe

    def loss(
        self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Tensor | int | None = None
    ) -> LossOutput:
        """Loss of one batch.

        Returns:
            Parts in training: `reconstruction`, `kl`, `rate` (nats per document), `beta`, `active_units`, and those of the recipe's
            other terms; in evaluation `prior_nll` and `kl`.

        Raises:
            GuidanceError: a batch without labels.
        """
        if batch.get("labels") is None:
            raise GuidanceError(f"objective: the batch has {sorted(batch)}, expected labels, the summaries, among them")
        net = unwrapped(model)
        if not is_guided(net):
            return self._plain(model, batch, step, num_items)
        if net.recipe != self.recipe:
            net.recipe = self.recipe
        net.progress = step.global_step / max(1, step.max_steps)
        # a batch of rows that have no target at all gives 0, not 0/0
        count = count_targets(batch, shifted=False).clamp(min=1) if num_items is None else num_items
        outputs = model(**batch, num_items_in_batch=count)
        return LossOutput(
            loss=outputs.loss, parts=self._parts(net, batch, outputs), outputs=outputs, scaled=num_items is not None
        )

    def _plain(self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Tensor | int | None) -> LossOutput:
        """What is left of the loss where there is no guidance: the reconstruction, smoothed alike."""
        if not self.recipe.label_smoothing or not model.training:
            return ModelLoss().loss(model, batch, step, num_items)
        labels = batch["labels"]
        outputs = model(**batch)
        count = count_targets(batch, shifted=False).clamp(min=1) if num_items is None else num_items
        nll, smooth = smoothed_nll(outputs.logits, labels)
        mixed = (1 - self.recipe.label_smoothing) * nll + self.recipe.label_smoothing * smooth
        return LossOutput(loss=mixed.sum() / count, outputs=outputs, scaled=num_items is not None)

    def _parts(self, net: Any, batch: dict[str, Any], outputs: Any) -> dict[str, Any]:
        if outputs.parts is None:
            told = {"prior_nll": outputs.nll.detach().mean()}
            return told if outputs.kl is None else told | {"kl": outputs.kl.detach().mean()}
        with torch.no_grad():
            units = active_units(net.family, outputs.posterior, outputs.prior, _places(net, batch, outputs.prior))
        return {**outputs.parts, "active_units": units}


def _places(net: Any, batch: dict[str, Any], prior: Tensor) -> Tensor | None:
    """Where z has a meaning, shaped as the logits; None for a gaussian."""
    if net.family.name == "gaussian":
        return None
    mask = batch.get("attention_mask")
    mask = prior.new_ones(batch["input_ids"].shape).bool() if mask is None else mask.bool()
    told = batch.get("segment_ids")
    segments: Tensor = net._segments(batch["input_ids"], mask) if told is None else told.masked_fill(~mask, -1)
    if net.family.name == "bernoulli":
        return segments >= 0
    numbers = torch.arange(prior.shape[1], device=prior.device)
    return (segments[:, None, :] == numbers[:, None]).any(-1)  # (B, K)
