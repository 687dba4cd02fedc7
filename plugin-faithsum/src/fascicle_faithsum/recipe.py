"""How a guided model is trained: the terms of the loss, their weights, how these change. Light: no torch at import.

    L = sum over documents of
          NLL(y | x, z ~ q)                    label smoothing as usual
        + beta  * KL(q || sg p)                the posterior is pulled to the prior, weakly
        + gamma * KL(sg q || p)                the prior learns the posterior at the full rate (KL balancing, sg = stop-gradient)
        + teach * CE(softmax_k log p(y | z = k), q)    which sentence alone explains the summary best
        + tag   * (-log q(tags))               optional weak supervision
        + bow   * (-log p(words of y | z))     optional (Zhao et al. 2017)
    divided by the number of target tokens of the optimizer step

With `balance` off the two KL terms are one, beta * KL(q || p): with beta 1 that is the negative ELBO. Every schedule is a
function of the share of training done, so a resumed run continues it. `source_dropout`: for that share of
the documents of a step the decoder does not see the source but through the guidance. A reconstruction
from the abstract of Xu & Zhao 2022; no hyper-parameter of theirs is known.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["Recipe", "Weights", "guided_loss"]

Share = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Weights of the loss and their schedules.

    >>> Recipe(beta=0.2, beta_warmup=0.5).at(0.25).beta
    0.1
    """

    beta: Positive = 0.1
    """Weight of what pulls the posterior to the prior, in nats per document beside the summed reconstruction; 1 is the ELBO's."""
    beta_warmup: Share = 0.3
    """Share of training over which beta rises from 0."""
    gamma: Positive = 1.0
    """Weight of what trains the prior, with `balance`."""
    balance: bool = True
    """Two KL terms with stopped gradients; false takes beta * KL alone."""
    free_bits: Positive = 0.0
    """Nats per document below which the beta term does not push; the prior's term is not touched."""
    tau: Annotated[float, Gt(0)] = 4.0
    """Temperature of relaxed draws at the start. With `hard` it shapes the gradient only: a high one keeps it from vanishing once
    the posterior is sure of itself."""
    tau_end: Annotated[float, Gt(0)] = 0.5
    """Temperature at the end."""
    hard: bool = True
    """Draw whole sentences or tokens, with the gradient of the relaxed draw; false draws soft ones."""
    posterior_dropout: Share = 0.0
    """Share of documents, at the end, whose guidance is drawn from the prior instead of the posterior."""
    posterior_dropout_start: Share = 0.5
    """Share of training after which that begins to rise from 0."""
    through_draw: bool = True
    """The reconstruction teaches the posterior through the draw of z (straight-through with `hard`); false leaves that to the
    teacher, the tags and beta."""
    teacher_weight: Positive = 0.0
    """Weight of what teaches the posterior of a `sentence` latent: which sentence alone lets the decoder write the summary."""
    teacher_share: Share = 0.5
    """Share of a step's documents that the teacher looks at; each costs a decoder pass per sentence, without gradient."""
    teacher_sentences: Annotated[int, Ge(2)] = 6
    """Sentences of a document, drawn anew each time, that the teacher compares; all where there are no more."""
    source_dropout: Share = 0.5
    """Share of documents, at the start, whose source the decoder sees only through the guidance."""
    source_dropout_hold: Share = 0.5
    """Share of training for which that stays; then it falls to 0 at `source_dropout_end`."""
    source_dropout_end: Share = 0.8
    """Share of training after which it is 0."""
    tag_weight: Positive = 0.0
    """Weight of the tags: 0 is the fully induced mode."""
    tag_on: Literal["posterior", "both"] = "posterior"
    """Which network sees the tags."""
    bow_weight: Positive = 0.0
    """Weight of the bag of words; needs a model with `bow`."""
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Of the reconstruction."""

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.name not in ("balance", "hard", "tag_on", "through_draw")):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a number")  # noqa: TRY004 - all are ValueError
        for name in _SHARES:
            _in_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("beta", "gamma", "free_bits", "tag_weight", "bow_weight", "teacher_weight"):
            _in_range(name, getattr(self, name), 0.0, math.inf)
        for name in ("tau", "tau_end"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a temperature above 0")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: got {self.label_smoothing!r}, expected a number from 0 to below 1")
        if not isinstance(self.teacher_sentences, int) or self.teacher_sentences < 2:
            raise ValueError(
                f"teacher_sentences: got {self.teacher_sentences!r}, expected a whole number of at least 2"
            )
        if self.tag_on not in ("posterior", "both"):
            raise ValueError(f"tag_on: got {self.tag_on!r}, expected 'posterior' or 'both'")
        if self.source_dropout_end < self.source_dropout_hold:
            raise ValueError(
                f"source_dropout_end: got {self.source_dropout_end}, expected at least source_dropout_hold, "
                f"{self.source_dropout_hold}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe with these fields; the others have their defaults.

        Raises:
            ValueError: a field that is none, or a value that cannot be.
        """
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(f"recipe: got {', '.join(unknown)}, expected some of {', '.join(names)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as a configuration keeps them.

        >>> Recipe.from_dict(Recipe(beta=0.3).to_dict()).beta
        0.3
        """
        return asdict(self)

    def at(self, progress: float) -> Weights:
        """The weights at a share of training, 0 to 1."""
        done = min(max(progress, 0.0), 1.0)
        return Weights(
            beta=self.beta * _rise(done, 0.0, self.beta_warmup),
            gamma=self.gamma,
            tau=self.tau + (self.tau_end - self.tau) * done,
            hard=self.hard,
            posterior_dropout=self.posterior_dropout * _rise(done, self.posterior_dropout_start, 1.0),
            source_dropout=self.source_dropout * (1 - _rise(done, self.source_dropout_hold, self.source_dropout_end)),
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """What a recipe says at one moment."""

    beta: float
    gamma: float
    tau: float
    hard: bool
    posterior_dropout: float
    source_dropout: float


_SHARES = (
    "teacher_share",
    "beta_warmup",
    "posterior_dropout",
    "posterior_dropout_start",
    "source_dropout",
    "source_dropout_hold",
    "source_dropout_end",
)


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or math.isinf(value):
        told = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number of at least {low:g}"
        raise ValueError(f"{name}: got {value!r}, expected {told}")


def _rise(done: float, start: float, end: float) -> float:
    """0 before `start`, 1 from `end` on, straight between."""
    if done >= end:
        return 1.0
    return 0.0 if done <= start else (done - start) / (end - start)


def guided_loss(
    recipe: Recipe,
    progress: float,
    family: Any,
    *,
    nll: Tensor,
    prior: Tensor,
    posterior: Tensor,
    mask: Tensor | None,
    count: Tensor | int,
    smooth: Tensor | None = None,
    tags: Tensor | None = None,
    bow: Tensor | None = None,
    teacher: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """The loss of a batch and its parts.

    Args:
        family: the latent family, `latents.Latent`.
        nll: (B,), -log p(y|x,z) summed over the target tokens.
        prior: logits of p(z|x).
        posterior: logits of q(z|x,y).
        mask: where z has a meaning.
        count: target tokens of the whole optimizer step; everything is divided by it.
        smooth: (B,), the mean over the vocabulary of -log p, summed over the target tokens; needed for label smoothing.
        tags: in [0, 1], as z is shaped.
        bow: (B,), -log p of the summary's words.
        teacher: (), the sum over the documents that the teacher looked at, per document of the batch scaled by their share.

    Returns:
        The loss, and detached means per document: `reconstruction`, `kl` (unstopped), `rate` (what the beta term counted),
        `beta`, and `teacher`, `tag`, `bow` where they have a weight.

    Raises:
        ValueError: a weight above 0 for tags, smoothing or words that were not given.
    """
    weights = recipe.at(progress)
    reconstruction = nll
    if recipe.label_smoothing:
        reconstruction = (1 - recipe.label_smoothing) * nll + recipe.label_smoothing * _needed(
            smooth, "label_smoothing"
        )
    kl = family.kl(posterior, prior.detach() if recipe.balance else prior, mask)  # (B,)
    rate = kl.clamp(min=recipe.free_bits) if recipe.free_bits else kl
    total = reconstruction.sum() + weights.beta * rate.sum()
    if recipe.balance:
        total = total + weights.gamma * family.kl(posterior.detach(), prior, mask).sum()
    parts = {"reconstruction": nll.detach().mean(), "kl": kl.detach().mean(), "rate": rate.detach().mean()}
    if recipe.tag_weight:
        told = _needed(tags, "tag_weight")
        tag = _tag_loss(family, posterior, told, mask)
        if recipe.tag_on == "both":
            tag = tag + _tag_loss(family, prior, told, mask)
        total = total + recipe.tag_weight * tag.sum()
        parts["tag"] = tag.detach().mean()
    if recipe.teacher_weight and teacher is not None:
        total = total + recipe.teacher_weight * teacher
        parts["teacher"] = teacher.detach() / len(nll)
    if recipe.bow_weight:
        words = _needed(bow, "bow_weight")
        total = total + recipe.bow_weight * words.sum()
        parts["bow"] = words.detach().mean()
    parts["beta"] = weights.beta
    return total / count, parts


def _tag_loss(family: Any, logits: Tensor, tags: Tensor, mask: Tensor | None) -> Tensor:
    """-log of the tags' probability, (B,); of several marked sentences the mean over them."""
    tags = tags.to(logits.dtype)
    if family.name == "sentence":
        share = tags / tags.sum(-1, keepdim=True).clamp(min=1e-9)
        loss: Tensor = -family.log_prob(share, logits, mask)
        return loss
    if family.name == "gaussian":
        raise ValueError(
            "tag_weight: got a gaussian latent, which marks nothing; expected sentence or bernoulli, or tag_weight=0"
        )
    bits: Tensor = -family.log_prob(tags, logits, mask)
    return bits


def _needed(given: Tensor | None, key: str) -> Tensor:
    if given is None:
        raise ValueError(
            f"{key}: above 0, but the batch or the model has nothing for it; expected tags, or a model with that head"
        )
    return given
