"""What happens to predictions when sentences go, move or come: one number is not enough, so the report has several.

The paper tests whether predictions survive without sentences that are no evidence; its test script is not public. All variants here
are our choice, each with its count and its interval.

`removal_flip` and `evidence_flip` are a pair. A model that ignores the text, and answers from the names of the entities alone,
has a perfect `removal_flip` of 0; its `evidence_flip` of 0 gives it away. A low flip rate alone is not robustness.

T are the gold triples whose evidence is known, and that the model can be asked about; TP those of them that it predicts from the
whole document. The threshold of the model is fixed on whole documents before and stays as it is for all variants.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import SiefError
from .importance import stream_probabilities
from .variants import DocumentRecord, TripleRecord, VariantCounts, plan_views, record_views

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .document import Document
    from .scorer import Scorer

__all__ = [
    "MEASURES",
    "VARIANTS",
    "Comparison",
    "Difference",
    "Measure",
    "Rate",
    "RobustnessReport",
    "compare",
    "robustness",
]

_FORMAT = 1


# ---- measures ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A rate over triples: for one of them, (cases that count, cases that could)."""

    name: str
    short: str
    text: str
    good: str
    """`low`, `high`, or empty where neither is."""
    over_true_positives: bool
    of: Callable[[TripleRecord], tuple[int, int]]


def _removals(t: TripleRecord, in_evidence: bool) -> list[bool]:
    """Predictions without each sentence of the evidence, or without each other one, both entities being mentioned still."""
    if t.evidence is None:
        return []
    return [got for k, got in enumerate(t.without) if got is not None and (k in t.evidence) == in_evidence]


def _flips(t: TripleRecord, views: Iterable[bool | None]) -> tuple[int, int]:
    answers = [got for got in views if got is not None] if t.full else []
    return sum(not got for got in answers), len(answers)


def _changes(t: TripleRecord, views: Iterable[bool | None]) -> tuple[int, int]:
    answers = [got for got in views if got is not None]
    return sum(got != t.full for got in answers), len(answers)


def _kept(t: TripleRecord) -> tuple[int, int]:
    return int(bool(t.evidence_only)), int(t.evidence_only is not None)


def _measure(
    name: str, text: str, good: str, tp: bool, of: Callable[[TripleRecord], tuple[int, int]], short: str = ""
) -> Measure:
    return Measure(name=name, short=short, text=text, good=good, over_true_positives=tp, of=of)


MEASURES: Mapping[str, Measure] = {
    m.name: m
    for m in (
        _measure(
            "removal_flip",
            "TP lost when one sentence outside the evidence is removed",
            "low",
            True,
            lambda t: _flips(t, _removals(t, False)),
            "NEF",
        ),
        _measure(
            "evidence_flip",
            "TP lost when one evidence sentence is removed",
            "high",
            True,
            lambda t: _flips(t, _removals(t, True)),
            "EVS",
        ),
        _measure(
            "removal_change",
            "T decided otherwise, either way, when one sentence outside the evidence is removed",
            "low",
            False,
            lambda t: _changes(t, _removals(t, False)),
            "NEC",
        ),
        _measure(
            "evidence_only",
            "TP predicted from the evidence alone, where it mentions both entities",
            "high",
            True,
            lambda t: _kept(t) if t.full else (0, 0),
            "EOK",
        ),
        _measure(
            "evidence_only_agree",
            "T decided from the evidence alone as from the whole document",
            "high",
            False,
            lambda t: (int(t.evidence_only is t.full), int(t.evidence_only is not None)),
        ),
        _measure("evidence_only_recall", "T predicted from the evidence alone", "high", False, _kept),
        _measure(
            "evidence_only_recall_full",
            "the same T predicted from the whole document",
            "high",
            False,
            lambda t: (int(t.full and t.evidence_only is not None), int(t.evidence_only is not None)),
        ),
        _measure(
            "shuffle_flip", "gold and predicted, lost in another order", "low", True, lambda t: _flips(t, [t.shuffled])
        ),
        _measure(
            "insertion_flip",
            "gold and predicted, lost beside foreign sentences",
            "low",
            True,
            lambda t: _flips(t, [t.inserted]),
        ),
        _measure(
            "random_removal_flip",
            "gold and predicted, lost when one random sentence is removed",
            "",
            True,
            lambda t: _flips(t, [t.random_removed]),
        ),
    )
}
"""Measures over triples. Beside them a report has `selectivity`, `false_positives` and the F1 of each variant."""

