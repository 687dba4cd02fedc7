"""Relations of one document with the sentences that each rests on: any text, no gold labels, no evidence labels.

Our choice; the paper uses importance in training only. Importance describes the model, not the truth: a wrong prediction has its
important sentences too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import SiefError
from .importance import evidence, predicted_triples, sentence_importance, stream_probabilities

if TYPE_CHECKING:
    from .document import Document
    from .importance import Importance, Triple
    from .scorer import Scorer

__all__ = ["NOTE", "Explanation", "Prediction", "predict"]

NOTE = (
    "Importance says how much the model's answer depends on a sentence. It describes the model, not the truth: "
    "a wrong answer has its important sentences too."
)
"""Stands beside every importance that is shown."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One predicted relation."""

    head: int
    tail: int
    relation: str
    probability: float
    head_name: str
    tail_name: str
    relation_name: str
    importance: Importance | None
    """None where it was not asked for."""
    evidence: tuple[int, ...] | None
    """Sentences chosen by importance; those with which an entity is lost are among them."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a model predicts for a document, and why. Made by [`predict`]."""

    document: Document = field(repr=False)
    predictions: tuple[Prediction, ...]
    """Most probable first."""
    threshold: float
    evidence_threshold: float
    left_out: int
    """Less probable predictions that `top` left out."""

    def to_json(self) -> dict[str, Any]:
        """As plain data; `result` holds the rows of a DocRED submission, evidence filled in."""
        document = self.document
        return {
            "title": document.title,
            "note": NOTE,
            "threshold": self.threshold,
            "evidence_threshold": self.evidence_threshold,
            "left_out": self.left_out,
            "sentences": [document.text(k) for k in range(len(document))],
            "entities": [
                {
                    "name": document.name(e),
                    "type": document.type(e),
                    "mentions": [{"sentence": m.sentence, "start": m.start, "end": m.end} for m in mentions],
                }
                for e, mentions in enumerate(document.entities)
            ],
            "relations": [_row(prediction) for prediction in self.predictions],
            "result": [
                {
                    "title": document.title,
                    "h_idx": p.head,
                    "t_idx": p.tail,
                    "r": p.relation,
                    "evidence": list(p.evidence or ()),
                }
                for p in self.predictions
            ],
        }

    def to_ansi(self) -> str:
        """For a terminal, in colour."""
        from .views import ansi

        return ansi(self)

    def to_html(self) -> str:
        """One self-contained page."""
        from .views import html

        return html(self)


def _row(prediction: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {
        "head": prediction.head,
        "tail": prediction.tail,
        "relation": prediction.relation,
        "head_name": prediction.head_name,
        "tail_name": prediction.tail_name,
        "relation_name": prediction.relation_name,
        "probability": prediction.probability,
        "evidence": None if prediction.evidence is None else list(prediction.evidence),
        "sentences": None,
    }
    one = prediction.importance
    if one is not None:
        row["sentences"] = [
            {
                "sentence": k,
                "probability_without": one.p_without[k],
                "score": one.score[k],
                "entity_lost": not one.alive[k],
                "head_mentions": one.mentions[k][0],
                "tail_mentions": one.mentions[k][1],
            }
            for k in range(len(one.alive))
        ]
    return row


def predict(
    scorer: Scorer,
    document: Document,
    *,
    importance: bool = True,
    evidence_threshold: float = 0.8,
    top: int | None = None,
    relation_names: Mapping[str, str] | None = None,
    batch_documents: int = 32,
    advance: Callable[[int], None] | None = None,
) -> Explanation:
    """Relations between the entities of a document, and how much each depends on each sentence.

    Args:
        scorer: the model.
        document: of N sentences.
        importance: one pass more for each sentence; False: relations only.
        evidence_threshold: sentences with a higher importance are the evidence. 0.8 is the paper's beta; `choose_threshold` finds
            one for a model from documents with evidence.
        top: the most probable relations only; None: all that are above the model's threshold.
        relation_names: for reading, e.g. `{"P17": "country"}`; a relation that is missing keeps its name.
        batch_documents: given to the model at once.
        advance: called with the number of passes that were done.

    Raises:
        SiefError: `top` below 1.
        ModelError: the model's answer is malformed.

    Example:
        >>> import numpy as np
        >>> from fascicle_sief.document import Document, Mention
        >>> class Joined:  # needs the word
        ...     relations, threshold = ("member of",), 0.5
        ...
        ...     def probabilities(self, documents):
        ...         found = [any("joined" in words for words in d.sentences) for d in documents]
        ...         return [np.array([[0.1 + 0.8 * f], [0.0]]) for f in found]
        >>> ends = [[Mention(0, 0, 1), Mention(1, 0, 1)], [Mention(0, 2, 3), Mention(1, 2, 3)]]
        >>> doc = Document("d", [["Wilk", "joined", "Rage"], ["Wilk", "left", "Rage"]], ends)
        >>> (one,) = predict(Joined(), doc).predictions
        >>> one.head_name, one.relation, one.tail_name, one.evidence
        ('Wilk', 'member of', 'Rage', (0,))
    """
    if top is not None and top < 1:
        raise SiefError(f"top: expected at least 1, or None for all, got {top}")
    reasons: list[Importance | None]
    if importance:
        found = sentence_importance(scorer, document, batch_documents=batch_documents, advance=advance)
        cells = [((one.head, one.tail, one.relation), one.p) for one in found]
        reasons = list(found)
    else:
        cells = _predicted(scorer, document, advance)
        reasons = [None] * len(cells)
    predictions = tuple(
        Prediction(
            head=head,
            tail=tail,
            relation=relation,
            probability=p,
            head_name=document.name(head),
            tail_name=document.name(tail),
            relation_name=(relation_names or {}).get(relation, relation),
            importance=reason,
            evidence=None if reason is None else evidence(reason, evidence_threshold),
        )
        for ((head, tail, relation), p), reason in list(zip(cells, reasons, strict=True))[:top]
    )
    return Explanation(
        document=document,
        predictions=predictions,
        threshold=float(scorer.threshold),
        evidence_threshold=evidence_threshold,
        left_out=len(cells) - len(predictions),
    )


def _predicted(scorer: Scorer, document: Document, advance: Callable[[int], None] | None) -> list[tuple[Triple, float]]:
    (p,) = stream_probabilities(scorer, [document], advance=advance)
    rows = {pair: row for row, pair in enumerate(document.all_pairs())}
    columns = {relation: column for column, relation in enumerate(scorer.relations)}
    found = predicted_triples(scorer, document, p)
    return [((h, t, r), float(p[rows[h, t], columns[r]])) for h, t, r in found]
