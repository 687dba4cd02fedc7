"""Plain text becomes a document: words, sentences, mentions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from fascicle_sief.errors import DocumentError
from fascicle_sief.text import document_from_text, occurrences, sentence_splitter, words

if TYPE_CHECKING:
    from fascicle_sief.document import Document

WILK = "Brad Wilk plays drums.  He founded Audioslave\nwith Chris. The drummer Wilk is 56!\n"


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


def mentioned(doc: Document, entity: int) -> list[str]:
    return [doc.text(m.sentence, m.start, m.end) for m in doc.entities[entity]]


def by_stops(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"[^.!]+[.!]?", text)]


def as_written(doc: Document) -> str:
    assert doc.trailing is not None
    return "".join(
        w + after
        for sentence, blanks in zip(doc.sentences, doc.trailing, strict=True)
        for w, after in zip(sentence, blanks, strict=True)
    )


# ---- words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Brad's 2nd_band (1991).", ["Brad", "'", "s", "2nd_band", "(", "1991", ")", "."]),
        ("", []),
        (" \n\t", []),
        ("他住在LA市。", ["他", "住", "在", "LA", "市", "。"]),
        ("カナダ", ["カ", "ナ", "ダ"]),
        ("Zürich", ["Zu\u0308rich"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are marks, not letters
        ("서울은 크다", ["서울은", "크다"]),
        ("น้ำ", ["น้", "ำ"]),  # a tone mark stays with its consonant
    ],
)
def test_words_are_runs_single_signs_or_single_characters(text: str, expected: list[str]) -> None:
    text = text.replace("ü", "u\u0308")
    assert cut(text) == expected


# ---- occurrences ---------------------------------------------------------------------------------------------------------


def test_a_string_occurs_as_whole_words_only() -> None:
    text = "Ann met Anna, Ann. JoAnn"
    assert occurrences("Ann", text, words(text)) == [(0, 3), (14, 17)]


def test_occurrences_may_overlap() -> None:
    text = "na na na"
    assert occurrences("na na", text, words(text)) == [(0, 5), (3, 8)]
    assert occurrences("哈哈", "哈哈哈", words("哈哈哈")) == [(0, 2), (1, 3)]


def test_a_blank_is_any_blank_and_signs_are_no_patterns() -> None:
    text = "Mr.\n Wilk (the U.S. one)"
    assert occurrences("Mr. Wilk", text, words(text)) == [(0, 9)]
    assert occurrences("U.S.", text, words(text)) == [(15, 19)]
    assert occurrences(" ", text, words(text)) == []


def test_ignoring_case_does_not_shift_characters() -> None:
    text = "İ İ Wilk"  # lower-casing this letter makes two
    assert occurrences("WILK", text, words(text), ignore_case=True) == [(4, 8)]


# ---- documents -----------------------------------------------------------------------------------------------------------


def test_a_text_reads_as_it_was_given() -> None:
    doc = document_from_text(WILK, ["Wilk"], title="t")
    assert as_written(doc) == WILK
    assert [doc.text(k) for k in range(len(doc))] == [
        "Brad Wilk plays drums.",
        "He founded Audioslave\nwith Chris.",
        "The drummer Wilk is 56!",
    ]
    assert (doc.title, doc.pairs, doc.relations) == ("t", None, ())


def test_an_entity_has_a_mention_for_every_string_and_place() -> None:
    start = WILK.index("He")
    doc = document_from_text(
        WILK, {"Brad Wilk": ["Brad Wilk", "Wilk", (start, start + 2)], "band": "Audioslave"}, types={"band": "ORG"}
    )
    assert mentioned(doc, 0) == ["Brad Wilk", "He", "Wilk"]  # the name inside the longer one is no mention of its own
    assert mentioned(doc, 1) == ["Audioslave"]
    assert (doc.name(0), doc.name(1), doc.type(0), doc.type(1)) == ("Brad Wilk", "band", "", "ORG")


def test_the_same_place_is_one_mention() -> None:
    doc = document_from_text(WILK, {"Wilk": ["Wilk", "wilk", (5, 9)]})
    assert mentioned(doc, 0) == ["Wilk", "Wilk"]


def test_case_is_ignored_only_where_nothing_matches_with_it() -> None:
    text = "US troops told us. The un said."
    doc = document_from_text(text, ["US", "UN"])
    assert (mentioned(doc, 0), mentioned(doc, 1)) == (["US"], ["un"])


def test_entities_may_overlap() -> None:
    doc = document_from_text("He left New York City Hall.", ["New York City", "City Hall", "York"])
    assert [mentioned(doc, e) for e in range(3)] == [["New York City"], ["City Hall"], ["York"]]


def test_characters_are_widened_to_their_words() -> None:
    doc = document_from_text("Brad Wilk.", {"w": [(6, 7)], "all": [(2, 6)]})
    assert (mentioned(doc, 0), mentioned(doc, 1)) == (["Wilk"], ["Brad Wilk"])


def test_a_mention_across_a_full_stop_joins_the_sentences() -> None:
    text = "One. In St. Louis. End. Stop."
    doc = document_from_text(text, ["St. Louis", "End. Stop", "One"], splitter=by_stops)
    assert [doc.text(k) for k in range(len(doc))] == ["One.", "In St. Louis.", "End. Stop."]
    assert [mentioned(doc, e) for e in range(3)] == [["St. Louis"], ["End. Stop"], ["One"]]
    assert as_written(doc) == text


def test_a_language_without_blanks() -> None:
    text = "乔治·华盛顿生于弗吉尼亚州。他是总统！弗吉尼亚州很大。"
    doc = document_from_text(text, {"华盛顿": ["华盛顿", "他"], "弗吉尼亚州": ["弗吉尼亚州"]})
    assert len(doc) == 3
    assert mentioned(doc, 0) == ["华盛顿", "他"]
    assert [m.sentence for m in doc.entities[1]] == [0, 2]
    assert as_written(doc) == text


def test_characters_beyond_the_first_plane_do_not_shift_sentences() -> None:
    doc = document_from_text("😀 Ann came. 😀😀 Bob left. Ann too.", ["Ann", "Bob"])
    assert [m.sentence for e in doc.entities for m in e] == [0, 2, 1]


def test_another_language_knows_other_abbreviations() -> None:
    text = "Es war am 3. Oktober. Dann nicht."
    assert len(list(sentence_splitter("de")(text))) == 2
    assert len(document_from_text(text, ["Oktober"], splitter=sentence_splitter("de"))) == 2


def test_an_empty_text_is_an_empty_document() -> None:
    assert len(document_from_text(" \n", [])) == 0


@pytest.mark.parametrize("wanted", [["Audioslave", "Morello"], {"Morello": ["Tom", "Tom M."]}, {"Morello": []}])
def test_an_entity_that_is_not_there_is_named(wanted: Any) -> None:
    with pytest.raises(DocumentError, match="document 't': entity 'Morello' is not in the text"):
        document_from_text(WILK, wanted, title="t")


@pytest.mark.parametrize("place", [(0, 0), (5, 4), (-1, 3), (0, 1000), (1,), 7])
def test_characters_outside_the_text_are_refused(place: Any) -> None:
    with pytest.raises(DocumentError, match=f"entity 'w': got .*<= {len(WILK)}, the length"):
        document_from_text(WILK, {"w": [place]})
    with pytest.raises(DocumentError, match="hold no word"):
        document_from_text(WILK, {"w": [(22, 24)]})


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([(0, 4)], "left out 'Two. Three.'"),
        ([(5, 9), (10, 16)], "left out 'One. Two. Three.'"),
        ([(0, 4), (10, 16)], "left out 'Two. Three.'"),
        ([(0, 9), (5, 16)], r"\(5, 16\) starts inside"),
    ],
)
def test_a_splitter_may_not_lose_words(sentences: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        document_from_text("One. Two. Three.", ["One"], splitter=lambda _: sentences)