VARIANTS = {
    "full": "whole documents",
    "non_evidence_removed": "without all sentences that are no evidence of any gold triple",
    "evidence_removed": "without one random evidence sentence",
    "random_removed": "without one random sentence",
    "shuffled": "sentences in another order",
    "inserted": "with foreign sentences",
}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A number with what it was counted over, and the 95 % bootstrap interval over documents."""

    value: float | None
    """None where there is nothing to count."""
    low: float | None
    high: float | None
    """No interval for fewer than two documents."""
    count: int | None
    n: int | None
    """`value` is count / n (for an F1 2 correct / (predicted + gold)); None for a difference of two rates."""
    documents: int
    """Documents with at least one case."""
    excluded: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What was left out, by reason."""


Term = tuple[int, "NDArray[np.int64]", "NDArray[np.int64]"]
"""Sign, counts (D,) and cases (D,) of each document; a number is the signed sum of counts.sum() / cases.sum()."""


def _estimate(terms: Sequence[Term], draws: NDArray[np.int64]) -> Rate:
    """`draws`: (resamples, D), how often each draw took each document."""
    documents = int(np.logical_and.reduce([cases > 0 for _, _, cases in terms]).sum())
    single = terms[0] if len(terms) == 1 else None
    count = int(single[1].sum()) if single else None
    n = int(single[2].sum()) if single else None
    if any(not cases.sum() for _, _, cases in terms):
        return Rate(value=None, low=None, high=None, count=count, n=n, documents=documents)
    value = float(sum(sign * counts.sum() / cases.sum() for sign, counts, cases in terms))
    low = high = None
    if documents > 1 and len(draws):
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = sum(sign * ((draws @ counts) / (draws @ cases)) for sign, counts, cases in terms)
        known = np.asarray(drawn)[np.isfinite(drawn)]
        low, high = (float(q) for q in np.percentile(known, [2.5, 97.5])) if len(known) else (None, None)
    return Rate(value=value, low=low, high=high, count=count, n=n, documents=documents)


def _draws(seed: int, resamples: int, documents: int) -> NDArray[np.int64]:
    if not documents:
        return np.zeros((0, 0), np.int64)
    shares = np.full(documents, 1 / documents)
    return np.random.default_rng(seed).multinomial(documents, shares, size=resamples).astype(np.int64)


def _sums(documents: Sequence[Sequence[TripleRecord]], measure: Measure, sign: int = 1) -> Term:
    pairs = [[measure.of(t) for t in triples] for triples in documents]
    table = np.array([[sum(a for a, _ in p), sum(b for _, b in p)] for p in pairs], np.int64).reshape(-1, 2)
    return sign, table[:, 0], table[:, 1]


def _f1_sums(records: Sequence[DocumentRecord], variant: str, of: str, sign: int = 1) -> Term:
    """F1 under `variant`, over the documents that have the variant `of`."""
    table = np.zeros((len(records), 2), np.int64)
    for i, record in enumerate(records):
        if of in record.counts:
            counts = record.counts[variant]
            table[i] = 2 * counts.correct, counts.predicted + counts.gold
    return sign, table[:, 0], table[:, 1]


def _new_positive_sums(records: Sequence[DocumentRecord], sign: int = 1) -> Term:
    table = np.array([[r.new_positives or 0, r.new_positives is not None] for r in records], np.int64).reshape(-1, 2)
    return sign, table[:, 0], table[:, 1]


