"""SIEF: relations between the entities of a document, from models that rely on the evidence.

Xu, Chen, Mou, Zhao, "Document-Level Relation Extraction with Sentences Importance Estimation and Focusing", NAACL 2022.

Importing this package imports neither torch nor transformers; names are resolved on first use.

Example:
    >>> import fascicle_sief
    >>> fascicle_sief.Mention(sentence=0, start=0, end=2).end
    2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import of_documents
    from .document import Document, Mention, Relation, View, drop_sentences
    from .errors import DocumentError, ModelError, SiefError
    from .evidence import evidence_report
    from .features import DocumentEncoder, collate, shorten
    from .focusing import FocusingLoss
    from .importance import Importance, sentence_importance
    from .inference import ModelScorer, load
    from .modeling import RelationConfig, RelationModel
    from .objective import Focusing
    from .prediction import Explanation, predict
    from .readers import read
    from .robustness_report import RobustnessReport, compare, robustness
    from .scorer import Scorer
    from .scores import docred_scores, redocred_scores
    from .text import document_from_text

__all__ = [
    "Document",
    "DocumentEncoder",
    "DocumentError",
    "Explanation",
    "Focusing",
    "FocusingLoss",
    "Importance",
    "Mention",
    "ModelError",
    "ModelScorer",
    "Relation",
    "RelationConfig",
    "RelationModel",
    "RobustnessReport",
    "Scorer",
    "SiefError",
    "View",
    "collate",
    "compare",
    "docred_scores",
    "document_from_text",
    "drop_sentences",
    "evidence_report",
    "load",
    "of_documents",
    "predict",
    "read",
    "redocred_scores",
    "robustness",
    "sentence_importance",
    "shorten",
]

_HOMES = {
    "data": ("of_documents",),
    "document": ("Document", "Mention", "Relation", "View", "drop_sentences"),
    "errors": ("DocumentError", "ModelError", "SiefError"),
    "features": ("DocumentEncoder", "collate", "shorten"),
    "focusing": ("FocusingLoss",),
    "evidence": ("evidence_report",),
    "importance": ("Importance", "sentence_importance"),
    "inference": ("ModelScorer", "load"),
    "modeling": ("RelationConfig", "RelationModel"),
    "objective": ("Focusing",),
    "prediction": ("Explanation", "predict"),
    "readers": ("read",),
    "robustness_report": ("RobustnessReport", "compare", "robustness"),
    "scorer": ("Scorer",),
    "scores": ("docred_scores", "redocred_scores"),
    "text": ("document_from_text",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = found  # a module of the same name, once imported, would stand in its place
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
