"""DialogRE. The words of a turn and the mentions of an argument are our choice, said below; the format leaves them open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from .document import Document, Mention, Relation
from .rows import At, json_rows
from .text import occurrences, words

if TYPE_CHECKING:
    import os

    from .dialogre_scores import DialoguePair
    from .text import Span

__all__ = ["read_dialogre", "read_dialogre_pairs"]

_UNANSWERABLE = 37


@dataclass(frozen=True, slots=True)
class _Arguments:
    """A pair of a dialogue as the file has it."""

    x: tuple[str, str]
    """Text and type."""
    y: tuple[str, str]
    relations: tuple[tuple[int, str, str], ...]
    """Id, name, trigger."""


def _dialogues(path: Path) -> Iterator[tuple[str, list[str], list[_Arguments]]]:
    for i, row in enumerate(json_rows(path)):
        turns, pairs = At(row.value, row.where, "dialogue").items(2)
        named = [_arguments(At(p.value, row.where, f"pairs[{j}]")) for j, p in enumerate(pairs.items())]
        yield f"{path.stem} {i}", At(turns.value, row.where, "turns").texts(), named


def _arguments(pair: At) -> _Arguments:
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
