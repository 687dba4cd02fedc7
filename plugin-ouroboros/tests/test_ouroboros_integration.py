"""Ways in, caches, batches, and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from ouroboros_models import SIZES, TOKENS, greedy, model, near, prompt
from transformers import DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM

from fascicle_ouroboros import generate
from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.errors import UnsupportedError, VocabularyError
from fascicle_ouroboros.options import DraftingOptions
from fascicle_ouroboros.sampling import row_seed


def test_three_ways_in_give_one_text() -> None:
    text = torch.tensor([greedy("llama", 0)])
    engine = OuroborosEngine(model(), near())
    inputs = {"input_ids": prompt(), "attention_mask": torch.ones_like(prompt())}
    assert torch.equal(generate(model(), inputs, near(), max_new_tokens=TOKENS), text)
    assert torch.equal(engine.generate(**inputs, max_new_tokens=TOKENS), text)
    assert torch.equal(engine.generate(inputs, generation_config=GenerationConfig(max_new_tokens=TOKENS)), text)
    assert torch.equal(model().generate(**inputs, max_new_tokens=TOKENS, custom_generate=engine), text)


def padded(lengths: tuple[int, ...], pad_to: int = 12) -> dict[str, torch.Tensor]:
    ids = torch.zeros(len(lengths), pad_to, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, pad_to - length :] = prompt(row, length)[0]
        mask[row, pad_to - length :] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral_window"])
def test_a_padded_batch_is_its_rows(family: str) -> None:
    inputs = padded((12, 5, 8))
    expected = model(family).generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    engine = OuroborosEngine(model(family), near(family))
    assert torch.equal(engine.generate(**inputs, max_new_tokens=TOKENS), expected)
    assert len(engine.row_stats) == 3
    for row, length in enumerate((12, 5, 8)):
        alone = engine.generate(prompt(row, length), max_new_tokens=TOKENS)
        assert torch.equal(alone[0, length:], expected[row, 12:])


def test_rows_end_by_themselves_and_are_padded() -> None:
    inputs = padded((12, 5, 8))
    ends = {"eos_token_id": list(range(1, 6)), "pad_token_id": 0, "max_new_tokens": TOKENS}
    expected = model().generate(**inputs, do_sample=False, **ends)
    assert torch.equal(OuroborosEngine(model()).generate(**inputs, **ends), expected)


def test_sampled_rows_differ_and_are_those_of_a_batch_of_one() -> None:
    engine = OuroborosEngine(model(), near())
    asked = {"max_new_tokens": 12, "do_sample": True, "top_k": 0, "temperature": 2.0}
    out = engine.generate(prompt(), num_return_sequences=3, seed=9, **asked)
    assert len({tuple(row) for row in out.tolist()}) == 3
    for row in range(3):
        assert torch.equal(engine.generate(prompt(), seed=row_seed(9, row), **asked)[0], out[row])
    inputs = padded((5, 12))
    both = engine.generate(**inputs, seed=9, **asked)
    assert torch.equal(engine.generate(prompt(0, 5), seed=9, **asked)[0, 5:], both[0, 12:])
    assert torch.equal(engine.generate(**inputs, seed=9, use_cache=False, **asked), both)


@pytest.mark.parametrize("family", ["llama", "mistral_window", "gemma2_window"])
def test_a_cache_goes_from_turn_to_turn(family: str) -> None:
    """What the engine leaves in a cache is what a plain loop leaves, so either can go on."""
    config = model(family).config
    for make in (DynamicCache, lambda: DynamicCache(config=config)):
        ours, theirs = make(), make()
        ids, more = prompt(0, 5), {"max_new_tokens": 3}
        engine = OuroborosEngine(model(family), near(family))
        expected = model(family).generate(ids, past_key_values=theirs, do_sample=False, **more)
        out = engine.generate(ids, past_key_values=ours, **more)
        assert torch.equal(out, expected)
        assert ours.get_seq_length() == theirs.get_seq_length() == out.shape[1] - 1
        for one, other in zip(ours.layers, theirs.layers, strict=True):
            torch.testing.assert_close(one.keys, other.keys)
            torch.testing.assert_close(one.values, other.values)
        ids = torch.cat([out, prompt(1, 4)], dim=1)
        more = {"max_new_tokens": 8, "attention_mask": torch.ones_like(ids)}
        whole = model(family).generate(ids, do_sample=False, **more)
        assert torch.equal(engine.generate(ids, past_key_values=ours, **more), whole)
        assert torch.equal(model(family).generate(ids, past_key_values=theirs, do_sample=False, **more), whole)


def test_a_cache_that_has_forgotten_is_decoded_plainly(caplog: pytest.LogCaptureFixture) -> None:
    cache = DynamicCache(config=model("mistral_window").config)
    engine = OuroborosEngine(model("mistral_window"))
    first = engine.generate(prompt(), past_key_values=cache, max_new_tokens=TOKENS)
    assert engine.stats.mode == "tree"
    more = torch.cat([first, prompt(1, 3)], dim=1)
    asked = {"attention_mask": torch.ones_like(more), "max_new_tokens": 8}
    with caplog.at_level(logging.WARNING):
        out = engine.generate(more, past_key_values=cache, **asked)
    assert engine.stats.mode == "plain"
    assert "Plain decoding" in caplog.text
    assert torch.equal(out, model("mistral_window").generate(more, do_sample=False, **asked))


def test_the_returned_cache_is_that_of_a_fresh_prefill() -> None:
    out = OuroborosEngine(model(), near()).generate(prompt(), max_new_tokens=TOKENS, return_dict_in_generate=True)
    fresh = DynamicCache()
    model()(out.sequences[:, :-1], past_key_values=fresh)
    for one, other in zip(out.past_key_values.layers, fresh.layers, strict=True):
        torch.testing.assert_close(one.keys, other.keys, atol=1e-7, rtol=0)
        torch.testing.assert_close(one.values, other.values, atol=1e-7, rtol=0)


@pytest.mark.parametrize("implementation", ["static", "offloaded"])
def test_a_cache_that_cannot_be_shortened_is_decoded_plainly(implementation: str) -> None:
    if implementation == "offloaded" and not torch.cuda.is_available():
        pytest.skip("offloading needs an accelerator")
    engine = OuroborosEngine(model())
    heard: list[int] = []

    class Heard:
        def put(self, value: torch.Tensor) -> None:
            heard.extend(value.reshape(-1).tolist())

        def end(self) -> None:
            heard.append(-1)

    out = engine.generate(prompt(), max_new_tokens=8, cache_implementation=implementation, streamer=Heard())
    assert engine.stats.mode == "plain"
    assert engine.stats.target_forwards == 8
    assert tuple(out[0].tolist()) == greedy("llama", 0)[: 9 + 8]
    assert heard == [*out[0].tolist(), -1]


def test_a_recurrent_model_is_decoded_plainly_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fascicle_ouroboros"):
        engine = OuroborosEngine(model("mamba"))
        out = engine.generate(prompt(), max_new_tokens=8)
    assert engine.stats.mode == "plain"
    assert len([r for r in caplog.records if r.name.startswith("fascicle")]) == 1
    assert torch.equal(out, model("mamba").generate(prompt(), max_new_tokens=8, do_sample=False))


def test_bloom_is_told_to_verify_chains(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fascicle_ouroboros"):
        OuroborosEngine(model("bloom"))
    assert [record.args[0] for record in caplog.records if record.args] == ["chain"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"num_beams": 2}, "beam"),
        ({"prompt_lookup_num_tokens": 3}, "assisted"),
        ({"return_dict_in_generate": True, "output_attentions": True}, "output_attentions"),
        ({"return_dict_in_generate": True, "output_hidden_states": True}, "output_hidden_states"),
        ({"stop_strings": ["x"]}, "tokenizer"),
    ],
)
def test_what_cannot_be_done_is_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        OuroborosEngine(model()).generate(prompt(), max_new_tokens=4, **asked)


def test_several_greedy_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="num_return_sequences"):
        OuroborosEngine(model()).generate(prompt(), max_new_tokens=4, num_return_sequences=2)


def test_a_draft_belongs_to_the_engine_not_to_the_call() -> None:
    with pytest.raises(UnsupportedError, match="give the draft to the engine"):
        model().generate(prompt(), max_new_tokens=4, custom_generate=OuroborosEngine(model()), assistant_model=near())


def test_another_model_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="another model"):
        near().generate(prompt(), max_new_tokens=4, custom_generate=OuroborosEngine(model()))


def test_embeddings_are_refused() -> None:
    embeddings = model().get_input_embeddings()(prompt())
    with pytest.raises(UnsupportedError, match="input_ids"):
        OuroborosEngine(model()).generate(inputs_embeds=embeddings, max_new_tokens=4)


def test_a_draft_with_another_vocabulary_is_refused() -> None:
    other = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": 4096}))
    with pytest.raises(VocabularyError, match="4096"):
        OuroborosEngine(model(), other)


@pytest.mark.parametrize("size", [64, 40])
def test_a_draft_padded_to_another_size_drafts_only_what_both_know(size: int) -> None:
    torch.manual_seed(0)
    other = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": size})).eval().double()
    assert max(greedy("llama", 0)) >= 40
    engine = OuroborosEngine(model(), other, options=DraftingOptions(gamma=5))
    assert tuple(engine.generate(prompt(), max_new_tokens=TOKENS)[0].tolist()) == greedy("llama", 0)


def test_two_texts_learn_from_each_other_and_the_pool_is_kept() -> None:
    engine = OuroborosEngine(model(), options=DraftingOptions(phrases=1))
    engine.generate(prompt(), max_new_tokens=TOKENS)
    first = engine.stats.target_forwards
    engine.generate(prompt(), max_new_tokens=TOKENS)
    assert engine.stats.target_forwards < first


def test_a_peft_model_decodes_with_its_adapters() -> None:
    peft = pytest.importorskip("peft")
    base = LlamaForCausalLM(LlamaConfig(**SIZES)).eval().double()
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    expected = adapted.generate(input_ids=prompt(), max_new_tokens=TOKENS, do_sample=False)
    engine = OuroborosEngine(adapted)
    assert torch.equal(engine.generate(prompt(), max_new_tokens=TOKENS), expected)
    assert torch.equal(adapted.generate(input_ids=prompt(), max_new_tokens=TOKENS, custom_generate=engine), expected)
