"""The rules of the house that every plugin keeps; its experiments run small, on dictionaries and texts written here."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fascicle.testing import PluginConformance

_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)

_WORDS = [f"{a}{b}{c}" for a in ("ba", "do", "ki", "lu", "me") for b in ("n", "r", "s") for c in ("a", "o", "u")]


def _small_data() -> Path:
    """A dictionary in MUSE's format, vectors in word2vec's, and two languages side by side."""
    folder = Path(_FOLDER.name)
    pairs = [f"{word}\t{word[::-1]}" for word in _WORDS]
    (folder / "train.tsv").write_text("\n".join(pairs[:30]) + "\n", encoding="utf-8")
    (folder / "test.tsv").write_text("\n".join(pairs[30:]) + "\n", encoding="utf-8")
    for name, words in (("source", _WORDS), ("target", [word[::-1] for word in _WORDS])):
        rows = [f"{w} {n % 7} {n % 5 - 2} {n % 3} {1 + n % 2}" for n, w in enumerate(words)]
        (folder / f"{name}.vec").write_text("\n".join([f"{len(rows)} 4", *rows]) + "\n", encoding="utf-8")
        (folder / f"{name}.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    lines = [f"The {word} is here.\tDas {word[::-1]} ist da." for word in _WORDS]
    (folder / "texts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


_DATA = _small_data()
_DICTIONARY = (f"data.train={_DATA / 'train.tsv'}", f"data.test={_DATA / 'test.tsv'}")
_VOCABULARY = (*_DICTIONARY, f"data.vocabulary={_DATA / 'source.txt'}:{_DATA / 'target.txt'}")
_LANGUAGE_MODEL = ("model=tiny_causal_lm", "model.layers=2", "model.hidden_size=32", "model.heads=2")
_ONE_BLOCK = ("training.inject.layer=1", "evaluation.inject.layer=1", "evaluation.rows=4", "evaluation.resamples=100")
_SMALL_IDA = ("training.pairs=10", "training.grow_to=14", "training.chunk=6", "training.max_iter=2")


class TestWcs(PluginConformance):
    plugin = "wcs"
    project = Path(__file__).parents[1]
    required: ClassVar[Mapping[str, Sequence[str]]] = {
        "model=wcs_small_lm": ("data=wcs_texts",),
        "data=wcs_planted": ("model=wcs_planted",),
        "data=wcs_dictionary": ("data.train=dictionary.tsv",),
    }
    smoke: ClassVar[Mapping[str, Sequence[str]]] = {
        "wcs_quickstart": ("model.words=200", "model.dim=16", "data.test_rows=40"),
        "wcs_muse": (
            *_DICTIONARY,
            f"model.source={_DATA / 'source.vec'}",
            f"model.target={_DATA / 'target.vec'}",
        ),
        "wcs_wordllama": (
            *_VOCABULARY,
            "model=wcs_static",
            f"model.source={_DATA / 'source.vec'}",
            f"model.target={_DATA / 'target.vec'}",
        ),
        "wcs_layers": (*_DICTIONARY, *_LANGUAGE_MODEL, "evaluation.permutations=10", "evaluation.resamples=10"),
        "wcs_injection": (*_DICTIONARY, *_LANGUAGE_MODEL, *_ONE_BLOCK[1:], "training.states.layers=[1]"),
        "wcs_ida": (*_VOCABULARY, *_LANGUAGE_MODEL, *_ONE_BLOCK, *_SMALL_IDA),
        "wcs_paper_llama2": (*_VOCABULARY, *_LANGUAGE_MODEL, "~model.sources", *_ONE_BLOCK, *_SMALL_IDA),
        "wcs_paper_bloomz": (*_VOCABULARY, *_LANGUAGE_MODEL, "~model.sources", *_ONE_BLOCK, *_SMALL_IDA),
        "wcs_small_lm": (
            f"data.files=[en-de:{_DATA / 'texts.tsv'}]",
            "data.test_rows=5",
            "data.block_length=16",
            "model.vocabulary=320",
            "model.hidden_size=16",
            "model.layers=1",
            "model.heads=2",
            "training.max_steps=2",
            "training.batch_size=4",
        ),
    }
