"""Which tokens count when a module is scored (our choice: padding is masked; the paper does not say).

`g_i` is a sum over the tokens x of the sample. A batch has padding, an encoder-decoder has two lengths, and some
modules see one vector an example. `TokenMasks` knows, for the batch at hand, which rows of `h` are tokens.

Shapes: B batch, L length, n = B·L rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor

from .errors import EnergyError
from .layers import base_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

__all__ = ["IGNORE", "Role", "TokenMasks", "Tokens", "roles"]

Tokens = Literal["all", "labels"]
Role = Literal["encoder", "decoder"]

IGNORE = -100
"""The label that transformers leaves out of the loss."""

_CROSS = re.compile(r"cross|enc_?dec|encoder_att", re.IGNORECASE)
_KEY_VALUE = re.compile(r"^(k|v|kv|key|value|(k|v|kv|key|value)_proj)$")


def roles(model: nn.Module, names: list[str]) -> dict[str, Role]:
    """Whose positions each module sees in an encoder-decoder; empty for every other model.

    Keys and values of cross-attention sit in the decoder and read the encoder.

    Example:
        >>> from torch import nn
        >>> roles(nn.Linear(2, 2), ["q"])
        {}
    """
    base = base_model(model)
    if not getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return {}
    encoder = cast("Any", base).get_encoder()
    inside = {id(m) for m in encoder.modules()} if encoder is not base else set()
    found: dict[str, Role] = {}
    for name in names:
        *path, last = name.split(".")
        reads_encoder = bool(_KEY_VALUE.match(last)) and any(_CROSS.search(part) for part in path)
        found[name] = "encoder" if reads_encoder or id(base.get_submodule(name)) in inside else "decoder"
    return found


class TokenMasks:
    """The masks of one batch.

    Args:
        arguments: what the model was called with (`attention_mask`, `labels`, `decoder_attention_mask`).
        tokens: "all" counts every position that is not padding. "labels" counts positions whose *own* label is not
            -100; in a causal model position t predicts t + 1, so these are the answer's tokens, not the positions
            that predict them. In an encoder-decoder "labels" concerns the decoder; the encoder counts all.
        encoder_decoder: whether there are two lengths.
        mismatch: what to do with a module whose rows are not the batch's tokens: "raise", or "count" them all.

    Raises:
        EnergyError: `tokens="labels"` without token labels, or a mask that is not one number a token.
    """

    def __init__(self, arguments: Mapping[str, Any], tokens: Tokens, encoder_decoder: bool, mismatch: str) -> None:
        self.mismatch = mismatch
        attention = _token_mask(arguments.get("attention_mask"), "attention_mask")
        labels = arguments.get("labels")
        self.by_role: dict[Role, Tensor | None] = {"encoder": attention, "decoder": attention}
        if encoder_decoder:
            self.by_role["decoder"] = _decoder_mask(arguments, labels)
        elif tokens == "labels":
            self.by_role["encoder"] = self.by_role["decoder"] = _labelled(labels, attention)
        if encoder_decoder and tokens == "labels":
            self.by_role["decoder"] = _labelled(labels, self.by_role["decoder"])
        self._cache: dict[tuple[Role | None, torch.Size, torch.device], tuple[Tensor | None, Tensor | int]] = {}

    def rows(self, name: str, role: Role | None, shape: torch.Size, device: torch.device) -> Any:
        """Which of the rows of `h` (leading `shape`) are padding, and how many are not.

        Returns:
            `(padding, count)`: a bool column (n, 1), True where the row must not count, or None where all count; and
            the number of counting rows, a 0-dim tensor (no host sync) or an int.
        """
        key = (role, shape, device)
        if key not in self._cache:
            mask = self._find(name, role, shape)
            if mask is None:
                self._cache[key] = (None, shape.numel())
            else:
                flat = mask.reshape(-1, 1).to(device)
                self._cache[key] = (~flat, flat.sum())
        return self._cache[key]

    def _find(self, name: str, role: Role | None, shape: torch.Size) -> Tensor | None:
        mine = self.by_role[role or "decoder"]
        if mine is None or _fits(mine, shape):
            return mine
        if len(shape) == 1 and shape[0] == mine.shape[0]:
            return None  # one pooled vector an example: nothing to mask
        other = self.by_role["encoder" if role == "decoder" else "decoder"]
        if role is not None and other is not None and _fits(other, shape):
            return other  # a cross-attention whose name we do not know: the length says whom it reads
        if self.mismatch == "count" or bool(mine.all()):
            return None  # without padding every row is a token, however the rows are dispatched
        raise EnergyError(
            f"{name!r} sees rows of shape {tuple(shape)}, but the batch has tokens of shape {tuple(mine.shape)} and "
            "padding among them (tokens dispatched to experts?); score without padding (batches of one length), or "
            "pass mismatch='count' to count every row"
        )


def _fits(mask: Tensor, shape: torch.Size) -> bool:
    """(B, L) or a flattened (B·L,); a flattened shape is accepted only where it cannot mean one vector an example."""
    return shape == mask.shape or (len(shape) == 1 and shape[0] == mask.numel() and mask.shape[1] > 1)


def _token_mask(mask: Any, name: str) -> Tensor | None:
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 3):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise EnergyError(
            f"{name} must have shape (B, L), one number a token, got {shape}; call meter.batch(attention_mask=...) "
            "before the forward"
        )
    return mask.reshape(-1, mask.shape[-1]).bool()  # (B, C, L) of multiple choice → (B·C, L)


def _labelled(labels: Any, mask: Tensor | None) -> Tensor:
    if not isinstance(labels, Tensor) or labels.dim() != 2:
        shape = tuple(labels.shape) if isinstance(labels, Tensor) else None
        raise EnergyError(
            f"tokens='labels' needs labels of shape (B, L), got {shape}; use tokens='all' for a task with one label "
            "an example"
        )
    keep = labels != IGNORE
    return keep if mask is None else keep & mask


def _decoder_mask(arguments: Mapping[str, Any], labels: Any) -> Tensor | None:
    given = _token_mask(arguments.get("decoder_attention_mask"), "decoder_attention_mask")
    if given is None and isinstance(labels, Tensor) and labels.dim() == 2:
        return labels != IGNORE
    return given
