"""A tiny guided BART with a real tokenizer, and two documents."""

from __future__ import annotations

from typing import Any

import torch

from fascicle.hf.model_options import Tiny
from fascicle.hf.tiny import build_tiny
from fascicle_faithsum.modeling import GuidedForConditionalGeneration

DOCUMENTS = ["It was not good. The film was long. We left early.", "The film was good."]


def texts_model(latent_type: str = "sentence") -> tuple[Any, Any]:
    """Model and tokenizer; the guidance attention is awake."""
    from faithsum_models import awaken

    options = Tiny(architecture="bart", hidden_size=16, layers=1, heads=2)
    base, tokenizer = build_tiny(options, seed=0)
    torch.manual_seed(0)
    model = GuidedForConditionalGeneration.from_base(base, tokenizer=tokenizer, latent_type=latent_type)
    return awaken(model.eval()), tokenizer
