"""Faithfulness metrics by name: deterministic, in [0, 1], 1 for identical texts. Light: models are loaded at first use.

Our choice; which metrics the paper reports is not known here. An empty summary scores 0, a blank source is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, runtime_checkable

from . import factcheck, lexical
from .errors import MetricError
from .text import checked

__all__ = ["LEXICAL", "METRICS", "Combination", "Metric", "PairMetric", "describe", "metric", "rouge", "score"]


@runtime_checkable
class Metric(Protocol):
    """A score for each summary beside its source. Whatever has a name and can be called so is one, a function of the user's too."""

    @property
    def name(self) -> str:
        """What its column is called."""
        ...

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """One score in [0, 1] per pair, whatever the other pairs are."""
        ...


def paired(sources: Sequence[str], summaries: Sequence[str]) -> None:
    """Refuse what cannot be scored pair by pair.

    Raises:
        MetricError: a string instead of a sequence, sequences of different length, something that is no text, a blank source.

    >>> paired(["a source"], ["a summary"])
    """
    for what, texts in (("sources", sources), ("summaries", summaries)):
        if isinstance(texts, str):
            raise MetricError(f"{what}: expected a sequence of texts, got one string; write [text]")
    if len(sources) != len(summaries):
        raise MetricError(
            f"expected one source per summary, got {len(sources)} sources and {len(summaries)} summaries; "
            "repeat the source of a document that has several summaries"
        )
    for i, (source, summary) in enumerate(zip(sources, summaries, strict=True)):
        checked(summary, "summary", i)
        if not checked(source, "source", i).strip():
            raise MetricError(f"source {i}: expected a text, got a blank one; leave documents without text out")


@dataclass(frozen=True)
class PairMetric:
    """A function of one source and one summary as a metric.

    >>> PairMetric("unigrams", lexical.coverage)(["The cat sat."], ["The cat."])
    [1.0]
    """

    name: str
    function: Callable[[str, str], float]

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """One score per pair.

        Raises:
            MetricError: see [`paired`].
        """
        paired(sources, summaries)
        return [self.function(source, summary) for source, summary in zip(sources, summaries, strict=True)]


def _pairs(name: str, function: Callable[[str, str], float]) -> Callable[[], Metric]:
    return lambda: PairMetric(name, function)


def _embedding(**options: Any) -> Callable[[], Metric]:
    def build() -> Metric:
        from .embedding import EmbeddingPrecision

        return EmbeddingPrecision(**options)

    return build


def _adapter(class_name: str) -> Callable[[], Metric]:
    def build() -> Metric:
        from . import adapters

        found: Metric = getattr(adapters, class_name)()
        return found

    return build


