"""Documents from plain text: words, sentences, and where the entities are mentioned. Our choice throughout.

Words are runs of letters and digits, single other signs, and single characters in scripts that are written without blanks.
Sentences are split by `sentencex` (Wikimedia), which knows the abbreviations of many languages; any other splitter can replace it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from .document import Document, Mention
from .errors import DocumentError

__all__ = ["Span", "Splitter", "document_from_spans", "document_from_text", "occurrences", "sentence_splitter", "words"]

Span = tuple[int, int]
"""Characters [start, end) of a text."""
Splitter = Callable[[str], Iterable[Span]]
"""Text to its sentences, in order; together they hold every word."""

# Han, kana and bopomofo; Thai and Lao; Burmese; Khmer.
_NO_BLANKS = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3040, 0x312F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x323AF),
)


@lru_cache(maxsize=4096)
def _kind(char: str) -> str:
    """`" "` blank, `"w"` part of a word, `"+"` a mark that belongs to what it follows, `"1"` a word of its own."""
    category = unicodedata.category(char)
    if char.isspace() or category == "Cc":
        return " "
    if category[0] == "M" or char in "\u200c\u200d":
        return "+"
    if any(low <= ord(char) <= high for low, high in _NO_BLANKS):
        return "1"
    return "w" if char.isalnum() or char == "_" else "1"


def words(text: str) -> list[Span]:
    """Words with their characters; what stands between them is blank.

    >>> text = "Brad's 2 bands, 東京!"
    >>> [text[start:end] for start, end in words(text)]
    ['Brad', "'", 's', '2', 'bands', ',', '東', '京', '!']
    """
    spans: list[Span] = []
    last = " "
    for i, char in enumerate(text):
        kind = _kind(char)
        if kind == "+" and last != " ":
            kind = last
            spans[-1] = spans[-1][0], i + 1
        elif kind == "w" == last:
            spans[-1] = spans[-1][0], i + 1
        elif kind != " ":
            kind = "w" if kind == "+" else kind
            spans.append((i, i + 1))
        last = kind
    return spans


def sentence_splitter(language: str = "en") -> Splitter:
    """The splitter for a language, as an ISO code; `en` also knows the full stops of scripts without blanks.

    >>> [(start, end) for start, end in sentence_splitter()("Dr. Wilk drums. He is good.")]
    [(0, 16), (16, 27)]
    """

    def split(text: str) -> list[Span]:
        import sentencex

        return [
            (found["start_index"], found["end_index"]) for found in sentencex.get_sentence_boundaries(language, text)
        ]

    return split


def occurrences(
    string: str, text: str, spans: Sequence[Span], *, ignore_case: bool = False, whole_words: bool = True
) -> list[Span]:
    """Where a string occurs in a text; occurrences may overlap. A blank in it stands for any blanks.

    Args:
        string: what to look for.
        text: where.
        spans: [`words`] of the text.
        ignore_case: whether capital and small letters are the same.
        whole_words: whether an occurrence must start and end with a word.

    Example:
        >>> text = "Speaker 1: Not Speaker 10, speaker  1."
        >>> occurrences("Speaker 1", text, words(text), ignore_case=True)
        [(0, 9), (27, 37)]
    """
    parts = r"\s+".join(map(re.escape, string.split()))
    if not parts:
        return []
    # A lookahead consumes nothing, so that occurrences may overlap.
    pattern = re.compile(f"(?=({parts}))", re.IGNORECASE if ignore_case else 0)
    found = [match.span(1) for match in pattern.finditer(text)]
    starts, ends = {start for start, _ in spans}, {end for _, end in spans}
    return [(a, b) for a, b in found if not whole_words or (a in starts and b in ends)]


def document_from_text(
    text: str,
    entities: Mapping[str, Sequence[str | Span] | str] | Sequence[str],
    *,
    title: str = "",
    types: Mapping[str, str] | None = None,
    splitter: Splitter | None = None,
) -> Document:
    """A document from a text in which the entities are known by their names or places.

    A string is found wherever it occurs as whole words, in this case of its letters if it does so anywhere, else in any case.
    Mentions of different entities may overlap and nest; a string inside a longer one of the same entity is no mention of its own.
    Where a mention crosses the end of a sentence, the two sentences are one.

    Args:
        text: as it is written; `Document.text` gives its sentences back.
        entities: name to what it is called in the text: strings, characters (start, end), or both; or names only.
        title: names the document in files and reports.
        types: name to type, such as `PER`, for models that use it.
        splitter: text to the characters (start, end) of its sentences; None: [`sentence_splitter`] for English.

    Raises:
        DocumentError: an entity that is not in the text, characters outside it, or a splitter that loses words.

    Example:
        >>> text = "Brad Wilk plays drums. Wilk joined Audioslave."
        >>> doc = document_from_text(text, {"Brad Wilk": ["Brad Wilk", "Wilk"], "Audioslave": [(35, 45)]})
        >>> doc.text(1), doc.name(0), [(m.sentence, m.start, m.end) for m in doc.entities[0]]
        ('Wilk joined Audioslave.', 'Brad Wilk', [(0, 0, 2), (1, 0, 1)])
    """
    spans = words(text)
    named = entities if isinstance(entities, Mapping) else {name: [name] for name in entities}
    found: list[list[tuple[Span, str, str]]] = []
    for name, called in named.items():
        items = [called] if isinstance(called, str) else called
        given = {p for item in items if not isinstance(item, str) for p in _places(item, text, spans, title, name)}
        strings = {p for item in items if isinstance(item, str) for p in _places(item, text, spans, title, name)}
        places = given | {p for p in strings if not any(_inside(p, other) for other in strings | given)}
        if not places:
            raise DocumentError(
                f"document {title!r}: entity {name!r} is not in the text as {called!r:.120}; "
                "give the strings that stand there, or characters (start, end)"
            )
        found.append([(place, (types or {}).get(name, ""), name) for place in sorted(places)])
    return document_from_spans(text, found, title=title, splitter=splitter)


def _inside(a: Span, b: Span) -> bool:
    return a != b and b[0] <= a[0] and a[1] <= b[1]


def _places(item: str | Span, text: str, spans: Sequence[Span], title: str, name: str) -> list[Span]:
    if isinstance(item, str):
        return occurrences(item, text, spans) or occurrences(item, text, spans, ignore_case=True)
    match item:
        case [int(start), int(end)] if 0 <= start < end <= len(text):
            return [(start, end)]
    raise DocumentError(
        f"document {title!r}: entity {name!r}: got {item!r:.60}; expected a list of strings "
        f"or of characters (start, end) with 0 <= start < end <= {len(text)}, the length of the text"
    )


def document_from_spans(
    text: str,
    entities: Iterable[Iterable[tuple[Span, str, str]]],
    *,
    title: str = "",
    splitter: Splitter | None = None,
) -> Document:
    """A document without relations, from mentions that are characters of a text.

    A mention holds every word that it touches. Where it crosses the end of a sentence, the two sentences are one.

    Args:
        text: as it is written.
        entities: for each, its mentions: characters (start, end), type, name.
        title: names the document in files and reports.
        splitter: as for [`document_from_text`].

    Raises:
        DocumentError: a mention without words, or a splitter that loses words.

    Example:
        >>> document_from_spans("Wilk drums.", [[((0, 4), "PER", "Wilk")]]).entities
        ((Mention(sentence=0, start=0, end=1, type='PER', name='Wilk'),),)
    """
    spans = words(text)
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    mentions: list[list[tuple[int, int, str, str]]] = []  # words [first, last) of the text
    for listed in entities:
        mentions.append([])
        for (start, end), kind, name in listed:
            first, last = bisect_right(ends, start), bisect_left(starts, end)
            if first >= last:
                raise DocumentError(f"document {title!r}: characters ({start}, {end}) of {name!r} hold no word")
            mentions[-1].append((first, last, kind, name))
    begins = _sentence_starts(text, spans, splitter or sentence_splitter(), title)
    inside = {k for listed in mentions for first, last, *_ in listed for k in range(first + 1, last)}
    begins = [k for k in begins if k not in inside]
    bounds = list(pairwise([*begins, len(spans)]))
    after = [text[end:start] for (_, end), (start, _) in pairwise([*spans, (len(text), len(text))])]

    def mention(first: int, last: int, kind: str, name: str) -> Mention:
        k = bisect_right(begins, first) - 1
        return Mention(k, first - begins[k], last - begins[k], kind, name)

    return Document(
        title,
        [[text[start:end] for start, end in spans[a:b]] for a, b in bounds],
        [[mention(*one) for one in listed] for listed in mentions],
        trailing=[after[a:b] for a, b in bounds],
    )


def _sentence_starts(text: str, spans: Sequence[Span], splitter: Splitter, title: str) -> list[int]:
    """The number of each sentence's first word; a word belongs to the sentence in which it starts."""
    begins: list[int] = []
    done = 0
    starts = [start for start, _ in spans]
    for start, end in splitter(text):
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        if first > done:
            break
        if first < done:
            raise DocumentError(
                f"document {title!r}: the splitter's sentence ({start}, {end}) starts inside the one before it"
            )
        if last > first:
            begins.append(first)
            done = last
    if done < len(spans):
        raise DocumentError(
            f"document {title!r}: the splitter left out {text[spans[done][0] : spans[done][0] + 40]!r}; "
            "expected sentences (start, end), in order, that together hold every word"
        )
    return begins
