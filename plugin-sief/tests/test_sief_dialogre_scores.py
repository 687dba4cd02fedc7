"""The rules of the official DialogRE evaluation, one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fascicle_sief.dialogre_scores import (
    RELATIONS,
    DialoguePair,
    ceiling_f1c,
    choose_t2,
    dialogre_f1,
    dialogre_f1c,
    evaluable,
    predicted_relations,
)
from fascicle_sief.errors import SiefError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOSS, FRIENDS, NOTHING = 5, 9, 37


def pair(
    *turns: str, x: str = "Ann", y: str = "Bob", rids: tuple[int, ...] = (BOSS,), triggers: tuple[str, ...] = ("boss",)
) -> DialoguePair:
    return DialoguePair(turns or ("S 1: Ann is the boss of Bob.",), x, y, rids, triggers)


def row(**columns: float) -> np.ndarray:
    scores = np.zeros(36)
    for name, value in columns.items():
        scores[int(name[1:]) - 1] = value
    return scores


def when(p: DialoguePair, rid: int) -> list[bool]:
    return [rid - 1 in columns for columns in evaluable(p)]


# ---- F1 ------------------------------------------------------------------------------------------------------------------


def test_all_above_a_half_are_predicted_and_a_half_is_not_above() -> None:
    assert predicted_relations(np.array([row(r5=0.51, r9=0.9, r1=0.5)]), t2=0) == [{4, 8}]


def test_without_any_the_first_of_the_highest_is_predicted_if_it_is_above_t2() -> None:
    scores = np.array([row(r5=0.4, r9=0.4)])
    assert predicted_relations(scores, t2=0.39) == [{4}]
    assert predicted_relations(scores, t2=0.4) == [frozenset()]


def test_nothing_predicted_has_precision_one_and_no_gold_has_recall_zero() -> None:
    assert dialogre_f1(np.zeros((1, 36)), [pair()], t2=0) == {"f1": 0, "precision": 1, "recall": 0}
    unanswerable = pair(rids=(NOTHING,), triggers=("",))
    assert dialogre_f1(np.zeros((1, 36)), [unanswerable], t2=0) == {"f1": 0, "precision": 1, "recall": 0}
    assert dialogre_f1(np.array([row(r5=0.9)]), [unanswerable], t2=0)["precision"] == 0


def test_f1_counts_relations_over_all_pairs() -> None:
    pairs = [pair(rids=(BOSS, FRIENDS), triggers=("", "")), pair(rids=(FRIENDS,), triggers=("",))]
    scores = np.array([row(r5=0.9, r9=0.8, r1=0.7), row(r5=0.9)])
    assert dialogre_f1(scores, pairs, t2=0) == pytest.approx({"f1": 4 / 7, "precision": 2 / 4, "recall": 2 / 3})


def test_t2_is_the_first_best_of_its_grid() -> None:
    pairs = [pair(), pair(rids=(NOTHING,), triggers=("",))]
    assert (
        choose_t2(np.array([row(r5=0.45), row(r5=0.2)]), pairs) == 0.2
    )  # at 0.2 the wrong one goes, up to 0.44 the same F1
    assert choose_t2(np.array([row(r1=0.45), row(r5=0.2)]), pairs) == 0  # every F1 is 0
    assert choose_t2(np.array([row(r5=0.9), row(r5=0.5)]), pairs) == 0.5


def test_no_t2_of_the_grid_is_better_than_the_chosen_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.random((8, 36)) * rng.random((8, 1))
        pairs = [pair(rids=(int(i),), triggers=("",)) for i in rng.integers(1, 38, 8)]
        for i, p in enumerate(pairs[:5]):
            scores[i, min(p.rids[0], 36) - 1] = scores[i].max() + 0.01
        f1 = [dialogre_f1(scores, pairs, t2=step / 100)["f1"] for step in range(51)]
        assert choose_t2(scores, pairs) == f1.index(max(f1)) / 100


# ---- F1c -----------------------------------------------------------------------------------------------------------------


def test_a_relation_counts_once_both_arguments_and_its_trigger_have_occurred() -> None:
    p = pair("S 1: Ann is here.", "S 2: My boss?", "S 1: And Bob.", "S 2: Bye.")
    assert when(p, BOSS) == [False, False, True, True]
    assert when(p, FRIENDS) == [False, False, True, True]
    assert when(pair("S 1: Bob, boss.", "S 2: Ann.", "S 1: Bye."), BOSS) == [False, True, True]


def test_a_trigger_may_come_last_and_only_its_own_relation_waits_for_it() -> None:
    p = pair("S 1: Ann and Bob.", "S 2: The BOSS!", "S 1: Bye.")
    assert when(p, BOSS) == [False, True, True]
    assert when(p, FRIENDS) == [True, True, True]


def test_without_a_trigger_a_gold_relation_waits_for_the_last_turn() -> None:
    p = pair("S 1: Ann and Bob.", "S 2: Oh.", "S 1: Bye.", triggers=(" ",))
    assert when(p, BOSS) == [False, False, True]


def test_at_the_last_turn_everything_counts_even_arguments_that_never_occur() -> None:
    assert evaluable(pair("S 1: Hi.")) == [frozenset(range(36))]
    assert [len(columns) for columns in evaluable(pair("S 1: Hi.", "S 2: Hi."))] == [0, 36]


def test_an_argument_occurs_as_part_of_a_longer_name() -> None:
    p = pair("Speaker 10: Bob.", "Speaker 1: Hi.", "S 2: Bye.", x=" Speaker 1", triggers=("bob",))
    assert when(p, BOSS) == [True, True, True]


def test_two_relations_of_one_pair_have_their_own_triggers() -> None:
    p = pair("S 1: Ann, Bob, pals.", "S 2: Boss.", "S 1: Bye.", rids=(BOSS, FRIENDS), triggers=("boss", "pals"))
    assert when(p, BOSS) == [False, True, True]
    assert when(p, FRIENDS) == [True, True, True]


def test_the_trigger_of_unanswerable_plays_no_part() -> None:
    p = pair("S 1: Ann and Bob.", "S 2: Bye.", rids=(NOTHING,), triggers=("boss",))
    assert [len(columns) for columns in evaluable(p)] == [36, 36]


def test_predictions_before_their_time_do_not_count() -> None:
    p = pair("S 1: Ann.", "S 2: Bob is a boss.", "S 1: Bye.")
    early = np.array([row(r9=0.9), row(r5=0.9), row(r5=0.9, r9=0.9)])
    # Turn 1 does not count; turns 2 and 3: three predicted, two right, two gold.
    assert dialogre_f1c([early], [p], t2=0) == pytest.approx({"f1c": 0.8, "precision_c": 2 / 3, "recall_c": 1})


def test_f1c_averages_over_pairs_before_the_harmonic_mean() -> None:
    right = np.array([row(r5=0.9)] * 1)
    wrong = np.array([row(r9=0.9)] * 3)
    long = pair("S 1: Ann, Bob, boss.", "S 2: Oh.", "S 1: Bye.")
    scores = dialogre_f1c([right, wrong], [pair(), long], t2=0)
    assert scores == {"f1c": 0.5, "precision_c": 0.5, "recall_c": 0.5}  # by turns it would be a quarter


def test_a_pair_without_prediction_has_precision_one_and_without_gold_recall_zero() -> None:
    scores = dialogre_f1c([np.zeros((1, 36))] * 2, [pair(), pair(rids=(NOTHING,), triggers=("",))], t2=0)
    assert scores == {"f1c": 0, "precision_c": 1, "recall_c": 0}


# ---- refused -------------------------------------------------------------------------------------------------------------


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(SiefError, match=r"expected \(pairs, 36\) probabilities, got shape \(1, 37\)"):
        dialogre_f1(np.zeros((1, 37)), [pair()], t2=0)
    with pytest.raises(SiefError, match="1 values that are not numbers"):
        dialogre_f1(np.array([row(r5=np.nan)]), [pair()], t2=0)
    with pytest.raises(SiefError, match="each of the 1 pairs, got 2"):
        dialogre_f1(np.zeros((2, 36)), [pair()], t2=0)
    with pytest.raises(SiefError, match="expected 1 rows, one for each turn, got 2"):
        dialogre_f1c([np.zeros((2, 36))], [pair()], t2=0)
    with pytest.raises(SiefError, match="got none"):
        dialogre_f1c([], [], t2=0)


def test_ids_outside_the_inventory_are_refused() -> None:
    with pytest.raises(SiefError, match="from 1 to 37"):
        pair(rids=(0,))
    with pytest.raises(SiefError, match="1 triggers"):
        pair(rids=(1, 2))


# ---- real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(("split", "ceiling"), [("dev", 0.8849), ("train", 0.8786)])
def test_gold_as_prediction_has_f1_one_and_f1c_below_it(
    real_data: Callable[[str], Path], split: str, ceiling: float
) -> None:
    dialogues = json.loads(real_data(f"dialogre/{split}.json").read_text(encoding="utf-8"))
    pairs = [
        DialoguePair(tuple(turns), row["x"], row["y"], tuple(row["rid"]), tuple(row["t"]))
        for turns, rows in dialogues
        for row in rows
    ]
    names = {rid: name for _, rows in dialogues for row in rows for rid, name in zip(row["rid"], row["r"], strict=True)}
    assert all(RELATIONS[rid - 1] == name for rid, name in names.items() if rid != NOTHING)
    gold = np.zeros((len(pairs), 36))
    for i, p in enumerate(pairs):
        gold[i, list(p.columns)] = 1
    assert dialogre_f1(gold, pairs, t2=choose_t2(gold, pairs))["f1"] == 1
    prefixes = [np.repeat(gold[i : i + 1], len(p.turns), axis=0) for i, p in enumerate(pairs)]
    assert round(dialogre_f1c(prefixes, pairs, t2=0)["f1c"], 4) == ceiling
    assert dialogre_f1c(prefixes, pairs, t2=0)["f1c"] == pytest.approx(ceiling_f1c(pairs))
