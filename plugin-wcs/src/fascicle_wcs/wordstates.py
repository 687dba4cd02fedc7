"""Hidden states of words in a language model, by layer.

Source: section 1.4 of the method ("encode the words of the dictionary with a hidden layer"), i.e. the paper's `layer_i^X`. The
paper says neither how the tokens of a word are pooled nor what stands around the word: pool and template are options. A token
always stands before the word, because the first position of a decoder attracts attention and its state is far from all others.

Layer 0 is the input of block 0, layer i the output of block i - 1 counted from 0, i.e. of the i-th block. The last layer is the
last block's own output: transformers' `hidden_states[-1]` is that after the final norm. States are read by hooks of our own; a
hook that changes states and was there before is seen.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import StatesError
from .store import WordStore

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Blocks", "Encoded", "encode_spans", "evaluating", "find_blocks", "hidden_of", "state_layers", "states"]

Pool = Literal["mean", "last"]

_COMMIT_ROWS = 512
"""Words between two safe points of a store."""


# ---- the model's blocks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """The blocks of a model in order, and the module that runs all of them from token ids."""

    modules: tuple[nn.Module, ...]
    owner: nn.Module

    def __len__(self) -> int:
        return len(self.modules)


def find_blocks(model: nn.Module) -> Blocks:
    """The list of modules as long as `config.num_hidden_layers`, in any transformers model, wrapped by PEFT or not.

    Raises:
        StatesError: no such list, two of them (encoder-decoders, models that also see), or a PEFT method that adds tokens.

    >>> from fascicle.hf.model_options import Tiny
    >>> from fascicle.hf.tiny import build_tiny
    >>> model, _ = build_tiny(Tiny(architecture="llama", hidden_size=16, layers=3, heads=2), seed=1)
    >>> len(find_blocks(model)), type(find_blocks(model).owner).__name__
    (3, 'LlamaModel')
    """
    from torch.nn import ModuleList
    from transformers import PreTrainedModel

    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise StatesError("model: its adapter adds tokens of its own to the input; expected LoRA or no adapter")
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(layers, int):
        raise StatesError(
            f"model: {type(model).__name__} has no config.num_hidden_layers; expected a transformers model"
        )
    found: dict[str, ModuleList] = {}
    for name, module in model.named_modules():  # outer modules come first
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, ModuleList) and len(module) == layers and not inside:
            found[name] = module
    if len(found) != 1:
        raise StatesError(
            f"model: {type(model).__name__} has {len(found)} lists of {layers} blocks ({', '.join(found) or 'none'}), "
            "expected one; of an encoder-decoder give the encoder, model.get_encoder()"
        )
    ((path, blocks),) = found.items()
    parents = [model.get_submodule(".".join(path.split(".")[:i])) for i in range(len(path.split(".")))]
    owners = [parent for parent in parents if isinstance(parent, PreTrainedModel)]
    if not owners:
        raise StatesError(f"model: the blocks at {path} are part of no transformers model; expected one")
    return Blocks(tuple(blocks), owners[-1])


def state_layers(model: nn.Module) -> tuple[int, ...]:
    """Layers that have states: 0, the input of the first block, to the number of blocks.

    >>> from fascicle.hf.model_options import Tiny
    >>> from fascicle.hf.tiny import build_tiny
    >>> state_layers(build_tiny(Tiny(architecture="bert", hidden_size=16, layers=2, heads=2), seed=1)[0])
    (0, 1, 2)
    """
    return tuple(range(len(find_blocks(model)) + 1))


def hidden_of(output: Any, block: str) -> torch.Tensor:
    """The states (b, s, d) in a block's output, which is a tensor or a tuple that begins with one.

    Raises:
        StatesError: something else.
    """
    from torch import Tensor

    hidden = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        got = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
        raise StatesError(f"model: {block} gave {got}, expected states of shape (batch, tokens, width)")
    return hidden


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; afterwards each module trains or not as before."""
    import torch

    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