_COPIES = "rewards copying, misses role swaps and minimal edits, near chance on abstractive summaries"
_LEXICAL: dict[str, tuple[Callable[[str, str], float], str]] = {
    "sentence_max_bigram": (
        lexical.sentence_max_ngram,
        "bigrams of a summary sentence in its best source sentence, mean; " + _COPIES,
    ),
    "sentence_max_unigram": (partial(lexical.sentence_max_ngram, n=1), "the same with single words; " + _COPIES),
    "sentence_max_trigram": (partial(lexical.sentence_max_ngram, n=3), "the same with trigrams; " + _COPIES),
    "sentence_max_4gram": (partial(lexical.sentence_max_ngram, n=4), "the same with 4-grams; " + _COPIES),
    "precision_1": (partial(lexical.ngram_precision, n=1), "words that occur in the source; any extraction scores 1"),
    "precision_2": (partial(lexical.ngram_precision, n=2), "bigrams that occur anywhere in the source; " + _COPIES),
    "precision_3": (partial(lexical.ngram_precision, n=3), "trigrams that occur anywhere in the source; " + _COPIES),
    "precision_4": (partial(lexical.ngram_precision, n=4), "4-grams that occur anywhere in the source; " + _COPIES),
    "coverage": (lexical.coverage, "words in copied fragments; a measure of extraction to show beside the others"),
    "log_density": (lexical.log_density, "length of copied fragments, on a log scale; a measure of extraction"),
    "idf_alignment": (
        lexical.idf_alignment,
        "content words in the best two neighbouring source sentences, rare ones count more; blind to word order",
    ),
    "lcs_precision": (lexical.lcs_precision, "longest common subsequence with the best source sentence; " + _COPIES),
}
_FACTS: dict[str, tuple[Callable[[str, str], float], str]] = {
    "numbers": (
        factcheck.numbers,
        "numbers that the source has; 1 without numbers, blind to what a number counts, weak alone",
    ),
    "entities": (
        factcheck.entities,
        "names that the source has; 1 without names, English-like capitals, blind to who did what, weak alone",
    ),
    "negations": (
        factcheck.negations,
        "sentences negated like their best source sentence; English cues, no scope beyond the clause, antonyms are missed",
    ),
}
_MODELS: dict[str, tuple[Callable[[], Metric], str]] = {
    "embedding_precision": (
        _embedding(),
        "cosine of each summary token to the nearest source token (MiniLM); related words score high, wrong relations too",
    ),
    "embedding_lowest": (
        _embedding(variant="lowest"),
        "the same over the 5 least supported tokens; one rare word decides",
    ),
    "embedding_sentence": (
        _embedding(variant="sentence"),
        "cosine of each summary sentence to the nearest source sentence (MiniLM); topic more than fact",
    ),
    "summac_zs": (_adapter("SummaCZS"), "NLI, sentence by sentence; needs summac and its weights, English"),
    "summac_conv": (_adapter("SummaCConv"), "NLI with a learned histogram; needs summac and its weights, English"),
    "alignscore": (_adapter("AlignScore"), "learned alignment; needs alignscore and a checkpoint, English"),
    "minicheck": (_adapter("MiniCheck"), "learned fact check; needs minicheck and its weights, English"),
    "bertscore": (_adapter("BERTScore"), "BERTScore precision against the source; needs bert-score and its weights"),
}
LEXICAL: tuple[str, ...] = tuple(_LEXICAL)
"""Metrics of wording alone."""


class _Registry(Mapping[str, "Metric"]):
    """Metrics by name, each made when it is first asked for."""

    def __init__(self) -> None:
        self.makers: dict[str, tuple[Callable[[], Metric], str]] = {
            name: (_pairs(name, function), note) for name, (function, note) in (_LEXICAL | _FACTS).items()
        } | _MODELS
        self.made: dict[str, Metric] = {}

    def __getitem__(self, name: str) -> Metric:
        if name not in self.makers:
            raise KeyError(name)
        if name not in self.made:
            self.made[name] = self.makers[name][0]()
        return self.made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.makers

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


METRICS = _Registry()
"""All metrics by name; iterating makes none of them."""


def metric(name: str | Metric) -> Metric:
    """The metric of that name; a metric itself is passed through.

    Raises:
        MetricError: an unknown name, or a package that the metric needs is missing.

    >>> metric("coverage").name
    'coverage'
    """
    if not isinstance(name, str):
        if callable(name) and hasattr(name, "name"):
            return name
        raise MetricError(f"metric: expected a name or an object with .name and __call__, got {type(name).__name__}")
    if name not in METRICS.makers:
        from difflib import get_close_matches

        near = get_close_matches(name, METRICS, n=1)
        raise MetricError(
            f"metric {name!r}: not known"
            + (f"; did you mean {near[0]}?" if near else "")
            + f" There are: {', '.join(METRICS)}"
        )
    return METRICS[name]


def describe(name: str) -> str:
    """What a metric is and where it is weak, in a line.

    Raises:
        MetricError: an unknown name.

    >>> describe("precision_1")
    'words that occur in the source; any extraction scores 1'
    """
    if name not in METRICS.makers:
        metric(name)
    return METRICS.makers[name][1]


