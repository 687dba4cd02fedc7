"""What importance, robustness and prediction ask of a model: probabilities for the pairs of documents. Light: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from .document import Document

__all__ = ["Scorer"]


@runtime_checkable
class Scorer(Protocol):
    """Any model of relations between entities of a document; a rule by hand will do.

    >>> import numpy as np
    >>> class Never:
    ...     relations, threshold = ("works for",), 0.5
    ...
    ...     def probabilities(self, documents):
    ...         return [np.zeros((len(d.all_pairs()), 1)) for d in documents]
    >>> isinstance(Never(), Scorer)
    True
    """

    relations: Sequence[str]
    """Names of the R relations, without "no relation"."""
    threshold: float
    """A relation is predicted where its probability is above this."""

    def probabilities(self, documents: Sequence[Document]) -> list[np.ndarray]:
        """For each document (P, R) float64, a row for each of `document.all_pairs()`; 0 where an entity is not mentioned."""
        ...
