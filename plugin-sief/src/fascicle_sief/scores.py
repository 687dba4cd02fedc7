"""The official evaluation of DocRED and the breakdowns of Re-DocRED, by their rules; thresholds and intervals beside them.

Source: the rules of thunlp/DocRED `code/evaluation.py` and tonytan48/Re-DocRED `evaluation.py`, written afresh. Both stop at
divisions by zero and the first at an empty submission; here such a score is 0. Threshold search and bootstrap are our choice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import SiefError

if TYPE_CHECKING:
    import numpy as np

    from .document import Document

__all__ = [
    "FREQUENT",
    "Counts",
    "Fact",
    "Prediction",
    "best_threshold",
    "bootstrap_f1_difference",
    "docred_scores",
    "document_counts",
    "redocred_scores",
    "train_facts",
]

Fact = tuple[str, str, str]
"""(name of a head mention, name of a tail mention, relation)."""
Counts = tuple[int, int, int]
"""(correct, predicted, gold) triples."""
Triple = tuple[str, int, int, str]

FREQUENT = frozenset({"P17", "P131", "P27", "P150", "P175", "P577", "P463", "P527", "P495", "P361"})
"""Re-DocRED's ten most frequent relations; all others are its long tail."""

_IGN_KEYS = {"annotated": "ign", "distant": "ign_distant"}


@dataclass(frozen=True, slots=True)
class Prediction:
    """One predicted triple; a row of the official `result.json`.

    >>> Prediction("RATM", head=0, tail=1, relation="P463").triple
    ('RATM', 0, 1, 'P463')
    """

    title: str
    head: int
    tail: int
    relation: str
    evidence: tuple[int, ...] = ()
    """Sentences that show it; empty: none were predicted."""

    @property
    def triple(self) -> Triple:
        """What makes two predictions the same one: everything but the evidence."""
        return self.title, self.head, self.tail, self.relation


@dataclass(frozen=True)
class _Gold:
    evidence: dict[Triple, frozenset[int]]
    """Each triple once; the last of its label rows has the evidence."""
    evidence_rows: int
    """Sentences of evidence over all label rows, repeated rows included."""
    documents: dict[str, Document]


def _gold(documents: Iterable[Document]) -> _Gold:
    evidence: dict[Triple, frozenset[int]] = {}
    rows = 0
    titles: dict[str, Document] = {}
    for doc in documents:
        titles[doc.title] = doc
        for relation in doc.relations:
            sentences = relation.evidence or ()
            evidence[doc.title, relation.head, relation.tail, relation.type] = frozenset(sentences)
            rows += len(sentences)
    return _Gold(evidence, rows, titles)


