"""Training under the focusing loss, for any model of relations, and its controls.

A model joins by one small protocol: `model(**batch)` answers with `.logits` of shape (N, R + 1), where `batch` holds the tensors of
`features.collate` without the labels. How logits become probabilities is `model.config.link`, `sigmoid` where it does not say.

What is random here (the sentence to remove, the pairs that no relation joins) is drawn from the run's seed, the step and the
document, so it does not depend on how a batch is split, nor on a run having been killed and resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from fascicle.objects import LossOutput

from .errors import ModelError
from .features import Shortened, count_sentences, shorten
from .focusing import FocusingLoss, relation_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fascicle.objects import Step

    from .focusing import Link

__all__ = ["Focusing", "Mode", "choose_pairs", "choose_sentences", "joint", "link_of"]

Mode = Literal["focusing", "consistency", "random_drop", "none"]


class Focusing:
    """L = (1 − w) · L_RE + w · L_SF, with w = 1/2 in the paper's code; L_RE on the whole document.

    The loss of a batch is its own mean: over pairs in L_RE, over cells in L_SF. So batches that are accumulated weigh by their
    documents, not by their cells, and one large batch is not exactly the mean of its parts.

    Args:
        mode: `focusing`, the paper; `consistency`, the same with no cell exempt; `random_drop`, the shortened document with its
            gold labels instead of L_SF; `none`, L_RE alone.
        beta, detach_target, include_na: of [`FocusingLoss`].
        sentences: removed from each document at a step; of a shorter document all but one.
        weight: w.
        warmup: part of training during which w is 0.
        negatives: pairs without a relation that take part, for each pair with one; None: all.
        min_negatives: at least so many in each document.
        distance: `full` keeps the distance between entities as it was in the whole document, as the paper's code does;
            `recomputed` measures it in the shortened one.
        one_pass: whole and shortened documents in one batch, with more padding.
        seed: of the draws.
        pad_id: token of the padding.

    Example:
        >>> Focusing(mode="consistency").loss_of.exempt
        False
    """

    def __init__(
        self,
        mode: Mode = "focusing",
        *,
        beta: float = 0.8,
        detach_target: bool = False,
        include_na: bool = True,
        sentences: int = 1,
        weight: float = 0.5,
        warmup: float = 0.0,
        negatives: float | None = None,
        min_negatives: int = 20,
        distance: Literal["full", "recomputed"] = "full",
        one_pass: bool = False,
        seed: int = 0,
        pad_id: int = 0,
    ) -> None:
        self.mode, self.sentences, self.weight, self.warmup = mode, sentences, weight, warmup
        self.negatives, self.min_negatives = negatives, min_negatives
        self.distance, self.one_pass, self.seed, self.pad_id = distance, one_pass, seed, pad_id
        self.loss_of = FocusingLoss(
            beta, detach_target=detach_target, include_na=include_na, exempt=mode != "consistency"
        )

    def loss(
        self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Tensor | int | None = None
    ) -> LossOutput:
        """Loss of one batch.

        Raises:
            ModelError: the model does not answer with logits of pairs.
        """
        inputs = self._sampled(batch, step.global_step)
        labels = inputs.pop("labels")
        link = link_of(model)
        self.loss_of.link = link
        done = step.global_step / max(1, step.max_steps)
        if self.mode == "none" or done < self.warmup:
            outputs = model(**inputs)
            loss = relation_loss(_logits(outputs, labels), labels, link, include_na=self.loss_of.include_na)
            return LossOutput(loss=loss, parts={"relation_loss": loss.detach()}, outputs=outputs)
        short = self._shortened(inputs, step.global_step)
        if self.one_pass:
            outputs = model(**joint(inputs, short.batch, self.pad_id))
            z, z_hat = _logits(outputs, torch.cat([labels, labels])).chunk(2)
        else:
            outputs = model(**inputs)
            z, z_hat = _logits(outputs, labels), _logits(model(**short.batch), labels)
        return self._weighed(z, z_hat, labels, short.alive, link, outputs)

    def _weighed(self, z: Tensor, z_hat: Tensor, labels: Tensor, alive: Tensor, link: Link, outputs: Any) -> LossOutput:
        base = relation_loss(z, labels, link, include_na=self.loss_of.include_na)
        watched = self.loss_of(z.detach(), z_hat.detach(), labels, alive) if self.mode == "random_drop" else None
        if watched is None:
            watched = self.loss_of(z, z_hat, labels, alive)
            second = watched.loss
        else:
            second = relation_loss(z_hat, labels, link, include_na=self.loss_of.include_na, pairs=alive)
        return LossOutput(
            loss=(1 - self.weight) * base + self.weight * second,
            parts={
                "relation_loss": base.detach(),
                ("shortened_loss" if self.mode == "random_drop" else "focusing_loss"): second.detach(),
                "exempt_rate": watched.exempt_rate,
                "dead_rate": watched.dead_rate,
                "negative_rate": watched.negative_rate,
            },
            outputs=outputs,
        )

    def _sampled(self, batch: Mapping[str, Any], step: int) -> dict[str, Any]:
        """The batch with the pairs that take part; the same ones in both views."""
        inputs = dict(batch)
        if self.negatives is None:
            return inputs
        chosen = choose_pairs(inputs, self.negatives, self.min_negatives, self.seed, step)
        return inputs | {name: inputs[name][chosen] for name in ("pairs", "labels", "distances")}

    def _shortened(self, inputs: Mapping[str, Any], step: int) -> Shortened:
        drop = choose_sentences(inputs, self.sentences, self.seed, step)
        short = shorten(inputs, drop, self.pad_id)
        if self.distance == "recomputed":
            short.batch["distances"] = _distances(short.batch)
        # a document that lost nothing, since it has one sentence only, would teach its own answer to itself
        return Shortened(short.batch, short.alive & drop.any(1)[inputs["pairs"][:, 0]])


def choose_sentences(batch: Mapping[str, Any], count: int, seed: int, step: int) -> Tensor:
    """(B, S) bool: `count` random sentences of each document, at most all but one; uniform, and the same for the same document.

    >>> batch = {"sentence_ids": torch.tensor([[-1, 0, 1, 2, -1]]), "document": torch.tensor([4])}
    >>> choose_sentences(batch, 2, seed=1, step=0).sum().item()
    2
    """
    numbers = count_sentences(batch).tolist()
    drop = np.zeros((len(numbers), max([*numbers, 1])), bool)
    for b, (document, sentences) in enumerate(zip(batch["document"].tolist(), numbers, strict=True)):
        drop[b, _draws(seed, step, document, 0).permutation(sentences)[: min(count, sentences - 1)]] = True
    return torch.from_numpy(drop).to(batch["sentence_ids"].device)


def choose_pairs(batch: Mapping[str, Any], ratio: float, least: int, seed: int, step: int) -> Tensor:
    """(N,) bool: all pairs with a relation, and of each document max(least, ratio · their number) random others.

    >>> batch = {"pairs": torch.tensor([[0, 0, 1], [0, 1, 0], [0, 0, 2]]), "document": torch.tensor([4])}
    >>> batch["labels"] = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> choose_pairs(batch, 1.0, 0, seed=1, step=0).sum().item()
    2
    """
    where = batch["pairs"][:, 0].cpu().numpy()
    related = batch["labels"][:, 1:].any(1).cpu().numpy()
    chosen = related.copy()
    for b, document in enumerate(batch["document"].tolist()):
        others = np.flatnonzero((where == b) & ~related)
        wanted = max(least, round(ratio * int((related & (where == b)).sum())))
        chosen[_draws(seed, step, document, 1).permutation(others)[:wanted]] = True
    return torch.from_numpy(chosen).to(batch["pairs"].device)


def _draws(seed: int, step: int, document: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, (step << 34 | document << 2 | purpose) % 2**64]))


def joint(whole: Mapping[str, Tensor], short: Mapping[str, Tensor], pad_id: int = 0) -> dict[str, Tensor]:
    """One batch of 2B documents: the whole ones, then the shortened ones, whose pairs follow.

    >>> ids = torch.tensor([[1, 5, 2]])
    >>> pairs = torch.tensor([[0, 0, 1]])
    >>> both = joint({"input_ids": ids, "pairs": pairs}, {"input_ids": ids[:, :2], "pairs": pairs})
    >>> both["input_ids"].tolist(), both["pairs"].tolist()
    ([[1, 5, 2], [1, 5, 0]], [[0, 0, 1], [1, 0, 1]])
    """
    out = {}
    for name, one in whole.items():
        two = short[name]
        if name == "pairs":
            two = two + torch.tensor([len(whole["input_ids"]), 0, 0], device=two.device)
        elif one.dim() == 2 and two.shape[1] < one.shape[1]:
            fill = pad_id if name == "input_ids" else -1 if name == "sentence_ids" else 0
            two = torch.nn.functional.pad(two, (0, one.shape[1] - two.shape[1]), value=fill)
        out[name] = torch.cat([one, two])
    return out


def link_of(model: Any) -> Link:
    """How the model's logits become probabilities; looks under DDP, compile and PEFT wrappers.

    >>> link_of(torch.nn.Linear(1, 1))
    'sigmoid'
    """
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, torch.nn.Module):
            return link_of(inner)
    link: Link = getattr(getattr(model, "config", None), "link", "sigmoid")
    return link


def _logits(outputs: Any, labels: Tensor) -> Tensor:
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.shape != labels.shape:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"the model answered with logits {got}, expected {tuple(labels.shape)}: a row for each pair, a column for each "
            "relation and one before them for none"
        )
    return logits


def _distances(batch: Mapping[str, Tensor]) -> Tensor:
    """(N,) between first mentions; 0 where an entity is gone."""
    entities, pairs = batch["mention_entities"], batch["pairs"]
    most = max(int(pairs[:, 1:].max()) + 1 if len(pairs) else 0, int(entities.max()) + 1 if entities.numel() else 0)
    far = torch.iinfo(torch.long).max
    first = torch.full((len(entities), most + 1), far, device=entities.device)
    first.scatter_reduce_(1, torch.where(entities >= 0, entities, most), batch["mention_starts"], "amin")
    b, h, t = pairs.unbind(1)
    head, tail = first[b, h], first[b, t]
    return torch.where((head < far) & (tail < far), tail - head, 0)
