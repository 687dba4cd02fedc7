"""What guided models give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EncodedSource", "GuidanceOutput", "GuidedEncoderOutput", "GuidedOutput"]


@dataclass
class GuidedEncoderOutput(BaseModelOutput):
    """What the encoder step hands to the decoder; every tensor has a row per document, so that beams expand it."""

    guidance_cache: Tensor | None = None
    """(B, layers, 2, heads, S + 1, d/heads): keys and values of the guidance memory, and a place for nothing."""
    guidance_weights: Tensor | None = None
    """(B, S): how much of each place of the memory may be read; S = T, or the places of chosen sentences alone."""
    guidance_gate: Tensor | None = None
    """(B, T), None for a gaussian."""
    prior: Tensor | None = None
    """Logits: (B, K), (B, T) or (B, 2L)."""
    posterior: Tensor | None = None
    """Likewise, where labels were given."""
    latent: Tensor | None = None
    """z, None where the user gave the gate."""
    guidance_words: Tensor | None = None
    """(B, d), of the bag-of-words head."""
    z_mask: Tensor | None = None
    """bool, (B, K) or (B, T): where z has a meaning; None for a gaussian."""
    segments: Tensor | None = None
    """(B, T), the sentence of each token."""


@dataclass
class GuidedOutput(Seq2SeqLMOutput):
    """An encoder-decoder's output, and what its guidance was."""

    prior: Tensor | None = None
    """Logits of p(z|x): (B, K), (B, T) or (B, 2L)."""
    posterior: Tensor | None = None
    """Logits of q(z|x,y), where labels were given."""
    gate: Tensor | None = None
    """(B, T) that was used; None for a gaussian."""
    latent: Tensor | None = None
    """z that was used; None where the user gave the gate."""
    nll: Tensor | None = None
    """(B,): -log p(y|x,z), summed over the target tokens."""
    kl: Tensor | None = None
    """(B,): KL(q || p), without stopped gradients."""
    parts: dict[str, Any] | None = None
    """Parts of the training loss."""


@dataclass(frozen=True)
class GuidanceOutput:
    """Induced guidance, before and after seeing the summary."""

    prior_probs: Tensor
    """(B, K) or (B, T)."""
    posterior_probs: Tensor | None
    token_prior: Tensor
    """(B, T): probability that a token is guidance."""
    token_posterior: Tensor | None
    segment_ids: Tensor
    """(B, T), -1 outside sentences."""


@dataclass(frozen=True)
class EncodedSource:
    """An encoded document, as the networks beside the base see it."""

    states: Tensor  # (B, T, d)
    mask: Tensor  # (B, T) bool, false at padding
    segments: Tensor  # (B, T), -1 outside sentences
    means: Tensor | None  # (B, S, T)
    z_mask: Tensor | None  # (B, K) or (B, T)
    embedded: Tensor | None = None  # (B, T, d), what the encoder's first layer reads; None for a gaussian
