"""Trees, caches and what a model can verify."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ouroboros_models import TOKENS, WINDOW, greedy, liar, model, near, oracle, prompt
from transformers import DynamicCache

from fascicle_ouroboros import state as state_module
from fascicle_ouroboros.cache import TreeLayer, keep, new_cache, read, rollback
from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions
from fascicle_ouroboros.rounds import Rounds
from fascicle_ouroboros.state import ModelState, Verification, verification
from fascicle_ouroboros.tree import ROOT, DraftTree

# ---- trees ----


def test_a_tree_shares_beginnings_and_keeps_to_its_limits() -> None:
    tree = DraftTree()
    trunk = tree.extend(ROOT, [1, 2], "draft", nodes=5, depth=4)
    assert tree.extend(trunk[-1], [3, 4, 5], "prompt", nodes=5, depth=4) == [3, 4]  # depth
    assert tree.extend(trunk[-1], [3, 9, 9], "output", nodes=5, depth=4) == [3, 5]
    assert tree.extend(trunk[-1], [7], "output", nodes=5, depth=4) == []  # nodes
    assert (tree.tokens, tree.depths) == ([1, 2, 3, 4, 9], [1, 2, 3, 4, 4])
    assert tree.sources == ["draft", "draft", "prompt", "prompt", "output"]
    assert not tree.is_chain


@pytest.mark.parametrize(("past", "unread"), [(0, 1), (3, 1), (2, 4)])
def test_a_node_sees_the_text_and_its_ancestors_alone(past: int, unread: int) -> None:
    tree = DraftTree()
    tree.extend(ROOT, [1, 2, 3], "draft")
    tree.extend(ROOT, [1, 4], "draft")
    tree.extend(ROOT, [5], "draft")
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    sees = tree.visible(past, unread)
    text = past + unread
    assert sees[unread:, text:].int().tolist() == expected
    assert bool(sees[unread:, :text].all())
    assert torch.equal(sees[:unread], torch.ones(unread, text + 5).tril(past).bool())


# ---- caches ----


def test_a_layer_grows_is_cut_and_keeps_a_path() -> None:
    layer = TreeLayer()
    text = torch.arange(200.0).reshape(1, 1, 200, 1).expand(1, 2, 200, 3)
    for start in range(0, 200, 40):
        keys, values = layer.update(text[:, :, start : start + 40], -text[:, :, start : start + 40])
    assert torch.equal(keys, text)
    assert torch.equal(values, -text)
    layer.keep(100, [0, 3, 2, 90])
    assert layer.keys is not None
    assert layer.keys[0, 0, 98:, 0].tolist() == [98, 99, 100, 103, 102, 190]
    layer.crop(-5)
    assert layer.get_seq_length() == 99
    layer.update(text[:, :, :1], text[:, :, :1])
    assert layer.keys[0, 1, -2:, 0].tolist() == [98, 0]
    with pytest.raises(ValueError, match="crop"):
        layer.crop(5)
    layer.reset()
    assert layer.get_seq_length() == 0


def test_a_cache_is_read_into_another_kind() -> None:
    cache, into = new_cache(), DynamicCache()
    states = torch.randn(1, 2, 6, 4)
    for layer in range(2):
        cache.update(states + layer, states - layer, layer)
    rollback(cache, 5)
    keep(cache, 2, [1, 2])
    read(cache, into, 3)
    read(cache, into, 3)
    assert into.get_seq_length() == 3
    torch.testing.assert_close(into.layers[1].keys, states[:, :, [0, 1, 3]] + 1)


# ---- what a model can verify ----


@pytest.mark.parametrize(
    ("family", "mode", "mask"),
    [
        ("llama", "tree", "one"),
        ("llama_eager", "tree", "one"),
        ("mistral_window", "tree", "windowed"),
        ("qwen2_window", "tree", "by_layer"),
        ("gemma2_window", "tree", "by_layer"),
        ("gpt2", "tree", "one"),
        ("bloom", "chain", "none"),
        ("mamba", "plain", "none"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_each_family_can_verify(family: str, mode: str, mask: str, dtype: torch.dtype) -> None:
    net = copy.deepcopy(model(family)).to(dtype)
    window = getattr(net.config, "sliding_window", None)
    found = verification(net)
    assert (found.mode, found.mask) == (mode, mask)
    assert bool(found.reason) == (mode != "tree")
    assert getattr(net.config, "sliding_window", None) == window


def test_a_boolean_mask_in_eager_attention_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_given_as_wanted", lambda model, sees: sees[None, None])
    assert verification(copy.deepcopy(model("llama_eager"))).mode == "chain"


def test_a_forgotten_window_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_window", lambda model: 2**62)
    assert verification(copy.deepcopy(model("mistral_window"))).mode == "chain"


def test_the_window_is_put_back_even_if_the_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: Any) -> Any:
        assert model.config.sliding_window < WINDOW
        raise KeyboardInterrupt

    net = copy.deepcopy(model("mistral_window"))
    monkeypatch.setattr(state_module, "_try_out", fails)
    with pytest.raises(KeyboardInterrupt):
        verification(net)
    assert net.config.sliding_window == WINDOW


def test_dropout_does_not_disturb_and_training_goes_on() -> None:
    net = copy.deepcopy(model("gpt2")).train()
    assert verification(net).mode == "tree"
    assert net.training


# ---- what a state has read ----


def check_against_fresh(state: ModelState) -> None:
    fresh = DynamicCache()
    with torch.no_grad():
        state.model(torch.tensor([state.cached]), past_key_values=fresh)
    layers: Any = state.cache.layers
    for one, other in zip(layers, fresh.layers, strict=True):
        assert one.get_seq_length() == len(state.cached)
        torch.testing.assert_close(one.keys, other.keys, atol=1e-6, rtol=0)
        torch.testing.assert_close(one.values, other.values, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("family", "drafted_by"),
    [("llama", "near"), ("llama", "liar"), ("mistral_window", "liar"), ("qwen2_window", "near"), ("bloom", "oracle")],
)
def test_after_each_round_caches_are_those_of_a_fresh_reading(
    family: str, drafted_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = []
    plain_round = Rounds._round

    def checked(self: Rounds) -> Any:
        yield from plain_round(self)
        assert self.target.cached == self.seq[:-1]
        check_against_fresh(self.target)
        if self.draft is not None:
            assert self.draft.cached == self.seq[: len(self.draft.cached)]
            assert len(self.draft.cached) < len(self.seq)
            check_against_fresh(self.draft)
        rounds.append(1)

    monkeypatch.setattr(Rounds, "_round", checked)
    text = greedy(family, 0)
    pool = {"oracle": oracle(text, 3), "liar": liar(text), "near": None}[drafted_by]
    draft = near(family) if drafted_by == "near" else None
    options = DraftingOptions(phrases=6, nodes=64, gamma=4)
    engine = OuroborosEngine(model(family), draft, pool=pool, options=options)  # type: ignore[arg-type]
    assert tuple(engine.generate(prompt(), max_new_tokens=12)[0].tolist()) == text[: 9 + 12]
    assert len(text) > WINDOW
    assert rounds


def test_positions_go_on_from_where_they_were_given() -> None:
    state = ModelState(model(), Verification("tree", "one"), positions=[3, 4, 5])
    assert [state.position(step) for step in range(5)] == [3, 4, 5, 6, 7]
    assert [ModelState(model(), Verification("tree")).position(step) for step in (0, 4)] == [0, 4]


# ---- what the pool learns ----


def test_what_the_target_says_behind_refused_tokens_is_learnt() -> None:
    text = greedy("llama", 0)
    engine = OuroborosEngine(model(), near(), pool=liar(text), options=DraftingOptions(phrases=2, gamma=4))  # type: ignore[arg-type]
    engine.generate(prompt(), max_new_tokens=10)
    pool: Any = engine.pool
    assert {source for _, source in pool.fed} == {"prompt", "output"}
    assert [start for start, _ in pool.fed][:2] == [0, 9]
    sources = {source for _, _, source in pool.corrected}
    assert "corrected" in sources
    assert sources <= {"corrected", "rejected"}
    for tail, tokens, _ in pool.corrected[:20]:
        ids = torch.tensor([[*tail, *tokens]])
        with torch.no_grad():
            said = model()(ids).logits[0].argmax(-1).tolist()
        if list(tail) == list(text[: len(tail)]):
            assert said[len(tail) - 1] == tokens[0]


def test_a_phrase_is_judged_by_what_the_target_chose() -> None:
    engine = OuroborosEngine(model(), pool=oracle(greedy("llama", 0), 4))  # type: ignore[arg-type]
    engine.generate(prompt(), max_new_tokens=TOKENS)
    pool: Any = engine.pool
    assert all(proposed == accepted for _, proposed, accepted in pool.recorded)
    assert pool.recorded
