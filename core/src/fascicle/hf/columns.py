"""Columns of a task made from those of a source: joined sentences, several references, prompts from a template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .readers import Table

if TYPE_CHECKING:
    from .data_options import HfPrompts

__all__ = ["joined_texts", "prompt_table", "several_texts"]


def joined_texts(table: Table, column: str, key: str) -> list[str]:
    """A column of texts, or of lists of sentences joined by spaces.

    >>> joined_texts(Table("a.json", {"d": ["one", ["two", "three"]]}), "d", "data.document_column")
    ['one', 'two three']
    """
    values = table.column(column, key)
    return [
        " ".join(v) if isinstance(v, list) and all(isinstance(s, str) for s in v) else _one(table, row, column, key)
        for row, v in enumerate(values)
    ]


def _one(table: Table, row: int, column: str, key: str) -> str:
    value = table.column(column, key)[row]
    if not isinstance(value, str):
        raise DataError(
            f"{table.where(row)}: {key}={column}: expected text, got {str(value)[:60]!r} ({type(value).__name__})"
        )
    return value


def several_texts(table: Table, column: str, key: str) -> list[list[str]]:
    """A column of texts, or of lists of texts of which each counts.

    >>> several_texts(Table("a.json", {"s": ["one", ["two", "three"]]}), "s", "data.summary_column")
    [['one'], ['two', 'three']]
    """
    out = []
    for row, value in enumerate(table.column(column, key)):
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{table.where(row)}: {key}={column}: expected a text or a list of texts, got {str(value)[:60]!r}"
            )
        out.append(texts)
    return out


def prompt_table(table: Table, options: HfPrompts, split: str) -> Table:
    """The columns `prompt`, `completion` and `references` added; rows with one prompt joined, if so wanted.

    >>> from fascicle.hf.data_options import HfPrompts
    >>> options = HfPrompts(sources=["a.csv"], template="{q}=", completion_column="a")
    >>> prompt_table(Table("a.csv", {"q": ["1+1"], "a": ["2"]}), options, "test").columns["references"]
    [['2']]
    """
    prompts = (
        _templated(table, options.template)
        if options.template
        else table.texts(options.prompt_column, "data.prompt_column")
    )
    for row, prompt in enumerate(prompts):
        if not prompt.strip():
            raise DataError(f"{table.where(row)}: the prompt is empty, got {prompt!r}")
    columns: dict[str, list[Any]] = {**table.columns, "prompt": list(prompts)}
    if options.completion_column is not None:
        columns["completion"] = list(table.texts(options.completion_column, "data.completion_column"))
    right = options.references_column or options.completion_column
    if right is not None:
        key = "data.references_column" if options.references_column else "data.completion_column"
        columns["references"] = several_texts(table, right, key)
    made = Table(table.origin, columns, table.lines, table.files)
    if not options.group_references or split == "train":
        return made
    if "references" not in columns:
        raise DataError(
            "data.group_references=true: there is nothing to group; set data.references_column or data.completion_column"
        )
    groups: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(row)
    grouped = made.take([rows[0] for rows in groups.values()])
    grouped.columns["references"] = [
        [text for row in rows for text in columns["references"][row]] for rows in groups.values()
    ]
    return grouped


def _templated(table: Table, template: str) -> list[str]:
    """The template filled in for each row; a brace itself is written as two."""
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\})", template)
    if any(brace in part for part in parts[::2] for brace in "{}"):
        raise DataError(
            f"data.template={template!r}: a brace is not closed; column names stand in braces, and a brace itself is written as two"
        )
    names = {part: part[1:-1] for part in parts[1::2] if part not in ("{{", "}}")}
    values = {part: table.column(name, "data.template") for part, name in names.items()}
    for part, column in values.items():
        for row, value in enumerate(column):
            if not isinstance(value, str | int | float):
                raise DataError(
                    f"{table.where(row)}: data.template needs text or a number for {part}, got {str(value)[:60]!r}"
                )
    fixed = {"{{": "{", "}}": "}"}
    return [
        "".join(str(values[p][row]) if p in values else fixed.get(p, p) for p in parts) for row in range(len(table))
    ]
