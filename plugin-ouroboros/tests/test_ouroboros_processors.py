"""Logits processors see what a plain loop would show them: each token once, in order, never a token that is not written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ouroboros_models import TOKENS, greedy, liar, model, near, prompt
from transformers import LogitsProcessor, LogitsProcessorList

from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions

ASKED: dict[str, dict[str, Any]] = {
    "repetition_penalty": {"repetition_penalty": 1.3},
    "no_repeat_ngram": {"no_repeat_ngram_size": 2},
    "min_new_tokens": {"min_new_tokens": 20, "eos_token_id": list(range(1, 8))},
    "bad_words": {"bad_words_ids": [[t] for t in range(20, 40)] + [[3, 4]]},
    "forced_end": {"forced_eos_token_id": 5},
    "allowed": {"prefix_allowed_tokens_fn": lambda _, ids: [(int(ids[-1]) * 7 + k) % 48 for k in range(5)]},
}


def engines() -> list[OuroborosEngine]:
    options = DraftingOptions(phrases=6, nodes=64, gamma=4)
    return [
        OuroborosEngine(model(), options=options),
        OuroborosEngine(model(), near(), options=options),
        OuroborosEngine(model(), pool=liar(greedy("llama", 0)), options=options),
    ]


@pytest.mark.parametrize("what", ASKED)
def test_processed_text_is_that_of_transformers(what: str) -> None:
    expected = model().generate(prompt(), max_new_tokens=TOKENS, do_sample=False, **ASKED[what])
    assert tuple(expected[0].tolist()) != greedy("llama", 0)
    for engine in engines():
        assert torch.equal(engine.generate(prompt(), max_new_tokens=TOKENS, **ASKED[what]), expected)


class Recording(LogitsProcessor):
    """Its scores depend on how often it was called and on all that it was shown."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[int, ...], float]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.calls.append((tuple(input_ids[0].tolist()), round(float(scores.sum()), 3)))
        return scores + 2.0 * torch.sin(torch.arange(scores.shape[1]) * len(self.calls))


def test_a_processor_with_a_memory_sees_the_same_calls() -> None:
    plain = Recording()
    expected = model().generate(
        prompt(), max_new_tokens=TOKENS, do_sample=False, logits_processor=LogitsProcessorList([plain])
    )
    for engine in engines():
        ours = Recording()
        out = engine.generate(prompt(), max_new_tokens=TOKENS, logits_processor=LogitsProcessorList([ours]))
        assert torch.equal(out, expected)
        assert ours.calls == plain.calls
        assert engine.stats.target_forwards <= TOKENS


def test_scores_and_logits_are_those_of_transformers() -> None:
    asked = {
        "max_new_tokens": 12,
        "repetition_penalty": 1.2,
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
    }
    expected = model().generate(prompt(), do_sample=False, **asked)
    for engine in engines():
        out = engine.generate(prompt(), **asked)
        assert torch.equal(out.sequences, expected.sequences)
        torch.testing.assert_close(torch.cat(out.scores), torch.cat(expected.scores))
        torch.testing.assert_close(torch.cat(out.logits), torch.cat(expected.logits))


def test_no_history_of_logits_is_kept_unasked() -> None:
    out = engines()[0].generate(prompt(), max_new_tokens=4, return_dict_in_generate=True)
    assert out.scores is None
    assert out.logits is None
