"""Attention of the decoder to the guidance memory, inside the residual of the attention to the source.

    out = SourceAttention(h, H) + W_o sum_t a_t W_v G_t                     W_o = 0 at the start
    a_t = g_t exp(s_t) / (1 + sum_j g_j exp(s_j)),    s_t = (W_q h) . (W_k G_t) / sqrt(d/heads)

G is the guidance memory (B, T, d), g the gate (B, T): what is no guidance cannot be read, and the 1 lets a query read nothing. The
gate weighs what is read and never what is remembered, so that the gradient by the gate of a sentence that was not chosen can say
what reading it would have changed. The derivative at g = 0 says it only for a small step, and is e^s times too large for a sentence
of high scores s (some 1e8 on a warm start from MiniLM); in training it is the secant to g = 1 instead, which is at most what was
read (`GuidanceAttention`). GSum (Dou et al. 2021) and LQSum give guidance a block of its own, with its own residual and
LayerNorm; in a post-LN decoder such a block changes a pretrained model even when it adds zero. A term inside an existing residual
does not (our choice): with W_o = 0 the model is the base, for post-LN and pre-LN alike. Keys and values of G are made once per
document for all layers; a decoding step only attends.

Shapes: B documents, N target tokens, T source tokens, d width, h heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.bart.modeling_bart import BartAttention
from transformers.models.mbart.modeling_mbart import MBartAttention
from transformers.models.pegasus.modeling_pegasus import PegasusAttention

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "GuidanceAttention",
    "GuidanceRecord",
    "GuidedBartAttention",
    "GuidedMBartAttention",
    "GuidedPegasusAttention",
    "MultiHeadAttention",
    "record_guidance_attention",
]


class MultiHeadAttention(nn.Module):
    """W_o Attention(W_q h, W_k G, W_v G), in heads; keys and values apart, so that they can be made once.

    Args:
        width: d.
        heads: h, a divisor of d.
        dropout: of the attention weights, in training.
        bias: of the four projections.

    >>> attention = MultiHeadAttention(8, 2)
    >>> attention(torch.zeros(1, 3, 8), attention.keys_values(torch.zeros(1, 5, 8))).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)

    def keys_values(self, memory: Tensor) -> Tensor:
        """(B, T, d) -> (B, 2, h, T, d/h): keys, then values."""
        return torch.stack([self._split(self.k_proj(memory)), self._split(self.v_proj(memory))], dim=1)

    def forward(
        self, hidden: Tensor, keys_values: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """What the queries read.

        Args:
            hidden: (B, N, d).
            keys_values: (B, 2, h, T, d/h), of `keys_values`.
            mask: bool, (B, 1, 1, T), true where there is something to read; None is everywhere.
            segments: (B, T), the sentence of each place, for the gradient by a gate; has no effect where there is none.
        """
        query = self._split(self.q_proj(hidden))  # (B, h, N, d/h)
        keys, values = keys_values.unbind(1)
        dropout = self.dropout if self.training else 0.0
        read = self._attend(query, keys.to(query.dtype), values.to(query.dtype), mask, dropout, segments)
        out: Tensor = self.out_proj(read.transpose(1, 2).flatten(2))  # (B, N, d)
        return out

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float, _: Tensor | None
    ) -> Tensor:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout)

    def _split(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)  # (B, h, T, d/h)


class GuidanceAttention(MultiHeadAttention):
    """The guidance term of one decoder layer. Its weights can be recorded: `record_guidance_attention`.

    With S the sum of what is read, R_k that of an unread sentence k (of a token, where no sentences are told) were its gate 1, and
    v_k the mean that a query would read there, opening the gate moves what is read, m, by R_k / (S + R_k) (v_k - m). The derivative
    at 0 is R_k / S (v_k - m); so the gradient by a gate that is 0 is multiplied by S / (S + R_k).

    Args:
        layer: number of the decoder layer.
    """

    def __init__(self, width: int, heads: int, *, layer: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__(width, heads, dropout=dropout, bias=bias)
        self.layer = layer
        self.record: GuidanceRecord | None = None

    def keys_values(self, memory: Tensor) -> Tensor:
        """(B, T, d) -> (B, 2, h, T + 1, d/h): the last place, key and value 0, is for reading nothing."""
        return F.pad(super().keys_values(memory), (0, 0, 0, 1))

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float, segments: Tensor | None
    ) -> Tensor:
        """`mask` is the gate, (B, T) in [0, 1]."""
        assert mask is not None
        gate = F.pad(mask, (0, 1), value=1.0)[:, None, None, :]  # (B, 1, 1, T + 1)
        if self.record is None and not torch.is_grad_enabled():
            return F.scaled_dot_product_attention(query, keys, values, attn_mask=gate.to(query.dtype).log())
        gate = gate.to(torch.promote_types(query.dtype, torch.float32))
        scores = (query @ keys.mT).to(gate.dtype) * query.shape[-1] ** -0.5  # (B, h, N, T + 1)
        highest = scores.detach().masked_fill(gate == 0, 0.0).amax(-1, keepdim=True)
        odds = (scores - highest).clamp(max=30).exp()  # only what is not read can be above 1
        if gate.requires_grad:
            odds = odds * self.secant(odds.detach(), gate.detach(), segments)
        read = odds * gate
        weights = (read / read.sum(-1, keepdim=True)).to(query.dtype)
        if self.record is not None:
            self.record.steps.setdefault(self.layer, []).append(weights[..., :-1].detach())
        return F.dropout(weights, dropout) @ values

    @staticmethod
    def secant(odds: Tensor, gate: Tensor, segments: Tensor | None) -> Tensor:
        """S / (S + R_k) where the gate is 0, else 1: (B, h, N, T + 1), as the odds; segments (B, T)."""
        read = (odds * gate).sum(-1, keepdim=True)
        closed = gate == 0
        unread = odds.masked_fill(~closed, 0.0)
        if segments is not None:
            # (B, T, K + 1), first what is outside sentences
            groups = F.one_hot(segments.clamp(min=-1) + 1).to(odds.dtype)
            groups = F.pad(groups, (0, 0, 0, 1))[:, None]  # the place for nothing is in none
            unread = (unread @ groups) @ groups.mT
        return torch.where(closed, read / (read + unread), 1.0)


