"""The splits of a data set from files or from the hub, parts set aside, rows drawn; before anything is known about a task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..sources import resolve
from .readers import FORMATS, Table, from_dataset, read_table

if TYPE_CHECKING:
    from .data_options import _Files

__all__ = ["USUAL", "Tables", "draw", "hub_splits", "read_tables", "set_aside", "usual_splits"]

logger = logging.getLogger(__name__)

USUAL = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Names under which a split is looked for."""


@dataclass
class Tables:
    """What a source held: one table per split."""

    splits: dict[str, Table]
    name: str
    source: str
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Column to the classes that the data set itself declares."""


def read_tables(options: _Files, kind: str) -> Tables:
    """Read the splits that an option names, or those with usual names.

    Raises:
        SourceError: no source has the data.
        DataError: a split that is named does not exist, no split does, or a file cannot be read.
    """
    resolved = resolve(options.sources, f"data {options.name or kind}", repo_type="dataset")
    wanted = {"train": options.splits.train, "validation": options.splits.validation, "test": options.splits.test}
    class_names: dict[str, list[str]] = {}
    if resolved.path is None:
        hub = hub_splits(resolved.location, options.subset, resolved.revision)
        chosen = usual_splits(list(hub), wanted, resolved.description)
        tables = {split: from_dataset(hub[name], f"{resolved.location} {name}") for split, name in chosen.items()}
        for rows in hub.values():
            class_names |= {name: list(f.names) for name, f in rows.features.items() if hasattr(f, "names")}
    elif resolved.path.is_file():
        named = [name for name, value in wanted.items() if value is not None]
        if named:
            raise DataError(
                f"data.splits.{named[0]}={wanted[named[0]]}: {resolved.path} is one file, which has no splits; "
                "name its folder"
            )
        tables = {options.single_file: read_table(resolved.path, options.format)}
    else:
        tables = _folder_tables(resolved.path, wanted, options.format)
    name = options.name or (resolved.repo_id or Path(resolved.location).stem).rpartition("/")[2]
    if options.subset is not None and options.name is None:
        name = f"{name}-{options.subset}"
    for split, table in tables.items():
        if not len(table):
            raise DataError(f"{table.origin}: the {split} split holds no rows")
    return Tables(tables, name, resolved.description, class_names)


# ---- folders -------------------------------------------------------------------------------------------------------------


def _folder_tables(folder: Path, wanted: Mapping[str, str | None], format: str) -> dict[str, Table]:
    read: dict[tuple[Path, ...], Table] = {}
    tables = {}
    for split, name in wanted.items():
        files = _named(folder, name, split, format) if name is not None else _usual(folder, split, format)
        if files:
            key = tuple(files)
            if key not in read:
                read[key] = _join([read_table(file, format) for file in files], folder)
            tables[split] = read[key]
    if not tables:
        raise DataError(
            f"{folder} holds no split: looked for train, validation (valid, val, dev) and test with one of the endings "
            f"{', '.join(FORMATS)}; it holds {_holds(folder)}; name the files, e.g. data.splits.train=my_file.csv"
        )
    return tables


def _holds(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir())
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _usual(folder: Path, split: str, format: str) -> list[Path]:
    for name in USUAL[split]:
        if files := _files(folder, name, format):
            return files
    return []


def _named(folder: Path, name: str, split: str, format: str) -> list[Path]:
    files = [folder / name] if (folder / name).is_file() else _files(folder, name, format)
    if not files:
        raise DataError(f"data.splits.{split}={name}: {folder} holds no such file; it holds {_holds(folder)}")
    return files


def _files(folder: Path, name: str, format: str) -> list[Path]:
    """The file `name.*`, or the shards `name-*-of-*`, in the folder or its folder `data`."""
    for home in (folder, folder / "data"):
        found = sorted(
            f for f in home.glob(f"{name}.*") if f.is_file() and (format != "auto" or f.suffix[1:].lower() in FORMATS)
        )
        if len(found) > 1:
            raise DataError(
                f"{home} holds several files named {name}: {', '.join(f.name for f in found)}; name one in data.splits"
            )
        if found or (found := sorted(home.glob(f"{name}-*-of-*.*"))):
            return found
    return []


def _join(tables: list[Table], folder: Path) -> Table:
    if len(tables) == 1:
        return tables[0]
    names = list(tables[0].columns)
    for table in tables[1:]:
        if list(table.columns) != names:
            raise DataError(
                f"{table.origin}: its columns ({', '.join(table.columns)}) differ from those of "
                f"{tables[0].origin} ({', '.join(names)})"
            )
    files = [table.origin for table in tables for _ in range(len(table))]
    lines = None if any(t.lines is None for t in tables) else [line for t in tables for line in t.lines or []]
    return Table(str(folder), {name: [v for t in tables for v in t.columns[name]] for name in names}, lines, files)


# ---- the hub -------------------------------------------------------------------------------------------------------------


def hub_splits(location: str, subset: str | None, revision: str | None = None) -> dict[str, Any]:
    """The splits of a data set of the hub (or of a folder laid out like one), as `datasets` reads them.

    Raises:
        DataError: `datasets` cannot read it, e.g. because a subset must be chosen.
    """
    import datasets

    try:
        loaded = datasets.load_dataset(location, subset, revision=revision)
    except Exception as error:  # datasets, pyarrow and the http client raise their own
        detail = str(error).strip() or type(error).__name__
        raise DataError(f"{location}{f' ({subset})' if subset else ''}: datasets cannot read it: {detail}") from error
    return dict(loaded)


def usual_splits(names: Sequence[str], wanted: Mapping[str, str | None], origin: str) -> dict[str, str]:
    """Our split to their name, of those that exist.

    Raises:
        DataError: a split that is named does not exist, or none has a usual name.

    >>> usual_splits(["train", "dev"], {"train": None, "validation": None, "test": "dev"}, "a data set")
    {'train': 'train', 'validation': 'dev', 'test': 'dev'}
    """
    chosen = {}
    for split, name in wanted.items():
        if name is not None and name not in names:
            raise DataError(f"data.splits.{split}={name}: {origin} has no such split; it has {', '.join(names)}")
        found = name or next((usual for usual in USUAL[split] if usual in names), None)
        if found is not None:
            chosen[split] = found
    if not chosen:
        raise DataError(
            f"{origin}: none of its splits ({', '.join(names)}) has a usual name; name them, e.g. data.splits.train={names[0]}"
        )
    return chosen


# ---- parts and samples ---------------------------------------------------------------------------------------------------


def set_aside(
    tables: dict[str, Table], options: _Files, classes: Callable[[Table], Sequence[Hashable]] | None
) -> dict[str, Table]:
    """Set parts of the training rows aside as the splits that are missing, in proportion to the classes.

    Raises:
        DataError: there are no training rows to take from, or too few.
    """
    tables = dict(tables)
    for split, part in (("validation", options.validation_part), ("test", options.test_part)):
        if not part or split in tables:
            continue
        if "train" not in tables:
            raise DataError(f"data.{split}_part={part}: there is no train split to take from")
        train = tables["train"]
        size = round(part * len(train))
        if not 0 < size < len(train):
            raise DataError(
                f"data.{split}_part={part}: of {len(train)} training rows that is {size}; at least one must be on either side"
            )
        chosen = draw(len(train), size, options.sample_seed, classes(train) if classes else None)
        aside = set(chosen)
        tables[split] = train.take(chosen)
        tables["train"] = train.take([row for row in range(len(train)) if row not in aside])
        logger.info("%s: %d of the training rows set aside as %s", train.origin, size, split)
    return tables


def draw(rows: int, size: int | None, seed: int, classes: Sequence[Hashable] | None = None) -> list[int]:
    """`size` row numbers in ascending order, drawn without replacement; with `classes`, in their proportion (largest remainders).

    >>> draw(6, 3, 0, ["a", "a", "a", "a", "b", "b"]) == draw(6, 3, 0, ["a", "a", "a", "a", "b", "b"])
    True
    """
    import numpy as np

    if size is None or size >= rows:
        return list(range(rows))
    rng = np.random.default_rng(seed)
    if classes is None:
        return sorted(int(row) for row in rng.permutation(rows)[:size])
    members: dict[Hashable, list[int]] = {}
    for row, label in enumerate(classes):
        members.setdefault(label, []).append(row)
    names = sorted(members, key=str)
    exact = {name: size * len(members[name]) / rows for name in names}
    take = {name: int(exact[name]) for name in names}
    for name in sorted(names, key=lambda name: (take[name] - exact[name], str(name)))[: size - sum(take.values())]:
        take[name] += 1
    return sorted(int(row) for name in names for row in rng.permutation(members[name])[: take[name]])
