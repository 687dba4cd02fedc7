"""Corpora of relations between entities as documents: DocRED, DialogRE, BC5CDR, SciERC; and their parts, split by title.

The formats are those of the published files. What is wrong with one is said with the file, the document and the field. Where a
format leaves something open (words of a turn, mentions of an argument, sentences of an abstract), the choice is ours, said below.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .document import Document, Mention, Relation
from .errors import DocumentError, SiefError
from .text import document_from_spans, occurrences, words

if TYPE_CHECKING:
    import os

    from .dialogre_scores import DialoguePair
    from .text import Span, Splitter

__all__ = [
    "FORMATS",
    "format_of",
    "read",
    "read_cdr",
    "read_dialogre",
    "read_dialogre_pairs",
    "read_docred",
    "read_scierc",
    "relation_names",
    "split_by_title",
    "split_titles",
    "text_of",
]

logger = logging.getLogger(__name__)

_UNANSWERABLE = 37


@dataclass(frozen=True, slots=True)
class _At:
    """A value of a JSON file, with its place."""

    value: Any
    where: str
    """File and document."""
    field: str = ""

    def wrong(self, expected: str) -> DocumentError:
        got = repr(self.value)
        got = got if len(got) <= 60 else got[:57] + "..."
        return DocumentError(f"{self.where}: {self.field or 'the document'}: expected {expected}, got {got}")

    def get(self, key: str) -> _At:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        if key not in self.value:
            raise DocumentError(
                f"{self.where}: {self._inside(key)}: missing; there are {', '.join(map(repr, self.value))}"
            )
        return _At(self.value[key], self.where, self._inside(key))

    def maybe(self, key: str, default: Any) -> _At:
        if isinstance(self.value, dict) and key not in self.value:
            return _At(default, self.where, self._inside(key))
        return self.get(key)

    def _inside(self, key: str) -> str:
        return f"{self.field}.{key}" if self.field else key

    def items(self, length: int | None = None) -> list[_At]:
        if not isinstance(self.value, list) or length not in (None, len(self.value)):
            raise self.wrong("a list" if length is None else f"a list of {length}")
        return [_At(value, self.where, f"{self.field}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("text")
        return self.value

    def texts(self) -> list[str]:
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


def _json(path: Path, text: str, line: int = 0) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}:{error.lineno + line}: not JSON ({error.msg}, column {error.colno})") from error


def _rows(path: Path) -> list[_At]:
    """The entries of a file that is one JSON list."""
    rows = _json(path, text_of(path))
    if not isinstance(rows, list) or not rows:
        raise DocumentError(
            f"{path}: expected a list of documents, got {'none' if rows == [] else type(rows).__name__}"
        )
    return [_At(row, f"{path}: document {i}") for i, row in enumerate(rows)]


# ---- DocRED --------------------------------------------------------------------------------------------------------------


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
    return [_docred(row) for row in _rows(Path(path))]


def _docred(row: _At) -> Document:
    title = row.get("title").text()
    row = _At(row.value, f"{row.where} ({title!r})")
    sentences = [sentence.texts() for sentence in row.get("sents").items()]
    entities = [[_docred_mention(m, sentences) for m in entity.items()] for entity in row.get("vertexSet").items()]
    relations = []
    for label in row.maybe("labels", []).items():
        head, tail = (label.get(key).number(0, len(entities) - 1) for key in ("h", "t"))
        evidence = tuple(k.number(0, len(sentences) - 1) for k in label.maybe("evidence", []).items())
        relations.append(Relation(head, tail, label.get("r").text(), evidence or None))
    return Document(title, sentences, entities, relations)


def _docred_mention(mention: _At, sentences: Sequence[Sequence[str]]) -> Mention:
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
    names = _json(path, text_of(path))
    if not isinstance(names, dict):
        raise DocumentError(f"{path}: expected an object of relation ids and names, got {type(names).__name__}")
    return {key: _At(name, str(path), key).text() for key, name in names.items()}


# ---- DialogRE ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Arguments:
    """A pair of a dialogue as the file has it."""

    x: tuple[str, str]
    """Text and type."""
    y: tuple[str, str]
    relations: tuple[tuple[int, str, str], ...]
    """Id, name, trigger."""


def _dialogues(path: Path) -> Iterator[tuple[str, list[str], list[_Arguments]]]:
    for i, row in enumerate(_rows(path)):
        turns, pairs = _At(row.value, row.where, "dialogue").items(2)
        named = [_arguments(_At(p.value, row.where, f"pairs[{j}]")) for j, p in enumerate(pairs.items())]
        yield f"{path.stem} {i}", _At(turns.value, row.where, "turns").texts(), named


def _arguments(pair: _At) -> _Arguments:
    x, y = ((pair.get(key).text(), pair.maybe(f"{key}_type", "").text()) for key in ("x", "y"))
    rids = [rid.number(1, _UNANSWERABLE) for rid in pair.get("rid").items()]
    names = [name.text() for name in pair.get("r").items(len(rids))]
    triggers = [trigger.text() for trigger in pair.maybe("t", [""] * len(rids)).items(len(rids))]
    return _Arguments(x, y, tuple(zip(rids, names, triggers, strict=True)))


def read_dialogre(path: str | os.PathLike[str]) -> list[Document]:
    """DialogRE, all versions and languages: a JSON list of [turns, pairs of arguments]. A sentence is a turn, speaker included.

    The entities are the distinct argument texts of a dialogue, in the order of the file. An argument is mentioned where it occurs
    as whole words in any case ("Speaker 1" is not in "Speaker 10: Hi"); if it never does, in the words that hold it; some arguments
    of the published files occur nowhere and have no mention. `pairs` are the pairs of the file, once each: the relations of a
    repeated pair are merged. "unanswerable" is no relation. The title is the file's name and the dialogue's number.

    Raises:
        DocumentError: a malformed file, with document and field, such as `pairs[2].rid[0]`.

    Example:
        >>> import tempfile
        >>> pair = '{"x": "Speaker 1", "y": "Jo", "rid": [9], "r": ["per:friends"], "t": [""], "x_type": "PER", "y_type": "PER"}'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "dev.json")
        ...     _ = path.write_text(f'[[["Speaker 1: Hi, Jo."], [{pair}]]]')
        ...     doc = read_dialogre(path)[0]
        >>> doc.title, doc.text(0), doc.pairs, doc.relations[0].type
        ('dev 0', 'Speaker 1: Hi, Jo.', ((0, 1),), 'per:friends')
    """
    return [_dialogue(title, turns, pairs) for title, turns, pairs in _dialogues(Path(path))]


def _dialogue(title: str, turns: Sequence[str], pairs: Sequence[_Arguments]) -> Document:
    spans = [words(turn) for turn in turns]
    types: dict[str, str] = {}
    for pair in pairs:
        for text, kind in (pair.x, pair.y):
            types.setdefault(text, kind)
    number = {text: e for e, text in enumerate(types)}
    relations: dict[tuple[int, int, str], Relation] = {}
    for pair in pairs:
        head, tail = number[pair.x[0]], number[pair.y[0]]
        for rid, name, trigger in pair.relations:
            known = relations.get((head, tail, name))
            if rid != _UNANSWERABLE and not (known and known.trigger):
                relations[head, tail, name] = Relation(head, tail, name, trigger=trigger)
    return Document(
        title,
        [[turn[a:b] for a, b in found] for turn, found in zip(turns, spans, strict=True)],
        [_argument_mentions(text, kind, turns, spans) for text, kind in types.items()],
        relations.values(),
        dict.fromkeys((number[pair.x[0]], number[pair.y[0]]) for pair in pairs),
        [_trailing(turn, found) for turn, found in zip(turns, spans, strict=True)],
    )


def _trailing(turn: str, spans: Sequence[Span]) -> list[str]:
    return [turn[end:start] for (_, end), (start, _) in pairwise([*spans, (len(turn), len(turn))])]


def _argument_mentions(text: str, kind: str, turns: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Mention]:
    for whole in (True, False):
        mentions = [
            Mention(k, *_touched(place, found), kind, text)
            for k, (turn, found) in enumerate(zip(turns, spans, strict=True))
            for place in occurrences(text, turn, found, ignore_case=True, whole_words=whole)
        ]
        if mentions:
            return list(dict.fromkeys(mentions))
    return []


def _touched(place: Span, spans: Sequence[Span]) -> Span:
    touched = [i for i, (start, end) in enumerate(spans) if start < place[1] and place[0] < end]
    return touched[0], touched[-1] + 1


def read_dialogre_pairs(path: str | os.PathLike[str]) -> list[DialoguePair]:
    """The rows of DialogRE's official evaluation, one for each pair of the file, repeated pairs included.

    `title` and `row` of each say where it stands in the documents of [`read_dialogre`] and their pairs.

    Raises:
        DocumentError: a malformed file, with document and field.

    Example:
        >>> import tempfile
        >>> pair = '{"x": "Speaker 1", "y": "Jo", "rid": [9], "r": ["per:friends"], "t": ["pal"]}'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "dev.json")
        ...     _ = path.write_text(f'[[["Speaker 1: Hi, Jo."], [{pair}]]]')
        ...     row = read_dialogre_pairs(path)[0]
        >>> row.title, row.row, row.rids, row.triggers
        ('dev 0', 0, (9,), ('pal',))
    """
    from .dialogre_scores import DialoguePair

    rows = []
    for title, turns, pairs in _dialogues(Path(path)):
        place = {arguments: i for i, arguments in enumerate(dict.fromkeys((p.x[0], p.y[0]) for p in pairs))}
        for p in pairs:
            rids, triggers = tuple(r[0] for r in p.relations), tuple(r[2] for r in p.relations)
            rows.append(DialoguePair(tuple(turns), p.x[0], p.y[0], rids, triggers, title, place[p.x[0], p.y[0]]))
    return rows


# ---- BC5CDR --------------------------------------------------------------------------------------------------------------


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


# ---- SciERC --------------------------------------------------------------------------------------------------------------


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
        _scierc(_At(_json(path, line, number - 1), f"{path}:{number}"))
        for number, line in enumerate(text_of(path).split("\n"), 1)
        if line.strip()
    ]
    if not documents:
        raise DocumentError(f"{path}: expected an object on every line, got none")
    return documents


def _scierc(row: _At) -> Document:
    title = row.get("doc_key").text()
    row = _At(row.value, f"{row.where}: document {title!r}")
    sentences = [sentence.texts() for sentence in row.get("sentences").items()]
    place = [(k, i) for k, words_of in enumerate(sentences) for i in range(len(words_of))]

    def span(first: _At, last: _At) -> Mention:
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


# ---- any format, and parts -----------------------------------------------------------------------------------------------

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
        >>> documents = [Document(title, [], []) for title in "abc"]
        >>> first, second = split_by_title(documents, [2, 1], seed=0)
        >>> len(first), len(second)
        (2, 1)
    """
    parts = split_titles((doc.title for doc in documents) if titles is None else titles, sizes, seed)
    return [[doc for doc in documents if doc.title in part] for part in parts]
