"""Numbers, names and negations of a summary against its source, with the places that the source does not support. Light: no torch.

Rules of our choice, for English (numbers in digits work in any language). A score is the share of the summary's numbers,
names or negation-bearing sentences that the source supports, and 1 where the summary has none: these find contradictions and do
not praise, so a summary without a name is not wrong about names. None sees who did what to whom.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from .errors import MetricError
from .lexical import STOP_WORDS
from .text import checked, sentence_spans, token_spans

__all__ = ["Claim", "Finding", "entities", "find_entities", "find_numbers", "findings", "negations", "numbers"]

Kind = Literal["number", "entity", "negation"]


@dataclass(frozen=True)
class Claim:
    """Something in a text that a source can support."""

    text: str
    start: int
    """First character, in the text as it was given."""
    end: int
    """Behind the last character."""
    key: tuple[object, ...]
    """What has to agree: value and unit of a number, month and day of a date, lower-cased words of a name."""


@dataclass(frozen=True)
class Finding:
    """A place in a summary that its source does not support."""

    kind: Kind
    text: str
    start: int
    """First character, in the summary as it was given."""
    end: int
    """Behind the last character."""
    reason: str


# ---- numbers -------------------------------------------------------------------------------------------------------------

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SCALES = {
    "hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "mn": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12,
}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?(?![\d,.]*\d)"
_DATES = (
    re.compile(rf"\b{_MONTH} {_DAY}\b", re.IGNORECASE),
    re.compile(rf"(?<![\d.,]){_DAY} (?:of )?{_MONTH}(?!\w)", re.IGNORECASE),
)
_ISO = re.compile(r"(?<!\d)(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?!\d)")
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>(?<![\w)] )(?<![\w)])[-−](?=\d))?"
    rf"(?P<value>\d+(?:[.,]\d+)*|\b(?:{'|'.join(_WORDS)})\b)"
    r"(?:(?:st|nd|rd|th|s)\b)?"
    rf"(?:[ -]?(?P<scale>{'|'.join(sorted(_SCALES, key=len, reverse=True))})\b)?"
    r"(?P<percent>\s?(?:%|percent\b|per cent\b|pc\b)|(?=\s?(?:-|–|to|and)\s?\d[\d.,]*\s?(?:%|percent\b|per cent\b)))?",
    re.IGNORECASE,
)


def _value(text: str) -> float:
    """1,000 and 1000 are one number; a comma that does not part thousands is a decimal comma.

    >>> _value("1,000.5"), _value("3,5"), _value("seven")
    (1000.5, 3.5, 7.0)
    """
    if text.lower() in _WORDS:
        return float(_WORDS.index(text.lower()) + 1)
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        return float(text.replace(",", ""))
    if re.fullmatch(r"\d+,\d+", text):
        return float(text.replace(",", "."))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}", text):
        return float(text.replace(".", ""))
    parts = re.split(r"[.,]", text)  # a version or a time: 1.2.3
    return float(f"{parts[0]}.{''.join(parts[1:])}") if len(parts) > 1 else float(text)


def find_numbers(text: str) -> list[Claim]:
    """Numbers and dates: digits with thousands, decimals, ordinals, scales and percent, the words one to twelve, day and month.

    >>> [c.key for c in find_numbers("On 3 May, $1.5m or 12% of 1,000 fell to two.")]
    [('date', 5, 3), (1500000.0, ''), (12.0, '%'), (1000.0, ''), (2.0, '')]
    """
    found: list[Claim] = []
    taken: list[tuple[int, int]] = []
    for pattern in _DATES:
        for m in pattern.finditer(text):
            month = _MONTHS.index(m["month"].lower()[:3]) + 1
            if all(m.end() <= a or b <= m.start() for a, b in taken):
                found.append(Claim(m.group(), m.start(), m.end(), ("date", month, int(m["day"]))))
                taken.append(m.span())
    for m in _ISO.finditer(text):
        found.append(Claim(m.group(), m.start("month"), m.end("day"), ("date", int(m["month"]), int(m["day"]))))
        taken.append((m.start("month") - 1, m.end("day")))
    for m in _NUMBER.finditer(text):
        if any(a < m.end("value") and m.start("value") < b for a, b in taken):
            continue
        value = _value(m["value"]) * _SCALES.get((m["scale"] or "").lower(), 1.0) * (-1.0 if m["sign"] else 1.0)
        found.append(Claim(m.group(), m.start(), m.end(), (round(value, 9), "" if m["percent"] is None else "%")))
    return sorted(found, key=lambda claim: claim.start)


@lru_cache(maxsize=256)
def _source_numbers(source: str) -> frozenset[tuple[object, ...]]:
    return frozenset(claim.key for claim in find_numbers(source))


def _number_claims(source: str, summary: str) -> Iterator[tuple[Claim, bool]]:
    have = _source_numbers(source)
    for claim in find_numbers(summary):
        if claim.text.lower() == "one" and claim.key not in have:
            continue  # a pronoun more often than a number
        yield claim, claim.key in have


# ---- names ---------------------------------------------------------------------------------------------------------------

_TITLES = frozenset(
    ("mr", "mrs", "ms", "miss", "dr", "sir", "lord", "lady", "president", "prime", "minister", "professor", "prof")
)
_CALENDAR_TEXT = """
    monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
    october november december
