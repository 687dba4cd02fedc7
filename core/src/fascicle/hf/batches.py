"""Which rows each process sees at each step.

A step's rows depend on the seed, the epoch and the batch size alone: how they are split over processes and accumulated
micro-batches changes no result, and a resumed run finds its place by counting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

__all__ = ["StepBatches"]


class StepBatches(Sampler[list[int]]):
    """Micro-batches of one process, as lists of row numbers; `accumulation` of them make an optimizer step.

    The rows of a step are dealt in turns to micro-batches and processes, so that all have nearly the same number, in an epoch's
    shorter last step too. Where a process would have none, since all must take part, it gets a row of another's to run but not to
    count: `counts` is then False.

    Args:
        rows: rows of the training set.
        batch_size: rows per step, over all processes.
        micro_batch_size: rows per micro-batch and process at most.
        seed: with the epoch's number it gives the order.
        rank: this process.
        world_size: number of processes.
        lengths: length of each row; given, rows of like length share a step.

    >>> one = StepBatches(rows=5, batch_size=4, micro_batch_size=4, seed=1)
    >>> two = [StepBatches(rows=5, batch_size=4, micro_batch_size=1, seed=1, rank=r, world_size=2) for r in (0, 1)]
    >>> first = [row for a, b in zip(*two) for row in a + b][:4]
    >>> sorted(first) == sorted(next(iter(one))), one.accumulation, two[0].accumulation
    (True, 1, 2)
    """

    def __init__(
        self,
        *,
        rows: int,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.rows, self.batch_size, self.micro_batch_size = rows, batch_size, micro_batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.lengths = lengths
        self.epoch = 0
        self.counts = True
        """Whether the rows given last belong to this process."""

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return math.ceil(self.rows / self.batch_size)

    @property
    def accumulation(self) -> int:
        """Micro-batches per full step."""
        return self._parts(self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        last = self.rows - (self.steps - 1) * self.batch_size
        return (self.steps - 1) * self.accumulation + self._parts(last)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for start in range(0, self.rows, self.batch_size):
            rows = order[start : start + self.batch_size]
            parts = self._parts(len(rows))
            slots = parts * self.world_size
            for part in range(parts):
                mine = rows[part * self.world_size + self.rank :: slots]
                self.counts = bool(mine)
                yield mine or rows[:1]

    def _parts(self, rows: int) -> int:
        return math.ceil(rows / (self.micro_batch_size * self.world_size))

    def _order(self) -> list[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        if self.lengths is None:
            return [int(i) for i in torch.randperm(self.rows, generator=generator)]
        from transformers.trainer_pt_utils import get_length_grouped_indices

        grouped: Any = get_length_grouped_indices
        return [int(i) for i in grouped(list(self.lengths), self.batch_size, generator=generator)]
