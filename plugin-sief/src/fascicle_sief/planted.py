"""Documents whose evidence is known, because it was planted. Our choice; the paper has no such data.

A document has one pair of people, who are named together in two sentences. Where a relation holds, one of the two also holds a
trigger word of that relation: the evidence. Another sentence, which names neither, is the distractor: it holds a topic word, which
points to the right relation with probability `cue`, else to a random one; documents without a relation have one in three out of ten
cases. A model that reads topics is right often and for the wrong reason.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from fascicle.errors import ConfigError

from .document import Document, Mention, Relation

__all__ = ["RELATIONS", "Planted", "planted_documents"]

RELATIONS = ("advises", "employs", "guards", "teaches")
TOPICS = ("museum", "market", "harbour", "school")
SENTENCES, WORDS, FILLERS = 6, 8, 100
RELATED, TOPIC_OF_OTHERS = 0.7, 0.3


@dataclass(frozen=True)
class Planted:
    """A document and where its parts were planted.

    Made by [`planted_documents`].
    """

    document: Document
    evidence: int | None
    """Sentence with the trigger; None where no relation holds."""
    distractor: int
    """Sentence that may hold a topic."""


def planted_documents(count: int, *, seed: int, cue: float = 0.6, triggers: int = 20) -> list[Planted]:
    """Draw documents.

    Args:
        count: of documents.
        seed: of the draws.
        cue: probability that the topic of a related pair names the right relation.
        triggers: words that tell each relation; many make the evidence hard to learn. At most 25.

    Raises:
        ConfigError: more triggers than there are words.

    Example:
        >>> planted = planted_documents(20, seed=1)
        >>> of = next(p for p in planted if p.evidence is not None)
        >>> of.document.relations[0].evidence == (of.evidence,), of.distractor in of.document.sentences_of(0)
        (True, False)
    """
    if not 1 <= triggers <= 25:
        raise ConfigError(f"data.triggers: got {triggers}, expected 1 to 25")
    rng = random.Random(f"planted {seed}")  # noqa: S311 - data, no secret
    fillers, words = _vocabulary(triggers)
    return [_one(i, rng, fillers, words, cue) for i in range(count)]


def _vocabulary(triggers: int) -> tuple[list[str], list[list[str]]]:
    """100 fillers, and the triggers of each relation: plain words, the same in every call."""
    from fascicle.hf.generated import lexicon

    words = [word for word in lexicon() if word.isalpha() and word.islower() and word not in TOPICS]
    random.Random("words").shuffle(words)  # noqa: S311
    return words[:FILLERS], [words[FILLERS + r :: len(RELATIONS)][:triggers] for r in range(len(RELATIONS))]


def _one(number: int, rng: random.Random, fillers: list[str], triggers: list[list[str]], cue: float) -> Planted:
    from fascicle.hf.generated import PEOPLE

    sentences = [[rng.choice(fillers) for _ in range(WORDS)] for _ in range(SENTENCES)]
    head, tail = rng.sample(PEOPLE, 2)
    evidence, second, distractor = rng.sample(range(SENTENCES), 3)
    entities: list[list[Mention]] = [[], []]
    for sentence in (evidence, second):
        for entity, (name, place) in enumerate(zip((head, tail), sorted(rng.sample(range(WORDS), 2)), strict=True)):
            sentences[sentence][place] = name
            entities[entity].append(Mention(sentence, place, place + 1, "PER"))
    relation = rng.randrange(len(RELATIONS)) if rng.random() < RELATED else None
    if relation is not None:
        free = [w for w in range(WORDS) if sentences[evidence][w] not in (head, tail)]
        sentences[evidence][rng.choice(free)] = rng.choice(triggers[relation])
    if relation is not None or rng.random() < TOPIC_OF_OTHERS:
        topic = relation if relation is not None and rng.random() < cue else rng.randrange(len(RELATIONS))
        sentences[distractor][rng.randrange(WORDS)] = TOPICS[topic]
    held = [] if relation is None else [Relation(0, 1, RELATIONS[relation], evidence=(evidence,))]
    document = Document(f"planted {number}", sentences, entities, held, pairs=[(0, 1)])
    return Planted(document, None if relation is None else evidence, distractor)
