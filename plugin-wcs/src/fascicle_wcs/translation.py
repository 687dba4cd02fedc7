"""`evaluation=wcs_translation`: the model is asked for translations, plainly and with the map inside the network (section 3.2).

Beside the map stand its controls: no map but the shift of the means, and a random rotation that turns as far as the map does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.errors import ConfigError
from fascicle.objects import Block, Metrics, Section

from .data import bli_of
from .injection import inject
from .planted import random_orthogonal
from .prompting import Prompt, agree, nearest_shots, random_shots, translate
from .scores import evaluate
from .significance import compare
from .spaces import spaces_of
from .training import maps_of
from .views import line_section

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

    from .data import Bli
    from .injection import Injection
    from .maps import Map
    from .options import InjectOptions, PromptOptions, WcsTranslation
    from .prompting import Shots
    from .scores import BliScores

__all__ = ["Asker", "evaluate_translation", "injected", "turned_at_random"]


@dataclasses.dataclass(frozen=True)
class Asker:
    """Asks one model one kind of question."""

    model: LoadedModel
    bli: Bli
    options: PromptOptions
    shots: Shots
    run: RunContext

    def ask(self, words: Sequence[str], title: str, injection: Injection | None = None) -> dict[str, list[str]]:
        """Word to its answers, the chosen one first.

        Raises:
            StatesError: a model that cannot write.
        """
        prompt, known = Prompt(self.bli.source, self.bli.target), set(self.bli.target_words)
        return self._answers(words, prompt, self.shots, known, title, injection)

    def ask_back(self, words: Sequence[str], title: str) -> dict[str, list[str]]:
        """Target words into the source language, without a map."""
        prompt, known = Prompt(self.bli.target, self.bli.source), set(self.bli.source_words)
        shots = random_shots(self.bli.train.inverse().pairs, self.options.shots, seed=self.run.seed)
        return self._answers(words, prompt, shots, known, title, None)

    def _answers(
        self,
        words: Sequence[str],
        prompt: Prompt,
        shots: Shots,
        known: set[str],
        title: str,
        injection: Injection | None,
    ) -> dict[str, list[str]]:
        options = self.options
        with self.run.progress(title, total=len(words)) as bar:
            answers = translate(
                self.model.model,
                self.model.tokenizer,
                words,
                prompt,
                shots=shots,
                max_new_tokens=options.max_new_tokens,
                beams=options.beams,
                vocabulary=known,
                batch_size=options.batch_size,
                injection=injection,
                advance=bar.advance,
            )
        return {a.word: list(dict.fromkeys([a.text, *a.candidates])) if a.text else [] for a in answers}


def asker_of(model: LoadedModel, data: Data, options: PromptOptions, run: RunContext, layer: int) -> Asker:
    """An asker with the examples that the options want.

    Raises:
        ConfigError: a model that cannot be asked.
    """
    if model.task != "causal_lm" or model.tokenizer is None:
        raise ConfigError(f"model: {model.name} is one for {model.task}; only a causal language model can be asked")
    bli = bli_of(data)
    pairs = bli.train.pairs
    if options.nearest and options.shots:
        from .options import StateOptions

        vectors = spaces_of(model, data, run, StateOptions(layers=[layer])).source[layer]
        shots = nearest_shots(pairs, options.shots, vectors)
    else:
        shots = random_shots(pairs, options.shots, seed=run.seed)
    return Asker(model, bli, options, shots, run)


@contextmanager
def injected(
    model: LoadedModel, found: Map, options: InjectOptions, *, strength: float | None = None
) -> Iterator[Injection]:
    """The map inside the network, as the options say; `strength` in the place of theirs.

    With strength a the matrix is the point a of the way from the identity, and the target's mean that of the way between the means,
    so that 0 changes nothing.

    Raises:
        ConfigError: a map that is not orthogonal, or means of other vectors than those that are mapped.
        StatesError: a layer that does not exist.
    """
    a = options.strength if strength is None else strength
    if not found.is_orthogonal:
        raise ConfigError(
            "training: only an orthogonal map can be put into the network; choose training=wcs_procrustes"
        )
    source, target = (_mean(found, side, options) for side in ("source", "target"))
    if source is not None and target is not None:
        target = source + a * (target - source)
    W = found.geodesic(a).source_matrix
    with inject(
        model.model,
        options.layer,
        W,
        mean_source=source,
        mean_target=target,
        scope=options.scope,
        keep_norm=options.keep_norm,
    ) as injection:
        yield injection


def _mean(found: Map, side: str, options: InjectOptions) -> np.ndarray | None:
    """What is subtracted, or added again: the first mean of the fit, of vectors as they come to the map."""
    steps, means = getattr(found, f"{side}_steps"), getattr(found, f"{side}_means")
    if not options.affine or "center" not in steps:
        return None
    first = steps[: steps.index("center")]
    if (first == ("unit",)) != options.keep_norm:
        raise ConfigError(
            f"inject.affine: the map's means are of vectors after the steps {list(first)}; with keep_norm={options.keep_norm} "
            f"expected training.normalize to begin with {'[unit, center' if options.keep_norm else '[center'}"
        )
    mean: np.ndarray = means[0]
    return mean


def turned_at_random(found: Map, seed: int) -> Map:
    """The map in a random basis: it turns by the same angles, in planes that mean nothing."""
    Q = random_orthogonal(found.dim, np.random.default_rng(seed))
    return dataclasses.replace(found, source_matrix=Q.T @ found.source_matrix @ Q, meta={**found.meta, "random": seed})


def evaluate_translation(cfg: WcsTranslation, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    """P@1 of asking the model, with and without the map. Answers `fascicle_evaluate`.

    Raises:
        ConfigError: a model that cannot be asked, maps of other layers, a map that cannot be injected.
    """
    asker = asker_of(model, data, cfg.prompt, run, cfg.inject.layer)
    gold = _gold(cfg, asker.bli)
    words = list(gold)
    answers = {"plain": asker.ask(words, "Asking")}
    found = _map(cfg, model)
    if found is not None:
        for arm, (one, strength) in _arms(cfg, found, run.seed).items():
            with injected(model, one, cfg.inject, strength=strength) as injection:
                answers[arm] = asker.ask(words, f"Asking, {arm}", injection)
    scores = {arm: evaluate(told, gold, ks=(1,), oov="wrong") for arm, told in answers.items()}
    metrics = _metrics(scores, answers, cfg)
    if cfg.back_translation:
        back = asker.ask_back(sorted({a[0] for a in answers["plain"].values() if a}), "Asking back")
        _add_agreement(metrics, words, answers["plain"], back, scores["plain"])
    if found is not None and cfg.sweep:
        strengths = sorted({0.0, *cfg.sweep, cfg.inject.strength})
        series = {"P@1": [scores[_name(s, cfg)].precision[1] for s in strengths]}
        label = "strength: 0 is no map, 1 the whole map"
        metrics.sections.append(line_section("P@1 by strength of the injection", label, strengths, series, "P@1"))
    return metrics


def _gold(cfg: WcsTranslation, bli: Bli) -> dict[str, tuple[str, ...]]:
    test = bli.test
    gold = dict(test.gold())
    if cfg.exclude_identical:
        gold = {word: targets for word, targets in gold.items() if word not in targets}
    chosen = dict(list(gold.items())[: cfg.rows])
    if not chosen:
        raise ConfigError(
            "evaluation.exclude_identical: every test word has a translation spelt as itself; nothing is left"
        )
    return chosen


def _map(cfg: WcsTranslation, model: LoadedModel) -> Map | None:
    maps = maps_of(model)
    if maps is None:
        return None
    if cfg.inject.layer not in maps:
        raise ConfigError(
            f"evaluation.inject.layer: got {cfg.inject.layer}, but training fitted maps of the layers {sorted(maps)}; "
            f"add training.states.layers=[{cfg.inject.layer}]"
        )
    return maps[cfg.inject.layer]


def _name(strength: float, cfg: WcsTranslation) -> str:
    if strength == 0:
        return "plain"
    return "map" if strength == cfg.inject.strength else f"strength_{strength:g}"


def _arms(cfg: WcsTranslation, found: Map, seed: int) -> dict[str, tuple[Map, float | None]]:
    """What is put into the network, and how far."""
    arms: dict[str, tuple[Map, float | None]] = {"map": (found, None)}
    if cfg.controls:
        arms["random"] = (turned_at_random(found, seed), None)
        identity = dataclasses.replace(found, source_matrix=np.eye(found.dim), meta={"method": "identity"})
        arms["shift"] = (identity, None)
    for strength in cfg.sweep:
        if strength not in (0, cfg.inject.strength):
            arms[_name(strength, cfg)] = (found, strength)
    return arms


def _metrics(
    scores: Mapping[str, BliScores], answers: Mapping[str, Mapping[str, Sequence[str]]], cfg: WcsTranslation
) -> Metrics:
    lead = "map" if "map" in scores else "plain"
    values = {"p_at_1": scores[lead].precision[1], "test_words": float(scores[lead].words)}
    values |= {f"{arm}_p_at_1": s.precision[1] for arm, s in scores.items() if arm != lead}
    rows: list[list[Any]] = []
    for arm, s in scores.items():
        same = np.mean([answers[arm][w][:1] == answers["plain"][w][:1] for w in answers["plain"]])
        row: list[Any] = [arm, s.precision[1], float(same)]
        if arm == "plain":
            row += [None, None, None]
        else:
            told = compare(s.hits, scores["plain"].hits, resamples=cfg.resamples)
            row += [told.difference, f"{told.low:+.3f} to {told.high:+.3f}", told.p_value]
        rows.append(row)
    columns = ["arm", "P@1", "answers as plain", "difference to plain", "95 % interval", "McNemar p"]
    caption = (
        f"{scores[lead].words} words, {cfg.prompt.shots} examples. `shift` moves the mean and turns nothing; `random` turns as "
        "far as the map, in planes that mean nothing."
    )
    examples = [
        [word, *(", ".join(answers[arm][word][:1]) or None for arm in answers)] for word in list(answers["plain"])[:15]
    ]
    sections = [
        Section(
            title="Translation by asking",
            plugin="wcs",
            blocks=[
                Block(kind="table", data={"columns": columns, "rows": rows, "caption": caption}),
                Block(kind="table", title="Some answers", data={"columns": ["word", *answers], "rows": examples}),
            ],
        )
    ]
    return Metrics(
        values=values,
        primary="p_at_1",
        higher_is_better={key: True for key in values if key.endswith("p_at_1")},
        per_example={"p_at_1": list(scores[lead].hits.values())},
        sections=sections,
    )


def _add_agreement(
    metrics: Metrics,
    words: Sequence[str],
    told: Mapping[str, Sequence[str]],
    back: Mapping[str, Sequence[str]],
    s: BliScores,
) -> None:
    """How many answers are translated back, and how right those are: a filter that needs no dictionary."""
    forward = {w: a[0] for w, a in told.items() if a}
    agreed = agree(words, forward, {w: a[0] for w, a in back.items() if a})
    kept = [word for word, yes in zip(words, agreed, strict=True) if yes]
    metrics.values["back_translated"] = len(kept) / len(words)
    if kept:
        metrics.values["back_translated_p_at_1"] = float(np.mean([s.hits[word] for word in kept]))
