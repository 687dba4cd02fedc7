"""What a robustness report measures: rates over gold triples, and the variants of the documents that they are asked on.

T are the gold triples whose evidence is known, and that the model can be asked about; TP those of them that it predicts from the
whole document. All variants are our choice; the paper's test script is not public.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .variants import TripleRecord

__all__ = ["MEASURES", "VARIANTS", "Measure"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A rate over triples: for one of them, (cases that count, cases that could).

    >>> MEASURES["removal_flip"].short, MEASURES["removal_flip"].good
    ('NEF', 'low')
    """

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