def score(
    sources: Sequence[str],
    summaries: Sequence[str],
    metrics: Sequence[str | Metric] = ("sentence_max_bigram", "coverage", "log_density"),
    references: Sequence[str | Sequence[str] | None] | None = None,
) -> dict[str, list[float]]:
    """Scores of each summary, by metric.

    Args:
        sources, summaries: texts, one source per summary.
        metrics: names ([`METRICS`]) or metrics.
        references: reference summaries, one or several per summary; with them ROUGE is added ([`rouge`]).

    Raises:
        MetricError: texts that cannot be paired, an unknown metric, two metrics of one name.

    >>> score(["The cat sat."], ["The cat ran."], metrics=["coverage"])
    {'coverage': [0.6666666666666666]}
    """
    if isinstance(metrics, str):
        raise MetricError(f"metrics: expected a sequence of names, got one string; write [{metrics!r}]")
    paired(sources, summaries)
    found: dict[str, list[float]] = {}
    for one in map(metric, metrics):
        if one.name in found:
            raise MetricError(f"metrics: {one.name!r} is given twice; give every metric a name of its own")
        found[one.name] = one(sources, summaries)
        if len(found[one.name]) != len(summaries):
            raise MetricError(f"metric {one.name!r}: expected {len(summaries)} scores, got {len(found[one.name])}")
    if references is not None:
        found |= rouge(summaries, references)
    return found


@lru_cache(maxsize=2)
def _rouge_scorer(stem: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stem)


def rouge(
    summaries: Sequence[str], references: Sequence[str | Sequence[str] | None], *, stem: bool = True
) -> dict[str, list[float]]:
    """ROUGE F1 in [0, 1] by `rouge-score`: rouge1, rouge2, rougeL, and rougeLsum over the sentences of [`text.sentences`].

    Of several references the best counts, for each kind by itself. nan where there is none, so that rows stay in place.

    Raises:
        MetricError: not one reference entry per summary.

    >>> rouge(["the cat sat"], ["the cat ran"])["rouge1"]
    [0.6666666666666666]
    """
    from .text import sentences

    if len(summaries) != len(references):
        raise MetricError(
            f"rouge: expected a reference per summary, got {len(references)} for {len(summaries)} summaries"
        )
    scorer = _rouge_scorer(stem)
    kinds = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for summary, reference in zip(summaries, references, strict=True):
        wanted = [reference] if isinstance(reference, str) else list(reference or ())
        lines = "\n".join(sentences(summary))
        scores = [scorer.score("\n".join(sentences(one)), lines) for one in wanted]
        for kind in kinds:
            found[kind].append(max((float(s[kind].fmeasure) for s in scores), default=math.nan))
    return found


@dataclass(frozen=True)
class Combination:
    """Mean of z-scores of metrics, with means and deviations that are given, mapped into [0, 1] by the normal distribution.

    Never standardised over the batch, which would make a score depend on its neighbours. Fit the constants on rated or
    unrated summaries of your own once, with [`Combination.fit`], and keep them.

    It is monotone in each part. The range is open, so identical texts score high and not 1.

    >>> both = Combination("both", ("coverage", "log_density"), means=(0.8, 0.5), deviations=(0.1, 0.2))
    >>> [round(x, 3) for x in both(["The cat sat."], ["The cat sat."])]
    [0.988]
    """

    name: str
    metrics: tuple[str | Metric, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.metrics or not len(self.metrics) == len(self.means) == len(self.deviations):
            raise MetricError(
                f"combination {self.name!r}: expected a mean and a deviation per metric, got {len(self.metrics)} metrics, "
                f"{len(self.means)} means, {len(self.deviations)} deviations"
            )
        if not all(math.isfinite(x) and x > 0 for x in self.deviations) or not all(map(math.isfinite, self.means)):
            raise MetricError(f"combination {self.name!r}: expected finite means and positive deviations")

    @classmethod
    def fit(
        cls, name: str, metrics: Sequence[str | Metric], sources: Sequence[str], summaries: Sequence[str]
    ) -> Combination:
        """With the constants of these texts.

        Raises:
            MetricError: texts that cannot be paired, fewer than two, a metric that is the same on all of them.
        """
        import statistics

        if len(summaries) < 2:
            raise MetricError(f"combination {name!r}: expected at least 2 summaries to fit on, got {len(summaries)}")
        columns = list(score(sources, summaries, metrics).values())
        return cls(name, tuple(metrics), tuple(map(statistics.fmean, columns)), tuple(map(statistics.pstdev, columns)))

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """One score per pair.

        Raises:
            MetricError: texts that cannot be paired.
        """
        columns = list(score(sources, summaries, self.metrics).values())
        found = []
        for row in zip(*columns, strict=True):
            z = math.fsum((x - m) / d for x, m, d in zip(row, self.means, self.deviations, strict=True)) / len(row)
            found.append(0.5 * math.erfc(-z / math.sqrt(2)))
        return found
