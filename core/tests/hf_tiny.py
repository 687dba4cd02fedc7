"""Tiny models and data of random numbers for the tests of training, decoding and evaluation; built inline, nothing is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from fascicle.context import RunContext
from fascicle.objects import Data, LoadedModel

VOCABULARY = 40
CLASSES = 3


def bert(dropout: float = 0.0, classes: int = CLASSES, **more: Any) -> LoadedModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=classes,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **more,
    )
    return _loaded(BertForSequenceClassification(config), "classification")


def llama(**more: Any) -> LoadedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **more,
    )
    return _loaded(LlamaForCausalLM(config), "causal_lm")


def bart() -> LoadedModel:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    return _loaded(BartForConditionalGeneration(config), "seq2seq")


def _loaded(net: Any, task: str) -> LoadedModel:
    return LoadedModel(model=net.eval(), tokenizer=None, task=task, name="tiny", source="random(seed=0)")


def numbers(count: int, low: int, high: int, generator: torch.Generator) -> list[int]:
    return torch.randint(low, high, (count,), generator=generator).tolist()


def rows(task: str, count: int, seed: int = 3) -> datasets.Dataset:
    """Rows of 4 to 9 tokens. A classifier's label follows from its first token; a language model's answer is its second half."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        ids = numbers(numbers(1, 4, 10, generator)[0], 3, VOCABULARY, generator)
        if task == "classification":
            labels: Any = ids[0] % CLASSES
        elif task == "causal_lm":
            labels = [-100] * (len(ids) // 2) + ids[len(ids) // 2 :]
        else:
            labels = [*ids[: len(ids) // 2], 2]
        made.append({"input_ids": ids, "labels": labels})
    return datasets.Dataset.from_list(made)


def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    def padded(lists: list[list[int]], fill: int) -> torch.Tensor:
        longest = max(map(len, lists))
        return torch.tensor([values + [fill] * (longest - len(values)) for values in lists])

    ids = [f["input_ids"] for f in features]
    batch = {"input_ids": padded(ids, 0), "attention_mask": padded([[1] * len(i) for i in ids], 0)}
    if "labels" in features[0]:
        labels = [f["labels"] for f in features]
        batch["labels"] = padded(labels, -100) if isinstance(labels[0], list) else torch.tensor(labels)
    return batch


def data(task: str, count: int = 22, **splits: datasets.Dataset) -> Data:
    found = splits or {"train": rows(task, count), "validation": rows(task, 10, seed=4), "test": rows(task, 10, seed=5)}
    names = [f"class {c}" for c in range(CLASSES)] if task == "classification" else None
    return Data(
        name="numbers",
        task=task,
        splits=found,
        encode=lambda split, model: found[split],
        collate=lambda model: collate,
        label_names=names,
    )


def context(folder: Path, *, resume: bool = False, seed: int = 1) -> RunContext:
    folder.mkdir(parents=True, exist_ok=True)
    return RunContext(folder=folder, seed=seed, resume=resume)


def weights(model: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    return max((one[name].float() - two[name].float()).abs().max().item() for name in one)


def losses(history: list[dict[str, float]]) -> list[float]:
    return [row["loss"] for row in history if "loss" in row]
