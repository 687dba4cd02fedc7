"""Tiny random decoders, pools with a plan, and a plain loop to compare with: no tokenizer, no hub."""

from __future__ import annotations

import copy
import functools
import string
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fascicle_ouroboros.pool import Phrase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

VOCAB = 48
WINDOW = 10
LETTERS = string.ascii_lowercase + string.ascii_uppercase[:22]
"""A token each."""
TOKENS = 24
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.4,
}


def build(name: str = "llama", layers: int = 2, window: int = WINDOW) -> Any:
    """A new model of a family, drawn from torch's generator."""
    sizes = {**SIZES, "num_hidden_layers": layers}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    old = {"vocab_size": VOCAB, "initializer_range": 0.4, "n_layer": layers, "n_head": 2, **ends}  # their names differ
    qwen2 = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": layers // 2}
    gemma2 = {"head_dim": 8, "sliding_window": window, "attn_implementation": "eager"}
    make: dict[str, Callable[[], Any]] = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**sizes)),
        "llama_tied": lambda: LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True)),
        "llama_eager": lambda: LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="eager")),
        "mistral_window": lambda: MistralForCausalLM(MistralConfig(**sizes, sliding_window=window)),
        "qwen2_window": lambda: Qwen2ForCausalLM(Qwen2Config(**sizes, **qwen2)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8)),
        "gemma": lambda: GemmaForCausalLM(GemmaConfig(**sizes, head_dim=8)),
        "gemma2_window": lambda: Gemma2ForCausalLM(Gemma2Config(**sizes, **gemma2)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**old, n_embd=16, n_positions=96)),
        "bloom": lambda: BloomForCausalLM(BloomConfig(**old, hidden_size=16)),
        "mamba": lambda: MambaForCausalLM(
            MambaConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, state_size=4, **ends)
        ),
    }
    return make[name]()


@functools.cache
def model(name: str = "llama", seed: int = 0) -> Any:
    """Float64, so that equality means equality."""
    torch.manual_seed(seed)
    return build(name).eval().double()


@functools.cache
def near(name: str = "llama", seed: int = 0, noise: float = 0.1) -> Any:
    """A draft that often agrees: the model with noisy weights."""
    torch.manual_seed(seed + 100)
    draft = copy.deepcopy(model(name, seed))
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(noise * parameter.std() * torch.randn_like(parameter))
    return draft


def prompt(seed: int = 0, length: int = 9) -> Tensor:
    """(1, L) random tokens."""
    return torch.randint(1, VOCAB, (1, length), generator=torch.Generator().manual_seed(seed))


@functools.cache
def greedy(name: str, seed: int = 0, tokens: int = TOKENS, model_seed: int = 0) -> tuple[int, ...]:
    """What transformers writes, prompt included."""
    out = model(name, model_seed).generate(prompt(seed), max_new_tokens=tokens, do_sample=False)
    return tuple(out[0].tolist())


@functools.cache
def tokenizer() -> Any:
    """Spells text letter by letter."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    speller = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(LETTERS)}, merges=[]))
    speller.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=speller, pad_token=LETTERS[0])


class Planned:
    """A pool that proposes what a function of the text says, and learns nothing."""

    orders = (10**6,)

    def __init__(self, propose: Callable[[Sequence[int]], list[Sequence[int]]]) -> None:
        self.propose = propose
        self.recorded: list[tuple[Phrase, int, int]] = []
        self.corrected: list[tuple[tuple[int, ...], tuple[int, ...], str]] = []
        self.fed: list[tuple[int, str]] = []

    def lookup(self, tail: Sequence[int], k: int, length: int | None = None) -> list[Phrase]:
        return [Phrase(tuple(tokens), "prompt", tuple(tail[-1:])) for tokens in self.propose(tail) if len(tokens)][:k]

    def feed(self, tokens: Sequence[int], start: int, source: str) -> None:
        self.fed.append((start, source))

    def correct(self, tail: Sequence[int], tokens: Sequence[int], source: str) -> None:
        self.corrected.append((tuple(tail), tuple(tokens), source))

    def record(self, phrase: Phrase, proposed: int, accepted: int) -> None:
        self.recorded.append((phrase, proposed, accepted))


def oracle(text: Sequence[int], length: int = 6) -> Planned:
    """A pool that knows the text."""
    return Planned(lambda tail: [text[len(tail) : len(tail) + length]] if list(text[: len(tail)]) == list(tail) else [])


def liar(text: Sequence[int], length: int = 6) -> Planned:
    """A pool whose phrases are right but for one token, at every place in turn."""

    def propose(tail: Sequence[int]) -> list[Sequence[int]]:
        true = list(text[len(tail) : len(tail) + length])
        wrong = [[(t + 1) % VOCAB if i == at else t for i, t in enumerate(true)] for at in range(len(true))]
        return list(wrong)

    return Planned(propose)
