"""The loop of IDA, with simulated translators: what joins, what stays, when it ends, and that it can be killed."""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fascicle_wcs.algorithm import IdaRow, ida
from fascicle_wcs.errors import DictionaryError

WORDS = [f"w{i}" for i in range(4000)]
GOLD = {word: {f"t{i}"} for i, word in enumerate(WORDS)}
SEEDS = [(f"s{i}", f"S{i}") for i in range(20)]
Pairs = list[tuple[str, str]]


def refit(pairs: Pairs) -> np.ndarray:
    """A map that tells the size of its dictionary."""
    return np.array([[float(len(pairs))]])


@functools.cache
def answers(p: float, V: int, seed: int, together: float) -> dict[str, str]:
    """Right with probability p, else one of the other V - 1 targets; in a share `together` of the words all seeds say the same."""
    own, shared = np.random.default_rng(seed), np.random.default_rng(99)
    same = np.random.default_rng(7).random(len(WORDS)) < together
    found: dict[str, str] = {}
    for i, word in enumerate(WORDS):
        draws = [(rng.random(), int(rng.integers(V - 1))) for rng in (own, shared)]
        chance, wrong = draws[int(same[i])]
        found[word] = f"t{i}" if chance < p else f"t{wrong + (wrong >= i)}"
    return found


class Translator:
    """Gives those answers and remembers who asked; with `needs`, word i is known to maps of at least `needs` i pairs only."""

    def __init__(self, p: float, V: int, seed: int, *, together: float = 0.0, needs: float = 0.0) -> None:
        self.answers = answers(p, V, seed, together)
        self.need = np.arange(len(WORDS)) * needs
        self.calls: list[list[str]] = []

    def __call__(self, words: list[str], W: np.ndarray | None = None) -> dict[str, str]:
        self.calls.append(words)
        able = np.inf if W is None else float(W[0, 0])
        return {w: self.answers[w] for w in words if self.need[int(w[1:])] <= able}

    def asked(self) -> Counter[str]:
        return Counter(word for call in self.calls for word in call)


def perfect(needs: float = 0.0) -> Translator:
    return Translator(1.0, 5000, 0, needs=needs)


def precision(pairs: Any) -> float:
    found = [answer in GOLD[word] for word, answer in pairs if word in GOLD]
    return sum(found) / len(found)


# ---- agreement -----------------------------------------------------------------------------------------------------------


def test_the_precision_of_agreement_is_that_of_independent_errors() -> None:
    p1, p2, V = 0.3, 0.2, 20
    result = ida(SEEDS, WORDS, Translator(p1, V, 1), Translator(p2, V, 2), refit, chunk=4000, max_iter=1, gold=GOLD)
    both_wrong = (1 - p1) * (1 - p2) / (V - 1)
    expected = p1 * p2 / (p1 * p2 + both_wrong)
    found = precision(result.dictionary)
    n = len(result.dictionary) - len(SEEDS)
    assert abs(found - expected) < 3 * np.sqrt(expected * (1 - expected) / n)
    assert abs(n / len(WORDS) - (p1 * p2 + both_wrong)) < 0.02
    assert result.history[0].precision == pytest.approx(found)


def test_errors_in_common_make_agreement_worth_less() -> None:
    shares = []
    for together in (0.0, 0.5, 1.0):
        plain, mapped = (Translator(0.3, 20, seed, together=together) for seed in (1, 2))
        shares.append(precision(ida(SEEDS, WORDS, plain, mapped, refit, chunk=4000, max_iter=1).dictionary))
    assert shares[0] > shares[1] + 0.1
    assert shares[1] > shares[2] + 0.03
    assert shares[2] == pytest.approx(0.3, abs=0.03)  # one and the same translator confirms nothing


def test_case_matters_only_where_it_is_said_to_and_no_answer_agrees_with_nothing() -> None:
    plain = {"w0": "Cat", "w1": "", "w2": "dog", "w3": "sun"}
    mapped = {"w0": "cat", "w1": "", "w2": "dog"}
    for agreement, agreed in (("exact", ["w2"]), ("casefold", ["w0", "w2"])):
        result = ida(SEEDS, WORDS[:4], lambda _: plain, lambda _, __: mapped, refit, agreement=agreement)  # type: ignore[arg-type]
        assert dict(result.dictionary[len(SEEDS) :]) == {word: plain[word] for word in agreed}


