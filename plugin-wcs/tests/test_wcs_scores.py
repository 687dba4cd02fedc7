"""Scores of lexicon induction say what they are of, and differences between systems come with their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from fascicle_wcs.errors import DictionaryError, WcsError
from fascicle_wcs.scores import FrequencyBin, evaluate, of_rows
from fascicle_wcs.significance import compare, mcnemar

GOLD = {
    "chien": ("dog", "hound"),
    "chat": ("cat",),
    "radio": ("radio", "wireless"),
    "loup": ("wolf",),
    "zèbre": ("zebra",),
}
FOUND = {
    "chien": ["cat", "hound", "dog"],
    "chat": ["cat", "dog"],
    "radio": ["radio"],
    "loup": ["dog", "cat", "hound", "radio"],
    "unasked": ["cat"],
}


# ---- scores --------------------------------------------------------------------------------------------------------------


def test_any_gold_translation_counts_and_the_first_one_answered_gives_the_rank() -> None:
    scores = evaluate(FOUND, GOLD, ks=(1, 2, 3))
    assert scores.ranks == {"chien": 2, "chat": 1, "radio": 1, "loup": 0, "zèbre": 0}
    assert scores.precision == {1: 2 / 5, 2: 3 / 5, 3: 3 / 5}
    assert scores.mrr == pytest.approx((1 / 2 + 1 + 1) / 5)
    assert scores.hits == {"chien": 0, "chat": 1, "radio": 1, "loup": 0, "zèbre": 0}
    assert scores.hits_at(2)["chien"] == 1


def test_a_word_without_an_answer_is_wrong_or_left_out_and_coverage_is_told_either_way() -> None:
    wrong, dropped = evaluate(FOUND, GOLD, oov="wrong"), evaluate(FOUND, GOLD, oov="drop")
    assert (wrong.words, wrong.precision[1], wrong.oov) == (5, 2 / 5, "wrong")
    assert (dropped.words, dropped.precision[1], dropped.oov) == (4, 2 / 4, "drop")
    assert wrong.coverage == dropped.coverage == 4 / 5
    assert "zèbre" not in dropped.hits


def test_a_covered_word_without_predictions_is_wrong_and_an_uncovered_one_leaves_with_its_predictions() -> None:
    scores = evaluate(FOUND, GOLD, oov="drop", covered={"chien", "chat", "zèbre"})
    assert scores.ranks == {"chien": 2, "chat": 1, "zèbre": 0}
    assert scores.coverage == 3 / 5


def test_words_with_an_identical_gold_can_be_left_out_whatever_their_other_translations() -> None:
    scores = evaluate(FOUND, GOLD, exclude_identical=True)
    assert scores.precision[1] == 1 / 4
    assert "radio" not in scores.ranks
    assert (scores.identical, scores.asked) == (1, 4)
    assert evaluate(FOUND, GOLD).identical == 1
    assert scores.coverage == 3 / 4


def test_case_matters_unless_it_is_folded() -> None:
    gold, found = {"Paris": ("paris",), "Straße": ("STREET",)}, {"Paris": ["PARIS"], "Straße": ["street"]}
    assert evaluate(found, gold).precision[1] == 0
    folded = evaluate(found, gold, case="fold")
    assert (folded.precision[1], folded.identical, folded.case) == (1, 1, "fold")
    assert evaluate(found, gold).identical == 0


def test_bins_hold_every_scored_word_once() -> None:
    ranks = {"chien": 0, "chat": 499, "radio": 500, "loup": 70_000}
    scores = evaluate(FOUND, GOLD, ranks=ranks, bins=(0, 500, 1000))
    assert scores.bins == {
        "0-499": FrequencyBin(1 / 2, 2),
        "500-999": FrequencyBin(1.0, 1),
        "1000 and more": FrequencyBin(0.0, 1),
        "no rank": FrequencyBin(0.0, 1),
    }
    assert sum(b.precision * b.words for b in scores.bins.values()) / scores.words == pytest.approx(scores.precision[1])
    assert evaluate(FOUND, GOLD).bins == {}


def test_where_nothing_is_left_to_score_the_scores_are_zero_of_no_words() -> None:
    scores = evaluate({}, {"radio": ["radio"]}, exclude_identical=True)
    assert (scores.words, scores.precision[1], scores.mrr, scores.coverage) == (0, 0, 0, 0)


def test_rows_of_retrieval_become_words() -> None:
    rows = np.array([[2, 0], [1, -1]])
    assert of_rows(rows, ["a", "b"], ["x", "y", "z"]) == {"a": ["z", "x"], "b": ["y"]}
    with pytest.raises(WcsError, match="row 2, there are 2 target words"):
        of_rows(rows, ["a", "b"], ["x", "y"])
    with pytest.raises(WcsError, match=r"shape \(2, 2\) for 1 source words"):
        of_rows(rows, ["a"], ["x", "y", "z"])


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DictionaryError, match="no words to score"):
        evaluate(FOUND, {})
    with pytest.raises(DictionaryError, match=r"'loup' has the translations \(\)"):
        evaluate(FOUND, {"loup": ()})
    with pytest.raises(DictionaryError, match="'loup' has the translations 'wolf'"):
        evaluate(FOUND, {"loup": "wolf"})
    with pytest.raises(WcsError, match="ks: got"):
        evaluate(FOUND, GOLD, ks=(0, 1))
    with pytest.raises(WcsError, match="oov: got 'skip'"):
        evaluate(FOUND, GOLD, oov="skip")
    with pytest.raises(WcsError, match="case: got 'lower'"):
        evaluate(FOUND, GOLD, case="lower")
    with pytest.raises(WcsError, match="bins: got"):
        evaluate(FOUND, GOLD, bins=(5, 5))


# ---- significance --------------------------------------------------------------------------------------------------------


def hits(*values: int) -> dict[str, float]:
    return {f"w{i}": float(value) for i, value in enumerate(values)}


def test_only_words_on_which_the_systems_differ_count() -> None:
    told = compare(hits(*[1] * 8, *[0] * 2, *[1] * 10), hits(*[0] * 8, *[1] * 2, *[1] * 10))
    assert (told.difference, told.words, told.only_first, told.only_second) == (0.3, 20, 8, 2)
    assert told.p_value == pytest.approx(2 * binom.cdf(2, 10, 0.5))


def test_mcnemar_is_a_fair_coin_two_sided() -> None:
    for first, second in ((0, 1), (3, 9), (9, 3), (50, 31)):
        tail = binom.cdf(min(first, second), first + second, 0.5)
        assert mcnemar(first, second) == pytest.approx(min(1, 2 * tail))


def test_the_interval_is_that_of_resampled_words() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.5, rng.random(300) < 0.4
    told = compare(hits(*a), hits(*b))
    picks = rng.integers(300, size=(4000, 300))
    low, high = np.quantile(a[picks].mean(axis=1) - b[picks].mean(axis=1), [0.025, 0.975])
    assert (told.low, told.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert told.low < told.difference < told.high


def test_pairing_makes_the_interval_of_correlated_systems_short() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.5
    b = a.copy()
    b[:10] = False
    near, far = compare(hits(*a), hits(*b)), compare(hits(*a), hits(*rng.permutation(b)))
    assert near.high - near.low < (far.high - far.low) / 5


def test_three_words_of_ten_thousand_are_noise() -> None:
    told = compare(hits(*[1] * 103, *[0] * 100, *[1] * 9797), hits(*[0] * 103, *[1] * 100, *[1] * 9797))
    assert told.low < 0 < told.high
    assert told.p_value > 0.5


def test_the_order_of_words_does_not_matter_and_the_seed_decides() -> None:
    a, b = hits(1, 0, 1, 1, 0), hits(0, 0, 1, 0, 1)
    assert compare(a, b) == compare(a, dict(reversed(b.items())))
    swapped = compare(b, a)
    assert (swapped.difference, swapped.p_value) == (-compare(a, b).difference, compare(a, b).p_value)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(WcsError, match="got 2 and 1 words, 1 of them in both"):
        compare(hits(1, 0), hits(1))
    with pytest.raises(WcsError, match="got 0 and 0 words"):
        compare({}, {})
    with pytest.raises(WcsError, match="1 or 0 for each word"):
        compare({"a": 0.5}, {"a": 1.0})
    with pytest.raises(WcsError, match="resamples=0"):
        compare(hits(1), hits(1), resamples=0)
    with pytest.raises(WcsError, match="counts -1"):
        mcnemar(-1, 2)
