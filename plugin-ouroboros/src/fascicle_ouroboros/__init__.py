"""Ouroboros: lossless speculative decoding that drafts phrase by phrase, lengthens drafts with phrases and recycles them.

Zhao, Huang, Han, Xu, Xiao, Zhang, Fang, Zhang, Liu, Sun, "Ouroboros: Generating Longer Drafts Phrase by Phrase for Faster
Speculative Decoding", EMNLP 2024 (arXiv 2402.13720).

Importing this package imports neither torch nor transformers; names are resolved on first use.

Example:
    >>> import fascicle_ouroboros
    >>> fascicle_ouroboros.DraftingOptions().gamma
    6
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.lazy import attach

if TYPE_CHECKING:
    from .acceptance import measure_acceptance
    from .controller import Controller, FixedController, Plan
    from .decoding import OuroborosDecoder
    from .draft import distillation_loss, own_outputs, prune_layers
    from .draft_options import OuroborosAcceptance, OuroborosDraft
    from .engine import OuroborosEngine, generate
    from .errors import OuroborosError, PoolError, UnsupportedError, VocabularyError
    from .options import DraftingOptions, Ouroboros
    from .pool import Phrase, PhrasePool, tokenizer_fingerprint
    from .sampling import GumbelNoise, accept_candidates, accept_draft, gumbel, residual
    from .state import Verification, verification
    from .stats import Stats

__all__ = [
    "Controller",
    "DraftingOptions",
    "FixedController",
    "GumbelNoise",
    "Ouroboros",
    "OuroborosAcceptance",
    "OuroborosDecoder",
    "OuroborosDraft",
    "OuroborosEngine",
    "OuroborosError",
    "Phrase",
    "PhrasePool",
    "Plan",
    "PoolError",
    "Stats",
    "UnsupportedError",
    "Verification",
    "VocabularyError",
    "accept_candidates",
    "accept_draft",
    "distillation_loss",
    "generate",
    "gumbel",
    "measure_acceptance",
    "own_outputs",
    "prune_layers",
    "residual",
    "tokenizer_fingerprint",
    "verification",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "acceptance": ("measure_acceptance",),
        "controller": ("Controller", "FixedController", "Plan"),
        "decoding": ("OuroborosDecoder",),
        "draft": ("distillation_loss", "own_outputs", "prune_layers"),
        "draft_options": ("OuroborosAcceptance", "OuroborosDraft"),
        "engine": ("OuroborosEngine", "generate"),
        "errors": ("OuroborosError", "PoolError", "UnsupportedError", "VocabularyError"),
        "options": ("DraftingOptions", "Ouroboros"),
        "pool": ("Phrase", "PhrasePool", "tokenizer_fingerprint"),
        "sampling": ("GumbelNoise", "accept_candidates", "accept_draft", "gumbel", "residual"),
        "state": ("Verification", "verification"),
        "stats": ("Stats",),
    },
)
