"""Documents and summaries as the data of a run, with the sentence that each token is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets

from fascicle.errors import DataError
from fascicle.hf.data import content_fingerprint, load_summarization
from fascicle.hf.encoding import Encoder, collate, seq2seq_features
from fascicle.objects import Data

from .planted import fact_documents
from .segments import sentence_numbers
from .tags import lcs_tags, sentence_tags
from .text import sentence_spans

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.hf.encoding import Features
    from fascicle.objects import LoadedModel

    from .options import FaithsumFacts, FaithsumSummaries
    from .planted import FactDocument

__all__ = ["is_guided", "load", "of_documents", "unwrapped"]

MAX_SUMMARY = 128


def load(cfg: FaithsumFacts | FaithsumSummaries, run: RunContext) -> Data:
    """Read or make documents. Answers `fascicle_load_data`.

    Raises:
        SourceError, DataError: no source has the documents, or a row is malformed.
    """
    from .options import FaithsumFacts

    return _facts(cfg) if isinstance(cfg, FaithsumFacts) else _summaries(cfg)


def of_documents(
    name: str,
    parts: Mapping[str, datasets.Dataset],
    *,
    sentences: Callable[[str], list[list[str]]],
    tags: Callable[[str], list[list[float]]] | None = None,
    prefix: str = "",
    max_length: int | None = None,
    max_summary: int | None = MAX_SUMMARY,
    source: str = "",
) -> Data:
    """Your own documents as data of a run.

    A guided model gets `segment_ids` (the sentence of each token, -1 for special tokens) and `guidance_tags` beside what every
    encoder-decoder gets; tags are the weak supervision of `objective.tag_weight`, and what `oracle` guidance is.

    Args:
        name: what tables call it.
        parts: `train`, `validation`, `test`, those that exist, with columns `document` (text) and `summary` (list of texts).
        sentences: sentences of each document of a split; joined by spaces they are the document.
        tags: one number in [0, 1] per sentence; None takes the sentence that shares most tokens with the first summary; per
            token, the longest common subsequence.
        prefix: put before each document.
        max_length: longest input in tokens.
        max_summary: longest summary in tokens.
        source: where it came from.
    """

    def plain(split: str, model: LoadedModel, limit: int | None) -> Features:
        texts = [prefix + text for text in parts[split]["document"]]
        firsts = [summaries[0] for summaries in parts[split]["summary"]]
        return seq2seq_features(model, texts, firsts, limit, max_summary)

    def guided(split: str, model: LoadedModel, limit: int | None) -> Features:
        features = plain(split, model, limit)
        told = sentences(split)
        rows = [prefix + text for text in parts[split]["document"]]
        segments = segment_columns(model.tokenizer, rows, told, [len(ids) for ids in features.columns["input_ids"]])
        features.columns["segment_ids"] = segments
        latent = unwrapped(model.model).config.latent_type
        if tags is None:
            features.columns["guidance_tags"] = _found_tags(latent, features.columns)
        else:
            features.columns["guidance_tags"] = _given_tags(latent, segments, tags(split))
        return features

    return Data(
        name=name,
        task="seq2seq",
        splits=dict(parts),
        encode=_GuidedEncoder(name, dict(parts), {"seq2seq": plain, "guided": guided}, max_length),
        collate=_collate,
        strata=lambda split: [len(text.split()) for text in parts[split]["document"]],
        fingerprint=content_fingerprint(dict(parts)),
        source=source,
        extra={"references": lambda split: list(parts[split]["summary"]), "sentences": sentences},
    )


def segment_columns(
    tokenizer: Any, texts: Sequence[str], sentences: Sequence[Sequence[str]], lengths: Sequence[int]
) -> list[list[int]]:
    """The sentence that each token is in; -1 for special tokens and for what stands before the first sentence.

    Args:
        tokenizer: a fast one, since slow ones do not tell where a token stands.
        texts: the documents as they are encoded.
        sentences: of each, in order.
        lengths: tokens kept of each document, its end token included.

    Raises:
        DataError: a slow tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"data: {type(tokenizer).__name__} does not tell where its tokens stand in the text; expected a fast tokenizer, "
            "one with a tokenizer.json"
        )
    encoded = tokenizer(list(texts), return_offsets_mapping=True, truncation=False, verbose=False)
    columns = []
    for row, length in enumerate(lengths):
        ids = sentence_numbers(encoded["offset_mapping"][row], _places(texts[row], sentences[row]))
        columns.append(ids if len(ids) == length else [*ids[: length - 1], -1])  # a cut document keeps its end token
    return columns


def is_guided(model: Any) -> bool:
    """Whether the model under its wrappers induces guidance.

    >>> is_guided(object())
    False
    """
    return hasattr(unwrapped(model), "induce_guidance")


def unwrapped(model: Any) -> Any:
    """The model under DDP, compile and PEFT.

    >>> unwrapped(3)
    3
    """
    for name in ("module", "_orig_mod"):
        if name in getattr(model, "_modules", {}):
            return unwrapped(getattr(model, name))
    base = getattr(model, "get_base_model", None)
    return base() if callable(base) else model


class _GuidedEncoder(Encoder):
    """Guided models have features of their own."""

    def way(self, model: LoadedModel) -> str:
        way = super().way(model)
        return "guided" if way == "seq2seq" and is_guided(model.model) else way


