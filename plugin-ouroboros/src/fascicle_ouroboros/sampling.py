"""How a token is chosen from the target's distribution p, and a draft token from the draft model's q. All rules are lossless.

- Greedy (the paper): the likeliest token.
- Coupled: t = argmax(log p + g), g ~ Gumbel noise that follows from (seed, position). The draft uses the same noise, so it often
  agrees; the text depends on p and the seed alone, never on what was drafted (Daliri, Musco, Suresh, 2024). The paper does not
  sample; this is our default.
- Leviathan (Leviathan, Kalman, Matias, 2023, section 2.3): a draft token x ~ q is accepted with probability min(1, p(x)/q(x)),
  otherwise the token is drawn from norm(max(0, p - q)).

A phrase of the pool is a proposal without a distribution (q = δ). Drawing t ~ p and following it through the tree is then exactly
rejection sampling over all proposals ([`accept_candidates`]; SpecInfer, Miao et al., 2024, section 4), in one draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from transformers import LogitsProcessor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Coupled",
    "Greedy",
    "GumbelNoise",
    "Leviathan",
    "Picker",
    "accept_candidates",
    "accept_draft",
    "draw",
    "gumbel",
    "residual",
    "row_seed",
]

_WORD = 2**64


class Picker(Protocol):
    """Chooses tokens for one text."""

    greedy: bool
    """Whether the choice is always the argmax of the scores."""

    def pick(self, scores: Tensor, position: int, drafted: tuple[int, Tensor] | None = None) -> int:
        """The token at `position`, from the target's processed scores (V,). `drafted`: the draft's token there and its q."""
        ...

    def draft(self, scores: Tensor, position: int) -> tuple[int, Tensor | None]:
        """The draft's token at `position`, and q where acceptance needs it."""
        ...


class Greedy:
    """t = argmax p.

    Example:
        >>> Greedy().pick(torch.tensor([0.1, 0.7, 0.2]), position=5)
        1
    """

    greedy = True

    def pick(self, scores: Tensor, position: int, drafted: tuple[int, Tensor] | None = None) -> int:
        """The likeliest token."""
        return int(scores.argmax())

    def draft(self, scores: Tensor, position: int) -> tuple[int, Tensor | None]:
        """The likeliest token of the draft."""
        return int(scores.argmax()), None


class Coupled:
    """t = argmax(log p + g) and x = argmax(log q + g) with the same g.

    Example:
        >>> scores = torch.tensor([0.1, 0.7, 0.2])
        >>> Coupled(seed=3).pick(scores, 5) == Coupled(seed=3).draft(scores, 5)[0]
        True
    """

    greedy = False

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._noise: dict[int, np.ndarray[Any, np.dtype[np.float64]]] = {}

    def pick(self, scores: Tensor, position: int, drafted: tuple[int, Tensor] | None = None) -> int:
        """The token whose noisy score is largest."""
        return self._choose(scores, position)

    def draft(self, scores: Tensor, position: int) -> tuple[int, Tensor | None]:
        """The draft's token under the target's noise."""
        return self._choose(scores, position), None

    def _choose(self, scores: Tensor, position: int) -> int:
        size = len(scores)
        noise = self._noise.get(position)
        if noise is None or len(noise) < size:
            self._noise = {
                p: g for p, g in self._noise.items() if p > position - 64
            }  # draft and target ask for the same ones
            noise = self._noise[position] = gumbel(self.seed, position, size)
        return int(np.argmax(scores.double().cpu().numpy() + noise[:size]))


class Leviathan:
    """Accept x ~ q with probability min(1, p(x)/q(x)), else draw from what p has more than q.

    Example:
        >>> scores = torch.tensor([0.1, 0.7, 0.2])
        >>> token, q = Leviathan(seed=3).draft(scores, 5)
        >>> Leviathan(seed=4).pick(scores, 5, (token, q)) == token  # p = q accepts always
        True
    """

    greedy = False

    def __init__(self, seed: int) -> None:
        self._target, self._draft = (np.random.Generator(np.random.Philox(key=[seed % _WORD, k])) for k in (0, 1))

    def pick(self, scores: Tensor, position: int, drafted: tuple[int, Tensor] | None = None) -> int:
        """Keep the draft's token or draw another; a plain draw where nothing was drafted by the model."""
        p = _probabilities(scores)
        if drafted is None:
            return draw(p, self._target.random())
        token, q = drafted
        if accept_draft(p, q, token, self._target.random()):
            return token
        return draw(residual(p, q), self._target.random())

    def draft(self, scores: Tensor, position: int) -> tuple[int, Tensor | None]:
        """x ~ q."""
        q = _probabilities(scores)
        return draw(q, self._draft.random()), q


