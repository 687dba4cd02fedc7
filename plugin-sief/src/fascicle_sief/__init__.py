"""SIEF: relations between the entities of a document, from models that rely on the evidence.

Xu, Chen, Mou, Zhao, "Document-Level Relation Extraction with Sentences Importance Estimation and Focusing", NAACL 2022.

Importing this package imports neither torch nor transformers; names are resolved on first use.

Example:
    >>> import fascicle_sief
    >>> fascicle_sief.Mention(sentence=0, start=0, end=2).end
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.lazy import attach

if TYPE_CHECKING:
    from .comparison import compare
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
    from .robustness_report import RobustnessReport, robustness
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

__getattr__, __dir__ = attach(
    __name__,
    {
        "comparison": ("compare",),
        "data": ("of_documents",),
        "document": ("Document", "Mention", "Relation", "View", "drop_sentences"),
        "errors": ("DocumentError", "ModelError", "SiefError"),
        "evidence": ("evidence_report",),
        "features": ("DocumentEncoder", "collate", "shorten"),
        "focusing": ("FocusingLoss",),
        "importance": ("Importance", "sentence_importance"),
        "inference": ("ModelScorer", "load"),
        "modeling": ("RelationConfig", "RelationModel"),
        "objective": ("Focusing",),
        "prediction": ("Explanation", "predict"),
        "readers": ("read",),
        "robustness_report": ("RobustnessReport", "robustness"),
        "scorer": ("Scorer",),
        "scores": ("docred_scores", "redocred_scores"),
        "text": ("document_from_text",),
    },
)
