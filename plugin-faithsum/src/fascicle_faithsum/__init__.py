"""Summaries whose guidance is induced by a conditional VAE, inspectable and steerable; faithfulness one can measure.

After Xu & Zhao, "Jointly Learning Guidance Induction and Faithful Summary Generation via Conditional Variational Autoencoders",
Findings of NAACL 2022: a reconstruction from the abstract. Importing this package imports neither torch nor transformers; names are
resolved on first use.

Example:
    >>> import fascicle_faithsum
    >>> fascicle_faithsum.score(["The lamp was red."], ["The lamp was red."], metrics=["sentence_max_bigram"])
    {'sentence_max_bigram': [1.0]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.lazy import attach

if TYPE_CHECKING:
    from .checker import Checker, train_checker
    from .data import of_documents
    from .diagnostics import CollapseMonitor, diagnose
    from .effective import effective_difference, effective_faithfulness
    from .errors import FaithsumError, GuidanceError, MetricError
    from .frank import read_rated
    from .guidance import Guidance, guide, summarize
    from .inspection import explain, show
    from .inspection_page import page
    from .meta import meta_evaluate
    from .metrics import METRICS, describe, metric, score
    from .modeling import GuidedForConditionalGeneration
    from .objective import Guided
    from .recipe import Recipe
    from .segments import encode_documents
    from .trainer import GuidanceCallback, GuidanceTrainer
    from .warmstart import bart_from_bert

__all__ = [
    "METRICS",
    "Checker",
    "CollapseMonitor",
    "FaithsumError",
    "Guidance",
    "GuidanceCallback",
    "GuidanceError",
    "GuidanceTrainer",
    "Guided",
    "GuidedForConditionalGeneration",
    "MetricError",
    "Recipe",
    "bart_from_bert",
    "describe",
    "diagnose",
    "effective_difference",
    "effective_faithfulness",
    "encode_documents",
    "explain",
    "guide",
    "meta_evaluate",
    "metric",
    "of_documents",
    "page",
    "read_rated",
    "score",
    "show",
    "summarize",
    "train_checker",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "checker": ("Checker", "train_checker"),
        "data": ("of_documents",),
        "diagnostics": ("CollapseMonitor", "diagnose"),
        "effective": ("effective_difference", "effective_faithfulness"),
        "errors": ("FaithsumError", "GuidanceError", "MetricError"),
        "frank": ("read_rated",),
        "guidance": ("Guidance", "guide", "summarize"),
        "inspection": ("explain", "show"),
        "inspection_page": ("page",),
        "meta": ("meta_evaluate",),
        "metrics": ("METRICS", "describe", "metric", "score"),
        "modeling": ("GuidedForConditionalGeneration",),
        "objective": ("Guided",),
        "recipe": ("Recipe",),
        "segments": ("encode_documents",),
        "trainer": ("GuidanceCallback", "GuidanceTrainer"),
        "warmstart": ("bart_from_bert",),
    },
)
