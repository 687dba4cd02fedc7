"""Documents of facts that the project writes itself: which fact is cued, and which one a summary states, is known.

A document is a few facts, `Anna bought the lamp .`, one of them cued by a word, `Boris really sold the kite .`; its summary
states one fact in other words, `the kite was sold : Boris .` With probability `noise` that is any of them, drawn evenly,
otherwise the cued one: so the document alone leaves open what the summary says, and a latent variable has something to carry.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from fascicle.hf.generated import DEEDS, GOODS, PEOPLE

__all__ = ["FactDocument", "entropy", "fact_documents"]

CUE = "really"


@dataclass(frozen=True, slots=True)
class FactDocument:
    """Facts, the one that is cued, and the one that the summary states."""

    sentences: tuple[str, ...]
    """One fact each."""
    statements: tuple[str, ...]
    """What a summary of each fact says."""
    cue: int
    """Number of the cued fact."""
    target: int
    """Number of the fact that the summary states."""

    @property
    def text(self) -> str:
        """The document."""
        return " ".join(self.sentences)

    @property
    def summary(self) -> str:
        """The statement of the target fact."""
        return self.statements[self.target]

    def stated(self, summary: str) -> int | None:
        """Number of the fact that a text states word for word; None where it states none.

        >>> document = fact_documents(1, seed=1)[0]
        >>> document.stated(document.summary) == document.target, document.stated("nothing .")
        (True, None)
        """
        words = " ".join(summary.split())
        return self.statements.index(words) if words in self.statements else None


def fact_documents(rows: int, *, seed: int, facts: int = 3, noise: float = 0.4) -> list[FactDocument]:
    """Different documents, in an order that the seed decides.

    Args:
        rows: how many.
        seed: of the draws; the same seed gives the same documents everywhere.
        facts: of a document; all have different people and things.
        noise: how often the summary is of any fact, drawn evenly, instead of the cued one.

    Raises:
        ValueError: fewer than two facts or more than there are people, or a noise that is no probability.

    >>> fact_documents(1, seed=7)[0].sentences == fact_documents(2, seed=7)[0].sentences
    True
    """
    if not 2 <= facts <= min(len(PEOPLE), len(GOODS)):
        raise ValueError(f"facts: expected 2 to {min(len(PEOPLE), len(GOODS))}, got {facts}")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise: expected a probability, got {noise}")
    rng = random.Random(f"faithsum/{seed}")  # noqa: S311 - data, not secrets
    made: dict[str, FactDocument] = {}
    while len(made) < rows:
        document = _document(rng, facts, noise)
        made.setdefault(document.text, document)
    return list(made.values())


def entropy(facts: int, noise: float) -> float:
    """Nats that the document leaves open of which fact its summary states: no model of p(summary | document) loses less.

    >>> round(entropy(3, 0.4), 2), round(entropy(4, 0.4), 2), entropy(3, 0.0)
    (0.76, 0.94, 0.0)
    """
    other = noise / facts
    return max(0.0, -math.fsum(p * math.log(p) for p in (1 - noise + other, *[other] * (facts - 1)) if p > 0))


def _document(rng: random.Random, facts: int, noise: float) -> FactDocument:
    people, things = rng.sample(PEOPLE, facts), rng.sample(GOODS, facts)
    deeds = [rng.choice(DEEDS) for _ in range(facts)]
    cue = rng.randrange(facts)
    target = rng.randrange(facts) if rng.random() < noise else cue
    return FactDocument(
        sentences=tuple(
            f"{who} {CUE + ' ' if k == cue else ''}{deed} the {thing} ."
            for k, (who, deed, thing) in enumerate(zip(people, deeds, things, strict=True))
        ),
        statements=tuple(
            f"the {thing} was {deed} : {who} ." for who, deed, thing in zip(people, deeds, things, strict=True)
        ),
        cue=cue,
        target=target,
    )
