"""Bounds of -log p(y|x), and its value where z can be enumerated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from .errors import GuidanceError
from .outputs import GuidedEncoderOutput

if TYPE_CHECKING:
    from torch import Tensor

    from .outputs import EncodedSource

__all__ = ["LikelihoodMixin", "document_nll", "evaluating", "smoothed_nll"]


class LikelihoodMixin:
    """Likelihoods of a guided model."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @torch.no_grad()
    def iw_nll(self, batch: Mapping[str, Tensor], samples: int) -> Tensor:
        """-log 1/S sum_s p(z_s|x) p(y|x,z_s) / q(z_s|x,y), z_s ~ q: an upper bound of -log p(y|x), (B,), in nats.

        One sample estimates the negative ELBO; more samples make the bound tighter (Burda et al. 2016). In evaluation mode; draws
        come from torch's generator.

        Args:
            batch: `input_ids` and `labels`, perhaps `attention_mask` and `segment_ids`.
            samples: S.
        """
        if samples < 1:
            raise GuidanceError(f"samples: got {samples}, expected at least 1")
        with evaluating(self):
            encoded, source, prior, posterior = self._both(batch)
            family, log_weights = self.family, []
            for _ in range(samples):
                z = family.draw(posterior, source.z_mask)
                ratio = family.log_prob(z, prior, source.z_mask) - family.log_prob(z, posterior, source.z_mask)
                log_weights.append(ratio - self._nll_given(encoded, source, z, batch))
        return torch.tensor(float(samples)).log() - torch.stack(log_weights).logsumexp(0)

    @torch.no_grad()
    def exact_nll(self, batch: Mapping[str, Tensor]) -> Tensor:
        """-log sum_k p(z=k|x) p(y|x,z=k), (B,), in nats; of a `sentence` latent. Costs K decoder passes.

        Raises:
            GuidanceError: another family, where the sum has too many terms.
        """
        return -self.joint_log_probs(batch)[0].logsumexp(-1)

    @torch.no_grad()
    def joint_log_probs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(log p(y, z=k|x), log p(z=k|x), log q(z=k|x,y)), each (B, K), of a `sentence` latent; -1e9 for an absent sentence.

        Raises:
            GuidanceError: another family.
        """
        if self.config.latent_type != "sentence":
            raise GuidanceError(
                f"exact_nll: got a {self.config.latent_type} latent, expected sentence, the one that can be enumerated; use iw_nll"
            )
        with evaluating(self):
            encoded, source, prior, posterior = self._both(batch)
            every = torch.eye(
                prior.shape[1], device=prior.device, dtype=torch.promote_types(prior.dtype, torch.float32)
            )
            family, mask = self.family, source.z_mask
            joint, log_p, log_q = [], [], []
            for k in range(len(every)):
                z = every[k].expand(len(prior), -1)
                log_p.append(family.log_prob(z, prior, mask))
                log_q.append(family.log_prob(z, posterior, mask))
                joint.append(log_p[-1] - self._nll_given(encoded, source, z, batch))
        return torch.stack(joint, 1), torch.stack(log_p, 1), torch.stack(log_q, 1)

    def _both(self, batch: Mapping[str, Tensor]) -> tuple[Any, EncodedSource, Tensor, Tensor]:
        attention_mask = batch.get("attention_mask")
        encoded = self.encode_source(batch["input_ids"], attention_mask)
        source = self._source(encoded.last_hidden_state, batch["input_ids"], attention_mask, batch.get("segment_ids"))
        prior = self._logits(self.guidance_prior(source.states, source.means))
        return encoded, source, prior, self._posterior(source, batch["labels"])

    def _nll_given(self, encoded: Any, source: EncodedSource, z: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """-log p(y|x,z), (B,)."""
        _, cache, weights = self._remember(source, z, self._gate(z, source))
        guided = GuidedEncoderOutput(
            last_hidden_state=encoded.last_hidden_state,
            guidance_cache=cache,
            guidance_weights=weights,
        )
        told = {"attention_mask": batch.get("attention_mask"), "encoder_outputs": guided}
        logits = self.forward(
            **told, decoder_input_ids=self.prepare_decoder_input_ids_from_labels(batch["labels"]), use_cache=False
        ).logits
        return document_nll(logits, batch["labels"])


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode inside the block."""
    states = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in states:
            module.training = training


def document_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p of the labels, summed over each document's tokens, (B,); at least in float32.

    >>> document_nll(torch.zeros(1, 2, 4), torch.tensor([[3, -100]])).exp()
    tensor([4.])
    """
    wide = _wide(logits)
    return (
        F.cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none")
        .view_as(labels)
        .sum(1)
    )


def smoothed_nll(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`document_nll`, and the mean over the vocabulary of -log p, summed over the target tokens alike: both from one softmax.

    >>> [x.exp() for x in smoothed_nll(torch.zeros(1, 2, 4), torch.tensor([[3, -100]]))]
    [tensor([4.]), tensor([4.])]
    """
    log_p = _wide(logits).log_softmax(-1)
    absent = labels == -100
    chosen = log_p.gather(-1, labels.masked_fill(absent, 0)[..., None]).squeeze(-1)
    nll, smooth = (-x.masked_fill(absent, 0.0).sum(1) for x in (chosen, log_p.mean(-1)))
    return nll, smooth


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
