"""The models of a run: a base with guidance, or the base alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fascicle.errors import ConfigError
from fascicle.hf.model_options import HfClassifier, HfSeq2Seq
from fascicle.hf.models import load_classifier, load_seq2seq, load_tiny, seeded

from . import modeling  # noqa: F401 - saved guided models are known to the Auto classes once this is imported
from .data import is_guided
from .modeling import GuidedForConditionalGeneration
from .warmstart import bart_from_bert

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import LoadedModel

    from .options import FaithsumModel

__all__ = ["load"]


def load(cfg: FaithsumModel, run: RunContext) -> LoadedModel:
    """The base of the option, with what guidance needs drawn from the run's seed. Answers `fascicle_load_model`.

    Raises:
        SourceError: no source has the base.
        ConfigError: a checkpoint that has its guidance already, of another kind than asked for, or a base that cannot be guided.
    """
    loaded = _base(cfg, run)
    net: Any = loaded.model
    if is_guided(net):
        if not cfg.guided or net.config.latent_type != cfg.latent_type:
            raise ConfigError(
                f"model.{'latent_type' if cfg.guided else 'guided'}: {loaded.source} is a guided model with the latent "
                f"{net.config.latent_type!r}, got {cfg.latent_type if cfg.guided else cfg.guided!r}"
            )
    elif cfg.guided:
        with seeded(run.seed):
            net = GuidedForConditionalGeneration.from_base(
                net,
                tokenizer=loaded.tokenizer,
                latent_type=cfg.latent_type,
                latent_size=cfg.latent_size,
                guidance_layers=cfg.guidance_layers,
                guidance_mode=cfg.guidance_mode,
                bow=cfg.bow,
            )
    new = list(net.guidance_modules) if is_guided(net) else []
    return dataclasses.replace(
        loaded,
        model=net.to(run.device).eval(),
        name=cfg.name or loaded.name,
        extra={**loaded.extra, **({"head": new} if new else {})},
    )


def _base(cfg: FaithsumModel, run: RunContext) -> LoadedModel:
    if cfg.tiny is not None:
        return load_tiny(cfg.tiny, run)
    common: dict[str, Any] = {
        "sources": cfg.sources,
        "name": cfg.name,
        "max_length": cfg.max_length,
        "attention": cfg.attention,
        "attention_dropout": cfg.attention_dropout,
    }
    if not cfg.warm_start:
        return load_seq2seq(HfSeq2Seq(**common), run)
    encoder = load_classifier(HfClassifier(**common, head="none"), run)
    with seeded(run.seed):
        made: Any = bart_from_bert(encoder.model, encoder.tokenizer, decoder_layers=cfg.decoder_layers)
    return dataclasses.replace(encoder, model=made.to(run.device), task="seq2seq", name=f"{encoder.name}-bart")
