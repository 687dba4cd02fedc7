"""The rules of the house that every plugin keeps; its experiments run small, on documents written here."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fascicle.testing import PluginConformance

_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)


def _small_data() -> Path:
    """A few papers, documents as lists of sentences."""
    folder = Path(_FOLDER.name)
    for split in ("train", "dev"):
        rows = [
            {
                "source": [f"the lamp of {n} was sold .", "it was red .", f"Anna found the kite in {n} ."],
                "target": [f"Anna found the kite in {n} ."],
            }
            for n in range(12)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


_TINY = ("model=faithsum_tiny",)
_FILES = (
    "data=faithsum_scitldr",
    f"data.sources=[folder:{_small_data()}]",
    "evaluation.max_new_tokens=4",
    "evaluation.diagnostic_rows=4",
    "training.epochs=1",
)


class TestFaithsum(PluginConformance):
    plugin = "faithsum"
    project = Path(__file__).parents[1]
    required: ClassVar[Mapping[str, Sequence[str]]] = {
        "model=faithsum_guided_bart": ("model.sources=[folder:/nowhere]",),
        "data=faithsum_summaries": ("data.sources=[folder:/nowhere]",),
    }
    smoke: ClassVar[Mapping[str, Sequence[str]]] = {
        "faithsum_quickstart": (
            "training.epochs=1",
            "data.train_rows=32",
            "data.validation_rows=8",
            "data.test_rows=8",
            "evaluation.max_new_tokens=4",
        ),
        "faithsum_scitldr": (*_TINY, *_FILES),
        "faithsum_xsum": (*_TINY, *_FILES, "decoding.min_new_tokens=0"),
        "faithsum_cnndm": (*_TINY, *_FILES, "decoding.min_new_tokens=0"),
        "faithsum_loradrop": (*_TINY, *_FILES, "training.probe.ratio=0.5", "training.probe.epochs=1"),
    }
