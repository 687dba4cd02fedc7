"""Options of making a draft model and of measuring one, typed. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from fascicle.hf.training_options import TrainerOptions

__all__ = ["OuroborosAcceptance", "OuroborosDraft"]


@dataclass(kw_only=True)
class OuroborosDraft(TrainerOptions):
    """Cut a draft model out of the run's model and distil it on that model's own texts.

    >>> OuroborosDraft(layers=4).source
    'greedy'
    """

    layers: Annotated[int, Ge(1)] = 6
    """Decoder layers to keep, evenly spaced, the first and the last among them. Fewer draft faster and are right less often."""
    keep: list[Annotated[int, Ge(0)]] | None = None
    """Indices of the layers to keep, instead of `layers`."""
    source: Literal["greedy", "sample", "data"] = "greedy"
    """Texts to learn from: the target's greedy or drawn continuations of the training prompts, or the data's own completions."""
    sample_temperature: Annotated[float, Gt(0)] = 1.0
    """Temperature of drawn continuations."""
    new_tokens: Annotated[int, Ge(1)] = 64
    """Tokens that the target writes for each prompt, at most."""
    write_batch_size: Annotated[int, Ge(1)] = 16
    """Prompts that the target continues at once."""
    cross_entropy: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Weight of the written tokens' cross-entropy; the rest goes to the divergence from the target's distribution."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Divides both models' logits in the divergence; above 1 the target's less likely tokens count more."""
    train_embeddings: bool = False
    """Train embeddings and head as well. They are most of a small draft's weights, and the target's own already."""
    control: Literal["none", "untrained", "quantized"] = "none"
    """What training must beat: the cut alone, or the whole target in 8 bits (CPU; not saved)."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """Peak learning rate. 1e-3 suits a cut of a few small layers, 1e-4 one of many large ones."""
    epochs: Annotated[float, Gt(0)] = 2.0
    """Passes over the texts."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Texts per optimizer step."""

    def __post_init__(self) -> None:
        if self.keep is not None and (not self.keep or len(set(self.keep)) < len(self.keep)):
            raise ValueError(f"keep: expected one or more different indices of layers, got {self.keep}")


@dataclass(kw_only=True)
class OuroborosAcceptance:
    """How much of a draft model's text the target accepts, at greedy decoding, and what that is worth.

    >>> OuroborosAcceptance(gamma=4).rows
    32
    """

    draft: list[str] = field(default_factory=list)
    """Where the draft model is: local folders or hub ids, the first that exists is taken. None takes what
    `training=ouroboros_draft` made in this run."""
    gamma: Annotated[int, Ge(1)] = 4
    """Tokens that the draft model writes per round (γ)."""
    split: Literal["train", "validation", "test"] | None = None
    """Rows to take the prompts from; None takes `test`, or `validation` where there is no test."""
    rows: Annotated[int, Ge(1)] | None = 32
    """Measure on the first prompts only; None takes all."""
    max_new_tokens: Annotated[int, Ge(2)] = 64
    """Tokens that the target writes for each prompt, at most."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Prompts at once. Changes speed and memory, not the result."""
    repeats: Annotated[int, Ge(1)] = 9
    """Passes of either model to time for the cost ratio, in turns; the median counts."""
