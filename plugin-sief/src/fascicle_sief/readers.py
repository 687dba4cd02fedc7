"""Corpora of relations between entities as documents: DocRED, DialogRE, BC5CDR, SciERC; and their parts, split by title.

The formats are those of the published files, each read by its own module. What is wrong with a file is said with the file, the
document and the field. Where a format leaves something open (words of a turn, mentions of an argument, sentences of an abstract),
the choice is ours, said there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .cdr import read_cdr
from .dialogre import read_dialogre
from .docred import read_docred
from .errors import DocumentError, SiefError
from .rows import text_of
from .scierc import read_scierc

if TYPE_CHECKING:
    import os

    from .document import Document

__all__ = ["FORMATS", "format_of", "read", "split_by_title", "split_titles"]

FORMATS: dict[str, Callable[[str | os.PathLike[str]], list[Document]]] = {
    "docred": read_docred,
    "dialogre": read_dialogre,
    "cdr": read_cdr,
    "scierc": read_scierc,
}
"""Name of a format to its reader."""

_FIRST = {"docred": r"\[\s*\{", "dialogre": r"\[\s*\[", "scierc": r"\{", "cdr": r"\d+\|t\|"}


def read(path: str | os.PathLike[str], format: str = "auto") -> list[Document]:
    """Documents of a file in one of [`FORMATS`]; `auto` tells them by how the file starts.

    Raises:
        DocumentError: an unknown format, or a malformed file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "dev.json")
    ...     _ = path.write_text('[{"title": "d", "sents": [], "vertexSet": []}]')
    ...     read(path)[0].title
    'd'
    """
    path = Path(path)
    if format == "auto":
        format = format_of(path)
    if format not in FORMATS:
        raise DocumentError(f"format: got {format!r}, expected auto, {', '.join(FORMATS)}")
    return FORMATS[format](path)


def format_of(path: str | os.PathLike[str]) -> str:
    """The name in [`FORMATS`] that a file starts like.

    Raises:
        DocumentError: it starts like none of them, or cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "dev.json")
    ...     _ = path.write_text('[[["Speaker 1: Hi, Jo."], []]]')
    ...     format_of(path)
    'dialogre'
    """
    path = Path(path)
    start = text_of(path).lstrip()[:200]
    format = next((name for name, pattern in _FIRST.items() if re.match(pattern, start)), "")
    if not format:
        raise DocumentError(
            f"{path}: starts with {start[:30]!r}, which is none of {', '.join(FORMATS)}; name the format"
        )
    return format


def split_titles(titles: Iterable[str], sizes: Sequence[int], seed: int) -> list[frozenset[str]]:
    """Parts of the distinct titles, of these sizes, drawn by the seed; titles beyond the sizes are in no part.

    Raises:
        SiefError: more asked than there are.

    >>> [len(part) for part in split_titles(["a", "b", "c", "a"], [2, 1], seed=0)]
    [2, 1]
    """
    order = sorted(set(titles))
    if min(sizes, default=0) < 0 or sum(sizes) > len(order):
        raise SiefError(f"sizes: got {list(sizes)}, expected at most {len(order)} together, the number of titles")
    random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible draw, no secret
    return [frozenset(order[sum(sizes[:i]) : sum(sizes[: i + 1])]) for i in range(len(sizes))]


def split_by_title(
    documents: Sequence[Document], sizes: Sequence[int], seed: int, titles: Iterable[str] | None = None
) -> list[list[Document]]:
    """Documents in parts by their titles, in their own order; see [`split_titles`].

    Two files that share documents get the same parts by the same `sizes`, `seed` and `titles`.

    Args:
        documents: to split.
        sizes: titles of each part.
        seed: of the draw.
        titles: of all files that are split alike; None: of these documents.

    Raises:
        SiefError: more titles asked than there are.

    Example:
        >>> from fascicle_sief.document import Document
        >>> documents = [Document(title, [], []) for title in "abc"]
        >>> first, second = split_by_title(documents, [2, 1], seed=0)
        >>> len(first), len(second)
        (2, 1)
    """
    parts = split_titles((doc.title for doc in documents) if titles is None else titles, sizes, seed)
    return [[doc for doc in documents if doc.title in part] for part in parts]
