"""Decoders write what their name says, count the target's forward passes, and return only new tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hf_tiny import VOCABULARY, bart, context, llama

from fascicle.errors import ConfigError, SourceError
from fascicle.hf.adapters import add_lora
from fascicle.hf.decoding import decoder
from fascicle.hf.training_options import Assisted, Beam, Greedy, LoraOptions, PromptLookup, Sample
from fascicle.objects import Decoder

if TYPE_CHECKING:
    from fascicle.objects import LoadedModel


def batch(*lengths: int) -> dict[str, torch.Tensor]:
    """Prompts padded on the left."""
    generator = torch.Generator().manual_seed(7)
    longest = max(lengths)
    ids = torch.randint(3, VOCABULARY, (len(lengths), longest), generator=generator)
    mask = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths])
    return {"input_ids": ids * mask, "attention_mask": mask}


def by_hand(model: LoadedModel, prompt: torch.Tensor, steps: int) -> list[int]:
    ids = prompt[None]
    with torch.no_grad():
        for _ in range(steps):
            ids = torch.cat([ids, model.model(ids).logits[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == 2:
                break
    return ids[0, len(prompt) :].tolist()


def test_greedy_takes_the_likeliest_token_and_ignores_padding(tmp_path: Path) -> None:
    model, inputs = llama(), batch(3, 6, 5)
    out = decoder(Greedy(), context(tmp_path)).generate(model, inputs, max_new_tokens=7)
    for row, length, written, new in zip(inputs["input_ids"], (3, 6, 5), out.sequences, out.new_tokens, strict=True):
        assert written[:new].tolist() == by_hand(model, row[-length:], 7)
    assert out.target_forwards == max(out.new_tokens)
    assert out.seconds > 0


def test_only_new_tokens_are_returned_up_to_the_end_token(tmp_path: Path) -> None:
    model, inputs = llama(), batch(4, 4)
    first = decoder(Greedy(), context(tmp_path)).generate(model, inputs, max_new_tokens=6)
    end = int(first.sequences[0, 2])  # make what row 0 writes third its end token
    model.model.generation_config.eos_token_id = end
    out = decoder(Greedy(), context(tmp_path)).generate(model, inputs, max_new_tokens=6)
    stop = first.sequences[0].tolist().index(end) + 1
    assert out.new_tokens[0] == stop
    assert out.sequences[0, :stop].tolist() == first.sequences[0, :stop].tolist()
    assert set(out.sequences[0, stop:].tolist()) <= {0}


def test_min_new_tokens_makes_texts_of_equal_length(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad():
        model.model.lm_head.weight[2] = 10 * model.model.lm_head.weight.abs().sum(0)  # the end token would win
    out = decoder(Greedy(min_new_tokens=5), context(tmp_path)).generate(model, batch(4, 2), max_new_tokens=5)
    assert out.new_tokens == [5, 5]


@pytest.mark.parametrize(
    "options", [PromptLookup(min_new_tokens=24), PromptLookup(num_tokens=3, max_ngram=1, min_new_tokens=24)]
)
def test_prompt_lookup_is_lossless_and_saves_forwards(options: PromptLookup, tmp_path: Path) -> None:
    model = llama()
    plain = decoder(Greedy(min_new_tokens=24), context(tmp_path)).generate(model, batch(6, 4), max_new_tokens=24)
    drafted = decoder(options, context(tmp_path)).generate(model, batch(6, 4), max_new_tokens=24)
    assert drafted.sequences.tolist() == plain.sequences.tolist()
    assert drafted.target_forwards is not None
    assert drafted.target_forwards < 2 * 24
    alone = batch(6, 4)["input_ids"][1:, 2:]
    single = {"input_ids": alone, "attention_mask": torch.ones_like(alone)}
    once = decoder(options, context(tmp_path)).generate(model, single, max_new_tokens=24)
    first = {name: value[:1] for name, value in batch(6, 4).items()}
    rest = decoder(options, context(tmp_path)).generate(model, first, max_new_tokens=24)
    assert drafted.target_forwards == (once.target_forwards or 0) + (rest.target_forwards or 0), (
        "padding is never looked up"
    )
    assert drafted.stats["tokens_per_forward"] == pytest.approx(48 / drafted.target_forwards)


def test_assisted_decoding_by_the_target_itself_accepts_every_draft(tmp_path: Path) -> None:
    model = llama()
    folder = tmp_path / "draft"
    model.model.save_pretrained(folder)
    _tokenizer(folder)
    plain = decoder(Greedy(min_new_tokens=20), context(tmp_path)).generate(model, batch(6, 4), max_new_tokens=20)
    assisted = decoder(Assisted(draft=[str(folder)], num_assistant_tokens=4, min_new_tokens=20), context(tmp_path))
    out = assisted.generate(model, batch(6, 4), max_new_tokens=20)
    assert out.sequences.tolist() == plain.sequences.tolist()
    assert out.target_forwards == 2 * 4  # 20 tokens, 5 per forward
    assert out.stats["tokens_per_forward"] == 5


def test_a_draft_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"decoding\.draft"):
        decoder(Assisted(draft=[str(tmp_path / "nowhere")]), context(tmp_path))


def test_a_draft_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    other = llama().model
    config = type(other.config)(**{**other.config.to_dict(), "vocab_size": VOCABULARY + 1})
    LlamaForCausalLM(config).save_pretrained(tmp_path / "draft")
    _tokenizer(tmp_path / "draft")
    with pytest.raises(ConfigError, match=r"decoding\.draft.*41.*40"):
        decoder(Assisted(draft=[str(tmp_path / "draft")]), context(tmp_path)).generate(
            llama(), batch(3), max_new_tokens=2
        )


def test_draws_follow_from_the_seed(tmp_path: Path) -> None:
    def drawn(seed: int, **more: Any) -> list[list[int]]:
        made = decoder(Sample(**more), context(tmp_path, seed=seed))
        torch.manual_seed(99)
        return [made.generate(llama(), batch(4, 4), max_new_tokens=12).sequences.tolist() for _ in range(2)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[0] != drawn(1)[1]
    plain = decoder(Greedy(), context(tmp_path)).generate(llama(), batch(4, 4), max_new_tokens=12)
    assert drawn(1, top_k=1)[0] == plain.sequences.tolist()
    assert drawn(1, top_p=1e-6)[0] == plain.sequences.tolist()


def test_drawing_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    model, inputs = llama(), batch(4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    decoder(Sample(), context(tmp_path)).generate(model, inputs, max_new_tokens=4)
    assert torch.equal(torch.rand(3), expected)


def test_beam_search_finds_likelier_texts_than_greedy(tmp_path: Path) -> None:
    model, inputs = llama(), batch(4, 4, 4)

    def likelihood(sequences: torch.Tensor) -> torch.Tensor:
        full = torch.cat([inputs["input_ids"], sequences], dim=1)
        with torch.no_grad():
            logits = model.model(full).logits[:, 3:-1].log_softmax(-1)
        return logits.gather(-1, sequences[..., None]).sum((1, 2))

    found = {}
    for name, options in (("greedy", Greedy(min_new_tokens=6)), ("beam", Beam(num_beams=8, min_new_tokens=6))):
        found[name] = likelihood(
            decoder(options, context(tmp_path)).generate(model, inputs, max_new_tokens=6).sequences
        )
    assert (found["beam"] >= found["greedy"] - 1e-4).all()


def test_what_a_checkpoint_says_of_sampling_is_overruled(tmp_path: Path) -> None:
    model = llama()
    expected = decoder(Greedy(), context(tmp_path)).generate(model, batch(4), max_new_tokens=8).sequences
    model.model.generation_config.update(
        do_sample=True, temperature=5.0, repetition_penalty=9.0, num_beams=3, min_length=30
    )
    assert (
        decoder(Greedy(), context(tmp_path)).generate(model, batch(4), max_new_tokens=8).sequences.tolist()
        == expected.tolist()
    )


def test_an_encoder_decoder_returns_what_follows_the_start_token(tmp_path: Path) -> None:
    model = bart()
    ids = batch(5, 5)
    out = decoder(Greedy(), context(tmp_path)).generate(model, ids, max_new_tokens=4)
    written = torch.full((2, 1), 2)
    with torch.no_grad():
        for _ in range(out.sequences.shape[1]):
            logits = model.model(**ids, decoder_input_ids=written).logits[:, -1:]
            written = torch.cat([written, logits.argmax(-1)], dim=1)
    for row, new in enumerate(out.new_tokens):
        assert out.sequences[row, :new].tolist() == written[row, 1 : new + 1].tolist()


def test_an_adapted_model_writes_with_its_adapter(tmp_path: Path) -> None:
    run: Any = context(tmp_path)
    model = add_lora(llama(), LoraOptions(r=2), run)
    for name, parameter in model.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=3.0)
    model.model.eval()
    written: Decoder = decoder(Greedy(), run)
    out = written.generate(model, batch(4), max_new_tokens=6)
    assert out.sequences[0, : out.new_tokens[0]].tolist() == by_hand(model, batch(4)["input_ids"][0], 6)
    assert out.target_forwards == out.new_tokens[0]
    plain = written.generate(llama(), batch(4), max_new_tokens=6)
    assert out.sequences.tolist() != plain.sequences.tolist()
    assert written.sections() == []
    assert isinstance(written, Decoder)


def _tokenizer(folder: Path) -> None:
    """A tokenizer of 40 words, since a loaded model has one."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(VOCABULARY)}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), eos_token="w2", pad_token="w0"
    )
    made.save_pretrained(folder)
