"""How much of a summary's wording stands in the source: alignment by sentence, n-grams, coverage, density. Light: no torch.

Coverage and density are the extractive fragments of Grusky et al. 2018 (Newsroom); the alignments are our choice. Every
score is in [0, 1] (density alone is not), 1 for identical texts, 0 for texts without a common word, 0 for an empty
summary, and depends on the one source and the one summary only.

All of them reward copying: show them beside [`coverage`] and [`density`]. None sees a role swap, and on summaries that are
written in other words than the source they say next to nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from .errors import MetricError
from .text import checked, sentence_tokens

__all__ = [
    "Idf",
    "coverage",
    "density",
    "fragments",
    "idf_alignment",
    "lcs_length",
    "lcs_precision",
    "log_density",
    "ngram_precision",
    "novel_ngrams",
    "sentence_max_ngram",
]

_STOP_TEXT = """
    a about after all also an and any are as at be because been before being but by can could did do does for
    from had has have he her him his how i if in into is it its just may me might more most my no nor not of off
    on only or other our out over own s same she should so some such t than that the their them then there these
    they this those through to too under until up very was we were what when where which while who whom why will
    with would you your
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())

Sentences: TypeAlias = tuple[tuple[str, ...], ...]


@lru_cache(maxsize=512)
def _analysed(text: str) -> Sentences:
    return tuple(tuple(s) for s in sentence_tokens(text))


def _pair(source: str, summary: str) -> tuple[Sentences, Sentences]:
    """Tokens by sentence of both.

    Raises:
        MetricError: the source is no text or blank, the summary is no text.
    """
    article = _analysed(checked(source, "source"))
    if not article:
        raise MetricError("source: expected a text, got a blank one; leave documents without text out")
    return article, _analysed(checked(summary, "summary"))


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _order(n: int, words: Sequence[str]) -> int:
    """n, or the number of words where there are fewer: one-word sentences have no bigrams.

    Raises:
        MetricError: n is not positive.
    """
    if n < 1:
        raise MetricError(f"n: expected an n-gram order of at least 1, got {n}")
    return min(n, len(words))


@lru_cache(maxsize=2048)
def _grams_by_sentence(article: Sentences, n: int) -> tuple[frozenset[tuple[str, ...]], ...]:
    return tuple(frozenset(_ngrams(s, n)) for s in article)


@lru_cache(maxsize=1024)
def _grams(article: Sentences, n: int) -> frozenset[tuple[str, ...]]:
    return frozenset(_ngrams([w for s in article for w in s], n))


def sentence_max_ngram(source: str, summary: str, n: int = 2) -> float:
    """Mean over summary sentences of the best share of the sentence's n-grams that one source sentence has.

    Args:
        source, summary: texts.
        n: order; a sentence of fewer words is compared whole.

    Raises:
        MetricError: a blank source, no text, n below 1.

    >>> sentence_max_ngram("The cat sat. The dog ran off.", "The dog ran. The cat ran.")  # 1 and 1/2
    0.75
    """
    article, found = _pair(source, summary)
    best = []
    for words in found:
        k = _order(n, words)
        grams = _ngrams(words, k)
        best.append(max(sum(g in have for g in grams) for have in _grams_by_sentence(article, k)) / len(grams))
    return math.fsum(best) / len(best) if best else 0.0


def ngram_precision(source: str, summary: str, n: int = 2) -> float:
    """Share of the summary's n-grams, counted with repetition, that occur anywhere in the source.

    Raises:
        MetricError: a blank source, no text, n below 1.

    >>> ngram_precision("The cat sat on the mat.", "The cat sat down.", n=1)
    0.75
    """
    article, found = _pair(source, summary)
    words = [w for s in found for w in s]
    if not words:
        return 0.0
    k = _order(n, words)
    grams, have = _ngrams(words, k), _grams(article, k)
    return sum(g in have for g in grams) / len(grams)


def novel_ngrams(source: str, summary: str, n: int = 2) -> float:
    """Share of the summary's n-grams that the source does not have, 0 for an empty summary. How abstractive, not how faithful.

    Raises:
        MetricError: a blank source, no text, n below 1.

    >>> novel_ngrams("The cat sat on the mat.", "The cat sat down.", n=1)
    0.25
    """
    return 1.0 - ngram_precision(source, summary, n) if _pair(source, summary)[1] else 0.0


def fragments(source: Sequence[str], summary: Sequence[str]) -> list[tuple[int, int]]:
    """Greedy longest shared fragments (Grusky et al. 2018, figure 2): from left to right, the longest run that the source has too.

    Args:
        source, summary: tokens.

    Returns:
        (start in the summary, length) of each, in order.

    >>> fragments("a b c d".split(), "b c x d a".split())
    [(0, 2), (3, 1), (4, 1)]
    """
    where: dict[str, list[int]] = {}
    for j, word in enumerate(source):
        where.setdefault(word, []).append(j)
    found, i = [], 0
    while i < len(summary):
        longest, starts, length = 0, where.get(summary[i], []), 0
        while starts:  # all starts in the source that agree with summary[i : i + length + 1]
            length += 1
            longest = length
            if i + length == len(summary):
                break
            word = summary[i + length]
            starts = [j for j in starts if j + length < len(source) and source[j + length] == word]
        if longest:
            found.append((i, longest))
        i += max(longest, 1)
    return found


