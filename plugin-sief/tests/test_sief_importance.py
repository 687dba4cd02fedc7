"""What importance says about a model whose reasons are known, and how evidence is chosen and judged by it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sief_rules import Hashed, TriggerRules, WorksFor, story

from fascicle_sief.document import Document, Mention, Relation, drop_sentences
from fascicle_sief.errors import DocumentError, ModelError
from fascicle_sief.evidence import average_precision, choose_threshold, evidence_report, gold_importances, top_1
from fascicle_sief.importance import (
    Importance,
    evidence,
    gold_triples,
    mention_ranking,
    official_score,
    ranking,
    score,
    sentence_importance,
    stream_probabilities,
    trivial_evidence,
)

SPOUSE = {"married": "spouse", "hired": "employer", "taught": "teacher"}


def given_scores(scores: list[float | None], relation: str = "r") -> Importance:
    alive = tuple(s is not None for s in scores)
    return Importance(
        head=0,
        tail=1,
        relation=relation,
        p=0.9,
        p_without=tuple(None if s is None else 0.9 * math.exp(-s / 0.9) for s in scores),
        score=tuple(scores),
        alive=alive,
        mentions=((1, 1),) * len(scores),
    )


# ---- the score


@pytest.mark.parametrize(
    ("p", "without", "expected"),
    [
        (0.95, 0.40, 0.821748),
        (0.90, 0.40, 0.729837),
        (0.90, 0.36, 0.824662),
        (0.50, 0.10, 0.804719),
        (0.50, 0.11, 0.757064),
        (0.99, 0.01, 4.549169),
        (0.40, 0.90, -0.324372),
    ],
)
def test_the_score_is_that_of_the_official_code(p: float, without: float, expected: float) -> None:
    assert official_score(p, without) == pytest.approx(expected, abs=1e-6)
    assert score(p, without) == pytest.approx(expected, abs=1e-6)


def test_the_score_is_finite_and_keeps_its_sign_at_the_ends() -> None:
    p, q = np.meshgrid([0.0, 5e-324, 1e-300, 0.5, 1.0], [0.0, 5e-324, 1e-300, 0.5, 1.0])
    s = score(p, q)
    assert np.isfinite(s).all()
    assert np.isfinite(official_score(p, q)).all()
    assert (s[p == 0] == 0).all()
    assert (s[p > q] >= 0).all()
    assert (s[p < q] <= 0).all()
    assert (np.diag(s) == 0).all()


# ---- sentence importance


def test_the_sentence_that_a_rule_needs_is_the_important_one() -> None:
    rule = TriggerRules(SPOUSE)
    spouse, employer, teacher = sentence_importance(
        rule, story(), [(0, 1, "spouse"), (0, 1, "employer"), (0, 2, "teacher")]
    )
    needed = 0.9 * math.log(9)
    assert spouse.score == pytest.approx([needed, 0, 0, 0, 0])
    assert employer.score == pytest.approx([0, needed, 0, 0, 0])
    assert spouse.p_without == (0.1, 0.9, 0.9, 0.9, 0.9)
    assert teacher.alive == (True, True, False, True, True)
    assert teacher.p_without[2] is None
    assert teacher.score[2] is None
    assert teacher.mentions == ((1, 0), (1, 0), (1, 1), (1, 0), (0, 0))


def test_one_pass_a_sentence_and_one_more_serve_all_triples() -> None:
    rule, done = TriggerRules(SPOUSE), []
    triples = [(0, 1, "spouse"), (0, 1, "employer"), (1, 0, "teacher")]
    sentence_importance(rule, story(), triples, batch_documents=4, advance=done.append)
    assert rule.batches == [4, 2] == done


def test_without_triples_the_predicted_ones_are_explained_most_probable_first() -> None:
    found = sentence_importance(Hashed(threshold=0.3), story())
    (p,) = stream_probabilities(Hashed(), [story()])
    assert len(found) == (p > 0.3).sum() > 1
    assert [one.p for one in found] == sorted(p[p > 0.3].tolist(), reverse=True)


def test_a_document_of_one_sentence_loses_its_entities_with_it_and_is_not_run_empty() -> None:
    rule = TriggerRules(SPOUSE)
    doc = Document("one", [["Ann", "married", "Bob"]], [[Mention(0, 0, 1)], [Mention(0, 2, 3)]])
    (found, _) = sentence_importance(rule, doc)
    assert (found.p, found.alive, found.score, rule.batches) == (0.9, (False,), (None,), [1])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    n = draw(st.integers(1, 5))
    place = st.integers(0, n - 1)
    entities = draw(st.lists(st.lists(place, min_size=1, max_size=4), min_size=2, max_size=4))
    return Document(
        draw(st.sampled_from("abc")),
        [[f"w{k}", "x", "y"] for k in range(n)],
        [[Mention(k, j % 3, j % 3 + 1) for j, k in enumerate(places)] for places in entities],
    )


@settings(max_examples=50, deadline=None)
@given(documents())
def test_importance_equals_removing_each_sentence_by_hand(doc: Document) -> None:
    model = Hashed()
    triples = [(h, t, r) for h, t in doc.all_pairs() for r in model.relations]
    for one in sentence_importance(model, doc, triples, batch_documents=3):
        row, column = doc.all_pairs().index((one.head, one.tail)), model.relations.index(one.relation)
        assert one.p == model.probabilities([doc])[0][row, column]
        for k in range(len(doc)):
            view = drop_sentences(doc, {k})
            assert one.alive[k] == view.alive[row]
            if view.alive[row]:
                assert one.p_without[k] == model.probabilities([view.document])[0][row, column]
                assert one.score[k] == score(one.p, one.p_without[k])
            else:
                assert one.p_without[k] is one.score[k] is None


def test_what_cannot_be_asked_is_named() -> None:
    rule = TriggerRules(SPOUSE)
    with pytest.raises(ModelError, match="no relation 'father'"):
        sentence_importance(rule, story(), [(0, 1, "father")])
    with pytest.raises(DocumentError, match=r"\(0, 0\) is not among its pairs"):
        sentence_importance(rule, story(), [(0, 0, "spouse")])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "0 arrays for 1 documents"),
        ([np.zeros((2, 1))], r"shape \(2, 1\), expected \(pairs, relations\) = \(6, 1\)"),
        ([np.full((6, 1), np.nan)], "from 0 to 1, got nan"),
        ([np.full((6, 1), 1.5)], "got 1.5"),
    ],
)
def test_a_malformed_answer_of_the_model_is_refused(answer: list[np.ndarray], words: str) -> None:
    model = WorksFor()
    model.probabilities = lambda documents: answer  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=words):
        list(stream_probabilities(model, [story()]))
    with pytest.raises(ModelError, match="batch_documents"):
        list(stream_probabilities(WorksFor(), [story()], batch_documents=0))


def test_documents_are_taken_a_batch_at_a_time() -> None:
    taken: list[int] = []

    def many():  # type: ignore[no-untyped-def]
        for i in range(6):
            taken.append(i)
            yield story()

    answers = stream_probabilities(WorksFor(), many(), batch_documents=2)
    next(answers)
    assert taken == [0, 1]


# ---- rankings


def test_ranking_puts_lost_entities_first_and_keeps_the_order_of_ties() -> None:
    one = given_scores([0.0, None, 2.0, 0.0, -1.0, None])
    assert ranking(one) == (1, 5, 2, 0, 3, 4)
    assert ranking(one, lost_first=False) == (2, 0, 3, 4)


def test_the_mention_rule_counts_entities_not_mentions() -> None:
    doc = Document(
        "d",
        [["x"], ["a", "a", "a"], ["a", "b"], ["b"]],
        [
            [Mention(1, 0, 1), Mention(1, 1, 2), Mention(1, 2, 3), Mention(2, 0, 1)],
            [Mention(2, 1, 2), Mention(3, 0, 1)],
        ],
    )
    assert mention_ranking(doc, 0, 1) == (2, 1, 3, 0)
    assert trivial_evidence(doc, 0, 1) == (2,)
    assert trivial_evidence(drop_sentences(doc, {2}).document, 0, 1) == (1, 2)


def test_average_precision_by_hand() -> None:
    assert average_precision([0, 1, 2, 3], {0, 1}) == 1
    assert average_precision([3, 1, 2, 0], {0}) == 0.25
    assert average_precision([3, 1, 2, 0], {1, 0}) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision([3], {3, 0}) == 0.5  # a sentence that is not ranked is not found
    assert (top_1([3, 1], [1, 3]), top_1([0, 1], [1])) == (1, 0)
    with pytest.raises(DocumentError, match="at least one gold sentence"):
        average_precision([0], [])


# ---- evidence


def test_evidence_is_above_the_threshold_or_lost() -> None:
    one = given_scores([0.8, None, 0.81, -3.0])
    assert evidence(one, 0.8) == (1, 2)
    assert evidence(one, math.inf) == (1,)


@given(
    st.lists(
        st.tuples(
            st.lists(st.none() | st.integers(-3, 3).map(float), min_size=1, max_size=4),
            st.sets(st.integers(0, 3), min_size=1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_chosen_threshold_is_the_best_of_all(cases: list[tuple[list[float | None], set[int]]]) -> None:
    found = [(given_scores(scores), {k for k in gold if k < len(scores)} or {0}) for scores, gold in cases]
    if all(s is None for scores, _ in cases for s in scores):
        with pytest.raises(DocumentError, match="with a score"):
            choose_threshold(found)
        return

    def f1(threshold: float) -> float:
        picked = [(set(evidence(one, threshold)), gold) for one, gold in found]
        correct, both = sum(len(a & b) for a, b in picked), sum(len(a) + len(b) for a, b in picked)
        return 2 * correct / both

    best = max(f1(threshold / 2) for threshold in range(-9, 9))
    assert f1(choose_threshold(found)) == pytest.approx(best)


def test_of_equal_triples_the_last_evidence_counts_and_removed_evidence_is_unknown() -> None:
    doc = Document(
        "d",
        [["a"], ["b"]],
        [[Mention(0, 0, 1)], [Mention(1, 0, 1)]],
        [
            Relation(0, 1, "r", evidence=(0,)),
            Relation(0, 1, "r", evidence=(1, 0, 1)),
            Relation(0, 1, "r"),
            Relation(1, 0, "r"),
        ],
    )
    assert gold_triples(doc) == {(0, 1, "r"): (0, 1), (1, 0, "r"): None}
    assert gold_triples(drop_sentences(doc, {1}).document)[0, 1, "r"] == (0,)  # of the first label, which lost nothing


def test_the_report_by_hand() -> None:
    report = evidence_report(TriggerRules(SPOUSE), [story()], threshold=0.8)
    assert report.triples == 3
    # every evidence sentence is found first; for the teacher because an entity is lost with it
    assert report.rankings["importance"].mean_average_precision == 1
    assert report.rankings["importance_alive"].triples == 2
    assert report.rankings["importance_alive"].top_1 == 1
    # mentions: sentences 0, 1, 3 mention Ann and Bob, so the evidence of "employer" stands second
    assert report.rankings["mentions"].mean_average_precision == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert report.rankings["mentions"].top_1 == pytest.approx(2 / 3)
    assert report.rankings["mentions_alive"].mean_average_precision == pytest.approx((1 + 1 / 2) / 2)
    chosen, trivial = report.choices["importance"], report.choices["trivial"]
    assert (chosen.correct, chosen.chosen, chosen.gold, chosen.f1) == (3, 3, 3, 1)
    assert (trivial.correct, trivial.chosen, trivial.gold) == (3, 7, 3)
    assert trivial.f1 == pytest.approx(6 / 10)
    assert report.excluded == {"evidence lost with an entity": 1}
    json.dumps(report.to_json(), allow_nan=False)


def test_triples_that_the_model_does_not_predict_can_be_left_out() -> None:
    report = evidence_report(
        TriggerRules({**SPOUSE, "taught": "spouse", "x": "teacher"}), [story()], predicted_only=True
    )
    assert (report.triples, report.excluded["not predicted"]) == (2, 1)


def test_what_is_left_out_is_counted_by_reason_and_costs_no_pass() -> None:
    doc = story()
    odd = Document(
        "odd",
        doc.sentences,
        [*doc.entities, []],
        [
            Relation(0, 1, "father", evidence=(0,)),
            Relation(0, 1, "spouse"),
            Relation(0, 3, "spouse", evidence=(0,)),
            Relation(2, 0, "spouse", evidence=(0,)),
        ],
        pairs=[(0, 1), (0, 3)],
    )
    rule = TriggerRules(SPOUSE)
    found, excluded = gold_importances(rule, [odd])
    assert (found, rule.batches) == ([], [])
    assert excluded == {
        "relation unknown to the model": 1,
        "evidence unknown": 1,
        "entity not mentioned": 1,
        "pair not asked about": 1,
    }
    empty = evidence_report(rule, [odd], threshold=0.8)
    assert empty.rankings["importance"].mean_average_precision is None
    assert empty.choices["importance"].f1 == 0


@pytest.mark.realdata
def test_the_mention_rule_on_real_documents(real_data: object) -> None:
    """About .93 over all evidenced triples of Re-DocRED: the rule that no model may be reported without."""
    path: Path = real_data("redocred/dev_revised.json")  # type: ignore[operator]
    values = []
    for row in json.loads(path.read_text(encoding="utf-8"))[:100]:
        doc = Document(
            row["title"],
            row["sents"],
            [[Mention(m["sent_id"], *m["pos"], m["type"], m["name"]) for m in entity] for entity in row["vertexSet"]],
            [Relation(x["h"], x["t"], x["r"], tuple(x["evidence"]) or None) for x in row.get("labels", [])],
        )
        for (head, tail, _), gold in gold_triples(doc).items():
            if gold is not None:
                values.append(average_precision(mention_ranking(doc, head, tail), gold))
    assert len(values) > 1000
    assert 0.92 < sum(values) / len(values) < 0.94
