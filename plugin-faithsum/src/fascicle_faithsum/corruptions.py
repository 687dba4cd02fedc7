"""Sentences made unfaithful on purpose, by one small edit each, after FactCC (Kryscinski et al. 2020). Light: no torch.

The rules and word lists are our choice. An edit is aimed at the meaning, by pattern and not by a parser, so a few results
are odd English and a few still follow from the source; what is guaranteed is that the text differs, where it differs, and
that the same random numbers give the same text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .errors import MetricError
from .lexical import STOP_WORDS

__all__ = ["KINDS", "Corruption", "any_corruption", "corrupt", "entities"]


@dataclass(frozen=True)
class Corruption:
    """A changed text and where it was changed."""

    text: str
    kind: str
    start: int
    """First character of the edit in `text`."""
    end: int
    """One past its last; equal to `start` where something was taken away."""
    removed: str
    """What stood there before."""

    @property
    def inserted(self) -> str:
        """What stands there now.

        >>> Corruption("two cats", "number", 0, 3, "three").inserted
        'two'
        """
        return self.text[self.start : self.end]


MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBER_WORDS = (
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "twenty",
    "thirty",
    "fifty",
    "hundred",
)
PRONOUNS = (
    ("he", "she", "they"),
    ("him", "her", "them"),
    ("his", "her", "their"),
    ("himself", "herself", "themselves"),
)
_ANTONYMS = """
    more/less most/least higher/lower highest/lowest high/low larger/smaller large/small big/tiny greater/fewer better/worse
    best/worst good/bad increase/decrease increases/decreases increased/decreased increasing/decreasing improve/worsen
    improves/worsens improved/worsened improving/worsening improvement/deterioration rise/fall rises/falls rose/fell
    risen/fallen gain/loss win/lose wins/loses won/lost success/failure successful/unsuccessful succeeded/failed first/last
    before/after above/below over/under early/late earlier/later fast/slow faster/slower strong/weak stronger/weaker
    easy/difficult easier/harder simple/complex new/old newer/older young/elderly always/never often/rarely all/none many/few
    with/without include/exclude includes/excludes including/excluding accept/reject accepted/rejected accepts/rejects
    agree/disagree agreed/disagreed allow/forbid allowed/forbidden allows/forbids support/oppose supported/opposed
    supports/opposes start/stop started/stopped begin/end began/ended open/closed opened/closed add/remove added/removed
    adds/removes buy/sell bought/sold sent/received send/receive same/different similar/different similarly/differently
    positive/negative possible/impossible able/unable supervised/unsupervised known/unknown local/global public/private
    true/false right/wrong safe/dangerous innocent/guilty alive/dead married/divorced male/female man/woman men/women boy/girl
    father/mother son/daughter brother/sister husband/wife north/south northern/southern east/west eastern/western left/right
    up/down inside/outside major/minor main/minor outperform/underperform outperforms/underperforms
    outperformed/underperformed efficient/inefficient sufficient/insufficient necessary/unnecessary stable/unstable
    robust/fragile deep/shallow sparse/dense linear/nonlinear continuous/discrete encourage/discourage enable/prevent
    enables/prevents confirmed/denied confirms/denies claimed/denied likely/unlikely common/rare important/unimportant
    effective/ineffective accurate/inaccurate
