"""Importance against the evidence that people marked: rankings, chosen sentences, and rules without a model beside both.

Our choice; the paper trains without evidence labels and does not score evidence.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from .errors import DocumentError
from .importance import (
    evidence,
    gold_triples,
    importances,
    leave_one_out,
    mention_ranking,
    ranking,
    stream_probabilities,
    trivial_evidence,
    unusable,
)

if TYPE_CHECKING:
    from .document import Document
    from .importance import Importance, Triple
    from .scorer import Scorer

__all__ = [
    "ChoiceScore",
    "EvidenceReport",
    "RankingScore",
    "average_precision",
    "choose_threshold",
    "evidence_report",
    "gold_importances",
    "top_1",
]


def average_precision(ranked: Sequence[int], gold: Collection[int]) -> float:
    """Mean, over the gold sentences, of the precision at the rank of each; 0 for one that is not ranked.

    Raises:
        DocumentError: no gold sentence.

    >>> average_precision([4, 0, 2, 1], {4, 2})  # ranks 1 and 3: (1/1 + 2/3) / 2
    0.8333333333333333
    """
    wanted = set(gold)
    if not wanted:
        raise DocumentError("average precision: expected at least one gold sentence, got none")
    found, total = 0, 0.0
    for rank, sentence in enumerate(ranked, start=1):
        if sentence in wanted:
            found += 1
            total += found / rank
    return total / len(wanted)


def top_1(ranked: Sequence[int], gold: Collection[int]) -> float:
    """1 where the first sentence is gold, else 0.

    >>> top_1([4, 0], {4, 2}), top_1([0, 4], {4, 2}), top_1([], {4})
    (1.0, 0.0, 0.0)
    """
    return float(bool(ranked) and ranked[0] in gold)


def gold_importances(
    scorer: Scorer,
    documents: Sequence[Document],
    *,
    batch_documents: int = 32,
    advance: Callable[[int], None] | None = None,
) -> tuple[list[tuple[Document, Importance, tuple[int, ...]]], Counter[str]]:
    """Importance for the gold triples whose evidence is known, predicted or not, and what was left out and why.

    Args:
        scorer: the model.
        documents: with gold relations. One with nothing to ask about costs no pass.
        batch_documents: given to the model at once.
        advance: called with the number of passes that were done.

    Returns:
        (document, importance, gold evidence) of each triple, and the number of triples by the reason that excluded them.

    Raises:
        ModelError: the model's answer is malformed.

    >>> gold_importances(None, [])
    ([], Counter())
    """
    excluded: Counter[str] = Counter()
    wanted: list[tuple[Document, dict[Triple, tuple[int, ...]]]] = []
    for document in documents:
        usable: dict[Triple, tuple[int, ...]] = {}
        for triple, marked in gold_triples(document).items():
            reason = unusable(document, triple, scorer.relations)
            if reason is None and marked is not None:
                usable[triple] = marked
            else:
                excluded[reason or "evidence unknown"] += 1
        if usable:
            wanted.append((document, usable))
    views = (view for document, _ in wanted for view in leave_one_out(document))
    answers = stream_probabilities(scorer, views, batch_documents=batch_documents, advance=advance)
    result = []
    for document, usable in wanted:
        passes = list(islice(answers, len(document) + 1))
        found = importances(scorer, document, usable, passes)
        result += [(document, one, gold) for one, gold in zip(found, usable.values(), strict=True)]
    return result, excluded


def choose_threshold(importances: Iterable[tuple[Importance, Collection[int]]]) -> float:
    """The threshold for [`evidence`] with the best F1 against gold evidence, over all sentences of all triples.

    Choose it on other documents than those that are reported. It lies halfway between two scores; of equally good
    thresholds the highest.

    Args:
        importances: with the gold evidence of each.

    Raises:
        DocumentError: no sentence has a score.

    >>> from fascicle_sief.importance import Importance
    >>> importance = Importance(
    ...     head=0, tail=1, relation="r", p=0.9, p_without=(0.8, 0.1, 0.2), score=(0.1, 2.0, 1.4),
    ...     alive=(True, True, True), mentions=((1, 1), (1, 0), (0, 1)),
    ... )  # fmt: skip
    >>> choose_threshold([(importance, {1, 2})])
    0.75
    """
    cells: list[tuple[float, bool]] = []
    chosen = correct = gold_total = 0
    for importance, gold in importances:
        gold_total += len(set(gold))
        for k, s in enumerate(importance.score):
            if s is None:
                chosen, correct = chosen + 1, correct + (k in gold)
            else:
                cells.append((s, k in gold))
    if not cells:
        raise DocumentError("choose_threshold: expected at least one sentence with a score, got none")
    cells.sort(reverse=True)
    best, threshold = _f1(correct, chosen, gold_total), cells[0][0]
    for i, (s, is_gold) in enumerate(cells):
        chosen, correct = chosen + 1, correct + is_gold
        below = cells[i + 1][0] if i + 1 < len(cells) else s - 1.0
        if below < s and _f1(correct, chosen, gold_total) > best:
            best, threshold = _f1(correct, chosen, gold_total), (s + below) / 2
    return threshold


def _f1(correct: int, chosen: int, gold: int) -> float:
    return 2 * correct / (chosen + gold) if chosen + gold else 0.0


@dataclass(frozen=True, kw_only=True)
class RankingScore:
    """How well a ranking of sentences finds the gold evidence; means over triples, None where there is no triple."""

    mean_average_precision: float | None
    top_1: float | None
    triples: int


@dataclass(frozen=True, kw_only=True)
class ChoiceScore:
    """How well chosen sentences are the gold evidence; over all sentences of all triples together."""

    precision: float
    recall: float
    f1: float
    correct: int
    chosen: int
    gold: int


@dataclass(frozen=True, kw_only=True)
class EvidenceReport:
    """Evidence found by importance, beside rules without a model. Made by [`evidence_report`]."""

    triples: int
    documents: int
    rankings: Mapping[str, RankingScore]
    """`importance`, `mentions`; and the same with the sentences left out with which an entity is lost: `..._alive`."""
    choices: Mapping[str, ChoiceScore]
    """`importance` (where a threshold was given) and `trivial`."""
    threshold: float | None
    excluded: Mapping[str, int]
    """Gold triples that were left out, by reason; `evidence lost with an entity` only from the `..._alive` rankings."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)


