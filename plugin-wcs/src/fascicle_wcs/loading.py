"""Static vectors as the model of a run. Our choice; the paper uses fastText vectors for reference only."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from fascicle.errors import ConfigError
from fascicle.objects import LoadedModel

from .options import WcsPlantedModel, WcsStatic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fascicle.context import RunContext

    from .options import WcsWordllama
    from .vectors import Vectors

__all__ = ["FixedVectors", "StaticModel", "WordEmbedder", "load"]


@runtime_checkable
class WordEmbedder(Protocol):
    """Gives vectors of words of one side."""

    def vectors(self, side: str, words: Sequence[str] | None) -> Vectors:
        """Vectors of `words`, or of all there are; `side` is `source` or `target`. Words without a vector are left out."""
        ...


@dataclass(frozen=True)
class FixedVectors:
    """Two vocabularies that are what they are."""

    source: Vectors
    target: Vectors

    def vectors(self, side: str, words: Sequence[str] | None) -> Vectors:
        """All words of the side."""
        return self.source if side == "source" else self.target


@dataclass(frozen=True)
class Wordllama:
    """Any word, by its tokens."""

    folder: Path

    def vectors(self, side: str, words: Sequence[str] | None) -> Vectors:
        """Means of the token vectors.

        Raises:
            ConfigError: no words are told; the codebook has none of its own.
        """
        from .wordllama import wordllama_vectors

        if words is None:
            raise ConfigError("data.vocabulary: these vectors embed any word, so the data must say which")
        return wordllama_vectors(words, folder=self.folder, name=side)


class StaticModel(torch.nn.Module):
    """What a run calls its model where there is no network: a holder of vectors without weights."""

    def __init__(self, embedder: WordEmbedder) -> None:
        super().__init__()
        self.embedder = embedder


def load(cfg: WcsStatic | WcsWordllama | WcsPlantedModel, run: RunContext) -> LoadedModel:
    """Vectors of two languages. Answers `fascicle_load_model`.

    Raises:
        VectorError: a file that is missing or malformed.
        SourceError: the wheel is not installed.
    """
    if isinstance(cfg, WcsStatic):
        return _static(cfg)
    if isinstance(cfg, WcsPlantedModel):
        return _planted(cfg)
    from fascicle.sources import resolve

    found = resolve(cfg.sources, "model wcs_wordllama (word vectors)")
    assert found.path is not None
    return _loaded(Wordllama(found.path), cfg.name, found.description, found.fingerprint())


def _static(cfg: WcsStatic) -> LoadedModel:
    from .vectorfiles import read_vectors

    paths = [_path(cfg.source, "source"), _path(cfg.target, "target")]
    source, target = (read_vectors(path, first=cfg.first, lower=cfg.lower) for path in paths)
    digest = hashlib.sha256()
    for vectors in (source, target):
        digest.update("\n".join(vectors.words).encode())
        digest.update(vectors.matrix.tobytes())
    name = cfg.name or f"{paths[0].name.split('.')[0]}+{paths[1].name.split('.')[0]}"
    return _loaded(FixedVectors(source, target), name, f"{cfg.source}, {cfg.target}", digest.hexdigest())


def _planted(cfg: WcsPlantedModel) -> LoadedModel:
    from .planted import planted_languages

    planted = planted_languages(cfg.words, cfg.dim, noise=cfg.noise, seed=cfg.seed)
    digest = hashlib.sha256(planted.source.matrix.tobytes() + planted.target.matrix.tobytes()).hexdigest()
    embedder = FixedVectors(planted.source, planted.target)
    return _loaded(embedder, "planted", f"made by fascicle_wcs, seed {cfg.seed}", digest)


def _loaded(embedder: WordEmbedder, name: str, source: str, fingerprint: str) -> LoadedModel:
    return LoadedModel(
        model=StaticModel(embedder),
        tokenizer=None,
        task="word_vectors",
        name=name,
        source=source,
        fingerprint=fingerprint,
    )


def _path(text: str, key: str) -> Path:
    found = os.path.expandvars(text)
    if "$" in found:
        raise ConfigError(f"model.{key}: {text} names a variable that is not set; export it, or give the path")
    path = Path(found).expanduser()
    if not path.exists():
        raise ConfigError(f"model.{key}: {path} does not exist, expected a file or folder of word vectors")
    return path
