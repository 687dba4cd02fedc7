"""The draft as a tree: the draft model's chain (trunk) and phrases of the pool that lengthen it.

The paper verifies K suffixes side by side. Merging their shared beginnings into a trie is our choice: it feeds fewer tokens, and
sampling needs it (one draw for each node, however many phrases pass through it).

Node 0 is the root, the last token of the text. Nodes are numbered in the order in which they are fed; a parent comes before its
children, so any first part of the numbering is a tree as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
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
        return self.parents == list(range(len(self.parents)))

    def child(self, node: int, token: int) -> int | None:
        """The node that continues `node` with `token`."""
        return self._children[node].get(token)

    def extend(
        self, node: int, tokens: Sequence[int], source: str, *, nodes: int | None = None, depth: int | None = None
    ) -> list[int]:
        """Continue `node` with `tokens`, reusing what is there, and return the nodes of this path.

        The path ends early where the tree would exceed `nodes` nodes or `depth` tokens after the root.
        """
        children, at = self._children, self.depth(node)
        path: list[int] = []
        for token in tokens:
            at += 1
            below = children[node].get(token)
            if below is None:
                size = len(self.tokens)
                if (nodes is not None and size >= nodes) or (depth is not None and at > depth):
                    break
                below = children[node][token] = size + 1
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(at)
                self.sources.append(source)
                children.append({})
            node = below
            path.append(node)
        return path

    def depth(self, node: int) -> int:
        """Tokens from the root to `node`."""
        return 0 if node == ROOT else self.depths[node - 1]

    def visible(self, past: int, unread: int) -> Tensor:
        """(unread + n, past + unread + n) bool: what a pass over `unread` tokens and this tree sees behind `past` tokens.

        A token of the text sees the text up to itself; a node sees the whole text, its ancestors and itself.

        Example:
            >>> tree = DraftTree()
            >>> _ = tree.extend(ROOT, [5, 6], "draft"), tree.extend(ROOT, [7], "prompt")
            >>> tree.visible(past=1, unread=1).int().tolist()
            [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
        """
        text, width = past + unread, past + unread + len(self)
        # Rows of bytes in one buffer: each node's is its parent's and itself. Tensor operations take four times as long.
        rows: list[bytes | bytearray] = [
            b"\1" * (text - left) + bytes(width - text + left) for left in range(unread - 1, -1, -1)
        ]
        for at, parent in enumerate(self.parents, text):
            row = bytearray(rows[unread - 1 + parent])
            row[at] = 1
            rows.append(row)
        return torch.from_numpy(np.ndarray((len(rows), width), np.bool_, bytearray().join(rows)))
