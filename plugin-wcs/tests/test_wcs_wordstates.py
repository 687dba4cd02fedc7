"""States of words: which tokens, which layer, no matter which batch; and a store that survives a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wcs_models import DECODERS, LAYERS, WIDTH, model, tokenizer

from fascicle.hf.model_options import Tiny
from fascicle.hf.tiny import build_tiny
from fascicle_wcs.errors import StatesError
from fascicle_wcs.store import WordStore
from fascicle_wcs.wordstates import encode_spans, find_blocks, state_layers, states

WORDS = ["chien", "a", "maison", "été", "porte", "bonjour", "y"]


def by_transformers(net: Any, ids: list[int]) -> np.ndarray:
    """(L + 1, s, d) as transformers reports them: the last is normed."""
    with torch.no_grad():
        out = net(torch.tensor([ids]), output_hidden_states=True)
    return np.asarray(torch.stack(out.hidden_states)[:, 0])


def hooks_of(net: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def letters(text: str) -> list[int]:
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


# ---- which tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [True, False])
def test_the_start_token_stands_before_a_bare_word_also_where_the_tokenizer_puts_none(start: bool) -> None:
    (found,) = encode_spans(tokenizer(start), [" ab"], [(1, 3)])
    assert found.ids == (1, *letters(" ab"))
    assert found.ids[found.start : found.stop] == tuple(letters("ab"))


def test_the_end_token_stands_before_the_word_where_there_is_no_start_token() -> None:
    made = tokenizer(start=False)
    made.bos_token = None
    (found,) = encode_spans(made, [" ab"], [(1, 3)])
    assert found.ids[0] == 2


def test_text_before_the_word_is_enough_of_a_beginning() -> None:
    (found,) = encode_spans(tokenizer(start=False), ["to ab"], [(3, 5)])
    assert found.ids == tuple(letters("to ab"))
    assert (found.start, found.stop) == (3, 5)


def test_the_span_is_that_of_the_word_not_of_the_same_letters_in_the_template() -> None:
    (found,) = encode_spans(tokenizer(), ["so 'so' so"], [(4, 6)])
    assert (found.start, found.stop) == (5, 7)  # <s> s o _ ' s o
    (accents,) = encode_spans(tokenizer(), ["é é"], [(2, 3)])
    assert (accents.start, accents.stop) == (4, 6)  # a letter of two bytes has two tokens


def test_special_tokens_at_the_end_are_left_out_where_the_text_goes_on() -> None:
    from fascicle.hf.tiny import tiny_tokenizer

    closing = tiny_tokenizer(Tiny(architecture="bert", tokenizer="bytes"))  # <s> ... </s>
    assert encode_spans(closing, [" ab"], [(1, 3)])[0].ids[-1] == 2
    assert encode_spans(closing, [" ab"], [(1, 3)], continued=True)[0].ids == (1, *letters(" ab"))


def test_a_word_without_tokens_is_named() -> None:
    with pytest.raises(StatesError, match="blank"):
        states(model(), tokenizer(), ["a", " "])
    with pytest.raises(StatesError, match="once"):
        states(model(), tokenizer(), ["a"], template="no place")
    with pytest.raises(StatesError, match="fast tokenizer"):
        encode_spans(object(), [" a"], [(1, 2)])


# ---- which layer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*DECODERS, "bert"])
def test_layer_i_is_the_output_of_the_ith_block(family: str) -> None:
    net = model(family)
    ours = states(net, tokenizer(), ["porte"])
    theirs = by_transformers(net, [1, *letters(" porte")])[:, 2:].mean(1)
    layers = LAYERS + 1 if family == "bert" else LAYERS  # a decoder's last one is normed there
    np.testing.assert_allclose(ours[0, :layers], theirs[:layers], atol=1e-5)
    assert ours.shape == (1, LAYERS + 1, WIDTH)
    assert ours.dtype == np.float32


def test_the_last_layer_is_the_last_blocks_own_output() -> None:
    net = model()
    ours = states(net, tokenizer(), ["porte"], pool="last")[0, LAYERS]
    theirs = by_transformers(net, [1, *letters(" porte")])[LAYERS, -1]
    assert not np.allclose(ours, theirs, atol=1e-2)
    with torch.no_grad():
        np.testing.assert_allclose(net.model.norm(torch.tensor(ours)), theirs, atol=1e-5)


def test_last_pool_takes_the_words_last_token_also_inside_a_template() -> None:
    net = model()
    ours = states(net, tokenizer(), ["porte"], layers=[2], pool="last", template="The word '{word}' is")
    theirs = by_transformers(net, [1, *letters("The word 'porte")])[2, -1]
    np.testing.assert_allclose(ours[0, 0], theirs, atol=1e-5)


def test_layers_come_in_the_order_asked_and_blocks_behind_them_do_not_run() -> None:
    net = model()
    everything = states(net, tokenizer(), WORDS)
    calls: list[int] = []
    for number, block in enumerate(find_blocks(net).modules):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    some = states(net, tokenizer(), WORDS, layers=[2, 0])
    np.testing.assert_allclose(some, everything[:, [2, 0]], atol=1e-6)
    assert set(calls) == {0, 1}


def test_no_hook_stays_and_modules_train_as_before() -> None:
    net = model("gpt2").train()
    net.transformer.h[1].eval()
    first, again = (states(net, tokenizer(), WORDS) for _ in range(2))
    np.testing.assert_array_equal(first, again)  # no dropout inside
    assert hooks_of(net) == 0
    assert (net.training, net.transformer.h[1].training, net.transformer.h[2].training) == (True, False, True)
    net.transformer.h[1].forward = None
    with pytest.raises(TypeError):
        states(net, tokenizer(), WORDS)
    assert hooks_of(net) == 0


@pytest.mark.parametrize("family", [*DECODERS, "bert"])
def test_states_do_not_depend_on_the_batch(family: str) -> None:
    net = model(family)
    alone = np.concatenate([states(net, tokenizer(), [word]) for word in WORDS])
    for batch_tokens in (1, 13, 4096):
        np.testing.assert_allclose(states(net, tokenizer(), WORDS, batch_tokens=batch_tokens), alone, atol=2e-5)


def test_the_states_of_a_peft_model_are_those_of_its_adapted_weights() -> None:
    from peft import LoraConfig, get_peft_model

    net = model()
    plain = states(net, tokenizer(), WORDS)
    adapted: Any = get_peft_model(net, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    changed = states(adapted, tokenizer(), WORDS)
    assert not np.allclose(changed[:, 1:], plain[:, 1:], atol=1e-3)
    merged = states(adapted.merge_and_unload(), tokenizer(), WORDS)
    np.testing.assert_allclose(changed, merged, atol=1e-4)


def test_models_without_one_list_of_blocks_are_refused() -> None:
    both, _ = build_tiny(Tiny(architecture="bart", hidden_size=16, layers=2, heads=2), seed=1)
    with pytest.raises(StatesError, match="get_encoder"):
        find_blocks(both)
    assert state_layers(both.get_encoder()) == (0, 1, 2)
    with pytest.raises(StatesError, match="num_hidden_layers"):
        find_blocks(torch.nn.Linear(2, 2))
    net = model()
    net.model.layers[1].forward = net.model.layers[0].__call__
    with pytest.raises(StatesError, match="in their order"):
        states(net, tokenizer(), WORDS)


@pytest.mark.parametrize(
    ("asked", "told"), [({"layers": [LAYERS + 1]}, "0 to 4"), ({"layers": []}, "layers"), ({"pool": "max"}, "pool")]
)
def test_what_cannot_be_asked_is_told(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(StatesError, match=told):
        states(model(), tokenizer(), WORDS, **asked)


# ---- on disk -------------------------------------------------------------------------------------------------------------


def test_a_store_holds_the_same_states_and_is_not_read_again(tmp_path: Path) -> None:
    net, told = model(), []
    plain = states(net, tokenizer(), WORDS)
    kept = states(net, tokenizer(), WORDS, store=tmp_path, batch_tokens=13, advance=told.append)
    assert isinstance(kept, np.memmap)
    np.testing.assert_allclose(kept, plain, atol=2e-5)
    assert sum(told) == len(WORDS)
    find_blocks(net).modules[0].register_forward_hook(lambda *_: pytest.fail("read again"))
    np.testing.assert_array_equal(states(net, tokenizer(), WORDS, store=tmp_path), kept)


def test_a_killed_run_goes_on_where_it_was_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fascicle_wcs.wordstates._COMMIT_ROWS", 2)
    net = model()
    whole = states(net, tokenizer(), WORDS, batch_tokens=13)
    batches = 0

    def kill(_: int) -> None:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        states(net, tokenizer(), WORDS, batch_tokens=13, store=tmp_path, advance=kill)
    done = json.loads((tmp_path / "progress.json").read_text())["done"]
    assert 0 < done < len(WORDS)
    half = np.load(tmp_path / "states.npy", mmap_mode="r+")  # a block that was half written when the run was killed
    half[np.argsort([len(letters(word)) for word in WORDS], kind="stable")[done]] = 7.0
    half.flush()
    told: list[int] = []
    resumed = states(net, tokenizer(), WORDS, batch_tokens=26, store=tmp_path, advance=told.append)
    assert told[0] == done
    assert sum(told) == len(WORDS)
    np.testing.assert_allclose(resumed, whole, atol=2e-5)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"words": [*WORDS[:-1], "z"]}, "words"),
        ({"model": model("gpt2")}, "model"),
        ({"pool": "last"}, "pool"),
        ({"layers": [0, 1]}, "layers"),
        ({"template": "to {word}"}, "template"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_a_folder_with_other_states_is_refused_with_what_differs(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    first: dict[str, Any] = {"model": model(), "tokenizer": tokenizer(), "words": WORDS, "store": tmp_path}
    states(**first)
    with pytest.raises(StatesError, match=rf"\b{told}: .* there, .* asked"):
        states(**{**first, **changed})


def test_one_changed_weight_makes_another_model(tmp_path: Path) -> None:
    net = model()
    states(net, tokenizer(), WORDS, store=tmp_path)
    with torch.no_grad():
        net.model.layers[3].mlp.up_proj.weight[0, 0] += 1
    with pytest.raises(StatesError, match="model: "):
        states(net, tokenizer(), WORDS, store=tmp_path)


def test_half_precision_halves_the_file_and_says_where_it_ends(tmp_path: Path) -> None:
    net = model()
    kept = states(net, tokenizer(), WORDS, store=tmp_path / "a", dtype="float16")
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, states(net, tokenizer(), WORDS), rtol=2e-3, atol=1e-3)
    with torch.no_grad():
        net.model.embed_tokens.weight.mul_(1e6)
    with pytest.raises(StatesError, match=r"'\w+' is not finite in float16"):
        states(net, tokenizer(), WORDS, store=tmp_path / "b", dtype="float16")


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    WordStore(tmp_path, {"model": "a"}, (2, 3))
    np.save(tmp_path / "states.npy", np.zeros((1, 3), dtype="float32"))
    with pytest.raises(StatesError, match="delete"):
        WordStore(tmp_path, {"model": "a"}, (2, 3))
    (tmp_path / "progress.json").write_text("{")
    with pytest.raises(StatesError, match="delete"):
        WordStore(tmp_path, {"model": "a"}, (2, 3))


def test_a_run_killed_before_its_first_progress_starts_afresh(tmp_path: Path) -> None:
    np.save(tmp_path / "states.npy", np.ones((5, 1)))
    store = WordStore(tmp_path, {"model": "a"}, (2, 3))
    assert store.done == 0
    assert store.view().shape == (2, 3)
