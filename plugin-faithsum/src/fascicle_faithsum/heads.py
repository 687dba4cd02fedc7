"""The networks beside the base: prior, recognition, guidance memory, bag of words. Equations and shapes: `modeling`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .attention import MultiHeadAttention

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BagOfWords", "GuidanceMemory", "PosteriorHead", "PriorHead"]


class PriorHead(nn.Module):
    """l^p = w2 tanh(W1 h), h the pooled states (B, S, d) -> (B, S, out).

    >>> PriorHead(8, 1)(torch.zeros(2, 3, 8)).shape
    torch.Size([2, 3, 1])
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.score = nn.Linear(width, out)

    def forward(self, states: Tensor, means: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            states: (B, T, d), the encoder's.
            means: (B, S, T), weights of the means; None takes each token by itself.
        """
        pooled = states if means is None else means @ states  # (B, S, d)
        logits: Tensor = self.score(self.dense(pooled).tanh())
        return logits


class PosteriorHead(nn.Module):
    """l^q = v2 tanh(V1 [H ; A ; H - A ; H * A]), A what the source states read in the summary.

    The difference and the product say how well a source token is matched by what it found, as in models of inference (Chen et al.
    2017, ESIM); reading begins with the identity as all four matrices, so that a token finds its like from the first step on.

    >>> PosteriorHead(8, 1, heads=2)(torch.zeros(2, 5, 8), torch.zeros(2, 3, 8), torch.ones(2, 3)).shape
    torch.Size([2, 5, 1])
    """

    def __init__(self, width: int, out: int, *, heads: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.dense = nn.Linear(4 * width, width)
        self.score = nn.Linear(width, out)

    def forward(self, states: Tensor, summary: Tensor, summary_mask: Tensor, means: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            states: (B, T, d), the encoder's states of the source.
            summary: (B, N, d), its states of the summary.
            summary_mask: (B, N), 0 at padding.
            means: as for the prior.
        """
        mask = summary_mask.bool()[:, None, None, :]
        found = self.attention(states, self.attention.keys_values(summary), mask)
        compared = torch.cat([states, found, states - found, states * found], dim=-1)
        pooled = compared if means is None else means @ compared  # (B, S, 4d)
        logits: Tensor = self.score(self.dense(pooled).tanh())
        return logits


class GuidanceMemory(nn.Module):
    """G = GuidLayer(E), E what the base's first encoder layer reads, each sentence by itself; for a gaussian GuidLayer(W z).

    The encoder's own states know the whole document, each of them; here what is chosen is all that is told by it.

    Args:
        layers: encoder layers of the base's family; their attention takes a boolean mask.
        final_norm: whether the family ends its encoder with a LayerNorm (pre-LN families).
        latent_size: L for a gaussian, None for a gate.
    """

    def __init__(self, width: int, layers: list[nn.Module], *, final_norm: bool, latent_size: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(width) if final_norm else None
        if latent_size is not None:
            self.latent = nn.Linear(latent_size, width, bias=False)

    def forward(self, embedded: Tensor, segments: Tensor, present: Tensor) -> Tensor:
        """The memory of a document, (B, T, d), whatever is chosen of it.

        Args:
            embedded: E, (B, T, d).
            segments: (B, T), the sentence of each token.
            present: bool, (B, T), false at padding.
        """
        same = (segments[:, :, None] == segments[:, None, :]) & present[:, None, :]
        own = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)  # padding reads itself
        return self._layers(embedded, (same | own)[:, None])

    def of_vector(self, z: Tensor) -> Tensor:
        """The memory of a gaussian z (B, L): one place, (B, 1, d)."""
        return self._layers(self.latent(z.to(self.latent.weight.dtype))[:, None, :], None)

    def _layers(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden if self.layer_norm is None else self.layer_norm(hidden)


class BagOfWords(nn.Module):
    """A guess of the summary's words: tanh(W m), m the memory's mean weighted by the gate; the base's output matrix reads it.

    The auxiliary loss of Zhao et al. 2017.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, memory: Tensor, weights: Tensor) -> Tensor:
        """(B, d) of the memory (B, T, d) and weights (B, T)."""
        weights = weights.to(memory.dtype)
        mean = (weights[:, None, :] @ memory).squeeze(1) / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        guess: Tensor = self.dense(mean).tanh()
        return guess
