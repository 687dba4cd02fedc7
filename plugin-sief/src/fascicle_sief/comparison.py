"""Two models compared by their robustness reports: differences on the same documents and triples, with paired intervals."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SiefError
from .estimates import bootstrap_draws, estimate, f1_sums, new_positive_sums, nonzero, triple_sums
from .measures import MEASURES, VARIANTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .estimates import Term
    from .robustness_report import RobustnessReport
    from .variants import DocumentRecord, TripleRecord

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Second model minus first, on the same cases, with the paired 95 % bootstrap interval over documents.

    >>> Difference(first=0.1, second=0.3, difference=0.2, low=None, high=None, documents=1).difference
    0.2
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    documents: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two reports on the same documents. Made by [`compare`].

    >>> Comparison(differences={}, documents=0, true_positives=(0, 0, 0), excluded={}).to_json()["documents"]
    0
    """

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

    >>> import numpy as np
    >>> from fascicle_sief.robustness_report import robustness
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
    draws = bootstrap_draws(first.seed, first.resamples, len(pairs))
    flip = {"selectivity": [MEASURES["evidence_flip"], MEASURES["removal_flip"]]}
    found = {}
    for name, measures in ({m.name: [m] for m in MEASURES.values()} | flip).items():
        over = "tp" if measures[0].over_true_positives else "all"
        signs = (1, -1)
        found[name] = _difference(
            [triple_sums(triples_a[over], m, s) for m, s in zip(measures, signs, strict=False)],
            [triple_sums(triples_b[over], m, s) for m, s in zip(measures, signs, strict=False)],
            draws,
        )
    found["false_positives"] = _difference([new_positive_sums(records_a)], [new_positive_sums(records_b)], draws)
    for variant in VARIANTS:
        own_f1, its_f1 = f1_sums(records_a, variant, variant), f1_sums(records_b, variant, variant)
        found[f"f1_{variant}"] = _difference([own_f1], [its_f1], draws)
    return Comparison(
        differences=found,
        documents=len(pairs),
        true_positives=(
            sum(t.full for record in records_a for t in record.triples),
            sum(t.full for record in records_b for t in record.triples),
            sum(len(triples) for triples in triples_a["tp"]),
        ),
        excluded=nonzero({"documents in one report only": missing}),
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
    a, b = estimate(first, draws), estimate(second, draws)
    both = estimate([*second, *((-sign, counts, cases) for sign, counts, cases in first)], draws)
    return Difference(
        first=a.value,
        second=b.value,
        difference=both.value,
        low=both.low,
        high=both.high,
        documents=both.documents,
    )
