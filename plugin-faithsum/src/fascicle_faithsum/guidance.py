"""Guidance by the user: sentences, spans, keywords or tokens become a gate over the document's tokens; and guided summaries.

The belief update (the user's signal taken instead of, beside, or mixed with the model's own) follows LQSum (Xu and Lapata 2022).
Sentences and tokens are numbered from 0.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .data import unwrapped
from .errors import GuidanceError
from .rerank import BELOW, Candidate, best, judge, repeat
from .segments import encode

if TYPE_CHECKING:
    from torch import Tensor

    from .segments import EncodedDocument, EncodedDocuments

__all__ = ["BELIEFS", "Guidance", "GuidanceSentence", "Summary", "guide", "summarize", "update_belief"]

BELIEFS = ("replace", "max", "mix")
"""How the user's signal meets the model's own."""


@dataclass(frozen=True)
class Guidance:
    """Signals for one document; several are united with `|`, and where they overlap the strongest counts.

    >>> both = Guidance.sentences([0]) | Guidance.keywords(["rain"], weight=0.5)
    >>> [kind for kind, _, _ in both.signals]
    ['sentences', 'keywords']
    """

    signals: tuple[tuple[str, tuple[Any, ...], float], ...]
    """(kind, values, weight)."""

    @classmethod
    def sentences(cls, numbers: Sequence[int], weight: float = 1.0) -> Guidance:
        """Whole sentences, by number."""
        return cls._one("sentences", numbers, weight)

    @classmethod
    def spans(cls, spans: Sequence[tuple[int, int]], weight: float = 1.0) -> Guidance:
        """Tokens that overlap spans of characters."""
        return cls._one("spans", spans, weight)

    @classmethod
    def keywords(cls, words: Sequence[str], weight: float = 1.0) -> Guidance:
        """Whole words or phrases, whatever their case."""
        return cls._one("keywords", words, weight)

    @classmethod
    def tokens(cls, mask: Sequence[float], weight: float = 1.0) -> Guidance:
        """A number in [0, 1] per token; a shorter list leaves the rest 0."""
        return cls._one("tokens", mask, weight)

    @classmethod
    def _one(cls, kind: str, values: Sequence[Any], weight: float) -> Guidance:
        if isinstance(values, str):
            raise GuidanceError(f"{kind}: got the text {values!r}, expected a list")
        if not 0 <= weight <= 1:
            raise GuidanceError(f"weight: got {weight}, expected a number in [0, 1]")
        return cls(((kind, tuple(values), float(weight)),))

    def __or__(self, other: Guidance) -> Guidance:
        return Guidance(self.signals + other.signals)

    def gate(self, document: EncodedDocument, *, missing: str = "warn") -> Tensor:
        """(T,) gate in [0, 1].

        Args:
            missing: `warn` or `error`, for a keyword that the document's tokens do not have.

        Raises:
            GuidanceError: a sentence, span, keyword or mask that does not fit the document.
        """
        if missing not in ("warn", "error"):
            raise GuidanceError(f"missing: got {missing!r}, expected warn or error")
        gate = torch.zeros(len(document.segments))
        for kind, values, weight in self.signals:
            mask = torch.tensor(_MASKS[kind](document, values, missing), dtype=gate.dtype)
            gate = torch.maximum(gate, weight * mask)
        return gate.masked_fill(torch.tensor(document.segments) < 0, 0.0)


def _by_sentences(document: EncodedDocument, numbers: Sequence[int], missing: str) -> list[float]:
    for number in numbers:
        if not 0 <= number < len(document.spans):
            raise GuidanceError(
                f"sentences: got {number}, expected numbers from 0 to {len(document.spans) - 1}, those of the document"
            )
        if number not in document.segments:
            raise GuidanceError(
                f"sentences: sentence {number} has no token left after truncation; raise max_length or name an earlier one"
            )
    return [float(segment in numbers) for segment in document.segments]


def _by_spans(document: EncodedDocument, spans: Sequence[tuple[int, int]], missing: str) -> list[float]:
    for start, end in spans:
        if not 0 <= start < end <= len(document.text):
            raise GuidanceError(
                f"spans: got {(start, end)}, expected start < end in a text of {len(document.text)} characters"
            )
        if not _overlap(document, [(start, end)]):
            raise GuidanceError(f"spans: no token is in {(start, end)}; it is white space, or was truncated")
    inside = _overlap(document, spans)
    return [float(place in inside) for place in range(len(document.offsets))]


def _by_keywords(document: EncodedDocument, words: Sequence[str], missing: str) -> list[float]:
    inside: set[int] = set()
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise GuidanceError(f"keywords: got {word!r}, expected words")
        pattern = r"\s+".join(re.escape(part) for part in word.split())
        found = [m.span() for m in re.finditer(rf"(?<!\w){pattern}(?!\w)", document.text, re.IGNORECASE)]
        places = _overlap(document, found)
        if not places:
            why = "occurs only after the truncation" if found else "does not occur"
            message = f"keywords: {word!r} {why} in the document that begins {document.text[:40]!r}"
            if missing == "error":
                raise GuidanceError(message)
            warnings.warn(message, UserWarning, stacklevel=3)
        inside |= places
    return [float(place in inside) for place in range(len(document.offsets))]


def _by_tokens(document: EncodedDocument, mask: Sequence[float], missing: str) -> list[float]:
    if len(mask) > len(document.segments) or not all(0 <= value <= 1 for value in mask):
        raise GuidanceError(
            f"tokens: got {len(mask)} numbers, expected at most {len(document.segments)}, each in [0, 1]"
        )
    return [float(value) for value in mask] + [0.0] * (len(document.segments) - len(mask))


_MASKS: dict[str, Callable[[EncodedDocument, Any, str], list[float]]] = {
    "sentences": _by_sentences,
    "spans": _by_spans,
    "keywords": _by_keywords,
    "tokens": _by_tokens,
}


def _overlap(document: EncodedDocument, spans: Sequence[tuple[int, int]]) -> set[int]:
    return {
        place
        for place, (a, b) in enumerate(document.offsets)
        if b > a and any(a < end and b > start for start, end in spans)
    }


def update_belief(prior: Tensor, signal: Tensor, mode: str = "replace", weight: float = 0.5) -> Tensor:
    """The gate after the user spoke: the signal, max(prior, signal), or (1 - weight) prior + weight signal.

    Args:
        prior: (B, T), the model's own probabilities.
        signal: (B, T), the user's, in [0, 1].

    >>> update_belief(torch.tensor([0.2, 0.8]), torch.tensor([1.0, 0.0]), "mix", 0.25)
    tensor([0.4000, 0.6000])
    """
    if mode not in BELIEFS:
        raise GuidanceError(f"belief: got {mode!r}, expected one of {', '.join(BELIEFS)}")
    if not 0 <= weight <= 1:
        raise GuidanceError(f"weight: got {weight}, expected a number in [0, 1]")
    if mode == "replace":
        return signal
    return torch.maximum(prior, signal) if mode == "max" else (1 - weight) * prior + weight * signal


def guide(
    model: Any,
    tokenizer: Any,
    documents: Sequence[str | Sequence[str]],
    *,
    sentences: Sequence[Any] | None = None,
    keywords: Sequence[Any] | None = None,
    spans: Sequence[Any] | None = None,
    guidance: Sequence[Guidance] | None = None,
    belief: str = "replace",
    weight: float = 0.5,
    hard: float | None = None,
    missing: str = "warn",
    max_length: int | None = None,
) -> dict[str, Tensor]:
    """What `model.generate` takes to summarise documents by the user's guidance.

    For a model of sentences a word or a span stands for the whole sentence that it is in.

    Args:
        sentences, keywords, spans: a list per document, or one list for all of them; united where several are given.
        guidance: a `Guidance` per document, united with the others.
        belief: of `update_belief`, with `weight`.
        hard: tokens whose gate is at least this get 1, others 0; None leaves the gate soft.
        max_length: tokens per document; None takes the model's positions.

    Raises:
        GuidanceError: no guidance, or guidance that does not fit.
    """
    encoded = encode(tokenizer, documents, max_length or _positions(model))
    asked = _asked(len(documents), sentences, keywords, spans, guidance)
    if asked is None:
        raise GuidanceError("guidance: got none, expected sentences, keywords, spans or guidance")
    inputs = _to(encoded.inputs, model)
    return {**inputs, "guidance": _gates(model, encoded, inputs, asked, belief, weight, hard, missing)}


@dataclass(frozen=True)
class GuidanceSentence:
    """A sentence that guided a summary."""

    number: int
    text: str
    probability: float
    """By the model's prior; for guidance per token, the mean over the sentence."""
    gate: float
    """The strongest gate among its tokens."""