# ---- the loop ------------------------------------------------------------------------------------------------------------


def test_gold_seeds_stay_whatever_the_translators_say() -> None:
    seeds = [("w0", "gold"), ("w0", "also gold"), ("w3", "GOLD")]
    for target in (2, 50, 10_000):
        result = ida(seeds, WORDS[:100], perfect(), perfect(), refit, target=target, chunk=10)
        assert list(result.dictionary[:3]) == seeds
        assert [pair for pair in result.dictionary if pair[0] in ("w0", "w3")] == seeds
        assert result.map[0, 0] == len(result.dictionary)


def test_unsupervised_seeds_give_the_first_map_and_leave() -> None:
    maps: list[float] = []

    def mapped(words: list[str], W: np.ndarray) -> dict[str, str]:
        maps.append(W[0, 0])
        return perfect()(words)

    seeds = [("w0", "wrong"), *SEEDS]
    result = ida(seeds, WORDS, perfect(), mapped, refit, target=30, chunk=10, unsupervised=True)
    assert maps == [21, 10, 20]  # the seeds' map, then those of generated pairs alone
    assert result.dictionary == tuple((f"w{i}", f"t{i}") for i in range(30))


def test_it_grows_by_frequency_and_is_cut_by_frequency() -> None:
    # w0 needs a larger dictionary than there is at first, and still comes before words that were there earlier.
    mapped = perfect()
    mapped.need[0] = 25
    result = ida(SEEDS, WORDS, perfect(), mapped, refit, target=35, chunk=10)
    assert [row.size for row in result.history] == [29, 40]
    assert [word for word, _ in result.dictionary[20:]] == [f"w{i}" for i in range(15)]
    assert result.reason == "target"
    assert result.map[0, 0] == 35
    assert mapped.calls[1] + mapped.calls[2] == ["w0", *WORDS[10:20]]


def test_it_ends_on_a_stall_and_says_so() -> None:
    never = Translator(0.0, 5000, 3)
    result = ida(SEEDS, WORDS[:95], perfect(), never, refit, chunk=10, max_iter=1000)
    assert (result.reason, len(result.history)) == ("stalled", 10)
    assert result.dictionary == tuple(SEEDS)
    assert set(never.asked().values()) == {1}  # the map never changed: nobody is asked twice


def test_a_round_without_new_pairs_is_no_stall_while_there_are_more_words() -> None:
    mapped = perfect()
    mapped.need[:10] = 1e9
    result = ida(SEEDS, WORDS[:20], perfect(), mapped, refit, chunk=10)
    assert [row.added for row in result.history] == [0, 10, 0]
    assert (result.reason, result.history[0].change) == ("stalled", 0.0)


def test_a_word_is_asked_again_for_a_new_map_only() -> None:
    mapped = perfect()
    mapped.need[0] = mapped.need[10:30] = 1e9  # round 1 changes the map, rounds 2 and 3 do not
    ida(SEEDS, WORDS[:40], perfect(), mapped, refit, chunk=10, max_iter=4)
    assert mapped.asked()["w0"] == 2  # with the first map and with the second
    assert mapped.asked()["w10"] == 1


def test_it_ends_after_max_iter() -> None:
    result = ida(SEEDS, WORDS, perfect(), perfect(), refit, chunk=10, max_iter=3)
    assert (result.reason, len(result.dictionary)) == ("max_iter", 50)


def test_enough_seeds_need_no_round() -> None:
    mapped = perfect()
    result = ida(SEEDS, WORDS, perfect(), mapped, refit, target=20)
    assert (result.reason, result.history, mapped.calls) == ("target", (), [])


def test_the_plain_network_is_asked_once_a_word_and_the_mapped_one_again_with_a_new_map() -> None:
    plain, mapped = perfect(), perfect(needs=2.0)  # word i needs a dictionary of 2 i pairs: never for most
    result = ida(SEEDS, WORDS[:60], plain, mapped, refit, chunk=30)
    assert set(plain.asked().values()) == {1}
    assert max(mapped.asked().values()) > 2
    assert all(len(call) <= 30 for call in [*plain.calls, *mapped.calls])
    assert result.reason == "stalled"


