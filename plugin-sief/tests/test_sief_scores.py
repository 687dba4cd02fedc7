"""The rules of the official DocRED and Re-DocRED evaluations, one by one; thresholds and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sief_data import band

from fascicle_sief.document import Relation
from fascicle_sief.errors import SiefError
from fascicle_sief.scores import (
    Prediction,
    best_threshold,
    bootstrap_f1_difference,
    docred_scores,
    document_counts,
    redocred_scores,
    train_facts,
)

A = Relation(0, 1, "P463", evidence=(0, 1))
B = Relation(1, 2, "P571", evidence=(2,))


def says(*triples: Any, title: str = "RATM") -> list[Prediction]:
    return [Prediction(title, *triple) for triple in triples]


def test_the_gold_labels_score_one() -> None:
    scores = docred_scores([band(relations=(A, B))], says((0, 1, "P463", (0, 1)), (1, 2, "P571", (2,))))
    assert {key: value for key, value in scores.items() if value != 1} == {}


def test_an_empty_submission_scores_zero() -> None:
    assert set(docred_scores([band(relations=(A,))], []).values()) == {0.0}
    assert set(redocred_scores([band(relations=(A,))], [], {"annotated": frozenset()}).values()) == {0.0}


def test_without_gold_labels_every_score_is_zero() -> None:
    assert set(docred_scores([band()], says((0, 1, "P463", (0,)))).values()) == {0.0}


def test_a_repeated_gold_label_is_one_triple_with_its_last_evidence_but_all_rows_count_in_the_recall() -> None:
    again = Relation(0, 1, "P463", evidence=(4,))
    scores = docred_scores([band(relations=(A, again))], says((0, 1, "P463", (0, 1, 4))))
    assert scores["recall"] == 1
    assert scores["evidence_precision"] == pytest.approx(1 / 3)  # of 0, 1, 4 only 4 is in the last row
    assert scores["evidence_recall"] == pytest.approx(1 / 3)  # of 2 + 1 sentences in the rows


def test_evidence_that_is_unknown_counts_as_no_sentence() -> None:
    scores = docred_scores([band(relations=(A, Relation(1, 2, "P571")))], says((0, 1, "P463", (0, 1))))
    assert scores["evidence_recall"] == 1


def test_of_a_repeated_prediction_the_first_counts() -> None:
    predictions = [*says((0, 1, "P463", (0,))), *says((1, 2, "P571")), *says((0, 1, "P463", (0, 1)))]
    scores = docred_scores([band(relations=(A, B))], predictions)
    assert (scores["precision"], scores["recall"]) == (1, 1)
    assert scores["evidence_recall"] == pytest.approx(1 / 3)  # sentence 0 of 0, 1 and 2


def test_an_unknown_title_costs_precision_but_its_evidence_is_not_counted() -> None:
    predictions = [*says((0, 1, "P463", (0, 1))), *says((0, 1, "P463", (0, 1, 2)), title="elsewhere")]
    scores = docred_scores([band(relations=(A,))], predictions)
    assert (scores["precision"], scores["recall"], scores["evidence_precision"]) == (0.5, 1, 1)


def test_evidence_of_a_wrong_triple_costs_precision_and_repeated_sentences_count_once() -> None:
    scores = docred_scores([band(relations=(A,))], says((0, 1, "P463", (0, 0, 1)), (0, 2, "P463", (0, 1))))
    assert (scores["evidence_precision"], scores["evidence_recall"]) == (0.5, 1)


def test_the_direction_and_the_relation_are_part_of_a_triple() -> None:
    assert docred_scores([band(relations=(A,))], says((1, 0, "P463"), (0, 1, "P17")))["f1"] == 0


def test_a_fact_is_known_by_any_name_and_ignoring_it_leaves_the_recall() -> None:
    # In training only the second name of the band occurs.
    known = {"annotated": frozenset({("Wilk", "Rage Against", "P463")})}
    predictions = says((0, 1, "P463"), (1, 2, "P571"), (0, 2, "P17"))
    scores = docred_scores([band(relations=(A, B))], predictions, known)
    assert scores["ign_precision"] == pytest.approx((2 - 1) / (3 - 1))
    assert scores["ign_f1"] == pytest.approx(2 * 0.5 * 1 / (0.5 + 1))


def test_a_wrong_prediction_that_is_a_training_fact_stays_in() -> None:
    known = {"annotated": frozenset({("Wilk", "1991", "P17")})}
    scores = docred_scores([band(relations=(A,))], says((0, 1, "P463"), (0, 2, "P17")), known)
    assert scores["ign_precision"] == 0.5


def test_ign_is_zero_and_not_an_error_when_only_training_facts_were_predicted() -> None:
    known = {"annotated": train_facts([band(relations=(A,))]), "distant": frozenset()}
    scores = docred_scores([band(relations=(A,))], says((0, 1, "P463")), known)
    assert (scores["ign_f1"], scores["ign_distant_f1"]) == (0, 1)


def test_without_facts_there_is_no_ign_score() -> None:
    assert not [key for key in docred_scores([band(relations=(A,))], says((0, 1, "P463"))) if "ign" in key]
    with pytest.raises(SiefError, match="'train', expected some of 'annotated', 'distant'"):
        docred_scores([band()], [], {"train": frozenset()})


def test_train_facts_pair_every_name_with_every_name() -> None:
    assert train_facts([band(relations=(A,))]) == {("Wilk", "Rage", "P463"), ("Wilk", "Rage Against", "P463")}


def test_redocred_adds_one_sentence_of_evidence_and_a_little_to_the_denominator_of_ign() -> None:
    scores = redocred_scores([band(relations=(A,))], says((0, 1, "P463", (0, 1))), {"annotated": frozenset()})
    assert scores["evidence_recall"] == pytest.approx(2 / 3, abs=1e-12)
    assert scores["ign_precision"] == pytest.approx(1 / (1 + 1e-5), abs=1e-12)


def test_redocred_breaks_down_by_relation_and_by_distance() -> None:
    gold = (A, B, Relation(0, 3, "P17"))  # 1, 0 and 7 sentences apart; P463 and P17 are frequent
    predictions = [*says((0, 1, "P463"), (1, 2, "P571"), (2, 0, "P571")), *says((0, 1, "P17"), title="elsewhere")]
    scores = redocred_scores([band(relations=gold)], predictions)
    parts = ("frequent", "long_tail", "intra", "inter", "inter_long")
    assert {part: (scores[f"{part}_precision"], scores[f"{part}_recall"]) for part in parts} == {
        "frequent": (0.5, 0.5),  # the unknown title counts
        "long_tail": (0.5, 1),
        "intra": (1, 1),
        "inter": (0.5, 0.5),  # and here it does not
        "inter_long": (0, 0),
    }


def test_five_sentences_apart_are_not_long_and_the_nearest_mentions_count() -> None:
    five, seven = Relation(1, 3, "P17"), Relation(0, 3, "P17")  # the band's mentions are 6 and 5 away
    scores = redocred_scores([band(relations=(five, seven))], says((1, 3, "P17")))
    assert (scores["inter_recall"], scores["inter_long_recall"], scores["inter_long_precision"]) == (0.5, 0, 0)
    assert redocred_scores([band(relations=(five, seven))], says((0, 3, "P17")))["inter_long_f1"] == 1


def test_counts_of_documents_add_up_to_the_score() -> None:
    documents = [band("a", (A, B)), band("b", (A,))]
    predictions = [*says((0, 1, "P463"), (0, 2, "P17"), title="a"), *says((0, 1, "P463"), title="c")]
    counts = document_counts(documents, predictions)
    assert counts == {"a": (1, 2, 2), "b": (0, 0, 1), "c": (0, 1, 0)}
    correct, predicted, gold = np.sum(list(counts.values()), axis=0)
    assert docred_scores(documents, predictions)["f1"] == pytest.approx(2 * correct / (predicted + gold))


def test_a_model_differs_from_itself_by_nothing_whatever_is_drawn() -> None:
    counts = {str(i): (i % 3, 3, 2 + i % 2) for i in range(20)}
    assert bootstrap_f1_difference(counts, counts) == (0, 0, 0)


def test_the_interval_of_a_difference_is_paired_seeded_and_around_it() -> None:
    rng = np.random.default_rng(0)
    a = {str(i): (int(rng.integers(1, 10)), 10, 10) for i in range(50)}
    b = {title: (correct - 1, 10, 10) for title, (correct, _, _) in a.items()}
    difference, low, high = bootstrap_f1_difference(a, b, resamples=300, seed=1)
    assert difference == pytest.approx(0.1)
    assert (low, high) == pytest.approx(
        (0.1, 0.1)
    )  # each document differs by the same, although F1 itself varies widely
    b["0"] = (a["0"][0], 10, 10)
    assert bootstrap_f1_difference(a, b, seed=1) == bootstrap_f1_difference(a, b, seed=1)
    difference, low, high = bootstrap_f1_difference(a, b, seed=1)
    assert low < difference < high


def test_counts_of_different_documents_are_refused() -> None:
    with pytest.raises(SiefError, match="'d' has 2 gold triples on one side and 0 on the other"):
        bootstrap_f1_difference({"d": (1, 1, 2)}, {"e": (1, 1, 0)})
    with pytest.raises(SiefError, match="0 documents"):
        bootstrap_f1_difference({}, {})


def f1_at(theta: float, scores: np.ndarray, correct: np.ndarray, gold: int, in_train: np.ndarray) -> float:
    chosen = scores > theta
    known = (chosen & correct & in_train).sum()
    precision = ((chosen & correct).sum() - known) / max(chosen.sum() - known, 1)
    recall = (chosen & correct).sum() / max(gold, 1)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ign", [False, True])
def test_no_threshold_is_better_than_the_best_one(dtype: Any, ign: bool) -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        n = int(rng.integers(1, 12))
        scores = (rng.integers(0, 6, n) / 5).astype(dtype)  # many ties
        correct, known = rng.random(n) < 0.5, rng.random(n) < 0.3
        gold = int(correct.sum()) + int(rng.integers(0, 3))
        theta, f1 = best_threshold(scores, correct, gold, known if ign else None)
        seen = known if ign else np.zeros(n, dtype=bool)
        assert f1 == pytest.approx(f1_at(theta, scores, correct, gold, seen))
        assert f1 == pytest.approx(max(f1_at(t, scores, correct, gold, seen) for t in [-1.0, *scores]))


def test_equal_scores_stand_on_one_side_of_the_threshold() -> None:
    theta, f1 = best_threshold(np.array([0.5, 0.5]), np.array([True, False]), gold=1)
    assert theta < 0.5
    assert f1 == pytest.approx(2 / 3)


def test_neighbouring_numbers_are_kept_apart() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    scores = np.array([low, high], dtype=np.float32)
    theta, f1 = best_threshold(scores, np.array([False, True]), gold=1)
    assert f1 == 1
    assert (scores > theta).tolist() == [False, True]


def test_a_score_of_zero_can_be_predicted() -> None:
    theta, f1 = best_threshold(np.array([0.0]), np.array([True]), gold=1)
    assert theta < 0
    assert f1 == 1


def test_where_nothing_is_right_nothing_is_predicted() -> None:
    assert best_threshold(np.array([0.2, 0.7]), np.array([False, False]), gold=3) == (0.7, 0)
    assert best_threshold(np.array([]), np.array([], dtype=bool), gold=3) == (np.inf, 0)


def test_scores_must_be_numbers_of_one_shape() -> None:
    with pytest.raises(SiefError, match="1 of 2 are not numbers"):
        best_threshold(np.array([0.1, np.nan]), np.array([True, False]), gold=1)
    with pytest.raises(SiefError, match=r"\(2,\), \(1,\)"):
        best_threshold(np.array([0.1, 0.2]), np.array([True]), gold=1)
