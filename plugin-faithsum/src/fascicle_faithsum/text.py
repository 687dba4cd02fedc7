"""Text as the metrics see it: normal form, tokens and sentences. Light: no torch.

Our choice of rules. They undo what rated summaries of news are known to carry (escaped apostrophes, LaTeX quotes, spaces
around full stops, no space between sentences), because a metric that reads these as words measures the tokeniser of a
summarizer. Sentences come from `sentencex`, a rule-based splitter that knows abbreviations; its version belongs into the
provenance of a score.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from importlib.metadata import version
from itertools import groupby, pairwise

import sentencex

from .errors import MetricError

__all__ = [
    "checked",
    "normalize",
    "provenance",
    "sentence_spans",
    "sentence_tokens",
    "sentences",
    "token_spans",
    "tokens",
]

RULES = 1
"""Raised whenever a rule below changes: scores of different rules must not be compared."""

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003134f"
"""Scripts without spaces between words: a character is a token. (Korean is written with spaces.)"""

_REPLACEMENTS = (
    (re.compile(r"\\+(?=['\"`])"), ""),  # it\'s
    (re.compile(r"``|''|[“”„«»]"), '"'),
    (re.compile(r"[`‘’‛´]"), "'"),
    (re.compile(r"-lrb-", re.IGNORECASE), "("),
    (re.compile(r"-rrb-", re.IGNORECASE), ")"),
    (re.compile(r"[\u00ad\u200b\u200c\u200d\u2060\ufeff]"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<=\w) (?=n't\b|'(?:s|re|ve|ll|d|m)\b)", re.IGNORECASE), ""),  # did n't, bear 's
    (re.compile(r" +(?=[.,;:!?%)\]](?:\s|$))"), ""),  # home . the
    (re.compile(r"(?<=[(\[$£€]) +"), ""),  # £ 12,000
    (re.compile(r'(?<!\S)" +([^"]*?) *"'), r'"\1"'),  # `` no ''
    (re.compile(r"(?<=[a-z0-9)\"'][.!?])(?=[A-Z][a-z])"), " "),  # over.The
    (re.compile(r"(?<=[a-z][.!?][\"'])(?=[A-Z])"), " "),  # over."The
)

_GLUED = re.compile(r"(?<=[a-z][a-z][.!?])(?=[A-Z][a-z])|(?<=[a-z][a-z][.!?][\"'”’])(?=[A-Z])")
_SPACED_STOP = re.compile(r"(?<=\s)[.!?](?:\s*(?:''|[\"'”’]))?\s+(?=\S)")


def checked(text: object, what: str, position: int | None = None) -> str:
    """`text`, if it is a string.

    Raises:
        MetricError: it is not.

    >>> checked("a", "source")
    'a'
    """
    if not isinstance(text, str):
        where = "" if position is None else f" {position}"
        raise MetricError(
            f"{what}{where}: expected a string, got {type(text).__name__}; join lists of sentences with a space first"
        )
    return text


def normalize(text: str) -> str:
    r"""One form for texts that say the same: NFKC, plain quotes, no escapes, no spaces before stops, a space between sentences.

    >>> normalize("it\\'s ``over'' , he did n't say . Full\u00a0stop.Then")
    'it\'s "over", he didn\'t say. Full stop. Then'
    """
    text = unicodedata.normalize("NFKC", text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text.strip()


def sentence_spans(text: str, language: str = "en") -> list[tuple[int, int]]:
    """Half-open character spans of the sentences of the text as it is, in order, without gaps.

    The space after a sentence is its own. A stop between spaces ends a sentence also before a small letter, and `over.The`
    is two sentences.

    Args:
        text: any text.
        language: ISO 639 code that `sentencex` knows; decides which abbreviations do not end a sentence.

    >>> [("The U.S. army came. It won.")[a:b] for a, b in sentence_spans("The U.S. army came. It won.")]
    ['The U.S. army came. ', 'It won.']
    >>> sentence_spans("   ")
    []
    """
    if not text.strip():
        return []
    edges = {0, len(text)}
    at = 0
    for piece in sentencex.segment(language, text):  # the pieces join to the text
        at = text.index(piece, at) + len(piece)
        edges.add(at)
    edges.update(m.start() for m in _GLUED.finditer(text))
    edges.update(m.end() for m in _SPACED_STOP.finditer(text))
    spans: list[tuple[int, int]] = []
    for start, end in pairwise(sorted(edges)):
        if any(c.isalnum() for c in text[start:end]) or not spans:
            spans.append((start, end))
        else:  # a stray quote or blank belongs to the sentence before
            spans[-1] = (spans[-1][0], end)
    if len(spans) > 1 and not any(c.isalnum() for c in text[slice(*spans[0])]):
        spans[:2] = [(0, spans[1][1])]
    return spans


def sentences(text: str, language: str = "en") -> list[str]:
    """The sentences, each in its normal form ([`normalize`]); none for blank text.

    >>> sentences("sugar bear was home . he did n't ring .")
    ['sugar bear was home.', "he didn't ring."]
    """
    return [found for start, end in sentence_spans(text, language) if (found := normalize(text[start:end]))]


@lru_cache(maxsize=1)
def _token_pattern() -> re.Pattern[str]:
    """Words with their combining marks, numbers with inner stops, single CJK characters, single pictographs."""
    marks = [
        c for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc") and not 0xFE00 <= c <= 0xFE0F
    ]
    runs = [[c for _, c in run] for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0])]
    mark = "".join(f"\\u{run[0]:04x}-\\u{run[-1]:04x}" for run in runs)
    word = rf"(?:(?![{CJK}])[^\W_]|[{mark}]|(?<=\d)[.,](?=\d))+"
    pictograph = "[\u2190-\u2bff\U0001f000-\U0001faff]"
    return re.compile(f"[{CJK}]|{word}|{pictograph}")


def token_spans(text: str) -> list[tuple[int, int]]:
    """Half-open character spans of the tokens of a text as it is.

    >>> token_spans("In 1,000 days")
    [(0, 2), (3, 8), (9, 13)]
    """
    return [m.span() for m in _token_pattern().finditer(text)]


def _tokens(normal: str) -> list[str]:
    return _token_pattern().findall(normal.lower())


def tokens(text: str) -> list[str]:
    """The lower-cased tokens of the normal form; a text of nothing but marks gives its marks, so that only blank text has none.

    >>> tokens("The U.S. paid $1,000.50 for 日本 ; it\\\\'s 5 %")
    ['the', 'u', 's', 'paid', '1,000.50', 'for', '日', '本', 'it', 's', '5']
    >>> tokens("?!"), tokens(" ")
    (['?', '!'], [])
    """
    normal = normalize(text)
    return _tokens(normal) or [c for c in normal if not c.isspace()]


def sentence_tokens(text: str, language: str = "en") -> list[list[str]]:
    """Tokens by sentence; empty for blank text only.

    >>> sentence_tokens("He won. She too.")
    [['he', 'won'], ['she', 'too']]
    """
    found = [words for sentence in sentences(text, language) if (words := _tokens(sentence))]
    if found:
        return found
    marks = tokens(text)
    return [marks] if marks else []


def provenance() -> dict[str, str]:
    """What decides tokens and sentences besides the text; store it beside scores.

    >>> sorted(provenance())
    ['python', 'sentencex', 'text_rules', 'unicode']
    """
    return {
        "text_rules": str(RULES),
        "sentencex": version("sentencex"),
        "unicode": unicodedata.unidata_version,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
