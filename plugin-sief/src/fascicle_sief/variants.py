"""Views of a document: sentences in another order, foreign sentences among its own; and what a model predicts from each view.

Our choice; the paper only removes sentences. The measures over these records stand in `robustness`.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .document import Document, drop_sentences
from .errors import DocumentError
from .importance import gold_triples, unusable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .document import Mention
    from .importance import Triple

__all__ = [
    "DocumentRecord",
    "Plan",
    "TripleRecord",
    "VariantCounts",
    "insert_sentences",
    "order_sentences",
    "plan_views",
    "record_views",
]

Order = tuple[int, ...]
"""Sentences that a view has, in its order."""


# ---- views of a document -------------------------------------------------------------------------------------------------


def order_sentences(document: Document, order: Sequence[int]) -> Document:
    """The document with these of its sentences, in this order; everything that points into it is renumbered.

    Raises:
        DocumentError: a sentence that is not there, or one that is named twice.

    >>> from fascicle_sief.document import Mention
    >>> doc = Document("d", [["a"], ["b"], ["c"]], [[Mention(0, 0, 1)], [Mention(2, 0, 1)]])
    >>> order_sentences(doc, (2, 0)).sentences, order_sentences(doc, (2, 0)).entities[0][0].sentence
    ((('c',), ('a',)), 1)
    """
    if len(set(order)) < len(order) or not set(order) <= set(range(len(document))):
        raise DocumentError(
            f"document {document.title!r}: order: expected different sentences from 0 to {len(document) - 1}, got {list(order)}"
        )
    short = drop_sentences(document, set(range(len(document))) - set(order)).document
    kept = sorted(order)
    if list(order) == kept:
        return short
    old = [kept.index(k) for k in order]
    new = {k: place for place, k in enumerate(old)}
    relations = [
        relation
        if relation.evidence is None
        else dataclasses.replace(relation, evidence=tuple(sorted(new[k] for k in relation.evidence)))
        for relation in short.relations
    ]
    return Document(
        short.title,
        [short.sentences[k] for k in old],
        [[dataclasses.replace(m, sentence=new[m.sentence]) for m in mentions] for mentions in short.entities],
        relations,
        short.pairs,
        None if short.trailing is None else [short.trailing[k] for k in old],
    )


def insert_sentences(document: Document, other: Document, sentences: Sequence[int], before: Sequence[int]) -> Document:
    """The document with sentences of another one among its own.

    The entities that they mention are added behind those of the document, and only the document's own pairs are asked about. A
    foreign mention never joins an entity of the document, even where the names are equal.

    Args:
        document: gets the sentences.
        other: gives them.
        sentences: of `other`.
        before: for each of them, the sentence of `document` that it comes to stand before; its length: at the end.

    Raises:
        DocumentError: places and sentences differ in number, or do not exist.

    >>> from fascicle_sief.document import Mention
    >>> doc = Document("d", [["a"], ["b"]], [[Mention(0, 0, 1)], [Mention(1, 0, 1)]])
    >>> both = insert_sentences(doc, Document("e", [["x"]], [[Mention(0, 0, 1)]]), [0], [1])
    >>> both.sentences, [[m.sentence for m in e] for e in both.entities], both.all_pairs()
    ((('a',), ('x',), ('b',)), [[0], [2], [1]], ((0, 1), (1, 0)))
    """
    if len(before) != len(sentences) or not all(0 <= place <= len(document) for place in before):
        raise DocumentError(
            f"document {document.title!r}: before: expected {len(sentences)} places from 0 to {len(document)}, got {list(before)}"
        )
    guest = order_sentences(other, sorted(sentences))
    places = sorted(zip(before, range(len(guest)), strict=True))
    line: list[tuple[Document, int]] = []
    for k in range(len(document) + 1):
        line += [(guest, g) for place, g in places if place == k]
        line += [(document, k)] if k < len(document) else []
    new = {(id(doc), k): place for place, (doc, k) in enumerate(line)}

    def moved(doc: Document, mentions: Iterable[Mention]) -> list[Mention]:
        return [dataclasses.replace(m, sentence=new[id(doc), m.sentence]) for m in mentions]

    trailing = None
    if document.trailing is not None:
        trailing = [doc.trailing[k] if doc.trailing is not None else (" ",) * len(doc.sentences[k]) for doc, k in line]
    return Document(
        document.title,
        [doc.sentences[k] for doc, k in line],
        [
            *(moved(document, mentions) for mentions in document.entities),
            *(moved(guest, mentions) for mentions in guest.entities if mentions),
        ],
        [
            r
            if r.evidence is None
            else dataclasses.replace(r, evidence=tuple(new[id(document), k] for k in r.evidence))
            for r in document.relations
        ],
        document.all_pairs(),
        trailing,
    )


# ---- records -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TripleRecord:
    """Whether one gold triple is predicted from each view of its document; None where there is no such view."""

    head: int
    tail: int
    relation: str
    evidence: tuple[int, ...] | None
    full: bool
    without: tuple[bool | None, ...]
    """Without sentence k, for every k; None where an entity is lost with it; empty where the evidence is unknown."""
    evidence_only: bool | None
    """None where the evidence is unknown or does not mention both entities."""
    shuffled: bool | None
    inserted: bool | None
    random_removed: bool | None


@dataclass(frozen=True, kw_only=True)
class VariantCounts:
    """Of one document under one variant: predicted triples, those of them that are gold, gold triples."""

    predicted: int
    correct: int
    gold: int


@dataclass(frozen=True, kw_only=True)
class DocumentRecord:
    """What was drawn for one document and what came of it."""

    title: str
    sentences: int
    triples: tuple[TripleRecord, ...]
    counts: Mapping[str, VariantCounts]
    """By variant; a variant that the document does not have is missing."""
    new_positives: int | None
    """Triples predicted without sentence `removed` but not with it; None for a document of one sentence."""
    removed: int | None
    """The random sentence; None for a document of one sentence."""
    order: tuple[int, ...]
    """The random order."""
    foreign: tuple[str, tuple[int, ...], tuple[int, ...]] | None
    """Title, sentences and places of what was inserted."""
    excluded: Mapping[str, int]
    """Gold triples without a record, by reason."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The views of one document: sentences kept, in order; and the foreign sentences. Made by [`plan_views`]."""

    document: Document
    gold: dict[Triple, tuple[int, ...] | None]
    usable: list[Triple]
    order: Order
    removed: int | None
    variants: dict[str, Order]
    """Views of the whole document by variant, without the insertion."""
    orders: tuple[Order, ...]
    """All different views."""
    foreign: tuple[Document, tuple[int, ...], tuple[int, ...]] | None

    def __len__(self) -> int:
        """Views."""
        return len(self.orders) + (self.foreign is not None)

    def views(self) -> Iterator[Document]:
        """The document as each view shows it, the one with foreign sentences last."""
        for order in self.orders:
            yield order_sentences(self.document, order)
        if self.foreign is not None:
            yield insert_sentences(self.document, *self.foreign)


