"""Tiny models of each family, and documents of token ids for them. Ids: 0 begin, 1 padding, 2 end, 3 unknown, 4 full stop."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MBartConfig,
    MBartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
)

from fascicle_faithsum.modeling import GuidedForConditionalGeneration

VOCABULARY = 40
STOP = 4
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    "init_std": 0.3,  # so that random models differ in what they say
}
FAMILIES = ("bart", "mbart", "pegasus")
LATENT_TYPES = ("sentence", "bernoulli", "gaussian")
PAIRS = [*(("bart", latent_type) for latent_type in LATENT_TYPES), ("mbart", "bernoulli"), ("pegasus", "gaussian")]
"""Where a family and a latent meet in what families share."""
MODES = ("map", "mean", "sample", "none")


def base(family: str = "bart", *, seed: int = 0, **changes: Any) -> Any:
    """A tiny random encoder-decoder in evaluation mode."""
    torch.manual_seed(seed)
    config, model = {
        "bart": (BartConfig, BartForConditionalGeneration),
        "mbart": (MBartConfig, MBartForConditionalGeneration),
        "pegasus": (PegasusConfig, PegasusForConditionalGeneration),
    }[family]
    return model(config(**{**SIZES, **changes})).eval()


def guided(
    family: str = "bart", latent_type: str = "sentence", *, seed: int = 0, awake: bool = True, **changes: Any
) -> Any:
    """The tiny model with guidance.

    Args:
        awake: give the guidance attention an output, as if trained; otherwise the model is its base.
        changes: settings of `from_base`, or of the base's configuration.
    """
    names = ("recipe", "latent_size", "guidance_layers", "guidance_mode", "guidance_k", "bow", "tokenizer")
    settings = {name: changes.pop(name) for name in names if name in changes}
    model = GuidedForConditionalGeneration.from_base(
        base(family, seed=seed, **changes), latent_type=latent_type, boundary_ids=[STOP], **settings
    )
    return awaken(model, seed) if awake else model


def awaken(model: Any, seed: int = 0) -> Any:
    """Weights in place of the zeros that a new guidance attention starts with."""
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "guidance" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def documents(lengths: tuple[int, ...] = (14, 9, 11), *, seed: int = 0, summary: int = 5) -> dict[str, torch.Tensor]:
    """A padded batch: sentences of three words and a full stop, and summaries of up to `summary` words."""
    generator = torch.Generator().manual_seed(seed)
    longest, rows = max(lengths), len(lengths)
    ids = torch.full((rows, longest), 1)
    labels = torch.full((rows, summary + 1), -100)
    for row, length in enumerate(lengths):
        words = torch.randint(5, VOCABULARY, (length - 2,), generator=generator)
        words[3::4] = STOP
        ids[row, :length] = torch.cat([torch.tensor([0]), words, torch.tensor([2])])
        kept = summary - row % 2
        labels[row, :kept] = torch.randint(5, VOCABULARY, (kept,), generator=generator)
        labels[row, kept] = 2
    return {"input_ids": ids, "attention_mask": (ids != 1).long(), "labels": labels}


def without_labels(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What generation is given."""
    return {name: value for name, value in batch.items() if name != "labels"}


def row(batch: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """One document of a batch, without its padding."""
    length = int(batch["attention_mask"][number].sum())
    alone = {name: value[number : number + 1, :length] for name, value in batch.items() if name != "labels"}
    if "labels" in batch:
        labels = batch["labels"][number]
        alone["labels"] = labels[labels != -100][None]
    return alone
