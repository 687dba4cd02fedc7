"""The models of a run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fascicle.errors import ConfigError
from fascicle.hf.model_options import HfClassifier
from fascicle.hf.models import load_classifier, load_tiny, seeded
from fascicle.objects import LoadedModel

from .modeling import RelationModel

if TYPE_CHECKING:
    from fascicle.context import RunContext

    from .options import SiefModel

__all__ = ["load"]


def load(cfg: SiefModel, run: RunContext) -> LoadedModel:
    """A pretrained encoder under a new head, which is drawn from the run's seed. Answers `fascicle_load_model`.

    Raises:
        SourceError: no source has the encoder.
        ConfigError: data without relations, or a model that is no encoder.
    """
    if not run.label_names:
        raise ConfigError(
            "model: the data names no relations, expected documents with relations, e.g. data=sief_docred or data=sief_planted"
        )
    if cfg.tiny is not None:
        encoder = load_tiny(dataclasses.replace(cfg.tiny, head="none"), run)
    else:
        encoder = load_classifier(
            HfClassifier(sources=cfg.sources, name=cfg.name, head="none", attention_dropout=cfg.attention_dropout), run
        )
    longest = encoder.extra.get("max_length") or cfg.window
    with seeded(run.seed):
        model: Any = RelationModel.on(
            encoder.model,
            base=cfg.base,
            relations=list(run.label_names),
            entity_types=cfg.entity_types,
            max_pieces=cfg.max_pieces,
            window=min(cfg.window, longest),
            overlap=min(cfg.overlap, longest // 4),
            hidden=cfg.hidden,
            emb=cfg.emb,
            block=cfg.block,
            layers=cfg.layers,
            heads=cfg.heads,
            dropout=cfg.dropout,
        )
    return LoadedModel(
        model=model.to(run.device).eval(),
        tokenizer=encoder.tokenizer,
        task="relations",
        name=cfg.name or f"{encoder.name}-{cfg.base}",
        source=encoder.source,
        fingerprint=encoder.fingerprint,
        extra={**encoder.extra, "head": ["head", *(["features"] if model.features is not None else [])]},
    )
