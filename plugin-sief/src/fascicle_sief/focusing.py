"""Sentence importance and the sentence focusing loss (Xu et al., NAACL 2022; formulas of the official code, `SIEF.py`).

Of a pair of entities and a relation r, with p from the whole document and p̂ from the document without one sentence:

    s_r = p_r · log(p_r / (p̂_r + 1e-11))                       importance of that sentence
    E_r = [s_r > β] · [y_r = 1] · [r ≠ no relation]             it is evidence: the cell is left alone
    I_r = alive · (1 − E_r)                                     alive: both entities are still mentioned
    L_SF = Σ I_r · BCE(p̂_r, target p_r) / Σ I_r                 elsewhere the answer must not change

The sums run over all pairs and relations. The target p carries gradient, as in the official code, unless `detach_target`.

Letters: N pairs, C = R + 1 columns; column 0 is "no relation" (link `sigmoid`) or the threshold class (link `threshold`, ATLOP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from .errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FocusingLoss",
    "FocusingOutput",
    "Link",
    "adaptive_threshold_loss",
    "importance",
    "linked",
    "relation_loss",
]

Link = Literal["sigmoid", "threshold"]
EPSILON = 1e-11


def linked(logits: Tensor, link: Link) -> Tensor:
    """(N, C) logits to those of independent decisions: as they are, or (N, C - 1) above the pair's own threshold.

    >>> linked(torch.tensor([[1.0, 3.0, 0.5]]), "threshold").tolist()
    [[2.0, -0.5]]
    """
    z = logits.float()
    return z if link == "sigmoid" else z[:, 1:] - z[:, :1]


def importance(z: Tensor, z_hat: Tensor) -> Tensor:
    """s = p · log(p / (p̂ + 1e-11)), of logits, in float32; negative where the answer became likelier.

    >>> p, p_hat = torch.tensor([0.95, 0.4]), torch.tensor([0.4, 0.9])
    >>> [round(s, 4) for s in importance(p.logit(), p_hat.logit()).tolist()]
    [0.8217, -0.3244]
    """
    p, p_hat = z.float().sigmoid(), z_hat.float().sigmoid()
    return torch.where(p > 0, p * (p / (p_hat + EPSILON)).log(), 0.0)  # 0 · log 0 is 0


@dataclass
class FocusingOutput:
    """The loss and what to watch."""

    loss: Tensor
    """L_SF; scalar."""
    score: Tensor
    """s, (N, C) or (N, C - 1)."""
    exempt: Tensor
    """E, of the same shape, bool."""
    exempt_rate: Tensor
    """Exempt cells of all cells that are gold and alive; 0 where there are none."""
    dead_rate: Tensor
    """Pairs that lost an entity with the sentence."""
    negative_rate: Tensor
    """Alive cells whose relation became likelier without the sentence."""


class FocusingLoss:
    """L_SF; see the module.

    Args:
        beta: β, the score above which a sentence is evidence. Below about half of p the score passes 0.8; a model that is not yet
            sure of anything exempts nothing.
        link: how the model's logits become probabilities.
        detach_target: keep the gradient out of p. Another method than the paper's code, gentler to the scores of small models.
        include_na: count the column "no relation", as the paper's code does with BERT; with GloVe it does not.
        exempt: False leaves no cell alone: pure consistency, a control.

    Example:
        >>> z = torch.tensor([[0.1, 0.95, 0.3]]).logit()
        >>> z_hat = torch.tensor([[0.4, 0.3, 0.35]]).logit()
        >>> out = FocusingLoss()(z, z_hat, labels=torch.tensor([[0.0, 1.0, 0.0]]), alive=torch.tensor([True]))
        >>> round(out.loss.item(), 6), out.exempt.tolist()
        (0.583933, [[False, True, False]])
    """

    def __init__(
        self,
        beta: float = 0.8,
        link: Link = "sigmoid",
        *,
        detach_target: bool = False,
        include_na: bool = True,
        exempt: bool = True,
    ) -> None:
        self.beta, self.link = beta, link
        self.detach_target, self.include_na, self.exempt = detach_target, include_na, exempt

    def __call__(self, z: Tensor, z_hat: Tensor, labels: Tensor, alive: Tensor) -> FocusingOutput:
        """The loss of one batch.

        Args:
            z: (N, C) logits of the whole documents.
            z_hat: (N, C) logits of the documents without a sentence.
            labels: (N, C), 1 where the relation holds.
            alive: (N,) bool.

        Raises:
            ModelError: shapes that do not fit.
        """
        if not z.shape == z_hat.shape == labels.shape or alive.shape != z.shape[:1]:
            raise ModelError(
                f"logits {tuple(z.shape)}, of the shortened documents {tuple(z_hat.shape)}, labels {tuple(labels.shape)}, "
                f"alive {tuple(alive.shape)}: expected (N, C) three times and (N,)"
            )
        first = int(self.link == "threshold")
        z, z_hat, gold = linked(z, self.link), linked(z_hat, self.link), labels[:, first:] > 0
        relation = torch.ones_like(gold)
        if self.link == "sigmoid":
            relation[:, 0] = False
            if not self.include_na:
                z, z_hat, gold, relation = z[:, 1:], z_hat[:, 1:], gold[:, 1:], relation[:, 1:]
        with torch.no_grad():
            score = importance(z, z_hat)
            exempt = (score > self.beta) & gold & relation if self.exempt else torch.zeros_like(gold)
            cells = alive[:, None] & ~exempt  # I
            able = alive[:, None] & gold & relation
        target = z.sigmoid()
        each = F.binary_cross_entropy_with_logits(
            z_hat, target.detach() if self.detach_target else target, reduction="none"
        )
        loss = torch.where(cells, each, 0.0).sum() / cells.sum().clamp(min=1)
        alive_cells = alive.sum() * z.shape[1]
        return FocusingOutput(
            loss=loss,
            score=score,
            exempt=exempt & alive[:, None],
            exempt_rate=(exempt & able).sum() / able.sum().clamp(min=1),
            dead_rate=1 - alive.float().mean() if len(alive) else z.new_zeros(()),
            negative_rate=((score < 0) & alive[:, None]).sum() / alive_cells.clamp(min=1),
        )


def relation_loss(
    logits: Tensor, labels: Tensor, link: Link = "sigmoid", *, include_na: bool = True, pairs: Tensor | None = None
) -> Tensor:
    """L_RE, the mean over pairs: binary cross-entropy over all cells, or ATLOP's adaptive threshold loss.

    Args:
        logits: (N, C).
        labels: (N, C).
        link: of the model.
        include_na: whether the column "no relation" counts (link `sigmoid`).
        pairs: (N,) bool, pairs that count; all by default. 0 where none does.

    Example:
        >>> round(relation_loss(torch.zeros(2, 3), torch.eye(2, 3)).item(), 4)
        0.6931
    """
    counted = torch.ones(len(logits), dtype=torch.bool, device=logits.device) if pairs is None else pairs
    if link == "threshold":
        each = adaptive_threshold_loss(logits, labels)
    else:
        first = int(not include_na)
        each = F.binary_cross_entropy_with_logits(
            logits.float()[:, first:], labels.float()[:, first:], reduction="none"
        ).mean(1)
    return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)


def adaptive_threshold_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """ATLOP's loss, (N,): positives are pushed above the threshold class TH (column 0), TH above the negatives.

    L = −Σ_{r ∈ P} log softmax_{P ∪ {TH}}(z)_r − log softmax_{N ∪ {TH}}(z)_TH   (Zhou et al., AAAI 2021)

    Example:
        >>> easy = adaptive_threshold_loss(torch.tensor([[0.0, 9.0, -9.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
        >>> easy.item() < 1e-3
        True
    """
    z = logits.float()
    positive = labels > 0
    positive[:, 0] = False
    threshold = torch.zeros_like(positive)
    threshold[:, 0] = True
    low = torch.finfo(z.dtype).min
    above = torch.where(positive | threshold, z, low).log_softmax(1)
    below = torch.where(positive, low, z).log_softmax(1)
    return -torch.where(positive, above, 0.0).sum(1) - below[:, 0]
