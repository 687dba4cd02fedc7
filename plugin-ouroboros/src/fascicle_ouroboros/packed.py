"""Several texts in one forward pass: packed one behind the other, without padding, and each sees itself alone.

Rows of a batch accept drafts of different length, and draft trees of different size. Padding both to the largest wastes most of a
pass, so the keys and values of all rows lie in one sequence here, in the order in which they became text, and a mask says which
column belongs to which row. Ours; the paper's code decodes one text at a time.

    pack = Packed(model, verification(model))
    rows = [pack.row(), pack.row()]
    logits = pack.forward([(rows[0], [1, 2], tree), (rows[1], [3], other)])
    rows[0].keep(path)

Attention pays for what others have written (a row's scores over their columns are computed and masked), so packs should be small:
eight texts or so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from . import cache as kv
from .state import ModelState, masks
from .tree import DraftTree

if TYPE_CHECKING:
    from torch import Tensor

    from .state import Verification

__all__ = ["Packed", "PackedRow"]

NOBODY = -1
"""Owner of a column whose text was taken back."""
LEAST_WASTE = 256
"""Columns of nobody below which moving the others together is not worth it."""


class Packed:
    """A model, and what it has read of several texts.

    Args:
        model: a causal language model.
        how: its `Verification`, which must be `tree`.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from fascicle_ouroboros.state import Verification
        >>> net = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2, n_positions=32)).eval()
        >>> pack = Packed(net, Verification("tree", "one"))
        >>> one, two = pack.row(), pack.row()
        >>> [tuple(rows.shape) for rows in pack.forward([(one, [1, 2], DraftTree()), (two, [3], DraftTree())])]
        [(1, 16), (1, 16)]
        >>> one.keep([]), two.keep([])
        (None, None)
        >>> one.cached, two.cached
        ([1, 2], [3])
    """

    def __init__(self, model: Any, how: Verification) -> None:
        self.model, self.how = model, how
        self.device: torch.device = next(model.parameters()).device
        self.cache = kv.new_cache()
        self.forwards = 0
        """Passes of the model, those that read one prompt alone included."""
        self._columns = 0
        self._owner = self._tensor([])  # (S,) the row that a column belongs to
        self._step = self._tensor([])  # (S,) its place in that row's text
        self._dead = 0
        self._rows: list[PackedRow] = []
        self._open: list[tuple[PackedRow, int]] = []  # rows of the last pass, and where each one's part begins

    def row(self, positions: Sequence[int] = ()) -> PackedRow:
        """A new, empty text; `positions` as in `ModelState`."""
        self._rows.append(PackedRow(self, len(self._rows), positions))
        return self._rows[-1]

    @torch.no_grad()
    def forward(self, asked: Sequence[tuple[PackedRow, Sequence[int], DraftTree]]) -> list[Tensor]:
        """Read on in several texts at once; each row must have said by `keep` what became of its last pass.

        A row's first tokens, its prompt, are read alone, with the model's own mask.

        Args:
            asked: row, its unread tokens (at least one), and the tree behind them.

        Returns:
            for each the logits (1 + n, V): row 0 follows the last unread token, row i node i.
        """
        self._settle()
        together = [(row, list(unread), tree) for row, unread, tree in asked if row.started]
        alone = {id(row): row.read_alone(unread, tree) for row, unread, tree in asked if not row.started}
        self.forwards += len(alone)
        packed = iter(self._read(together)) if together else iter(())
        return [alone[id(row)] if id(row) in alone else next(packed) for row, _, _ in asked]

    def repeat(self, times: int) -> None:
        """Hold what all texts have read so often over; see `ModelState.repeat`."""
        self._settle()
        kv.repeat(self.cache, times)
        once = self._columns
        lengths = self._tensor([len(row.cached) for row in self._rows])
        steps = [self._step + turn * lengths[self._owner] for turn in range(times)]
        self._owner, self._step = self._owner.repeat(times), torch.cat(steps)
        self._columns = len(self._owner)
        for row in self._rows:
            row.columns = [column + turn * once for turn in range(times) for column in row.columns]
            row.cached *= times

    def _read(self, asked: list[tuple[PackedRow, list[int], DraftTree]]) -> list[Tensor]:
        tokens: list[int] = []
        owner: list[int] = []
        steps: list[int] = []
        positions: list[int] = []
        begins: list[int] = []
        for row, unread, tree in asked:
            past, u = len(row.cached), len(unread)
            begins.append(len(tokens))
            at = [*range(past, past + u), *(past + u - 1 + depth for depth in tree.depths)]
            tokens += [*unread, *tree.tokens]
            owner += [row.index] * len(at)
            steps += at
            positions += [row.position(step) for step in at]
            row.begin(unread, tree)
            row.fed += len(at)
            row.forwards += 1
        owns, step = self._tensor(owner), self._tensor(steps)
        sees = torch.cat([self._owner, owns])[None] == owns[:, None]  # (Q, S + Q)
        for begin, (_, unread, tree) in zip(begins, asked, strict=True):
            own = tree.visible(0, len(unread))  # (q, q)
            end = begin + len(own)
            sees[begin:end, self._columns + begin : self._columns + end] = own.to(self.device)
        logits = self.model(
            input_ids=self._tensor(tokens)[None],
            position_ids=self._tensor(positions)[None],
            attention_mask=masks(self.model, self.how, sees, step, torch.cat([self._step, step])),
            past_key_values=self.cache,
            use_cache=True,
            return_dict=True,
        ).logits[0]
        self.forwards += 1
        self._open = [(row, begin) for begin, (row, _, _) in zip(begins, asked, strict=True)]
        ends = [*begins[1:], len(tokens)]
        return [
            logits[begin + len(unread) - 1 : end]
            for begin, end, (_, unread, _) in zip(begins, ends, asked, strict=True)
        ]

    def _settle(self) -> None:
        """Carry out what the rows decided since the last pass: what was kept moves together, the rest is forgotten."""
        kept: list[int] = []
        owner: list[int] = []
        steps: list[int] = []
        for row, begin in self._open:
            first = len(row.columns)
            for i, index in enumerate(row.pending):
                row.columns.append(self._columns + len(kept))
                kept.append(begin + index)
                owner.append(row.index)
                steps.append(first + i)
            row.pending = []
        if self._open:
            kv.keep(self.cache, self._columns, kept)
            self._append(owner, steps)
        self._open = []
        for row in self._rows:
            if row.alone is not None and row.alone.cached and not row.closed:
                self._take_in(row, row.alone)
                row.alone = None
        gone = [column for row in self._rows for column in row.gone]
        if gone:
            self._owner[self._tensor(gone)] = NOBODY
            self._dead += len(gone)
            for row in self._rows:
                row.gone = []
        if self._dead > max(LEAST_WASTE, self._columns - self._dead):
            self._compact()

    def _take_in(self, row: PackedRow, alone: ModelState) -> None:
        """Append what a row has read alone."""
        length = len(alone.cached)
        layers: list[Any] = list(alone.cache.layers)
        for index, layer in enumerate(layers):
            self.cache.update(layer.keys[..., :length, :], layer.values[..., :length, :], index)
        row.columns = list(range(self._columns, self._columns + length))
        self._append([row.index] * length, list(range(length)))

    def _append(self, owner: list[int], steps: list[int]) -> None:
        self._owner = torch.cat([self._owner, self._tensor(owner)])
        self._step = torch.cat([self._step, self._tensor(steps)])
        self._columns = len(self._owner)

    def _compact(self) -> None:
        live = (self._owner != NOBODY).nonzero()[:, 0]  # (S',)
        kv.keep(self.cache, 0, live.tolist())
        moved = {old: new for new, old in enumerate(live.tolist())}
        for row in self._rows:
            row.columns = [moved[column] for column in row.columns]
        self._owner, self._step = self._owner[live], self._step[live]
        self._columns, self._dead = len(live), 0

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)


class PackedRow:
    """One text of a [`Packed`], with the face of a `ModelState`; the passes are the pack's."""

    def __init__(self, pack: Packed, index: int, positions: Sequence[int]) -> None:
        self.pack, self.index, self.how, self.device = pack, index, pack.how, pack.device
        self.cached: list[int] = []
        self.forwards = self.fed = 0
        self.alone: ModelState | None = ModelState(pack.model, pack.how, positions)
        self.columns: list[int] = []
        self.pending: list[int] = []
        self.gone: list[int] = []
        self.closed = False
        self.position = self.alone.position
        self._fed: tuple[list[int], DraftTree] = ([], DraftTree())

    @property
    def started(self) -> bool:
        """Whether its prompt was read, and lies in the pack from the next pass on."""
        return self.alone is None

    def read_alone(self, unread: Sequence[int], tree: DraftTree) -> Tensor:
        """The first pass."""
        assert self.alone is not None
        rows = self.alone.forward(unread, tree)
        self.forwards, self.fed = self.alone.forwards, self.alone.fed
        return rows

    def begin(self, unread: list[int], tree: DraftTree) -> None:
        """Remember what is fed."""
        self._fed = unread, tree

    def keep(self, path: Sequence[int]) -> None:
        """See `ModelState.keep`."""
        if self.alone is not None:
            self.alone.keep(path)
            self.cached = self.alone.cached
            return
        unread, tree = self._fed
        u = len(unread)
        self.pending = [*range(u), *(u + node - 1 for node in path)]
        self.cached += [*unread, *(tree.tokens[node - 1] for node in path)]
        self._fed = [], DraftTree()

    def rollback(self, length: int) -> None:
        """See `ModelState.rollback`."""
        if length >= len(self.cached):
            return
        if self.alone is not None:
            self.alone.rollback(length)
            return
        del self.cached[length:]
        del self.pending[max(0, length - len(self.columns)) :]
        self.gone += self.columns[length:]
        del self.columns[length:]

    def close(self) -> None:
        """The text is written: its columns are free."""
        self.pending, self.closed, self.alone = [], True, None
        self.gone += self.columns
        self.columns = []