@dataclass(frozen=True)
class Summary:
    """A summary and what it rests on."""

    text: str | None
    """None where the summary was left out as doubtful."""
    guidance: tuple[GuidanceSentence, ...]
    """Sentences whose gate is at least half the document's strongest; empty for a gaussian, which points at none."""
    scores: dict[str, float]
    """log_likelihood, and the metric's score where one was asked for."""
    flagged: bool
    """Whether the score is under the threshold."""
    candidates: tuple[Candidate, ...]
    chosen: int
    """Number of the candidate that was kept."""
    lost: int
    """Sentences that truncation left out."""


def summarize(
    model: Any,
    tokenizer: Any,
    documents: Sequence[str | Sequence[str]],
    *,
    guidance_mode: str | None = None,
    guidance_k: int | None = None,
    sentences: Sequence[Any] | None = None,
    keywords: Sequence[Any] | None = None,
    spans: Sequence[Any] | None = None,
    guidance: Sequence[Guidance] | None = None,
    belief: str = "replace",
    weight: float = 0.5,
    hard: float | None = None,
    missing: str = "warn",
    max_length: int | None = None,
    max_new_tokens: int = 64,
    num_beams: int = 4,
    batch_size: int = 8,
    samples: int = 1,
    rerank: Any = None,
    threshold: float | None = None,
    below: str = "flag",
    seed: int = 0,
) -> list[Summary]:
    """Summaries of documents, guided by the user, or by the model where no guidance is given.

    Args:
        guidance_mode: of the model's own guidance; None takes `sample` where `samples` is above 1, else the configuration's.
        samples: summaries per document, each with guidance of its own; the best by `rerank` is kept.
        rerank: a metric or its name; without one the likeliest is kept.
        threshold: a best score under it is flagged.
        below: then also `abstain` (text None) or `extract` (the guidance sentences); `flag` keeps the summary.

    Others: as in `guide`.

    Raises:
        GuidanceError: settings or guidance that do not fit.
    """
    if below not in BELOW:
        raise GuidanceError(f"below: got {below!r}, expected one of {', '.join(BELOW)}")
    if threshold is not None and rerank is None:
        raise GuidanceError("threshold: got one without a metric; set rerank to the metric it is about")
    for name, value in (("samples", samples), ("batch_size", batch_size), ("num_beams", num_beams)):
        if value < 1:
            raise GuidanceError(f"{name}: got {value}, expected at least 1")
    asked = _asked(len(documents), sentences, keywords, spans, guidance)
    if asked is not None and samples > 1:
        raise GuidanceError(
            "samples: got several with guidance by the user, which leaves nothing to draw; set samples=1"
        )
    mode = guidance_mode or ("sample" if samples > 1 else None)
    from .induction import evaluating

    result: list[Summary] = []
    with torch.random.fork_rng(), torch.no_grad(), evaluating(model):
        torch.manual_seed(seed)
        for start in range(0, len(documents), batch_size):
            encoded = encode(tokenizer, documents[start : start + batch_size], max_length or _positions(model))
            inputs = _to(encoded.inputs, model)
            if asked is not None:
                wanted = asked[start : start + batch_size]
                inputs["guidance"] = _gates(model, encoded, inputs, wanted, belief, weight, hard, missing)
            inputs = repeat(inputs, samples)
            output = model.get_encoder()(**inputs, guidance_mode=mode, guidance_k=guidance_k)
            texts, chances = _write(model, tokenizer, inputs, output, max_new_tokens, num_beams)
            for row, document in enumerate(encoded.documents):
                first = row * samples
                candidates = [Candidate(texts[first + i], chances[first + i]) for i in range(samples)]
                if rerank is not None:
                    candidates = judge(candidates, document.text, rerank)
                chosen = best(candidates)
                used = _used(model, document, output, first + chosen)
                result.append(_summary(candidates, chosen, used, document, rerank, threshold, below))
    return result


