"""Corpora become documents, prediction files come back as they were written, and what is malformed is named with its place."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from sief_data import docred_row, file

from fascicle_sief.cdr import read_cdr
from fascicle_sief.dialogre import read_dialogre, read_dialogre_pairs
from fascicle_sief.dialogre_scores import ceiling_f1c
from fascicle_sief.docred import read_docred, relation_names
from fascicle_sief.document import Document, Mention, Relation
from fascicle_sief.errors import DocumentError, SiefError
from fascicle_sief.readers import read, split_by_title, split_titles
from fascicle_sief.scierc import read_scierc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def changed(row: Any, *keys: Any, to: Any) -> Any:
    """The row with the entry at these keys replaced; `...` takes it away."""
    row = json.loads(json.dumps(row))
    inner = row
    for key in keys[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return row


def mentioned(doc: Document, entity: int) -> list[str]:
    return [doc.text(m.sentence, m.start, m.end) for m in doc.entities[entity]]


# ---- DocRED --------------------------------------------------------------------------------------------------------------


def test_a_docred_file_is_read_as_it_stands(tmp_path: Path) -> None:
    (doc,) = read_docred(file(tmp_path, [docred_row()]))
    assert doc == Document(
        "RATM",
        [["Wilk", "drums", "."], ["He", "joined", "Rage", "."]],
        [[Mention(0, 0, 1, "PER", "Brad Wilk")], [Mention(1, 2, 3, "ORG", "Rage")]],
        [Relation(0, 1, "P463", evidence=(0, 1)), Relation(1, 0, "P527", evidence=None)],  # empty evidence: unknown
    )


def test_a_test_file_has_no_labels(tmp_path: Path) -> None:
    (doc,) = read_docred(file(tmp_path, [changed(docred_row(), "labels", to=...)]))
    assert (doc.relations, len(doc.all_pairs())) == ((), 2)


def test_repeated_labels_stay_for_the_official_evaluation(tmp_path: Path) -> None:
    row = docred_row()
    (doc,) = read_docred(file(tmp_path, [row | {"labels": row["labels"] * 2}]))
    assert len(doc.relations) == 4


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (["title"], ..., "title: missing; there are 'sents', 'vertexSet', 'labels'"),
        (["title"], 3, "title: expected text, got 3"),
        (["sents"], "a b", r"\('RATM'\): sents: expected a list, got 'a b'"),
        (["sents", 1], "a b", r"sents\[1\]: expected a list"),
        (["sents", 1, 2], None, r"sents\[1\]\[2\]: expected text, got None"),
        (["vertexSet"], {}, "vertexSet: expected a list"),
        (["vertexSet", 1, 0], [], r"vertexSet\[1\]\[0\]: expected an object, got \[\]"),
        (["vertexSet", 1, 0, "sent_id"], 2, r"vertexSet\[1\]\[0\].sent_id: expected a number from 0 to 1, got 2"),
        (["vertexSet", 1, 0, "pos"], [2], r"vertexSet\[1\]\[0\].pos: expected a list of 2, got \[2\]"),
        (["vertexSet", 1, 0, "pos", 1], 5, r"vertexSet\[1\]\[0\].pos\[1\]: expected a number from 3 to 4, got 5"),
        (["vertexSet", 1, 0, "pos", 0], -1, r"pos\[0\]: expected a number from 0 to 3, got -1"),
        (["vertexSet", 0, 0, "name"], 1, r"vertexSet\[0\]\[0\].name: expected text"),
        (["labels", 1, "h"], 2, r"labels\[1\].h: expected a number from 0 to 1, got 2"),
        (["labels", 1, "t"], "0", r"labels\[1\].t: expected a number from 0 to 1, got '0'"),
        (["labels", 1, "t"], True, r"labels\[1\].t: expected a number"),
        (["labels", 1, "r"], ..., r"labels\[1\].r: missing"),
        (["labels", 0, "evidence", 1], 2, r"labels\[0\].evidence\[1\]: expected a number from 0 to 1, got 2"),
        (["labels", 0, "evidence"], None, r"labels\[0\].evidence: expected a list, got None"),
    ],
)
def test_a_malformed_docred_row_is_named_with_its_field(tmp_path: Path, keys: list[Any], to: Any, message: str) -> None:
    path = file(tmp_path, [docred_row(), changed(docred_row(), *keys, to=to)])
    with pytest.raises(DocumentError, match=rf"dev\.json: document 1.*{message}"):
        read_docred(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected a list of documents, got dict"),
        ("[]", "expected a list of documents, got none"),
        ('[\n{"a" 1}]', r"dev\.json:2: not JSON"),
        ("[3]", "document 0: the document: expected an object, got 3"),
    ],
)
def test_what_is_no_list_of_documents_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_docred(file(tmp_path, content))


@pytest.mark.parametrize("reader", [read, read_docred, read_dialogre, read_cdr, read_scierc, relation_names])
def test_missing_files_and_other_encodings_are_named(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    with pytest.raises(DocumentError, match=r"none\.json: there is no such file"):
        reader(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(DocumentError, match=r"latin\.json: not UTF-8"):
        reader(tmp_path / "latin.json")


def test_names_of_relations(tmp_path: Path) -> None:
    assert relation_names(file(tmp_path, {"P17": "country"})) == {"P17": "country"}
    with pytest.raises(DocumentError, match="P17: expected text, got 1"):
        relation_names(file(tmp_path, {"P17": 1}))
    with pytest.raises(DocumentError, match="expected an object of relation ids and names, got list"):
        relation_names(file(tmp_path, []))


# ---- DialogRE ------------------------------------------------------------------------------------------------------------

TURNS = ["Speaker 1: Hi, I'm  Jo.", "Speaker 10: jo? Speaker 1!", "Speaker 2: JoAnn, my sister..."]


def arguments(x: str = "Speaker 1", y: str = "Jo", **more: Any) -> dict[str, Any]:
    row = {"x": x, "y": y, "rid": [30], "r": ["per:alternate_names"], "t": ["I'm"], "x_type": "PER", "y_type": "STRING"}
    return row | more


def dialogue(folder: Path, *pairs: dict[str, Any], turns: list[str] | None = None) -> Document:
    return read_dialogre(file(folder, [[turns or TURNS, list(pairs)]]))[0]


def test_a_turn_is_a_sentence_and_reads_as_it_was_written(tmp_path: Path) -> None:
    doc = dialogue(tmp_path, arguments())
    assert [doc.text(k) for k in range(len(doc))] == TURNS
    assert doc.sentences[0] == ("Speaker", "1", ":", "Hi", ",", "I", "'", "m", "Jo", ".")


def test_arguments_are_entities_mentioned_as_whole_words_in_any_case(tmp_path: Path) -> None:
    doc = dialogue(tmp_path, arguments(), arguments("Jo", "sister", rid=[37], r=["unanswerable"], t=[""]))
    assert [doc.name(e) for e in range(3)] == ["Speaker 1", "Jo", "sister"]
    assert [doc.type(e) for e in range(3)] == ["PER", "STRING", "STRING"]
    assert doc.entities[0] == (Mention(0, 0, 2, "PER", "Speaker 1"), Mention(1, 5, 7, "PER", "Speaker 1"))
    assert mentioned(doc, 1) == ["Jo", "jo"]  # not JoAnn
    assert doc.pairs == ((0, 1), (1, 2))
    assert doc.relations == (Relation(0, 1, "per:alternate_names", trigger="I'm"),)  # 37 is no relation


def test_an_argument_inside_a_word_is_mentioned_by_that_word(tmp_path: Path) -> None:
    assert mentioned(dialogue(tmp_path, arguments(y="Ann, my sis")), 1) == ["JoAnn, my sister"]


def test_an_argument_that_occurs_nowhere_has_no_mention(tmp_path: Path) -> None:
    assert dialogue(tmp_path, arguments(y="Dr.")).entities[1] == ()


def test_a_repeated_pair_is_merged_and_a_pair_with_itself_is_kept(tmp_path: Path) -> None:
    again = arguments(rid=[30, 9], r=["per:alternate_names", "per:friends"], t=["me", ""])
    doc = dialogue(tmp_path, arguments(t=[""]), arguments("Jo", "Jo"), again)
    assert doc.pairs == ((0, 1), (1, 1))
    assert [(r.type, r.trigger) for r in doc.relations if r.tail != r.head] == [
        ("per:alternate_names", "me"),
        ("per:friends", ""),
    ]


def test_official_rows_keep_a_repeated_pair_and_know_its_place(tmp_path: Path) -> None:
    path = file(
        tmp_path, [[TURNS, [arguments(), arguments("Jo", "Jo", rid=[37], r=["unanswerable"], t=[""]), arguments()]]]
    )
    rows = read_dialogre_pairs(path)
    assert [(row.title, row.row, row.rids) for row in rows] == [
        ("dev 0", 0, (30,)),
        ("dev 0", 1, (37,)),
        ("dev 0", 0, (30,)),
    ]
    assert (rows[0].turns, rows[0].x, rows[0].y, rows[0].triggers) == (tuple(TURNS), "Speaker 1", "Jo", ("I'm",))


def test_a_chinese_dialogue(tmp_path: Path) -> None:
    doc = dialogue(tmp_path, arguments("说话人1", "乔伊"), turns=["说话人1:我是乔伊。", "说话人10:乔伊·崔比亚尼？"])
    assert [m.sentence for m in doc.entities[0]] == [0]  # not in 说话人10
    assert mentioned(doc, 1) == ["乔伊", "乔伊"]
    assert doc.text(1) == "说话人10:乔伊·崔比亚尼？"


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        ([0], "Hi", "turns: expected a list, got 'Hi'"),
        ([0, 1], 3, r"turns\[1\]: expected text, got 3"),
        ([1], {}, r"dialogue\[1\]: expected a list"),
        ([1, 0], [], r"pairs\[0\]: expected an object"),
        ([1, 0, "x"], ..., r"pairs\[0\].x: missing"),
        ([1, 0, "y"], None, r"pairs\[0\].y: expected text, got None"),
        ([1, 0, "y_type"], 0, r"pairs\[0\].y_type: expected text, got 0"),
        ([1, 0, "rid", 0], 38, r"pairs\[0\].rid\[0\]: expected a number from 1 to 37, got 38"),
        ([1, 0, "r"], [], r"pairs\[0\].r: expected a list of 1, got \[\]"),
        ([1, 0, "t"], ["a", "b"], r"pairs\[0\].t: expected a list of 1"),
    ],
)
def test_a_malformed_dialogue_is_named_with_its_field(tmp_path: Path, keys: list[Any], to: Any, message: str) -> None:
    good = [TURNS, [arguments()]]
    path = file(tmp_path, [good, changed(good, *keys, to=to)])
    for reader in (read_dialogre, read_dialogre_pairs):
        with pytest.raises(DocumentError, match=rf"dev\.json: document 1: {message}"):
            reader(path)


# ---- BC5CDR --------------------------------------------------------------------------------------------------------------

CDR = """\
12|t|Gold and lead poisoning.
12|a|Lead (Pb) was bad. E. coli and gout followed.