# ---- tokens --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a text and where its word stands: tokens start to stop, stop excluded."""

    ids: tuple[int, ...]
    start: int
    stop: int


def encode_spans(
    tokenizer: Any, texts: Sequence[str], spans: Sequence[tuple[int, int]], *, continued: bool = False
) -> list[Encoded]:
    """Tokens of texts, with the special tokens that the tokenizer adds, and the tokens of one word in each.

    A text that begins with its word gets a token before it: the start token, else the end token, else padding.

    Args:
        tokenizer: a fast one of transformers.
        texts: words in them have a space before them, as inside a sentence.
        spans: first and last + 1 character of the word in each text.
        continued: leave out special tokens after the text, since a model is to go on writing there.

    Raises:
        StatesError: a tokenizer that cannot tell where tokens come from, a word without tokens, no token to begin with.

    >>> from fascicle.hf.model_options import Tiny
    >>> from fascicle.hf.tiny import tiny_tokenizer
    >>> encode_spans(tiny_tokenizer(Tiny(architecture="llama")), [" good", "not good"], [(1, 5), (4, 8)])[1].start
    2
    """
    if not getattr(tokenizer, "is_fast", False):
        raise StatesError(
            f"tokenizer: {type(tokenizer).__name__} does not tell which characters a token stands for; expected a fast tokenizer"
        )
    if not texts:
        return []
    read = tokenizer(
        list(texts),
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        truncation=False,
        verbose=False,
    )
    encoded, lost = [], []
    for row, (text, (first, end)) in enumerate(zip(texts, spans, strict=True)):
        ids, offsets, special = read["input_ids"][row], read["offset_mapping"][row], read["special_tokens_mask"][row]
        of_word = [t for t, (a, b) in enumerate(offsets) if not special[t] and max(a, first) < min(b, end)]
        if not of_word:
            lost.append(text[first:end])
            continue
        length = len(ids)
        while continued and special[length - 1]:
            length -= 1
        bare = not text[:first].strip() and not special[0]
        before = [_anchor(tokenizer)] if bare or of_word[0] == 0 else []
        shift = len(before)
        encoded.append(Encoded((*before, *ids[:length]), of_word[0] + shift, of_word[-1] + 1 + shift))
    if lost:
        raise StatesError(f"words: {len(lost)} have no tokens, e.g. {', '.join(map(repr, lost[:5]))}; leave them out")
    return encoded


def _anchor(tokenizer: Any) -> int:
    for name in ("bos", "eos", "cls", "sep", "pad"):
        token = getattr(tokenizer, f"{name}_token_id", None)
        if token is not None:
            return int(token)
    raise StatesError(
        "tokenizer: it has no special token to stand before a word; expected a template with text before {word}"
    )


def _blank(tokenizer: Any) -> str:
    """What to write before a word for its form inside a sentence; some tokenizers put the space there themselves."""
    first = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False)["input_ids"])[0]
    return "" if first.startswith(("▁", "Ġ")) else " "


def _encode_words(tokenizer: Any, words: Sequence[str], template: str | None) -> list[Encoded]:
    before, word, after = ("{word}" if template is None else template).partition("{word}")
    if not word or "{word}" in after:
        raise StatesError(f"template: got {template!r}, expected a text with {{word}} in it once")
    before = before or _blank(tokenizer)
    if any(not w.strip() for w in words):
        raise StatesError(
            f"words: number {next(i for i, w in enumerate(words) if not w.strip())} is blank; leave it out"
        )
    spans = [(len(before), len(before) + len(w)) for w in words]
    return encode_spans(tokenizer, [f"{before}{w}{after}" for w in words], spans)


# ---- states --------------------------------------------------------------------------------------------------------------


