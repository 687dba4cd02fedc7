"""WCS: words of two languages in the layers of a language model, maps between them, and lexicons from the maps.

"Word-level Cross-lingual Structure in Large Language Models", COLING 2025.

Importing this package imports neither torch nor transformers; names are resolved on first use.

Example:
    >>> import fascicle_wcs
    >>> fascicle_wcs.Dictionary((("chat", "cat"), ("chien", "dog"))).gold()["chat"]
    ('cat',)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.lazy import attach

if TYPE_CHECKING:
    from .algorithm import IdaResult, ida
    from .controls import gaussian_control, interval, null
    from .dictionary import Dictionary, most_frequent, read_dictionary
    from .errors import DictionaryError, MapError, StatesError, VectorError, WcsError
    from .fits import fit
    from .injection import inject
    from .isomorphism import IsomorphismReport, evs, gh_h0, gh_legacy, isomorphism_report, residual, rsim, rsim_u
    from .maps import Map, identity_map, procrustes
    from .multilingual import cycle_error, fit_all, fit_jointly
    from .normalization import normalize
    from .planted import planted_languages
    from .prompting import Prompt, agree, nearest_shots, random_shots, translate
    from .retrieval import induce, mean_knn, retrieve
    from .scores import BliScores, evaluate, of_rows
    from .selflearning import SelfLearning, identical_seeds, numeral_seeds, self_learn, unsupervised_seeds
    from .significance import compare, mcnemar
    from .store import WordStore
    from .vectorfiles import read_vectors, write_vectors
    from .vectors import Vectors
    from .wordllama import wordllama_vectors
    from .wordstates import state_layers, states

__all__ = [
    "BliScores",
    "Dictionary",
    "DictionaryError",
    "IdaResult",
    "IsomorphismReport",
    "Map",
    "MapError",
    "Prompt",
    "SelfLearning",
    "StatesError",
    "VectorError",
    "Vectors",
    "WcsError",
    "WordStore",
    "agree",
    "compare",
    "cycle_error",
    "evaluate",
    "evs",
    "fit",
    "fit_all",
    "fit_jointly",
    "gaussian_control",
    "gh_h0",
    "gh_legacy",
    "ida",
    "identical_seeds",
    "identity_map",
    "induce",
    "inject",
    "interval",
    "isomorphism_report",
    "mcnemar",
    "mean_knn",
    "most_frequent",
    "nearest_shots",
    "normalize",
    "null",
    "numeral_seeds",
    "of_rows",
    "planted_languages",
    "procrustes",
    "random_shots",
    "read_dictionary",
    "read_vectors",
    "residual",
    "retrieve",
    "rsim",
    "rsim_u",
    "self_learn",
    "state_layers",
    "states",
    "translate",
    "unsupervised_seeds",
    "wordllama_vectors",
    "write_vectors",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "algorithm": ("IdaResult", "ida"),
        "controls": ("gaussian_control", "interval", "null"),
        "dictionary": ("Dictionary", "most_frequent", "read_dictionary"),
        "errors": ("DictionaryError", "MapError", "StatesError", "VectorError", "WcsError"),
        "fits": ("fit",),
        "injection": ("inject",),
        "isomorphism": (
            "IsomorphismReport",
            "evs",
            "gh_h0",
            "gh_legacy",
            "isomorphism_report",
            "residual",
            "rsim",
            "rsim_u",
        ),
        "maps": ("Map", "identity_map", "procrustes"),
        "multilingual": ("cycle_error", "fit_all", "fit_jointly"),
        "normalization": ("normalize",),
        "planted": ("planted_languages",),
        "prompting": ("Prompt", "agree", "nearest_shots", "random_shots", "translate"),
        "retrieval": ("induce", "mean_knn", "retrieve"),
        "scores": ("BliScores", "evaluate", "of_rows"),
        "selflearning": ("SelfLearning", "identical_seeds", "numeral_seeds", "self_learn", "unsupervised_seeds"),
        "significance": ("compare", "mcnemar"),
        "store": ("WordStore",),
        "vectorfiles": ("read_vectors", "write_vectors"),
        "vectors": ("Vectors",),
        "wordllama": ("wordllama_vectors",),
        "wordstates": ("state_layers", "states"),
    },
)