# ---- the report ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RobustnessReport:
    """Every rate of every variant, and the records it was counted from. Made by [`robustness`]."""

    records: tuple[DocumentRecord, ...]
    threshold: float
    seed: int
    resamples: int
    foreign_sentences: int
    passes: int
    """Views that were asked for; those of one document that coincide share one."""

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """[`MEASURES`] by name; `selectivity` = evidence_flip - removal_flip; `false_positives` (FPD), new positives per document
        when one random sentence is removed; `f1_VARIANT`, and `f1_VARIANT_change` from the same documents when they are whole.
        """
        triples = [record.triples for record in self.records]
        draws = _draws(self.seed, self.resamples, len(self.records))
        excluded = _excluded(self.records)
        rates = {}
        for name, measure in MEASURES.items():
            rates[name] = dataclasses.replace(
                _estimate([_sums(triples, measure)], draws), excluded=excluded.get(name, {})
            )
        pair = [_sums(triples, MEASURES["evidence_flip"]), _sums(triples, MEASURES["removal_flip"], -1)]
        rates["selectivity"] = _estimate(pair, draws)
        single = {"documents of one sentence": sum(r.removed is None for r in self.records)}
        rates["false_positives"] = dataclasses.replace(
            _estimate([_new_positive_sums(self.records)], draws), excluded=_some(single)
        )
        for variant in VARIANTS:
            missing = _some({"documents without this variant": sum(variant not in r.counts for r in self.records)})
            own = _f1_sums(self.records, variant, variant)
            rates[f"f1_{variant}"] = dataclasses.replace(_estimate([own], draws), excluded=missing)
            if variant != "full":
                change = _estimate([own, _f1_sums(self.records, "full", variant, -1)], draws)
                rates[f"f1_{variant}_change"] = dataclasses.replace(change, excluded=missing)
        return rates

    @property
    def selectivity(self) -> float | None:
        """`evidence_flip` - `removal_flip`: above 0 where evidence matters more than the rest of the text."""
        return self.rates["selectivity"].value

    @property
    def ignores_context(self) -> bool:
        """Whether nothing that was removed changed a true positive: `removal_flip` 0 and `evidence_flip` 0."""
        return self.rates["removal_flip"].value == 0 and self.rates["evidence_flip"].value == 0

    @property
    def excluded(self) -> dict[str, int]:
        """Gold triples that no rate is about, by reason, over all documents."""
        total: Counter[str] = Counter()
        for record in self.records:
            total.update(record.excluded)
        return dict(total)

    def to_json(self) -> dict[str, Any]:
        """Records and rates as plain data; [`RobustnessReport.from_json`] reads the records back."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "records"}
        return {
            "format": _FORMAT,
            **fields,
            "rates": {name: dataclasses.asdict(rate) for name, rate in self.rates.items()},
            "excluded": self.excluded,
            "records": [dataclasses.asdict(record) for record in self.records],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RobustnessReport:
        """A report from [`RobustnessReport.to_json`]; rates are counted anew.

        Raises:
            SiefError: not such a report.
        """
        if data.get("format") != _FORMAT:
            raise SiefError(
                f"robustness report: format: expected {_FORMAT}, got {data.get('format')!r}; make the report anew"
            )
        try:
            fields = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name != "records"}
            return cls(records=tuple(_document_record(row) for row in data["records"]), **fields)
        except (KeyError, TypeError, ValueError) as error:
            raise SiefError(f"robustness report: not as to_json wrote it ({error!r}); make the report anew") from error


def _document_record(row: Mapping[str, Any]) -> DocumentRecord:
    triples = []
    for triple in row["triples"]:
        evidence = triple["evidence"]
        triples.append(
            TripleRecord(
                **{
                    **triple,
                    "evidence": None if evidence is None else tuple(evidence),
                    "without": tuple(triple["without"]),
                }
            )
        )
    foreign = row["foreign"]
    return DocumentRecord(
        **{
            **row,
            "triples": tuple(triples),
            "counts": {name: VariantCounts(**counts) for name, counts in row["counts"].items()},
            "order": tuple(row["order"]),
            "foreign": None if foreign is None else (foreign[0], tuple(foreign[1]), tuple(foreign[2])),
        }
    )


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: n for reason, n in counts.items() if n}


def _excluded(records: Iterable[DocumentRecord]) -> dict[str, dict[str, int]]:
    """By measure: what it leaves out, of the gold triples that the model can be asked about."""
    triples = [triple for record in records for triple in record.triples]
    unknown = sum(t.evidence is None for t in triples)
    uncovered = sum(t.evidence is not None and t.evidence_only is None for t in triples)
    found: dict[str, dict[str, int]] = {}
    for name, measure in MEASURES.items():
        asked = [t for t in triples if t.full or not measure.over_true_positives]
        reasons = {"not predicted": len(triples) - len(asked)}
        if name in ("removal_flip", "removal_change", "evidence_flip"):
            inside = name == "evidence_flip"
            lost = [
                (k in t.evidence) == inside
                for t in asked
                if t.evidence is not None
                for k, got in enumerate(t.without)
                if got is None
            ]
            reasons |= {"evidence unknown": unknown, "removals that lose an entity": sum(lost)}
        elif name.startswith("evidence_only"):
            reasons |= {"evidence unknown": unknown, "evidence does not mention both entities": uncovered}
        elif name == "shuffle_flip":
            reasons |= {"documents of one sentence": sum(t.shuffled is None for t in asked)}
        elif name == "insertion_flip":
            reasons |= {"nothing to insert": sum(t.inserted is None for t in asked)}
        elif name == "random_removal_flip":
            reasons |= {"removals that lose an entity or all": sum(t.random_removed is None for t in asked)}
        found[name] = _some(reasons)
    return found


def robustness(
    scorer: Scorer,
    documents: Sequence[Document],
    *,
    seed: int = 0,
    resamples: int = 1000,
    max_documents: int | None = None,
    foreign_sentences: int = 2,
    batch_documents: int = 32,
    advance: Callable[[int], None] | None = None,
) -> RobustnessReport:
    """Ask a model about documents with sentences removed, moved and added.

    Read `removal_flip` and `evidence_flip` as a pair: a model for which both are 0 ignores the text.

    Args:
        scorer: the model, its threshold fixed on whole documents.
        documents: with gold relations; gold evidence where it is known.
        seed: of everything that is drawn. What is drawn for a document depends on its text, not on its place.
        resamples: of the bootstrap over documents.
        max_documents: a random part of the documents; None: all.
        foreign_sentences: inserted into each document, from another one of the set; 0: none.
        batch_documents: given to the model at once.
        advance: called with the number of passes that were done.

    Raises:
        SiefError: a setting below its least value.
        ModelError: the model's answer is malformed.

    Example:
        >>> from fascicle_sief.document import Document, Mention, Relation
        >>> class Joined:  # needs the word
        ...     relations, threshold = ("member of",), 0.5
        ...
        ...     def probabilities(self, documents):
        ...         found = [any("joined" in words for words in d.sentences) for d in documents]
        ...         return [np.full((len(d.all_pairs()), 1), float(f)) for d, f in zip(documents, found)]
        >>> ends = [[Mention(0, 0, 1), Mention(1, 0, 1)], [Mention(0, 2, 3), Mention(1, 2, 3)]]
        >>> doc = Document(
        ...     "d",
        ...     [["Wilk", "joined", "Rage"], ["Wilk", "left", "Rage"]],
        ...     ends,
        ...     [Relation(0, 1, "member of", evidence=(0,))],
        ... )
        >>> report = robustness(Joined(), [doc])
        >>> report.rates["removal_flip"].value, report.rates["evidence_flip"].value, report.selectivity
        (0.0, 1.0, 1.0)
    """
    for name, value, least in (("resamples", resamples, 0), ("foreign_sentences", foreign_sentences, 0)):
        if value < least:
            raise SiefError(f"{name}: expected at least {least}, got {value}")
    if max_documents is not None and max_documents < 1:
        raise SiefError(f"max_documents: expected at least 1, or None for all, got {max_documents}")
    chosen = [document for document in documents if len(document)]
    if max_documents is not None and max_documents < len(chosen):
        picked = np.random.default_rng(seed).choice(len(chosen), max_documents, replace=False)
        chosen = [chosen[i] for i in np.sort(picked)]
    plans = [plan_views(document, chosen, scorer.relations, seed, foreign_sentences) for document in chosen]
    views = (view for plan in plans for view in plan.views())
    answers = stream_probabilities(scorer, views, batch_documents=batch_documents, advance=advance)
    records, passes = [], 0
    for plan in plans:
        predicted = [p > scorer.threshold for p in islice(answers, len(plan))]
        records.append(record_views(plan, predicted, scorer.relations))
        passes += len(plan)
    return RobustnessReport(
        records=tuple(records),
        threshold=float(scorer.threshold),
        seed=seed,
        resamples=resamples,
        foreign_sentences=foreign_sentences,
        passes=passes,
    )


# ---- two models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Second model minus first, on the same cases, with the paired 95 % bootstrap interval over documents."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    documents: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two reports on the same documents. Made by [`compare`]."""

    differences: Mapping[str, Difference]
    documents: int
    """In both reports."""
    true_positives: tuple[int, int, int]
    """Of the first model, of the second, of both; the measures over true positives use those of both."""
    excluded: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)


