"""Keys and values of one model, made for trees: written in place, cut in no time, an accepted path moved together.

Our choice; the paper's code copies slices of tuples. Nothing is ever evicted, so any suffix can be taken back: sliding windows are
a matter of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TreeLayer", "keep", "new_cache", "read", "repeat", "rollback"]

_SMALLEST = 64


class TreeLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer in a buffer that doubles when it is full.

    Example:
        >>> layer = TreeLayer()
        >>> states = torch.arange(4.0).reshape(1, 1, 4, 1)
        >>> keys, _ = layer.update(states, states)
        >>> layer.keep(1, [1, 2])
        >>> layer.keys.flatten().tolist()
        [0.0, 2.0, 3.0]
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write behind what is there; return all keys (B, H, L, D) and values."""
        start, end = self._length, self._length + key_states.shape[-2]
        if self._buffers is None:
            self.lazy_initialization(key_states, value_states)
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._grow(end, key_states, value_states)
        assert self._buffers is not None
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., start:end, :] = states
        return self._show(end)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        if self._buffers is not None and length < self._length:
            self._show(length)

    def crop(self, tokens_to_remove: int) -> None:
        """As transformers' caches do it: remove the last `-tokens_to_remove` positions."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes 0 or a negative number of tokens to remove, got {tokens_to_remove}")
        self.truncate(self._length + tokens_to_remove)

    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Of the positions from `start` on keep those at `start + row`, moved together in this order."""
        if self._buffers is None:
            return
        if list(rows) != list(range(len(rows))):
            index = torch.tensor(rows, device=self._buffers[0].device) + start
            for buffer in self._buffers:
                buffer[..., start : start + len(rows), :] = buffer.index_select(-2, index)
        self._show(start + len(rows))

    def reset(self) -> None:
        """Forget everything."""
        self._buffers, self._length = None, 0
        super().reset()

    def _grow(self, needed: int, key_states: Tensor, value_states: Tensor) -> None:
        capacity = max(_SMALLEST, 1 << (needed - 1).bit_length())
        grown = tuple(s.new_empty(*s.shape[:-2], capacity, s.shape[-1]) for s in (key_states, value_states))
        if self._buffers is not None:
            for new, old in zip(grown, self._buffers, strict=True):
                new[..., : self._length, :] = old[..., : self._length, :]
        self._buffers = grown[0], grown[1]

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        assert self._buffers is not None
        self._length = length
        keys, values = (buffer[..., :length, :] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def new_cache() -> Cache:
    """An empty cache of [`TreeLayer`]s, one for each layer that asks.

    Example:
        >>> new_cache().get_seq_length()
        0
    """
    return Cache(layer_class_to_replicate=TreeLayer)


def rollback(cache: Cache, length: int) -> None:
    """Forget all but the first `length` positions, in every layer. The only place that shortens a cache."""
    for layer in _layers(cache):
        layer.truncate(length)


def keep(cache: Cache, start: int, rows: Sequence[int]) -> None:
    """Of the positions from `start` on keep those at `start + row`, in every layer."""
    for layer in _layers(cache):
        layer.keep(start, rows)


def read(cache: Cache, into: Cache, length: int) -> None:
    """Replace the contents of `into` by the first `length` positions of `cache`; `into` keeps its kind of layers."""
    targets = _layers(into)
    for index, layer in enumerate(_layers(cache)):
        if layer.get_seq_length() == 0:
            continue
        if index < len(targets):
            targets[index].reset()
        into.update(layer.keys[..., :length, :].clone(), layer.values[..., :length, :].clone(), index)


def repeat(cache: Cache, times: int) -> None:
    """Let every layer hold what it holds so often over: a long text for timing, without reading one."""
    for layer in _layers(cache):
        if layer.get_seq_length():
            more = [states.repeat(1, 1, times - 1, 1) for states in (layer.keys, layer.values)]
            layer.update(*more)


def _layers(cache: Cache) -> list[Any]:
    return list(cache.layers)
