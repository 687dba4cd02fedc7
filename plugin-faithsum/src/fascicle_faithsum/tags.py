"""Weak supervision of guidance from a gold summary: which tokens, or which sentence, it takes from the document.

Token tags by the longest common subsequence follow LQSum (Xu & Lapata 2022). Tags are supervision, of training only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["lcs_tags", "sentence_tags"]


def lcs_tags(source_ids: Sequence[int], summary_ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """1 for the source tokens in a longest common subsequence with the summary, 0 for others; the one that ends earliest.

    Takes T rows of N, in time and in memory, for T source and N summary tokens.

    >>> lcs_tags([7, 5, 9, 5, 8], [5, 8]).tolist()
    [0.0, 1.0, 0.0, 0.0, 1.0]
    """
    source, summary = _flat("source_ids", source_ids), _flat("summary_ids", summary_ids)
    lengths = np.zeros((len(source) + 1, len(summary) + 1), np.int32)
    for i, token in enumerate(source):
        above = lengths[i]
        # a row never falls and grows by at most 1 over the row above, so a running maximum is the recurrence
        np.maximum.accumulate(np.where(summary == token, above[:-1] + 1, above[1:]), out=lengths[i + 1, 1:])
    tags = np.zeros(len(source), np.float32)
    i, j = len(source), len(summary)
    while i and j:
        if lengths[i - 1, j] == lengths[i, j]:
            i -= 1
        elif source[i - 1] != summary[j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            tags[i] = 1
    return tags


def sentence_tags(
    segment_ids: Sequence[int],
    source_ids: Sequence[int],
    summary_ids: Sequence[int],
    stop_ids: Collection[int] = (),
) -> npt.NDArray[np.float32]:
    """1 for the sentence that shares most different tokens with the summary, the first of equals; all 0 where none shares any.

    A token that stands in every sentence decides nothing, so `stop_ids` needs only frequent ones that stand in some.

    Args:
        segment_ids: (T,), the sentence of each token, -1 outside.
        source_ids: (T,).
        summary_ids: (N,).
        stop_ids: tokens that do not count.

    Returns:
        (K,), one per sentence.

    >>> sentence_tags([-1, 0, 0, 1, 1], [0, 5, 4, 7, 4], [7, 4]).tolist()
    [0.0, 1.0]
    """
    segments, source = _flat("segment_ids", segment_ids), _flat("source_ids", source_ids)
    if len(segments) != len(source):
        raise ValueError(f"segment_ids: got {len(segments)} for {len(source)} source_ids, expected one per token")
    wanted = np.setdiff1d(_flat("summary_ids", summary_ids), _flat("stop_ids", list(stop_ids)))
    count = int(segments.max(initial=-1)) + 1
    shared = [len(np.intersect1d(source[segments == k], wanted)) for k in range(count)]
    tags = np.zeros(count, np.float32)
    if any(shared):
        tags[int(np.argmax(shared))] = 1
    return tags


def _flat(name: str, ids: Sequence[int]) -> npt.NDArray[np.int64]:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name}: got shape {array.shape} of {array.dtype}, expected a flat row of token numbers")
    return array.astype(np.int64)
