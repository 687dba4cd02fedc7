"""E2E NLG (Novikova, Dušek and Rieser, 2017) for causal models: a meaning representation in, a sentence out.

The official training set is not used: models train on the development set and are tested on the test set. The two share no meaning
representation, also after names are taken out.
"""

from __future__ import annotations

import csv
import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from fascicle.errors import DataError
from fascicle.hf.encoding import collate
from fascicle.objects import Data

from .slots import parse_mr

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import LoadedModel

    from .options import E2eData

__all__ = ["encode_row", "load", "prompt_of"]

FILES = {"train": "devset.csv", "test": "testset_w_refs.csv"}


def load(cfg: E2eData, run: RunContext) -> Data:
    """Read both files. Answers `fascicle_load_data`.

    Raises:
        DataError: a missing file, a row without `mr` or `ref` (file and line), no rows.
    """
    digest = hashlib.sha256()
    splits = {}
    for split, name in FILES.items():
        rows = _read(Path(cfg.folder).expanduser() / name)
        if split == "train" and cfg.train_rows is not None:
            rows = random.Random(cfg.seed).sample(rows, min(cfg.train_rows, len(rows)))  # noqa: S311 - a sample, no secret
        if split == "test" and cfg.test_mrs is not None:
            chosen = set(list(dict.fromkeys(row["mr"] for row in rows))[: cfg.test_mrs])
            rows = [row for row in rows if row["mr"] in chosen]
        digest.update(repr(rows).encode())
        splits[split] = datasets.Dataset.from_list(rows)
    cache: dict[tuple[str, int], datasets.Dataset] = {}

    def encode(split: str, model: LoadedModel) -> datasets.Dataset:
        key = (split, id(model.tokenizer))
        if key not in cache:
            features = [encode_row(row, model.tokenizer, cfg.max_length) for row in splits[split]]
            cache[key] = datasets.Dataset.from_list(features)
        return cache[key]

    return Data(
        name="e2e",
        task="causal_lm",
        splits=splits,
        encode=encode,
        collate=collate,
        strata=lambda split: [len(text.split()) for text in splits[split]["ref"]],
        fingerprint=digest.hexdigest(),
        source="E2E NLG dataset (CC BY-SA 4.0): " + ", ".join(FILES.values()),
    )


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"data.folder: {path} does not exist; it is a file of the repository tuetschek/e2e-dataset")
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if not {"mr", "ref"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path}, line 1: expected the columns mr and ref, got {reader.fieldnames}")
        try:
            for row in reader:
                if not row["mr"] or not row["ref"] or not parse_mr(row["mr"]):
                    raise DataError(
                        f"{path}, line {reader.line_num}: expected slot[value], ... and a sentence, got {row!r}"
                    )
                rows.append({"mr": row["mr"], "ref": row["ref"].strip()})
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def prompt_of(mr: str) -> str:
    """What the model reads.

    >>> prompt_of("name[Blue Spice], eatType[coffee shop]")
    'name: Blue Spice | eatType: coffee shop =>'
    """
    return " | ".join(f"{slot}: {value}" for slot, value in parse_mr(mr).items()) + " =>"


def encode_row(row: dict[str, str], tokenizer: Any, max_length: int) -> dict[str, list[int]]:
    """Ids of prompt, sentence and end token; labels only on the sentence and the end.

    Raises:
        DataError: longer than `max_length`.
    """
    prompt = tokenizer(prompt_of(row["mr"]), add_special_tokens=False)["input_ids"]
    answer = tokenizer(" " + row["ref"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    if len(prompt) + len(answer) > max_length:
        raise DataError(
            f"data.max_length={max_length}: an example has {len(prompt) + len(answer)} tokens: {row['mr']!r}"
        )
    ids = prompt + answer
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(prompt) + answer}
