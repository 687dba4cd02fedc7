"""Encoder-decoders of transformers that induce their guidance: p(y|x) = sum_z p(z|x) p(y|x,z).

    H = E(x), H^y = E(y)                       the base's encoder, shared
    prior p(z|x)          l^p = w2 tanh(W1 H_t)
    recognition q(z|x,y)  l^q = v2 tanh(V1 [H ; A ; H - A ; H * A]_t),   A = CrossAttention(H, H^y)
    guidance memory       G = GuidLayer(E), each sentence by itself      gaussian: GuidLayer(W z)
    decoder               the base's, its source attention with a guidance term that reads G through the gate g (`attention`)

E is what the encoder's first layer reads. For `sentence` the states are means over each sentence, for `gaussian` over the document.
The gate g_t in [0, 1] says how much token t is guidance.

A reconstruction from the abstract of Xu & Zhao 2022; guidance that is encoded by itself and the shared encoder follow GSum (Dou et
al. 2021), a latent per token LQSum (Xu & Lapata 2022).

Shapes: B documents, T source tokens, N target tokens, K sentences, L size of a gaussian latent, d width.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoModelForSeq2SeqLM,
    BartForConditionalGeneration,
    MBartForConditionalGeneration,
    PegasusForConditionalGeneration,
    PreTrainedModel,
)
from transformers.models.bart.modeling_bart import BartEncoderLayer
from transformers.models.mbart.modeling_mbart import MBartEncoderLayer
from transformers.models.pegasus.modeling_pegasus import PegasusEncoderLayer

from .attention import GuidedBartAttention, GuidedMBartAttention, GuidedPegasusAttention, record_guidance_attention
from .boundaries import boundary_token_ids, segment_ids_from_boundaries
from .configuration import GuidedBartConfig, GuidedMBartConfig, GuidedPegasusConfig
from .errors import GuidanceError
from .guided import GuidedMixin
from .induction import GuidedEncoder
from .outputs import GuidanceOutput, GuidedEncoderOutput, GuidedOutput
from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "GuidanceOutput",
    "GuidedBart",
    "GuidedBartConfig",
    "GuidedEncoder",
    "GuidedEncoderOutput",
    "GuidedForConditionalGeneration",
    "GuidedMBart",
    "GuidedMBartConfig",
    "GuidedOutput",
    "GuidedPegasus",
    "GuidedPegasusConfig",
    "record_guidance_attention",
    "segment_ids_from_boundaries",
]


class GuidedBart(GuidedMixin, BartForConditionalGeneration):  # type: ignore[no-untyped-call]
    """BART with induced guidance."""

    config_class = GuidedBartConfig
    attention_class = GuidedBartAttention
    layer_class = BartEncoderLayer


class GuidedMBart(GuidedMixin, MBartForConditionalGeneration):  # type: ignore[no-untyped-call]
    """mBART with induced guidance."""

    config_class = GuidedMBartConfig
    attention_class = GuidedMBartAttention
    layer_class = MBartEncoderLayer


class GuidedPegasus(GuidedMixin, PegasusForConditionalGeneration):  # type: ignore[no-untyped-call]
    """PEGASUS with induced guidance."""

    config_class = GuidedPegasusConfig
    attention_class = GuidedPegasusAttention
    layer_class = PegasusEncoderLayer

    @staticmethod
    def positions(encoder: Any, embedded: Tensor) -> Tensor:
        """Sinusoids of the places."""
        found: Tensor = encoder.embed_positions(embedded.shape[:2])
        return found


_CLASSES: dict[str, Any] = {"bart": GuidedBart, "mbart": GuidedMBart, "pegasus": GuidedPegasus}

for _class in _CLASSES.values():
    AutoModelForSeq2SeqLM.register(_class.config_class, _class)


class GuidedForConditionalGeneration:
    """Makes a guided model of a base; not a class of models itself."""

    @staticmethod
    def from_base(
        base: PreTrainedModel,
        tokenizer: Any = None,
        latent_type: str = "sentence",
        recipe: Any = None,
        *,
        latent_size: int = 32,
        guidance_layers: int = 1,
        guidance_mode: str = "map",
        guidance_k: int = 3,
        bow: bool = False,
        boundary_ids: list[int] | None = None,
    ) -> Any:
        """The base with guidance; it writes what the base writes until it is trained.

        The weights are copied. What is new is drawn from torch's generator, or starts from the base: GuidLayer from the encoder's
        first layer, the guidance attention from the source attention, with an output of zero.

        Args:
            base: a BART, mBART or PEGASUS for conditional generation.
            tokenizer: of the base; tells which tokens end a sentence and which are no text. None where `segment_ids` are given with
                every batch.
            latent_type: `sentence`, `bernoulli` or `gaussian`.
            recipe: how to train it, a `Recipe`; None takes its defaults.
            latent_size: L, of a gaussian.
            guidance_layers: depth of GuidLayer.
            guidance_mode: guidance by the prior unless told otherwise: `map`, `mean`, `sample`, `topk` or `none`.
            guidance_k: how many sentences or tokens `topk` takes.
            bow: a head for the bag-of-words loss.
            boundary_ids: ids of tokens that end a sentence, instead of the tokenizer's.

        Raises:
            GuidanceError: a base of another type, or a setting out of range.

        >>> import torch
        >>> from transformers import BartConfig, BartForConditionalGeneration
        >>> sizes = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2)
        >>> config = BartConfig(
        ...     vocab_size=16, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16, **sizes
        ... )
        >>> guided = GuidedForConditionalGeneration.from_base(BartForConditionalGeneration(config), boundary_ids=[5])
        >>> guided.generate(torch.tensor([[0, 6, 5, 7, 2]]), max_new_tokens=3).shape[0]
        1
        """
        kind = getattr(getattr(base, "config", None), "model_type", type(base).__name__)
        if kind not in _CLASSES or not isinstance(base, PreTrainedModel) or not hasattr(base, "lm_head"):
            raise GuidanceError(
                f"base: got {type(base).__name__} ({kind}), expected an encoder-decoder for conditional generation of the types "
                f"{', '.join(sorted(_CLASSES))}"
            )
        if tokenizer is not None:
            boundary_ids = boundary_token_ids(tokenizer) if boundary_ids is None else boundary_ids
        settings = base.config.to_dict()
        for name in ("model_type", "architectures", "transformers_version", "dtype", "torch_dtype"):
            settings.pop(name, None)
        cls = _CLASSES[kind]
        config = cls.config_class(
            **settings,
            latent_type=latent_type,
            latent_size=latent_size,
            guidance_layers=guidance_layers,
            guidance_mode=guidance_mode,
            guidance_k=guidance_k,
            boundary_ids=boundary_ids,
            special_ids=None if tokenizer is None else sorted(tokenizer.all_special_ids),
            bow=bow,
        )
        model = cls._from_config(config, dtype=base.dtype, attn_implementation=base.config._attn_implementation)
        lost = model.load_state_dict(base.state_dict(), strict=False)
        unknown = [name for name in lost.missing_keys if not model.is_new(name)] + lost.unexpected_keys
        if unknown:
            raise GuidanceError(f"base: its weights are not those of a {kind}: {sorted(unknown)[:4]}")
        model.start_from_base()
        model.recipe = Recipe() if recipe is None else recipe
        model.generation_config = copy.deepcopy(base.generation_config)
        return model.to(base.device).train(base.training)
