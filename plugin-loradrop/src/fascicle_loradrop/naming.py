"""Weight types and layers read off module names (our choice, the paper does not say).

The paper compares "layers" and speaks of weight types (query, value, ...) without defining them for an arbitrary
network. We read both off the dotted name: the *layer* is everything up to the first number, the *type* is the name
with its numbers blotted out, shortened by what all names have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["layer_of", "module_types"]


def layer_of(name: str) -> str:
    """The block a module belongs to: its name up to the first number; "" where there is none.

    Example:
        >>> layer_of("bert.encoder.layer.3.attention.self.query")
        'bert.encoder.layer.3'
        >>> layer_of("pooler.dense")
        ''
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return ""


def module_types(names: Sequence[str]) -> tuple[str, ...]:
    """One weight type a name: numbers become `*`, and the leading part that all names share is cut.

    Encoder and decoder stay apart, and so do self- and cross-attention, because their paths differ.

    Example:
        >>> module_types(["m.layers.0.self_attn.q_proj", "m.layers.1.self_attn.q_proj", "m.layers.0.mlp.up_proj"])
        ('self_attn.q_proj', 'self_attn.q_proj', 'mlp.up_proj')
        >>> module_types(["encoder.block.0.k", "decoder.block.0.k"])
        ('encoder.block.*.k', 'decoder.block.*.k')
    """
    patterns = [tuple("*" if part.isdigit() else part for part in name.split(".")) for name in names]
    if not patterns:
        return ()
    shared = 0
    while all(len(p) > shared + 1 and p[shared] == patterns[0][shared] for p in patterns):
        shared += 1
    # cut at a number only: "attention.query" and "attention.key" keep the word they share
    cut = max((i + 1 for i in range(shared) if patterns[0][i] == "*"), default=0)
    return tuple(".".join(p[cut:]) for p in patterns)
