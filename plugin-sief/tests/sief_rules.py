"""Models by hand for the tests of importance, robustness and prediction: their answers can be worked out on paper."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fascicle_sief.document import Document, Mention, Relation

__all__ = ["Hashed", "TriggerRules", "WorksFor", "alive_pair", "story"]


def alive_pair(document: Document, head: int, tail: int) -> bool:
    return bool(document.entities[head]) and bool(document.entities[tail])


@dataclass
class TriggerRules:
    """A relation holds where one of its trigger words stands in a sentence that mentions both entities, or in any sentence."""

    triggers: Mapping[str, str]
    """Trigger word to relation."""
    where: Literal["both", "any"] = "both"
    yes: float = 0.9
    no: float = 0.1
    threshold: float = 0.5
    batches: list[int] = field(default_factory=list)
    """Documents of every call so far."""

    @property
    def relations(self) -> Sequence[str]:
        return tuple(sorted(set(self.triggers.values())))

    def probabilities(self, documents: Sequence[Document]) -> list[np.ndarray]:
        self.batches.append(len(documents))
        return [self._one(document) for document in documents]

    def _one(self, document: Document) -> np.ndarray:
        p = np.zeros((len(document.all_pairs()), len(self.relations)))
        for row, (head, tail) in enumerate(document.all_pairs()):
            if not alive_pair(document, head, tail):
                continue
            both = document.sentences_of(head) & document.sentences_of(tail)
            places = both if self.where == "both" else range(len(document))
            found = {self.triggers[w] for k in places for w in document.sentences[k] if w in self.triggers}
            p[row] = [self.yes if relation in found else self.no for relation in self.relations]
        return p


@dataclass
class WorksFor:
    """Answers from entity names alone: it never looks at the text."""

    relations: Sequence[str] = ("r",)
    threshold: float = 0.5

    def probabilities(self, documents: Sequence[Document]) -> list[np.ndarray]:
        return [
            np.array([[0.9 * alive_pair(d, *pair)] * len(self.relations) for pair in d.all_pairs()]).reshape(
                len(d.all_pairs()), len(self.relations)
            )
            for d in documents
        ]


@dataclass
class Hashed:
    """Arbitrary, repeatable probabilities that depend on every word, its order, and the pair."""

    relations: Sequence[str] = ("r", "q")
    threshold: float = 0.4

    def probabilities(self, documents: Sequence[Document]) -> list[np.ndarray]:
        return [self._one(document) for document in documents]

    def _one(self, document: Document) -> np.ndarray:
        p = np.zeros((len(document.all_pairs()), len(self.relations)))
        for row, (head, tail) in enumerate(document.all_pairs()):
            if alive_pair(document, head, tail):
                for column, relation in enumerate(self.relations):
                    text = repr((document.sentences, document.entities[head], document.entities[tail], relation))
                    p[row, column] = zlib.crc32(text.encode()) / 2**32
        return p


def story() -> Document:
    """Ann and Bob in sentences 0, 1 and 3; Cy only in 2. Married (0) is evidence; "hired" (1) too; 3 and 4 are not."""
    return Document(
        "story",
        [
            ["Ann", "married", "Bob", "."],
            ["Ann", "hired", "Bob", "."],
            ["Ann", "taught", "Cy", "."],
            ["Ann", "saw", "Bob", "."],
            ["It", "rained", "."],
        ],
        [
            [Mention(k, 0, 1, "PER") for k in (0, 1, 2, 3)],
            [Mention(k, 2, 3, "PER") for k in (0, 1, 3)],
            [Mention(2, 2, 3, "PER")],
        ],
        [
            Relation(0, 1, "spouse", evidence=(0,)),
            Relation(0, 1, "employer", evidence=(1,)),
            Relation(0, 2, "teacher", evidence=(2,)),
        ],
    )