def _collate(model: LoadedModel) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """The core's, with -1 where a token is in no sentence."""
    import torch

    plain = collate(model)

    def batch(rows: list[dict[str, Any]]) -> dict[str, Any]:
        out = plain([{name: value for name, value in row.items() if name != "segment_ids"} for row in rows])
        if "segment_ids" in rows[0]:
            longest = out["input_ids"].shape[1]
            padded = [row["segment_ids"] + [-1] * (longest - len(row["segment_ids"])) for row in rows]
            out["segment_ids"] = torch.tensor(padded)  # (B, T)
        return out

    return batch


# ---- the two kinds of data -----------------------------------------------------------------------------------------------


def _facts(cfg: FaithsumFacts) -> Data:
    parts: dict[str, list[FactDocument]] = {}
    known: set[str] = set()
    for number, (split, rows) in enumerate(
        (("train", cfg.train_rows), ("validation", cfg.validation_rows), ("test", cfg.test_rows))
    ):
        drawn = fact_documents(rows + len(known), seed=3 * cfg.seed + number, facts=cfg.facts, noise=cfg.noise)
        parts[split] = [d for d in drawn if d.text not in known][:rows]
        known |= {d.text for d in parts[split]}
    tables = {
        split: datasets.Dataset.from_dict(
            {
                "document": [d.text for d in documents],
                "summary": [[d.summary] for d in documents],
                "cue": [d.cue for d in documents],
                "target": [d.target for d in documents],
            }
        )
        for split, documents in parts.items()
    }
    data = of_documents(
        cfg.name,
        tables,
        sentences=lambda split: [list(d.sentences) for d in parts[split]],
        tags=lambda split: [[float(k == d.target) for k in range(cfg.facts)] for d in parts[split]],
        source="made by fascicle_faithsum",
    )
    data.extra["facts"] = lambda split: parts[split]
    return data


def _summaries(cfg: FaithsumSummaries) -> Data:
    read = load_summarization(cfg)
    told = {split: _sentences(rows, cfg) for split, rows in read.splits.items()}
    marks = (
        {split: _marks(rows, cfg, told[split]) for split, rows in read.splits.items()} if cfg.oracle_column else None
    )
    return of_documents(
        read.name,
        read.splits,
        sentences=lambda split: told[split],
        tags=None if marks is None else lambda split: marks[split],
        prefix=cfg.prefix,
        max_length=cfg.max_length,
        max_summary=cfg.max_target_length,
        source=read.source,
    )


def _sentences(rows: datasets.Dataset, cfg: FaithsumSummaries) -> list[list[str]]:
    """As the source divides them, where it does; else by the splitter."""
    given = rows[cfg.document_column] if cfg.document_column in rows.column_names else rows["document"]
    divided = [value if isinstance(value, list) else None for value in given]
    return [
        [sentence for sentence in own if sentence.strip()]
        if own is not None
        else [text[start:end].strip() for start, end in sentence_spans(text)]
        for own, text in zip(divided, rows["document"], strict=True)
    ]


def _marks(rows: datasets.Dataset, cfg: FaithsumSummaries, told: list[list[str]]) -> list[list[float]]:
    assert cfg.oracle_column is not None
    if cfg.oracle_column not in rows.column_names:
        raise DataError(
            f"data.oracle_column: the data has no column {cfg.oracle_column!r}, only {', '.join(rows.column_names)}"
        )
    marks = []
    for number, (own, sentences) in enumerate(zip(rows[cfg.oracle_column], told, strict=True)):
        if len(own) != len(sentences):
            raise DataError(
                f"data.oracle_column: row {number} has {len(own)} marks in {cfg.oracle_column!r} for {len(sentences)} sentences; "
                "expected one per sentence"
            )
        marks.append([float(mark) for mark in own])
    return marks


# ---- sentences and tokens ------------------------------------------------------------------------------------------------


def _places(text: str, sentences: Sequence[str]) -> list[tuple[int, int]]:
    """Where each sentence stands in the text, one after another."""
    places, at = [], 0
    for sentence in sentences:
        start = max(at, text.find(sentence.strip(), at))
        at = start + len(sentence.strip())
        places.append((start, at))
    return places


def _found_tags(latent: str, columns: Mapping[str, Sequence[Sequence[int]]]) -> list[list[float]]:
    """What the summary shares with the document: the sentence with most of its tokens, or the longest common subsequence."""
    tags = []
    for source, segments, summary in zip(columns["input_ids"], columns["segment_ids"], columns["labels"], strict=True):
        inside = [i for i, s in zip(source, segments, strict=True) if s >= 0]
        known = set(inside)
        wanted = [i for i in summary if i in known]
        if latent == "sentence":
            tags.append(sentence_tags(segments, source, wanted).tolist() or [0.0])
        else:
            marks = iter(lcs_tags(inside, wanted).tolist())
            tags.append([float(next(marks)) if s >= 0 else 0.0 for s in segments])
    return tags


def _given_tags(latent: str, segments: Sequence[Sequence[int]], marks: Sequence[Sequence[float]]) -> list[list[float]]:
    """As the latent variable takes them: per sentence, or per token."""
    if latent == "sentence":
        return [[*own[: max(ids, default=0) + 1]] or [0.0] for own, ids in zip(marks, segments, strict=True)]
    return [[own[k] if 0 <= k < len(own) else 0.0 for k in ids] for own, ids in zip(marks, segments, strict=True)]
