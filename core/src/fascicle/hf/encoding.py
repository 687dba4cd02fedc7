"""Rows to features, and features to batches.

A text that is longer than the model allows is cut, and how many were is said once. What a causal LM should not learn (the prompt,
the padding) has the label -100, which transformers' losses skip.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError

if TYPE_CHECKING:
    import datasets

    from ..objects import LoadedModel

__all__ = [
    "IGNORE",
    "Encoder",
    "Features",
    "causal_features",
    "classification_features",
    "collate",
    "longest_input",
    "seq2seq_features",
    "token_ids",
]

logger = logging.getLogger(__name__)

IGNORE = -100
"""Label of a position without loss."""


@dataclass
class Features:
    """Columns of one split, as the model takes them."""

    columns: dict[str, list[Any]]
    cut: set[int] = field(default_factory=set)
    """Rows that were shortened."""


Featurise = Callable[[str, "LoadedModel", int | None], Features]
"""(split, model, longest input) to features."""


@dataclass(eq=False)
class Encoder:
    """`Data.encode`: chooses by the model's task how to make features, remembers them, reports what was cut."""

    name: str
    splits: Mapping[str, datasets.Dataset]
    ways: Mapping[str, Featurise]
    """Task of a model to the function that makes its features."""
    max_length: int | None = None
    """Longest input that the option wants; the model may allow less."""
    known: dict[tuple[str, int, str, int | None], tuple[Any, datasets.Dataset]] = field(default_factory=dict)

    def __call__(self, split: str, model: LoadedModel) -> datasets.Dataset:
        """The features of one split.

        Raises:
            DataError: there is no such split.
            ConfigError: the model's task does not fit this data, or it has no tokenizer.
        """
        import datasets

        self.rows(split)
        way = self.way(model)
        limit = self.limit(model)
        key = (split, id(model.tokenizer), way, limit)
        if key not in self.known:
            features = self.ways[way](split, model, limit)
            if features.cut:
                logger.warning(
                    "%s: %d of %d rows of %s are longer than the limit of %s tokens and were cut",
                    self.name,
                    len(features.cut),
                    len(self.splits[split]),
                    split,
                    limit,
                )
            encoded = datasets.Dataset.from_dict(features.columns)
            self.known[key] = (model.tokenizer, encoded)  # the tokenizer is kept, so that its id stays its own
        return self.known[key][1]

    def rows(self, split: str) -> datasets.Dataset:
        """The raw rows of one split.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.splits[split]

    def way(self, model: LoadedModel) -> str:
        """Which of the tasks the model is encoded for; a plugin's model may say so in `extra["encode_as"]`.

        Raises:
            ConfigError: the model's task does not fit, or it has no tokenizer.
        """
        task = str(model.extra.get("encode_as", model.task))
        if task not in self.ways:
            raise ConfigError(
                f"data {self.name} needs a model for {' or '.join(self.ways)}, but {model.name} is one for {task}; "
                "choose another model or data"
            )
        if model.tokenizer is None:
            raise ConfigError(
                f"data {self.name}: {model.name} has no tokenizer, so text cannot be turned into features"
            )
        return task

    def limit(self, model: LoadedModel) -> int | None:
        """The longest input: what the option wants, at most what the model allows."""
        told = model.extra.get("max_length") or longest_input(getattr(model.model, "config", None), model.tokenizer)
        bounds = [bound for bound in (told, self.max_length) if bound]
        return min(bounds) if bounds else None


def longest_input(config: Any, tokenizer: Any) -> int | None:
    """The longest input in tokens; None where neither the tokenizer nor the model's positions bound it.

    >>> from types import SimpleNamespace as Named
    >>> longest_input(Named(model_type="bert", max_position_embeddings=512), Named(model_max_length=256))
    256
    """
    kind = getattr(config, "model_type", "")
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if kind in ("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "longformer", "mpnet") and positions:
        positions -= (config.pad_token_id or 0) + 1  # position ids start behind the pad token's
    if kind in ("t5", "mt5", "umt5"):
        positions = None  # relative positions have no end
    told = getattr(tokenizer, "model_max_length", None)
    bounds = [bound for bound in (positions, told if told and told < 10**9 else None) if bound]
    return min(bounds) if bounds else None


def token_ids(model: LoadedModel, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """Token ids, uncut; `special` adds what the tokenizer puts around a text."""
    if not texts:
        return []
    tokenizer: Any = model.tokenizer
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special, truncation=False, verbose=False)[
        "input_ids"
    ]
    return ids


# ---- classification ------------------------------------------------------------------------------------------------------


def classification_features(
    model: LoadedModel,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: Sequence[Any] | None,
    limit: int | None,
) -> Features:
    """Input ids of texts (or pairs) with their label; of a pair the longer text is cut first."""
    tokenizer: Any = model.tokenizer

    def encode(rows: Sequence[int], **cut: Any) -> dict[str, list[Any]]:
        second = {} if pairs is None else {"text_pair": [pairs[row] for row in rows]}
        return dict(tokenizer([texts[row] for row in rows], verbose=False, **second, **cut).data)

    columns = encode(range(len(texts)), truncation=False)
    long = [] if limit is None else [row for row, ids in enumerate(columns["input_ids"]) if len(ids) > limit]
    if long:
        shorter = encode(long, truncation="longest_first", max_length=limit)
        for name, values in shorter.items():
            for row, value in zip(long, values, strict=True):
                columns[name][row] = value
    if labels is not None:
        columns["labels"] = list(labels)
    return Features(columns, set(long))


# ---- text that goes on ---------------------------------------------------------------------------------------------------


def causal_features(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]] | None,
    limit: int | None,
    *,
    keep_end: Sequence[int] | None = None,
) -> Features:
    """One row per prompt and its completion. Labels are the completion's tokens; without completions, all tokens.

    Where a row is too long the prompt loses its beginning, or the part before its last `keep_end` tokens; a completion that is too
    long by itself loses its end.

    >>> causal_features([[1, 2]], [[3]], None).columns["labels"]
    [[-100, -100, 3]]
    """
    columns: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": []}
    cut = set()
    for row, full in enumerate(prompts):
        prompt = list(full)
        completion = list(completions[row]) if completions is not None else []
        if limit is not None and len(prompt) + len(completion) > limit:
            cut.add(row)
            if completions is None:
                prompt = prompt[:limit]
            else:
                completion = completion[: max(1, limit - 1)]
                prompt = shorten(prompt, limit - len(completion), None if keep_end is None else keep_end[row])
        ids = prompt + completion
        columns["input_ids"].append(ids)
        columns["attention_mask"].append([1] * len(ids))
        columns["labels"].append([IGNORE] * len(prompt) + completion if completions is not None else list(ids))
    return Features(columns, cut)


def shorten(ids: list[int], length: int, keep_end: int | None) -> list[int]:
    """`length` of the ids: the last ones, or with `keep_end` the first ones and the last `keep_end`.

    >>> shorten([1, 2, 3, 4, 5], 3, None), shorten([1, 2, 3, 4, 5], 3, 1)
    ([3, 4, 5], [1, 2, 5])
    """
    if len(ids) <= length:
        return ids
    end = length if keep_end is None else min(keep_end, length)
    return ids[: length - end] + ids[len(ids) - end :]


def seq2seq_features(
    model: LoadedModel,
    sources: Sequence[str],
    targets: Sequence[str] | None,
    limit: int | None,
    target_limit: int | None,
) -> Features:
    """Input ids of the sources; labels are those of the targets."""
    features = classification_features(model, sources, None, None, limit)
    features.columns.pop("token_type_ids", None)
    if targets is not None:
        tokenizer: Any = model.tokenizer
        labels = tokenizer(text_target=list(targets), truncation=False, verbose=False)["input_ids"]
        end = tokenizer.eos_token_id
        for row, ids in enumerate(labels):
            if target_limit is not None and len(ids) > target_limit:
                features.cut.add(row)
                closing = [end] if end is not None and ids[-1] == end else []
                labels[row] = ids[: target_limit - len(closing)] + closing
        features.columns["labels"] = labels
    return features


# ---- batches -------------------------------------------------------------------------------------------------------------


def collate(model: LoadedModel) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """`Data.collate`: pads on the right to the longest row: labels with -100, tokens with the pad or end token.

    Raises:
        ConfigError: the model has no tokenizer.
    """
    import torch

    tokenizer: Any = model.tokenizer
    if tokenizer is None:
        raise ConfigError(f"{model.name} has no tokenizer, so rows of different length cannot be padded")
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    fill = {"input_ids": pad, "labels": IGNORE, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)}

    def batch(rows: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            if isinstance(values[0], list):
                longest = max(map(len, values))
                values = [value + [fill.get(name, 0)] * (longest - len(value)) for value in values]
            out[name] = torch.tensor(values)
        return out

    return batch
