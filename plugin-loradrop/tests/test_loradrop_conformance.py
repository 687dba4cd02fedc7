"""The rules of the house that every plugin keeps; its experiments run small, on rows written here."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fascicle.testing import PluginConformance

_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)


def _small_data() -> Path:
    """A few rows in the formats of GLUE and E2E."""
    folder = Path(_FOLDER.name)
    (folder / "SST-2").mkdir(exist_ok=True)
    rows = "".join(f"a {'good' if n % 2 else 'bad'} film, part {n} \t{n % 2}\n" for n in range(40))
    for name in ("train", "dev"):
        (folder / "SST-2" / f"{name}.tsv").write_text(f"sentence\tlabel\n{rows}", encoding="utf-8")
    places = "".join(f'"name[Place {n}], area[riverside]",Place {n} is by the river.\n' for n in range(24))
    for name in ("devset", "testset_w_refs"):
        (folder / f"{name}.csv").write_text(f"mr,ref\n{places}", encoding="utf-8")
    return folder


_DATA = _small_data()
_TRAINING = ("training.epochs=1", "training.probe.ratio=0.5", "training.probe.epochs=1", "vars.budget=0.7")


class TestLoradrop(PluginConformance):
    plugin = "loradrop"
    project = Path(__file__).parents[1]
    smoke: ClassVar[Mapping[str, Sequence[str]]] = {
        "loradrop_quickstart": (
            "model=tiny_classifier",
            "model.layers=4",
            "data.train_rows=64",
            "data.test_rows=32",
            *_TRAINING,
        ),
        "loradrop_glue": (
            "model=tiny_classifier",
            "model.layers=4",
            f"data.sources=[folder:{_DATA}]",
            "data.train_rows=32",
            *_TRAINING,
        ),
        "loradrop_e2e": (
            "model=tiny_causal_lm",
            "model.layers=4",
            f"data.folder={_DATA}",
            "evaluation.generate_mrs=2",
            "evaluation.max_new_tokens=4",
            *_TRAINING,
        ),
    }
