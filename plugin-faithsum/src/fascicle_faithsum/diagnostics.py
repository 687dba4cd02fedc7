"""Is the latent variable in use? Costs of other guidance, the KL, mutual information, active units, and a monitor of training.

    I(z; y | x) = E_{x,y} KL( p(z|x,y) || p(z|x) )        p(z|x,y) by enumeration of z, so for `sentence` only
    active units   gaussian: dimensions whose posterior mean varies over documents by more than 0.01 (Burda et al. 2016);
                   sentence, bernoulli: share of documents whose most probable z is another one by the posterior than by the prior

The expectation is over the summaries that are given; it is the model's mutual information as far as they are draws of the model.
E KL(q || p) is never below it, by as much as q misses p(z|x,y), if p(z|x) is the mean of p(z|x,y) over summaries.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from .data import is_guided, unwrapped
from .errors import GuidanceError
from .induction import evaluating

if TYPE_CHECKING:
    from torch import Tensor

    from .latents import Latent

__all__ = ["CollapseMonitor", "Diagnostics", "active_units", "diagnose"]

log = logging.getLogger(__name__)

MIN_KL, MIN_COST = 0.1, 0.5
"""Nats per document below which guidance counts as collapsed."""
VARIANCE = 0.01
"""Above it a dimension of a gaussian is active."""


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Means over documents, in nats per document."""

    posterior_nll: float
    """-log p(y|x,z), z drawn from the posterior."""
    prior_nll: float
    """z as the model chooses it without the summary."""
    shuffled_nll: float
    """z drawn from the posterior of another document and summary."""
    none_nll: float
    """Without guidance; for a gaussian z = 0."""
    kl: float
    """KL(q || p)."""
    active_units: float
    mutual_information: float | None
    """None for families that cannot be enumerated."""
    documents: int

    @property
    def shuffled_cost(self) -> float:
        """How much worse another document's guidance explains the summary."""
        return self.shuffled_nll - self.posterior_nll

    def collapsed(self, min_kl: float = MIN_KL, min_cost: float = MIN_COST) -> bool:
        """Whether the guidance says nothing: a KL and a shuffled cost below these nats."""
        return self.kl < min_kl and self.shuffled_cost < min_cost

    @property
    def none_cost(self) -> float:
        """How much worse the summary is explained without guidance."""
        return self.none_nll - self.posterior_nll

    def values(self) -> dict[str, float]:
        """Named numbers; those that are not there are left out."""
        told = {name: value for name, value in asdict(self).items() if value is not None and name != "documents"}
        return told | {"shuffled_cost": self.shuffled_cost, "none_cost": self.none_cost}


@torch.no_grad()
def diagnose(model: Any, batches: Iterable[Mapping[str, Tensor]], *, seed: int = 0) -> Diagnostics:
    """Measure a guided model on documents with summaries; leaves torch's generators as they were.

    Args:
        model: guided, perhaps under DDP or PEFT.
        batches: as the model takes them, with labels; those of one document are left out, since there is none to shuffle with.
        seed: of the draws.

    Raises:
        GuidanceError: no guidance in the model, no labels, or no batch of two documents.
    """
    net = unwrapped(model)
    if not is_guided(net):
        raise GuidanceError(f"model: got a {type(net).__name__}, expected a guided model")
    rows: dict[str, list[Tensor]] = {}
    device = next(net.parameters()).device
    with evaluating(net), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in batches:
            if batch.get("labels") is None:
                raise GuidanceError(
                    f"batches: got one with {sorted(batch)}, expected labels, the summaries, among them"
                )
            if len(batch["input_ids"]) > 1:
                told = {name: value.to(device) for name, value in batch.items()}
                for name, value in _measured(net, told).items():
                    rows.setdefault(name, []).append(value.double().cpu())
    if not rows:
        raise GuidanceError(
            "batches: got no batch of two documents or more; expected some, to shuffle guidance among them"
        )
    moved = torch.cat(rows.pop("moved"))
    means = {name: torch.cat(values).mean().item() for name, values in rows.items()}
    units = float((moved.var(0) > VARIANCE).sum()) if net.family.name == "gaussian" else moved.mean().item()
    means.setdefault("mutual_information", math.nan)
    information = means.pop("mutual_information")
    return Diagnostics(
        **means,
        active_units=units,
        mutual_information=None if math.isnan(information) else information,
        documents=len(moved),
    )


