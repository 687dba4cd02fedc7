"""Tags against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fascicle_faithsum.tags import lcs_tags, sentence_tags

tokens = st.lists(st.integers(0, 4), max_size=8)


def _inside(wanted: tuple[int, ...], row: list[int]) -> bool:
    left = iter(row)
    return all(token in left for token in wanted)


def _earliest(source: list[int], summary: list[int]) -> list[float]:
    """Of all longest choices of places, the one whose places, from the last back, are earliest."""
    for size in range(min(len(source), len(summary)), -1, -1):
        found = [
            places
            for places in combinations(range(len(source)), size)
            if _inside(tuple(source[i] for i in places), summary)
        ]
        if found:
            best = min(found, key=lambda places: places[::-1])
            return [float(i in best) for i in range(len(source))]
    raise AssertionError


@given(source=tokens, summary=tokens)
def test_lcs_against_all_choices(source: list[int], summary: list[int]) -> None:
    assert lcs_tags(source, summary).tolist() == _earliest(source, summary)


@given(source=tokens)
def test_a_document_is_its_own_summary(source: list[int]) -> None:
    assert lcs_tags(source, source).sum() == len(source)


def test_sentence_tags() -> None:
    segments, source = [-1, 0, 0, 0, 1, 1, 1, -1], [0, 5, 6, 4, 7, 8, 4, 2]
    assert sentence_tags(segments, source, [4, 8, 2]).tolist() == [0, 1]
    assert sentence_tags(segments, source, [4]).tolist() == [1, 0], "the first of equals"
    assert sentence_tags(segments, source, [4], stop_ids=[4]).tolist() == [0, 0], "nothing shared"
    assert sentence_tags(segments, source, [5, 7, 8], stop_ids=[7, 8]).tolist() == [1, 0]
    assert sentence_tags([0, 0, 1, 1], [5, 5, 6, 7], [5, 6, 7]).tolist() == [0, 1], "different tokens count once"
    assert sentence_tags([-1], [0], [5]).shape == (0,)


def test_malformed_rows() -> None:
    with pytest.raises(ValueError, match="segment_ids: got 1 for 2"):
        sentence_tags([0], [1, 2], [1])
    with pytest.raises(ValueError, match="source_ids: got shape"):
        lcs_tags(np.zeros((2, 2), int), [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"summary_ids: got shape .* float64"):
        lcs_tags([1], [1.5])  # type: ignore[list-item]
