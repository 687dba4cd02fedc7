"""Documents as token ids with the sentence of each token, by the tokenizer's character offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .errors import GuidanceError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EncodedDocument", "EncodedDocuments", "encode", "encode_documents", "sentence_numbers", "split"]

Span = tuple[int, int]


@dataclass(frozen=True)
class EncodedDocument:
    """One document: its text, its sentences, and where its tokens stand in the text."""

    text: str
    spans: tuple[Span, ...]
    """Character span of each sentence."""
    offsets: tuple[Span, ...]
    """Character span of each of the T tokens; (0, 0) for special tokens and padding."""
    segments: tuple[int, ...]
    """Sentence of each of the T tokens, -1 outside."""
    lost: int
    """Sentences of which truncation left no token."""
    cut: int
    """1 where truncation left only the beginning of the last sentence kept, else 0."""

    def sentence(self, number: int) -> str:
        """Text of a sentence."""
        start, end = self.spans[number]
        return self.text[start:end].strip()


@dataclass(frozen=True)
class EncodedDocuments:
    """A batch for a guided model, and what is needed to read it back."""

    inputs: dict[str, Tensor]
    """input_ids, attention_mask, segment_ids; each (B, T)."""
    documents: tuple[EncodedDocument, ...]


def split(document: str | Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Text of a document and the character spans of its sentences; a list is taken as the sentences.

    Raises:
        GuidanceError: a document that is no text, or has none.

    >>> split(["It rained.", "We left."])
    ('It rained. We left.', ((0, 10), (11, 19)))
    """
    if isinstance(document, str):
        from .text import sentence_spans

        text, spans = document, tuple(sentence_spans(document))
    else:
        if not all(isinstance(sentence, str) for sentence in document):
            raise GuidanceError("documents: got a list with something else than text, expected a list of sentences")
        text, places, start = " ".join(document), [], 0
        for sentence in document:
            places.append((start, start + len(sentence)))
            start += len(sentence) + 1
        spans = tuple(places)
    if not text.strip():
        raise GuidanceError("documents: got an empty document, expected text")
    return text, spans


def encode(
    tokenizer: Any,
    documents: Sequence[str | Sequence[str]],
    max_length: int | None = None,
    sentences: Sequence[Sequence[Span]] | None = None,
) -> EncodedDocuments:
    """Token ids and sentence numbers of documents.

    A token is in the sentence that has its last character, since a token may begin with the space before a word.

    Args:
        tokenizer: a fast one, with character offsets.
        documents: texts, or lists of sentences.
        max_length: tokens kept per document, special tokens included; None keeps all.
        sentences: character spans per document in place of those found.

    Raises:
        GuidanceError: a slow tokenizer, no documents, or spans that do not fit.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise GuidanceError(
            f"tokenizer: got {type(tokenizer).__name__}, a slow one without character offsets; expected a fast one "
            "(AutoTokenizer loads it where the model has a tokenizer.json)"
        )
    if isinstance(documents, str) or not documents:
        raise GuidanceError(f"documents: got {documents!r}, expected a list of at least one document")
    parted = [split(document) for document in documents]
    if sentences is not None:
        if len(sentences) != len(parted):
            raise GuidanceError(f"sentences: got spans of {len(sentences)} documents, expected {len(parted)}")
        parted = [(text, _checked(text, spans)) for (text, _), spans in zip(parted, sentences, strict=True)]
    batch = tokenizer(
        [text for text, _ in parted],
        truncation=max_length is not None,
        max_length=max_length,
        padding=True,
        padding_side="right",
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    rows: list[EncodedDocument] = []
    for row, (text, spans) in enumerate(parted):
        special = batch["special_tokens_mask"][row].tolist()
        offsets = [
            (0, 0) if apart else (int(a), int(b))
            for (a, b), apart in zip(batch["offset_mapping"][row].tolist(), special, strict=True)
        ]
        segments = tuple(sentence_numbers(offsets, spans))
        rows.append(EncodedDocument(text, spans, tuple(offsets), segments, *_truncated(text, spans, offsets)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return EncodedDocuments(
        {**inputs, "segment_ids": torch.tensor([document.segments for document in rows])}, tuple(rows)
    )


def encode_documents(
    tokenizer: Any,
    documents: Sequence[str | Sequence[str]],
    max_length: int | None = None,
    sentences: Sequence[Sequence[Span]] | None = None,
) -> dict[str, Tensor]:
    """What a guided model takes: input_ids, attention_mask, segment_ids, (B, T). Arguments and errors: `encode`."""
    return encode(tokenizer, documents, max_length, sentences).inputs


def sentence_numbers(offsets: Sequence[Span], spans: Sequence[Span]) -> list[int]:
    """The sentence of each token, the one that has its last character; -1 for special tokens and outside of sentences.

    Args:
        offsets: character span of each token, empty for special ones.
        spans: character span of each sentence.

    >>> sentence_numbers([(0, 0), (0, 3), (3, 5), (5, 8)], [(0, 3), (4, 8)])
    [-1, 0, 1, 1]
    """
    return [_sentence(b - 1, spans) if b > a else -1 for a, b in offsets]


def _sentence(place: int, spans: Sequence[Span]) -> int:
    return next((number for number, (start, end) in enumerate(spans) if start <= place < end), -1)


def _truncated(text: str, spans: Sequence[Span], offsets: Sequence[Span]) -> tuple[int, int]:
    end = max((b for _, b in offsets), default=0)
    lost = sum(1 for a, b in spans if text[a:b].strip() and a + len(text[a:b]) - len(text[a:b].lstrip()) >= end)
    cut = any(text[a:end].strip() and text[end:b].strip() for a, b in spans if a < end < b)
    return lost, int(cut)


def _checked(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    last = 0
    for start, end in spans:
        if not last <= start < end <= len(text):
            raise GuidanceError(
                f"sentences: got span {(start, end)}, expected spans in order, apart, inside a text of {len(text)} characters"
            )
        last = end
    return tuple((int(a), int(b)) for a, b in spans)
