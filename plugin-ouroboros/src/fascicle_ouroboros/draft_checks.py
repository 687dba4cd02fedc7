"""What a configuration says of a draft model, looked at before anything heavy is imported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fascicle.errors import ConfigError
from fascicle.sources import resolve

__all__ = ["check"]


def check(config: dict[str, Any]) -> None:
    """Check the draft of a run: the model can be cut so, the folder of a given draft exists.

    Raises:
        ConfigError: a model that is no decoder, more layers than it has, or no draft to measure.
        SourceError: no source of `evaluation.draft` exists.

    >>> check({"training": {"kind": "none"}, "evaluation": {"kind": "perplexity"}, "model": {}})
    """
    training, evaluation, model = (config.get(group) or {} for group in ("training", "evaluation", "model"))
    makes = training.get("provider") == "ouroboros" and training.get("kind") == "ouroboros_draft"
    if evaluation.get("provider") == "ouroboros" and evaluation.get("kind") == "ouroboros_acceptance":
        if evaluation.get("draft"):
            resolve(evaluation["draft"], "evaluation.draft")
        elif not makes:
            raise ConfigError(
                "evaluation.draft: got no draft model, expected a folder or hub id; set evaluation.draft=[FOLDER], or choose "
                "training=ouroboros_draft"
            )
    if makes:
        _check_cut(training, model)


def _check_cut(training: dict[str, Any], model: dict[str, Any]) -> None:
    kind = model.get("architecture") if model.get("kind") == "tiny" else model.get("kind")
    if kind in ("bert", "bart", "hf_classifier", "hf_seq2seq"):
        raise ConfigError(
            f"model: got {kind} with training=ouroboros_draft, expected a decoder-only language model, e.g. model=hf_causal_lm"
        )
    total = model.get("layers") if model.get("kind") == "tiny" else _layers_of(model.get("sources") or [])
    if not isinstance(total, int) or training.get("control") == "quantized":
        return
    keep = training.get("keep")
    if keep is None and training.get("layers", 6) > total:
        raise ConfigError(
            f"training.layers: got {training.get('layers', 6)}, expected 1 to {total}, as many as the model has"
        )
    if keep is not None and max(keep) >= total:
        raise ConfigError(f"training.keep: got {keep}, expected indices from 0 to {total - 1}, the layers of the model")


def _layers_of(sources: list[str]) -> int | None:
    """Layers of a checkpoint in a local folder that stands first, None where no `config.json` at hand tells them."""
    first = str(sources[0]).removeprefix("folder:") if sources else ""
    file = Path(os.path.expandvars(first)).expanduser() / "config.json"
    try:
        told = json.loads(file.read_text(encoding="utf-8")) if first else {}
    except (OSError, ValueError):
        return None
    layers = told.get("num_hidden_layers", told.get("n_layer"))
    return layers if isinstance(layers, int) else None