"""
_CALENDAR = frozenset(_CALENDAR_TEXT.split())
_LINKS = frozenset(("of", "de", "la", "van", "von", "der", "bin", "al"))


@dataclass(frozen=True)
class _Word:
    text: str
    start: int
    end: int
    first: bool
    """First of its sentence or of a quotation."""

    @property
    def lower(self) -> str:
        return self.text.lower()

    @property
    def capital(self) -> bool:
        return self.text[:1].isupper()

    @property
    def inner_capital(self) -> bool:
        return any(c.isupper() for c in self.text[1:])


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[_Word, ...]:
    found = []
    for start, end in sentence_spans(text):
        first = True
        for a, b in token_spans(text[start:end]):
            word = text[start + a : start + b]
            quoted = text[start + a - 1 : start + a] in ('"', "“", "`", ":") if start + a else False
            found.append(_Word(word, start + a, start + b, first or quoted))
            first = False
    return tuple(found)


def _adjacent(text: str, left: _Word, right: _Word) -> bool:
    between = text[left.end : right.start]
    return not right.first and (between in (" ", "-", "&", " & ", ". ") or between.strip() == "" or between == "-")


def _runs(text: str, words: Sequence[_Word], named: Sequence[bool]) -> list[tuple[_Word, ...]]:
    """Neighbouring names, joined over `of` and the like."""
    runs: list[tuple[_Word, ...]] = []
    i = 0
    while i < len(words):
        if not named[i]:
            i += 1
            continue
        j = i + 1
        while j < len(words) and _adjacent(text, words[j - 1], words[j]):
            linked = words[j].text in _LINKS and j + 1 < len(words) and named[j + 1]
            if not named[j] and not (linked and _adjacent(text, words[j], words[j + 1])):
                break
            j += 1
        run = list(words[i:j])
        while len(run) > 1 and (run[0].lower in _TITLES or (run[0].first and run[0].lower in STOP_WORDS)):
            run.pop(0)
        if not all(w.lower in STOP_WORDS or w.lower in _TITLES for w in run):
            runs.append(tuple(run))
        i = j
    return runs


@dataclass(frozen=True)
class _Names:
    """What a source knows of names."""

    words: tuple[str, ...]
    """All its words, lower-cased."""
    cased: frozenset[str]
    """Words that are capitals inside a sentence and never small, lower-cased."""
    runs: tuple[tuple[str, ...], ...]
    initials: frozenset[str]

    def support(self, name: tuple[str, ...]) -> bool:
        """The words in a row, some words of one longer name in order, or the initials of one."""
        n = len(name)
        if any(self.words[i : i + n] == name for i in range(len(self.words) - n + 1)):
            return True
        if n > 1:
            return any(_subsequence(name, run) for run in self.runs)
        singular = name[0].removesuffix("s")
        return name[0] in self.initials or (
            len(singular) > 1 and (singular in self.words or f"{singular}s" in self.words)
        )


def _subsequence(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)


@lru_cache(maxsize=256)
def _source_names(source: str) -> _Names:
    words = _words(source)
    small = {w.text for w in words if not w.capital}
    cased = frozenset(w.lower for w in words if w.capital and not w.first and w.lower not in small | STOP_WORDS)
    runs = _runs(source, words, [_is_name(w, cased) for w in words])
    plain = tuple(tuple(w.lower for w in run) for run in runs)
    initials = frozenset("".join(w[0] for w in run if w not in _LINKS) for run in plain if len(run) > 1)
    return _Names(tuple(w.lower for w in words), cased, plain, initials)


def _is_name(word: _Word, cased: frozenset[str]) -> bool:
    """A capital inside a sentence, or inside a word; a first word only where the source knows it as a name."""
    if word.lower in _CALENDAR or not word.capital or (len(word.text) == 1 and not word.text.isupper()):
        return word.inner_capital and not word.text[0].isdigit()
    if word.lower in STOP_WORDS and not word.first and len(word.text) > 1:
        return word.text.isupper()
    return word.inner_capital or (word.lower in cased if word.first else len(word.text) > 1)


def find_entities(text: str, source: str | None = None) -> list[Claim]:
    """Names: runs of words with a capital inside a sentence. A text without capitals is truecased by the source.

    Truecasing knows only names of the source, so in a small-lettered text it can show names that are wrongly joined
    (`chris gayle` and `mark evans` to `chris evans`) and no invented ones.

    >>> [c.text for c in find_entities("The University of York hired Ann Lee and GPTs.")]
    ['University of York', 'Ann Lee', 'GPTs']
    """
    known = frozenset[str]() if source is None else _source_names(source).cased
    words = _words(text)
    if any(c.isupper() for c in text):
        named = [_is_name(w, known) for w in words]
        for i in range(len(words) - 1):  # a first word that a name follows
            if words[i].first and words[i].capital and not named[i] and words[i].lower not in STOP_WORDS | _CALENDAR:
                named[i] = named[i + 1] and words[i + 1].capital and text[words[i].end : words[i + 1].start] == " "
    else:
        named = [w.lower in known and w.lower not in _CALENDAR for w in words]
    found = []
    for run in _runs(text, words, named):
        start, end = run[0].start, run[-1].end
        found.append(Claim(text[start:end], start, end, tuple(w.lower for w in run)))
    return found


def _entity_claims(source: str, summary: str) -> Iterator[tuple[Claim, bool]]:
    names = _source_names(source)
    for claim in find_entities(summary, source):
        key = tuple(str(word) for word in claim.key)
        if claim.key and all(word in _TITLES for word in key):
            continue
        yield claim, names.support(key)


# ---- negation ------------------------------------------------------------------------------------------------------------

_CUE = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|can ?not|(?:fails?|failed|refus(?:es?|ed)) to)\b|"
    r"(?<=[a-z])\s?n\\?['’]t\b",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[,;:.!?]|\b(?:but|although|though|however|because|while)\b", re.IGNORECASE)
_CUE_TEXT = """
    didn doesn don isn wasn aren weren hasn haven hadn won wouldn couldn shouldn ain n fail fails failed refuse refuses
    refused without never none nothing neither cannot nobody
