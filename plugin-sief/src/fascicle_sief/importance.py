"""How much a prediction depends on each sentence, and evidence chosen from that, without evidence labels.

The score is the paper's (sentence importance estimation; official code, `SentenceFocus`): p log(p / p without the sentence). The
paper uses it on one random sentence in training; scoring every sentence, ranking them and choosing evidence above a threshold are
our choice, and so are the two rules without a model that stand beside every number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from .document import drop_sentences
from .errors import DocumentError, ModelError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .document import Document
    from .scorer import Scorer

    Floats = NDArray[np.float64]

__all__ = [
    "EPSILON",
    "Importance",
    "Triple",
    "evidence",
    "gold_triples",
    "importances",
    "leave_one_out",
    "mention_ranking",
    "official_score",
    "predicted_triples",
    "ranking",
    "score",
    "sentence_importance",
    "stream_probabilities",
    "trivial_evidence",
    "unusable",
]

Triple = tuple[int, int, str]
"""(head entity, tail entity, name of the relation)."""
EPSILON = 1e-11
"""Of the official code, added to the probability without the sentence."""
_TINY = float(np.finfo(np.float64).tiny)


# ---- the score -----------------------------------------------------------------------------------------------------------


def score(p: ArrayLike, p_without: ArrayLike) -> Floats:
    """s = p (log p - log p^), p^ the probability without the sentence; any shapes that fit each other.

    Positive where the sentence supports the prediction, negative where the prediction gains without it. Finite for all
    probabilities: p = 0 gives 0, and p^ counts as at least 2e-308.

    >>> score([0.95, 0.4], [0.4, 0.9]).round(6).tolist()
    [0.821748, -0.324372]
    """
    whole, less = np.asarray(p, np.float64), np.asarray(p_without, np.float64)
    result: Floats = whole * (np.log(np.maximum(whole, _TINY)) - np.log(np.maximum(less, _TINY)))
    return result


def official_score(p: ArrayLike, p_without: ArrayLike) -> Floats:
    """s = p log(p / (p^ + 1e-11)), as in the official code; 0 where p is 0. At most about 25.

    >>> official_score(0.95, 0.4).round(6).item(), official_score(1.0, 0.0).round(2).item()
    (0.821748, 25.33)
    """
    whole, less = np.asarray(p, np.float64), np.asarray(p_without, np.float64)
    return whole * np.log(np.maximum(whole, _TINY) / (less + EPSILON))


# ---- asking the model ----------------------------------------------------------------------------------------------------


def stream_probabilities(
    scorer: Scorer,
    documents: Iterable[Document],
    *,
    batch_documents: int = 32,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Floats]:
    """(P, R) probabilities of each document in turn; documents are taken and given to the model a batch at a time.

    A document without sentences is not given to the model: all its probabilities are 0.

    Args:
        scorer: the model.
        documents: any number; read as they are needed.
        batch_documents: given to the model at once.
        advance: called with the number of documents that were done.

    Raises:
        ModelError: `batch_documents` below 1; the model gave another number of arrays, another shape, or no probabilities.

    >>> from fascicle_sief.document import Document
    >>> class Sure:
    ...     relations, threshold = ("works for",), 0.5
    ...
    ...     def probabilities(self, documents):
    ...         return [np.ones((len(d.all_pairs()), 1)) for d in documents]
    >>> [p.shape for p in stream_probabilities(Sure(), [Document("d", [["a"]], [[], []])])]
    [(2, 1)]
    """
    if batch_documents < 1:
        raise ModelError(f"batch_documents: expected at least 1, got {batch_documents}")
    rest = iter(documents)
    while chunk := list(islice(rest, batch_documents)):
        asked = [document for document in chunk if document.sentences]
        answers = list(scorer.probabilities(asked)) if asked else []
        if len(answers) != len(asked):
            raise ModelError(f"{type(scorer).__name__}.probabilities: {len(answers)} arrays for {len(asked)} documents")
        if advance is not None:
            advance(len(chunk))
        given = iter(answers)
        for document in chunk:
            shape = len(document.all_pairs()), len(scorer.relations)
            yield _checked(next(given), document, shape) if document.sentences else np.zeros(shape)


def _checked(answer: Any, document: Document, shape: tuple[int, int]) -> Floats:
    p = np.asarray(answer, np.float64)
    if p.shape != shape:
        raise ModelError(
            f"document {document.title!r}: probabilities of shape {p.shape}, expected (pairs, relations) = {shape}"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise ModelError(f"document {document.title!r}: expected probabilities from 0 to 1, got {p.min()} to {p.max()}")
    return p


def predicted_triples(scorer: Scorer, document: Document, p: Floats) -> list[Triple]:
    """What the model predicts: cells of `p` (P, R) above its threshold, most probable first, ties in order.

    >>> from fascicle_sief.document import Document
    >>> class Sure:
    ...     relations, threshold = ("works for", "knows"), 0.5
    >>> doc = Document("d", [["a"]], [[], []])
    >>> predicted_triples(Sure(), doc, np.array([[0.6, 0.5], [0.0, 0.9]]))
    [(1, 0, 'knows'), (0, 1, 'works for')]
    """
    pairs = document.all_pairs()
    cells = sorted(np.argwhere(p > scorer.threshold).tolist(), key=lambda cell: -p[cell[0], cell[1]])
    return [(*pairs[row], scorer.relations[column]) for row, column in cells]


# ---- importance ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Of every sentence for one triple of one document; entry k of each tuple speaks of sentence k.

    It says what the model's answer rests on, not what the text proves.
    """

    head: int
    tail: int
    relation: str
    p: float
    """Probability from the whole document."""
    p_without: tuple[float | None, ...]
    """Probability without the sentence; None where an entity is lost with it."""
    score: tuple[float | None, ...]
    """p log(p / p without); None where an entity is lost with the sentence, so that there is nothing to compare."""
    alive: tuple[bool, ...]
    """Whether both entities are still mentioned without the sentence. False is "entity lost"."""
    mentions: tuple[tuple[int, int], ...]
    """Mentions of (head, tail) in the sentence."""


