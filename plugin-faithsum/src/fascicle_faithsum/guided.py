"""The forward of guided models, their training loss, and generation. Equations and shapes: `modeling`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import can_return_tuple

from .errors import GuidanceError
from .induction import InductionMixin
from .likelihood import LikelihoodMixin, document_nll, evaluating, smoothed_nll
from .outputs import GuidedEncoderOutput, GuidedOutput
from .recipe import guided_loss

if TYPE_CHECKING:
    from torch import Tensor

    from .recipe import Recipe

__all__ = ["GuidedMixin"]


class GuidedMixin(LikelihoodMixin, InductionMixin):
    """Guidance for a family's class for conditional generation; named before it among the bases."""

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        segment_ids: Tensor | None = None,
        guidance: Tensor | None = None,
        guidance_mode: str | None = None,
        guidance_k: int | None = None,
        guidance_tags: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> GuidedOutput:
        """The base's forward with guidance.

        With `labels` and in training, z is drawn from the posterior and the loss is the recipe's; in evaluation z is the prior's,
        so that the loss never depends on the summary through the guidance.

        Args:
            input_ids: (B, T); the base's other arguments mean what they mean there.
            labels: (B, N), -100 at padding.
            segment_ids: (B, T), the sentence of each token, 0 to K-1, -1 outside; None finds the sentences by
                `config.boundary_ids`.
            guidance: (B, T), a gate in [0, 1] given by the user.
            guidance_mode: `map`, `mean`, `sample`, `topk`, `none`, `posterior` (needs labels); None takes the configuration's.
            guidance_k: how many places `topk` takes; None takes the configuration's.
            guidance_tags: (B, T) per token or (B, K) per sentence, in [0, 1]: weak supervision, where the recipe gives it weight.
            num_items_in_batch: target tokens of the whole optimizer step; None takes those of this batch.

        Raises:
            GuidanceError: guidance that does not fit the documents.
        """
        encoded: Any = encoder_outputs
        if encoded is None:
            encoded = self.encode_source(input_ids, attention_mask, inputs_embeds, **kwargs)
        elif not isinstance(encoded, BaseModelOutput):
            encoded = BaseModelOutput(*encoded[:3])
        if not isinstance(encoded, GuidedEncoderOutput):
            encoded = self.guide(
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
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        training = self.training and labels is not None
        outputs = super().forward(  # type: ignore[misc]
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoded,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=False if labels is not None else use_cache,
            **self._read(encoded),
            guidance_segments=encoded.segments if training and self.family.name == "sentence" else None,
            source_keep=self._source_keep(encoded.last_hidden_state) if training else None,
            return_dict=True,
            **kwargs,
        )
        output = GuidedOutput(
            **dict(outputs.items()),
            prior=encoded.prior,
            posterior=encoded.posterior,
            gate=encoded.guidance_gate,
            latent=encoded.latent,
        )
        if labels is None:
            return output
        smooth = None
        if training and self.recipe.label_smoothing:
            output.nll, smooth = smoothed_nll(outputs.logits, labels)
        else:
            output.nll = document_nll(outputs.logits, labels)
        if encoded.posterior is not None:
            output.kl = self.family.kl(encoded.posterior, encoded.prior, encoded.z_mask)
        count = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
        if training:
            told = {
                "attention_mask": attention_mask,
                "decoder_input_ids": decoder_input_ids,
                "decoder_attention_mask": decoder_attention_mask,
                "decoder_inputs_embeds": decoder_inputs_embeds,
            }
            output.loss, output.parts = self._training_loss(output, encoded, labels, guidance_tags, count, told, smooth)
        else:
            output.loss = output.nll.sum() / count
        return output

    def _training_loss(
        self,
        output: Any,
        encoded: Any,
        labels: Tensor,
        tags: Tensor | None,
        count: Tensor | int,
        told: dict[str, Tensor | None],
        smooth: Tensor | None,
    ) -> tuple[Tensor, dict[str, Any]]:
        recipe, bow = self.recipe, None
        if self.family.name != "sentence" and (recipe.teacher_weight or not recipe.through_draw):
            raise GuidanceError(
                f"recipe: got teacher_weight={recipe.teacher_weight:g} and through_draw={recipe.through_draw} for a "
                f"{self.family.name} latent, which only a draw teaches; expected teacher_weight=0 and through_draw=true"
            )
        if recipe.bow_weight and encoded.guidance_words is not None:
            bow = document_nll(self._words(encoded.guidance_words)[:, None].expand(-1, labels.shape[1], -1), labels)
        return guided_loss(
            recipe,
            self.progress,
            self.family,
            nll=output.nll,
            prior=output.prior,
            posterior=output.posterior,
            mask=encoded.z_mask,
            count=count,
            smooth=smooth,
            tags=None if tags is None or not recipe.tag_weight else self._fitted_tags(tags, encoded),
            bow=bow,
            teacher=self._teacher(recipe, encoded, labels, told) if recipe.teacher_weight else None,
        )

    def _teacher(self, recipe: Recipe, encoded: Any, labels: Tensor, told: dict[str, Tensor | None]) -> Tensor | None:
        """-sum_k t_k log q_k over the sentences that are compared, t = softmax_k log p(y | z = k) without the source, (), summed.

        Of some documents (`teacher_share`), scaled to all of them; None where none was drawn, or none has two sentences. Without
        dropout, whose noise would differ from sentence to sentence (Shen et al. 2019).
        """
        mask = encoded.z_mask
        picked = (torch.rand(len(mask), device=mask.device) < recipe.teacher_share) & (mask.sum(-1) > 1)
        rows = picked.nonzero().squeeze(-1)
        if not len(rows):
            return None
        size = min(recipe.teacher_sentences, mask.shape[1])
        order = torch.rand_like(mask[rows], dtype=torch.float32).masked_fill(~mask[rows], -1.0)
        compared = order.topk(size, dim=-1).indices  # (R, C)
        exist = mask[rows].gather(1, compared)
        segments = encoded.segments[rows]
        part = {name: None if value is None else value[rows] for name, value in told.items()}
        scores = []
        with torch.no_grad(), evaluating(self.model.decoder):
            for k in compared.T:
                guided = GuidedEncoderOutput(
                    last_hidden_state=encoded.last_hidden_state[rows],
                    guidance_cache=encoded.guidance_cache[rows],
                    guidance_weights=(segments == k[:, None]).to(encoded.last_hidden_state.dtype),
                )
                logits = self.decode(guided, **part, source_keep=torch.zeros(len(rows), device=mask.device)).logits
                scores.append(-document_nll(logits, labels[rows]))
            target = torch.stack(scores, 1).masked_fill(~exist, -torch.inf).softmax(-1)  # (R, C)
        logits = encoded.posterior[rows].to(target.dtype).gather(1, compared)
        log_q = logits.masked_fill(~exist, -1e9).log_softmax(-1)
        loss: Tensor = -(target * log_q).sum() * (len(mask) / len(rows))
        return loss

    def decode(self, encoded: GuidedEncoderOutput, **told: Any) -> Any:
        """The base's decoder on an encoder step, without a loss."""
        told |= {**self._read(encoded), "encoder_outputs": encoded, "use_cache": False, "return_dict": True}
        return super().forward(**told)  # type: ignore[misc]

    @staticmethod
    def _read(encoded: GuidedEncoderOutput) -> dict[str, Tensor | None]:
        return {"guidance_cache": encoded.guidance_cache, "guidance_weights": encoded.guidance_weights}

    def _words(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(hidden) + self.final_logits_bias
        return logits

    def _fitted_tags(self, tags: Tensor, encoded: GuidedEncoderOutput) -> Tensor:
        """Tags in the shape of z, 0 where z has no meaning: rows of a batch have as many sentences as the longest."""
        mask = encoded.z_mask
        if mask is None:
            return tags  # a gaussian: the loss says that it cannot
        tags = F.pad(tags.to(mask.device).float(), (0, max(0, mask.shape[1] - tags.shape[1])))[:, : mask.shape[1]]
        return tags.masked_fill(~mask, 0.0)

    def _source_keep(self, states: Tensor) -> Tensor | None:
        """(B,): 0 for the documents whose source attention this training step goes without."""
        share = self.recipe.at(self.progress).source_dropout
        return (torch.rand(len(states), device=states.device) >= share) if share > 0 else None

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers does; `segment_ids`, `guidance`, `guidance_mode` and `guidance_k` as in `forward`.

        Guidance is drawn once per row of `input_ids`, before beams and `num_return_sequences` repeat it: for several draws of a
        document repeat its row.
        """
        encoded = kwargs.get("encoder_outputs")
        if encoded is not None and not isinstance(encoded, GuidedEncoderOutput):
            if not isinstance(encoded, BaseModelOutput):
                encoded = BaseModelOutput(*encoded[:3])
            names = ("input_ids", "attention_mask", "segment_ids", "guidance", "guidance_mode", "guidance_k")
            told = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
            with torch.no_grad():
                kwargs["encoder_outputs"] = self.guide(encoded, **told)
        return super().generate(*args, **kwargs)  # type: ignore[misc]

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        function = kwargs.get("gradient_checkpointing_func", args[0] if args else None)
        if enable and getattr(function, "keywords", {}).get("use_reentrant", True):
            raise GuidanceError(
                "gradient checkpointing: got the reentrant kind, which cannot pass gradients to guidance; set "
                "gradient_checkpointing_kwargs={'use_reentrant': False}"
            )
        super()._set_gradient_checkpointing(enable, *args, **kwargs)  # type: ignore[misc]
