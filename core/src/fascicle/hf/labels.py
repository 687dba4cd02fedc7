"""Classes: which there are, in which order, and the id of each row's. A label that is none of them is named with its place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..plugins import suggest

if TYPE_CHECKING:
    from .readers import Table

__all__ = ["class_ids", "class_names", "numbers"]


def class_names(tables: Mapping[str, Table], column: str, declared: Sequence[str] | None) -> list[str]:
    """The classes in the order of their ids: as declared, or what the training rows hold, sorted (numbers as numbers).

    Raises:
        DataError: a label of no usable type, or only one class.

    >>> from fascicle.hf.readers import Table
    >>> class_names({"train": Table("a.csv", {"label": ["10", "9", "10"]})}, "label", None)
    ['9', '10']
    """
    if declared is not None:
        return [str(name) for name in declared]
    table = tables.get("train") or next(iter(tables.values()))
    found = {_text(value, table, row, column) for row, value in enumerate(table.column(column, "data.label_column"))}
    if len(found) < 2:
        raise DataError(
            f"{table.origin}: data.label_column={column} holds only one class ({', '.join(found)}); expected at least two, "
            "or data.label_names to declare them"
        )
    numeric = all(_is_integer(name) for name in found)
    return sorted(found, key=lambda name: (int(name), name) if numeric else name)


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _text(value: Any, table: Table, row: int, column: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise DataError(
        f"{table.where(row)}: data.label_column={column}: expected the name or the id of a class, got {value!r}"
    )


def class_ids(table: Table, column: str, names: Sequence[str], *, declared: bool) -> list[int]:
    """The class id of each row; a label is a class's name, or its id where names are declared.

    Raises:
        DataError: a label outside the classes, with its file and line.

    >>> from fascicle.hf.readers import Table
    >>> class_ids(Table("a.csv", {"label": ["good", "bad"]}), "label", ["bad", "good"], declared=True)
    [1, 0]
    """
    ids = {name: i for i, name in enumerate(names)}
    out = []
    for row, value in enumerate(table.column(column, "data.label_column")):
        text = _text(value, table, row, column)
        if text in ids:
            out.append(ids[text])
        elif declared and _is_integer(text) and 0 <= int(text) < len(names):
            out.append(int(text))
        else:
            whose = (
                "is outside the declared classes"
                if declared
                else "does not occur in the training rows, whose classes are"
            )
            raise DataError(
                f"{table.where(row)}: the label {value!r} {whose} {', '.join(names[:20])}.{suggest(text, names)}"
            )
    return out


def numbers(table: Table, column: str) -> list[float]:
    """The labels of a regression.

    Raises:
        DataError: a label that is no finite number, with its file and line.
    """
    out = []
    for row, value in enumerate(table.column(column, "data.label_column")):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise DataError(f"{table.where(row)}: data.regression=true: expected a number in {column!r}, got {value!r}")
        out.append(number)
    return out
