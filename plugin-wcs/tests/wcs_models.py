"""Tiny random models of several families with one byte-level tokenizer: no hub, any text fits."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from fascicle.hf.model_options import Tiny
from fascicle.hf.tiny import tiny_tokenizer

WIDTH, LAYERS, HEADS = 32, 4, 4
DECODERS = ["llama", "gpt2", "bloom", "gpt_neox"]


def tokenizer(start: bool = True) -> Any:
    """Letters are tokens; with `start`, `<s>` stands before each text."""
    made = tiny_tokenizer(Tiny(architecture="llama", tokenizer="bytes"))
    if not start:
        from tokenizers.processors import ByteLevel

        made.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    return made


def model(family: str = "llama") -> Any:
    """A model of four blocks, with weights large enough that every block matters."""
    size = {"vocab_size": len(tokenizer()), "hidden_size": WIDTH, "initializer_range": 0.2}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    wide = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 48}
    torch.manual_seed(3)
    made: Any
    if family == "llama":
        made = LlamaForCausalLM(LlamaConfig(**size, **ids, **wide, max_position_embeddings=512))
    elif family == "gpt2":
        narrow = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
        made = GPT2LMHeadModel(GPT2Config(vocab_size=size["vocab_size"], **ids, **narrow, initializer_range=0.2))
    elif family == "bloom":
        made = BloomForCausalLM(BloomConfig(**size, **ids, n_layer=LAYERS, n_head=HEADS))
    elif family == "gpt_neox":
        made = GPTNeoXForCausalLM(GPTNeoXConfig(**size, **ids, **wide, max_position_embeddings=512))
    else:
        made = BertModel(BertConfig(**size, pad_token_id=0, **wide))
    return made.eval()
