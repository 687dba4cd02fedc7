"""BC5CDR in PubTator format. The sentences of an abstract are our choice, said below; the format leaves them open."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .document import Document, Relation
from .errors import DocumentError
from .rows import text_of
from .text import document_from_spans

if TYPE_CHECKING:
    import os

    from .text import Span, Splitter

__all__ = ["read_cdr"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Abstract:
    """An abstract of a PubTator file, as far as it is read."""

    pmid: str
    title: str
    where: str
    abstract: str = ""
    mentions: list[tuple[int, int, str, str, str]] = dataclasses.field(default_factory=list)
    """Characters [start, end), words, type, ids."""
    relations: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    """Type and two ids."""

    @property
    def text(self) -> str:
        return f"{self.title} {self.abstract}"


def read_cdr(path: str | os.PathLike[str], splitter: Splitter | None = None) -> list[Document]:
    """BC5CDR in PubTator format: title and abstract, mentions with MeSH ids, and CID relations of chemicals and diseases.

    An entity is an id; a mention of several ids ("A|B") is one of each, a mention without id (-1) an entity of its own. An id that
    only a relation names is an entity without mentions, said in the log. `pairs` are all chemicals with all diseases. Sentences
    are split by [`sentence_splitter`]; where a mention crosses the end of one, the two are one. The title is the PubMed id.

    Args:
        path: of the file.
        splitter: text to the characters (start, end) of its sentences; None: `sentencex` for English.

    Raises:
        DocumentError: a malformed line, with its number, or a mention that is not the text at its place.

    Example:
        >>> import tempfile
        >>> lines = [
        ...     "1|t|Gold hurts.",
        ...     "1|a|It does.",
        ...     "1\\t0\\t4\\tGold\\tChemical\\tD1",
        ...     "1\\t5\\t10\\thurts\\tDisease\\tD2",
        ...     "1\\tCID\\tD1\\tD2",
        ... ]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "cdr.txt")
        ...     _ = path.write_text("\\n".join(lines))
        ...     doc = read_cdr(path)[0]
        >>> doc.text(1), doc.name(0), doc.pairs, doc.relations[0].type
        ('It does.', 'Gold', ((0, 1),), 'CID')
    """
    return [_abstract_document(abstract, splitter) for abstract in _abstracts(Path(path))]


def _abstracts(path: Path) -> list[_Abstract]:
    abstracts: list[_Abstract] = []
    for number, line in enumerate(text_of(path).split("\n"), 1):
        where = f"{path}:{number}"
        line = line.rstrip("\r")  # noqa: PLW2901 - the line without its end
        header = re.match(r"(\d+)\|([ta])\|(.*)", line)
        if header and header[2] == "t":
            abstracts.append(_Abstract(header[1], header[3], where))
        elif line.strip():
            _take(abstracts, header, line, where)
    if not abstracts:
        raise DocumentError(f"{path}: expected abstracts that start with a line <number>|t|<title>, got none")
    return abstracts


def _take(abstracts: Sequence[_Abstract], header: re.Match[str] | None, line: str, where: str) -> None:
    """Add a line to the abstract that it belongs to, the last one."""
    fields = line.split("\t")
    pmid = header[1] if header else fields[0]
    if not abstracts or abstracts[-1].pmid != pmid:
        raise DocumentError(f"{where}: expected a line <number>|t|<title> of document {pmid!r} before this one")
    last = abstracts[-1]
    if header:
        last.abstract = header[3]
    elif len(fields) == 4:
        last.relations.append((fields[1], fields[2], fields[3]))
    elif len(fields) in (6, 7) and fields[1].isdecimal() and fields[2].isdecimal():
        start, end = int(fields[1]), int(fields[2])
        if last.text[start:end] != fields[3] or not fields[3].strip():
            raise DocumentError(
                f"{where}: document {pmid}: characters {start} to {end}: expected {fields[3]!r}, "
                f"the text has {last.text[start:end]!r}; title and abstract are one blank apart"
            )
        last.mentions.append((start, end, fields[3], fields[4], fields[5]))
    else:
        raise DocumentError(
            f"{where}: document {pmid}: expected number, start, end, mention, type, id or number, relation, id, id "
            f"between tabs, got {line[:60]!r}"
        )


def _abstract_document(abstract: _Abstract, splitter: Splitter | None) -> Document:
    entities: dict[str, list[tuple[Span, str, str]]] = {}
    types: dict[str, str] = {}
    for i, (start, end, name, kind, ids) in enumerate(abstract.mentions):
        for mesh in [f"mention {i}"] if ids == "-1" else ids.split("|"):
            entities.setdefault(mesh, []).append(((start, end), kind, name))
            types.setdefault(mesh, kind)
    for _, head, tail in abstract.relations:
        for mesh, kind in ((head, "Chemical"), (tail, "Disease")):
            if mesh not in entities:
                logger.warning(
                    "%s: document %s: no mention of %s, which a relation names", abstract.where, abstract.pmid, mesh
                )
                entities[mesh], types[mesh] = [], kind
    number = {mesh: e for e, mesh in enumerate(entities)}
    doc = document_from_spans(abstract.text, entities.values(), title=abstract.pmid, splitter=splitter)
    return Document(
        doc.title,
        doc.sentences,
        doc.entities,
        [Relation(number[head], number[tail], kind) for kind, head, tail in abstract.relations],
        [(number[c], number[d]) for c in entities if types[c] == "Chemical" for d in entities if types[d] == "Disease"],
        doc.trailing,
    )
