"""Why a guided model wrote what it wrote: which source sentences guide, and which source each summary token leant on.

Attention tells where a token looked, not what caused it; `sentence_nll` tells what moving the guidance does, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .errors import GuidanceError
from .segments import encode

if TYPE_CHECKING:
    from fascicle.objects import Block, Section

    from .segments import EncodedDocument

__all__ = ["Explanation", "explain", "section", "show", "to_blocks"]


@dataclass(frozen=True)
class Explanation:
    """What guided a summary. K sentences, T source tokens, N summary tokens."""

    document: EncodedDocument
    summary: str
    summary_tokens: tuple[str, ...]
    """With the white space before them, so that joined they are the summary."""
    sentences: tuple[int, ...]
    """Numbers of the K sentences that the model saw."""
    prior: tuple[float, ...]
    """Per sentence: probability under p(z|x); for guidance per token, the mean over its tokens."""
    posterior: tuple[float, ...]
    """Likewise under q(z|x,y)."""
    token_prior: tuple[float, ...]
    token_posterior: tuple[float, ...]
    attention: tuple[tuple[float, ...], ...]
    """(N, T): guidance attention, the mean over heads and layers; a row sums to less than 1 by what was read of nothing."""
    sentence_nll: tuple[float, ...] | None
    """Per sentence: -log p(y | x, guidance on that sentence alone), where asked for."""

    def leant_on(self, token: int) -> list[float]:
        """Share of a summary token's guidance attention on each sentence; what is outside sentences is left out."""
        row = self.attention[token]
        return [
            sum(w for w, segment in zip(row, self.document.segments, strict=True) if segment == number)
            for number in self.sentences
        ]


@torch.no_grad()
def explain(
    model: Any,
    tokenizer: Any,
    document: str | Sequence[str],
    summary: str | None = None,
    *,
    move: bool = False,
    max_length: int | None = None,
    max_new_tokens: int = 64,
) -> Explanation:
    """The model's own guidance (map), and guidance attention, of a document and its summary.

    Args:
        summary: None lets the model write it.
        move: also the summary's likelihood with the guidance on each sentence in turn; K more passes of the decoder.

    Raises:
        GuidanceError: a gaussian latent, which points at nothing, or an empty summary.
    """
    from .attention import record_guidance_attention
    from .guidance import summarize
    from .induction import evaluating

    if model.config.latent_type == "gaussian":
        raise GuidanceError("explain: got a gaussian latent, which points at nothing; expected sentence or bernoulli")
    length = max_length or model.config.max_position_embeddings
    if summary is None:
        written = summarize(model, tokenizer, [document], max_length=length, max_new_tokens=max_new_tokens, num_beams=1)
        summary = written[0].text or ""
    if not summary.strip():
        raise GuidanceError("summary: got an empty one, expected text; pass a summary")
    encoded = encode(tokenizer, [document], length)
    inputs = {name: value.to(model.device) for name, value in encoded.inputs.items()}
    told = tokenizer(
        summary,
        return_tensors="pt",
        truncation=True,
        max_length=model.config.max_position_embeddings,
        return_offsets_mapping=True,
    )
    labels = told.input_ids.to(model.device)
    induced = model.induce_guidance(**inputs, labels=labels)
    with evaluating(model):
        with record_guidance_attention(model) as record:
            model(**inputs, labels=labels, guidance_mode="map")
        weights = record.weights().float().mean((0, 2))[0]  # (N, T)
        row = encoded.documents[0]
        sentences = tuple(sorted(set(row.segments) - {-1}))
        moved = None
        if move:
            places = torch.tensor(row.segments, device=model.device)[None]
            moved = tuple(
                float(model(**inputs, labels=labels, guidance=(places == number).float()).nll) for number in sentences
            )
    prior, posterior = induced.token_prior[0].tolist(), induced.token_posterior[0].tolist()
    spans = told["offset_mapping"][0].tolist()
    kept = [place for place, (start, end) in enumerate(spans) if end > start]
    starts = [0, *(spans[place][1] for place in kept)]
    tokens = tuple(summary[start : spans[place][1]] for start, place in zip(starts, kept, strict=False))
    return Explanation(
        document=row,
        summary=summary,
        summary_tokens=tokens,
        sentences=sentences,
        prior=_means(prior, row.segments, sentences),
        posterior=_means(posterior, row.segments, sentences),
        token_prior=tuple(prior),
        token_posterior=tuple(posterior),
        attention=tuple(tuple(weights[place].tolist()) for place in kept),
        sentence_nll=moved,
    )


def to_blocks(explanation: Explanation) -> list[Block]:
    """The explanation as blocks of a run's page."""
    from fascicle.objects import Block

    names = [f"{number}" for number in explanation.sentences]
    spans = [
        {"text": explanation.document.sentence(number) + " ", "weight": chance, "label": f"sentence {number}"}
        for number, chance in zip(explanation.sentences, explanation.prior, strict=True)
    ]
    rows: list[list[str | float | None]] = []
    for place, number in enumerate(explanation.sentences):
        nll = None if explanation.sentence_nll is None else round(explanation.sentence_nll[place], 3)
        chances = [round(explanation.prior[place], 4), round(explanation.posterior[place], 4)]
        rows.append([number, *chances, nll, explanation.document.sentence(number)])
    columns = ["sentence", "prior", "posterior", "NLL with guidance here", "text"]
    blocks = [
        Block(kind="spans", title="Guidance", data={"spans": spans, "caption": "Shade: probability by the prior."}),
        Block(kind="table", title="Sentences", data={"columns": columns, "rows": rows, "caption": explanation.summary}),
    ]
    if explanation.summary_tokens:
        values = [explanation.leant_on(token) for token in range(len(explanation.summary_tokens))]
        data = {"rows": list(explanation.summary_tokens), "columns": names, "values": values}
        blocks.append(Block(kind="heatmap", title="Guidance attention per sentence", data=data))
    return blocks


def section(explanation: Explanation) -> Section:
    """The explanation as a part of a run's page."""
    from fascicle.objects import Section

    return Section(title="What guided a summary", blocks=to_blocks(explanation), plugin="faithsum")


def show(explanation: Explanation, console: Any = None) -> None:
    """Print the sentences with their probabilities; colours only on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(Text(explanation.summary, style="bold"))
    for number, chance in zip(explanation.sentences, explanation.prior, strict=True):
        style = "black on yellow" if chance >= 0.5 else "yellow" if chance >= 0.2 else ""
        console.print(Text(f"{number:>3} {chance:6.3f} ").append(explanation.document.sentence(number), style=style))


def _means(values: Sequence[float], segments: Sequence[int], sentences: Sequence[int]) -> tuple[float, ...]:
    result = []
    for number in sentences:
        inside = [value for value, segment in zip(values, segments, strict=True) if segment == number]
        result.append(sum(inside) / len(inside))
    return tuple(result)
