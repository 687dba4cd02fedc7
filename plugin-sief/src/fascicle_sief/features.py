"""Documents as tensors, and the removal of sentences from a whole batch at once.

Each sentence is cut into word pieces on its own and kept, so a document without a sentence costs no tokenization; in a batch the
removal is a gather: no loop over tokens, sentences or mentions. What the encoder then sees is exactly what it would see of a
document that was written without the sentence: [CLS], the sentences that are left, one [SEP]. So the official code removes them.

Letters: B documents, L word pieces, S sentences, M mentions, E entities, N pairs of all documents, R relations.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import DocumentError

if TYPE_CHECKING:
    from torch import Tensor

    from .document import Document

__all__ = ["DocumentEncoder", "Shortened", "collate", "count_sentences", "shorten"]

logger = logging.getLogger(__name__)

NOWHERE = -1
"""Sentence of [CLS], [SEP] and padding; entity of a mention that is padding or gone."""


@dataclass
class _Pieces:
    """One sentence in word pieces."""

    ids: list[int]
    starts: list[int]
    """Of each word, its first piece; one more at the end."""


class DocumentEncoder:
    """Turns documents into features.

    Args:
        tokenizer: a fast tokenizer of transformers.
        relations: names of the R relations, without "no relation", which has column 0.
        types: names of entity types; others get number 0.
        max_length: word pieces of a document at most. Longer documents lose whole sentences at the end, with one warning.
        markers: put `*` around mentions, as ATLOP does. The marker belongs to the sentence.

    Example:
        >>> from fascicle.hf.model_options import Tiny
        >>> from fascicle.hf.tiny import tiny_tokenizer
        >>> from fascicle_sief.document import Document, Mention, Relation
        >>> encode = DocumentEncoder(tiny_tokenizer(Tiny()), ["plays"], markers=False)
        >>> doc = Document("d", [["it", "was"]], [[Mention(0, 0, 1)], [Mention(0, 1, 2)]], [Relation(0, 1, "plays")])
        >>> features = encode(doc)
        >>> features["sentence_ids"], features["mention_starts"], features["labels"]
        ([-1, 0, 0, -1], [1, 2], [[0, 1]])
    """

    def __init__(
        self,
        tokenizer: Any,
        relations: Sequence[str],
        *,
        types: Sequence[str] = (),
        max_length: int = 512,
        markers: bool = True,
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise DocumentError("tokenizer: expected a fast tokenizer, which knows where each word begins")
        self.tokenizer, self.relations, self.types = tokenizer, tuple(relations), tuple(types)
        self.max_length, self.markers = max_length, markers
        self.pad_id: int = tokenizer.pad_token_id or 0
        self.cut: dict[str, int] = {}
        """Title to the number of sentences that did not fit."""
        self._column = {name: i for i, name in enumerate(self.relations, 1)}
        self._type = {name: i for i, name in enumerate(self.types, 1)}
        self._pieces: dict[tuple[str, ...], _Pieces] = {}
        self._first, self._last = _specials(tokenizer)
        self._marker = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("*")) if markers else []

    def __call__(self, document: Document, number: int = 0) -> dict[str, Any]:
        """Features of one document: plain lists, see the module's `collate`.

        Args:
            document: any; an empty one gives [CLS] [SEP].
            number: tells documents of one set apart; draws for a document depend on it.

        Raises:
            DocumentError: a relation that is none of `relations`.
        """
        kept = self._fitting(document)
        ids, sentence_ids = list(self._first), [NOWHERE] * len(self._first)
        spans: dict[tuple[int, int, int], tuple[int, int]] = {}
        by_sentence: dict[int, list[tuple[int, int]]] = {}
        for mentions in document.entities:
            for m in mentions:
                by_sentence.setdefault(m.sentence, []).append((m.start, m.end))
        for k in range(kept):
            pieces, places = self._marked(document.sentences[k], by_sentence.get(k, ()))
            room = self.max_length - len(self._last) - len(ids)
            for (start, end), (a, b) in places.items():
                if b <= room:
                    spans[k, start, end] = len(ids) + a, len(ids) + b
            ids += pieces[:room]
            sentence_ids += [k] * min(len(pieces), room)
        ids += self._last
        sentence_ids += [NOWHERE] * len(self._last)
        found = [
            (*spans[m.sentence, m.start, m.end], e, m.sentence, self._type.get(m.type, 0))
            for e, mentions in enumerate(document.entities)
            for m in mentions
            if (m.sentence, m.start, m.end) in spans
        ]
        pairs = document.all_pairs()
        where = {pair: i for i, pair in enumerate(pairs)}
        return {
            "input_ids": ids,
            "sentence_ids": sentence_ids,
            "mention_starts": [f[0] for f in found],
            "mention_ends": [f[1] for f in found],
            "mention_entities": [f[2] for f in found],
            "mention_sentences": [f[3] for f in found],
            "mention_types": [f[4] for f in found],
            "pairs": [list(pair) for pair in pairs],
            "labels": self._labels(document, where),
            "document": number,
        }

    def _labels(self, document: Document, where: Mapping[tuple[int, int], int]) -> list[list[int]]:
        labels = []
        for relation in document.relations:
            column = self._column.get(relation.type)
            if column is None:
                raise DocumentError(
                    f"document {document.title!r}: relation {relation.type!r} is none of the {len(self.relations)} that the model "
                    "knows"
                )
            place = where.get((relation.head, relation.tail))
            if place is not None:  # a relation of an entity with itself is no pair
                labels.append([place, column])
        return labels

    def _fitting(self, document: Document) -> int:
        """Sentences that fit, at least one."""
        left = self.max_length - len(self._first) - len(self._last)
        marks = [0] * len(document)
        if self.markers:
            spans = {(m.sentence, m.start, m.end) for mentions in document.entities for m in mentions}
            for sentence, _, _ in spans:
                marks[sentence] += 2 * len(self._marker)
        for k, words in enumerate(document.sentences):
            left -= len(self._cut(words).ids) + marks[k]
            if left < 0:
                gone = len(document) - max(k, 1)
                if not self.cut:
                    logger.warning(
                        "document %r is longer than %d word pieces: its last %d of %d sentences are not read; raise max_length",
                        document.title,
                        self.max_length,
                        gone,
                        len(document),
                    )
                self.cut[document.title] = gone
                return max(k, 1)
        return len(document)

    def _cut(self, words: tuple[str, ...]) -> _Pieces:
        found = self._pieces.get(words)
        if found is None:
            encoding = self.tokenizer(list(words), is_split_into_words=True, add_special_tokens=False)
            ids, word_ids = encoding["input_ids"], encoding.word_ids()
            starts, at = [], 0
            for w in range(len(words)):  # a word may have no piece at all
                starts.append(at)
                while at < len(ids) and word_ids[at] == w:
                    at += 1
            found = self._pieces[words] = _Pieces(ids, [*starts, len(ids)])
        return found

    def _marked(
        self, words: tuple[str, ...], mentions: Sequence[tuple[int, int]]
    ) -> tuple[list[int], dict[tuple[int, int], tuple[int, int]]]:
        """The pieces of a sentence, and where each mention stands in it: from its own marker, where there are markers."""
        cut = self._cut(words)
        if not self._marker or not mentions:
            spans = {(s, e): (cut.starts[s], max(cut.starts[e], cut.starts[s] + 1)) for s, e in mentions}
            return cut.ids, {span: place for span, place in spans.items() if place[1] <= len(cut.ids)}
        distinct = sorted(set(mentions), key=lambda span: (span[0], -span[1]))  # the outer one first
        ids: list[int] = []
        begins: dict[tuple[int, int], int] = {}
        places: dict[tuple[int, int], tuple[int, int]] = {}
        for w in range(len(words) + 1):
            for span in reversed([s for s in distinct if s[1] == w]):
                ids += self._marker
                places[span] = begins[span], len(ids)
            for span in [s for s in distinct if s[0] == w]:
                begins[span] = len(ids)
                ids += self._marker
            if w < len(words):
                ids += cut.ids[cut.starts[w] : cut.starts[w + 1]]
        return ids, places


def _specials(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What stands before and behind a text."""
    plain, whole = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
    return whole[:at], whole[at + len(plain) :]


