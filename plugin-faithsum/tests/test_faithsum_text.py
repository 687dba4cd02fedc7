"""Text as the metrics see it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.text import (
    checked,
    normalize,
    provenance,
    sentence_spans,
    sentence_tokens,
    sentences,
    token_spans,
    tokens,
)

FRANK = Path(os.environ.get("FASCICLE_DATA", "")) / "frank" / "valid.json"
texts = st.text(alphabet=st.sampled_from("aB.!? \n'\"`\\5,日。😀éก"), max_size=60)


@given(text=texts | st.text(max_size=60))
@settings(max_examples=120, deadline=None)
def test_the_spans_of_sentences_cover_the_text_in_order(text: str) -> None:
    spans = sentence_spans(text)
    assert "".join(text[a:b] for a, b in spans) == (text if text.strip() else "")
    assert all(a < b for a, b in spans)


@given(text=st.text(max_size=60))
@settings(max_examples=120, deadline=None)
def test_only_blank_text_has_no_tokens(text: str) -> None:
    assert bool(tokens(text)) == bool(normalize(text))
    assert bool(sentence_tokens(text)) == bool(normalize(text))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It is over.The end came.", ["It is over.", "The end came."]),
        ("he won the cup . she did n't .", ["he won the cup.", "she didn't."]),
        ("The U.S. army met Dr. Smith. It won 3.5 points.", ["The U.S. army met Dr. Smith.", "It won 3.5 points."]),
        ("`` go ! '' he said . they left .", ['"go!"', "he said.", "they left."]),
        ("日本語です。はい。", ["日本語です。", "はい。"]),
        ("no stop", ["no stop"]),
        ("", []),
    ],
)
def test_sentences_end_where_people_end_them(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


@pytest.mark.parametrize(
    ("artefact", "plain"),
    [
        ("it\\'s", "it's"),
        ("``no\\'\\'", '"no"'),
        ("“no”", '"no"'),
        ("sugar bear 's home", "sugar bear's home"),
        ("has n't been", "hasn't been"),
        ("£ 12,000 .", "£12,000."),
        ("a\u00a0b\u200b", "a b"),
        ("\ufb01ne", "fine"),
        ("cafe\u0301", "café"),
        ("-lrb- x -rrb-", "(x)"),
    ],
)
def test_artefacts_and_plain_text_have_the_same_tokens(artefact: str, plain: str) -> None:
    assert tokens(artefact) == tokens(plain)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Paid 1,000.50, twice.", ["paid", "1,000.50", "twice"]),
        ("東京2020", ["東", "京", "2020"]),
        ("Ünïcode ΣΟΦΟΣ", ["ünïcode", "σοφος"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("I 😀 it", ["i", "😀", "it"]),
        ("...", [".", ".", "."]),
    ],
)
def test_tokens_of_many_scripts(text: str, wanted: list[str]) -> None:
    assert tokens(text) == wanted


def test_token_spans_point_into_the_text_as_given() -> None:
    text = "  It\\'s 5\u00a0kg"
    assert [text[a:b] for a, b in token_spans(text)] == ["It", "s", "5", "kg"]


def test_what_is_no_text_is_refused_with_its_place() -> None:
    with pytest.raises(MetricError, match=r"source 3: expected a string, got list; join"):
        checked(["a"], "source", 3)


def test_the_provenance_names_the_splitter() -> None:
    assert provenance()["sentencex"].startswith("1.")


@pytest.mark.realdata
@pytest.mark.skipif(not FRANK.is_file(), reason="FASCICLE_DATA has no frank/valid.json")
def test_no_sentence_of_a_real_article_is_glued() -> None:
    rows = json.loads(FRANK.read_text(encoding="utf-8"))
    for article in {row["article"] for row in rows}:
        spans = sentence_spans(article)
        assert "".join(article[a:b] for a, b in spans) == article
        assert len(spans) > 1
        assert not any("\\'" in s or " . " in s for s in sentences(article))
