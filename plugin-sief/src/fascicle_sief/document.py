"""A document for relation extraction, and what is left of it without some sentences.

The paper removes one random sentence and asks how much each prediction depended on it (NAACL 2022; the official code's
`drop_sentence`). Removing a sentence shifts every index into the document; entities keep their place even when all their mentions
are gone, so that pairs and labels stay aligned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .errors import DocumentError

__all__ = ["Document", "Mention", "Relation", "View", "drop_sentences"]


@dataclass(frozen=True, slots=True)
class Mention:
    """Words [start, end) of one sentence.

    >>> Mention(sentence=0, start=2, end=4, type="PER").end
    4
    """

    sentence: int
    start: int
    end: int
    type: str = ""
    """Type of the entity as this mention shows it, e.g. `PER`; may differ between mentions."""
    name: str = ""
    """As the data spells it; empty: the words."""


@dataclass(frozen=True, slots=True)
class Relation:
    """`type` holds from entity `head` to entity `tail`.

    >>> Relation(head=0, tail=1, type="P17", evidence=(2,)).evidence
    (2,)
    """

    head: int
    tail: int
    type: str
    evidence: tuple[int, ...] | None = None
    """Sentences that show it; None: nobody said. Never empty."""
    trigger: str = ""
    """Words that show it (DialogRE); empty: none was marked."""
    incomplete: bool = False
    """A sentence of the evidence was removed."""

    def __post_init__(self) -> None:
        if self.evidence is not None and not self.evidence and not self.incomplete:
            raise DocumentError("evidence: expected sentences, or None where nobody marked any, got an empty tuple")


@dataclass(frozen=True)
class Document:
    """Sentences of words, entities with their mentions, and the relations between them where they are known.

    Args:
        title: names the document in files and reports.
        sentences: words of each sentence.
        entities: mentions of each entity; an entity without mentions is dead, it stands in a removed sentence.
        relations: gold relations.
        pairs: the (head, tail) pairs that are asked about; None: all ordered pairs of different entities.
        trailing: what follows each word of the text, for display; None: a blank.

    Raises:
        DocumentError: an index that leads nowhere, with the document and the field.

    Example:
        >>> doc = Document(
        ...     title="RATM",
        ...     sentences=[["Wilk", "drums", "."], ["Rage", "is", "a", "band", "."], ["He", "joined", "Rage", "."]],
        ...     entities=[[Mention(0, 0, 1, "PER")], [Mention(1, 0, 1, "ORG"), Mention(2, 2, 3, "ORG")]],
        ...     relations=[Relation(0, 1, "member of", evidence=(0, 2))],
        ... )
        >>> len(doc), doc.name(1), doc.all_pairs()
        (3, 'Rage', ((0, 1), (1, 0)))
    """

    title: str
    sentences: tuple[tuple[str, ...], ...]
    entities: tuple[tuple[Mention, ...], ...]
    relations: tuple[Relation, ...] = ()
    pairs: tuple[tuple[int, int], ...] | None = None
    trailing: tuple[tuple[str, ...], ...] | None = field(default=None, repr=False)

    def __init__(
        self,
        title: str,
        sentences: Iterable[Iterable[str]],
        entities: Iterable[Iterable[Mention]],
        relations: Iterable[Relation] = (),
        pairs: Iterable[tuple[int, int]] | None = None,
        trailing: Iterable[Iterable[str]] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "title", title)
        put(self, "sentences", tuple(tuple(words) for words in sentences))
        put(self, "entities", tuple(tuple(mentions) for mentions in entities))
        put(self, "relations", tuple(relations))
        put(self, "pairs", None if pairs is None else tuple((int(h), int(t)) for h, t in pairs))
        put(self, "trailing", None if trailing is None else tuple(tuple(after) for after in trailing))
        self._check()

    def __len__(self) -> int:
        """Sentences."""
        return len(self.sentences)

    def _check(self) -> None:
        def wrong(what: str) -> DocumentError:
            return DocumentError(f"document {self.title!r}: {what}")

        for e, mentions in enumerate(self.entities):
            for m, mention in enumerate(mentions):
                if not 0 <= mention.sentence < len(self.sentences):
                    raise wrong(
                        f"entities[{e}][{m}].sentence: got {mention.sentence}, expected 0 to {len(self.sentences) - 1}"
                    )
                words = len(self.sentences[mention.sentence])
                if not 0 <= mention.start < mention.end <= words:
                    raise wrong(
                        f"entities[{e}][{m}]: words [{mention.start}, {mention.end}) of sentence {mention.sentence}, "
                        f"which has {words}"
                    )
        for i, (head, tail) in enumerate(self.pairs or ()):
            if not (0 <= head < len(self.entities) and 0 <= tail < len(self.entities)):
                raise wrong(f"pairs[{i}]: got ({head}, {tail}), but there are {len(self.entities)} entities")
        for i, relation in enumerate(self.relations):
            if not (0 <= relation.head < len(self.entities) and 0 <= relation.tail < len(self.entities)):
                raise wrong(
                    f"relations[{i}]: from {relation.head} to {relation.tail}, but there are {len(self.entities)} entities"
                )
            for sentence in relation.evidence or ():
                if not 0 <= sentence < len(self.sentences):
                    raise wrong(
                        f"relations[{i}].evidence: got sentence {sentence}, expected 0 to {len(self.sentences) - 1}"
                    )
        if self.trailing is not None and [len(t) for t in self.trailing] != [len(s) for s in self.sentences]:
            raise wrong("trailing: expected one string for each word")

    def all_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs that are asked about, in order."""
        if self.pairs is not None:
            return self.pairs
        n = len(self.entities)
        return tuple((h, t) for h in range(n) for t in range(n) if h != t)

    def name(self, entity: int) -> str:
        """What to call an entity: its first mention as the data spells it, or its words."""
        mentions = self.entities[entity]
        if not mentions:
            return f"entity {entity}"
        first = mentions[0]
        return first.name or self.text(first.sentence, first.start, first.end)

    def type(self, entity: int) -> str:
        """Type of the entity's first mention; empty where it has none."""
        mentions = self.entities[entity]
        return mentions[0].type if mentions else ""

    def text(self, sentence: int, start: int = 0, end: int | None = None) -> str:
        """The words [start, end) of a sentence as they are written.

        >>> Document("d", [["Don", "'t", "go"]], [], trailing=[["", " ", ""]]).text(0)
        "Don't go"
        """
        words = self.sentences[sentence][start:end]
        after = (" ",) * len(words) if self.trailing is None else self.trailing[sentence][start:end]
        return "".join(word + space for word, space in zip(words, after, strict=True)).rstrip()

    def sentences_of(self, entity: int) -> frozenset[int]:
        """Sentences that mention the entity."""
        return frozenset(mention.sentence for mention in self.entities[entity])


