"""Rates over documents with their bootstrap intervals, of one model or of the difference of two."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .measures import Measure
    from .variants import DocumentRecord, TripleRecord

__all__ = ["Rate", "Term", "bootstrap_draws", "estimate", "f1_sums", "new_positive_sums", "nonzero", "triple_sums"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A number with what it was counted over, and the 95 % bootstrap interval over documents.

    >>> Rate(value=0.5, low=None, high=None, count=1, n=2, documents=1).excluded
    {}
    """

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


def estimate(terms: Sequence[Term], draws: NDArray[np.int64]) -> Rate:
    """A signed sum of rates, its interval from the draws.

    Args:
        terms: of the sum.
        draws: (resamples, D), how often each draw took each document; see [`bootstrap_draws`].

    >>> counts, cases = np.array([1, 0]), np.array([1, 3])
    >>> rate = estimate([(1, counts, cases)], bootstrap_draws(0, 100, 2))
    >>> rate.value, rate.count, rate.n, rate.documents
    (0.25, 1, 4, 2)
    """
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


def bootstrap_draws(seed: int, resamples: int, documents: int) -> NDArray[np.int64]:
    """(resamples, D): how often each draw takes each document.

    >>> bootstrap_draws(0, 5, 3).sum(axis=1)
    array([3, 3, 3, 3, 3])
    """
    if not documents:
        return np.zeros((0, 0), np.int64)
    shares = np.full(documents, 1 / documents)
    return np.random.default_rng(seed).multinomial(documents, shares, size=resamples).astype(np.int64)


def triple_sums(documents: Sequence[Sequence[TripleRecord]], measure: Measure, sign: int = 1) -> Term:
    """A measure over the triples of each document.

    >>> from fascicle_sief.measures import MEASURES
    >>> triple_sums([[], []], MEASURES["removal_flip"])
    (1, array([0, 0]), array([0, 0]))
    """
    pairs = [[measure.of(t) for t in triples] for triples in documents]
    table = np.array([[sum(a for a, _ in p), sum(b for _, b in p)] for p in pairs], np.int64).reshape(-1, 2)
    return sign, table[:, 0], table[:, 1]


def f1_sums(records: Sequence[DocumentRecord], variant: str, of: str, sign: int = 1) -> Term:
    """F1 under `variant`, over the documents that have the variant `of`.

    >>> f1_sums([], "shuffled", "shuffled")[0]
    1
    """
    table = np.zeros((len(records), 2), np.int64)
    for i, record in enumerate(records):
        if of in record.counts:
            counts = record.counts[variant]
            table[i] = 2 * counts.correct, counts.predicted + counts.gold
    return sign, table[:, 0], table[:, 1]


def new_positive_sums(records: Sequence[DocumentRecord], sign: int = 1) -> Term:
    """New positives of each document when one random sentence is removed.

    >>> new_positive_sums([], sign=-1)[0]
    -1
    """
    table = np.array([[r.new_positives or 0, r.new_positives is not None] for r in records], np.int64).reshape(-1, 2)
    return sign, table[:, 0], table[:, 1]


def nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    """What was left out, without the reasons that left out nothing.

    >>> nonzero({"unknown": 0, "not predicted": 2})
    {'not predicted': 2}
    """
    return {reason: n for reason, n in counts.items() if n}