def _summary(
    candidates: list[Candidate],
    chosen: int,
    used: tuple[GuidanceSentence, ...],
    document: EncodedDocument,
    rerank: Any,
    threshold: float | None,
    below: str,
) -> Summary:
    winner = candidates[chosen]
    scores, text, flagged = {"log_likelihood": winner.log_likelihood}, winner.text, False
    if winner.score is not None:
        scores[rerank if isinstance(rerank, str) else rerank.name] = winner.score
        flagged = threshold is not None and not winner.score >= threshold
    kept: str | None = text
    if flagged and below != "flag":
        kept = (" ".join(sentence.text for sentence in used) or None) if below == "extract" else None
    return Summary(kept, used, scores, flagged, tuple(candidates), chosen, document.lost)


def _write(
    model: Any, tokenizer: Any, inputs: dict[str, Tensor], output: Any, max_new_tokens: int, num_beams: int
) -> tuple[list[str], list[float]]:
    again = type(output)(**dict(output.items()))  # generate repeats the rows of what it is given for its beams
    sequences = model.generate(
        encoder_outputs=again,
        attention_mask=inputs["attention_mask"],
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
    )
    labels = sequences[:, 1:].masked_fill(sequences[:, 1:] == model.config.pad_token_id, -100)
    nll = model(attention_mask=inputs["attention_mask"], encoder_outputs=output, labels=labels).nll
    texts = [text.strip() for text in tokenizer.batch_decode(sequences, skip_special_tokens=True)]
    return texts, [-value for value in nll.tolist()]