def compare(first: RobustnessReport, second: RobustnessReport) -> Comparison:
    """Differences between two models on the same triples: those that are true positives of both, where a measure is over these.

    Raises:
        SiefError: the reports drew different views (another seed or set of documents), or have no document in common.

    >>> class Always:
    ...     relations, threshold = ("r",), 0.5
    ...
    ...     def probabilities(self, documents):
    ...         return [np.ones((len(d.all_pairs()), 1)) for d in documents]
    >>> from fascicle_sief.document import Document, Mention, Relation
    >>> ends = [[Mention(0, 0, 1), Mention(1, 0, 1)], [Mention(0, 1, 2), Mention(1, 1, 2)]]
    >>> doc = Document("d", [["a", "b"], ["a", "b"]], ends, [Relation(0, 1, "r", evidence=(1,))])
    >>> report = robustness(Always(), [doc])
    >>> compare(report, report).differences["removal_flip"].difference
    0.0
    """
    pairs, missing = _matched(first, second)
    triples_a: dict[str, list[list[TripleRecord]]] = {"all": [], "tp": []}
    triples_b: dict[str, list[list[TripleRecord]]] = {"all": [], "tp": []}
    for a, b in pairs:
        own, its = ({(t.head, t.tail, t.relation): t for t in record.triples} for record in (a, b))
        common = [key for key in own if key in its]
        _check_gold(a.title, [(own[key], its[key]) for key in common])
        both = [key for key in common if own[key].full and its[key].full]
        for name, keys in (("all", common), ("tp", both)):
            triples_a[name].append([own[key] for key in keys])
            triples_b[name].append([its[key] for key in keys])
    records_a, records_b = [a for a, _ in pairs], [b for _, b in pairs]
    draws = _draws(first.seed, first.resamples, len(pairs))
    flip = {"selectivity": [MEASURES["evidence_flip"], MEASURES["removal_flip"]]}
    found = {}
    for name, measures in ({m.name: [m] for m in MEASURES.values()} | flip).items():
        over = "tp" if measures[0].over_true_positives else "all"
        signs = (1, -1)
        found[name] = _difference(
            [_sums(triples_a[over], m, s) for m, s in zip(measures, signs, strict=False)],
            [_sums(triples_b[over], m, s) for m, s in zip(measures, signs, strict=False)],
            draws,
        )
    found["false_positives"] = _difference([_new_positive_sums(records_a)], [_new_positive_sums(records_b)], draws)
    for variant in VARIANTS:
        own_f1, its_f1 = _f1_sums(records_a, variant, variant), _f1_sums(records_b, variant, variant)
        found[f"f1_{variant}"] = _difference([own_f1], [its_f1], draws)
    return Comparison(
        differences=found,
        documents=len(pairs),
        true_positives=(
            sum(t.full for record in records_a for t in record.triples),
            sum(t.full for record in records_b for t in record.triples),
            sum(len(triples) for triples in triples_a["tp"]),
        ),
        excluded=_some({"documents in one report only": missing}),
    )