def sentence_importance(
    scorer: Scorer,
    document: Document,
    triples: Sequence[Triple] | None = None,
    *,
    batch_documents: int = 32,
    advance: Callable[[int], None] | None = None,
) -> list[Importance]:
    """Importance of every sentence, for each triple. One pass a sentence and one more serve all triples.

    Args:
        scorer: the model.
        document: of N sentences.
        triples: None: what the model predicts, most probable first.
        batch_documents: given to the model at once.
        advance: called with the number of passes that were done; N + 1 in all.

    Raises:
        DocumentError: a triple's pair is not among those of the document.
        ModelError: a triple's relation is not among those of the model, or the model's answer is malformed.

    Example:
        >>> from fascicle_sief.document import Document, Mention
        >>> class Counts:  # of the word "joined"
        ...     relations, threshold = ("member of",), 0.5
        ...
        ...     def probabilities(self, documents):
        ...         found = [sum(words.count("joined") for words in d.sentences) for d in documents]
        ...         return [np.full((len(d.all_pairs()), 1), min(0.9, 0.3 * n)) for d, n in zip(documents, found)]
        >>> doc = Document(
        ...     "d",
        ...     [["Wilk", "joined", "Rage"], ["Rage", "play"], ["Wilk", "joined"], ["fine"]],
        ...     [[Mention(0, 0, 1), Mention(2, 0, 1)], [Mention(0, 2, 3), Mention(1, 0, 1)]],
        ... )
        >>> importance = sentence_importance(Counts(), doc, [(0, 1, "member of")])[0]
        >>> [None if s is None else round(s, 3) for s in importance.score], importance.alive
        ([0.416, 0.0, 0.416, 0.0], (True, True, True, True))
    """
    views = leave_one_out(document)
    answers = list(stream_probabilities(scorer, views, batch_documents=batch_documents, advance=advance))
    wanted = predicted_triples(scorer, document, answers[0]) if triples is None else triples
    return importances(scorer, document, wanted, answers)


def leave_one_out(document: Document) -> Iterator[Document]:
    """The document, then the document without each sentence."""
    yield document
    for k in range(len(document)):
        yield drop_sentences(document, {k}).document


def importances(
    scorer: Scorer, document: Document, triples: Iterable[Triple], answers: Sequence[Floats]
) -> list[Importance]:
    rows = {pair: row for row, pair in enumerate(document.all_pairs())}
    columns = {relation: column for column, relation in enumerate(scorer.relations)}
    counts = [_mention_counts(document, entity) for entity in range(len(document.entities))]
    result = []
    for head, tail, relation in triples:
        if (head, tail) not in rows:
            raise DocumentError(
                f"document {document.title!r}: ({head}, {tail}) is not among its pairs; ask about one of those"
            )
        if relation not in columns:
            raise ModelError(f"the model knows no relation {relation!r}; it knows {', '.join(map(repr, columns))}")
        row, column = rows[head, tail], columns[relation]
        p, *without = (float(answer[row, column]) for answer in answers)
        mentions = tuple(zip(counts[head], counts[tail], strict=True))
        alive = tuple(sum(counts[head]) > h and sum(counts[tail]) > t for h, t in mentions)
        p_without = tuple(q if lives else None for q, lives in zip(without, alive, strict=True))
        scores = tuple(None if q is None else score(p, q).item() for q in p_without)
        result.append(
            Importance(
                head=head,
                tail=tail,
                relation=relation,
                p=p,
                p_without=p_without,
                score=scores,
                alive=alive,
                mentions=mentions,
            )
        )
    return result


