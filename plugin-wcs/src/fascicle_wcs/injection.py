"""The map inside the network: states of the prompt are mapped after one block, and the network goes on from there.

Source: section 1.4 of the method, WCS inference: run the blocks 1 to i, multiply the state by W, feed block i + 1, generate. The
paper does not say which positions are mapped, nor anything of means and lengths: scope, means and `keep_norm` are our choice.

Which positions belong to the prompt is decided by their place in the sequence, never by how many tokens a call brings: a prompt
may be read in chunks, and assisted decoding reads several tokens of an answer at once. A cache that was filled with a map must
only be used with the same map.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import StatesError
from .wordstates import find_blocks, hidden_of

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Injection", "Scope", "inject"]

Scope = Literal["word", "last", "all"]


class Injection:
    """What `inject` yields: it must be told of the prompts before the model reads them."""

    def __init__(
        self,
        width: int,
        W: np.ndarray,
        mean_source: np.ndarray | None,
        mean_target: np.ndarray | None,
        scope: Scope,
        keep_norm: bool,
    ) -> None:
        if scope not in ("word", "last", "all"):
            raise StatesError(f"scope: got {scope!r}, expected 'word', 'last' or 'all'")
        self.scope: Scope = scope
        self.keep_norm = keep_norm
        self._W = _array("W", W, (width, width))
        self._means = tuple(
            _array(name, np.zeros(width) if mean is None else mean, (width,))
            for name, mean in (("mean_source", mean_source), ("mean_target", mean_target))
        )
        self._place: tuple[torch.dtype, torch.device] | None = None
        self._tensors: list[torch.Tensor] = []
        self._chosen: torch.Tensor | None = None
        self._past = 0
        self._seen = 0

    def prompts(self, attention_mask: torch.Tensor, spans: Sequence[tuple[int, int]] | None = None) -> None:
        """Say which prompts the model reads from now on, once for each batch.

        Args:
            attention_mask: (b, s) of the padded prompts, before any token is generated.
            spans: first and last + 1 token of each prompt's word, counted without padding; for the scope `word`.

        Raises:
            StatesError: a mask of another shape, spans that are missing or outside of their prompts, an empty prompt.
        """
        mask = attention_mask.detach().to("cpu").bool()
        if mask.ndim != 2 or not mask.any(dim=1).all():
            raise StatesError(
                f"attention_mask: got shape {tuple(mask.shape)}, expected (prompts, tokens) and a token in each prompt"
            )
        order = mask.cumsum(dim=1) - 1  # a token's number in its prompt, wherever the padding is
        if self.scope == "all":
            chosen = mask
        elif self.scope == "last":
            chosen = mask & (order == order[:, -1:])
        else:
            first, stop = self._columns(mask, spans)
            chosen = mask & (order >= first) & (order < stop)
        self._chosen = chosen
        self._seen = 0

    def _columns(
        self, mask: torch.Tensor, spans: Sequence[tuple[int, int]] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        lengths = mask.sum(dim=1).tolist()
        if spans is None or len(spans) != len(lengths):
            raise StatesError(
                f"spans: got {'none' if spans is None else len(spans)}, expected one for each of {len(lengths)} prompts"
            )
        for row, ((first, stop), length) in enumerate(zip(spans, lengths, strict=True)):
            if not 0 <= first < stop <= length:
                raise StatesError(f"spans: number {row} is {(first, stop)}, expected tokens of a prompt of {length}")
        both = torch.tensor([list(span) for span in spans])
        return both[:, :1], both[:, 1:]

    def _begin(self, cache: Any) -> None:
        """A forward pass begins; the cache holds what was read before it."""
        self._past = 0 if cache is None else int(cache.get_seq_length())

    def _apply(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """The block's output with the prompt's positions mapped; None where this call holds none of them."""
        if self._chosen is None:
            raise StatesError(
                "inject: no prompts are known; call prompts(attention_mask, spans) before the model reads them"
            )
        rows, new = hidden.shape[:2]
        if rows % len(self._chosen):
            raise StatesError(
                f"inject: the model reads {rows} rows, expected a multiple of {len(self._chosen)} prompts"
            )
        if self._chosen[:, self._seen : self._past].any():
            raise StatesError(
                f"inject: the cache holds {self._past} tokens that were read without this map; expected an empty one"
            )
        self._seen = max(self._seen, self._past + new)
        chosen = self._chosen[:, self._past : self._past + new]
        if not chosen.any():
            return None
        import torch

        # Beams of a prompt stand beside each other; what is behind the prompt is left alone.
        chosen = torch.nn.functional.pad(chosen, (0, new - chosen.shape[1])).repeat_interleave(
            rows // len(self._chosen), dim=0
        )
        mapped = hidden.clone()
        chosen = chosen.to(hidden.device)
        mapped[chosen] = self._mapped(hidden[chosen])
        return mapped

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        """x' = (x - mu_s) W + mu_t, rows (k, d); with `keep_norm` of x / |x|, and x' gets the length of x."""
        import torch

        if self._place != (x.dtype, x.device):
            self._place = x.dtype, x.device
            self._tensors = [torch.tensor(a, dtype=x.dtype, device=x.device) for a in (self._W, *self._means)]
        W, mu_s, mu_t = self._tensors
        tiny = torch.finfo(x.dtype).tiny
        # In float32: the squares of large states exceed float16.
        length = x.float().norm(dim=-1, keepdim=True).to(x.dtype)
        out = x / length.clamp_min(tiny) if self.keep_norm else x
        out = (out - mu_s) @ W + mu_t
        return out * (length / out.norm(dim=-1, keepdim=True).clamp_min(tiny)) if self.keep_norm else out


@contextmanager
def inject(
    model: nn.Module,
    layer: int,
    W: np.ndarray,
    *,
    mean_source: np.ndarray | None = None,
    mean_target: np.ndarray | None = None,
    scope: Scope = "word",
    keep_norm: bool = False,
    attention_mask: torch.Tensor | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
) -> Iterator[Injection]:
    """Inside, states of a prompt after block `layer` become `x' = (x - mu_s) W + mu_t`; outside, the model is as before.

    Args:
        model: a decoder or encoder of transformers, also wrapped by PEFT.
        layer: 1 to the number of blocks - 1; behind the last block nothing would read the states.
        W: (d, d), row convention; used in the model's dtype.
        mean_source: (d,) mu_s; None is 0.
        mean_target: (d,) mu_t; None is 0.
        scope: `word`: the word's tokens; `last`: the prompt's last token; `all`: the prompt without its padding. Tokens that are
            generated are never mapped.
        keep_norm: map x / |x|, for which the means then are, and give the result the length of x.
        attention_mask: of the prompts, where they are known already; else call `prompts` inside.
        spans: as in `Injection.prompts`.

    Raises:
        StatesError: a layer or shapes that do not fit; inside, a forward pass before the prompts are known, with other rows than
            they have, or with a cache that was filled without the map.

    >>> import torch
    >>> from fascicle.hf.model_options import Tiny
    >>> from fascicle.hf.tiny import build_tiny
    >>> model, _ = build_tiny(Tiny(architecture="llama", hidden_size=16, layers=2, heads=2), seed=1)
    >>> ids = torch.tensor([[1, 7, 8, 9]])
    >>> plain = model(ids).logits
    >>> with inject(model, 1, -np.eye(16), scope="word", attention_mask=torch.ones(1, 4), spans=[(2, 3)]):
    ...     mapped = model(ids).logits
    >>> [bool(torch.allclose(plain[0, t], mapped[0, t])) for t in range(4)]
    [True, True, False, False]
    """
    blocks = find_blocks(model)
    if not 1 <= layer < len(blocks):
        raise StatesError(f"layer: got {layer}, expected 1 to {len(blocks) - 1}, so that a block follows")
    config: Any = blocks.owner.config
    width = int(config.get_text_config().hidden_size)
    injection = Injection(width, W, mean_source, mean_target, scope, keep_norm)
    if attention_mask is not None:
        injection.prompts(attention_mask, spans)
    elif spans is not None:
        raise StatesError(
            "spans: given without attention_mask, which says where the padding is; expected both or neither"
        )
    signature = inspect.signature(blocks.owner.forward)

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        injection._begin(signature.bind_partial(*args, **kwargs).arguments.get("past_key_values"))

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        mapped = injection._apply(hidden_of(output, f"block {layer - 1}"))
        if mapped is None:
            return None  # leaves the output as it is
        return type(output)((mapped, *output[1:])) if isinstance(output, tuple | list) else mapped

    with ExitStack() as hooks:
        hooks.callback(blocks.owner.register_forward_pre_hook(begin, with_kwargs=True).remove)
        hooks.callback(blocks.modules[layer - 1].register_forward_hook(after).remove)
        yield injection


def _array(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(given, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise StatesError(
            f"{name}: got shape {array.shape}, expected {shape} and finite numbers, the width of the model"
        )
    return array
