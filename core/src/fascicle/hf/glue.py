"""GLUE's SST-2, MRPC, CoLA and RTE from the original tab-separated files, or from the hub.

The labels of GLUE's test sets are not public, so the development set is both `validation` and `test`, as papers report it.
The files differ: CoLA has no header, MRPC begins with a byte order mark and has bare quotes in its sentences, RTE writes its
labels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..sources import resolve
from .files import Tables, hub_splits
from .readers import Table, from_dataset, read_tsv

if TYPE_CHECKING:
    from .data_options import Glue

__all__ = ["TASKS", "GlueTask", "read_glue"]


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """How one task is stored, and which metric papers report."""

    folder: str
    columns: tuple[str, ...]
    """Columns of the texts, in the file."""
    label: str
    """Column of the label, in the file."""
    names: tuple[str, ...]
    """Classes by id, as on the hub."""
    labels: tuple[str, ...]
    """What the file writes for them."""
    metric: str
    header: tuple[str, ...] | None = None
    """Columns of a file without a header."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Our names of the text columns, which are the hub's."""
        return ("sentence",) if len(self.columns) == 1 else ("sentence1", "sentence2")


TASKS = {
    "sst2": GlueTask(
        folder="SST-2",
        columns=("sentence",),
        label="label",
        names=("negative", "positive"),
        labels=("0", "1"),
        metric="accuracy",
    ),
    "mrpc": GlueTask(
        folder="MRPC",
        columns=("#1 String", "#2 String"),
        label="Quality",
        names=("not_equivalent", "equivalent"),
        labels=("0", "1"),
        metric="accuracy",
    ),
    "cola": GlueTask(
        folder="CoLA",
        columns=("sentence",),
        label="label",
        names=("unacceptable", "acceptable"),
        labels=("0", "1"),
        metric="mcc",
        header=("source", "label", "mark", "sentence"),
    ),
    "rte": GlueTask(
        folder="RTE",
        columns=("sentence1", "sentence2"),
        label="label",
        names=("entailment", "not_entailment"),
        labels=("entailment", "not_entailment"),
        metric="accuracy",
    ),
}


def read_glue(options: Glue) -> Tables:
    """The splits of one task, with columns `sentence` (or `sentence1`, `sentence2`) and `label` (a class name).

    Raises:
        SourceError: no source has GLUE.
        DataError: a file is missing or has a malformed row.
    """
    task = TASKS[options.task]
    resolved = resolve(options.sources, f"data glue {options.task}", repo_type="dataset")
    if resolved.path is None:
        hub = hub_splits(resolved.location, options.task, resolved.revision)
        train, dev = (
            _from_hub(from_dataset(hub[name], f"{resolved.location} {name}"), task) for name in ("train", "validation")
        )
    else:
        train, dev = (_from_file(resolved.path / task.folder / f"{name}.tsv", task) for name in ("train", "dev"))
    return Tables({"train": train, "validation": dev, "test": dev}, options.task, resolved.description)


def _from_file(path: Path, task: GlueTask) -> Table:
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; the folder of GLUE must hold {task.folder}/train.tsv and {task.folder}/dev.tsv"
        )
    table = read_tsv(path, task.header)
    if not len(table):
        raise DataError(f"{path} holds no rows")
    texts = [table.texts(column, "column") for column in task.columns]
    return _renamed(table, task, texts, table.texts(task.label, "column"))


def _from_hub(table: Table, task: GlueTask) -> Table:
    texts = [table.texts(column, "column") for column in task.texts]
    labels = [task.labels[int(i)] if 0 <= int(i) < 2 else str(i) for i in table.column("label", "column")]
    return _renamed(table, task, texts, labels)


def _renamed(table: Table, task: GlueTask, texts: Sequence[list[str]], labels: list[str]) -> Table:
    names = dict(zip(task.labels, task.names, strict=True))
    for row, label in enumerate(labels):
        if label not in names:
            raise DataError(f"{table.where(row)}: the label {label!r} is none of {', '.join(task.labels)}")
    columns: dict[str, list[object]] = {name: list(values) for name, values in zip(task.texts, texts, strict=True)}
    columns["label"] = [names[label] for label in labels]
    return Table(table.origin, columns, table.lines)