def active_units(family: Latent, posterior: Tensor, prior: Tensor, mask: Tensor | None = None) -> Tensor:
    """Active units of a batch; a scalar.

    Args:
        posterior, prior: logits as the family has them.
        mask: where z has a meaning; logits elsewhere count otherwise.
    """
    moved = _moved(family, posterior, prior, mask)
    if family.name == "gaussian":
        return (moved.var(0, unbiased=False) > VARIANCE).sum().float()
    return moved.mean()


def _moved(family: Latent, posterior: Tensor, prior: Tensor, mask: Tensor | None) -> Tensor:
    """(B,): whether the most probable z differs; (B, L), the posterior's means, for a gaussian."""
    if family.name == "gaussian":
        return family.mean(posterior)
    return (family.map(posterior, mask) != family.map(prior, mask)).any(-1).float()


def _measured(net: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    family = net.family
    encoded, source, prior, posterior = net._both(batch)
    mask = source.z_mask
    drawn = family.draw(posterior, mask)
    choices = {
        "posterior_nll": drawn,
        "prior_nll": net._choose(net.config.guidance_mode, prior, None, source),
        "shuffled_nll": _shuffled(family, drawn, mask),
        "none_nll": torch.zeros_like(drawn),
    }
    found = {name: net._nll_given(encoded, source, z, batch) for name, z in choices.items()}
    found["kl"] = family.kl(posterior, prior, mask)
    found["moved"] = _moved(family, posterior, prior, mask)
    if family.name == "sentence":
        joint, log_p, _ = net.joint_log_probs(batch)
        exact = joint.log_softmax(-1)
        found["mutual_information"] = (exact.exp() * (exact - log_p)).masked_fill(~mask, 0.0).sum(-1)
    return found


def _shuffled(family: Latent, z: Tensor, mask: Tensor | None) -> Tensor:
    """z of the document before: its vector, its token places, or its sentence number, the last where a document has fewer."""
    z = torch.roll(z, 1, 0)
    if mask is None:
        return z
    if family.name == "bernoulli":
        return z.masked_fill(~mask, 0.0)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)  # (B,)
    return torch.nn.functional.one_hot(torch.minimum(z.argmax(-1), last), z.shape[1]).to(z)


class CollapseMonitor(TrainerCallback):
    """Diagnoses a guided model while it is trained, and warns when its latent variable is out of use.

    Collapsed is a KL below `min_kl` and a shuffled cost below `min_cost`, after the recipe's beta warm-up. Numbers go to `history`
    and, with `guidance_` before their names, to the trainer's log history.

    Args:
        batches: a few of the validation rows, with labels.
        every: steps between two looks; None looks at each evaluation. The end of training is always looked at.
        min_kl, min_cost: in nats per document.
        seed: of the draws.

    Attributes:
        fired: whether it has warned.
        history: one row per look, with `step`.
    """

    def __init__(
        self,
        batches: Sequence[Mapping[str, Tensor]],
        *,
        every: int | None = None,
        min_kl: float = MIN_KL,
        min_cost: float = MIN_COST,
        seed: int = 0,
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every: got {every}, expected at least 1 step, or None for each evaluation")
        self.batches, self.every, self.min_kl, self.min_cost, self.seed = batches, every, min_kl, min_cost, seed
        self.fired = False
        self.history: list[dict[str, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look every so many steps."""
        if self.every is not None and state.global_step % self.every == 0:
            self._look(state, kwargs["model"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at each evaluation."""
        if self.every is None:
            self._look(state, kwargs["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look once more."""
        self._look(state, kwargs["model"])

    def _look(self, state: Any, model: Any) -> None:
        if self.history and self.history[-1]["step"] == state.global_step:
            return
        found = diagnose(model, self.batches, seed=self.seed)
        self.history.append({"step": state.global_step, **found.values()})
        state.log_history.append(
            {"step": state.global_step} | {f"guidance_{name}": value for name, value in found.values().items()}
        )
        if state.global_step < unwrapped(model).recipe.beta_warmup * state.max_steps:
            return
        if found.collapsed(self.min_kl, self.min_cost):
            self.fired = True
            log.warning(
                "step %d: the latent variable is out of use: KL %.3f nats, below %.3f, and another document's guidance costs %.3f "
                "nats, below %.3f. Lower objective.beta, keep balance, warm beta up for longer, or give source_dropout or "
                "tag_weight a value",
                state.global_step,
                found.kl,
                self.min_kl,
                found.shuffled_cost,
                self.min_cost,
            )
