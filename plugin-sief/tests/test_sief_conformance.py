"""The rules of the house that every plugin keeps; its experiments run small, on documents written here."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fascicle.testing import PluginConformance

_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)


def _document(number: int) -> dict[str, Any]:
    """In DocRED's format: two people and a town; the first sentence is the evidence."""
    return {
        "title": f"document {number}",
        "sents": [["Ann", "employs", "Bob", "."], ["It", "rained", "."], ["Bob", "left", f"Town{number}", "."]],
        "vertexSet": [
            [{"name": "Ann", "pos": [0, 1], "sent_id": 0, "type": "PER"}],
            [{"name": "Bob", "pos": [at, at + 1], "sent_id": k, "type": "PER"} for k, at in ((0, 2), (2, 0))],
            [{"name": f"Town{number}", "pos": [2, 3], "sent_id": 2, "type": "LOC"}],
        ],
        "labels": [{"h": 0, "t": 1, "r": "P1", "evidence": [0]}, {"h": 1, "t": 2, "r": "P2", "evidence": [2]}],
    }


def _dialogue(number: int) -> list[Any]:
    """In DialogRE's format: three turns and a pair of arguments."""
    turns = ["Speaker 1: This is Ann.", "Speaker 2: Hello!", f"Speaker 1: My boss number {number}."]
    pair = {
        "x": "Speaker 1",
        "y": "Ann",
        "x_type": "PER",
        "y_type": "PER",
        "rid": [8],
        "r": ["per:boss"],
        "t": ["boss"],
    }
    return [turns, [pair]]


def _small_data() -> Path:
    """A few rows in the formats of DocRED and DialogRE."""
    folder = Path(_FOLDER.name)
    (folder / "documents.json").write_text(json.dumps([_document(n) for n in range(12)]), encoding="utf-8")
    for name in ("train", "dev"):
        (folder / f"{name}.json").write_text(json.dumps([_dialogue(n) for n in range(8)]), encoding="utf-8")
    return folder


_DATA = _small_data()
_ONCE = ("model=sief_tiny", "training.epochs=1")
_DOCUMENTS = (f"data.train={_DATA / 'documents.json'}", "data.parts=[6,3,3]", "evaluation.robustness=2")


class TestSief(PluginConformance):
    plugin = "sief"
    project = Path(__file__).parents[1]
    smoke: ClassVar[Mapping[str, Sequence[str]]] = {
        "sief_quickstart": (
            "training.epochs=1",
            "data.train_rows=24",
            "data.validation_rows=12",
            "data.test_rows=12",
            "evaluation.robustness=4",
        ),
        "sief_redocred": (*_ONCE, *_DOCUMENTS),
        "sief_docred_human": (*_ONCE, *_DOCUMENTS),
        "sief_loradrop": (
            *_ONCE,
            "model.base=atlop",
            "training.probe.ratio=0.5",
            "training.probe.epochs=1",
            *_DOCUMENTS,
        ),
        "sief_dialogre": (
            *_ONCE,
            f"data.train={_DATA / 'train.json'}",
            f"data.test={_DATA / 'dev.json'}",
            "data.validation_part=2",
        ),
    }
