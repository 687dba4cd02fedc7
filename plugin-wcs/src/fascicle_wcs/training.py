"""`training=wcs_procrustes` and its kin: fit one map a layer inside a run, and the controls that could prove it wrong."""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.errors import ConfigError
from fascicle.objects import TrainResult

from .data import bli_of
from .errors import DictionaryError, MapError
from .fits import fit
from .maps import identity_map
from .selflearning import identical_seeds, numeral_seeds, self_learn, unsupervised_seeds
from .spaces import spaces_of
from .views import learning_section, map_section

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel, Section

    from .data import Bli
    from .maps import Map
    from .options import WcsMap
    from .selflearning import SelfLearning
    from .spaces import Spaces
    from .vectors import Vectors

    Pairs = NDArray[np.int64]

__all__ = ["Fitted", "dictionary_rows", "fit_layer", "maps_of", "train_map"]

log = logging.getLogger("fascicle.wcs")


@dataclass(frozen=True)
class Fitted:
    """A map and what it was fitted from."""

    map: Map
    pairs: Pairs
    learning: SelfLearning | None = None


def train_map(cfg: WcsMap, model: LoadedModel, data: Data, run: RunContext) -> TrainResult:
    """Fit one map for each layer. Answers `fascicle_train`; the model is unchanged, `extra["wcs_maps"]` holds the maps.

    Raises:
        ConfigError: data without dictionaries, pairs that have no vectors, a model that has no word vectors.
        MapError: spaces that no such map can join.
    """
    spaces, bli = spaces_of(model, data, run, cfg.states), bli_of(data)
    started, fitted = time.perf_counter(), {}
    with run.progress("Fitting maps", total=len(spaces.layers)) as bar:
        for layer in spaces.layers:
            fitted[layer] = fit_layer(cfg, spaces.source[layer], spaces.target[layer], bli, run.seed)
            bar.advance()
    seconds = time.perf_counter() - started
    maps = {layer: found.map for layer, found in fitted.items()}
    model.extra["wcs_maps"], model.extra["wcs_fitted"] = maps, fitted
    return TrainResult(
        model=model,
        history=_history(fitted),
        metrics=_facts(fitted, seconds),
        sections=_sections(spaces, fitted, bli),
        artifacts=_saved(maps, spaces, run),
    )


def maps_of(model: LoadedModel) -> dict[int, Map] | None:
    """The maps that the training of this run fitted; None where it fitted none."""
    maps: dict[int, Map] | None = model.extra.get("wcs_maps")
    return maps


def fit_layer(cfg: WcsMap, source: Vectors, target: Vectors, bli: Bli, seed: int) -> Fitted:
    """The map of one layer as the options say.

    Raises:
        ConfigError: no first pairs.
        MapError: see there.
    """
    X, Y = source.matrix, target.matrix
    pairs = _seeds(cfg, source, target, bli, seed)
    if not len(pairs):
        raise ConfigError(f"training.seeds={cfg.seeds}: no pair has vectors on both sides, so there is nothing to fit")
    if cfg.method == "identity":
        return Fitted(_identity(X, Y, cfg), pairs)
    if cfg.shuffle:
        pairs = np.stack([pairs[:, 0], np.random.default_rng(seed).permutation(pairs[:, 1])], axis=1)
    options: dict[str, Any] = {
        "method": cfg.method,
        "normalize": tuple(cfg.normalize),
        "completion": cfg.completion,
        "reduce": None if cfg.reduce == "none" else cfg.reduce,
    }
    if cfg.ridge:
        options["ridge"] = cfg.ridge
    if not cfg.self_learning:
        return Fitted(fit(X, Y, pairs, **options), pairs)
    learning = self_learn(X, Y, pairs, cutoff=cfg.cutoff, knn=cfg.knn, max_iter=cfg.max_iter, seed=seed, **options)
    if not learning.converged:
        log.warning("self-learning did not converge (%s); the map is not to be trusted", learning.reason)
    return Fitted(learning.map, learning.pairs, learning)


def dictionary_rows(bli: Bli, source: Vectors, target: Vectors, words: int | None) -> Pairs:
    """Rows of the training dictionary's pairs, of its first `words` source words; (k, 2)."""
    dictionary = bli.train if words is None else bli.train.first(words)
    return dictionary.rows(source, target)


def _seeds(cfg: WcsMap, source: Vectors, target: Vectors, bli: Bli, seed: int) -> Pairs:
    if cfg.seeds == "dictionary":
        return dictionary_rows(bli, source, target, cfg.pairs)
    if cfg.seeds == "identical":
        return identical_seeds(source.words, target.words)
    if cfg.seeds == "numerals":
        return numeral_seeds(source.words, target.words)
    if source.dim != target.dim:
        raise ConfigError(
            f"training.seeds=unsupervised: the sides have {source.dim} and {target.dim} dimensions, expected one width; "
            "begin from a dictionary or from identical words"
        )
    return unsupervised_seeds(source.matrix, target.matrix)


def _identity(X: NDArray[np.float32], Y: NDArray[np.float32], cfg: WcsMap) -> Map:
    if X.shape[1] != Y.shape[1]:
        raise MapError(f"the identity joins spaces of one width only, got {X.shape[1]} and {Y.shape[1]}")
    return identity_map(X, Y, normalize=tuple(cfg.normalize))


def _history(fitted: dict[int, Fitted]) -> list[dict[str, float]]:
    """Rounds of self-learning, of the first layer that learnt so."""
    learning = next((f.learning for f in fitted.values() if f.learning is not None), None)
    if learning is None:
        return []
    return [{"step": float(i + 1), **{k: float(v) for k, v in row.items()}} for i, row in enumerate(learning.history)]


def _facts(fitted: dict[int, Fitted], seconds: float) -> dict[str, float]:
    first = next(iter(fitted.values()))
    facts = {"fit_seconds": seconds, "pairs": float(len(first.pairs)), "layers": float(len(fitted))}
    learnt = [f.learning for f in fitted.values() if f.learning is not None]
    if learnt:
        facts["converged"] = float(np.mean([learning.converged for learning in learnt]))
    return facts


def _sections(spaces: Spaces, fitted: dict[int, Fitted], bli: Bli) -> list[Section]:
    layer = spaces.layers[len(spaces.layers) // 2]
    source, target = spaces.source[layer], spaces.target[layer]
    try:
        rows = bli.test.one_to_one().rows(source, target)
    except DictionaryError:  # the evaluation, if it needs them, says so
        return []
    sections = [map_section(source, target, rows, fitted[layer].map, spaces.label(layer))]
    learning = fitted[layer].learning
    if learning is not None:
        sections.append(learning_section(learning, bli, source, target))
    return sections


def _saved(maps: dict[int, Map], spaces: Spaces, run: RunContext) -> dict[str, Path]:
    if not run.is_main:
        return {}
    saved = {}
    for layer, found in maps.items():
        name = spaces.label(layer).replace(" ", "-")
        told = dataclasses.replace(found, meta={**found.meta, "layer": layer, "static": spaces.static})
        told.save(run.path("maps", name))
        saved[f"map {spaces.label(layer)}"] = run.folder / "maps" / name
    return saved
