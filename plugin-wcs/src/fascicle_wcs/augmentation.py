"""`training=wcs_ida` and `wcs_uida`: algorithm 1 of the paper inside a run, on the model of the run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.errors import ConfigError
from fascicle.objects import Block, Section, TrainResult
from fascicle.results import atomic_write_text

from .algorithm import ida
from .data import bli_of
from .fits import fit
from .translation import asker_of, injected
from .wordstates import state_layers, states

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

    from .algorithm import IdaResult
    from .maps import Map
    from .options import WcsIda
    from .translation import Asker

__all__ = ["train_ida"]

log = logging.getLogger("fascicle.wcs")


def train_ida(cfg: WcsIda, model: LoadedModel, data: Data, run: RunContext) -> TrainResult:
    """Grow a dictionary and its map. Answers `fascicle_train`; the model is unchanged, `extra["wcs_maps"]` holds the map.

    Words of the test are never asked for, so what is measured on it was not generated.

    Raises:
        ConfigError: a model that cannot be asked, a layer that it has not, no source words to ask for.
        DictionaryError: fewer pairs than examples need.
    """
    asker, bli = asker_of(model, data, cfg.prompt, run, cfg.inject.layer), bli_of(data)
    if cfg.inject.layer >= max(state_layers(model.model)):
        raise ConfigError(
            f"training.inject.layer: got {cfg.inject.layer}, expected less than the {max(state_layers(model.model))} blocks"
        )
    tested = set(bli.test.gold())
    words = [word for word in bli.source_words if word not in tested]
    if not words:
        raise ConfigError(
            "data.vocabulary: no source words but those of the test; give more, e.g. data.vocabulary=wordfreq"
        )
    seeds = _first_pairs(cfg, asker, words)
    refit = _Refit(cfg, model)
    result = ida(
        seeds,
        words,
        lambda part: _first(asker.ask(part, "Asking")),
        lambda part, found: _asked_mapped(asker, model, cfg, part, found),
        refit,
        target=cfg.grow_to,
        chunk=cfg.chunk,
        max_iter=cfg.max_iter,
        unsupervised=cfg.unsupervised,
        agreement=cfg.agreement,
        gold=bli.train.gold(),
        folder=run.path("ida", "ida.json").parent,
        fingerprint=_fingerprint(cfg, model, run),
    )
    model.extra["wcs_maps"] = {cfg.inject.layer: result.map}
    result.map.save(run.path("maps", f"layer-{cfg.inject.layer}"))
    dictionary = run.path("dictionary.tsv")
    atomic_write_text(dictionary, "".join(f"{s}\t{t}\n" for s, t in result.dictionary))
    last = result.history[-1].precision if result.history else None
    return TrainResult(
        model=model,
        history=[_row(row.round, row.size, row.added, row.precision, row.change) for row in result.history],
        metrics={
            "pairs": float(len(result.dictionary)),
            "rounds": float(len(result.history)),
            **({} if last is None else {"precision": last}),
        },
        sections=[_section(result, cfg)],
        artifacts={"dictionary": dictionary, "map": run.folder / "maps" / f"layer-{cfg.inject.layer}"},
    )


def _first_pairs(cfg: WcsIda, asker: Asker, words: Sequence[str]) -> list[tuple[str, str]]:
    """Gold pairs, one a source word; or the model's own translations of the most frequent words."""
    if not cfg.unsupervised:
        return list(asker.bli.train.first_targets().pairs[: cfg.pairs])
    told = _first(asker.ask(list(words[: cfg.pairs]), "First translations"))
    pairs = [(word, answer) for word, answer in told.items() if answer]
    if not pairs:
        raise ConfigError(
            "training.unsupervised: the model translated none of the first words; it cannot begin by itself"
        )
    return pairs


def _first(answers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {word: told[0] if told else "" for word, told in answers.items()}


def _asked_mapped(asker: Asker, model: LoadedModel, cfg: WcsIda, words: list[str], found: Map) -> dict[str, str]:
    with injected(model, found, cfg.inject) as injection:
        return _first(asker.ask(words, "Asking, mapped", injection))


@dataclass
class _Refit:
    """Procrustes on the states of a dictionary's words; each word is read once."""

    cfg: WcsIda
    model: LoadedModel
    known: dict[str, np.ndarray] = field(default_factory=dict)

    def __call__(self, pairs: list[tuple[str, str]]) -> Map:
        sides = [[pair[side] for pair in pairs] for side in (0, 1)]
        self._read([word for side in sides for word in side])
        X, Y = (np.stack([self.known[word] for word in side]) for side in sides)
        rows = np.repeat(np.arange(len(pairs))[:, None], 2, axis=1)
        return fit(X, Y, rows, normalize=tuple(self.cfg.normalize), completion=self.cfg.completion)

    def _read(self, words: Sequence[str]) -> None:
        fresh = [word for word in dict.fromkeys(words) if word not in self.known]
        if not fresh:
            return
        options = self.cfg.states
        table = states(
            self.model.model,
            self.model.tokenizer,
            fresh,
            layers=(self.cfg.inject.layer,),
            pool=options.pool,
            template=options.template,
            batch_tokens=options.batch_tokens,
        )
        self.known |= {word: np.asarray(table[i, 0], dtype=np.float32) for i, word in enumerate(fresh)}


def _fingerprint(cfg: WcsIda, model: LoadedModel, run: RunContext) -> str:
    """Of everything that decides an answer."""
    told = (model.fingerprint, cfg.prompt, cfg.inject, cfg.states, cfg.normalize, cfg.completion, run.seed)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _row(number: int, size: int, added: int, precision: float | None, change: float | None) -> dict[str, float]:
    told: dict[str, Any] = {"step": number, "size": size, "added": added, "precision": precision, "change": change}
    return {key: float(value) for key, value in told.items() if value is not None}


def _section(result: IdaResult[Map], cfg: WcsIda) -> Section:
    kind = "uIDA: the first pairs were the model's own" if cfg.unsupervised else "IDA: the first pairs are gold"
    text = f"{kind}. {len(result.dictionary)} pairs after {len(result.history)} rounds; ended: {result.reason}."
    blocks = [Block(kind="text", data={"text": text})]
    x = [row.round for row in result.history]
    lines = {"pairs": [float(row.size) for row in result.history]}
    if x and all(row.precision is not None for row in result.history):
        lines["precision of generated pairs"] = [float(row.precision or 0.0) for row in result.history]
    for name, values in lines.items():
        if x:
            data = {"series": {name: {"x": x, "y": values}}, "x_label": "round", "y_label": name}
            blocks.append(Block(kind="lines", title=name, data=data))
    some = [[s, t] for s, t in result.dictionary[-20:]]
    blocks.append(Block(kind="table", title="The last pairs", data={"columns": ["source", "target"], "rows": some}))
    return Section(title="Dictionary augmentation", blocks=blocks, plugin="wcs")
