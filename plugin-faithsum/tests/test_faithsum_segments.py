from __future__ import annotations

import pytest
from faithsum_texts import DOCUMENTS, texts_model

from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.segments import encode, encode_documents


def test_each_token_is_in_the_sentence_of_its_text():
    _, tokenizer = texts_model()
    encoded = encode(tokenizer, DOCUMENTS)
    for document, row in zip(encoded.documents, encoded.inputs["segment_ids"].tolist(), strict=True):
        for (start, end), segment in zip(document.offsets, row, strict=True):
            assert (segment == -1) == (end == start)
            if segment >= 0:
                assert document.text[start:end].strip() in document.sentence(segment)
    assert set(encoded.inputs["segment_ids"][0].tolist()) == {-1, 0, 1, 2}
    assert set(encoded.inputs["segment_ids"][1].tolist()) == {-1, 0}


def test_sentences_may_be_given():
    _, tokenizer = texts_model()
    encoded = encode(tokenizer, [["The film", "was good."]])
    assert [encoded.documents[0].sentence(n) for n in (0, 1)] == ["The film", "was good."]
    assert set(encoded.documents[0].segments) == {-1, 0, 1}


def test_truncation_is_counted():
    _, tokenizer = texts_model()
    whole = encode(tokenizer, DOCUMENTS[:1]).documents[0]
    first = whole.segments.count(0)
    assert (whole.lost, whole.cut) == (0, 0)
    assert [(d.lost, d.cut) for d in encode(tokenizer, DOCUMENTS[:1], first + 2).documents] == [(2, 0)]
    assert [(d.lost, d.cut) for d in encode(tokenizer, DOCUMENTS[:1], first + 3).documents] == [(1, 1)]


def test_bad_input_is_told():
    _, tokenizer = texts_model()
    with pytest.raises(GuidanceError, match="empty document"):
        encode_documents(tokenizer, [" "])
    with pytest.raises(GuidanceError, match="slow one"):
        encode_documents(object(), ["a"])
    with pytest.raises(GuidanceError, match="in order"):
        encode_documents(tokenizer, ["It was."], sentences=[[(0, 99)]])
