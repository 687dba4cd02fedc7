"""`evaluation=wcs_bli` and `wcs_isomorphism`: lexicon induction by retrieval, and how alike the spaces are, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fascicle.errors import ConfigError, DataError
from fascicle.objects import Block, Metrics, Section

from .data import bli_of
from .fits import fit
from .isomorphism import isomorphism_report
from .maps import identity_map
from .retrieval import retrieve
from .scores import evaluate, of_rows
from .significance import compare
from .spaces import spaces_of
from .training import dictionary_rows, maps_of
from .views import line_section, neighbour_section

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

    from .data import Bli
    from .maps import Map
    from .options import WcsBli, WcsIsomorphism
    from .retrieval import Method
    from .scores import BliScores
    from .spaces import Spaces
    from .vectors import Vectors

__all__ = ["evaluate_bli", "evaluate_isomorphism", "induced"]

PAPER_LAYER = 9
KS = (1, 5, 10)
BINS = (0, 500, 1000, 5000, 20_000)
"""Ranks at which bins of source words begin."""


@dataclass(frozen=True)
class _Layer:
    """What was measured at one layer: scores by arm, and the answers of the map."""

    scores: dict[str, BliScores]
    answers: dict[str, list[str]]


# ---- retrieval -----------------------------------------------------------------------------------------------------------


def evaluate_bli(cfg: WcsBli, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """P@k and MRR of test words by retrieval in the common space. Answers `fascicle_evaluate`.

    Raises:
        ConfigError: data without dictionaries, a layer that was not read.
        DataError: no test word has a vector.
    """
    maps, bli = maps_of(model), bli_of(data)
    spaces = spaces_of(model, data, run, cfg.states, layers=None if maps is None else sorted(maps))
    lead, measured = _lead(cfg, spaces), {}
    with run.progress("Inducing the lexicon", total=len(spaces.layers)) as bar:
        for layer in spaces.layers:
            measured[layer] = _layer(cfg, spaces, layer, bli, maps, run.seed)
            bar.advance()
    best = measured[lead]
    metrics = _metrics(cfg, best, spaces, lead, bli, maps)
    if len(spaces.layers) > 1:
        for layer in spaces.layers:
            metrics.values[f"p_at_1_layer_{layer}"] = measured[layer].scores["map"].precision[1]
        series = {
            arm: [measured[layer].scores[arm].precision[1] for layer in spaces.layers]
            for arm in best.scores
            if all(arm in measured[layer].scores for layer in spaces.layers)
        }
        metrics.sections.append(line_section("P@1 by layer", "layer", spaces.layers, series, "P@1"))
    metrics.sections.append(_neighbours(cfg, best, bli))
    return metrics


def induced(
    source: Vectors, target: Vectors, found: Map | None, words: list[str], *, method: Method = "csls", **options: Any
) -> dict[str, list[str]]:
    """The ten nearest target words of each source word that has a vector, best first.

    Raises:
        DataError: none of the words has a vector.
    """
    known = [word for word in words if word in source.index]
    if not known:
        raise DataError(
            f"data.test: none of its {len(words)} source words has a vector; is it the right language and case?"
        )
    Z = source.matrix if found is None else found.apply(source.matrix)
    T = target.matrix if found is None else found.apply_target(target.matrix)
    rows = np.array([source.index[word] for word in known], dtype=np.int64)
    index, _ = retrieve(Z, T, rows, k=max(KS), method=method, **options)
    return of_rows(index, known, target.words)


def _lead(cfg: WcsBli, spaces: Spaces) -> int:
    if spaces.static or len(spaces.layers) == 1:
        return spaces.layers[0]
    layer = PAPER_LAYER if cfg.layer is None else cfg.layer
    if layer in spaces.layers:
        return layer
    if cfg.layer is not None:
        raise ConfigError(f"evaluation.layer: got {layer}, expected one of {list(spaces.layers)}")
    return spaces.layers[len(spaces.layers) // 2]


def _layer(cfg: WcsBli, spaces: Spaces, layer: int, bli: Bli, maps: dict[int, Map] | None, seed: int) -> _Layer:
    source, target = spaces.source[layer], spaces.target[layer]
    found = None if maps is None else maps[layer]
    arms: dict[str, Map | None] = {"map": found}
    if cfg.controls:
        if source.dim == target.dim:
            arms["identity"] = identity_map(source.matrix, target.matrix)
        arms["shuffled"] = _shuffled(source, target, bli, seed)
    scores, answers = {}, {}
    for arm, one in arms.items():
        answers[arm] = _answers(cfg, source, target, one, bli)
        scores[arm] = _scores(cfg, answers[arm], source, target, bli)
    if cfg.backward:
        back = _backward(cfg, source, target, found, bli)
        if back is not None:
            scores["backward"] = back
    return _Layer(scores, answers["map"])


def _shuffled(source: Vectors, target: Vectors, bli: Bli, seed: int) -> Map | None:
    pairs = dictionary_rows(bli, source, target, None)
    if not len(pairs):
        return None
    targets = np.random.default_rng(seed).permutation(pairs[:, 1])
    reduce: Literal["pca"] | None = "pca" if source.dim != target.dim else None
    return fit(source.matrix, target.matrix, np.stack([pairs[:, 0], targets], axis=1), reduce=reduce)


def _answers(cfg: WcsBli, source: Vectors, target: Vectors, found: Map | None, bli: Bli) -> dict[str, list[str]]:
    words = list(bli.test.gold())
    return induced(source, target, found, words, method=cfg.method, knn=cfg.knn, backend=cfg.backend)


def _scores(
    cfg: WcsBli, answers: dict[str, list[str]], source: Vectors, target: Vectors, bli: Bli, **more: Any
) -> BliScores:
    gold = bli.test.gold()
    covered = {w for w, found in gold.items() if w in source.index and any(t in target.index for t in found)}
    return evaluate(answers, gold, ks=KS, oov=cfg.oov, covered=covered, ranks=source.index, bins=BINS, **more)


def _backward(cfg: WcsBli, source: Vectors, target: Vectors, found: Map | None, bli: Bli) -> BliScores | None:
    """The same question asked in the other direction: of target words, by the same map."""
    gold = bli.test.inverse().gold()
    known = [word for word in gold if word in target.index]
    if not known:
        return None
    Z = source.matrix if found is None else found.apply(source.matrix)
    T = target.matrix if found is None else found.apply_target(target.matrix)
    rows = np.array([target.index[word] for word in known], dtype=np.int64)
    index, _ = retrieve(T, Z, rows, k=max(KS), method=cfg.method, knn=cfg.knn, backend=cfg.backend)
    covered = {w for w, found_ in gold.items() if w in target.index and any(s in source.index for s in found_)}
    return evaluate(of_rows(index, known, source.words), gold, ks=KS, oov=cfg.oov, covered=covered)


def _metrics(cfg: WcsBli, best: _Layer, spaces: Spaces, lead: int, bli: Bli, maps: dict[int, Map] | None) -> Metrics:
    source, target = spaces.source[lead], spaces.target[lead]
    scores = best.scores["map"]
    plain = _scores(cfg, best.answers, source, target, bli, exclude_identical=True)
    values = {f"p_at_{k}": scores.precision[k] for k in KS}
    values |= {"mrr": scores.mrr, "coverage": scores.coverage, "test_words": float(scores.words)}
    values |= {"p_at_1_no_identical": plain.precision[1], "test_words_no_identical": float(plain.words)}
    values |= {f"{arm}_p_at_1": found.precision[1] for arm, found in best.scores.items() if arm != "map"}
    better = {key: True for key in values if key.startswith(("p_at", "mrr"))}
    return Metrics(
        values=values,
        primary="p_at_1",
        higher_is_better=better,
        per_example={"p_at_1": list(scores.hits.values())},
        sections=[_table(cfg, best, plain, spaces.label(lead), mapped=maps is not None)],
    )


def _table(cfg: WcsBli, best: _Layer, plain: BliScores, label: str, *, mapped: bool) -> Section:
    names = {"map": "the map" if mapped else "no map", "backward": "the other direction"}
    rows: list[list[Any]] = [
        [names.get(arm, arm), *(s.precision[k] for k in KS), s.mrr, s.words, s.coverage]
        for arm, s in best.scores.items()
    ]
    rows.append(["without identical strings", *(plain.precision[k] for k in KS), plain.mrr, plain.words, None])
    policy = "counted as wrong" if cfg.oov == "wrong" else "left out"
    caption = f"Words without a vector are {policy}. Retrieval by {cfg.method}, {label}."
    columns = ["arm", *(f"P@{k}" for k in KS), "MRR", "test words", "coverage"]
    blocks = [Block(kind="table", data={"columns": columns, "rows": rows, "caption": caption})]
    for arm in ("identity", "shuffled"):
        if arm in best.scores:
            told = compare(best.scores["map"].hits, best.scores[arm].hits)
            text = (
                f"Against {arm}: {100 * told.difference:+.1f} points [{100 * told.low:+.1f}, {100 * told.high:+.1f}], "
                f"McNemar p = {told.p_value:.2g} over {told.words} words."
            )
            blocks.append(Block(kind="text", data={"text": text}))
    bins = best.scores["map"].bins
    if bins:
        data = {
            "columns": ["frequency rank of the source word", "P@1", "test words"],
            "rows": [[name, b.precision, b.words] for name, b in bins.items()],
        }
        blocks.append(Block(kind="table", title="By frequency", data=data))
    return Section(title="Lexicon induction", blocks=blocks, plugin="wcs")


def _neighbours(cfg: WcsBli, best: _Layer, bli: Bli) -> Section:
    gold = bli.test.gold()
    words = [word for word in cfg.words if word in best.answers] or list(best.answers)[
        :: max(1, len(best.answers) // 12)
    ]
    return neighbour_section([(word, best.answers[word][:5], gold.get(word, ())) for word in words[:20]])


# ---- isomorphism ---------------------------------------------------------------------------------------------------------


def evaluate_isomorphism(cfg: WcsIsomorphism, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """Every measure beside its controls, for each layer. Answers `fascicle_evaluate`.

    Raises:
        ConfigError, DataError: as `evaluate_bli`.
    """
    spaces, bli = spaces_of(model, data, run, cfg.states), bli_of(data)
    reports = {}
    with run.progress("Comparing spaces", total=len(spaces.layers)) as bar:
        for layer in spaces.layers:
            source, target = spaces.source[layer], spaces.target[layer]
            pairs = bli.train.without_identical() if cfg.exclude_identical else bli.train
            rows = pairs.one_to_one().rows(source, target)[: cfg.words]
            if len(rows) < 20:
                raise DataError(f"data.train: only {len(rows)} pairs have vectors on both sides, expected at least 20")
            reports[layer] = isomorphism_report(
                source.matrix[rows[:, 0]],
                target.matrix[rows[:, 1]],
                permutations=cfg.permutations,
                resamples=cfg.resamples,
                folds=cfg.folds,
                legacy=cfg.legacy,
                seed=run.seed,
            )
            bar.advance()
    lead = PAPER_LAYER if PAPER_LAYER in spaces.layers else spaces.layers[len(spaces.layers) // 2]
    values = dict(reports[lead].values())
    values["alignable_layers"] = float(sum(r.alignable for r in reports.values()))
    sections = [_isomorphism_table(spaces, reports)]
    if len(spaces.layers) > 1:
        keys = [key for key in ("residual", "rsim", "gh") if all(key in r.values() for r in reports.values())]
        for key in keys:
            series = {key: [r.values()[key] for r in reports.values()]}
            sections.append(line_section(f"{key} by layer", "layer", spaces.layers, series, key))
    return Metrics(
        values=values, primary="residual" if "residual" in values else "rsim", higher_is_better={}, sections=sections
    )


def _isomorphism_table(spaces: Spaces, reports: dict[int, Any]) -> Section:
    keys = list(next(iter(reports.values())).values())
    rows = [[spaces.label(layer), *(r.values().get(k) for k in keys), r.verdict] for layer, r in reports.items()]
    data = {"columns": ["layer", *keys, "verdict"], "rows": rows}
    return Section(title="Isomorphism", blocks=[Block(kind="table", data=data)], plugin="wcs")