def _used(model: Any, document: EncodedDocument, output: Any, row: int) -> tuple[GuidanceSentence, ...]:
    if output.guidance_gate is None:
        return ()
    gate = output.guidance_gate[row].tolist()
    mask = None if output.z_mask is None else output.z_mask[row : row + 1]
    chances = model.family.mean(output.prior[row : row + 1], mask)[0].tolist()
    rows: list[GuidanceSentence] = []
    for number in sorted(set(document.segments) - {-1}):
        places = [place for place, segment in enumerate(document.segments) if segment == number]
        if model.config.latent_type == "sentence":
            chance = chances[number]
        else:
            chance = sum(chances[place] for place in places) / len(places)
        strongest = max(gate[place] for place in places)
        rows.append(GuidanceSentence(number, document.sentence(number), chance, strongest))
    most = max((sentence.gate for sentence in rows), default=0.0)
    return tuple(sentence for sentence in rows if most > 0 and sentence.gate >= most / 2)


def _asked(count: int, sentences: Any, keywords: Any, spans: Any, guidance: Any) -> list[Guidance] | None:
    """A Guidance per document, or None where the user gave none."""
    given = {"sentences": sentences, "keywords": keywords, "spans": spans}
    parts: list[list[Guidance]] = []
    for name, values in given.items():
        if values is not None:
            rows = _rows(name, values, count)
            parts.append([getattr(Guidance, name)(row) for row in rows])
    if guidance is not None:
        if len(guidance) != count:
            raise GuidanceError(f"guidance: got {len(guidance)}, expected {count}, one per document")
        parts.append(list(guidance))
    if not parts:
        return None
    return [Guidance(tuple(signal for part in row for signal in part.signals)) for row in zip(*parts, strict=True)]


def _rows(name: str, values: Any, count: int) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise GuidanceError(f"{name}: got {values!r}, expected a list")
    flats: dict[str, Callable[[Any], bool]] = {
        "sentences": lambda v: isinstance(v, int),
        "keywords": lambda v: isinstance(v, str),
        "spans": lambda v: isinstance(v, Sequence) and len(v) == 2 and all(isinstance(x, int) for x in v),
    }
    flat = flats[name]
    if values and all(flat(value) for value in values):
        return [list(values)] * count
    if len(values) != count:
        raise GuidanceError(f"{name}: got lists for {len(values)} documents, expected {count}, or one list for all")
    return list(values)


def _gates(
    model: Any,
    encoded: EncodedDocuments,
    inputs: dict[str, Tensor],
    asked: Sequence[Guidance],
    belief: str,
    weight: float,
    hard: float | None,
    missing: str,
) -> Tensor:
    rows = [g.gate(document, missing=missing) for g, document in zip(asked, encoded.documents, strict=True)]
    signal = torch.stack(rows).to(inputs["input_ids"].device)
    if unwrapped(model).config.latent_type == "sentence":
        signal = widened(signal, inputs["segment_ids"])
    prior = signal if belief == "replace" else model.induce_guidance(**inputs).token_prior.to(signal.dtype)
    gate = update_belief(prior, signal, belief, weight).clamp(0, 1)
    return gate if hard is None else (gate >= hard).to(gate.dtype)


def widened(gate: Tensor, segments: Tensor) -> Tensor:
    """A gate for whole sentences, each as open as its most open token: a model of sentences has never read less.

    Args:
        gate: (B, T).
        segments: (B, T), the sentence of each token, -1 outside.

    >>> widened(torch.tensor([[0.0, 0.5, 0.0, 0.0]]), torch.tensor([[0, 0, 1, -1]])).tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    """
    count = max(1, int(segments.max()) + 1)
    most = torch.zeros(len(gate), count, dtype=gate.dtype, device=gate.device)
    most.scatter_reduce_(1, segments.clamp(min=0), gate.masked_fill(segments < 0, 0.0), "amax")
    return most.gather(1, segments.clamp(min=0)).masked_fill(segments < 0, 0.0)


def _to(inputs: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in inputs.items()}


def _positions(model: Any) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)
