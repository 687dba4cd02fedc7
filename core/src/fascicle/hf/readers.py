"""Rows from local files, with their place: whatever is wrong with a row is said with its file and line.

A jsonl has one object per line; a json one list of objects; a csv may quote; a tsv never does (a quote is a quote, as in GLUE's
files); both name their columns in the first line; a txt has one text per line. Parquet is read by `datasets`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..plugins import suggest

if TYPE_CHECKING:
    import datasets

__all__ = ["FORMATS", "Table", "from_dataset", "read_table", "read_tsv"]


@dataclass
class Table:
    """The rows of one split, as columns, and where each came from."""

    origin: str
    """File, or data set and split."""
    columns: dict[str, list[Any]]
    lines: list[int] | None = None
    """Line of each row in its file; None where rows have none."""
    files: list[str] = field(default_factory=list)
    """File of each row, where there are several."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def where(self, row: int) -> str:
        """The place of a row: `train.tsv:17`, or `nyu-mll/glue train, row 16`.

        >>> Table("a.csv", {"x": [1]}, lines=[2]).where(0)
        'a.csv:2'
        """
        origin = self.files[row] if self.files else self.origin
        return f"{origin}, row {row}" if self.lines is None else f"{origin}:{self.lines[row]}"

    def column(self, name: str, key: str) -> list[Any]:
        """One column; `turns.0` is the first entry of the lists in the column `turns`.

        Args:
            name: the column.
            key: the option that names it, for the error.

        Raises:
            DataError: no such column (names the nearest), or a list that is too short.
        """
        if name in self.columns:
            return self.columns[name]
        head, dot, index = name.rpartition(".")
        if not (dot and head in self.columns and index.isdigit()):
            raise DataError(
                f"{key}={name}: {self.origin} has no such column.{suggest(name, self.columns)} Columns: {', '.join(self.columns)}"
            )
        values = []
        for row, value in enumerate(self.columns[head]):
            if not isinstance(value, list) or len(value) <= int(index):
                raise DataError(
                    f"{self.where(row)}: {key}={name} wants entry {index} of a list in {head!r}, got {_short(value)}"
                )
            values.append(value[int(index)])
        return values

    def texts(self, name: str, key: str) -> list[str]:
        """One column, in which every value must be text.

        Raises:
            DataError: no such column, or a value that is not text (said with file and line).
        """
        values = self.column(name, key)
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise DataError(f"{self.where(row)}: {key}={name}: expected text, got {_short(value)}")
        return values

    def take(self, rows: Sequence[int]) -> Table:
        """The rows at these places, in this order."""
        return Table(
            self.origin,
            {name: [values[row] for row in rows] for name, values in self.columns.items()},
            None if self.lines is None else [self.lines[row] for row in rows],
            [self.files[row] for row in rows] if self.files else [],
        )


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def read_table(path: Path, format: str = "auto", key: str = "data.format") -> Table:
    """Read one file.

    Raises:
        DataError: no such file, an unknown format, text that is not UTF-8, a malformed row (with its line), no rows at all.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if format == "auto":
        format = {".ndjson": "jsonl", ".text": "txt"}.get(path.suffix.lower(), path.suffix.lower().removeprefix("."))
    if format not in FORMATS:
        raise DataError(f"{path}: the ending says {format or 'nothing'!r}; set {key} to one of {', '.join(FORMATS)}")
    table = FORMATS[format](path)
    if not len(table):
        raise DataError(f"{path} holds no rows")
    return table


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their end. Only a line feed (or CR LF) ends a line: other separators occur inside texts."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text near line {_bad_line(path)} ({error.reason}); convert the file"
        ) from error


def _bad_line(path: Path) -> int:
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return 1


def _columns(path: Path, rows: list[dict[str, Any]], lines: list[int] | None) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(str(path), {name: [row.get(name) for row in rows] for name in names}, lines)


# ---- the formats ---------------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path) -> Table:
    rows, lines = [], []
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object with named fields, got {_short(row)}")
        rows.append(row)
        lines.append(number)
    return _columns(path, rows, lines)


def _read_json(path: Path) -> Table:
    text = "\n".join(line for _, line in _lines(path))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}; one object per line is format=jsonl") from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise DataError(
            f"{path}: expected a list of objects, or an object with exactly one list, got {_short(content)}"
        )
    for index, row in enumerate(content):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {index}: expected an object with named fields, got {_short(row)}")
    return _columns(path, content, None)


def _read_csv(path: Path) -> Table:
    text = (line + "\n" for _, line in _lines(path))
    reader = csv.reader(text, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for fields in reader:
            if fields:
                rows.append(fields)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{start}: not a csv row: {error}; are its quotes closed?") from error
    return _headed(path, rows, lines)


def _read_tsv(path: Path) -> Table:
    return read_tsv(path)


def read_tsv(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read tab-separated rows without quoting.

    Args:
        path: the file.
        columns: names of the columns, where the file has no header.

    Raises:
        DataError: a row with more or fewer fields than columns.
    """
    rows, lines = [], []
    for number, line in _lines(path):
        if line:
            rows.append(line.split("\t"))
            lines.append(number)
    if columns is not None:
        rows, lines = [list(columns), *rows], [0, *lines]
    return _headed(path, rows, lines)


def _headed(path: Path, rows: list[list[str]], lines: list[int]) -> Table:
    if not rows:
        raise DataError(f"{path} holds no rows")
    header = rows[0]
    if len(set(header)) < len(header) or not all(name.strip() for name in header):
        raise DataError(f"{path}:{lines[0]}: the first line must name every column, each differently; got {header}")
    for fields, line in zip(rows[1:], lines[1:], strict=True):
        if len(fields) != len(header):
            raise DataError(f"{path}:{line}: expected {len(header)} fields ({', '.join(header)}), got {len(fields)}")
    return Table(str(path), {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}, lines[1:])


def _read_txt(path: Path) -> Table:
    kept = [(number, line) for number, line in _lines(path) if line.strip()]
    return Table(str(path), {"text": [line for _, line in kept]}, [number for number, _ in kept])


def _read_parquet(path: Path) -> Table:
    import datasets

    try:
        rows = datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
    except Exception as error:  # pyarrow and datasets raise their own
        raise DataError(f"{path}: not a parquet file that can be read: {error}") from error
    return from_dataset(rows, str(path))


def from_dataset(rows: datasets.Dataset, origin: str) -> Table:
    """The rows of a `datasets.Dataset` as a table."""
    return Table(origin, {name: list(rows[name]) for name in rows.column_names})


FORMATS: dict[str, Callable[[Path], Table]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "txt": _read_txt,
}
