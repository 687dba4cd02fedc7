"""The two spaces of a run: vectors of source and target words, for each layer that is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fascicle.errors import ConfigError

from .data import bli_of
from .loading import StaticModel
from .vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fascicle.context import RunContext
    from fascicle.objects import Data, LoadedModel

    from .options import StateOptions

__all__ = ["STATIC", "Spaces", "spaces_of"]

STATIC = 0
"""The one layer of static vectors."""


@dataclass(frozen=True)
class Spaces:
    """Vectors by layer, the words being the same in all of them."""

    source: dict[int, Vectors]
    target: dict[int, Vectors]
    static: bool

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers in order."""
        return tuple(sorted(self.source))

    def label(self, layer: int) -> str:
        """What a table calls a layer."""
        return "static" if self.static else f"layer {layer}"


def spaces_of(
    model: LoadedModel, data: Data, run: RunContext, states: StateOptions, *, layers: Sequence[int] | None = None
) -> Spaces:
    """Vectors of the words of `data` under `model`; those of an earlier verb of the run where they fit.

    Raises:
        ConfigError: a model that is neither vectors nor a language model with a tokenizer, a layer that it has not.
        VectorError, StatesError: see there.
    """
    wanted = tuple(states.layers if layers is None else layers)
    kept = model.extra.get("wcs_spaces")
    if isinstance(kept, Spaces) and (kept.static or not wanted or set(wanted) <= set(kept.layers)):
        return kept
    bli = bli_of(data)
    if isinstance(model.model, StaticModel):
        found = Spaces(
            {STATIC: model.model.embedder.vectors("source", bli.source_words)},
            {STATIC: model.model.embedder.vectors("target", bli.target_words)},
            static=True,
        )
    else:
        found = _of_states(model, data, run, states, wanted)
    model.extra["wcs_spaces"] = found
    return found


def _of_states(model: LoadedModel, data: Data, run: RunContext, states: StateOptions, wanted: Sequence[int]) -> Spaces:
    from .wordstates import state_layers
    from .wordstates import states as word_states

    if model.tokenizer is None:
        raise ConfigError(f"model: {model.name} has no tokenizer, so its states of words cannot be read")
    bli = bli_of(data)
    known = state_layers(model.model)
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise ConfigError(f"layers: {model.name} has the layers 0 to {max(known)}, got {missing}")
    layers = tuple(wanted) or known
    sides = {}
    for side, words in (("source", bli.source_words), ("target", bli.target_words)):
        with run.progress(f"States of {len(words)} {side} words", total=len(words)) as bar:
            table = word_states(
                model.model,
                model.tokenizer,
                words,
                layers=layers,
                pool=states.pool,
                template=_template(states, bli.source if side == "source" else bli.target),
                batch_tokens=states.batch_tokens,
                store=run.path("states", side),
                fingerprint=model.fingerprint,
                advance=bar.advance,
            )
        sides[side] = {layer: Vectors(words, table[:, i], name=side) for i, layer in enumerate(layers)}
    return Spaces(sides["source"], sides["target"], static=False)


def _template(states: StateOptions, language: str) -> str | None:
    return None if states.template is None else states.template.replace("{language}", language)