class GumbelNoise(LogitsProcessor):
    """Adds the coupled rule's noise to the scores: the argmax of what comes out is the sampled token.

    With it an ordinary greedy loop samples, and writes what [`Coupled`] writes. `padding`: tokens before the text of each row.

    Example:
        >>> noise = GumbelNoise(seed=3)
        >>> scores = torch.tensor([[0.1, 0.7, 0.2]])
        >>> int(noise(torch.zeros(1, 5, dtype=torch.long), scores).argmax()) == Coupled(3).pick(scores[0], 5)
        True
    """

    def __init__(self, seed: int, padding: Sequence[int] = ()) -> None:
        self.seed, self.padding = seed, padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, V) scores with noise, double precision."""
        rows, size = scores.shape
        starts = self.padding or [0] * rows
        places = [input_ids.shape[1] - start for start in starts]
        noise = np.stack([gumbel(row_seed(self.seed, row), place, size) for row, place in enumerate(places)])
        return scores.double() + torch.from_numpy(noise).to(scores.device)


def gumbel(seed: int, position: int, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """g ~ Gumbel(0, 1)^size, g = -log(-log(1 - u)); the first entries are the same whatever the size.

    Example:
        >>> bool((gumbel(1, 7, 4) == gumbel(1, 7, 6)[:4]).all()), bool((gumbel(1, 7, 4) == gumbel(1, 8, 4)).any())
        (True, False)
    """
    u = np.random.Generator(np.random.Philox(key=[seed % _WORD, position])).random(size)
    return -np.log(np.maximum(-np.log1p(-u), np.finfo(np.float64).tiny))


def row_seed(seed: int, row: int) -> int:
    """The seed of a batch's row; row 0 has the batch's own, so a batch of one is its first row.

    Example:
        >>> row_seed(5, 0), row_seed(5, 1) != row_seed(5, 2)
        (5, True)
    """
    return (seed + row * 0x9E3779B97F4A7C15) % _WORD


def accept_draft(p: Tensor, q: Tensor, token: int, u: float) -> bool:
    """u < min(1, p(x)/q(x)), u ~ U[0, 1). A draft's vocabulary may be shorter than the target's.

    Example:
        >>> accept_draft(torch.tensor([0.2, 0.8]), torch.tensor([0.4, 0.6]), 0, u=0.49)
        True
        >>> accept_draft(torch.tensor([0.2, 0.8]), torch.tensor([0.4, 0.6]), 0, u=0.51)
        False
    """
    return u * float(q[token]) < float(p[token])


def residual(p: Tensor, q: Tensor) -> Tensor:
    """norm(max(0, p - q)): what to draw from after a rejection.

    Example:
        >>> residual(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.25, 0.15])).tolist()
        [0.0, 0.625, 0.375]
    """
    left = p.clone()
    left[: len(q)] -= q[: len(p)]
    left.clamp_(min=0)
    total = left.sum()
    return left / total if float(total) > 0 else p


def accept_candidates(p: Tensor, candidates: Sequence[int], us: Sequence[float]) -> tuple[int, bool]:
    """Multi-round rejection over proposals that were not drawn (q_j = δ): accept x_j with p(x_j), else p(x_j) <- 0, renormalise.

    Args:
        p: (V,) the target's distribution.
        candidates: proposals; one that was refused before is refused again.
        us: one uniform number for each candidate and one for the last draw.

    Returns:
        The token, and whether it was a candidate. Its distribution is p.

    Example:
        >>> accept_candidates(torch.tensor([0.5, 0.25, 0.25]), [1, 2], us=[0.3, 0.3, 0.0])
        (2, True)
    """
    left = p.clone()
    for token, u in zip(candidates, us, strict=False):
        if u < float(left[token]):
            return token, True
        left[token] = 0
        left = left / left.sum()
    return draw(left, us[len(candidates)]), False


def draw(p: Tensor, u: float) -> int:
    """The token where the distribution function of p passes u in [0, 1).

    Example:
        >>> [draw(torch.tensor([0.25, 0.0, 0.75]), u) for u in (0.0, 0.2, 0.25, 0.99)]
        [0, 0, 2, 2]
    """
    cumulated = p.double().cumsum(0)
    at = int(torch.searchsorted(cumulated, u * float(cumulated[-1]), right=True))
    return at if at < len(p) else int(p.nonzero()[-1])


def _probabilities(scores: Tensor) -> Tensor:
    return scores.double().softmax(-1)