def test_the_history_tells_sizes_changes_and_precision() -> None:
    mixed = Translator(0.5, 2, 4)
    result = ida(SEEDS, WORDS, mixed, mixed, refit, chunk=100, max_iter=2, gold={w: GOLD[w] for w in WORDS[50:]})
    assert result.history[0] == IdaRow(1, 120, 100, 100, result.history[0].precision, 100.0)
    held_out = dict(list(result.dictionary)[20 + 50 :])
    assert result.history[1].precision == pytest.approx(precision(held_out.items()))
    assert ida(SEEDS, WORDS, mixed, mixed, refit, chunk=9, max_iter=1).history[0].precision is None


# ---- killed and resumed --------------------------------------------------------------------------------------------------


class Kill(Exception):
    """The machine goes down."""


@pytest.mark.parametrize("unsupervised", [False, True])
@pytest.mark.parametrize("calls", range(11))
def test_resumed_is_uninterrupted(calls: int, unsupervised: bool, tmp_path: Path) -> None:
    settings: Any = {"chunk": 25, "max_iter": 6, "target": 150, "gold": GOLD, "unsupervised": unsupervised}
    plain, mapped = Translator(0.9, 50, 1), Translator(0.9, 50, 2, needs=0.7)
    whole = ida(SEEDS, WORDS, plain, mapped, refit, **settings)
    plain.calls.clear()
    mapped.calls.clear()

    def failing(words: list[str], W: np.ndarray) -> dict[str, str]:
        if len(mapped.calls) == calls:
            raise Kill
        return mapped(words, W)

    with pytest.raises(Kill):
        ida(SEEDS, WORDS, plain, failing, refit, folder=tmp_path, **settings)
    resumed = ida(SEEDS, WORDS, plain, mapped, refit, folder=tmp_path, **settings)
    assert (resumed.dictionary, resumed.history, resumed.reason) == (whole.dictionary, whole.history, whole.reason)
    assert np.array_equal(resumed.map, whole.map)
    assert set(plain.asked().values()) == {1}
    done = len(plain.calls), len(mapped.calls)
    ida(SEEDS, WORDS, plain, mapped, refit, folder=tmp_path, **settings)
    assert (len(plain.calls), len(mapped.calls)) == done  # nothing is asked again


def test_a_longer_run_begins_where_a_shorter_one_ended(tmp_path: Path) -> None:
    plain = perfect()
    ida(SEEDS, WORDS, plain, perfect(), refit, chunk=10, target=45, folder=tmp_path)
    longer = ida(SEEDS, WORDS, plain, perfect(), refit, chunk=10, target=85, folder=tmp_path)
    assert longer.dictionary == ida(SEEDS, WORDS, perfect(), perfect(), refit, chunk=10, target=85).dictionary
    assert set(plain.asked().values()) == {1}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seeds": SEEDS[1:]}, "seeds"),
        ({"words": WORDS[:-1]}, "words"),
        ({"chunk": 20}, "chunk: 10 there, 20 asked"),
        ({"fingerprint": "other"}, "fingerprint"),
        ({"unsupervised": True}, "unsupervised"),
    ],
)
def test_a_folder_of_another_run_is_refused(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    first: dict[str, Any] = {"seeds": SEEDS, "words": WORDS, "chunk": 10, "max_iter": 1, "folder": tmp_path}
    callables: dict[str, Any] = {"translate": perfect(), "translate_wcs": perfect(), "refit": refit}
    ida(**first, **callables)
    with pytest.raises(DictionaryError, match=told):
        ida(**{**first, **changed}, **callables)


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    for text in ("{", "{}", json.dumps({"format": "x", "key": {}, "state": {"history": []}})):
        (tmp_path / "ida.json").write_text(text)
        with pytest.raises(DictionaryError, match="delete it"):
            ida(SEEDS, WORDS, perfect(), perfect(), refit, folder=tmp_path)


def test_what_cannot_be_asked_is_told() -> None:
    for wrong, told in (({"target": 0}, "target"), ({"chunk": 0}, "chunk"), ({"agreement": "fuzzy"}, "agreement")):
        with pytest.raises(DictionaryError, match=told):
            ida(SEEDS, WORDS, perfect(), perfect(), refit, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DictionaryError, match="seeds"):
        ida([], WORDS, perfect(), perfect(), refit)