def _lengths(source: str, summary: str) -> tuple[list[int], int]:
    """Fragment lengths and the length of the summary, in tokens."""
    article, found = _pair(source, summary)
    words = [w for s in found for w in s]
    return [f for _, f in fragments([w for s in article for w in s], words)], len(words)


def coverage(source: str, summary: str) -> float:
    """Share of the summary's tokens that lie in extractive fragments, which is its unigram precision.

    Raises:
        MetricError: a blank source or no text.

    >>> coverage("The cat sat on the mat.", "The cat sat down.")
    0.75
    """
    lengths, n = _lengths(source, summary)
    return sum(lengths) / n if n else 0.0


def density(source: str, summary: str) -> float:
    """Mean length of the fragment that a summary token is in: sum of squared lengths over tokens. In [0, tokens], not [0, 1].

    Raises:
        MetricError: a blank source or no text.

    >>> density("The cat sat on the mat.", "The cat sat down.")  # 3^2 / 4
    2.25
    """
    lengths, n = _lengths(source, summary)
    return sum(f * f for f in lengths) / n if n else 0.0


def log_density(source: str, summary: str) -> float:
    """log(1 + density) / log(1 + tokens of the summary), which is in [0, 1]; 1 where the whole summary is one fragment.

    Raises:
        MetricError: a blank source or no text.

    >>> log_density("The cat sat on the mat.", "The cat sat.")
    1.0
    """
    lengths, n = _lengths(source, summary)
    return math.log1p(sum(f * f for f in lengths) / n) / math.log1p(n) if n else 0.0


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits of one integer (Hyyrö 2004).

    >>> lcs_length("abcbdab", "bdcaba")
    4
    """
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    rows = full  # a zero for each step of the last row of the table
    for word in b:
        hit = rows & where.get(word, 0)
        rows = ((rows + hit) | (rows - hit)) & full
    return len(a) - rows.bit_count()


def lcs_precision(source: str, summary: str) -> float:
    """Mean over summary sentences of the best ROUGE-L precision (longest common subsequence) in one source sentence.

    Raises:
        MetricError: a blank source or no text.

    >>> lcs_precision("The big cat sat. A dog ran.", "The cat ran.")
    0.6666666666666666
    """
    article, found = _pair(source, summary)
    best = [max(lcs_length(words, s) for s in article) / len(words) for words in found]
    return math.fsum(best) / len(best) if best else 0.0


@dataclass(frozen=True)
class Idf:
    """Inverse document frequencies that stay fixed: log((documents + 1) / (documents with the word + 0.5)).

    Never fitted on the batch that is scored, or a score would depend on its neighbours.

    >>> table = Idf.fit(["The cat.", "The dog."])
    >>> table("the") < table("cat") < table("emu")
    True
    """

    documents: int
    counts: Mapping[str, int]
    """Number of documents with the word."""

    @classmethod
    def fit(cls, documents: Iterable[str]) -> Idf:
        """From documents, each a text.

        Raises:
            MetricError: there is none, or one is no text.
        """
        counts: Counter[str] = Counter()
        total = 0
        for total, document in enumerate(documents, start=1):
            counts.update({w for s in _analysed(checked(document, "document", total - 1)) for w in s})
        if not total:
            raise MetricError("Idf.fit: expected at least one document, got none")
        return cls(total, dict(counts))

    def __call__(self, word: str) -> float:
        """The weight of a lower-cased token; positive."""
        return math.log((self.documents + 1) / (self.counts.get(word, 0) + 0.5))


@lru_cache(maxsize=256)
def _own_idf(article: Sentences) -> Idf:
    """Of the sentences of the document itself."""
    return Idf(len(article), Counter(w for s in article for w in set(s)))


def idf_alignment(source: str, summary: str, idf: Callable[[str], float] | None = None, window: int = 2) -> float:
    """Mean over summary sentences of the best idf-weighted share of content words that `window` neighbouring source sentences have.

    Args:
        source, summary: texts. A sentence of stop words only is compared with all its words.
        idf: weight of a token, positive, such as an [`Idf`] that was fitted once; default: over the sentences of this source.
        window: neighbouring source sentences.

    Raises:
        MetricError: a blank source, no text, a window below 1.

    >>> idf_alignment("The cat sat. It slept.", "The cat slept.")
    1.0
    """
    if window < 1:
        raise MetricError(f"window: expected at least 1 sentence, got {window}")
    article, found = _pair(source, summary)
    weight = idf or _own_idf(article)
    windows = [set().union(*article[i : i + window]) for i in range(max(1, len(article) - window + 1))]
    best = []
    for words in found:
        content = [w for w in words if w not in STOP_WORDS] or list(words)
        weights = [weight(w) for w in content]
        total = math.fsum(weights)
        best.append(
            max(math.fsum(x for w, x in zip(content, weights, strict=True) if w in have) / total for have in windows)
        )
    return math.fsum(best) / len(best) if best else 0.0
