"""Guidance of encoded documents: prior, recognition, the choice of z, the memory. Equations and shapes: `modeling`."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from transformers import initialization as init

from .boundaries import segment_ids_from_boundaries, segment_means, sentences_of
from .errors import GuidanceError
from .heads import BagOfWords, GuidanceMemory, PosteriorHead, PriorHead
from .latents import latent
from .likelihood import evaluating
from .outputs import EncodedSource, GuidanceOutput, GuidedEncoderOutput

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .latents import Latent
    from .recipe import Recipe

__all__ = ["MODES", "GuidedEncoder", "InductionMixin", "evaluating"]

MODES = ("map", "mean", "sample", "topk", "none", "posterior")
"""What `guidance_mode` may be."""

_NEW = ("guidance_prior.", "guidance_posterior.", "guidance_memory.", "guidance_words.", ".encoder_attn.guidance.")


class GuidedEncoder:
    """The encoder step of a guided model, for `generate`: it encodes the document and draws the guidance, once for all beams.

    It refers to the model without being a part of it, since a module may not contain its parent.
    """

    main_input_name = "input_ids"

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> GuidedEncoderOutput:
        return self.forward(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model.model.encoder, name)  # its modules, parameters, ... are the base's encoder's

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        guidance: Tensor | None = None,
        guidance_mode: str | None = None,
        guidance_k: int | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> GuidedEncoderOutput:
        """Encoded documents with their guidance; arguments as in the model's forward."""
        encoded = self.model.encode_source(input_ids, attention_mask, inputs_embeds, **kwargs)
        if guidance_mode != "posterior":
            labels = None  # a trainer's evaluation hands them to generate: only this mode may look
        guided: GuidedEncoderOutput = self.model.guide(
            encoded,
            input_ids=input_ids,
            attention_mask=attention_mask,
            segment_ids=segment_ids,
            guidance=guidance,
            guidance_mode=guidance_mode,
            guidance_k=guidance_k,
            labels=labels,
            inputs_embeds=inputs_embeds,
        )
        return guided


