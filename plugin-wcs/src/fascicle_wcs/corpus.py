"""Monolingual text from parallel files, without what belongs together, and a small language model for it. Our choice.

No small multilingual decoder can be had as a package, so a recipe trains one. Each language's paragraphs are shuffled by themselves
and cut into blocks of one language: the model is never shown which paragraph translates which.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from fascicle.errors import ConfigError, DataError
from fascicle.hf.data import content_fingerprint
from fascicle.hf.encoding import Encoder, causal_features, collate, token_ids
from fascicle.hf.models import seeded
from fascicle.hf.tiny import BOS, EOS, PAD, byte_level_bpe, state_fingerprint, wrapped_tokenizer
from fascicle.objects import Data, LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fascicle.context import RunContext
    from fascicle.hf.encoding import Features

    from .options import WcsSmallLm, WcsTexts

__all__ = ["load_small_lm", "load_texts", "monolingual", "train_tokenizer"]


def load_texts(cfg: WcsTexts, run: RunContext) -> Data:
    """Text of several languages to train a language model on. Answers `fascicle_load_data`.

    Raises:
        DataError: a file that is missing or has no such columns, a language without text.
    """
    texts = monolingual(cfg.files, seed=cfg.split_seed)
    splits = {split: _rows(texts, cfg.test_rows, split) for split in ("train", "test")}

    def blocks(split: str, model: LoadedModel, limit: int | None) -> Features:
        size = min(cfg.block_length, limit or cfg.block_length)
        end = [getattr(model.tokenizer, "eos_token_id", None)]
        found: list[list[int]] = []
        rows: dict[str, list[str]] = splits[split][:]
        for language in texts:
            chosen = [t for t, told in zip(rows["text"], rows["language"], strict=True) if told == language]
            ids = [token for row in token_ids(model, chosen) for token in (*row, *(e for e in end if e is not None))]
            found += [ids[i : i + size] for i in range(0, len(ids), size)]
        return causal_features([block for block in found if len(block) > 1], None, None)

    return Data(
        name=cfg.name,
        task="causal_lm",
        splits=splits,
        encode=Encoder(cfg.name, splits, {"causal_lm": blocks}),
        collate=collate,
        fingerprint=content_fingerprint(splits),
        source=", ".join(cfg.files),
    )


def monolingual(files: Sequence[str], *, seed: int = 0) -> dict[str, list[str]]:
    """Different paragraphs of each language, shuffled by language.

    Args:
        files: `en-de:FILE` with lines of `English TAB German`; a language that stands in several files is joined.
        seed: of the orders.

    Raises:
        ConfigError: an entry that does not begin with two languages.
        DataError: a file that cannot be read, or a line without two columns, with its number.
    """
    texts: dict[str, dict[str, None]] = {}
    for entry in files:
        names, _, path = entry.partition(":")
        languages = names.split("-")
        if len(languages) != 2 or not path:
            raise ConfigError(f"data.files: got {entry!r}, expected two languages and a file, as en-de:FILE")
        for number, line in enumerate(_lines(path), 1):
            columns = line.split("\t")
            if len(columns) != 2:
                raise DataError(f"{path}: line {number}: {len(columns)} columns, expected two with a tab between them")
            for language, text in zip(languages, columns, strict=True):
                if text.strip():
                    texts.setdefault(language, {})[text.strip()] = None
    shuffled = {}
    for language, found in sorted(texts.items()):
        shuffled[language] = sorted(found)
        random.Random(f"{seed} {language}").shuffle(shuffled[language])  # noqa: S311 - an order, no secret
    return shuffled


def load_small_lm(cfg: WcsSmallLm, run: RunContext) -> LoadedModel:
    """A fresh Llama with a tokenizer learnt from the same texts. Answers `fascicle_load_model`.

    Raises:
        ConfigError: a width that the heads do not divide.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = monolingual(cfg.files)
    tokenizer = train_tokenizer([t for found in texts.values() for t in found], cfg.vocabulary, cfg.max_length)
    with seeded(run.seed):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=cfg.hidden_size,
                num_hidden_layers=cfg.layers,
                num_attention_heads=cfg.heads,
                num_key_value_heads=cfg.heads,
                intermediate_size=4 * cfg.hidden_size * 2 // 3,
                max_position_embeddings=cfg.max_length,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    placed: Any = model
    placed = placed.to(run.device, dtype=getattr(torch, run.dtype))
    placed.eval()
    return LoadedModel(
        model=placed,
        tokenizer=tokenizer,
        task="causal_lm",
        name=cfg.name,
        source=f"random(seed={run.seed})",
        fingerprint=state_fingerprint(placed),
        extra={"max_length": cfg.max_length},
    )


def train_tokenizer(texts: Sequence[str], size: int, max_length: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE of at most `size` tokens, with a start token in front of every text.

    >>> tokenizer = train_tokenizer(["the cat", "the dog"] * 5, 300, 64)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("the cat")["input_ids"])[0]
    '<s>'
    """
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_level_bpe(texts, size, [PAD, BOS, EOS])
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 1)])
    return wrapped_tokenizer(tokenizer, max_length)


def _rows(texts: Mapping[str, Sequence[str]], test_rows: int, split: str) -> datasets.Dataset:
    columns: dict[str, list[str]] = {"text": [], "language": []}
    for language, found in texts.items():
        if len(found) <= test_rows:
            raise DataError(
                f"data.test_rows: {language} has {len(found)} paragraphs, expected more than the {test_rows} set aside"
            )
        chosen = found[:test_rows] if split == "test" else found[test_rows:]
        columns["text"] += chosen
        columns["language"] += [language] * len(chosen)
    return datasets.Dataset.from_dict(columns)


def _lines(path: str) -> list[str]:
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise ConfigError(f"files: {path} names a variable that is not set; export it, or give the path")
    try:
        return Path(expanded).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{expanded} cannot be read: {error}") from error
