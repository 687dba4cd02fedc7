"""Latent families: what z is, its KL, and how it is drawn.

    sentence    one of the document's K sentences                      logits (B, K)
    bernoulli   yes or no for each of T tokens, independent             logits (B, T)
    gaussian    a vector of L numbers, independent                      logits (B, 2L): means, then log variances

    KL sentence  = sum_k q_k (log q_k - log p_k)
    KL bernoulli = sum_t [ q_t (l^q_t - l^p_t) - sp(l^q_t) + sp(l^p_t) ]              sp = softplus, q_t = sigmoid(l^q_t)
    KL gaussian  = 1/2 sum [ log(s2_p / s2_q) + (s2_q + (mu_q - mu_p)^2) / s2_p - 1 ]

Everything is summed per document, in float32 or wider; masked places (padding, absent sentences) count nothing. Relaxed draws: the
Gumbel-softmax and its binary form, the concrete distribution (Jang et al. 2017, Maddison et al. 2017), straight-through if `hard`.
Which families the paper uses is not known to us; the reconstruction offers three.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from .errors import GuidanceError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LATENTS", "Bernoulli", "Gaussian", "Latent", "Sentence", "latent"]


class Latent(ABC):
    """One family. `mask` is bool: (B, K) sentences that exist, or (B, T) tokens in a sentence; a gaussian takes none."""

    name: str

    @abstractmethod
    def kl(self, q: Tensor, p: Tensor, mask: Tensor | None = None) -> Tensor:
        """KL(q || p) in nats, (B,); `q` and `p` are logits."""

    @abstractmethod
    def relaxed(self, logits: Tensor, mask: Tensor | None = None, *, tau: float = 1.0, hard: bool = False) -> Tensor:
        """A draw that gradients pass; `hard` is a true draw of the family with the gradient of the relaxed one.

        Args:
            tau: temperature, above 0; the smaller, the nearer to a true draw. A gaussian has none.
        """

    @abstractmethod
    def draw(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """A true draw."""

    @abstractmethod
    def map(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """The most probable z."""

    @abstractmethod
    def mean(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """The expectation of z."""

    @abstractmethod
    def topk(self, logits: Tensor, mask: Tensor | None = None, k: int = 1) -> Tensor:
        """1 at the k most probable places, 0 elsewhere; fewer where a document has fewer."""

    @abstractmethod
    def log_prob(self, z: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """log p(z), (B,); a density for a gaussian."""

    @abstractmethod
    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """In nats, (B,); differential for a gaussian."""


class Sentence(Latent):
    """Categorical over the sentences of a document.

    >>> family, logits = Sentence(), torch.tensor([[2.0, 0.0, 9.0]])
    >>> family.map(logits, mask=torch.tensor([[True, True, False]])).tolist()
    [[1.0, 0.0, 0.0]]
    """

    name = "sentence"

    def kl(self, q: Tensor, p: Tensor, mask: Tensor | None = None) -> Tensor:
        log_q, log_p = _log_softmax(q, mask), _log_softmax(p, mask)
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def relaxed(self, logits: Tensor, mask: Tensor | None = None, *, tau: float = 1.0, hard: bool = False) -> Tensor:
        logits = _masked(logits, mask)
        gumbel = -torch.empty_like(logits).exponential_().log()
        soft = ((logits + gumbel) / tau).softmax(-1)
        return _absent(_one_hot(soft.argmax(-1), soft) + (soft - soft.detach()) if hard else soft, mask)

    def draw(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        probs = _masked(logits, mask).softmax(-1)
        return _absent(_one_hot(torch.multinomial(probs, 1).squeeze(-1), probs), mask)

    def map(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        logits = _masked(logits, mask)
        return _absent(_one_hot(logits.argmax(-1), logits), mask)

    def mean(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return _absent(_masked(logits, mask).softmax(-1), mask)

    def topk(self, logits: Tensor, mask: Tensor | None = None, k: int = 1) -> Tensor:
        return _topk(logits, mask, k)

    def log_prob(self, z: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return (z * _log_softmax(logits, mask)).sum(-1)

    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        log_p = _log_softmax(logits, mask)
        return -(log_p.exp() * log_p).sum(-1)


class Bernoulli(Latent):
    """Independent yes or no per token.

    >>> family, logits = Bernoulli(), torch.tensor([[2.0, -1.0, 9.0]])
    >>> family.map(logits, mask=torch.tensor([[True, True, False]])).tolist()
    [[1.0, 0.0, 0.0]]
    """

    name = "bernoulli"

    def kl(self, q: Tensor, p: Tensor, mask: Tensor | None = None) -> Tensor:
        q, p = _wide(q), _wide(p)
        return _absent(q.sigmoid() * (q - p) - F.softplus(q) + F.softplus(p), mask).sum(-1)

    def relaxed(self, logits: Tensor, mask: Tensor | None = None, *, tau: float = 1.0, hard: bool = False) -> Tensor:
        logits = _wide(logits)
        logistic = torch.empty_like(logits).exponential_().log() - torch.empty_like(logits).exponential_().log()
        soft = ((logits + logistic) / tau).sigmoid()
        return _absent((soft > 0.5).to(soft) + (soft - soft.detach()) if hard else soft, mask)

    def draw(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return _absent(torch.bernoulli(_wide(logits).sigmoid()), mask)

    def map(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return _absent((logits > 0).to(_wide(logits)), mask)

    def mean(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return _absent(_wide(logits).sigmoid(), mask)

    def topk(self, logits: Tensor, mask: Tensor | None = None, k: int = 1) -> Tensor:
        return _topk(logits, mask, k)

    def log_prob(self, z: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        logits = _wide(logits)
        return _absent(z * logits - F.softplus(logits), mask).sum(-1)

    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        logits = _wide(logits)
        return _absent(F.softplus(logits) - logits.sigmoid() * logits, mask).sum(-1)


class Gaussian(Latent):
    """Independent normal numbers; the mean is the most probable vector. It points at nothing, so there is no `topk`.

    >>> Gaussian().mean(torch.tensor([[1.0, 2.0, 0.0, 0.0]])).tolist()
    [[1.0, 2.0]]
    """

    name = "gaussian"

    def kl(self, q: Tensor, p: Tensor, mask: Tensor | None = None) -> Tensor:
        (mu_q, log_q), (mu_p, log_p) = _halves(q), _halves(p)
        return 0.5 * (log_p - log_q + (log_q - log_p).exp() + (mu_q - mu_p) ** 2 * (-log_p).exp() - 1).sum(-1)

    def relaxed(self, logits: Tensor, mask: Tensor | None = None, *, tau: float = 1.0, hard: bool = False) -> Tensor:
        mu, log_variance = _halves(logits)
        return mu + (log_variance / 2).exp() * torch.randn_like(mu)

    def draw(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.relaxed(logits)

    def map(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return _halves(logits)[0]

    def mean(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return _halves(logits)[0]

    def topk(self, logits: Tensor, mask: Tensor | None = None, k: int = 1) -> Tensor:
        raise GuidanceError(
            "guidance_mode: got 'topk' for a gaussian latent, which has no places to choose; expected map or sample"
        )

    def log_prob(self, z: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        mu, log_variance = _halves(logits)
        return -0.5 * ((z - mu) ** 2 * (-log_variance).exp() + log_variance + _LOG_2PI).sum(-1)

    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        return 0.5 * (_halves(logits)[1] + _LOG_2PI + 1).sum(-1)


_LOG_2PI = 1.8378770664093453  # log(2 pi)

LATENTS: dict[str, Latent] = {family.name: family for family in (Sentence(), Bernoulli(), Gaussian())}
"""Families by name."""


def latent(name: str) -> Latent:
    """The family of that name.

    Raises:
        GuidanceError: there is none.

    >>> latent("sentence").name
    'sentence'
    """
    if name not in LATENTS:
        raise GuidanceError(f"latent_type: got {name!r}, expected one of {', '.join(LATENTS)}")
    return LATENTS[name]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _halves(logits: Tensor) -> tuple[Tensor, Tensor]:
    mu, log_variance = _wide(logits).chunk(2, dim=-1)
    return mu, log_variance


def _masked(logits: Tensor, mask: Tensor | None) -> Tensor:
    logits = _wide(logits)
    return logits if mask is None else logits.masked_fill(~mask, torch.finfo(logits.dtype).min)


def _absent(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values.masked_fill(~mask, 0.0)


def _log_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    log_p = _masked(logits, mask).log_softmax(-1)
    # an absent sentence has probability 0 and takes part in no sum; a large negative number keeps 0 log 0 = 0 without a NaN
    return log_p if mask is None else log_p.masked_fill(~mask, -1e9)


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return F.one_hot(index, like.shape[-1]).to(like)


def _topk(logits: Tensor, mask: Tensor | None, k: int) -> Tensor:
    logits = _masked(logits, mask)
    if k < 1:
        raise GuidanceError(f"guidance_k: got {k}, expected at least 1")
    best = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
    return _absent(torch.zeros_like(logits).scatter(-1, best, 1.0), mask)