def _mention_counts(document: Document, entity: int) -> list[int]:
    counts = Counter(mention.sentence for mention in document.entities[entity])
    return [counts[k] for k in range(len(document))]


# ---- rankings and evidence -----------------------------------------------------------------------------------------------


def ranking(importance: Importance, lost_first: bool = True) -> tuple[int, ...]:
    """Sentences, most important first, ties in the order of the text.

    Args:
        importance: of one triple.
        lost_first: sentences with which an entity is lost come first; False leaves them out.

    >>> importance = Importance(
    ...     head=0, tail=1, relation="r", p=0.9, p_without=(0.8, 0.1, None), score=(0.1, 2.0, None),
    ...     alive=(True, True, False), mentions=((1, 1), (1, 0), (0, 1)),
    ... )  # fmt: skip
    >>> ranking(importance), ranking(importance, lost_first=False)
    ((2, 1, 0), (1, 0))
    """
    lost = [k for k, lives in enumerate(importance.alive) if not lives]
    scored = [(-s, k) for k, s in enumerate(importance.score) if s is not None]
    return tuple((lost if lost_first else []) + [k for _, k in sorted(scored)])


def mention_ranking(document: Document, head: int, tail: int) -> tuple[int, ...]:
    """Sentences by how many of the two entities they mention, ties in the order of the text: a rule without a model.

    >>> from fascicle_sief.document import Document, Mention
    >>> doc = Document("d", [["x"], ["b"], ["a", "b"]], [[Mention(2, 0, 1)], [Mention(1, 0, 1), Mention(2, 1, 2)]])
    >>> mention_ranking(doc, 0, 1)
    (2, 1, 0)
    """
    places = document.sentences_of(head), document.sentences_of(tail)
    return tuple(sorted(range(len(document)), key=lambda k: -sum(k in place for place in places)))


def evidence(importance: Importance, threshold: float) -> tuple[int, ...]:
    """Sentences with a score above the threshold, and those with which an entity is lost, in the order of the text.

    >>> importance = Importance(
    ...     head=0, tail=1, relation="r", p=0.9, p_without=(0.8, 0.1, None), score=(0.1, 2.0, None),
    ...     alive=(True, True, False), mentions=((1, 1), (1, 0), (0, 1)),
    ... )  # fmt: skip
    >>> evidence(importance, 0.8)
    (1, 2)
    """
    return tuple(k for k, s in enumerate(importance.score) if s is None or s > threshold)


def trivial_evidence(document: Document, head: int, tail: int) -> tuple[int, ...]:
    """Sentences that mention both entities; where there is none, those that mention either. A rule without a model.

    >>> from fascicle_sief.document import Document, Mention
    >>> doc = Document("d", [["x"], ["b"], ["a"]], [[Mention(2, 0, 1)], [Mention(1, 0, 1)]])
    >>> trivial_evidence(doc, 0, 1)
    (1, 2)
    """
    heads, tails = document.sentences_of(head), document.sentences_of(tail)
    return tuple(sorted(heads & tails or heads | tails))


# ---- gold relations -----------------------------------------------------------------------------------------------


def gold_triples(document: Document) -> dict[Triple, tuple[int, ...] | None]:
    """Gold triples and their evidence, each triple once; None where nobody marked evidence or some of it was removed.

    Of equal triples the last with evidence counts, as in the official DocRED evaluation.

    >>> from fascicle_sief.document import Document, Relation
    >>> gold_triples(Document("d", [["a"]], [[], []], [Relation(0, 1, "r", evidence=(0,)), Relation(0, 1, "r")]))
    {(0, 1, 'r'): (0,)}
    """
    gold: dict[Triple, tuple[int, ...] | None] = {}
    for relation in document.relations:
        key = relation.head, relation.tail, relation.type
        marked = None if relation.incomplete or relation.evidence is None else tuple(sorted(set(relation.evidence)))
        gold[key] = gold.get(key) if marked is None else marked
    return gold


def unusable(document: Document, triple: Triple, relations: Collection[str]) -> str | None:
    """Why a model cannot be asked about a triple; None: it can be.

    >>> from fascicle_sief.document import Document
    >>> doc = Document("d", [["a"]], [[], []])
    >>> unusable(doc, (0, 1, "r"), ["q"]), unusable(doc, (0, 1, "r"), ["r"])
    ('relation unknown to the model', 'entity not mentioned')
    """
    head, tail, relation = triple
    if relation not in relations:
        return "relation unknown to the model"
    if not (document.entities[head] and document.entities[tail]):
        return "entity not mentioned"
    if (head, tail) not in document.all_pairs():
        return "pair not asked about"
    return None