@dataclass
class GuidanceRecord:
    """Attention weights that `record_guidance_attention` collected."""

    steps: dict[int, list[Tensor]] = field(default_factory=dict)
    """Decoder layer -> one (B, h, N, T) per call of the layer: one call where targets are given, one per token in generation."""
    source_steps: dict[int, list[Tensor]] = field(default_factory=dict)
    """Likewise of the attention to the source."""

    def weights(self) -> Tensor:
        """(layers, B, h, N, T), calls one after another along N; a row sums to less than 1 by what was read of nothing.

        Raises:
            ValueError: nothing was recorded.
        """
        return _stacked(self.steps, "guidance")

    def source_weights(self) -> Tensor:
        """(layers, B, h, N, T), of the base's own attention to the source; a row sums to 1.

        Raises:
            ValueError: nothing was recorded; the model's attention must be eager for it.
        """
        return _stacked(self.source_steps, "source")


def _stacked(steps: dict[int, list[Tensor]], what: str) -> Tensor:
    if not steps:
        raise ValueError(
            f"{what} attention: nothing was recorded; expected a forward of a guided model inside the block"
            + ("" if what == "guidance" else ", with source=True")
        )
    return torch.stack([torch.cat(steps[layer], dim=2) for layer in sorted(steps)])


@contextmanager
def record_guidance_attention(model: nn.Module, *, source: bool = False) -> Iterator[GuidanceRecord]:
    """Collect the guidance attention weights of what runs inside the block.

    Teacher forcing (a forward with `labels` or `decoder_input_ids`) is what to use it with: beams change places between steps.

    Args:
        model: a guided model of this package, or a part of one.
        source: the weights of the attention to the source as well; inside the block the whole model's attention is eager, since
            fused implementations keep no weights.

    >>> attention = GuidanceAttention(8, 2, layer=0, bias=False)
    >>> with record_guidance_attention(attention) as record:
    ...     _ = attention(torch.zeros(1, 3, 8), attention.keys_values(torch.zeros(1, 5, 8)), torch.ones(1, 5))
    >>> record.weights().shape, round(record.weights()[0, 0, 0, 0].sum().item(), 4)  # five tokens, and nothing
    (torch.Size([1, 1, 2, 3, 5]), 0.8333)
    """
    record = GuidanceRecord()
    found = [module for module in model.modules() if isinstance(module, GuidanceAttention)]
    net: Any = model
    before = net.config._attn_implementation if source else None
    for module in found:
        module.record = record
    if source:
        net.set_attn_implementation("eager")
    try:
        yield record
    finally:
        for module in found:
            module.record = None
        if source:
            net.set_attn_implementation(before)


class _Guided:
    """Mixin of a family's attention class: the source attention of a decoder layer with the guidance term.

    It stays an instance of that class, so that the base's names, its output recorders and its cache work as they do.
    """

    guidance: GuidanceAttention

    def __init__(self, width: int, heads: int, *, config: Any, layer: int, dropout: float, bias: bool = True) -> None:
        super().__init__(width, heads, dropout=dropout, is_decoder=True, bias=bias, config=config, layer_idx=layer)  # type: ignore[call-arg]
        self.guidance = GuidanceAttention(width, heads, layer=layer, dropout=dropout, bias=bias)

    def forward(
        self,
        hidden_states: Tensor,
        *args: Any,
        guidance_cache: Tensor | None = None,
        guidance_weights: Tensor | None = None,
        guidance_segments: Tensor | None = None,
        source_keep: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The base's source attention, and what the guidance says.

        Args:
            hidden_states: (B, N, d).
            guidance_cache: (B, layers, 2, h, T + 1, d/h): keys and values of the guidance memory; None leaves the term out.
            guidance_weights: (B, T), the gate.
            guidance_segments: (B, T), the sentence of each place, for the gradient by the gate; None takes each token by itself.
            source_keep: (B,): 0 switches the source attention of a document off.
        """
        out, weights = super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        if self.guidance.record is not None and weights is not None:
            self.guidance.record.source_steps.setdefault(self.guidance.layer, []).append(weights.detach())
        if source_keep is not None:
            out = out * source_keep.to(out.dtype)[:, None, None]
        if guidance_cache is not None:
            cache = guidance_cache[:, self.guidance.layer]
            out = out + self.guidance(hidden_states, cache, guidance_weights, guidance_segments)
        return out, weights


class GuidedBartAttention(_Guided, BartAttention):
    """BART's."""


class GuidedMBartAttention(_Guided, MBartAttention):
    """mBART's."""


class GuidedPegasusAttention(_Guided, PegasusAttention):
    """PEGASUS's."""
