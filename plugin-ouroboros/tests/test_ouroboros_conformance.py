"""The rules of the house that every plugin keeps; its experiments run small, on rows written here."""

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
    """A few questions in the format of GSM8K."""
    folder = Path(_FOLDER.name)
    for name, start in (("train", 0), ("test", 50)):
        rows = [{"question": f"What is {n} and {n + 2}?", "answer": str(2 * n + 2)} for n in range(start, start + 8)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


class TestOuroboros(PluginConformance):
    plugin = "ouroboros"
    project = Path(__file__).parents[1]
    required: ClassVar[Mapping[str, Sequence[str]]] = {
        "evaluation=ouroboros_acceptance": ("training=ouroboros_draft", "training.layers=1", "model=tiny_causal_lm")
    }
    smoke: ClassVar[Mapping[str, Sequence[str]]] = {
        "ouroboros_quickstart": (
            "model=tiny_causal_lm",
            "evaluation.rows=2",
            "evaluation.max_new_tokens=8",
            "decoding.min_new_tokens=8",
        ),
        "ouroboros_draft": (
            "model=tiny_causal_lm",
            "model.layers=4",
            f"data.sources=[folder:{_small_data()}]",
            "data.chat=false",
            "data.train_rows=4",
            "data.eval_rows=2",
            "training.layers=2",
            "training.new_tokens=4",
            "training.epochs=1",
            "evaluation.max_new_tokens=4",
            "evaluation.repeats=1",
        ),
    }