def states(
    model: nn.Module,
    tokenizer: Any,
    words: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    pool: Pool = "mean",
    template: str | None = None,
    batch_tokens: int = 4096,
    store: str | os.PathLike[str] | None = None,
    dtype: Literal["float16", "float32"] = "float32",
    fingerprint: str | None = None,
    advance: Callable[[int], object] | None = None,
) -> np.ndarray:
    """States of words, pooled over their tokens in float32; the result does not depend on how words are batched.

    Blocks behind the highest layer asked for are not run.

    Args:
        model: a decoder or an encoder of transformers, also wrapped by PEFT.
        tokenizer: its fast tokenizer.
        words: n words; a word that stands twice is read twice.
        layers: see `state_layers`, in the order of the result; None takes all.
        pool: `mean` of the word's tokens, or the `last` of them, which is what the next token sees.
        template: text with `{word}` in it; None is the bare word in its form inside a sentence.
        batch_tokens: tokens read at once, padding included; a longer text is read alone.
        store: a folder to keep the states in; a run that was killed goes on there.
        dtype: of the result. float16 ends at 65504, which the states of some models exceed.
        fingerprint: of the model, for the store; None computes one from all weights.
        advance: is told, after each batch, of how many words it was.

    Returns:
        (n, len(layers), d); memory-mapped and read-only with `store`.

    Raises:
        StatesError: a model, a tokenizer, words or a folder that do not allow it; a state that is not finite.

    >>> from fascicle.hf.model_options import Tiny
    >>> from fascicle.hf.tiny import build_tiny
    >>> model, tokenizer = build_tiny(Tiny(architecture="llama", hidden_size=16, layers=2, heads=2), seed=1)
    >>> states(model, tokenizer, ["good", "bad"], layers=[0, 2]).shape
    (2, 2, 16)
    """
    blocks = find_blocks(model)
    wanted = tuple(range(len(blocks) + 1)) if layers is None else tuple(layers)
    _check(blocks, wanted, pool, batch_tokens, dtype)
    encoded = _encode_words(tokenizer, words, template)
    _check_lengths(blocks, words, encoded)
    config: Any = blocks.owner.config
    shape = (len(words), len(wanted), int(config.get_text_config().hidden_size))
    # Sorted once, whatever the batch size: the order is what "so many rows are done" refers to.
    order = sorted(range(len(words)), key=lambda row: (len(encoded[row].ids), row))
    kept: WordStore | None = None
    if store is None or not words:
        table = np.zeros(shape, dtype=dtype)
    else:
        kept = WordStore(store, _key(model, words, encoded, wanted, pool, template, fingerprint), shape, dtype)
    done = kept.done if kept else 0
    if advance and done:
        advance(done)
    with evaluating(model):
        while done < len(order):
            rows = _batch(order, done, encoded, batch_tokens)
            values = _pooled(blocks, [encoded[row] for row in rows], wanted, pool, tokenizer)
            _check_values(values, shape[2], [words[row] for row in rows], dtype)
            done += len(rows)
            if kept is None:
                table[rows] = values
            else:
                kept.put(rows, values)
                if done - kept.done >= _COMMIT_ROWS or done == len(order):
                    kept.commit(done)
            if advance:
                advance(len(rows))
    return table if kept is None else kept.view()


def _batch(order: Sequence[int], done: int, encoded: Sequence[Encoded], batch_tokens: int) -> list[int]:
    """The next rows; lengths only grow, so the newest row is the longest."""
    rows = [order[done]]
    for row in order[done + 1 :]:
        if (len(rows) + 1) * len(encoded[row].ids) > batch_tokens:
            break
        rows.append(row)
    return rows


class _EnoughError(Exception):
    """Ends a forward pass behind the last block that is needed."""


