"""How many passes of the target a text takes, where it can be said beforehand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ouroboros_models import TOKENS, VOCAB, Planned, greedy, liar, model, oracle, prompt

from fascicle_ouroboros.controller import Plan
from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions


@pytest.mark.parametrize("gamma", [1, 4])
@pytest.mark.parametrize("tokens", [1, 10, TOKENS])
def test_a_draft_that_is_always_right_gives_gamma_tokens_and_one_per_pass(gamma: int, tokens: int) -> None:
    options = DraftingOptions(gamma=gamma, phrases=0, draft_phrases=0)
    engine = OuroborosEngine(model(), model(), options=options)
    engine.generate(prompt(), max_new_tokens=tokens)
    assert engine.stats.target_forwards == math.ceil(tokens / (gamma + 1))
    assert engine.stats.emitted == tokens


def test_a_draft_that_is_always_wrong_costs_no_pass_more_than_plain_decoding() -> None:
    text = greedy("llama", 0)
    pool = Planned(lambda tail: [[(text[len(tail)] + 1) % VOCAB]] if len(tail) < len(text) else [])
    engine = OuroborosEngine(model(), pool=pool)
    engine.generate(prompt(), max_new_tokens=TOKENS)
    assert engine.stats.target_forwards == TOKENS


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_fully_matched_phrase_gives_its_tokens_and_one_more(length: int) -> None:
    engine = OuroborosEngine(model(), pool=oracle(greedy("llama", 0), length))
    engine.generate(prompt(), max_new_tokens=TOKENS)
    assert engine.stats.target_forwards == math.ceil(TOKENS / (length + 1))


@pytest.mark.parametrize("gamma", [2, 4])
def test_lengthening_adds_the_whole_phrase_to_a_right_draft(gamma: int) -> None:
    length = 3
    options = DraftingOptions(gamma=gamma, phrases=2, draft_phrases=0)
    engine = OuroborosEngine(model(), model(), pool=oracle(greedy("llama", 0), length), options=options)
    engine.generate(prompt(), max_new_tokens=TOKENS)
    assert engine.stats.target_forwards == math.ceil(TOKENS / (gamma + length + 1))


@pytest.mark.parametrize("beside", [0, 1])
def test_phrases_beside_a_wrong_draft_are_followed_and_judged(beside: int) -> None:
    length, text, tail = 3, greedy("llama", 0), prompt()[0].tolist()
    pool = oracle(text, length)
    options = DraftingOptions(gamma=2, phrases=1, beside=beside, draft_phrases=0, adaptive=False)
    engine = OuroborosEngine(model(), model("llama", 7), pool=pool, options=options)
    assert tuple(engine.generate(prompt(), max_new_tokens=TOKENS)[0].tolist()) == text
    right = sum(source == "draft" for _, source in engine.stats.tokens)
    assert right <= 3  # the draft is a stranger
    if beside:
        assert engine.stats.target_forwards <= math.ceil(TOKENS / (length + 1))
        assert pool.recorded[0] == (pool.lookup(tail, 1)[0], length, length)
    else:
        assert engine.stats.target_forwards > TOKENS - 6


def test_what_the_target_says_along_a_phrase_beside_the_draft_is_learnt_for_the_text_before_it() -> None:
    text, tail = greedy("llama", 0), tuple(prompt()[0].tolist())
    pool = liar(text, 2)
    options = DraftingOptions(gamma=1, phrases=1, beside=1, draft_phrases=0, adaptive=False)
    OuroborosEngine(model(), model("llama", 7), pool=pool, options=options).generate(prompt(), max_new_tokens=6)
    (first, *_) = [said for before, said, source in pool.corrected if (before, source) == (tail, "corrected")]
    assert first[0] == text[len(tail)]


def test_phrases_save_passes_of_the_draft() -> None:
    options = DraftingOptions(gamma=8, phrases=0, draft_phrases=1)
    engine = OuroborosEngine(model(), model(), pool=oracle(greedy("llama", 0), 3), options=options)
    engine.generate(prompt(), max_new_tokens=TOKENS)
    assert engine.stats.target_forwards == 3
    assert engine.stats.draft_forwards == 2 + 2 + 2  # 3 + 1 tokens in a pass


def test_shared_beginnings_are_fed_once() -> None:
    engine = OuroborosEngine(model(), pool=Planned(lambda _: [[1, 2, 3], [1, 2, 4], [1, 2, 3]]))
    engine.generate(prompt(), max_new_tokens=8)
    assert engine.stats.target_tokens_fed <= 9 + 4 + 7 * (1 + 4)


def test_nothing_is_drafted_that_could_not_be_written() -> None:
    engine = OuroborosEngine(model(), pool=oracle(greedy("llama", 0), 20), options=DraftingOptions(phrase_len=20))
    engine.generate(prompt(), max_new_tokens=3)
    assert (engine.stats.target_forwards, engine.stats.target_tokens_fed) == (1, 9 + 2)


def test_a_plan_of_a_measured_size_is_fed_at_that_size() -> None:
    fed: list[int] = []

    class Six:
        def plan(self, proposals: Any, room: int, context: int) -> Plan:
            return Plan(gamma=0, phrases=1, length=2, nodes=6, predicted=1.0)

        def observe(self, plan: Plan, **outcome: Any) -> None:
            fed.append(outcome["fed"])

    text = greedy("llama", 0)
    engine = OuroborosEngine(model(), pool=oracle(text, 4), controller=Six())
    assert tuple(engine.generate(prompt(), max_new_tokens=TOKENS)[0].tolist()) == text
    assert set(fed[:-1]) == {7}


def test_without_nodes_it_is_plain_decoding() -> None:
    engine = OuroborosEngine(model(), model(), options=DraftingOptions(nodes=0))
    engine.generate(prompt(), max_new_tokens=12)
    assert (engine.stats.target_forwards, engine.stats.draft_forwards) == (12, 0)
    assert engine.stats.target_tokens_fed == 9 + 11


def test_a_long_prompt_is_read_before_anything_is_drafted() -> None:
    engine = OuroborosEngine(model(), options=DraftingOptions(learn=["prompt"]))
    ids = prompt(1, 12).repeat(1, 25)
    assert engine.generate(ids[:, :300], max_length=304).shape == (1, 304)
    assert engine.stats.tokens[0][1] == "target"
