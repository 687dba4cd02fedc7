"""Removing sentences from documents and from batches of them."""

from __future__ import annotations

import random

import pytest
import torch
from sief_documents import RELATIONS, TYPES, random_document, tokenizer

from fascicle_sief.document import Document, Mention, Relation, drop_sentences
from fascicle_sief.errors import DocumentError
from fascicle_sief.features import DocumentEncoder, collate, count_sentences, shorten

SEEDS = range(150)


def subset(seed: int, document: Document) -> set[int]:
    rng = random.Random(10_000 + seed)
    return set(rng.sample(range(len(document)), rng.randint(0, len(document))))


@pytest.mark.parametrize("seed", SEEDS)
def test_mentions_that_are_left_read_the_same_words_and_the_others_are_gone(seed: int) -> None:
    document = random_document(seed)
    gone = subset(seed, document)
    view = drop_sentences(document, gone)
    for e, mentions in enumerate(document.entities):
        for m, mention in enumerate(mentions):
            assert ((e, m) in view.mention_map) == (mention.sentence not in gone)
            if mention.sentence in gone:
                continue
            e2, m2 = view.mention_map[e, m]
            new = view.document.entities[e2][m2]
            assert view.document.text(new.sentence, new.start, new.end) == document.text(
                mention.sentence, mention.start, mention.end
            )
            assert (e2, new.type, new.sentence) == (e, mention.type, view.sentence_map[mention.sentence])
    assert sum(map(len, view.document.entities)) == len(view.mention_map)
    assert len(view.document.entities) == len(document.entities)
    assert view.document.all_pairs() == document.all_pairs()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pair_is_alive_where_a_search_finds_both_entities(seed: int) -> None:
    document = random_document(seed)
    gone = subset(seed, document)
    found = [
        all(any(m.sentence not in gone for m in document.entities[e]) for e in pair) for pair in document.all_pairs()
    ]
    assert list(drop_sentences(document, gone).alive) == found


@pytest.mark.parametrize("seed", SEEDS)
def test_removing_one_after_the_other_is_removing_both(seed: int) -> None:
    document = random_document(seed)
    if len(document) < 2:
        return
    a, b = random.Random(seed).sample(range(len(document)), 2)
    first = drop_sentences(document, {a})
    second = drop_sentences(first.document, {first.sentence_map[b]})
    assert second.document == drop_sentences(document, {a, b}).document
    assert drop_sentences(document, set()).document == document


