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
from .estimates import bootstrap_draws, estimate, f1_sums, new_positive_sums, nonzero, triple_sums
from .importance import stream_probabilities
from .measures import MEASURES, VARIANTS
from .variants import DocumentRecord, TripleRecord, VariantCounts, plan_views, record_views

if TYPE_CHECKING:
    from .document import Document
    from .estimates import Rate
    from .scorer import Scorer

__all__ = ["RobustnessReport", "robustness"]

_FORMAT = 1


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
        draws = bootstrap_draws(self.seed, self.resamples, len(self.records))
        excluded = _excluded(self.records)
        rates = {}
        for name, measure in MEASURES.items():
            rates[name] = dataclasses.replace(
                estimate([triple_sums(triples, measure)], draws), excluded=excluded.get(name, {})
            )
        pair = [triple_sums(triples, MEASURES["evidence_flip"]), triple_sums(triples, MEASURES["removal_flip"], -1)]
        rates["selectivity"] = estimate(pair, draws)
        single = {"documents of one sentence": sum(r.removed is None for r in self.records)}
        rates["false_positives"] = dataclasses.replace(
            estimate([new_positive_sums(self.records)], draws), excluded=nonzero(single)
        )
        for variant in VARIANTS:
            missing = nonzero({"documents without this variant": sum(variant not in r.counts for r in self.records)})
            own = f1_sums(self.records, variant, variant)
            rates[f"f1_{variant}"] = dataclasses.replace(estimate([own], draws), excluded=missing)
            if variant != "full":
                change = estimate([own, f1_sums(self.records, "full", variant, -1)], draws)
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
        found[name] = nonzero(reasons)
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
