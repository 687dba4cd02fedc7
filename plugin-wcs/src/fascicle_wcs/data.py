"""Dictionaries as the data of a run, and the words that may be answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import datasets

from fascicle.errors import ConfigError, DataError
from fascicle.hf.encoding import Encoder, causal_features, collate, token_ids
from fascicle.objects import Data

from .dictionary import Dictionary, check_overlap, drop_overlap, read_dictionary
from .options import WcsPlantedData

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.hf.encoding import Features
    from fascicle.objects import LoadedModel

    from .options import WcsData

__all__ = ["Bli", "bli_of", "load", "of_dictionaries"]


@dataclass(frozen=True)
class Bli:
    """What the plugin's options need of the data: two dictionaries, two languages, two vocabularies."""

    train: Dictionary
    test: Dictionary
    source: str
    """Language of the source words, as an ISO code or a name."""
    target: str
    source_words: tuple[str, ...]
    """Words by frequency, for models that embed any word."""
    target_words: tuple[str, ...]


def bli_of(data: Data) -> Bli:
    """The dictionaries of `data`.

    Raises:
        ConfigError: data without dictionaries.
    """
    found = data.extra.get("wcs")
    if not isinstance(found, Bli):
        raise ConfigError(
            f"data: {data.name} holds no bilingual dictionary; choose data=wcs_dictionary, wcs_muse or wcs_planted"
        )
    return found


def load(cfg: WcsData | WcsPlantedData, run: RunContext) -> Data:
    """Read or make dictionaries. Answers `fascicle_load_data`.

    Raises:
        DictionaryError: a file that is missing or malformed, with file and line.
        DataError: a dictionary that leaves nothing to train on or to measure.
    """
    if isinstance(cfg, WcsPlantedData):
        return _planted(cfg)
    whole = _read(cfg, cfg.train, "train")
    if cfg.test is None:
        train, test = whole.split(cfg.train_words or 5000, cfg.test_words or 1500)
    else:
        train, test = _first(whole, cfg.train_words), _first(_read(cfg, cfg.test, "test"), cfg.test_words)
    if check_overlap(train, test).sources and cfg.drop_overlap:
        train = drop_overlap(train, test)
    for split, found in (("train", train), ("test", test)):
        if not len(found):
            raise DataError(f"data.{split}: no pairs are left, expected at least one")
    source_words, target_words = _vocabulary(cfg, train, test)
    bli = Bli(train, test, cfg.source, cfg.target, source_words, target_words)
    return of_dictionaries(cfg.name or f"{cfg.source}-{cfg.target}", bli, source=cfg.train, max_length=cfg.max_length)


def of_dictionaries(name: str, bli: Bli, *, source: str = "", max_length: int | None = None) -> Data:
    """Your own dictionaries as data of a run.

    A causal language model may be fine-tuned on it, as the paper does: a row is the question for a source word, and its first
    translation is what is learnt.
    """
    splits = {
        split: datasets.Dataset.from_dict({"source": [s for s, _ in pairs], "target": [t for _, t in pairs]})
        for split, pairs in (("train", bli.train.pairs), ("test", bli.test.pairs))
    }
    digest = hashlib.sha256(repr((bli.train.pairs, bli.test.pairs, bli.source_words, bli.target_words)).encode())
    return Data(
        name=name,
        task="lexicon",
        splits=splits,
        encode=Encoder(name, splits, {"causal_lm": _questions(bli, splits)}, max_length),
        collate=collate,
        fingerprint=digest.hexdigest(),
        source=source,
        extra={"wcs": bli},
    )


def _questions(bli: Bli, splits: dict[str, datasets.Dataset]) -> Callable[[str, LoadedModel, int | None], Features]:
    def features(split: str, model: LoadedModel, limit: int | None) -> Features:
        from .prompting import question

        rows = splits[split]
        asked = token_ids(model, [question(word, bli.source, bli.target) for word in rows["source"]])
        told = token_ids(model, [f" {word}" for word in rows["target"]], special=False)
        end = getattr(model.tokenizer, "eos_token_id", None)
        return causal_features(asked, [ids + ([] if end is None else [end]) for ids in told], limit)

    return features


def _planted(cfg: WcsPlantedData) -> Data:
    import numpy as np

    from .planted import planted_languages

    if cfg.test_rows >= cfg.words:
        raise ConfigError(f"data.test_rows: got {cfg.test_rows}, expected less than data.words={cfg.words}")
    planted = planted_languages(cfg.words, cfg.dim, noise=cfg.noise, seed=cfg.seed)
    chosen = set(np.random.default_rng(cfg.seed).permutation(cfg.words)[: cfg.test_rows].tolist())
    pairs = list(planted.dictionary.pairs)
    train = Dictionary(tuple(p for i, p in enumerate(pairs) if i not in chosen))
    test = Dictionary(tuple(p for i, p in enumerate(pairs) if i in chosen))
    bli = Bli(train, test, "source", "target", planted.source.words, planted.target.words)
    return of_dictionaries("planted", bli, source=f"made by fascicle_wcs, seed {cfg.seed}")


def _read(cfg: WcsData, path: str, key: str) -> Dictionary:
    return read_dictionary(_file(path, key), columns=cfg.columns, lower=cfg.lower)


def _first(dictionary: Dictionary, words: int | None) -> Dictionary:
    return dictionary if words is None else dictionary.first(words)


def _file(path: str, key: str) -> Path:
    found = os.path.expandvars(path)
    if "$" in found:
        raise ConfigError(f"data.{key}: {path} names a variable that is not set; export it, or give the path")
    return Path(found).expanduser()


def _vocabulary(cfg: WcsData, train: Dictionary, test: Dictionary) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = (*train.pairs, *test.pairs)
    sources, targets = ([p[side] for p in pairs] for side in (0, 1))
    if cfg.vocabulary == "dictionary":
        return tuple(dict.fromkeys(sources)), tuple(dict.fromkeys(targets))
    if cfg.vocabulary == "wordfreq":
        from .dictionary import most_frequent

        return (
            tuple(dict.fromkeys(most_frequent(cfg.source, cfg.vocabulary_size))),
            tuple(dict.fromkeys(most_frequent(cfg.target, cfg.vocabulary_size))),
        )
    files = cfg.vocabulary.split(":")
    if len(files) != 2:
        raise ConfigError(
            f"data.vocabulary: got {cfg.vocabulary!r}, expected 'dictionary', 'wordfreq' or SOURCE_FILE:TARGET_FILE"
        )
    first, second = (_words(_file(file, "vocabulary"), cfg.vocabulary_size) for file in files)
    return first, second


def _words(file: Path, size: int) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.vocabulary: {file} cannot be read: {error}") from error
    words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))[:size]
    if not words:
        raise DataError(f"data.vocabulary: {file} holds no words, expected one a line")
    return words