def plan_views(
    document: Document, others: Sequence[Document], relations: Sequence[str], seed: int, foreign: int
) -> Plan:
    """All views of a document that the measures need, those that coincide once.

    Args:
        document: with at least one sentence.
        others: may give foreign sentences; the document itself is passed over.
        relations: that the model knows.
        seed: with the text of the document the seed of all that is drawn.
        foreign: sentences to insert; 0: none.

    >>> doc = Document("d", [["a"], ["b"]], [[], []])
    >>> plan_views(doc, [doc], ["r"], seed=0, foreign=2).variants["shuffled"]
    (1, 0)
    """
    gold = gold_triples(document)
    usable = [triple for triple in gold if unusable(document, triple, relations) is None]
    marked = {t: e for t in usable if (e := gold[t]) is not None}
    n = len(document)
    rng = _generator(seed, document)
    order = _other_order(rng, n) if n > 1 else (0,)
    removed = int(rng.integers(n)) if n > 1 else None
    union = sorted({k for evidence in gold.values() for k in evidence or ()})
    variants = {"full": tuple(range(n))}
    if removed is not None:
        variants["shuffled"] = order
        variants["random_removed"] = _without(n, removed)
    if union:
        variants["non_evidence_removed"] = tuple(union)
        variants["evidence_removed"] = _without(n, int(rng.choice(union)))
    orders = dict.fromkeys(variants.values())
    if marked:
        orders |= dict.fromkeys(_without(n, k) for k in range(n))
        orders |= dict.fromkeys(e for (h, t, _), e in marked.items() if _mentions_both(document, h, t, e))
    return Plan(
        document=document,
        gold=gold,
        usable=usable,
        order=order,
        removed=removed,
        variants=variants,
        orders=tuple(orders),
        foreign=_foreign(rng, document, others, foreign),
    )


