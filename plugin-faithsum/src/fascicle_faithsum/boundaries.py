"""Sentences of a document as its tokens show them: which sentence each token is in, and means over sentences.

Our choice: a token that ends a sentence is one of a list of ids (full stops and the like, alone or with closing quotes), so that a
model can tell sentences apart from `input_ids` alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["boundary_token_ids", "segment_ids_from_boundaries", "segment_means", "sentences_of"]

_END = re.compile(r"[\"'”’»)\]]*[.!?。！？…]+[\"'”’»)\]]*")
_MARKS = "Ġ▁Ċ "
_SPECIAL = re.compile(r"<.*>|\[.*\]")


def boundary_token_ids(tokenizer: Any) -> list[int]:
    """Ids of the tokens that are the end of a sentence and nothing else.

    >>> class Words:
    ...     def get_vocab(self):
    ...         return {"a": 0, ".": 1, "Ġ?": 2, '."': 3, ".5": 4, "</s>": 5}
    >>> boundary_token_ids(Words())
    [1, 2, 3]
    """
    return sorted(
        number
        for token, number in tokenizer.get_vocab().items()
        if not _SPECIAL.fullmatch(token) and _END.fullmatch(token.removeprefix("##").strip(_MARKS))
    )


def segment_ids_from_boundaries(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    boundary_ids: Collection[int],
    special_ids: Collection[int] = (),
) -> Tensor:
    """Number of the sentence of each token, (B, T); -1 for padding and special tokens.

    A sentence ends with a boundary token, or with the last of several in a row. A document without one is one sentence.

    Args:
        input_ids: (B, T).
        attention_mask: (B, T), 0 at padding; None is none.
        boundary_ids: of `boundary_token_ids`.
        special_ids: tokens that are no text.

    >>> segment_ids_from_boundaries(
    ...     torch.tensor([[0, 7, 8, 4, 4, 9, 4, 2, 1]]), None, boundary_ids=[4], special_ids=[0, 1, 2]
    ... )
    tensor([[-1,  0,  0,  0,  0,  1,  1, -1, -1]])
    """
    text = ~_isin(input_ids, special_ids)
    if attention_mask is not None:
        text &= attention_mask.bool()
    ends = _isin(input_ids, boundary_ids) & text
    before = ends.cumsum(1) - ends.long()  # (B, T) boundary tokens before t
    word = text & ~ends
    seen = torch.where(word, before, -1).cummax(1).values
    seen = F.pad(seen, (1, 0), value=-1)[
        :, :-1
    ]  # of the words before t: how many boundary tokens stand before the last
    first = text & (text.long().cumsum(1) == 1)
    starts = first | (word & (before > seen.clamp(min=0)))
    return torch.where(text, starts.long().cumsum(1) - 1, -1)


def segment_means(segment_ids: Tensor, segments: int, dtype: torch.dtype) -> Tensor:
    """(B, K, T) whose product with (B, T, d) is the mean over each sentence; zeros for an absent sentence.

    >>> segment_means(torch.tensor([[-1, 0, 0, 2]]), 3, torch.float32).tolist()
    [[[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]]
    """
    member = segment_ids[:, None, :] == torch.arange(segments, device=segment_ids.device)[None, :, None]
    return member.to(dtype) / member.sum(-1, keepdim=True).clamp(min=1)


def _isin(input_ids: Tensor, ids: Collection[int]) -> Tensor:
    wanted: Sequence[int] = sorted(ids)
    return torch.isin(input_ids, torch.tensor(wanted, dtype=input_ids.dtype, device=input_ids.device))


def sentences_of(chosen: Tensor, segments: Tensor) -> Tensor:
    """bool, (B, T): the tokens of the sentences in which one is chosen, since a sentence is remembered whole.

    >>> chosen, segments = torch.tensor([[False, True, False, False]]), torch.tensor([[0, 0, 1, -1]])
    >>> sentences_of(chosen, segments).tolist()
    [[True, True, False, False]]
    """
    count = max(1, int(segments.max()) + 1)
    own = segments.clamp(min=0)
    found = torch.zeros(len(chosen), count, dtype=torch.int8, device=chosen.device)
    found.scatter_reduce_(1, own, (chosen & (segments >= 0)).to(torch.int8), "amax")
    return found.gather(1, own).bool() & (segments >= 0)
