"""The draft as a tree: the draft model's chain (trunk) and phrases of the pool that lengthen it.

The paper verifies K suffixes side by side. Merging their shared beginnings into a trie is our choice: it feeds fewer tokens, and
sampling needs it (one draw for each node, however many phrases pass through it).

Node 0 is the root, the last token of the text. Nodes are numbered in the order in which they are fed; a parent comes before its
children, so any first part of the numbering is a tree as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ROOT", "DraftTree"]

ROOT = 0
"""The last token of the text: its logits choose the next one."""


class DraftTree:
    """Drafted tokens that one forward pass verifies.

    Example:
        >>> tree = DraftTree()
        >>> trunk = tree.extend(ROOT, [5, 6], "draft")
        >>> tree.extend(trunk[-1], [7, 8], "prompt"), tree.extend(trunk[-1], [7, 9], "output")
        ([3, 4], [3, 5])
        >>> tree.tokens, tree.parents, tree.is_chain
        ([5, 6, 7, 8, 9], [0, 1, 2, 3, 3], False)
        >>> tree.child(3, 9), tree.child(3, 5)
        (5, None)
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        """Token of node i at index i - 1; so are `parents`, `depths` and `sources`."""
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.sources: list[str] = []
        self._children: list[dict[int, int]] = [{}]

    def __len__(self) -> int:
        """Nodes without the root."""
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether every node follows the one before it."""
        return all(parent == i for i, parent in enumerate(self.parents))

    def child(self, node: int, token: int) -> int | None:
        """The node that continues `node` with `token`."""
        return self._children[node].get(token)

    def extend(
        self, node: int, tokens: Sequence[int], source: str, *, nodes: int | None = None, depth: int | None = None
    ) -> list[int]:
        """Continue `node` with `tokens`, reusing what is there, and return the nodes of this path.

        The path ends early where the tree would exceed `nodes` nodes or `depth` tokens after the root.
        """
        path: list[int] = []
        for token in tokens:
            below = self._children[node].get(token)
            if below is None:
                at = self.depth(node) + 1
                if (nodes is not None and len(self) >= nodes) or (depth is not None and at > depth):
                    break
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(at)
                self.sources.append(source)
                self._children.append({})
                below = self._children[node][token] = len(self)
            node = below
            path.append(node)
        return path

    def depth(self, node: int) -> int:
        """Tokens from the root to `node`."""
        return 0 if node == ROOT else self.depths[node - 1]

    def ancestors(self, device: torch.device | str = "cpu") -> Tensor:
        """(n, n) bool: row i sees column j where node j lies on the path from the root to node i, itself included.

        Example:
            >>> tree = DraftTree()
            >>> _ = tree.extend(ROOT, [5, 6], "draft"), tree.extend(ROOT, [7], "prompt")
            >>> tree.ancestors().int().tolist()
            [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
        """
        n = len(self)
        if n == 0:
            return torch.zeros(0, 0, dtype=torch.bool, device=device)
        rows: list[bytearray] = []
        for i, parent in enumerate(self.parents):
            row = bytearray(n) if parent == ROOT else bytearray(rows[parent - 1])
            row[i] = 1
            rows.append(row)
        buffer = bytearray().join(rows)  # one buffer: a tensor of nested lists takes seven times as long
        return torch.frombuffer(buffer, dtype=torch.bool).reshape(n, n).to(device)
