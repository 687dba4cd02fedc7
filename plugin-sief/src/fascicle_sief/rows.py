"""Files of documents as text and as JSON, each value with its place, so that an error names file, document and field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DocumentError

__all__ = ["At", "json_rows", "parse_json", "text_of"]


@dataclass(frozen=True, slots=True)
class At:
    """A value of a JSON file, with its place; what it has not is an error that says where.

    >>> At({"h": 7}, "dev.json: document 0", "labels[3]").get("h").number(0, 4)
    Traceback (most recent call last):
    ...
    fascicle_sief.errors.DocumentError: dev.json: document 0: labels[3].h: expected a number from 0 to 4, got 7
    """

    value: Any
    where: str
    """File and document."""
    field: str = ""

    def wrong(self, expected: str) -> DocumentError:
        """The error that something else was expected here."""
        got = repr(self.value)
        got = got if len(got) <= 60 else got[:57] + "..."
        return DocumentError(f"{self.where}: {self.field or 'the document'}: expected {expected}, got {got}")

    def get(self, key: str) -> At:
        """The value of a key that must be there."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        if key not in self.value:
            raise DocumentError(
                f"{self.where}: {self._inside(key)}: missing; there are {', '.join(map(repr, self.value))}"
            )
        return At(self.value[key], self.where, self._inside(key))

    def maybe(self, key: str, default: Any) -> At:
        """The value of a key, or the default."""
        if isinstance(self.value, dict) and key not in self.value:
            return At(default, self.where, self._inside(key))
        return self.get(key)

    def _inside(self, key: str) -> str:
        return f"{self.field}.{key}" if self.field else key

    def items(self, length: int | None = None) -> list[At]:
        """The items of a list, of this length."""
        if not isinstance(self.value, list) or length not in (None, len(self.value)):
            raise self.wrong("a list" if length is None else f"a list of {length}")
        return [At(value, self.where, f"{self.field}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        """The value, a text."""
        if not isinstance(self.value, str):
            raise self.wrong("text")
        return self.value

    def texts(self) -> list[str]:
        """The value, a list of texts."""
        if isinstance(self.value, list) and all(type(word) is str for word in self.value):
            return self.value
        return [item.text() for item in self.items()]

    def number(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        if type(self.value) is not int or not low <= self.value <= high:
            raise self.wrong(f"a number from {low} to {high}")
        return self.value


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        DocumentError: no such file, or one that cannot be read or is not UTF-8.

    >>> text_of(Path("none.json"))
    Traceback (most recent call last):
    ...
    fascicle_sief.errors.DocumentError: none.json: there is no such file
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DocumentError(f"{path}: there is no such file") from error
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert the file"
        ) from error


def parse_json(path: Path, text: str, line: int = 0) -> Any:
    """The value of a file's text, or of the one line after the first `line` lines.

    Raises:
        DocumentError: no JSON, with the line.

    >>> parse_json(Path("dev.json"), "{'a': 1}", line=6)
    Traceback (most recent call last):
    ...
    fascicle_sief.errors.DocumentError: dev.json:7: not JSON (Expecting property name enclosed in double quotes, column 2)
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}:{error.lineno + line}: not JSON ({error.msg}, column {error.colno})") from error


def json_rows(path: Path) -> list[At]:
    """The entries of a file that is one JSON list.

    Raises:
        DocumentError: another value, an empty list, or a file that cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "dev.json")
    ...     _ = path.write_text('[{"title": "d"}]')
    ...     [row.get("title").text() for row in json_rows(path)]
    ['d']
    """
    rows = parse_json(path, text_of(path))
    if not isinstance(rows, list) or not rows:
        raise DocumentError(
            f"{path}: expected a list of documents, got {'none' if rows == [] else type(rows).__name__}"
        )
    return [At(row, f"{path}: document {i}") for i, row in enumerate(rows)]