def _matched(
    first: RobustnessReport, second: RobustnessReport
) -> tuple[list[tuple[DocumentRecord, DocumentRecord]], int]:
    """Records of the same document, and the number of those that stand alone."""
    own, its = _by_title(first.records), _by_title(second.records)
    pairs = [(own[key], its[key]) for key in own if key in its]
    if not pairs:
        raise SiefError("compare: expected two reports on the same documents, got no document in common")
    for a, b in pairs:
        for name in ("sentences", "removed", "order", "foreign"):
            one, other = getattr(a, name), getattr(b, name)
            if one != other:
                raise SiefError(
                    f"compare: document {a.title!r}: {name}: {one!r} in the first report, {other!r} in the second; "
                    "make both with the same documents, seed and settings"
                )
    return pairs, len(own) + len(its) - 2 * len(pairs)


def _check_gold(title: str, pairs: Iterable[tuple[TripleRecord, TripleRecord]]) -> None:
    for one, other in pairs:
        if one.evidence != other.evidence:
            raise SiefError(
                f"compare: document {title!r}: {one.relation!r} from {one.head} to {one.tail}: evidence {one.evidence} in the "
                f"first report, {other.evidence} in the second; make both with the same gold labels"
            )


def _by_title(records: Iterable[DocumentRecord]) -> dict[tuple[str, int], DocumentRecord]:
    """Equal titles are told apart by their order."""
    seen: Counter[str] = Counter()
    found = {}
    for record in records:
        found[record.title, seen[record.title]] = record
        seen[record.title] += 1
    return found


def _difference(first: Sequence[Term], second: Sequence[Term], draws: NDArray[np.int64]) -> Difference:
    a, b = _estimate(first, draws), _estimate(second, draws)
    both = _estimate([*second, *((-sign, counts, cases) for sign, counts, cases in first)], draws)
    return Difference(
        first=a.value,
        second=b.value,
        difference=both.value,
        low=both.low,
        high=both.high,
        documents=both.documents,
    )