def collate(features: Sequence[Mapping[str, Any]], pad_id: int = 0, relations: int = 1) -> dict[str, Tensor]:
    """Make one batch.

    Args:
        features: what a [`DocumentEncoder`] gave.
        pad_id: token of the padding.
        relations: R; labels get R + 1 columns.

    Returns:
        `input_ids`, `attention_mask`, `sentence_ids` (B, L); `mention_starts`, `mention_ends`, `mention_entities`,
        `mention_sentences`, `mention_types` (B, M), entity -1 where there is none; `pairs` (N, 3) of document, head, tail;
        `distances` (N,) from the head's first mention to the tail's, in word pieces; `labels` (N, R + 1) float32, column 0 is 1
        where no relation holds; `document` (B,).

    Example:
        >>> row = dict(input_ids=[1, 5, 2], sentence_ids=[-1, 0, -1], pairs=[[0, 1]], labels=[[0, 1]], document=7)
        >>> row |= dict.fromkeys(["mention_starts", "mention_ends", "mention_sentences", "mention_types"], [1, 1])
        >>> batch = collate([row | {"mention_entities": [0, 1]}], relations=2)
        >>> batch["pairs"].tolist(), batch["labels"].tolist()
        ([[0, 0, 1]], [[0.0, 1.0, 0.0]])
    """
    fill = {"input_ids": pad_id, "sentence_ids": NOWHERE, "mention_entities": NOWHERE, "mention_sentences": NOWHERE}
    names = [
        "input_ids",
        "sentence_ids",
        "mention_starts",
        "mention_ends",
        "mention_entities",
        "mention_sentences",
        "mention_types",
    ]
    batch = {name: _padded([row[name] for row in features], fill.get(name, 0)) for name in names}
    batch["attention_mask"] = _padded([[1] * len(row["input_ids"]) for row in features], 0)
    counts = [len(row["pairs"]) for row in features]
    pairs, distances = np.zeros((sum(counts), 3), np.int64), np.zeros(sum(counts), np.int64)
    labels = torch.zeros(sum(counts), relations + 1)
    at = 0
    for b, row in enumerate(features):
        if counts[b]:
            pairs[at : at + counts[b], 0] = b
            pairs[at : at + counts[b], 1:] = row["pairs"]
            distances[at : at + counts[b]] = _distances(row)
        if row["labels"]:
            place = torch.as_tensor(row["labels"])
            labels[at + place[:, 0], place[:, 1]] = 1.0
        at += counts[b]
    labels[:, 0] = (labels[:, 1:].sum(1) == 0).float()
    return {
        **batch,
        "pairs": torch.from_numpy(pairs),
        "distances": torch.from_numpy(distances),
        "labels": labels,
        "document": torch.tensor([int(row["document"]) for row in features]),
    }


