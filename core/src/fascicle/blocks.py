"""Checks report blocks: the promise of `objects.Block`, field by field, so that a page can be drawn without surprises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from .errors import ResultError

if TYPE_CHECKING:
    from .objects import Block, Section

__all__ = ["BLOCK_KINDS", "check_block", "check_section"]


def check_section(section: Section, where: str = "section") -> None:
    """Refuse a section that a report could not draw. `where` leads the message, e.g. `result.json: sections[0]`.

    Raises:
        ResultError: names the field, what was expected and what came.

    >>> from fascicle import Block, Section
    >>> check_section(Section(title="Layers", blocks=[Block(kind="text", data={"text": "All shared."})]))
    >>> check_section(Section(title="Layers", blocks=[Block(kind="text", data={"text": 3})]))
    Traceback (most recent call last):
    ...
    fascicle.errors.ResultError: section.blocks[0] (text): data.text: expected a string, got int 3.
    """
    for name, value in (("title", section.title), ("plugin", section.plugin)):
        if not isinstance(value, str):
            raise ResultError(f"{where}.{name}: expected a string, got {_show(value)}.")
    for index, block in enumerate(section.blocks):
        check_block(block, f"{where}.blocks[{index}]")


def check_block(block: Block, where: str = "block") -> None:
    """Refuse a block whose data is not what its kind promises (see `objects.Block`).

    Raises:
        ResultError: names the field, what was expected and what came.

    >>> from fascicle import Block
    >>> check_block(Block(kind="bars", data={"labels": ["a", "b"], "series": {"g": [1.0, 2.0]}}))
    >>> check_block(Block(kind="bars", data={"labels": ["a", "b"], "series": {"g": [1.0]}}))
    Traceback (most recent call last):
    ...
    fascicle.errors.ResultError: block (bars): data.series['g']: expected 2 numbers, one per label, got 1.
    """
    check = _CHECKS.get(block.kind)
    if check is None:
        raise ResultError(f"{where}: kind: expected one of {', '.join(BLOCK_KINDS)}; got {_show(block.kind)}.")
    where = f"{where} ({block.kind})"
    if not isinstance(block.title, str):
        raise ResultError(f"{where}: title: expected a string, got {_show(block.title)}.")
    if not isinstance(block.data, dict):
        raise ResultError(f"{where}: data: expected a mapping, got {_show(block.data)}.")
    check(_Fields(block.data, f"{where}: data"))


class _Fields:
    """Reads typed fields of one mapping and knows where it stands in the file."""

    def __init__(self, data: dict[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def refuse(self, key: str, expected: str, came: Any) -> ResultError:
        return ResultError(f"{self.where}.{key}: expected {expected}, got {came}.")

    def string(self, key: str, *, optional: bool = False) -> None:
        value = self.data.get(key)
        if not isinstance(value, str) and not (optional and value is None):
            raise self.refuse(key, "a string", _show(value))

    def flag(self, key: str) -> None:
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(key, "true or false", _show(value))

    def strings(self, key: str, length: int | None = None, *, optional: bool = False) -> list[str]:
        value = self.data.get(key)
        if optional and value is None:
            return []
        if not _is_list(value) or not all(isinstance(item, str) for item in value):
            raise self.refuse(key, "a list of strings", _show(value))
        if length is not None and len(value) != length:
            raise self.refuse(key, f"{length} strings", len(value))
        return list(value)

    def numbers(self, key: str, length: int | None = None, *, optional: bool = False, per: str = "") -> int:
        value = self.data.get(key)
        if optional and value is None:
            return 0
        if not _is_list(value) or not all(item is None or _is_number(item) for item in value):
            raise self.refuse(key, "a list of numbers", _show(value))
        if length is not None and len(value) != length:
            raise self.refuse(key, f"{length} numbers{per}", len(value))
        return len(value)

    def indices(self, key: str, size: int) -> None:
        value = self.data.get(key)
        if value is None:
            return
        if not _is_list(value) or not all(_is_index(item, size) for item in value):
            raise self.refuse(key, f"a list of positions from 0 to {size - 1}", _show(value))

    def mappings(self, key: str) -> list[tuple[str, Any]]:
        value = self.data.get(key)
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise self.refuse(key, "a mapping from name to data", _show(value))
        return list(value.items())


def _check_text(f: _Fields) -> None:
    f.string("text")


def _check_table(f: _Fields) -> None:
    width = len(f.strings("columns"))
    f.string("caption", optional=True)
    rows = f.data.get("rows")
    if not _is_list(rows):
        raise f.refuse("rows", "a list of rows", _show(rows))
    for i, row in enumerate(rows):
        if not _is_list(row) or len(row) != width:
            raise f.refuse(f"rows[{i}]", f"a row of {width} cells", _show(row))
        for cell in row:
            if not (cell is None or isinstance(cell, str | bool) or _is_number(cell)):
                raise f.refuse(f"rows[{i}]", "cells that are text, numbers or null", _show(cell))


def _check_bars(f: _Fields) -> None:
    size = len(f.strings("labels"))
    for name, values in f.mappings("series"):
        _Fields({f"series[{name!r}]": values}, f.where).numbers(f"series[{name!r}]", size, per=", one per label")
    f.string("unit", optional=True)
    f.indices("marked", size)


def _check_lines(f: _Fields) -> None:
    for name, line in f.mappings("series"):
        g = _inner(f, name, line)
        size = g.numbers("x")
        g.numbers("y", size)
        g.numbers("low", size, optional=True)
        g.numbers("high", size, optional=True)
        if (line.get("low") is None) != (line.get("high") is None):
            raise g.refuse("low", "low and high together, or neither", "one of them")
    f.string("x_label", optional=True)
    f.string("y_label", optional=True)
    f.flag("log_y")


def _check_heatmap(f: _Fields) -> None:
    rows, columns = len(f.strings("rows")), len(f.strings("columns"))
    values = f.data.get("values")
    if not _is_list(values) or len(values) != rows:
        raise f.refuse("values", f"{rows} rows", f"{len(values)} rows" if _is_list(values) else _show(values))
    for i, row in enumerate(values):
        _Fields({f"values[{i}]": row}, f.where).numbers(f"values[{i}]", columns, per=", one per column")
    f.string("unit", optional=True)
    marked = f.data.get("marked")
    if marked is None:
        return
    if not _is_list(marked) or not all(
        _is_list(cell) and len(cell) == 2 and _is_index(cell[0], rows) and _is_index(cell[1], columns)
        for cell in marked
    ):
        raise f.refuse("marked", f"[row, column] pairs inside {rows} x {columns}", _show(marked))


def _check_scatter(f: _Fields) -> None:
    for name, points in f.mappings("series"):
        g = _inner(f, name, points)
        size = g.numbers("x")
        g.numbers("y", size)
        g.strings("text", size, optional=True)
    f.string("x_label", optional=True)
    f.string("y_label", optional=True)


def _check_spans(f: _Fields) -> None:
    spans = f.data.get("spans")
    f.string("caption", optional=True)
    if not _is_list(spans):
        raise f.refuse("spans", "a list of spans", _show(spans))
    for i, span in enumerate(spans):
        if not isinstance(span, dict):
            raise f.refuse(f"spans[{i}]", "a mapping with text and weight", _show(span))
        g = _Fields(span, f"{f.where}.spans[{i}]")
        g.string("text")
        g.string("label", optional=True)
        weight = span.get("weight")
        if weight is not None and not _is_number(weight):
            raise g.refuse("weight", "a number or null", _show(weight))


_CHECKS: dict[str, Callable[[_Fields], None]] = {
    "text": _check_text,
    "table": _check_table,
    "bars": _check_bars,
    "lines": _check_lines,
    "heatmap": _check_heatmap,
    "scatter": _check_scatter,
    "spans": _check_spans,
}

BLOCK_KINDS: Sequence[str] = tuple(_CHECKS)
"""The kinds of blocks that a report draws."""


def _inner(f: _Fields, name: str, value: Any) -> _Fields:
    if not isinstance(value, dict):
        raise f.refuse(f"series[{name!r}]", "a mapping with x and y", _show(value))
    return _Fields(value, f"{f.where}.series[{name!r}]")


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_index(value: Any, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size


def _show(value: Any) -> str:
    """Type and the beginning of a value, for a message."""
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
