"""Documents as the data of a run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from fascicle.errors import ConfigError, DataError
from fascicle.objects import Data

from .dialogre import read_dialogre_pairs
from .dialogre_scores import RELATIONS as DIALOGRE_RELATIONS
from .docred import relation_names
from .features import collate
from .inference import encoder_of
from .planted import RELATIONS, planted_documents
from .readers import format_of, read, split_by_title

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import LoadedModel

    from .dialogre_scores import DialoguePair
    from .document import Document
    from .options import SiefDocuments, SiefPlanted

__all__ = ["load", "of_documents"]


def load(cfg: SiefDocuments | SiefPlanted, run: RunContext) -> Data:
    """Read or make documents. Answers `fascicle_load_data`.

    `extra` holds the documents of each part as `documents`; for DialogRE also the rows of its evaluation as `dialogue_pairs`.

    Raises:
        DocumentError: a file that is missing or malformed, with document and field.
        DataError: fewer documents than asked for.
    """
    from .options import SiefPlanted

    if isinstance(cfg, SiefPlanted):
        return _planted(cfg)
    parts = _parts(cfg)
    pairs = _dialogue_pairs(cfg, parts)
    relations = list(cfg.relations) or sorted({r.type for docs in parts.values() for d in docs for r in d.relations})
    if not relations:
        raise DataError(f"data.train: {cfg.train} has no relations, expected documents with labels")
    if pairs and not cfg.relations and set(relations) <= set(DIALOGRE_RELATIONS):
        relations = list(DIALOGRE_RELATIONS)
    data = of_documents(cfg.name or Path(cfg.train).stem, parts, relations, source=cfg.train)
    if pairs:
        data.extra["dialogue_pairs"] = pairs
    if cfg.names is not None:
        data.extra["relation_names"] = relation_names(_file(cfg.names, "names"))
    return data


def of_documents(
    name: str, parts: Mapping[str, Sequence[Document]], relations: Sequence[str], *, source: str = ""
) -> Data:
    """Your own documents as data for `fascicle.hf.training.fit` and the evaluations of this plugin.

    Args:
        name: what tables call it.
        parts: `train`, `validation`, `test`; those that exist.
        relations: all relations, in the order of their columns.
        source: where it came from.

    Example:
        >>> from fascicle_sief.planted import planted_documents
        >>> docs = [p.document for p in planted_documents(3, seed=1)]
        >>> of_documents("mine", {"train": docs}, RELATIONS).splits["train"].column_names
        ['title', 'text', 'entities', 'relations']
    """
    digest = hashlib.sha256(repr([(split, docs) for split, docs in sorted(parts.items())]).encode())
    cache: dict[tuple[str, int], datasets.Dataset] = {}

    def encode(split: str, model: LoadedModel) -> datasets.Dataset:
        key = split, id(model.tokenizer)
        if key not in cache:
            encoder = encoder_of(model.model, model.tokenizer)
            cache[key] = datasets.Dataset.from_list([encoder(d, i) for i, d in enumerate(parts[split])])
        return cache[key]

    def collator(model: LoadedModel) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        pad: int = getattr(model.tokenizer, "pad_token_id", None) or 0
        return lambda rows: dict(collate(rows, pad, len(relations)))

    return Data(
        name=name,
        task="relations",
        splits={split: datasets.Dataset.from_list([_row(d) for d in docs]) for split, docs in parts.items() if docs},
        encode=encode,
        collate=collator,
        label_names=list(relations),
        strata=lambda split: [len(d) for d in parts[split]],
        fingerprint=digest.hexdigest(),
        source=source,
        extra={"documents": {split: list(docs) for split, docs in parts.items()}},
    )


def _row(document: Document) -> dict[str, Any]:
    """A document as a person would read it."""
    return {
        "title": document.title,
        "text": [document.text(k) for k in range(len(document))],
        "entities": [document.name(e) for e in range(len(document.entities))],
        "relations": [f"{document.name(r.head)} | {r.type} | {document.name(r.tail)}" for r in document.relations],
    }


def _planted(cfg: SiefPlanted) -> Data:
    parts = {
        split: [p.document for p in planted_documents(rows, seed=3 * cfg.seed + i, cue=cfg.cue, triggers=cfg.triggers)]
        for i, (split, rows) in enumerate(
            (("train", cfg.train_rows), ("validation", cfg.validation_rows), ("test", cfg.test_rows))
        )
    }
    return of_documents("planted", parts, RELATIONS, source="made by fascicle_sief")


def _parts(cfg: SiefDocuments) -> dict[str, list[Document]]:
    whole = _documents(cfg, cfg.train, "train")
    if not cfg.parts:
        named = {"validation": cfg.validation, "test": cfg.test}
        parts = {split: _documents(cfg, path, split) for split, path in named.items() if path is not None}
        return (_set_aside(cfg, whole) if cfg.validation_part else {"train": whole}) | parts
    if sum(cfg.parts) > len(whole):
        raise DataError(f"data.parts: asked for {sum(cfg.parts)} documents, {cfg.train} has {len(whole)}")
    divided = split_by_title(whole, cfg.parts, cfg.split_seed, titles=_titles(cfg, whole) if cfg.titles_of else None)
    return dict(zip(("train", "validation", "test"), divided, strict=True))


def _set_aside(cfg: SiefDocuments, whole: Sequence[Document]) -> dict[str, list[Document]]:
    """Training documents without those for validation."""
    titles = set(_titles(cfg, whole))
    left = len(titles) - cfg.validation_part
    if left < 1:
        raise DataError(
            f"data.validation_part: asked for {cfg.validation_part} documents and some to train on, {cfg.train} has {len(titles)}"
        )
    train, validation = split_by_title(whole, (left, cfg.validation_part), cfg.split_seed, titles=titles)
    return {"train": train, "validation": validation}


def _titles(cfg: SiefDocuments, whole: Sequence[Document]) -> list[str]:
    """Of all documents that take part in a division."""
    return [d.title for d in whole] + [d.title for path in cfg.titles_of for d in _documents(cfg, path, "titles_of")]


def _documents(cfg: SiefDocuments, path: str, key: str) -> list[Document]:
    return read(_file(path, key), cfg.format)


def _file(path: str, key: str) -> Path:
    found = os.path.expandvars(path)
    if "$" in found:
        raise ConfigError(f"data.{key}: {path} names a variable that is not set; export it, or give the path")
    return Path(found).expanduser()


def _dialogue_pairs(cfg: SiefDocuments, parts: Mapping[str, Sequence[Document]]) -> dict[str, list[DialoguePair]]:
    """The rows of DialogRE's evaluation in each part whose file has that format."""
    own = {"validation": cfg.validation, "test": cfg.test}
    pairs = {}
    for split, documents in parts.items():
        file, titles = _file(own.get(split) or cfg.train, split), {d.title for d in documents}
        if (format_of(file) if cfg.format == "auto" else cfg.format) == "dialogre":
            pairs[split] = [pair for pair in read_dialogre_pairs(file) if pair.title in titles]
    return pairs