class InductionMixin:
    """What guidance adds to a family's class for conditional generation, and how it is induced.

    Attributes:
        progress: share of training done, 0 to 1; schedules of the recipe follow it.
    """

    attention_class: Any
    layer_class: Any
    config: Any
    model: Any
    lm_head: Any
    training: bool
    progress: float = 0.0

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        self._check(config)
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        width, heads = config.d_model, config.decoder_attention_heads
        for number, layer in enumerate(self.model.decoder.layers):
            layer.encoder_attn = self.attention_class(
                width, heads, config=config, layer=number, dropout=config.attention_dropout
            )
        size = 2 * config.latent_size if config.latent_type == "gaussian" else 1
        self.guidance_prior = PriorHead(width, size)
        self.guidance_posterior = PosteriorHead(width, size, heads=config.encoder_attention_heads)
        self.guidance_memory = GuidanceMemory(
            width,
            [self.layer_class(_with_masks(config)) for _ in range(config.guidance_layers)],
            final_norm=hasattr(self.model.encoder, "layer_norm"),
            latent_size=config.latent_size if config.latent_type == "gaussian" else None,
        )
        if config.bow:
            self.guidance_words = BagOfWords(width)
        self.post_init()  # type: ignore[attr-defined]

    @staticmethod
    def _check(config: Any) -> None:
        latent(config.latent_type)
        for name in ("latent_size", "guidance_layers", "guidance_k"):
            if getattr(config, name) < 1:
                raise GuidanceError(f"{name}: got {getattr(config, name)}, expected at least 1")
        if config.guidance_mode not in MODES[:-1]:
            raise GuidanceError(f"guidance_mode: got {config.guidance_mode!r}, expected one of {', '.join(MODES[:-1])}")

    # ---- weights ---------------------------------------------------------------------------------------------------------

    @property
    def guidance_modules(self) -> list[str]:
        """Names of the modules that guidance adds, as PEFT's `modules_to_save` matches them."""
        names = ["guidance_prior", "guidance_posterior", "guidance_memory"]
        return [*names, *(["guidance_words"] if self.config.bow else []), "guidance"]

    @staticmethod
    def is_new(name: str) -> bool:
        """Whether a weight of that name is one that guidance adds."""
        return any(name.startswith(new) or (new[0] == "." and new in name) for new in _NEW)

    def initialize_weights(self) -> None:
        """As transformers does, then what starts from the base's weights; leaves what a checkpoint had."""
        super().initialize_weights()  # type: ignore[misc]
        self.start_from_base()

    @torch.no_grad()
    def start_from_base(self) -> None:
        """Start what is new from the base: its first encoder layers and its source attention, with an output of zero."""
        if not hasattr(self, "guidance_memory"):
            return  # the base's own constructor
        for layer in self.model.decoder.layers:
            source, guidance = layer.encoder_attn, layer.encoder_attn.guidance
            for name in ("q_proj", "k_proj", "v_proj"):
                _copy(getattr(guidance, name), getattr(source, name))
            for parameter in guidance.out_proj.parameters():
                init.zeros_(parameter)
        memory, encoder = self.guidance_memory, self.model.encoder
        for layer, start in zip(memory.layers, [*encoder.layers] * len(memory.layers), strict=False):
            _copy(layer, start)
        if memory.layer_norm is not None:
            _copy(memory.layer_norm, encoder.layer_norm)
        reader = self.guidance_posterior.attention
        for projection in (reader.q_proj, reader.k_proj, reader.v_proj, reader.out_proj):
            init.eye_(projection.weight)
            init.zeros_(projection.bias)

    @property
    def recipe(self) -> Recipe:
        """How the model is trained; kept in its configuration."""
        from .recipe import Recipe

        return Recipe(**(self.config.recipe or {}))

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self.config.recipe = asdict(recipe)

    @property
    def family(self) -> Latent:
        """The latent family."""
        return latent(self.config.latent_type)

    # ---- guidance --------------------------------------------------------------------------------------------------------

    def get_encoder(self, modality: str | None = None) -> GuidedEncoder:
        """The encoder step with guidance; the base's encoder itself is `model.model.encoder`."""
        return GuidedEncoder(self)

    def encode_source(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The base's encoder alone."""
        wanted = {name: kwargs[name] for name in ("output_attentions", "output_hidden_states") if kwargs.get(name)}
        if inputs_embeds is not None:
            input_ids = None
        return self.model.encoder(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, return_dict=True, **wanted
        )

    def guide(
        self,
        encoded: Any,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        guidance: Tensor | None = None,
        guidance_mode: str | None = None,
        guidance_k: int | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> GuidedEncoderOutput:
        """Guidance of encoded documents, ready for the decoder.

        Args:
            encoded: the base encoder's output.
            labels: (B, N), the summaries: gives the posterior, which decides z in training (unless a mode or a gate is given) and
                for `guidance_mode="posterior"`, and nothing else.

        Others: as in `forward`.
        """
        source = self._source(encoded.last_hidden_state, input_ids, attention_mask, segment_ids, inputs_embeds)
        prior = self._logits(self.guidance_prior(source.states, source.means))
        posterior = None if labels is None else self._posterior(source, labels)
        z: Tensor | None = None
        if guidance is not None:
            gate: Tensor | None = self._given(guidance, source)
        else:
            if self.training and posterior is not None and guidance_mode is None:
                z = self._training_draw(posterior, prior, source)
            else:
                z = self._choose(guidance_mode or self.config.guidance_mode, prior, posterior, source, guidance_k)
            gate = self._gate(z, source)
        memory, cache, weights = self._remember(source, z, gate)
        words = None
        if self.config.bow and self.training and labels is not None:
            words = self.guidance_words(memory, weights)
        return GuidedEncoderOutput(
            **dict(encoded.items()),
            guidance_cache=cache,
            guidance_weights=weights,
            guidance_gate=gate,
            prior=prior,
            posterior=posterior,
            latent=z,
            guidance_words=words,
            z_mask=source.z_mask,
            segments=source.segments,
        )

    def _source(
        self,
        states: Tensor,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        segment_ids: Tensor | None,
        inputs_embeds: Tensor | None = None,
    ) -> EncodedSource:
        shape = states.shape[:2]
        mask = torch.ones(shape, dtype=torch.bool, device=states.device)
        if attention_mask is not None:
            mask = attention_mask.to(states.device).bool()
        kind = self.config.latent_type
        if segment_ids is None:
            segment_ids = self._segments(input_ids, mask)
        elif segment_ids.shape != shape:
            raise GuidanceError(
                f"segment_ids: got shape {tuple(segment_ids.shape)}, expected {tuple(shape)}, one per token"
            )
        segments = segment_ids.to(states.device).masked_fill(~mask, -1)  # (B, T)
        if kind == "gaussian":
            means = segment_means(torch.where(mask, 0, -1), 1, states.dtype)  # (B, 1, T)
            return EncodedSource(states, mask, segments, means, None)
        embedded = self._embedded(input_ids, inputs_embeds)
        if kind == "bernoulli":
            return EncodedSource(states, mask, segments, None, segments >= 0, embedded)
        count = max(1, int(segments.max()) + 1)
        means = segment_means(segments, count, states.dtype)
        return EncodedSource(states, mask, segments, means, means.sum(-1) > 0, embedded)

    def _embedded(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """What the encoder's first layer reads, (B, T, d)."""
        encoder = self.model.encoder
        if inputs_embeds is None:
            if input_ids is None:
                raise GuidanceError(
                    "encoder_outputs: got them without input_ids, which the guidance is made from; pass both, or neither"
                )
            inputs_embeds = encoder.embed_tokens(input_ids) * getattr(encoder, "embed_scale", 1.0)
        hidden: Tensor = inputs_embeds + self.positions(encoder, inputs_embeds).to(inputs_embeds.device)
        return encoder.layernorm_embedding(hidden) if hasattr(encoder, "layernorm_embedding") else hidden

    @staticmethod
    def positions(encoder: Any, embedded: Tensor) -> Tensor:
        """The position vectors of a document's places."""
        found: Tensor = encoder.embed_positions(embedded[:, :, -1])
        return found

    def _segments(self, input_ids: Tensor | None, mask: Tensor) -> Tensor:
        config = self.config
        if config.latent_type == "gaussian":
            return torch.where(mask, 0, -1)
        if input_ids is None:
            raise GuidanceError(
                "segment_ids: got none and no input_ids to see sentences in; pass segment_ids, (B, T), -1 outside"
            )
        if config.latent_type == "sentence" and not config.boundary_ids:
            raise GuidanceError(
                "segment_ids: got none, and config.boundary_ids names no token that ends a sentence; pass segment_ids, or make the "
                "model with from_base(base, tokenizer=...)"
            )
        special = config.special_ids
        if special is None:
            named = (config.bos_token_id, config.eos_token_id, config.pad_token_id, config.decoder_start_token_id)
            special = [
                number
                for ids in named
                if ids is not None
                for number in (ids if isinstance(ids, list | tuple) else [ids])
            ]
        return segment_ids_from_boundaries(input_ids.to(mask.device), mask, config.boundary_ids or [], special)

    def _logits(self, scores: Tensor) -> Tensor:
        return scores.squeeze(1) if self.config.latent_type == "gaussian" else scores.squeeze(-1)

    def _posterior(self, source: EncodedSource, labels: Tensor) -> Tensor:
        present = labels != -100
        ids = labels.masked_fill(~present, self.config.pad_token_id)
        summary = self.encode_source(ids, present.long()).last_hidden_state
        return self._logits(self.guidance_posterior(source.states, summary, present, source.means))

    def _training_draw(self, posterior: Tensor, prior: Tensor, source: EncodedSource) -> Tensor:
        weights = self.recipe.at(self.progress)
        rho = weights.posterior_dropout
        logits = posterior
        if rho > 0:
            dropped = torch.rand(len(prior), device=prior.device) < rho
            logits = torch.where(dropped[:, None], prior, posterior)
        if not self.recipe.through_draw and self.family.name != "gaussian":
            return self.family.draw(logits.detach(), source.z_mask)
        return self.family.relaxed(logits, source.z_mask, tau=weights.tau, hard=weights.hard)

    def _choose(
        self, mode: str, prior: Tensor, posterior: Tensor | None, source: EncodedSource, k: int | None = None
    ) -> Tensor:
        family, mask = self.family, source.z_mask
        if mode == "posterior":
            if posterior is None:
                raise GuidanceError(
                    "guidance_mode: got 'posterior' without labels; it is the guidance that the summary asks for"
                )
            return family.map(posterior, mask)
        if mode == "map":
            return family.map(prior, mask)
        if mode == "mean":
            return family.mean(prior, mask)
        if mode == "sample":
            return family.draw(prior, mask)
        if mode == "topk":
            return family.topk(prior, mask, self.config.guidance_k if k is None else k)
        if mode == "none":
            return torch.zeros_like(family.mean(prior, mask))
        raise GuidanceError(f"guidance_mode: got {mode!r}, expected one of {', '.join(MODES)}")

    def _gate(self, z: Tensor, source: EncodedSource) -> Tensor | None:
        """g, (B, T); None for a gaussian."""
        if self.config.latent_type == "gaussian":
            return None
        if self.config.latent_type == "bernoulli":
            return z
        return z.gather(1, source.segments.clamp(min=0)).masked_fill(source.segments < 0, 0.0)

    def _given(self, guidance: Tensor, source: EncodedSource) -> Tensor:
        if self.config.latent_type == "gaussian":
            raise GuidanceError(
                "guidance: got a gate for a gaussian latent, which points at no token; expected sentence or bernoulli"
            )
        if guidance.shape != source.mask.shape:
            raise GuidanceError(
                f"guidance: got shape {tuple(guidance.shape)}, expected {tuple(source.mask.shape)}, a number in [0, 1] per token"
            )
        gate = guidance.to(source.states.device, torch.promote_types(guidance.dtype, torch.float32))
        if not bool(((gate >= 0) & (gate <= 1)).all()):
            raise GuidanceError(
                f"guidance: got {gate.min().item():.4g} to {gate.max().item():.4g}, expected numbers in [0, 1]"
            )
        return gate.masked_fill(source.segments < 0, 0.0)

    def _remember(self, source: EncodedSource, z: Tensor | None, gate: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The guidance memory, its keys and values for every decoder layer, and how much of each place may be read.

        A sentence is remembered by itself, so where no gradient asks what another choice would have said, only what is chosen is
        remembered. z matters for a gaussian alone.
        """
        if source.embedded is None or gate is None:
            assert z is not None
            memory = self.guidance_memory.of_vector(z)
            gate = torch.ones(memory.shape[:2], device=memory.device)
        else:
            embedded, segments, present = source.embedded, source.segments, source.mask
            if not torch.is_grad_enabled() and not self._recorded():
                within = sentences_of(gate > 0, segments)
                kept = within.to(torch.int8).argsort(dim=1, descending=True, stable=True)
                kept = kept[:, : max(1, int(within.sum(1).max()))]
                embedded = embedded.gather(1, kept[:, :, None].expand(-1, -1, embedded.shape[2]))
                segments, present, gate = (x.gather(1, kept) for x in (segments, within, gate))
            memory = self.guidance_memory(embedded, segments, present)
        caches = [layer.encoder_attn.guidance.keys_values(memory) for layer in self.model.decoder.layers]
        return memory, torch.stack(caches, dim=1), gate

    def _recorded(self) -> bool:
        """Whether somebody looks at the attention, to whom each place is a token of the document."""
        return self.model.decoder.layers[0].encoder_attn.guidance.record is not None

    @torch.no_grad()
    def induce_guidance(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> GuidanceOutput:
        """What guides: probabilities by the prior, and by the posterior where labels are given.

        Raises:
            GuidanceError: a gaussian latent.
        """
        family = self.family
        if family.name == "gaussian":
            raise GuidanceError(
                "induce_guidance: got a gaussian latent, which points at nothing; expected sentence or bernoulli"
            )
        with evaluating(self):
            encoded = self.encode_source(input_ids, attention_mask)
            source = self._source(encoded.last_hidden_state, input_ids, attention_mask, segment_ids)
            prior = family.mean(self._logits(self.guidance_prior(source.states, source.means)), source.z_mask)
            posterior = None if labels is None else family.mean(self._posterior(source, labels), source.z_mask)
        return GuidanceOutput(
            prior_probs=prior,
            posterior_probs=posterior,
            token_prior=_known(self._gate(prior, source)),
            token_posterior=None if posterior is None else self._gate(posterior, source),
            segment_ids=source.segments,
        )


def _with_masks(config: Any) -> Any:
    """The configuration for layers that need a boolean mask, which not every implementation of attention takes."""
    made = copy.deepcopy(config)
    made._attn_implementation = "sdpa"
    return made


def _copy(to: nn.Module, start: nn.Module) -> None:
    for name, parameter in start.named_parameters():
        init.copy_(to.get_parameter(name), parameter)


def _known(gate: Tensor | None) -> Tensor:
    assert gate is not None
    return gate