def evidence_report(
    scorer: Scorer,
    documents: Sequence[Document],
    *,
    threshold: float | None = None,
    predicted_only: bool = False,
    batch_documents: int = 32,
    advance: Callable[[int], None] | None = None,
) -> EvidenceReport:
    """Importance against gold evidence, over gold triples with evidence.

    Args:
        scorer: the model.
        documents: with gold evidence.
        threshold: of [`evidence`], chosen on other documents by [`choose_threshold`]; None: only rankings are reported.
        predicted_only: leave out the triples that the model does not predict; a model has no reasons for those.
        batch_documents: given to the model at once.
        advance: called with the number of passes that were done.

    Raises:
        ModelError: the model's answer is malformed.

    >>> from fascicle_sief.document import Document, Mention, Relation
    >>> import numpy as np
    >>> class Blind:
    ...     relations, threshold = ("r",), 0.5
    ...
    ...     def probabilities(self, documents):
    ...         return [np.full((len(d.all_pairs()), 1), 0.9) for d in documents]
    >>> ends = [[Mention(0, 0, 1), Mention(1, 0, 1)], [Mention(0, 1, 2), Mention(1, 1, 2)]]
    >>> doc = Document("d", [["a", "b"], ["a", "b"]], ends, [Relation(0, 1, "r", evidence=(1,))])
    >>> report = evidence_report(Blind(), [doc])
    >>> report.rankings["importance"].mean_average_precision, report.choices["trivial"].precision
    (0.5, 0.5)
    """
    found, excluded = gold_importances(scorer, documents, batch_documents=batch_documents, advance=advance)
    if predicted_only:
        kept = [case for case in found if case[1].p > scorer.threshold]
        excluded["not predicted"] += len(found) - len(kept)
        found = kept
    ranked: dict[str, list[tuple[Sequence[int], Collection[int]]]] = {
        "importance": [(ranking(one), gold) for _, one, gold in found],
        "mentions": [(mention_ranking(document, one.head, one.tail), gold) for document, one, gold in found],
        "importance_alive": [],
        "mentions_alive": [],
    }
    for document, one, gold in found:
        left = {k for k in gold if one.alive[k]}
        if not left:
            excluded["evidence lost with an entity"] += 1
            continue
        ranked["importance_alive"].append((ranking(one, lost_first=False), left))
        mentions = mention_ranking(document, one.head, one.tail)
        ranked["mentions_alive"].append(([k for k in mentions if one.alive[k]], left))
    choices = {
        "trivial": _choice((trivial_evidence(document, one.head, one.tail), gold) for document, one, gold in found)
    }
    if threshold is not None:
        choices["importance"] = _choice((evidence(one, threshold), gold) for _, one, gold in found)
    return EvidenceReport(
        triples=len(found),
        documents=len({id(document) for document, _, _ in found}),
        rankings={name: _ranking_score(pairs) for name, pairs in ranked.items()},
        choices=choices,
        threshold=threshold,
        excluded={reason: n for reason, n in excluded.items() if n},
    )


def _ranking_score(pairs: Sequence[tuple[Sequence[int], Collection[int]]]) -> RankingScore:
    if not pairs:
        return RankingScore(mean_average_precision=None, top_1=None, triples=0)
    return RankingScore(
        mean_average_precision=sum(average_precision(ranked, gold) for ranked, gold in pairs) / len(pairs),
        top_1=sum(top_1(ranked, gold) for ranked, gold in pairs) / len(pairs),
        triples=len(pairs),
    )


def _choice(pairs: Iterable[tuple[Sequence[int], Collection[int]]]) -> ChoiceScore:
    correct = chosen = gold_total = 0
    for picked, gold in pairs:
        correct += len(set(picked) & set(gold))
        chosen += len(set(picked))
        gold_total += len(set(gold))
    return ChoiceScore(
        precision=correct / chosen if chosen else 0.0,
        recall=correct / gold_total if gold_total else 0.0,
        f1=_f1(correct, chosen, gold_total),
        correct=correct,
        chosen=chosen,
        gold=gold_total,
    )
