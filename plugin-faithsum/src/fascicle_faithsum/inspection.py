"""Why a guided model wrote what it wrote: which source sentences guide, and which source each summary token leant on.

Attention tells where a token looked, not what caused it; `sentence_nll` tells what moving the guidance does, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from .errors import GuidanceError
from .segments import encode

if TYPE_CHECKING:
    from fascicle.objects import Block, Section

    from .guidance import Guidance
    from .segments import EncodedDocument

__all__ = ["Explanation", "explain", "section", "show", "to_blocks"]

Run = tuple[int, int]


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
    gate: tuple[float, ...]
    """Per sentence: how far it was open to the summary, the strongest of its tokens."""
    given: bool
    """Whether the user opened it, and not the model."""
    attention: tuple[tuple[float, ...], ...]
    """(N, T): guidance attention, the mean over heads and layers; a row sums to less than 1 by what was read of nothing."""
    source_attention: tuple[tuple[float, ...], ...]
    """(N, T): the base's attention to the source, the mean over heads and layers; a row sums to 1."""
    sentence_nll: tuple[float, ...] | None
    """Per sentence: -log p(y | x, guidance on that sentence alone), where asked for."""

    def leant_on(self, token: int) -> list[float]:
        """Share of a summary token's guidance attention on each sentence; what is outside sentences is left out."""
        row = self.attention[token]
        return [
            sum(w for w, segment in zip(row, self.document.segments, strict=True) if segment == number)
            for number in self.sentences
        ]

    def span(self, token: int, *, of: Literal["source", "guidance"] = "source", share: float = 0.5) -> Run | None:
        """The shortest run of source tokens with at least `share` of a summary token's attention on sentences.

        Args:
            token: its number, from 0.
            of: the attention to the source, or the guidance attention.
            share: in (0, 1].

        Returns:
            The first and the last of the tokens, from 0, in `document.offsets`; None where nothing was read.

        Raises:
            GuidanceError: a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise GuidanceError(f"share: got {share}, expected a number above 0, at most 1")
        row = self.attention[token] if of == "guidance" else self.source_attention[token]
        return _shortest([w if s >= 0 else 0.0 for w, s in zip(row, self.document.segments, strict=True)], share)

    def span_text(self, token: int, *, of: Literal["source", "guidance"] = "source", share: float = 0.5) -> str:
        """The text of `span`; empty where nothing was read."""
        run = self.span(token, of=of, share=share)
        if run is None:
            return ""
        return self.document.text[self.document.offsets[run[0]][0] : self.document.offsets[run[1]][1]]


@torch.no_grad()
def explain(
    model: Any,
    tokenizer: Any,
    document: str | Sequence[str],
    summary: str | None = None,
    *,
    guidance: Guidance | None = None,
    belief: str = "replace",
    weight: float = 0.5,
    move: bool = False,
    max_length: int | None = None,
    max_new_tokens: int = 64,
) -> Explanation:
    """The guidance of a document and its summary, and where the summary looked, in the guidance and in the source.

    Args:
        summary: None lets the model write it.
        guidance: the user's, with `belief` and `weight` as in `guide`; None is the model's own best guess (map).
        move: also the summary's likelihood with the guidance on each sentence in turn; K more passes of the decoder.

    Raises:
        GuidanceError: a gaussian latent, which points at nothing, an empty summary, or guidance that does not fit.
    """
    from .attention import record_guidance_attention
    from .guidance import guide, summarize
    from .induction import evaluating

    if model.config.latent_type == "gaussian":
        raise GuidanceError("explain: got a gaussian latent, which points at nothing; expected sentence or bernoulli")
    length = max_length or model.config.max_position_embeddings
    if summary is None:
        written = summarize(
            model,
            tokenizer,
            [document],
            guidance_mode="map" if guidance is None else None,
            guidance=None if guidance is None else [guidance],
            belief=belief,
            weight=weight,
            max_length=length,
            max_new_tokens=max_new_tokens,
            num_beams=1,
        )
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
    chosen: dict[str, Any] = {"guidance_mode": "map"}
    if guidance is not None:
        gates = guide(
            model, tokenizer, [document], guidance=[guidance], belief=belief, weight=weight, max_length=length
        )
        chosen = {"guidance": gates["guidance"]}
    with evaluating(model):
        with record_guidance_attention(model, source=True) as record:
            output = model(**inputs, labels=labels, **chosen)
        weights, source = (  # (N, T)
            found.float().mean((0, 2))[0] for found in (record.weights(), record.source_weights())
        )
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
        gate=_strongest(output.gate[0].tolist(), row.segments, sentences),
        given=guidance is not None,
        attention=tuple(tuple(weights[place].tolist()) for place in kept),
        source_attention=tuple(tuple(source[place].tolist()) for place in kept),
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
        opened = round(explanation.gate[place], 4)
        rows.append([number, opened, *chances, nll, explanation.document.sentence(number)])
    columns = ["sentence", "open", "prior", "posterior", "NLL with guidance here", "text"]
    blocks = [
        Block(kind="spans", title="Guidance", data={"spans": spans, "caption": "Shade: probability by the prior."}),
        Block(kind="table", title="Sentences", data={"columns": columns, "rows": rows, "caption": explanation.summary}),
    ]
    if explanation.summary_tokens:
        values = [explanation.leant_on(token) for token in range(len(explanation.summary_tokens))]
        data = {"rows": list(explanation.summary_tokens), "columns": names, "values": values}
        blocks.append(Block(kind="heatmap", title="Guidance attention per sentence", data=data))
        looked = [[token.strip(), explanation.span_text(n)] for n, token in enumerate(explanation.summary_tokens)]
        caption = "The shortest part of the document with half of a token's attention to the source."
        table = {"columns": ["token", "span"], "rows": looked, "caption": caption}
        blocks.append(Block(kind="table", title="Where each token looked in the source", data=table))
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
    for number, chance, opened in zip(explanation.sentences, explanation.prior, explanation.gate, strict=True):
        style = "black on yellow" if chance >= 0.5 else "yellow" if chance >= 0.2 else ""
        mark = ">" if explanation.given and opened > 0 else " "
        console.print(
            Text(f"{mark}{number:>3} {chance:6.3f} ").append(explanation.document.sentence(number), style=style)
        )


def _shortest(weights: Sequence[float], share: float) -> Run | None:
    """The shortest run with at least that share of the sum; of several the heaviest.

    >>> _shortest([0.1, 0.4, 0.3, 0.0, 0.2], 0.5)
    (1, 2)
    >>> _shortest([0.0, 0.0], 0.5) is None
    True
    """
    wanted, start, inside = share * math.fsum(weights) * (1 - 1e-9), 0, 0.0
    best: tuple[int, float, Run] | None = None
    for end, weight in enumerate(weights):
        inside += weight
        while start < end and inside - weights[start] >= wanted:
            inside -= weights[start]
            start += 1
        if inside >= wanted > 0 and (best is None or (end - start, -inside) < best[:2]):
            best = (end - start, -inside, (start, end))
    return None if best is None else best[2]


def _strongest(values: Sequence[float], segments: Sequence[int], sentences: Sequence[int]) -> tuple[float, ...]:
    return tuple(
        max(value for value, segment in zip(values, segments, strict=True) if segment == number) for number in sentences
    )


def _means(values: Sequence[float], segments: Sequence[int], sentences: Sequence[int]) -> tuple[float, ...]:
    result = []
    for number in sentences:
        inside = [value for value, segment in zip(values, segments, strict=True) if segment == number]
        result.append(sum(inside) / len(inside))
    return tuple(result)
