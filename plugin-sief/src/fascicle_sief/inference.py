"""Asking a trained model: documents in, probabilities out; saved and loaded as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import ModelError
from .features import DocumentEncoder, collate
from .focusing import linked
from .objective import link_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .document import Document

__all__ = ["ModelScorer", "encoder_of", "load"]


class ModelScorer:
    """A model of relations as a [`Scorer`]: what prediction, importance and robustness work on.

    Args:
        model: answers with logits of pairs, see `objective`; is put in eval mode.
        encode: turns documents into the features that the model was trained on.
        threshold: probability above which a relation is predicted.
        batch_pieces: word pieces of a batch at most, padding included; one document is always taken.
        advance: told the number of documents that were read.

    Example:
        >>> ModelScorer.load("nowhere")
        Traceback (most recent call last):
        ...
        fascicle_sief.errors.ModelError: nowhere: expected a folder with config.json, as a training run or save() makes it
    """

    def __init__(
        self,
        model: nn.Module,
        encode: DocumentEncoder,
        *,
        threshold: float = 0.5,
        batch_pieces: int = 4096,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self.model, self.encode = model.eval(), encode
        self.relations: Sequence[str] = encode.relations
        self.threshold, self.batch_pieces, self.advance = threshold, batch_pieces, advance

    @torch.no_grad()
    def probabilities(self, documents: Sequence[Document]) -> list[np.ndarray]:
        """For each document (P, R) float64, a row for each of its pairs; 0 where an entity is not mentioned or was cut off."""
        rows = [self.encode(document, i) for i, document in enumerate(documents)]
        found: list[np.ndarray] = [np.zeros((len(row["pairs"]), len(self.relations))) for row in rows]
        device = next(self.model.parameters()).device
        for chosen in self._batches([len(row["input_ids"]) for row in rows]):
            asked = [i for i in chosen if rows[i]["pairs"]]
            if asked:
                batch = collate([rows[i] for i in asked], self.encode.pad_id, len(self.relations))
                del batch["labels"]
                logits = self.model(**{name: value.to(device) for name, value in batch.items()}).logits
                for i, p in zip(asked, self._split(logits, [len(rows[i]["pairs"]) for i in asked]), strict=True):
                    p[~_mentioned(rows[i])] = 0.0
                    found[i] = p
            if self.advance is not None:
                self.advance(len(chosen))
        return found

    def _split(self, logits: Tensor, sizes: list[int]) -> list[np.ndarray]:
        link = link_of(self.model)
        z = linked(logits, link)
        p = z.double().sigmoid()[:, 0 if link == "threshold" else 1 :].cpu().numpy()
        return np.split(p, np.cumsum(sizes)[:-1])

    def _batches(self, lengths: list[int]) -> list[list[int]]:
        """Documents of like length together, longest first."""
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
            if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= self.batch_pieces:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def save(self, folder: str | Path) -> Path:
        """Write model, tokenizer, relations and threshold; `load` reads them."""
        model: Any = self.model
        if hasattr(model.config, "threshold"):
            model.config.threshold = self.threshold
        model.save_pretrained(folder)
        self.encode.tokenizer.save_pretrained(folder)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", **options: Any) -> ModelScorer:
        """Read what `save` or a training run wrote: a model's folder, or the folder of a run.

        Raises:
            ModelError: the folder holds none, or an adapter alone.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file() and (folder / "model").is_dir():
            folder = folder / "model"
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{folder}: holds an adapter, expected a whole model; merge it first (merge_and_unload() of PEFT) and save it"
            )
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: expected a folder with config.json, as a training run or save() makes it")
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        from fascicle.hf.models import quiet_loading

        from .modeling import RelationConfig, RelationModel

        if kind != RelationConfig.model_type:
            raise ModelError(
                f"{folder}: holds a {kind}, expected {RelationConfig.model_type}; train one with model=sief_atlop"
            )
        from transformers import AutoTokenizer

        with quiet_loading():
            loaded: Any = RelationModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        model = loaded.to(device)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cls(model, encoder_of(model, tokenizer), threshold=model.config.threshold, **options)


def load(folder: str | Path, **options: Any) -> ModelScorer:
    """A trained model, ready to ask; see [`ModelScorer.load`].

    >>> load("nowhere")
    Traceback (most recent call last):
    ...
    fascicle_sief.errors.ModelError: nowhere: expected a folder with config.json, as a training run or save() makes it
    """
    return ModelScorer.load(folder, **options)


def encoder_of(model: Any, tokenizer: Any) -> DocumentEncoder:
    """The features that a [`RelationModel`] reads, wrapped in adapters or not."""
    config = model.config
    return DocumentEncoder(
        tokenizer,
        config.relations,
        types=config.entity_types,
        max_length=config.max_pieces,
        markers=config.markers,
    )


def _mentioned(row: Mapping[str, Any]) -> np.ndarray:
    """(P,) bool: both entities have a mention that was read."""
    there = set(row["mention_entities"])
    return np.array([h in there and t in there for h, t in row["pairs"]], bool)