def _generator(seed: int, document: Document) -> np.random.Generator:
    """Draws depend on the text, not on the document's place in the set, so that a part of the set draws the same."""
    text = "\n".join([document.title, *(" ".join(words) for words in document.sentences)])
    return np.random.default_rng([seed, zlib.crc32(text.encode("utf-8", "surrogatepass"))])


def _other_order(rng: np.random.Generator, n: int) -> Order:
    """A random order of at least two sentences that is not the text's own."""
    own = tuple(range(n))
    order: Order = own
    while order == own:
        order = tuple(rng.permutation(n).tolist())
    return order


def _without(n: int, k: int) -> Order:
    return tuple(i for i in range(n) if i != k)


def _mentions_both(document: Document, head: int, tail: int, sentences: Iterable[int]) -> bool:
    kept = set(sentences)
    return bool(kept & document.sentences_of(head)) and bool(kept & document.sentences_of(tail))


def _foreign(
    rng: np.random.Generator, document: Document, others: Sequence[Document], most: int
) -> tuple[Document, tuple[int, ...], tuple[int, ...]] | None:
    givers = [other for other in others if other is not document and len(other)]
    if not givers or not most:
        return None
    other = givers[int(rng.integers(len(givers)))]
    k = min(most, len(other))
    sentences = np.sort(rng.choice(len(other), k, replace=False)).tolist()
    return other, tuple(sentences), tuple(np.sort(rng.integers(len(document) + 1, size=k)).tolist())


def record_views(plan: Plan, passes: Sequence[NDArray[np.bool_]], relations: Sequence[str]) -> DocumentRecord:
    """What was predicted from the views of a document.

    Args:
        plan: of the document.
        passes: for each of its views (P, R), whether the relation is predicted.
        relations: the R relations.

    >>> doc = Document("d", [["a"], ["b"]], [[], []])
    >>> plan = plan_views(doc, [], ["r"], seed=0, foreign=0)
    >>> record_views(plan, [np.ones((2, 1), bool)] * len(plan), ["r"]).counts["full"]
    VariantCounts(predicted=2, correct=0, gold=0)
    """
    document, n = plan.document, len(plan.document)
    seen = dict(zip(plan.orders, passes, strict=False))
    variants = {name: seen[order] for name, order in plan.variants.items()}
    if plan.foreign is not None:
        variants["inserted"] = passes[-1]
    rows = {pair: row for row, pair in enumerate(document.all_pairs())}
    columns = {relation: column for column, relation in enumerate(relations)}

    def cell(triple: Triple, view: NDArray[np.bool_] | None) -> bool | None:
        return None if view is None else bool(view[rows[triple[:2]], columns[triple[2]]])

    triples = []
    for triple in plan.usable:
        head, tail, relation = triple
        evidence = plan.gold[triple]
        without = [
            cell(triple, seen[view]) if _mentions_both(document, head, tail, view) else None
            for view in (_without(n, k) for k in range(n if evidence is not None else 0))
        ]
        covered = evidence is not None and _mentions_both(document, head, tail, evidence)
        removed = variants.get("random_removed")
        if removed is not None and not _mentions_both(document, head, tail, plan.variants["random_removed"]):
            removed = None
        triples.append(
            TripleRecord(
                head=head,
                tail=tail,
                relation=relation,
                evidence=evidence,
                full=bool(cell(triple, variants["full"])),
                without=tuple(without),
                evidence_only=cell(triple, seen[evidence]) if covered and evidence is not None else None,
                shuffled=cell(triple, variants.get("shuffled")),
                inserted=cell(triple, variants.get("inserted")),
                random_removed=cell(triple, removed),
            )
        )
    reasons = Counter(unusable(document, triple, relations) for triple in plan.gold)
    counts = {
        name: VariantCounts(
            predicted=int(view.sum()), correct=sum(bool(cell(t, view)) for t in plan.usable), gold=len(plan.gold)
        )
        for name, view in variants.items()
    }
    new = None if plan.removed is None else int((variants["random_removed"] & ~variants["full"]).sum())
    return DocumentRecord(
        title=document.title,
        sentences=n,
        triples=tuple(triples),
        counts=counts,
        new_positives=new,
        removed=plan.removed,
        order=plan.order,
        foreign=None if plan.foreign is None else (plan.foreign[0].title, *plan.foreign[1:]),
        excluded={reason: count for reason, count in reasons.items() if reason is not None},
    )