@dataclass(frozen=True)
class View:
    """A document without some sentences, and how its parts are numbered there.

    Made by [`drop_sentences`].
    """

    document: Document
    sentence_map: Mapping[int, int]
    """Old number to new, of the sentences that are left."""
    mention_map: Mapping[tuple[int, int], tuple[int, int]]
    """(entity, number of the mention) to the same in the shorter document, of the mentions that are left."""
    alive: tuple[bool, ...]
    """For each of `document.all_pairs()` whether both entities are still mentioned."""


def drop_sentences(document: Document, sentences: Collection[int]) -> View:
    """Remove sentences. Entities, pairs, relations and their order stay; an entity may lose all its mentions.

    Evidence is renumbered; a relation that lost some of it is marked `incomplete`.

    Raises:
        DocumentError: there is no such sentence.

    Example:
        >>> doc = Document("d", [["a"], ["b"], ["a", "b"]], [[Mention(0, 0, 1), Mention(2, 0, 1)], [Mention(1, 0, 1)]])
        >>> view = drop_sentences(doc, {1})
        >>> view.document.sentences, view.document.entities[0][1].sentence, view.alive
        ((('a',), ('a', 'b')), 1, (False, False))
        >>> view.sentence_map, view.mention_map
        ({0: 0, 2: 1}, {(0, 0): (0, 0), (0, 1): (0, 1)})
    """
    gone = set(sentences)
    unknown = sorted(gone - set(range(len(document))))
    if unknown:
        raise DocumentError(
            f"document {document.title!r}: asked to drop sentences {unknown}, expected 0 to {len(document) - 1}"
        )
    kept = [k for k in range(len(document)) if k not in gone]
    sentence_map = {old: new for new, old in enumerate(kept)}
    entities: list[list[Mention]] = []
    mention_map: dict[tuple[int, int], tuple[int, int]] = {}
    for e, mentions in enumerate(document.entities):
        left: list[Mention] = []
        for m, mention in enumerate(mentions):
            if mention.sentence in sentence_map:
                mention_map[e, m] = e, len(left)
                left.append(dataclasses.replace(mention, sentence=sentence_map[mention.sentence]))
        entities.append(left)
    short = Document(
        document.title,
        [document.sentences[k] for k in kept],
        entities,
        [_renumbered(relation, sentence_map) for relation in document.relations],
        document.pairs,
        None if document.trailing is None else [document.trailing[k] for k in kept],
    )
    alive = tuple(bool(entities[h]) and bool(entities[t]) for h, t in document.all_pairs())
    return View(short, sentence_map, mention_map, alive)


def _renumbered(relation: Relation, sentence_map: Mapping[int, int]) -> Relation:
    if relation.evidence is None:
        return relation
    evidence = tuple(sentence_map[k] for k in relation.evidence if k in sentence_map)
    lost = relation.incomplete or len(evidence) < len(relation.evidence)
    return dataclasses.replace(relation, evidence=evidence, incomplete=lost)