"""
ANTONYMS = tuple(tuple(pair.split("/")) for pair in _ANTONYMS.split())
MODIFIERS = (
    "large-scale",
    "former",
    "anonymous",
    "unpaid",
    "local",
    "12-year-old",
    "award-winning",
    "government-funded",
    "overseas",
    "retired",
    "private",
    "temporary",
    "three-year",
    "untested",
    "manual",
    "Chinese",
    "American",
    "Scottish",
    "seasonal",
)
ADVERBIALS = (
    "for the first time",
    "in the United States",
    "after a two-year delay",
    "according to police",
    "on a single machine",
    "without any supervision",
    "in northern England",
    "despite earlier objections",
    "at no extra cost",
    "in less than a week",
)
AUXILIARIES = (
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "had",
    "can",
    "could",
    "will",
    "would",
    "should",
    "must",
    "may",
    "might",
    "does",
    "do",
    "did",
)

_AUXILIARY = re.compile(rf"\b({'|'.join(AUXILIARIES)})\b(?! not\b)(?!n't)", re.IGNORECASE)
_NEGATION = re.compile(r"\b(cannot\b|can't\b|won't\b|not (?!only\b)|never |no longer )|(?<=[a-z])n't\b", re.IGNORECASE)
_NUMBER = re.compile(
    rf"(?<![\w.,-])\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?![\w-])|(?<![\w.,-])\d+(?:\.\d+)?(?![\w,-]|\.\d)|(?<!-)\b(?:{'|'.join(NUMBER_WORDS)})\b",
    re.IGNORECASE,
)
_DATE = re.compile(rf"\b(?:{'|'.join(m for m in MONTHS if m != 'May')}|{'|'.join(DAYS)})\b|\b(?:1[89]|20)\d\d\b")
_PRONOUN = re.compile(rf"\b(?:{'|'.join(sorted({w for g in PRONOUNS for w in g}))})\b", re.IGNORECASE)
_ANTONYM = re.compile(rf"\b(?:{'|'.join(sorted({w for g in ANTONYMS for w in g}))})\b", re.IGNORECASE)
_ENTITY = re.compile(
    r"\b(?:[A-Z][\w'&-]*[A-Za-z0-9]|[A-Z]\.)(?:(?: of| the| de| van| al)? (?:[A-Z][\w'&-]*[A-Za-z0-9]|[A-Z]\.))*"
)
_WORD = re.compile(r"[A-Za-z][A-Za-z-]{3,}")
_VERBS = """
    outperform improve reduce increase decrease require need contain capture generate learn produce provide predict use lead
    defeat accuse support affect cause show allow enable achieve exceed follow include replace prevent influence determine
    represent depend rely relie run own beat tell meet win sell buy make help join visit
"""
_VERB = re.compile(
    r" (?:(?:has|have|had|is|was|were|are|be|been|will|can|could|would|may) )*(?:not )?"
    r"(?:(?!based |named |need |needed |used |indeed )[a-z]{2,}ed(?: (?:by|to|for|from|with|against|over|on))?"
    rf"|(?:{'|'.join(_VERBS.split())})s?(?: (?:to|on))?|won|told|met|led|sold|bought|made|overcame|taught|held) "
)
_SUBORDINATE = re.compile(
    r"\b(?:that|which|who|whose|when|how|to|be|is|are|was|were|has|have|can|not)\b", re.IGNORECASE
)
_CLAUSE_END = re.compile(
    r"[,;:.!?]|\s(?:and|but|which|who|that|when|while|after|before|because|by|in|on|at|for|with|to|of)\s"
)

Edit = tuple[int, int, str]
"""Half-open span of the sentence, and what is put there."""


def corrupt(
    sentence: str, source: str, rng: random.Random, kind: str, *, pool: Sequence[str] = ()
) -> Corruption | None:
    """The sentence with one edit of the kind; None where the sentence offers no place for it.

    Args:
        sentence: one sentence, cased as written (entities are found by their capitals).
        source: the document, whose other entities and words are what `entity` and `word` put in.
        rng: decides among the places and the replacements.
        kind: one of [`KINDS`]:
            entity: a name becomes another of the source, or of the pool where the source has no other;
            number: a figure or a number word becomes another, years excepted;
            date: a month, weekday or year becomes another;
            pronoun: the third persons among each other;
            negation: put in after an auxiliary, or taken out;
            antonym: a word of a list of 136 pairs;
            role: what stands before and after a verb change places;
            word: a content word becomes another content word of the source;
            modifier: an attribute or an adverbial that nobody said is put in.
        pool: names from elsewhere, for `entity`.

    Raises:
        MetricError: an unknown kind.

    >>> found = corrupt("Anna met Bob in May.", "Anna met Bob. Carl was away.", random.Random(0), "role")
    >>> found.text, found.inserted
    ('Bob met Anna in May.', 'Bob met Anna')
    >>> corrupt("it rains", "it rains", random.Random(0), "number") is None
    True
    """
    if kind not in _EDITS:
        raise MetricError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    edits = _entity(sentence, source, rng, pool) if kind == "entity" else _EDITS[kind](sentence, source, rng)
    found = [
        (start, end, text)
        for start, end, text in edits
        if " ".join((sentence[:start] + text + sentence[end:]).lower().split()) != " ".join(sentence.lower().split())
    ]
    if not found:
        return None
    start, end, text = rng.choice(found)
    return Corruption(sentence[:start] + text + sentence[end:], kind, start, start + len(text), sentence[start:end])


def any_corruption(
    sentence: str, source: str, rng: random.Random, *, kinds: Sequence[str] | None = None, pool: Sequence[str] = ()
) -> Corruption | None:
    """An edit of the first kind that applies, kinds in random order; None where none does.

    Raises:
        MetricError: an unknown kind.

    >>> any_corruption("Prices rose.", "Prices rose.", random.Random(1), kinds=["number", "antonym"]).text
    'Prices fell.'
    """
    wanted = list(KINDS if kinds is None else kinds)
    for kind in rng.sample(wanted, len(wanted)):
        found = corrupt(sentence, source, rng, kind, pool=pool)
        if found is not None:
            return found
    return None


@lru_cache(maxsize=4096)
def entities(text: str) -> tuple[str, ...]:
    """Names by their capitals, in order, each once.

    A capital at the start of a sentence counts only if the word has one inside a sentence, too.

    >>> entities("The BBC asked Tony Blair. Blair said no. Cats slept.")
    ('BBC', 'Tony Blair', 'Blair')
    """
    return tuple(dict.fromkeys(text[start:end] for start, end in _entity_spans(text, text)))


def _entity_spans(sentence: str, source: str) -> list[tuple[int, int]]:
    inner = {w for m in _ENTITY.finditer(source) if not _opens(source, m.start()) for w in m.group().split()}
    spans = []
    for match in _ENTITY.finditer(sentence):
        start, end = match.span()
        if _opens(sentence, start):
            first, _, rest = match.group().partition(" ")
            if first not in inner and not _is_acronym(first):
                if not rest:
                    continue
                if first.lower() in STOP_WORDS:
                    start += len(first) + 1
        if sentence[start:end] in MONTHS or sentence[start:end] in DAYS or sentence[start:end].lower() in STOP_WORDS:
            continue
        spans.append((start, end))
    return spans


def _opens(text: str, start: int) -> bool:
    """Nothing but quotes between `start` and the sentence's beginning."""
    before = text[:start].rstrip(" \"'“‘(")
    return not before or before[-1] in ".!?:\n"


