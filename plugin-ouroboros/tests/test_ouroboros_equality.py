"""Greedy text is the text of `model.generate`, token for token, whatever is drafted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ouroboros_models import SIZES, TOKENS, greedy, liar, model, near, oracle, prompt
from transformers import LlamaConfig, LlamaForCausalLM

from fascicle_ouroboros.controller import Controller
from fascicle_ouroboros.costs import CostModel
from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions

FAMILIES = [
    "llama",
    "llama_eager",
    "mistral_window",
    "qwen2_window",
    "qwen3",
    "gemma",
    "gemma2_window",
    "gpt2",
    "bloom",
]
SETTINGS: dict[str, dict[str, Any]] = {
    "phrases": {"phrases": 3},
    "many_phrases": {"phrases": 8, "nodes": 64},
    "short_phrases": {"phrases": 2, "phrase_len": 2, "orders": [1]},
    "few_nodes": {"phrases": 4, "nodes": 5},
    "one_token_drafts": {"gamma": 1, "phrases": 1},
    "long_drafts": {"gamma": 12, "phrases": 3, "nodes": 40},
    "no_phrases": {"gamma": 4, "phrases": 0, "draft_phrases": 0},
    "plain": {"nodes": 0},
    "adaptive": {"adaptive": True},
}


def write(engine: OuroborosEngine, seed: int) -> tuple[int, ...]:
    return tuple(engine.generate(prompt(seed), max_new_tokens=TOKENS)[0].tolist())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("drafted_by", ["pool", "near"])
def test_every_family_writes_its_own_text(family: str, drafted_by: str) -> None:
    engine = OuroborosEngine(model(family), near(family) if drafted_by == "near" else None)
    assert write(engine, 0) == greedy(family, 0)
    assert engine.stats.mode == ("chain" if family == "bloom" else "tree")


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_changes_the_text(setting: str) -> None:
    for draft in (None, near(), model("llama", 7)):
        engine = OuroborosEngine(model(), draft, options=DraftingOptions(**SETTINGS[setting]))
        assert write(engine, 0) == greedy("llama", 0)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_setting_changes_the_text_of_any_family(setting: str, family: str) -> None:
    for draft in (None, near(family), near(family, noise=0.4), model(family), model("llama", 7)):
        engine = OuroborosEngine(model(family), draft, options=DraftingOptions(**SETTINGS[setting]))
        for seed in range(5):
            assert write(engine, seed) == greedy(family, seed)


def test_a_controller_that_finds_drafting_cheap_changes_no_text() -> None:
    for draft in (None, near("llama")):
        costs = [CostModel({(1, 0): 1e3, (33, 0): 1e3}) for _ in range(2)]
        controller = Controller(costs[0], None if draft is None else costs[1], gamma=4)
        engine = OuroborosEngine(model("llama"), draft, controller=controller)
        for seed in range(5):
            assert write(engine, seed) == greedy("llama", seed)
            assert engine.stats.drafted_rounds > 0


@pytest.mark.parametrize("family", ["llama", "mistral_window", "bloom"])
def test_neither_a_pool_that_knows_nor_one_that_lies_changes_the_text(family: str) -> None:
    text = greedy(family, 3)
    for pool in (oracle(text), liar(text)):
        for draft in (None, near(family)):
            engine = OuroborosEngine(model(family), draft, pool=pool, options=DraftingOptions(phrases=6, nodes=64))
            assert write(engine, 3) == text


def test_a_wrong_mask_would_change_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: if nodes saw other branches, these tests would fail."""
    from fascicle_ouroboros.tree import DraftTree

    text = greedy("llama", 3)
    options = DraftingOptions(phrases=6, nodes=64)
    engine = OuroborosEngine(model("llama"), pool=liar(text), options=options)

    def everything_before(self: DraftTree, past: int, unread: int) -> torch.Tensor:
        width = past + unread + len(self)
        return torch.ones(unread + len(self), width).tril(past).bool()

    monkeypatch.setattr(DraftTree, "visible", everything_before)
    assert write(engine, 3) != text


def test_a_window_that_is_forgotten_would_change_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from fascicle_ouroboros import state

    text = greedy("mistral_window", 3)
    engine = OuroborosEngine(model("mistral_window"), pool=liar(text), options=DraftingOptions(phrases=6, nodes=64))
    monkeypatch.setattr(state, "_window", lambda model: 2**62)
    assert write(engine, 3) != text


def test_positions_end_where_the_model_ends() -> None:
    """GPT-2 has 96 positions: nothing is drafted beyond them."""
    out = model("gpt2").generate(prompt(0), max_length=96, do_sample=False)
    for draft in (None, model("gpt2")):
        engine = OuroborosEngine(model("gpt2"), draft)
        assert torch.equal(engine.generate(prompt(0), max_length=96), out)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotations_that_change_with_the_length_change_where_they_should(kind: str) -> None:
    """Nothing is drafted over the length at which the model begins to count positions otherwise."""
    rope: dict[str, Any] = {"rope_type": kind, "factor": 2.0, "rope_theta": 10_000.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0, 1.0], "long_factor": [1.5, 3.0], "original_max_position_embeddings": 20}
    torch.manual_seed(0)
    sizes = {**SIZES, "max_position_embeddings": 20 if kind == "dynamic" else 40}
    net = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope)).eval().double()
    text = net.generate(prompt(0), max_new_tokens=TOKENS, do_sample=False)
    for pool in (None, oracle(text[0].tolist())):
        engine = OuroborosEngine(net, pool=pool)
        assert torch.equal(engine.generate(prompt(0), max_new_tokens=TOKENS), text)
        assert engine.stats.mode == "tree"
    plain = [source for _, source in engine.stats.tokens[20 - 9 :]]
    assert ("prompt" in plain) == (kind == "longrope")