def test_evidence_is_renumbered_and_what_is_lost_is_marked() -> None:
    document = Document(
        "d",
        [["a"], ["b"], ["c"]],
        [[Mention(0, 0, 1)], [Mention(2, 0, 1)]],
        [Relation(0, 1, "r", (1, 2)), Relation(1, 0, "r", (1,)), Relation(1, 0, "s")],
    )
    kept, lost, unknown = drop_sentences(document, {1}).document.relations
    assert (kept.evidence, kept.incomplete) == ((1,), True)
    assert (lost.evidence, lost.incomplete) == ((), True)
    assert (unknown.evidence, unknown.incomplete) == (None, False)
    whole = drop_sentences(document, {0}).document.relations[0]
    assert (whole.evidence, whole.incomplete) == ((0, 1), False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entities": [[Mention(1, 0, 1)]]}, r"entities\[0\]\[0\].sentence: got 1, expected 0 to 0"),
        ({"entities": [[Mention(0, 0, 3)]]}, r"entities\[0\]\[0\]: words \[0, 3\) of sentence 0, which has 2"),
        ({"entities": [[Mention(0, 1, 1)]]}, r"words \[1, 1\)"),
        ({"relations": [Relation(0, 1, "r")]}, r"relations\[0\]: from 0 to 1, but there are 1 entities"),
        ({"relations": [Relation(0, 0, "r", (4,))]}, r"relations\[0\].evidence: got sentence 4"),
        ({"pairs": [(0, 2)]}, r"pairs\[0\]: got \(0, 2\)"),
        ({"trailing": [[" "]]}, "trailing: expected one string for each word"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused_by_name(change: dict[str, object], message: str) -> None:
    parts = {"entities": [[Mention(0, 0, 1)]], **change}
    with pytest.raises(DocumentError, match=f"document 'odd one'.*{message}"):
        Document("odd one", [["a", "b"]], **parts)  # type: ignore[arg-type]


def test_sentences_that_are_not_there_and_empty_evidence_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"drop sentences \[7\], expected 0 to 0"):
        drop_sentences(Document("d", [["a"]], []), {0, 7})
    with pytest.raises(DocumentError, match="None where nobody marked any"):
        Relation(0, 1, "r", ())


# ---- the same on batches -------------------------------------------------------------------------------------------------


def encoder(**options: object) -> DocumentEncoder:
    return DocumentEncoder(tokenizer(), RELATIONS, types=TYPES, **{"max_length": 256, **options})  # type: ignore[arg-type]


def readings(batch: dict[str, torch.Tensor], b: int) -> dict[str, object]:
    """One row of a batch without padding and without mentions that are gone."""
    length = int(batch["attention_mask"][b].sum())
    real = batch["mention_entities"][b] >= 0
    told = {
        f"mention_{n}": batch[f"mention_{n}"][b][real].tolist()
        for n in ("starts", "ends", "entities", "sentences", "types")
    }
    of_row = batch["pairs"][:, 0] == b
    return {
        "ids": batch["input_ids"][b, :length].tolist(),
        "sentences": batch["sentence_ids"][b, :length].tolist(),
        "padding": batch["input_ids"][b, length:].tolist() == [0] * (batch["input_ids"].shape[1] - length),
        "pairs": batch["pairs"][of_row, 1:].tolist(),
        "labels": batch["labels"][of_row].tolist(),
        **told,
    }


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_a_batch_without_sentences_is_the_batch_of_documents_written_without_them(seed: int, markers: bool) -> None:
    encode = encoder(markers=markers)
    documents = [random_document(7 * seed + i) for i in range(4)]
    gone = [subset(seed + i, document) for i, document in enumerate(documents)]
    batch = collate([encode(d, i) for i, d in enumerate(documents)], relations=len(RELATIONS))
    before = {name: value.clone() for name, value in batch.items()}
    drop = torch.zeros(4, max(map(len, documents)), dtype=torch.bool)
    for b, sentences in enumerate(gone):
        drop[b, list(sentences)] = True
    short = shorten(batch, drop)
    views = [drop_sentences(document, sentences) for document, sentences in zip(documents, gone, strict=True)]
    slow = collate([encode(view.document, i) for i, view in enumerate(views)], relations=len(RELATIONS))
    for b in range(4):
        assert readings(short.batch, b) == readings(slow, b)
    assert short.batch["input_ids"].shape == slow["input_ids"].shape
    assert short.alive.tolist() == [alive for view in views for alive in view.alive]
    assert all(bool((batch[name] == value).all()) for name, value in before.items())  # nothing is changed in place


def test_each_mention_is_where_its_pieces_are() -> None:
    for markers in (True, False):
        encode = encoder(markers=markers)
        for seed in range(40):
            document = random_document(seed)
            row = encode(document)
            flat = [(e, m) for e, mentions in enumerate(document.entities) for m in mentions]
            assert len(row["mention_starts"]) == len(flat)
            for i, (e, m) in enumerate(flat):
                pieces = row["input_ids"][row["mention_starts"][i] : row["mention_ends"][i]]
                text = tokenizer().decode(pieces).replace("*", "")
                words = document.sentences[m.sentence][m.start : m.end]
                assert (row["mention_entities"][i], text) == (e, "".join(words))
                if markers:
                    star = encode._marker[0]
                    assert pieces[0] == pieces[-1] == star


def test_a_document_that_is_too_long_loses_whole_sentences_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    document = Document(
        "long one", [["film"] * 20, ["good"] * 20, ["not"] * 20], [[Mention(0, 0, 1)], [Mention(2, 0, 1)]]
    )
    encode = encoder(max_length=46, markers=True)
    row = encode(document)
    assert set(row["sentence_ids"]) == {-1, 0, 1}
    assert row["mention_entities"] == [0]
    assert encode.cut == {"long one": 1}
    assert "'long one' is longer than 46 word pieces: its last 1 of 3 sentences are not read" in caplog.text
    batch = collate([row], relations=3)
    assert count_sentences(batch).tolist() == [2]
    assert shorten(batch, torch.zeros(1, 3, dtype=torch.bool)).alive.tolist() == [False, False]
    one = encoder(max_length=12)(Document("one", [["film"] * 40], [[Mention(0, 1, 2)], [Mention(0, 30, 31)]]))
    assert len(one["input_ids"]) == 12
    assert one["mention_entities"] == [0]


def test_a_relation_that_the_model_does_not_know_is_refused() -> None:
    document = Document("d", [["a", "b"]], [[Mention(0, 0, 1)], [Mention(0, 1, 2)]], [Relation(0, 1, "eats")])
    with pytest.raises(DocumentError, match="document 'd': relation 'eats' is none of the 3"):
        encoder()(document)


def test_labels_say_which_relations_hold_and_column_0_where_none_does() -> None:
    document = Document(
        "d",
        [["a", "b"]],
        [[Mention(0, 0, 1)], [Mention(0, 1, 2)]],
        [Relation(1, 0, "owns"), Relation(1, 0, "born in"), Relation(1, 0, "owns")],
    )
    labels = collate([encoder()(document)], relations=3)["labels"]
    assert labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]
