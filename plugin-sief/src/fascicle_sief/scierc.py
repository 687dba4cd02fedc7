"""SciERC in DyGIE's format, a document a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .document import Document, Mention, Relation
from .errors import DocumentError
from .rows import At, parse_json, text_of

if TYPE_CHECKING:
    import os

__all__ = ["read_scierc"]


def read_scierc(path: str | os.PathLike[str]) -> list[Document]:
    """SciERC in DyGIE's format: a JSON object a line with doc_key, sentences, ner, relations and clusters.

    An entity is a cluster, then each span of `ner` that is in none. A relation between spans holds between their entities, with the
    sentences that state it as evidence; one between two mentions of one entity is left out. Spans count the words of the document.

    Raises:
        DocumentError: a malformed line, with its number and field, such as `relations[1][0][4]`.

    Example:
        >>> import tempfile
        >>> line = '{"doc_key": "d", "sentences": [["A", "uses", "B"]], "ner": [[[0, 0, "Method"], [2, 2, "Task"]]], '
        >>> line += '"relations": [[[0, 0, 2, 2, "USED-FOR"]]], "clusters": []}'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "dev.json")
        ...     _ = path.write_text(line)
        ...     read_scierc(path)[0].relations
        (Relation(head=0, tail=1, type='USED-FOR', evidence=(0,), trigger='', incomplete=False),)
    """
    path = Path(path)
    documents = [
        _scierc(At(parse_json(path, line, number - 1), f"{path}:{number}"))
        for number, line in enumerate(text_of(path).split("\n"), 1)
        if line.strip()
    ]
    if not documents:
        raise DocumentError(f"{path}: expected an object on every line, got none")
    return documents


def _scierc(row: At) -> Document:
    title = row.get("doc_key").text()
    row = At(row.value, f"{row.where}: document {title!r}")
    sentences = [sentence.texts() for sentence in row.get("sentences").items()]
    place = [(k, i) for k, words_of in enumerate(sentences) for i in range(len(words_of))]

    def span(first: At, last: At) -> Mention:
        start = first.number(0, len(place) - 1)
        k, i = place[start]
        end = i + last.number(start, start + len(sentences[k]) - i - 1) - start + 1  # a mention stays in its sentence
        return Mention(k, i, end)

    types: dict[Mention, str] = {}
    for listed in row.maybe("ner", []).items():
        for named in listed.items():
            first, last, kind = named.items(3)
            types.setdefault(span(first, last), kind.text())
    clusters = [[span(*ends.items(2)) for ends in cluster.items()] for cluster in row.maybe("clusters", []).items()]
    entities = _disjoint([*clusters, *([alone] for alone in types)])
    number = {mention: e for e, mentions in enumerate(entities) for mention in mentions}
    shown: dict[tuple[int, int, str], list[int]] = {}
    for k, stated in enumerate(row.maybe("relations", []).items()):
        for relation in stated.items():
            a, b, c, d, kind = relation.items(5)
            head, tail = (number.get(span(*ends)) for ends in ((a, b), (c, d)))
            if head is None or tail is None or k >= len(sentences):
                raise relation.wrong(
                    f"two spans that are in ner or clusters, and no more parts than {len(sentences)} sentences"
                )
            if head != tail:
                shown.setdefault((head, tail, kind.text()), []).append(k)
    return Document(
        title,
        sentences,
        [[dataclasses.replace(m, type=types.get(m, "")) for m in mentions] for mentions in entities],
        [Relation(*triple, evidence=tuple(dict.fromkeys(evidence))) for triple, evidence in shown.items()],
    )


def _disjoint(groups: Iterable[Iterable[Mention]]) -> list[list[Mention]]:
    """The groups, each mention in the first that has it only, in the order of the text; empty ones left out."""
    seen: set[Mention] = set()
    disjoint: list[list[Mention]] = []
    for group in groups:
        new = sorted(set(group) - seen, key=lambda m: (m.sentence, m.start, m.end))
        seen.update(new)
        if new:
            disjoint.append(new)
    return disjoint
