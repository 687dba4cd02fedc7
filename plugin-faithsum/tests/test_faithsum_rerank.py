from __future__ import annotations

import pytest
import torch
from faithsum_texts import DOCUMENTS, texts_model

from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.guidance import summarize
from fascicle_faithsum.rerank import Candidate, best, judge, repeat


class Length:
    name = "length"

    def __call__(self, sources, summaries):
        return [len(summary) / 1000 for summary in summaries]


def test_the_best_score_wins_then_the_likelier():
    judged = judge([Candidate("a", 0.0), Candidate("abc", -9.0), Candidate("abd", -8.0)], "x", Length())
    assert best(judged) == 2
    assert best([Candidate("a", 0.0, float("nan")), Candidate("b", -5.0, 0.1)]) == 1
    with pytest.raises(GuidanceError, match="got none"):
        best([])


def test_rows_repeat_in_place():
    rows = torch.arange(6).reshape(3, 2)
    assert repeat({"input_ids": rows}, 2)["input_ids"].tolist() == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]


def test_the_doubtful_are_flagged_left_out_or_replaced():
    model, tokenizer = texts_model()
    kwargs = {"max_new_tokens": 3, "num_beams": 1, "samples": 3, "rerank": Length(), "threshold": 0.9}
    kept = summarize(model, tokenizer, DOCUMENTS[1:], **kwargs)[0]
    assert kept.flagged
    assert kept.scores["length"] == max(c.score for c in kept.candidates)
    assert summarize(model, tokenizer, DOCUMENTS[1:], below="abstain", **kwargs)[0].text is None
    assert summarize(model, tokenizer, DOCUMENTS[1:], below="extract", **kwargs)[0].text == DOCUMENTS[1]
    assert not summarize(model, tokenizer, DOCUMENTS[1:], **{**kwargs, "threshold": 0.0})[0].flagged
    with pytest.raises(GuidanceError, match="without a metric"):
        summarize(model, tokenizer, DOCUMENTS, threshold=0.5)