def _pooled(blocks: Blocks, rows: Sequence[Encoded], layers: Sequence[int], pool: Pool, tokenizer: Any) -> np.ndarray:
    """States (b, len(layers), d) of one batch, float32."""
    import torch

    width, top = max(len(row.ids) for row in rows), max(layers)
    padding = next((t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if t is not None), 0)
    ids = torch.tensor([[*row.ids, *[padding] * (width - len(row.ids))] for row in rows])
    attention = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows])
    first = [row.stop - 1 if pool == "last" else row.start for row in rows]
    columns = torch.arange(width)
    chosen = (columns >= torch.tensor(first)[:, None]) & (columns < torch.tensor([row.stop for row in rows])[:, None])
    found: dict[int, np.ndarray] = {}
    ran: list[int] = []

    def keep(layer: int, hidden: torch.Tensor) -> None:
        if layer in layers:
            mask = chosen.to(hidden.device)[..., None]  # (b, s, 1)
            # Padding is filled, not multiplied by 0: some kernels leave NaN there.
            total = hidden.float().masked_fill(~mask, 0.0).sum(dim=1)  # (b, d)
            found[layer] = (total / mask.sum(dim=1)).cpu().numpy()
        if layer == top:
            raise _EnoughError

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(0, hidden_of(args[0] if args else kwargs.get("hidden_states"), "the input of block 0"))

    def after(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if ran != list(range(number)):
                raise StatesError(f"model: block {number} ran after {ran}; expected each block once, in their order")
            ran.append(number)
            keep(number + 1, hidden_of(output, f"block {number}"))

        return hook

    owner: Any = blocks.owner
    settings = {"use_cache": False} if "use_cache" in inspect.signature(owner.forward).parameters else {}
    with ExitStack() as hooks:
        hooks.callback(blocks.modules[0].register_forward_pre_hook(before, with_kwargs=True).remove)
        for number in range(top):
            hooks.callback(blocks.modules[number].register_forward_hook(after(number)).remove)
        try:
            owner(input_ids=ids.to(owner.device), attention_mask=attention.to(owner.device), **settings)
        except _EnoughError:
            return np.stack([found[layer] for layer in layers], axis=1)
    raise StatesError(
        f"model: {type(owner).__name__} ran the blocks {ran} only; expected {top} of them, in their order"
    )


def _key(
    model: nn.Module,
    words: Sequence[str],
    encoded: Sequence[Encoded],
    layers: Sequence[int],
    pool: Pool,
    template: str | None,
    fingerprint: str | None,
) -> dict[str, Any]:
    from fascicle.hf.tiny import state_fingerprint

    return {
        "model": fingerprint or state_fingerprint(model),
        "words": _digest(list(words)),
        "layers": list(layers),
        "pool": pool,
        "template": template,
        "tokens": _digest([[row.ids, row.start, row.stop] for row in encoded]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _check(blocks: Blocks, layers: Sequence[int], pool: str, batch_tokens: int, dtype: str) -> None:
    wrong = [layer for layer in layers if not 0 <= layer <= len(blocks)]
    if wrong or not layers or len(set(layers)) < len(layers):
        raise StatesError(f"layers: got {list(layers)}, expected different ones of 0 to {len(blocks)}")
    if pool not in ("mean", "last"):
        raise StatesError(f"pool: got {pool!r}, expected 'mean' or 'last'")
    if dtype not in ("float16", "float32"):
        raise StatesError(f"dtype: got {dtype!r}, expected 'float16' or 'float32'")
    if batch_tokens < 1:
        raise StatesError(f"batch_tokens: got {batch_tokens}, expected at least 1")


def _check_lengths(blocks: Blocks, words: Sequence[str], encoded: Sequence[Encoded]) -> None:
    limit = getattr(blocks.owner.config, "max_position_embeddings", None)
    for word, row in zip(words, encoded, strict=True):
        if isinstance(limit, int) and limit > 0 and len(row.ids) > limit:
            raise StatesError(f"words: {word!r} makes {len(row.ids)} tokens, expected at most {limit}; leave it out")


def _check_values(values: np.ndarray, width: int, words: Sequence[str], dtype: str) -> None:
    if values.shape[2] != width:
        raise StatesError(f"model: its states have {values.shape[2]} numbers, expected config.hidden_size={width}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(dtype)).all(axis=(1, 2))
    if not finite.all():
        raise StatesError(
            f"words: a state of {words[int(np.argmin(finite))]!r} is not finite in {dtype}; "
            "expected dtype='float32', and a model in float32 or bfloat16"
        )