def _is_acronym(word: str) -> bool:
    return len(word) > 1 and sum(c.isupper() for c in word) > 1


def _entity(sentence: str, source: str, rng: random.Random, pool: Sequence[str]) -> list[Edit]:
    spans = _entity_spans(sentence, source + " " + sentence)
    have = {sentence[start:end].lower() for start, end in spans}
    known = " ".join(have)
    others = [e for e in entities(source) if e.lower() not in known and not any(h in e.lower() for h in have)]
    if not others:
        lower = source.lower()
        tried = rng.sample(pool, min(20, len(pool)))
        others = [e for e in tried if e.lower() not in known and e.lower() not in lower]
    return [(start, end, rng.choice(others)) for start, end in spans] if others else []


def _number(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    years = {m.span() for m in _DATE.finditer(sentence)}
    return [(*m.span(), _other_number(m.group(), rng)) for m in _NUMBER.finditer(sentence) if m.span() not in years]


def _other_number(text: str, rng: random.Random) -> str:
    if text[0].isalpha():
        return _cased(text, rng.choice([w for w in NUMBER_WORDS if w != text.lower()]))
    digits = len(text.partition(".")[2])
    value = float(text.replace(",", ""))
    while True:
        factor = rng.choice((0.3, 0.5, 0.7, 1.3, 1.5, 2.0, 3.0))
        other = value * factor + (rng.choice((1, 2, 3)) if value < 5 and not digits else 0)
        written = f"{other:,.{digits}f}" if "," in text else f"{other:.{digits}f}"
        if written != text:
            return written
        value += 1


def _date(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    edits = []
    for match in _DATE.finditer(sentence):
        old = match.group()
        if old.isdigit():
            new = str(int(old) + rng.choice((-12, -7, -3, -2, -1, 1, 2, 3)))
        else:
            new = rng.choice([w for w in (MONTHS if old in MONTHS else DAYS) if w != old])
        edits.append((*match.span(), new))
    return edits


def _pronoun(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    return [
        (*m.span(), _cased(m.group(), rng.choice(_others(m.group().lower(), PRONOUNS))))
        for m in _PRONOUN.finditer(sentence)
    ]


def _antonym(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    return [
        (*m.span(), _cased(m.group(), rng.choice(_others(m.group().lower(), ANTONYMS))))
        for m in _ANTONYM.finditer(sentence)
    ]


def _others(word: str, groups: Iterable[Sequence[str]]) -> list[str]:
    return [w for group in groups if word in group for w in group if w != word]


def _cased(old: str, new: str) -> str:
    return new.capitalize() if old[:1].isupper() else new


def _negation(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    edits: list[Edit] = []
    for match in _NEGATION.finditer(sentence):
        old = match.group().lower()
        new = {"cannot": "can", "can't": "can", "won't": "will"}.get(old, "")
        edits.append((*match.span(), new))
    if edits:
        return edits
    edits = [(m.end(), m.end(), " not") for m in _AUXILIARY.finditer(sentence)]
    if not edits:
        edits = [(m.start(), m.end(), f"{m.group()} do not") for m in re.finditer(r"\b[Ww]e\b(?= [a-z])", sentence)]
    return edits


def _role(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    edits = []
    for match in _VERB.finditer(sentence):
        left_from = max((m.end() for m in _CLAUSE_END.finditer(sentence, 0, match.start())), default=0)
        while left_from < match.start() and sentence[left_from] == " ":
            left_from += 1
        right_end = next((m.start() for m in _CLAUSE_END.finditer(sentence, match.end())), len(sentence))
        left, right = sentence[left_from : match.start()], sentence[match.end() : right_end].rstrip()
        words = len(left.split()), len(right.split())
        if not (0 < words[0] <= 6 and 0 < words[1] <= 6) or left.lower().split()[0] in (
            "we",
            "i",
            "it",
            "they",
            "he",
            "she",
            "this",
        ):
            continue
        if any(STOP_WORDS.issuperset(part.lower().split()) or _SUBORDINATE.search(part) for part in (left, right)):
            continue
        if left_from == 0 and left.split()[0].lower() in STOP_WORDS:
            left = left[0].lower() + left[1:]
        swapped = right + match.group() + left
        if left_from == 0:
            swapped = swapped[0].upper() + swapped[1:]
        edits.append((left_from, match.end() + len(right), swapped))
    return edits


def _content(text: str) -> list[re.Match[str]]:
    return [m for m in _WORD.finditer(text) if m.group().lower() not in STOP_WORDS]


def _ending(word: str) -> str:
    """A rough class of words: what the last letters say."""
    return next((e for e in ("ing", "ed", "ly", "ion", "ive", "al", "s") if word.endswith(e)), "")


def _word(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    have = {m.group().lower() for m in _content(sentence)}
    others: dict[str, list[str]] = {}
    for match in _content(source):
        word = match.group()
        if word.islower() and word not in have:
            others.setdefault(_ending(word), []).append(word)
    return [
        (*m.span(), rng.choice(options))
        for m in _content(sentence)
        if m.group().islower() and (options := others.get(_ending(m.group()), []))
    ]


def _modifier(sentence: str, source: str, rng: random.Random) -> list[Edit]:
    lower = source.lower()
    edits: list[Edit] = []
    words = [w for w in MODIFIERS if w.lower() not in lower]
    if words:
        edits = [
            (m.end(), m.end(), rng.choice(words) + " ")
            for m in re.finditer(r"\b(?:[Tt]he|his|her|their|its|our) (?=[a-z]{4,})", sentence)
        ]
    adverbials = [a for a in ADVERBIALS if a.lower() not in lower]
    ending = re.search(r"\w(?=[.!?\"']*\s*$)", sentence)
    if adverbials and ending:
        edits.append((ending.end(), ending.end(), " " + rng.choice(adverbials)))
    return edits


_EDITS: dict[str, Callable[[str, str, random.Random], list[Edit]]] = {
    "entity": lambda sentence, source, rng: _entity(sentence, source, rng, ()),
    "number": _number,
    "date": _date,
    "pronoun": _pronoun,
    "negation": _negation,
    "antonym": _antonym,
    "role": _role,
    "word": _word,
    "modifier": _modifier,
}
KINDS: tuple[str, ...] = tuple(_EDITS)
"""What [`corrupt`] can do."""