def _distinct(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The first of each triple, whose evidence counts: what the official stable sort leaves."""
    first: dict[Triple, Prediction] = {}
    for prediction in predictions:
        first.setdefault(prediction.triple, prediction)
    return list(first.values())


def _names(doc: Document, entity: int) -> set[str]:
    return {m.name or doc.text(m.sentence, m.start, m.end) for m in doc.entities[entity]}


def train_facts(documents: Iterable[Document]) -> frozenset[Fact]:
    """Every (head name, tail name, relation) of the training labels, over all pairs of mention names.

    >>> from fascicle_sief.document import Document, Mention, Relation
    >>> doc = Document(
    ...     "d", [["Wilk", "of", "Rage"]], [[Mention(0, 0, 1)], [Mention(0, 2, 3)]], [Relation(0, 1, "P463")]
    ... )
    >>> train_facts([doc])
    frozenset({('Wilk', 'Rage', 'P463')})
    """
    return frozenset(
        (head, tail, relation.type)
        for doc in documents
        for relation in doc.relations
        for head in _names(doc, relation.head)
        for tail in _names(doc, relation.tail)
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _f1(precision: float, recall: float) -> float:
    return _ratio(2 * precision * recall, precision + recall)


def _prf(prefix: str, correct: float, predicted: float, gold: float) -> dict[str, float]:
    precision, recall = _ratio(correct, predicted), _ratio(correct, gold)
    return {f"{prefix}f1": _f1(precision, recall), f"{prefix}precision": precision, f"{prefix}recall": recall}


def docred_scores(
    documents: Sequence[Document],
    predictions: Sequence[Prediction],
    facts: Mapping[str, frozenset[Fact]] | None = None,
) -> dict[str, float]:
    """Official DocRED scores in [0, 1]: `f1`, `evidence_f1`, `ign_f1` with their precisions and recalls.

    A repeated prediction counts once, with the evidence of its first row. A title that is not in `documents` counts in the
    precision of triples, not in that of evidence. A repeated gold label counts once, with the evidence of its last row, but all
    its rows count in the recall of evidence; unknown evidence is no sentence.

    Ign leaves out correct triples that the training labels contain under any of their names:
    `ign_precision = (correct - in train) / (predicted - in train)`; `ign_f1` takes it with the plain recall.

    Args:
        documents: with gold relations.
        predictions: of all documents, in the order of the submission.
        facts: `annotated`: [`train_facts`] of the training set, gives `ign_f1` and `ign_precision`; `distant`: of the distantly
            labelled set, gives `ign_distant_f1` and `ign_distant_precision`. What is not given is not scored.

    Raises:
        SiefError: facts under another name.

    Example:
        >>> from fascicle_sief.document import Document, Mention, Relation
        >>> doc = Document(
        ...     "d", [["Wilk", "of", "Rage"]], [[Mention(0, 0, 1)], [Mention(0, 2, 3)]], [Relation(0, 1, "P463")]
        ... )
        >>> scores = docred_scores([doc], [Prediction("d", 0, 1, "P463"), Prediction("d", 1, 0, "P463")])
        >>> scores["precision"], scores["recall"], "ign_f1" in scores
        (0.5, 1.0, False)
        >>> docred_scores([doc], [])["f1"]
        0.0
    """
    return _official(_gold(documents), _distinct(predictions), facts or {}, extra_evidence=0, extra_ign=0.0)


def _official(
    gold: _Gold,
    predictions: Sequence[Prediction],
    facts: Mapping[str, frozenset[Fact]],
    *,
    extra_evidence: int,
    extra_ign: float,
) -> dict[str, float]:
    unknown = sorted(set(facts) - set(_IGN_KEYS))
    if unknown:
        raise SiefError(
            f"facts: got {', '.join(map(repr, unknown))}, expected some of {', '.join(map(repr, _IGN_KEYS))}"
        )
    correct = [p for p in predictions if p.triple in gold.evidence]
    scores = _prf("", len(correct), len(predictions), len(gold.evidence))
    hits = sum(len(gold.evidence[p.triple] & set(p.evidence)) for p in correct)
    shown = sum(len(set(p.evidence)) for p in predictions if p.title in gold.documents)
    scores |= _prf("evidence_", hits, shown, gold.evidence_rows + extra_evidence)
    for name, known in facts.items():
        in_train = sum(_is_fact(gold.documents[p.title], p, known) for p in correct)
        precision = _ratio(len(correct) - in_train, len(predictions) - in_train + extra_ign)
        key = _IGN_KEYS[name]
        scores |= {f"{key}_f1": _f1(precision, scores["recall"]), f"{key}_precision": precision}
    return scores


def _is_fact(doc: Document, prediction: Prediction, facts: frozenset[Fact]) -> bool:
    heads, tails = _names(doc, prediction.head), _names(doc, prediction.tail)
    return any((head, tail, prediction.relation) in facts for head in heads for tail in tails)


# ---- Re-DocRED -----------------------------------------------------------------------------------------------------------


def redocred_scores(
    documents: Sequence[Document],
    predictions: Sequence[Prediction],
    facts: Mapping[str, frozenset[Fact]] | None = None,
) -> dict[str, float]:
    """Scores in [0, 1] as Re-DocRED's script has them: those of [`docred_scores`] and its breakdowns.

    Two constants differ from DocRED's: one sentence more in the recall of evidence, and 1e-5 more in the denominator of Ign.
    Breakdowns have the keys `frequent_f1`, `frequent_precision`, `frequent_recall`, and so on:

    - `frequent`: relations in [`FREQUENT`]; `long_tail`: all others;
    - `intra`: some head and tail mention share a sentence; `inter`: none do; `inter_long`: the nearest are more than 5 apart.

    An unknown title counts in the first two and in neither of the others (the script stops there). A submission of one row is
    scored like any other (the script takes it for an empty one).

    Raises:
        SiefError: facts under another name.

    Example:
        >>> from fascicle_sief.document import Document, Mention, Relation
        >>> doc = Document(
        ...     "d", [["Wilk", "of", "Rage"]], [[Mention(0, 0, 1)], [Mention(0, 2, 3)]], [Relation(0, 1, "P463")]
        ... )
        >>> scores = redocred_scores([doc], [Prediction("d", 0, 1, "P463")])
        >>> scores["intra_f1"], scores["inter_f1"], scores["frequent_recall"]
        (1.0, 0.0, 1.0)
    """
    gold, distinct = _gold(documents), _distinct(predictions)
    scores = _official(gold, distinct, facts or {}, extra_evidence=1, extra_ign=1e-5)

    def apart(triple: Triple) -> float:
        return _sentences_apart(gold.documents.get(triple[0]), triple[1], triple[2])

    parts: dict[str, Callable[[Triple], bool]] = {
        "frequent": lambda triple: triple[3] in FREQUENT,
        "long_tail": lambda triple: triple[3] not in FREQUENT,
        "intra": lambda triple: apart(triple) == 0,
        "inter": lambda triple: apart(triple) >= 1,
        "inter_long": lambda triple: apart(triple) > 5,
    }
    predicted = [p.triple for p in distinct]
    for name, belongs in parts.items():
        asked = [triple for triple in predicted if belongs(triple)]
        correct = sum(triple in gold.evidence for triple in asked)
        scores |= _prf(f"{name}_", correct, len(asked), sum(map(belongs, gold.evidence)))
    return scores


def _sentences_apart(doc: Document | None, head: int, tail: int) -> float:
    """Distance of the nearest mentions; NaN, which no comparison meets, where there is no such pair of entities."""
    if doc is None or not (0 <= head < len(doc.entities) and 0 <= tail < len(doc.entities)):
        return math.nan
    return min((abs(h - t) for h in doc.sentences_of(head) for t in doc.sentences_of(tail)), default=math.inf)


# ---- documents, intervals, thresholds ------------------------------------------------------------------------------------


def document_counts(documents: Sequence[Document], predictions: Sequence[Prediction]) -> dict[str, Counts]:
    """Title to (correct, predicted, gold) triples; summed over titles they give the official `f1`.

    Predictions with an unknown title stand under that title, with no gold.

    >>> from fascicle_sief.document import Document
    >>> document_counts([Document("d", [], [])], [Prediction("d", 0, 1, "P17"), Prediction("other", 0, 1, "P17")])
    {'d': (0, 1, 0), 'other': (0, 1, 0)}
    """
    gold, distinct = _gold(documents), _distinct(predictions)
    predicted = Counter(p.title for p in distinct)
    correct = Counter(p.title for p in distinct if p.triple in gold.evidence)
    labelled = Counter(triple[0] for triple in gold.evidence)
    return {title: (correct[title], predicted[title], labelled[title]) for title in [*gold.documents, *predicted]}


def bootstrap_f1_difference(
    counts_a: Mapping[str, Counts], counts_b: Mapping[str, Counts], resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """F1 of a minus F1 of b, with a 95 % percentile interval: documents are drawn with replacement, the same for both.

    Args:
        counts_a: of one model, from [`document_counts`].
        counts_b: of another one, on the same documents.
        resamples: draws of as many documents as there are; at least 1.
        seed: of the draws.

    Returns:
        (difference, low, high).

    Raises:
        SiefError: no documents, counts of different documents, or no resamples.

    Example:
        >>> a, b = {"d": (2, 2, 2), "e": (1, 1, 1)}, {"d": (1, 2, 2), "e": (1, 1, 1)}
        >>> difference, low, high = bootstrap_f1_difference(a, b)
        >>> round(difference, 3), low, high
        (0.333, 0.0, 0.5)
    """
    import numpy as np

    titles = list(dict.fromkeys([*counts_a, *counts_b]))
    if not titles or resamples < 1:
        raise SiefError(
            f"a bootstrap needs documents and resamples, got {len(titles)} documents, resamples={resamples}"
        )
    for title in titles:
        gold_a, gold_b = counts_a.get(title, (0, 0, 0))[2], counts_b.get(title, (0, 0, 0))[2]
        if gold_a != gold_b:
            raise SiefError(
                f"document {title!r} has {gold_a} gold triples on one side and {gold_b} on the other; "
                "compare two models on the same documents"
            )
    a, b = (
        np.array([c.get(title, (0, 0, 0)) for title in titles], dtype=float) for c in (counts_a, counts_b)
    )  # (D, 3)
    n = len(titles)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)  # (resamples, D)

    def f1(counts: np.ndarray) -> np.ndarray:  # (..., 3) -> (...)
        correct, predicted, gold = np.moveaxis(counts, -1, 0)
        return np.asarray(2 * correct / np.maximum(predicted + gold, 1))

    low, high = np.percentile(f1(draws @ a) - f1(draws @ b), [2.5, 97.5])
    return float(f1(a.sum(axis=0)) - f1(b.sum(axis=0))), float(low), float(high)


def best_threshold(
    scores: np.ndarray, correct: np.ndarray, gold: int, in_train: np.ndarray | None = None
) -> tuple[float, float]:
    """The threshold theta with the best F1 when every candidate with `score > theta` is predicted.

    Theta lies midway between two different scores, so that candidates with the same score are predicted together. Of equally
    good thresholds the highest, which predicts least.

    Args:
        scores: (N,), of all candidate triples.
        correct: (N,) bool, whether the candidate is a gold triple.
        gold: number of gold triples, candidates or not.
        in_train: (N,) bool, whether it is a training fact; given, the F1 is Ign F1.

    Returns:
        (theta, F1); where nothing gives an F1 above 0, theta is the highest score (infinite without candidates): predict nothing.

    Raises:
        SiefError: arrays of different shapes, or a score that is not a number.

    Example:
        >>> import numpy as np
        >>> best_threshold(np.array([0.9, 0.6, 0.6, 0.1]), np.array([True, True, False, False]), gold=2)
        (0.35, 0.8)
    """
    import numpy as np

    scores = scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(float)
    ignored = np.zeros(len(scores), dtype=bool) if in_train is None else np.asarray(in_train, dtype=bool)
    correct = np.asarray(correct, dtype=bool)
    if not (scores.ndim == 1 and scores.shape == correct.shape == ignored.shape):
        raise SiefError(
            "scores, correct and in_train: expected three arrays of one shape (N,), "
            f"got {scores.shape}, {correct.shape}, {ignored.shape}"
        )
    if np.isnan(scores).any():
        raise SiefError(
            f"scores: {int(np.isnan(scores).sum())} of {len(scores)} are not numbers; the model has diverged"
        )
    if not len(scores):
        return math.inf, 0.0
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(correct[order])
    seen = np.cumsum((correct & ignored)[order])
    asked = np.arange(1, len(ranked) + 1)
    # Ign F1 with precision (hits - seen) / (asked - seen) and recall hits / gold; without training facts the plain F1.
    precision = (hits - seen) / np.maximum(asked - seen, 1)
    recall = hits / max(gold, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    cuts = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of each run of equal scores
    best = int(cuts[np.argmax(f1[cuts])])
    if f1[best] == 0:
        return float(ranked[0]), 0.0
    return _between(ranked, best), float(f1[best])


def _between(ranked: np.ndarray, last: int) -> float:
    """A number below `ranked[last]` and not below the next score, exact in the scores' own precision."""
    import numpy as np

    upper = ranked[last]
    if last + 1 == len(ranked):
        return float(np.nextafter(upper, -np.inf, dtype=ranked.dtype))
    lower = ranked[last + 1]
    middle = lower + (upper - lower) / 2
    return float(middle if lower <= middle < upper else lower)
