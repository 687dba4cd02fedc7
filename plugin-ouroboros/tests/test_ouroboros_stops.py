"""Writing ends where a plain loop would end, at whatever place of a block; streams get each token once."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
import torch
from ouroboros_models import LETTERS, TOKENS, greedy, model, oracle, prompt, tokenizer
from transformers import DynamicCache, MaxTimeCriteria, StoppingCriteria

from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions

LONG = DraftingOptions(phrases=2, phrase_len=12, nodes=40, gamma=3)
PROMPT = 9


class Recorder:
    """A streamer that remembers."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ends = 0

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.reshape(-1).tolist()

    def end(self) -> None:
        self.ends += 1


def engines() -> list[OuroborosEngine]:
    """Blocks of up to 13 tokens, from phrases and from a draft with phrases."""
    text = greedy("llama", 0)
    return [OuroborosEngine(model(), draft, pool=oracle(text, 12), options=LONG) for draft in (None, model())]


def first_places() -> dict[int, int]:
    """Where each token of the plain text comes first."""
    new = greedy("llama", 0)[PROMPT:]
    return {token: new.index(token) for token in new}


def test_an_end_token_stops_at_every_place_of_a_block() -> None:
    text = greedy("llama", 0)
    for engine in engines():
        for token, at in list(first_places().items())[:12]:
            cache, heard = DynamicCache(), Recorder()
            out = engine.generate(
                prompt(), max_new_tokens=TOKENS, eos_token_id=token, streamer=heard, past_key_values=cache
            )
            assert tuple(out[0].tolist()) == text[: PROMPT + at + 1]
            assert tuple(heard.tokens) == text[: PROMPT + at + 1]
            assert heard.ends == 1
            assert cache.get_seq_length() == out.shape[1] - 1


def test_the_first_of_two_end_tokens_counts() -> None:
    text = greedy("llama", 0)
    places = sorted(first_places().items(), key=lambda item: item[1])
    for engine in engines():
        for (one, at), (other, _) in itertools.pairwise(places[:6]):
            out = engine.generate(prompt(), max_new_tokens=TOKENS, eos_token_id=[other, one])
            assert tuple(out[0].tolist()) == text[: PROMPT + at + 1]


@pytest.mark.parametrize("tokens", [1, 2, 5, 11, 13, 14, 15])
def test_no_token_more_than_asked(tokens: int) -> None:
    for engine in engines():
        out = engine.generate(prompt(), max_new_tokens=tokens)
        assert tuple(out[0].tolist()) == greedy("llama", 0)[: PROMPT + tokens]


class After(StoppingCriteria):
    """Stops at a length, and counts how often it is asked."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.asked.append(input_ids.shape[1])
        return torch.tensor([input_ids.shape[1] >= self.length])


@pytest.mark.parametrize("more", [1, 4, 9])
def test_a_criterion_of_ones_own_is_asked_after_each_token(more: int) -> None:
    for engine in engines():
        criterion = After(PROMPT + more)
        out = engine.generate(prompt(), max_new_tokens=TOKENS, stopping_criteria=[criterion])
        assert out.shape[1] == PROMPT + more
        assert criterion.asked == list(range(PROMPT + 1, PROMPT + more + 1))


def test_a_time_limit_holds_inside_a_block() -> None:
    class Slow(After):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            time.sleep(0.3)
            return super().__call__(input_ids, scores)

    for engine in engines():
        limit = [Slow(10**6), MaxTimeCriteria(max_time=0.8)]
        assert engine.generate(prompt(), max_new_tokens=TOKENS, stopping_criteria=limit).shape[1] <= PROMPT + 4


def test_stop_strings_stop_at_every_place_of_a_block() -> None:
    text = greedy("llama", 0)
    for engine in engines():
        for at in range(0, 14, 3):
            stop = "".join(LETTERS[token] for token in text[PROMPT + at : PROMPT + at + 2])
            asked = {"max_new_tokens": TOKENS, "stop_strings": [stop], "tokenizer": tokenizer()}
            expected = model().generate(prompt(), do_sample=False, **asked)
            assert torch.equal(engine.generate(prompt(), **asked), expected)


def test_a_stream_gives_each_token_and_can_be_closed() -> None:
    engine = engines()[0]
    new = list(greedy("llama", 0)[PROMPT:])
    assert list(engine.stream(prompt(), max_new_tokens=TOKENS)) == new
    stream = engine.stream(prompt(), max_new_tokens=TOKENS)
    assert [next(stream) for _ in range(3)] == new[:3]
    stream.close()


def test_an_error_while_streaming_reaches_the_reader() -> None:
    with pytest.raises(ValueError, match="beam"):
        list(engines()[0].stream(prompt(), max_new_tokens=4, num_beams=2))


def test_a_streamer_given_to_transformers_is_served_and_ended() -> None:
    heard = Recorder()
    model().generate(prompt(), max_new_tokens=TOKENS, custom_generate=engines()[0], streamer=heard)
    assert (tuple(heard.tokens), heard.ends) == (greedy("llama", 0), 1)