"""
_CUE_WORDS = frozenset(_CUE_TEXT.split())


@dataclass(frozen=True)
class _Clause:
    content: frozenset[str]
    negated: frozenset[str]
    """Content words from a cue to the end of its clause."""
    cues: tuple[tuple[int, int], ...]
    """Character spans in the text."""


def _stem(word: str) -> str:
    """Without the endings that change beside `did not`: passes and passed are pass."""
    for ending in ("ies", "ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def _content(text: str) -> frozenset[str]:
    words = (text[a:b].lower() for a, b in token_spans(text))
    return frozenset(_stem(w) for w in words if w not in STOP_WORDS and w not in _CUE_WORDS)


@lru_cache(maxsize=256)
def _clauses(text: str) -> tuple[_Clause, ...]:
    found = []
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        negated: frozenset[str] = frozenset()
        cues = []
        for cue in _CUE.finditer(sentence):
            stop = _CLAUSE_END.search(sentence, cue.end())
            negated |= _content(sentence[cue.end() : stop.start() if stop else len(sentence)])
            cues.append((start + cue.start(), start + cue.end()))
        found.append(_Clause(_content(sentence), negated, tuple(cues)))
    return tuple(found)


def _agree(summary: _Clause, source: _Clause) -> bool:
    """Most of the shared words that either negates, both negate."""
    shared = summary.content & source.content
    either = (summary.negated | source.negated) & shared
    return not either or 2 * len(summary.negated & source.negated & shared) >= len(either)


def _negation_claims(source: str, summary: str, least: float = 0.5) -> Iterator[tuple[Claim, bool]]:
    """Sentences of which the best source sentences share `least` of the content words, where either side has a cue."""
    clauses = _clauses(source)
    for (start, end), mine in zip(sentence_spans(summary), _clauses(summary), strict=True):
        if not mine.content or not clauses:
            continue
        overlap = [len(mine.content & one.content) / len(mine.content) for one in clauses]
        best = max(overlap)
        near = [one for one, share in zip(clauses, overlap, strict=True) if share >= best - 1e-9]
        if best < least or not (mine.cues or any(one.cues for one in near)):
            continue
        a, b = (mine.cues[0][0], mine.cues[-1][1]) if mine.cues else (start, end)
        claim = Claim(summary[a:b], a, b, ("negated" if mine.cues else "affirmed",))
        yield claim, any(_agree(mine, one) for one in near)


# ---- scores --------------------------------------------------------------------------------------------------------------

_CLAIMS = {"number": _number_claims, "entity": _entity_claims, "negation": _negation_claims}


def _share(kind: Kind, source: str, summary: str) -> float:
    if not checked(source, "source").strip():
        raise MetricError("source: expected a text, got a blank one; leave documents without text out")
    if not checked(summary, "summary").strip():
        return 0.0
    supported = [good for _, good in _CLAIMS[kind](source, summary)]
    return sum(supported) / len(supported) if supported else 1.0


def numbers(source: str, summary: str) -> float:
    """Share of the summary's numbers and dates ([`find_numbers`]) that the source has; 1 without numbers, 0 for an empty summary.

    Raises:
        MetricError: a blank source or no text.

    >>> numbers("It sold 1,000 cars on May 3.", "On 3 May it sold 1000 or 2000 cars.")
    0.6666666666666666
    """
    return _share("number", source, summary)


def entities(source: str, summary: str) -> float:
    """Share of the summary's names ([`find_entities`]) that the source has; 1 without names, 0 for an empty summary.

    A name is there if its words stand in a row, are some words of one longer name, or are its initials.

    Raises:
        MetricError: a blank source or no text.

    >>> entities("Yesterday the European Union paid Ann Lee.", "The EU paid Ann Lee and Bob Ray.")
    0.6666666666666666
    """
    return _share("entity", source, summary)


def negations(source: str, summary: str) -> float:
    """Share of sentences that negate what their best source sentence negates, of those where either negates.

    1 where neither does, 0 for an empty summary.

    Raises:
        MetricError: a blank source or no text.

    >>> negations("The plan did not pass the vote.", "The plan passed the vote.")
    0.0
    """
    return _share("negation", source, summary)


def findings(source: str, summary: str) -> list[Finding]:
    """What the source does not support, in the order of the summary; none for an empty summary.

    Raises:
        MetricError: a blank source or no text.

    >>> [(f.kind, f.text) for f in findings("In 2019 Ann Lee won.", "In 2018 they say Bob Ray won.")]
    [('number', '2018'), ('entity', 'Bob Ray')]
    """
    if not checked(source, "source").strip():
        raise MetricError("source: expected a text, got a blank one; leave documents without text out")
    reasons = {
        "number": "the source has no such number",
        "entity": "the source has no such name",
        "negated": "negated here, not in the nearest source sentence",
        "affirmed": "negated in the nearest source sentence, not here",
    }
    kinds: tuple[Kind, ...] = ("number", "entity", "negation")
    found = []
    for kind in kinds:
        for claim, good in _CLAIMS[kind](source, checked(summary, "summary")):
            if not good:
                reason = reasons[str(claim.key[0]) if kind == "negation" else kind]
                found.append(Finding(kind, claim.text, claim.start, claim.end, reason))
    return sorted(found, key=lambda one: (one.start, one.end, one.kind))