def _distances(row: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(P,) from the head's first mention to the tail's; 0 where one is not mentioned."""
    pairs = np.asarray(row["pairs"])  # (P, 2)
    most = int(pairs.max()) + 1
    first = np.full(most, np.iinfo(np.int64).max)
    entities = np.asarray(row["mention_entities"], np.int64)
    asked = entities < most
    np.minimum.at(first, entities[asked], np.asarray(row["mention_starts"], np.int64)[asked])
    mentioned = first < np.iinfo(np.int64).max
    both = mentioned[pairs].all(1)
    return np.where(both, np.where(mentioned, first, 0)[pairs[:, 1]] - np.where(mentioned, first, 0)[pairs[:, 0]], 0)


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    out = np.full((len(rows), width), fill, np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


def count_sentences(batch: Mapping[str, Tensor]) -> Tensor:
    """(B,) sentences of each document, as far as they were read.

    >>> count_sentences({"sentence_ids": torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1]])}).tolist()
    [2, 1]
    """
    return batch["sentence_ids"].amax(1) + 1 if batch["sentence_ids"].shape[1] else batch["sentence_ids"].sum(1)


@dataclass
class Shortened:
    """A batch without some sentences.

    Made by [`shorten`].
    """

    batch: dict[str, Tensor]
    alive: Tensor
    """(N,) bool: both entities of the pair are still mentioned."""


def shorten(batch: Mapping[str, Tensor], drop: Tensor, pad_id: int = 0) -> Shortened:
    """Remove sentences from a batch: word pieces, mentions and their numbers move up; pairs, labels and distances stay.

    The distances stay those of the whole document, as in the official code.

    Args:
        batch: of [`collate`].
        drop: (B, S) bool, sentences to remove.
        pad_id: token of the padding.

    Example:
        >>> ids = torch.tensor([[9, 4, 5, 6, 9]])
        >>> batch = {
        ...     "input_ids": ids,
        ...     "attention_mask": torch.ones_like(ids),
        ...     "sentence_ids": torch.tensor([[-1, 0, 0, 1, -1]]),
        ... }
        >>> mentions = {"entities": [0, 1], "starts": [1, 3], "ends": [2, 4], "sentences": [0, 1], "types": [0, 0]}
        >>> batch |= {f"mention_{name}": torch.tensor([value]) for name, value in mentions.items()}
        >>> batch["pairs"] = torch.tensor([[0, 0, 1]])
        >>> short = shorten(batch, torch.tensor([[True, False]]))
        >>> short.batch["input_ids"].tolist(), short.batch["mention_starts"].tolist(), short.alive.tolist()
        ([[9, 6, 9]], [[0, 1]], [False])
    """
    sentence, mask = batch["sentence_ids"], batch["attention_mask"].bool()  # (B, L)
    drop = torch.cat([drop, drop.new_zeros(len(drop), 1)], 1)  # (B, S + 1): the last column stands for "nowhere"
    keep = mask & ~drop.gather(1, sentence % drop.shape[1])
    renumbered = torch.cat(
        [(~drop[:, :-1]).long().cumsum(1) - 1, drop.new_full((len(drop), 1), NOWHERE, dtype=torch.long)], 1
    )
    place = keep.long().cumsum(1) - 1  # (B, L): of what is kept, where it goes
    count = keep.sum(1)
    width = int(count.max()) if len(count) else 0
    order = (~keep).long().argsort(dim=1, stable=True)[:, :width]
    filled = torch.arange(width, device=order.device) < count[:, None]

    def moved(values: Tensor, fill: int) -> Tensor:
        return torch.where(filled, values.gather(1, order), fill)

    short = dict(batch)
    short["input_ids"] = moved(batch["input_ids"], pad_id)
    short["attention_mask"] = filled.long()
    short["sentence_ids"] = moved(renumbered.gather(1, sentence % drop.shape[1]), NOWHERE)
    where = batch["mention_sentences"] % drop.shape[1]  # (B, M)
    left = (batch["mention_entities"] >= 0) & ~drop.gather(1, where)
    if left.shape[1]:
        starts = place.gather(1, batch["mention_starts"])
        ends = place.gather(1, (batch["mention_ends"] - 1).clamp(min=0)) + 1
        short["mention_starts"] = torch.where(left, starts, 0)
        short["mention_ends"] = torch.where(left, ends, 0)
        short["mention_entities"] = torch.where(left, batch["mention_entities"], NOWHERE)
        short["mention_sentences"] = torch.where(left, renumbered.gather(1, where), NOWHERE)
    return Shortened(short, _alive(short))


def _alive(batch: Mapping[str, Tensor]) -> Tensor:
    """(N,) bool: both entities are mentioned."""
    entities, pairs = batch["mention_entities"], batch["pairs"]  # (B, M), (N, 3)
    most = int(pairs[:, 1:].max()) + 1 if len(pairs) else 0
    most = max(most, int(entities.max()) + 1 if entities.numel() else 0)
    seen = torch.zeros(len(entities), most + 1, dtype=torch.bool, device=entities.device)
    seen.scatter_(1, torch.where(entities >= 0, entities, most), True)
    return seen[pairs[:, 0], pairs[:, 1]] & seen[pairs[:, 0], pairs[:, 2]]