12\t0\t4\tGold\tChemical\tD1
12\t9\t13\tlead\tChemical\tD2
12\t9\t23\tlead poisoning\tDisease\tD3
12\t0\t23\tGold and lead poisoning\tDisease\tD3|D4\tGold poisoning|lead poisoning
12\t25\t29\tLead\tChemical\tD2
12\t44\t51\tE. coli\tDisease\t-1
12\t56\t60\tgout\tDisease\t-1
12\tCID\tD2\tD3

13|t|Nothing | here
13|a|
"""


def by_stops(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"[^.]+\.?", text)]


def test_pubtator_mentions_are_characters_and_entities_are_ids(tmp_path: Path) -> None:
    doc, empty = read_cdr(file(tmp_path, CDR, "cdr.txt"), splitter=by_stops)
    assert [mentioned(doc, e) for e in range(6)] == [
        ["Gold"],
        ["lead", "Lead"],
        ["lead poisoning", "Gold and lead poisoning"],
        ["Gold and lead poisoning"],  # the second id of a composite mention
        ["E. coli"],  # no id: each its own entity
        ["gout"],
    ]
    assert [doc.type(e) for e in range(6)] == ["Chemical", "Chemical", "Disease", "Disease", "Disease", "Disease"]
    assert doc.relations == (Relation(1, 2, "CID"),)
    assert doc.pairs == tuple((c, d) for c in (0, 1) for d in (2, 3, 4, 5))
    assert (empty.title, empty.text(0), empty.pairs, empty.relations) == ("13", "Nothing | here", (), ())


def test_a_mention_across_the_end_of_a_sentence_joins_it_with_the_next(tmp_path: Path) -> None:
    doc = read_cdr(file(tmp_path, CDR, "cdr.txt"), splitter=by_stops)[0]
    assert [doc.text(k) for k in range(len(doc))] == [
        "Gold and lead poisoning.",
        "Lead (Pb) was bad.",
        "E. coli and gout followed.",
    ]


def test_the_splitter_knows_abbreviations_by_itself(tmp_path: Path) -> None:
    assert len(read_cdr(file(tmp_path, CDR, "cdr.txt"))[0]) == 3


def test_an_id_without_mentions_is_an_entity_without_mentions_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        doc = read_cdr(file(tmp_path, CDR.replace("CID\tD2", "CID\tD9"), "cdr.txt"))[0]
    assert doc.entities[6] == ()
    assert doc.relations == (Relation(6, 2, "CID"),)
    assert (6, 2) in doc.all_pairs()
    assert "document 12: no mention of D9" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12|t|Gold", "Gold", r"cdr\.txt:1: expected a line <number>\|t\|<title>"),
        ("12|a|", "14|a|", r"cdr\.txt:2: expected a line <number>\|t\|<title> of document '14'"),
        ("12\tCID", "13\tCID", r"cdr\.txt:11: .* of document '13'"),
        (
            "12\t0\t4\tGold\t",
            "12\t1\t5\tGold\t",
            r"cdr\.txt:4: document 12: characters 1 to 5: expected 'Gold', .* has 'old '",
        ),
        (
            "12\t0\t4\tGold",
            "12\t0\tx\tGold",
            r"cdr\.txt:4: document 12: expected number, start, end, .* got '12\\t0\\tx",
        ),
        ("Chemical\tD1", "Chemical", r"cdr\.txt:4: document 12: expected number, start"),
        ("\tD2\tD3", "\tD2", r"cdr\.txt:11: document 12: expected number, start"),
    ],
)
def test_a_malformed_pubtator_line_is_named_with_its_number(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CDR
    with pytest.raises(DocumentError, match=message):
        read_cdr(file(tmp_path, CDR.replace(old, new, 1), "cdr.txt"))


def test_a_file_without_abstracts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"expected abstracts .* got none"):
        read_cdr(file(tmp_path, "\n\n", "cdr.txt"))


# ---- SciERC --------------------------------------------------------------------------------------------------------------

SCIERC: dict[str, Any] = {
    "doc_key": "X96",
    "sentences": [
        ["We", "use", "LSTM", "nets", "."],
        ["They", "tag", "text", "."],
        ["LSTM", "nets", "beat", "CRF", "."],
    ],
    "ner": [[[2, 3, "Method"]], [[5, 5, "Generic"], [7, 7, "Material"]], [[9, 10, "Method"], [12, 12, "Method"]]],
    "relations": [[], [[5, 5, 7, 7, "USED-FOR"]], [[9, 10, 12, 12, "COMPARE"], [9, 10, 2, 3, "PART-OF"]]],
    "clusters": [[[9, 10], [2, 3], [5, 5]]],
}


def test_scierc_spans_count_words_of_the_document_and_clusters_are_entities(tmp_path: Path) -> None:
    (doc,) = read_scierc(file(tmp_path, json.dumps(SCIERC) + "\n\n"))
    assert doc.title == "X96"
    assert doc.entities[0] == (Mention(0, 2, 4, "Method"), Mention(1, 0, 1, "Generic"), Mention(2, 0, 2, "Method"))
    assert [mentioned(doc, e) for e in (1, 2)] == [["text"], ["CRF"]]
    # Sentences that state a relation are its evidence; a relation of an entity with itself is none.
    assert doc.relations == (Relation(0, 1, "USED-FOR", evidence=(1,)), Relation(0, 2, "COMPARE", evidence=(2,)))


def test_a_relation_that_two_sentences_state_has_both_as_evidence(tmp_path: Path) -> None:
    row = changed(SCIERC, "relations", 2, to=[[9, 10, 7, 7, "USED-FOR"]])
    (doc,) = read_scierc(file(tmp_path, json.dumps(row)))
    assert doc.relations == (Relation(0, 1, "USED-FOR", evidence=(1, 2)),)


def test_a_span_in_two_clusters_belongs_to_the_first(tmp_path: Path) -> None:
    row = SCIERC | {"clusters": [[[2, 3]], [[2, 3]], [[2, 3], [9, 10]]]}
    (doc,) = read_scierc(file(tmp_path, json.dumps(row)))
    assert [mentioned(doc, e) for e in range(len(doc.entities))] == [
        ["LSTM nets"],
        ["LSTM nets"],
        ["They"],
        ["text"],
        ["CRF"],
    ]


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (["doc_key"], ..., "doc_key: missing"),
        (["sentences", 0], "We use", r"document 'X96': sentences\[0\]: expected a list"),
        (["ner", 0, 0], [2, 3], r"ner\[0\]\[0\]: expected a list of 3, got \[2, 3\]"),
        (["ner", 0, 0, 0], 14, r"ner\[0\]\[0\]\[0\]: expected a number from 0 to 13, got 14"),
        (["ner", 0, 0, 1], 5, r"ner\[0\]\[0\]\[1\]: expected a number from 2 to 4, got 5"),  # leaves its sentence
        (["ner", 0, 0, 2], 1, r"ner\[0\]\[0\]\[2\]: expected text"),
        (["clusters", 0, 1, 1], "3", r"clusters\[0\]\[1\]\[1\]: expected a number from 2 to 4, got '3'"),
        (["relations", 1, 0], [5, 5, 7, 7], r"relations\[1\]\[0\]: expected a list of 5"),
        (["relations", 1, 0, 3], 8, r"relations\[1\]\[0\]: expected two spans that are in ner or clusters"),
        (["relations", 1, 0, 4], None, r"relations\[1\]\[0\]\[4\]: expected text, got None"),
        (["relations"], [[], [], [], [[5, 5, 7, 7, "X"]]], r"relations\[3\]\[0\]: .* no more parts than 3 sentences"),
    ],
)
def test_a_malformed_scierc_line_is_named_with_its_field(
    tmp_path: Path, keys: list[Any], to: Any, message: str
) -> None:
    path = file(tmp_path, json.dumps(SCIERC) + "\n" + json.dumps(changed(SCIERC, *keys, to=to)))
    with pytest.raises(DocumentError, match=rf"dev\.json:2: {message}" if to is ... else rf"dev\.json:2: .*{message}"):
        read_scierc(path)


def test_a_broken_line_of_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"dev\.json:2: not JSON"):
        read_scierc(file(tmp_path, json.dumps(SCIERC) + "\n{"))
    with pytest.raises(DocumentError, match="expected an object on every line, got none"):
        read_scierc(file(tmp_path, "\n"))


# ---- any format ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "title"),
    [
        (json.dumps([docred_row()], indent=1), "RATM"),
        (json.dumps([[TURNS, [arguments()]]], indent=1), "any 0"),
        (CDR, "12"),
        (json.dumps(SCIERC), "X96"),
        ("\ufeff" + json.dumps([docred_row()]), "RATM"),
    ],
)
def test_a_file_says_by_its_start_which_format_it_has(tmp_path: Path, content: str, title: str) -> None:
    assert read(file(tmp_path, content, "any"))[0].title == title


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="starts with 'h,t', which is none of docred, dialogre, cdr, scierc"):
        read(file(tmp_path, "h,t"))
    with pytest.raises(DocumentError, match="format: got 'tacred', expected auto, docred"):
        read(file(tmp_path, "[]"), format="tacred")


# ---- splits --------------------------------------------------------------------------------------------------------------


def test_a_split_depends_on_the_distinct_titles_and_the_seed_only() -> None:
    titles = [f"t{i}" for i in range(30)]
    parts = split_titles(titles, [10, 5], seed=1)
    assert [len(part) for part in parts] == [10, 5]
    assert not parts[0] & parts[1]
    assert split_titles([*reversed(titles), *titles], [10, 5], seed=1) == parts
    assert split_titles(titles, [10, 5], seed=2) != parts


def test_files_that_share_documents_are_split_alike_by_the_titles_of_both() -> None:
    large = [Document(f"t{i}", [], []) for i in range(30)]
    small = [Document(f"t{i}", [["other"]], []) for i in range(5, 40)]
    titles = {doc.title for doc in [*large, *small]}
    parts = [split_by_title(documents, [20, 10], 3, titles) for documents in (large, small)]
    sides = [[{doc.title for doc in part} for part in split] for split in parts]
    assert not sides[0][0] & sides[1][1]
    assert not sides[0][1] & sides[1][0]
    assert [int(doc.title[1:]) for doc in parts[0][0]] == sorted(int(doc.title[1:]) for doc in parts[0][0])


def test_more_titles_than_there_are_cannot_be_split() -> None:
    with pytest.raises(SiefError, match=r"got \[2, 1\], expected at most 2 together"):
        split_titles(["a", "b", "a"], [2, 1], seed=0)
    with pytest.raises(SiefError, match=r"got \[-1\]"):
        split_titles(["a", "b"], [-1], seed=0)


# ---- real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "documents", "triples", "evidenced", "relations"),
    [("redocred/dev_revised.json", 500, 17284, 7473, 95), ("docred_hwe/train_360.json", 360, 3830, 3738, 93)],
)
def test_docred_files_have_their_known_sizes(
    real_data: Callable[[str], Path], name: str, documents: int, triples: int, evidenced: int, relations: int
) -> None:
    found = read(real_data(name))
    labels = [relation for doc in found for relation in doc.relations]
    assert (len(found), len(labels), len({r.type for r in labels})) == (documents, triples, relations)
    assert sum(r.evidence is not None for r in labels) == evidenced
    assert {r.type for r in labels} <= relation_names(real_data("docred_meta/rel_info.json")).keys()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("split", "dialogues", "pairs", "labels", "triggers", "ceiling"),
    [("dev", 358, 1914, 1597, 830, 0.8849), ("train", 1073, 5997, 4992, 2446, 0.8786)],
)
def test_dialogre_files_have_their_known_sizes(
    real_data: Callable[[str], Path],
    split: str,
    dialogues: int,
    pairs: int,
    labels: int,
    triggers: int,
    ceiling: float,
) -> None:
    path = real_data(f"dialogre/{split}.json")
    found = read(path)
    relations = [relation for doc in found for relation in doc.relations]
    assert (len(found), len(relations), sum(bool(r.trigger) for r in relations)) == (dialogues, labels, triggers)
    rows = read_dialogre_pairs(path)
    assert [(doc.title, i) for doc in found for i in range(len(doc.all_pairs()))] == [
        (row.title, row.row) for row in rows
    ]
    assert (len(rows), round(ceiling_f1c(rows), 4)) == (pairs, ceiling)
    turns = {row.title: row.turns for row in rows}
    assert all(doc.text(k) == turn.strip() for doc in found for k, turn in enumerate(turns[doc.title]))
    assert sum(not mentions for doc in found for mentions in doc.entities) == (3 if split == "train" else 0)
