"""Sentences removed, moved and added: the rates of models whose reasons are known, and of arbitrary models by brute force."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sief_rules import Hashed, TriggerRules, WorksFor, story

from fascicle_sief.comparison import compare
from fascicle_sief.document import Document, Mention, Relation, drop_sentences
from fascicle_sief.errors import DocumentError, SiefError
from fascicle_sief.measures import MEASURES
from fascicle_sief.robustness_page import section
from fascicle_sief.robustness_report import RobustnessReport, robustness
from fascicle_sief.variants import insert_sentences, order_sentences

WORDS = {"married": "spouse", "hired": "employer", "taught": "teacher"}


def rate(report: RobustnessReport, name: str) -> tuple[int | None, int | None]:
    return report.rates[name].count, report.rates[name].n


def another() -> Document:
    """A second document, in which nothing is marked."""
    return Document(
        "another",
        [["Di", "married", "Ed"], ["Ed", "slept"], ["Di", "sang"]],
        [[Mention(0, 0, 1), Mention(2, 0, 1)], [Mention(0, 2, 3), Mention(1, 0, 1)]],
        [Relation(0, 1, "spouse")],
    )


# ---- views


def test_in_another_order_every_mention_and_evidence_reads_the_same_words() -> None:
    doc = story()
    moved = order_sentences(doc, (4, 2, 0, 1, 3))
    for before, after in zip(doc.entities, moved.entities, strict=True):
        for old, new in zip(before, after, strict=True):
            assert doc.sentences[old.sentence] == moved.sentences[new.sentence]
    for old_relation, new_relation in zip(doc.relations, moved.relations, strict=True):
        assert [doc.sentences[k] for k in old_relation.evidence] == [moved.sentences[k] for k in new_relation.evidence]
    assert order_sentences(doc, range(5)) == doc
    assert order_sentences(doc, (0, 3)) == drop_sentences(doc, {1, 2, 4}).document
    for wrong in [(0, 0), (0, 5)]:
        with pytest.raises(DocumentError, match="different sentences from 0 to 4"):
            order_sentences(doc, wrong)


def test_foreign_sentences_bring_their_entities_and_no_pairs() -> None:
    doc, other = story(), another()
    mixed = insert_sentences(doc, other, [0, 1], [5, 1])
    assert mixed.sentences[1] == other.sentences[0] or mixed.sentences[1] == other.sentences[1]
    assert (len(mixed), mixed.sentences[-1] in other.sentences) == (7, True)
    assert mixed.all_pairs() == doc.all_pairs()
    texts = [[mixed.text(m.sentence, m.start, m.end) for m in entity] for entity in mixed.entities]
    assert texts == [["Ann"] * 4, ["Bob"] * 3, ["Cy"], ["Di"], ["Ed", "Ed"]]
    for old, new in zip(doc.relations, mixed.relations, strict=True):
        assert [doc.sentences[k] for k in old.evidence] == [mixed.sentences[k] for k in new.evidence]
    for places in ([0], [0, 6]):
        with pytest.raises(DocumentError, match="2 places from 0 to 5"):
            insert_sentences(doc, other, [0, 1], places)


# ---- a rule whose reasons are known


def test_a_rule_that_reads_the_evidence_has_flips_there_and_nowhere_else() -> None:
    report = robustness(TriggerRules(WORDS), [story()])
    # spouse and employer have 4 sentences outside their evidence; teacher has 4 too, each leaving Ann and Cy
    assert rate(report, "removal_flip") == (0, 12)
    # without sentence 2 Cy is lost, so only two removals can be judged
    assert rate(report, "evidence_flip") == (2, 2)
    assert report.rates["evidence_flip"].excluded == {"removals that lose an entity": 1}
    assert report.selectivity == 1
    assert not report.ignores_context
    assert rate(report, "evidence_only") == (3, 3)
    assert rate(report, "shuffle_flip") == (0, 3)


def test_a_model_of_names_alone_is_perfect_in_one_number_and_given_away_by_the_other() -> None:
    report = robustness(WorksFor(("spouse", "employer", "teacher")), [story()])
    assert report.rates["removal_flip"].value == report.rates["evidence_flip"].value == report.selectivity == 0
    assert report.ignores_context
    text = section(report).blocks[0].data["text"]
    assert "nothing that was removed changed a true positive" in text


def test_a_rule_that_reads_another_sentence_flips_when_that_one_goes() -> None:
    report = robustness(TriggerRules({"rained": "spouse", "hired": "employer"}, where="any"), [story()])
    # spouse hangs on sentence 4, which is no evidence: of its 4 removals 1 flips; employer: 0 of 4
    assert rate(report, "removal_flip") == (1, 8)
    assert rate(report, "evidence_flip") == (1, 2)
    assert rate(report, "evidence_only") == (1, 2)
    assert rate(report, "evidence_only_recall") == (1, 2)
    assert rate(report, "evidence_only_recall_full") == (2, 2)
    assert rate(report, "evidence_only_agree") == (1, 2)
    assert report.excluded == {"relation unknown to the model": 1}


def test_the_f1_of_the_variants_by_hand() -> None:
    """The rule says `married` in a sentence of both is `spouse`, `saw` is `employer`."""
    report = robustness(TriggerRules({"married": "spouse", "saw": "employer", "taught": "teacher"}), [story()])
    # predicted: spouse, employer (right triple, wrong sentence) and teacher, each in both directions; gold: 3
    assert rate(report, "f1_full") == (2 * 3, 6 + 3)
    # without 3 and 4 `saw` is gone
    assert rate(report, "f1_non_evidence_removed") == (2 * 2, 4 + 3)
    assert report.rates["f1_non_evidence_removed_change"].value == pytest.approx(4 / 7 - 6 / 9)
    assert rate(report, "f1_shuffled") == (6, 9)
    assert report.rates["f1_shuffled_change"].value == 0
    # one random sentence: 0, 2 and 3 cost one right and one wrong prediction each
    (record,) = report.records
    lost = record.removed in (0, 2, 3)
    assert rate(report, "f1_random_removed") == ((4, 7) if lost else (6, 9))


def test_every_random_sentence_can_be_drawn_and_the_seed_decides() -> None:
    rule = TriggerRules(WORDS)
    drawn = {robustness(rule, [story()], seed=seed, resamples=0).records[0].removed for seed in range(40)}
    assert drawn == {0, 1, 2, 3, 4}
    assert robustness(rule, [story()], seed=3) == robustness(rule, [story()], seed=3)
    alone, among = robustness(rule, [story()], seed=3), robustness(rule, [another(), story()], seed=3)
    assert among.records[1].order == alone.records[0].order != (0, 1, 2, 3, 4)


def test_new_positives_are_counted_per_document() -> None:
    class Forbids(TriggerRules):
        """Predicts the relation of the trigger unless it rained."""

        def _one(self, document: Document) -> np.ndarray:
            wet = any("rained" in words for words in document.sentences)
            return super()._one(document) * (not wet)

    rule = Forbids({"saw": "spouse"})
    counts = []
    for seed in range(20):
        report = robustness(rule, [story(), another()], seed=seed, resamples=0)
        counts.append((report.records[0].removed, *rate(report, "false_positives")))
    assert {(new, n) for removed, new, n in counts if removed == 4} == {(2, 2)}  # both directions of one pair
    assert {(new, n) for removed, new, n in counts if removed != 4} == {(0, 2)}


def test_a_foreign_trigger_misleads_a_rule_that_reads_any_sentence_but_not_one_that_reads_the_pair() -> None:
    doc = story()
    guest = Document("guest", [["Di", "hired", "Ed"]], [[Mention(0, 0, 1)], [Mention(0, 2, 3)]])
    triggers = {"married": "spouse", "never": "employer", "hired": "teacher"}
    any_rule = robustness(TriggerRules(triggers, where="any"), [doc, guest], foreign_sentences=1)
    pair_rule = robustness(TriggerRules(triggers), [doc, guest], foreign_sentences=1)
    assert any_rule.records[0].foreign is not None
    assert any_rule.records[0].foreign[:2] == ("guest", (0,))
    assert pair_rule.records[0].counts["inserted"] == pair_rule.records[0].counts["full"]
    alone = robustness(TriggerRules(triggers), [doc])
    assert alone.rates["insertion_flip"].value is None
    assert alone.rates["insertion_flip"].excluded["nothing to insert"] == sum(t.full for t in alone.records[0].triples)
    # in guest, "married" of the story comes to stand among Di and Ed
    assert any_rule.records[1].counts["inserted"].predicted >= any_rule.records[1].counts["full"].predicted


def test_views_that_coincide_share_a_pass() -> None:
    ends = [[Mention(0, 0, 1), Mention(1, 0, 1)], [Mention(0, 1, 2), Mention(1, 1, 2)]]
    doc = Document("d", [["a", "b"], ["a", "b"]], ends, [Relation(0, 1, "r", (0,)), Relation(1, 0, "r", (0,))])
    rule = TriggerRules({"x": "r"})
    report = robustness(rule, [doc])
    # whole, shuffled, without 0 (= without evidence, maybe the random one), without 1 (= evidence only, = without non-evidence)
    assert report.passes == sum(rule.batches) == 4


def test_passes_are_given_in_batches_and_counted_as_they_are_done() -> None:
    rule, done = TriggerRules(WORDS), []
    report = robustness(rule, [story(), another()], batch_documents=5, advance=done.append)
    assert max(rule.batches) == 5
    assert rule.batches == done
    assert sum(done) == report.passes


def test_unknown_evidence_counts_where_none_is_needed_and_nowhere_else() -> None:
    report = robustness(TriggerRules(WORDS), [another()])
    assert rate(report, "removal_flip") == (0, 0)
    assert report.rates["removal_flip"].value is None
    assert report.rates["removal_flip"].excluded == {"evidence unknown": 1}
    assert rate(report, "shuffle_flip") == (0, 1)
    assert report.rates["f1_non_evidence_removed"].excluded == {"documents without this variant": 1}
    assert report.passes == 3  # whole, shuffled, one random sentence removed


def test_a_document_of_one_sentence_has_no_order_and_nothing_left_to_remove() -> None:
    doc = Document(
        "one", [["Ann", "married", "Bob"]], [[Mention(0, 0, 1)], [Mention(0, 2, 3)]], [Relation(0, 1, "spouse", (0,))]
    )
    report = robustness(TriggerRules(WORDS), [doc])
    assert rate(report, "false_positives") == (0, 0)
    assert report.rates["false_positives"].excluded == {"documents of one sentence": 1}
    assert report.rates["shuffle_flip"].excluded == {"documents of one sentence": 1}
    assert rate(report, "evidence_only") == (1, 1)
    assert report.rates["evidence_flip"].excluded == {"removals that lose an entity": 1}


def test_nothing_at_all_is_a_report_too() -> None:
    report = robustness(TriggerRules(WORDS), [])
    assert all(r.value is None and r.low is None for r in report.rates.values())
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"resamples": -1}, "resamples"),
        ({"max_documents": 0}, "max_documents"),
        ({"foreign_sentences": -1}, "foreign_"),
    ],
)
def test_settings_out_of_range_are_named(settings_: dict[str, int], words: str) -> None:
    with pytest.raises(SiefError, match=words):
        robustness(TriggerRules(WORDS), [story()], **settings_)  # type: ignore[arg-type]


def test_a_part_of_the_documents_is_drawn_by_the_seed() -> None:
    many = [Document(f"d{i}", [["a"], ["b"]], [[Mention(0, 0, 1)], [Mention(1, 0, 1)]]) for i in range(30)]
    titles = [[r.title for r in robustness(WorksFor(), many, seed=s, max_documents=5).records] for s in (1, 1, 2)]
    assert titles[0] == titles[1] != titles[2]
    assert [len(set(t)) for t in titles] == [5, 5, 5]


# ---- arbitrary models, by brute force


@st.composite
def documents(draw: st.DrawFn) -> Document:
    n = draw(st.integers(1, 4))
    place = st.integers(0, n - 1)
    entities = draw(st.lists(st.lists(place, min_size=0, max_size=3), min_size=2, max_size=3))
    entity = st.integers(0, len(entities) - 1)
    evidence = st.none() | st.lists(place, min_size=1, max_size=3).map(tuple)
    rows = draw(st.lists(st.tuples(entity, entity, st.sampled_from("rqz"), evidence), max_size=5))
    return Document(
        f"title {draw(st.integers(0, 10**6))}",
        [[f"w{k}", "x", "y"] for k in range(n)],
        [[Mention(k, j, j + 1) for j, k in enumerate(places)] for places in entities],
        [Relation(h, t, r, e) for h, t, r, e in rows if h != t],
    )


def brute_force(model: Hashed, docs: list[Document]) -> dict[str, tuple[int, int]]:
    """[count, n] of the rates, one view at a time."""
    found = {name: [0, 0] for name in ("removal_flip", "evidence_flip", "removal_change", "evidence_only", "agree")}

    def predicted(doc: Document, kept: set[int], triple: tuple[int, int, str]) -> bool | None:
        view = drop_sentences(doc, set(range(len(doc))) - kept)
        row = doc.all_pairs().index(triple[:2])
        if not view.alive[row]:
            return None
        p = model.probabilities([view.document])[0]
        return bool(p[row, model.relations.index(triple[2])] > model.threshold)

    def count(name: str, case: bool) -> None:
        found[name][0] += case
        found[name][1] += 1

    for doc in docs:
        last = {(r.head, r.tail, r.type): r.evidence for r in doc.relations if r.evidence is not None and r.type != "z"}
        for triple, evidence in last.items():
            everything = set(range(len(doc)))
            full = predicted(doc, everything, triple)
            if full is None:
                continue
            for k in everything:
                got = predicted(doc, everything - {k}, triple)
                if got is None:
                    continue
                if k not in evidence:
                    count("removal_change", got != full)
                if full:
                    count("evidence_flip" if k in evidence else "removal_flip", not got)
            only = predicted(doc, set(evidence), triple)
            if only is not None:
                count("agree", only == full)
                if full:
                    count("evidence_only", only)
    return {name: (a, b) for name, (a, b) in found.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(documents(), min_size=1, max_size=3))
def test_rates_equal_asking_for_one_view_at_a_time(docs: list[Document]) -> None:
    model = Hashed()
    report = robustness(model, docs, resamples=10, batch_documents=4)
    for name, expected in brute_force(model, docs).items():
        assert rate(report, "evidence_only_agree" if name == "agree" else name) == expected
    # the random views, from what the records say was drawn
    for doc, record in zip(docs, report.records, strict=True):
        full = model.probabilities([doc])[0] > model.threshold
        if record.removed is not None:
            less = model.probabilities([drop_sentences(doc, {record.removed}).document])[0] > model.threshold
            assert record.new_positives == (less & ~full).sum()
            shuffled = model.probabilities([order_sentences(doc, record.order)])[0] > model.threshold
            assert record.counts["shuffled"].predicted == shuffled.sum()
        gold = {(r.head, r.tail, r.type) for r in doc.relations}
        right = sum(
            full[doc.all_pairs().index((h, t)), model.relations.index(r)] for h, t, r in gold if r in model.relations
        )
        assert (record.counts["full"].predicted, record.counts["full"].correct, record.counts["full"].gold) == (
            full.sum(),
            right,
            len(gold),
        )
    assert RobustnessReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


# ---- intervals


def many(n: int = 40) -> list[Document]:
    docs = []
    for i in range(n):
        trigger = "married" if i % 2 else "saw"
        docs.append(
            Document(
                f"d{i}",
                [["Ann", trigger, "Bob"], ["Ann", "and", "Bob"], ["Ann", "loves" if i % 3 else "married", "Bob"]],
                [[Mention(k, 0, 1) for k in range(3)], [Mention(k, 2, 3) for k in range(3)]],
                [Relation(0, 1, "spouse", evidence=(0,))],
            )
        )
    return docs


def test_the_interval_holds_the_value_and_narrows_with_more_documents() -> None:
    rule = TriggerRules({"married": "spouse"})
    few, more = robustness(rule, many(12)).rates["evidence_flip"], robustness(rule, many(120)).rates["evidence_flip"]
    for found in (few, more):
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
    assert more.high - more.low < few.high - few.low


def test_the_interval_is_the_percentile_bootstrap_over_documents() -> None:
    """Documents count whole: one with many triples weighs more in every draw, and its triples come and go together."""
    report = robustness(TriggerRules({"married": "spouse"}), many(30), resamples=4000, seed=5)
    rows = np.array(
        [[sum(MEASURES["evidence_flip"].of(t)[i] for t in record.triples) for i in (0, 1)] for record in report.records]
    )
    rng = np.random.default_rng(99)
    drawn = [rows[rng.integers(30, size=30)].sum(0) for _ in range(4000)]
    low, high = np.percentile([a / b for a, b in drawn], [2.5, 97.5])
    found = report.rates["evidence_flip"]
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))


def test_one_document_has_no_interval() -> None:
    assert robustness(TriggerRules(WORDS), [story()]).rates["removal_flip"].low is None


# ---- two models


def test_models_are_compared_on_the_triples_that_both_get_right() -> None:
    docs = many(30)
    loose = robustness(TriggerRules({"married": "spouse", "loves": "spouse"}), docs)
    strict = robustness(TriggerRules({"married": "spouse"}), docs)
    result = compare(strict, loose)
    tp = [sum(r.triples[0].full for r in report.records) for report in (strict, loose)]
    assert result.true_positives == (*tp, tp[0])  # what the strict rule finds the loose one finds too
    assert tp[0] < tp[1]
    flips = result.differences["evidence_flip"]
    # documents with `married` in sentence 0 and `loves` in 2 flip for the strict rule only
    both = [i for i in range(30) if i % 2 or i % 3 == 0]
    expected = [
        sum(i % 2 == 1 and i % 3 != 0 for i in both) / len(both),
        0,
    ]
    assert (flips.first, flips.second) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert flips.difference == pytest.approx(expected[1] - expected[0])
    assert flips.low <= flips.difference <= flips.high < 0
    assert result.differences["f1_full"].difference == pytest.approx(
        loose.rates["f1_full"].value - strict.rates["f1_full"].value
    )
    json.dumps(result.to_json(), allow_nan=False)


def test_a_model_compared_with_itself_differs_nowhere_with_certainty() -> None:
    report = robustness(TriggerRules({"married": "spouse"}), many(20))
    for found in compare(report, report).differences.values():
        assert found.difference in (0, None)
        assert found.low is None or abs(found.low) < 1e-12
        assert found.high is None or abs(found.high) < 1e-12


def test_reports_that_cannot_be_compared_are_refused() -> None:
    rule = TriggerRules(WORDS)
    with pytest.raises(SiefError, match="no document in common"):
        compare(robustness(rule, [story()]), robustness(rule, [another()]))
    with pytest.raises(SiefError, match="same documents, seed"):
        compare(robustness(rule, [story()], seed=1), robustness(rule, [story()], seed=2))
    relabelled = Document("story", story().sentences, story().entities, [Relation(0, 1, "spouse", evidence=(3,))])
    with pytest.raises(SiefError, match="same gold labels"):
        compare(robustness(rule, [story()]), robustness(rule, [relabelled]))
    result = compare(robustness(rule, many(3), foreign_sentences=0), robustness(rule, many(2), foreign_sentences=0))
    assert (result.documents, result.excluded) == (2, {"documents in one report only": 1})


# ---- kept and shown


@pytest.mark.parametrize(
    "spoil", [lambda d: d.pop("records"), lambda d: d.update(format=0), lambda d: d["records"][0].pop("order")]
)
def test_a_file_that_is_no_report_is_refused(spoil: Callable[[dict[str, object]], object]) -> None:
    data = json.loads(json.dumps(robustness(TriggerRules(WORDS), [story()]).to_json()))
    spoil(data)
    with pytest.raises(SiefError, match="make the report anew"):
        RobustnessReport.from_json(data)


def test_the_section_is_drawn_by_the_core() -> None:
    from fascicle.blocks import check_section

    part = section(robustness(TriggerRules(WORDS), [story(), another()]))
    check_section(part)
    names = [row[0] for row in part.blocks[1].data["rows"]]
    assert names[:3] == ["removal_flip (NEF)", "evidence_flip (EVS)", "selectivity (EVS - NEF)"]
    assert "12" in str(part.blocks[1].data["rows"][0])
