"""DocRED and the corpora of its format, Re-DocRED and DocRED-HWE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .document import Document, Mention, Relation
from .errors import DocumentError
from .rows import At, json_rows, parse_json, text_of

if TYPE_CHECKING:
    import os

__all__ = ["read_docred", "relation_names"]


def read_docred(path: str | os.PathLike[str]) -> list[Document]:
    """DocRED, Re-DocRED and DocRED-HWE: a JSON list of title, sents, vertexSet and labels (which test files lack).

    Empty evidence means that nobody marked any. Relations are the file's ids; [`relation_names`] has their names.

    Raises:
        DocumentError: a malformed file, with document and field, such as `labels[3].h`.

    Example:
        >>> import tempfile
        >>> row = '{"title": "d", "sents": [["Wilk"]], "vertexSet": [[{"name": "Wilk", "pos": [0, 1], "sent_id": 0}]]}'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "test.json")
        ...     _ = path.write_text(f"[{row}]")
        ...     read_docred(path)[0].name(0)
        'Wilk'
    """
    return [_docred(row) for row in json_rows(Path(path))]


def _docred(row: At) -> Document:
    title = row.get("title").text()
    row = At(row.value, f"{row.where} ({title!r})")
    sentences = [sentence.texts() for sentence in row.get("sents").items()]
    entities = [[_docred_mention(m, sentences) for m in entity.items()] for entity in row.get("vertexSet").items()]
    relations = []
    for label in row.maybe("labels", []).items():
        head, tail = (label.get(key).number(0, len(entities) - 1) for key in ("h", "t"))
        evidence = tuple(k.number(0, len(sentences) - 1) for k in label.maybe("evidence", []).items())
        relations.append(Relation(head, tail, label.get("r").text(), evidence or None))
    return Document(title, sentences, entities, relations)


def _docred_mention(mention: At, sentences: Sequence[Sequence[str]]) -> Mention:
    k = mention.get("sent_id").number(0, len(sentences) - 1)
    start, end = mention.get("pos").items(2)
    first = start.number(0, len(sentences[k]) - 1)
    last = end.number(first + 1, len(sentences[k]))
    return Mention(k, first, last, mention.maybe("type", "").text(), mention.maybe("name", "").text())


def relation_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """DocRED's `rel_info.json`: id to name, such as P17 to country.

    Raises:
        DocumentError: not an object of texts.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rel_info.json")
    ...     _ = path.write_text('{"P17": "country"}')
    ...     relation_names(path)
    {'P17': 'country'}
    """
    path = Path(path)
    names = parse_json(path, text_of(path))
    if not isinstance(names, dict):
        raise DocumentError(f"{path}: expected an object of relation ids and names, got {type(names).__name__}")
    return {key: At(name, str(path), key).text() for key, name in names.items()}
