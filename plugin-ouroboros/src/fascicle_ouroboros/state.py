"""A model, its cache and its masks: one forward pass verifies a whole tree (the paper's parallel verification).

A node stands at the position of the last token plus its depth, and sees the text and its own ancestors. How a model wants this
said differs: a boolean or an additive mask, one mask or one for each kind of layer. [`verification`] finds out by trying: the
logits of a tree must equal those of its branches fed one by one. A model that fails keeps the chain, or plain decoding.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from . import cache as kv
from .tree import ROOT, DraftTree

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ModelState", "Verification", "masks", "verification"]

_PREFIX, _WINDOW = 7, 4
_TESTED: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], Verification]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Verification:
    """What a model can verify in one forward pass, and how its mask is given.

    Example:
        >>> Verification("chain").mask
        'none'
    """

    mode: Literal["tree", "chain", "plain"]
    """`tree`: branches side by side; `chain`: one continuation; `plain`: one token."""
    mask: Literal["none", "one", "windowed", "by_layer"] = "none"
    """`none`: the model's own causal mask; `one`: our mask; `windowed`: our mask with the sliding window; `by_layer`: both, by
    the layer's type."""
    reason: str = ""
    """Why it is not more."""


class ModelState:
    """A model and what it has read.

    The text it has read is `cached`; [`forward`] reads on, [`keep`] decides which of the drafted tokens become text.

    Args:
        model: a causal language model.
        how: its [`Verification`].
        positions: positions of the first tokens where they are not 0, 1, 2, ...; later ones count on.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> net = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2, n_positions=32)).eval()
        >>> state = ModelState(net, Verification("tree", "one"))
        >>> tree = DraftTree()
        >>> path = tree.extend(ROOT, [3, 4], "draft")
        >>> state.forward([1, 2], tree).shape
        torch.Size([3, 16])
        >>> state.keep(path[:1])
        >>> state.cached
        [1, 2, 3]
    """

    def __init__(self, model: Any, how: Verification, positions: Sequence[int] = ()) -> None:
        self.model, self.how = model, how
        self.cache = kv.new_cache()
        self.cached: list[int] = []
        self.forwards = self.fed = 0
        self._given = list(positions)
        self._fed: tuple[list[int], DraftTree] = ([], DraftTree())
        accepts = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepts
        self._takes_logits = "logits_to_keep" in accepts
        self.device: torch.device = next(model.parameters()).device

    def resume(self, cache: Any, tokens: Sequence[int]) -> None:
        """Start from another cache, which has read a first part of `tokens`."""
        length = cache.get_seq_length()
        kv.read(cache, self.cache, length)
        self.cached = list(tokens[:length])

    @torch.no_grad()
    def forward(self, unread: Sequence[int], tree: DraftTree) -> Tensor:
        """Read `unread` (u >= 1 tokens) and the tree behind it.

        Returns:
            logits (1 + n, V): row 0 follows the last token of `unread`, row i follows node i.
        """
        u, n, past = len(unread), len(tree), len(self.cached)
        steps = [*range(past, past + u), *(past + u - 1 + depth for depth in tree.depths)]
        more: dict[str, Any] = {}
        if self._takes_positions:
            more["position_ids"] = self._tensor([self.position(step) for step in steps])
        if self._takes_logits:
            more["logits_to_keep"] = 1 + n
        if not tree.is_chain:
            more["attention_mask"] = self._masks(steps, u, tree)
        ids = self._tensor([*unread, *tree.tokens])
        logits = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, return_dict=True, **more).logits
        self._fed = list(unread), tree
        self.forwards += 1
        self.fed += u + n
        rows: Tensor = logits[0, -(1 + n) :]
        return rows

    def keep(self, path: Sequence[int]) -> None:
        """The nodes of `path`, a path from the root, are text now; forget the others."""
        unread, tree = self._fed
        u = len(unread)
        kv.keep(self.cache, len(self.cached), [*range(u), *(u + node - 1 for node in path)])
        self.cached += [*unread, *(tree.tokens[node - 1] for node in path)]
        self._fed = [], DraftTree()

    def repeat(self, times: int) -> None:
        """Hold what was read so often over: a long text for timing, without reading one."""
        kv.repeat(self.cache, times)
        self.cached *= times

    def rollback(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        if length < len(self.cached):
            kv.rollback(self.cache, length)
            del self.cached[length:]

    def position(self, step: int) -> int:
        """Position of the token at a place of the text."""
        given = self._given
        return given[step] if step < len(given) else (given[-1] - len(given) + 1 if given else 0) + step

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor([values], dtype=torch.long, device=self.device)

    def _masks(self, steps: list[int], u: int, tree: DraftTree) -> Any:
        past = len(self.cached)
        sees = tree.visible(past, u).to(self.device)  # (q, L)
        if self.how.mask == "one":
            return _given_as_wanted(self.model, sees)
        rows = torch.tensor(steps, device=self.device)
        return masks(self.model, self.how, sees, rows, torch.cat([torch.arange(past, device=self.device), rows]))


def masks(model: Any, how: Verification, sees: Tensor, rows: Tensor, columns: Tensor) -> Any:
    """What tokens see, in the form in which the model takes it.

    Args:
        model: a causal language model.
        how: its [`Verification`].
        sees: (q, L) bool, without regard to sliding windows.
        rows: (q,) places in the text of the tokens that are fed.
        columns: (L,) places of those that can be seen.
    """
    if how.mask == "one":
        return _given_as_wanted(model, sees)
    windowed = sees & (rows[:, None] - columns[None, :] < _window(model))
    if how.mask == "windowed":
        return _given_as_wanted(model, windowed)
    return {"full_attention": _given_as_wanted(model, sees), "sliding_attention": _given_as_wanted(model, windowed)}


def _given_as_wanted(model: Any, sees: Tensor) -> Tensor:
    """(1, 1, q, L): boolean for sdpa; additive for the others, which add whatever comes to the scores."""
    sees = sees[None, None]
    if _attention(model) == "sdpa":
        return sees
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, torch.finfo(dtype).min)


def verification(model: Any) -> Verification:
    """Find out what `model` can verify, by comparing its logits with those of the plain forward pass. Remembered per model.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> verification(LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)))
        Verification(mode='tree', mask='one', reason='')
    """
    weight = next(model.parameters())
    key = _attention(model), weight.dtype, weight.device, getattr(_config(model), "sliding_window", None)
    known = _TESTED.setdefault(model, {})
    if key not in known:
        with torch.no_grad(), _in_eval(model), _short_window(_config(model)):
            known[key] = _try_out(model)
    return known[key]


def _try_out(model: Any) -> Verification:
    reasons = []
    try:
        reference = _reference(model)
    except Exception as error:  # noqa: BLE001 - whatever a model's own forward cannot do, plain decoding may
        return Verification("plain", reason=f"its forward pass without a cache fails: {error}")
    for how in _candidates(model):
        try:
            off = _difference(ModelState(model, how), *reference)
        except Exception as error:  # noqa: BLE001 - a refused mask or cache is a finding
            reasons.append(f"{how.mode}: {type(error).__name__}: {error}")
            continue
        bound = _bound(reference[0])
        if off <= bound:
            return Verification(how.mode, how.mask, reason="; ".join(reasons) if how.mode == "chain" else "")
        reasons.append(f"{how.mode}: logits differ by {off:.2g} from the plain forward pass (allowed {bound:.2g})")
    return Verification("plain", reason="; ".join(reasons))


def _candidates(model: Any) -> Iterator[Verification]:
    kinds = set(getattr(_config(model), "layer_types", None) or ())
    if _attention(model) in ("sdpa", "eager") and kinds <= {"full_attention", "sliding_attention"}:
        if kinds:
            yield Verification("tree", "by_layer")
        elif getattr(_config(model), "sliding_window", None) is not None:
            yield Verification("tree", "windowed")
        if "sliding_attention" not in kinds:
            yield Verification("tree", "one")
    yield Verification("chain")


# Three branches of three tokens: two share their first token, all end alike, so that only what they see tells their ends apart.
_BRANCHES = ((1, 2, 3), (1, 4, 3), (5, 2, 3))


def _reference(model: Any) -> tuple[Tensor, list[list[int]]]:
    """Logits (3, S, V) of the branches, each behind the same text, in a forward pass without a cache."""
    size = model.get_output_embeddings().weight.shape[0]
    texts = [[(7 * i + 3) % size for i in range(_PREFIX)] + [t % size for t in branch] for branch in _BRANCHES]
    ids = torch.tensor(texts, device=next(model.parameters()).device)
    return model(input_ids=ids, use_cache=False, return_dict=True).logits, texts


def _bound(logits: Tensor) -> float:
    """Rounding explains less than this; a wrong mask moves logits by about as much as another context does."""
    ends = logits[:, -1]  # (3, V): the same last token in three contexts
    context = min(float((ends[i] - ends[j]).abs().max()) for i, j in ((0, 1), (0, 2), (1, 2)))
    eps = max(
        torch.finfo(logits.dtype).eps, torch.finfo(torch.float32).eps
    )  # softmax and rotations are float32 everywhere
    scale = max(float(logits.abs().max()), 1e-3)
    return float(min(eps**0.5 * scale, max(context / 2, 8 * eps * scale)))


def _difference(state: ModelState, logits: Tensor, texts: list[list[int]]) -> float:
    """Largest difference: a tree (or chain) behind cached text, then the text after its second branch was kept."""
    tree, empty = DraftTree(), DraftTree()
    branches = texts if state.how.mode == "tree" else texts[1:2]
    start = 1 if state.how.mode == "tree" else 0
    paths = [tree.extend(ROOT, text[_PREFIX:], "draft") for text in branches]
    state.forward(texts[0][: _PREFIX - 1], empty)
    state.keep([])
    rows = state.forward(texts[0][_PREFIX - 1 : _PREFIX], tree)
    off = [rows[0] - logits[0, _PREFIX - 1]]
    for which, path in enumerate(paths, 0 if start else 1):
        off += [rows[node] - logits[which, _PREFIX + i] for i, node in enumerate(path)]
    state.keep(paths[start][:2])
    off.append(state.forward(texts[1][-1:], empty)[0] - logits[1, -1])
    state.keep([])
    state.rollback(_PREFIX)
    branch = DraftTree()
    path = branch.extend(ROOT, texts[2][_PREFIX + 1 :], "draft")
    rows = state.forward(texts[2][_PREFIX : _PREFIX + 1], branch)
    off += [rows[node] - logits[2, _PREFIX + node] for node in (ROOT, *path)]
    worst = float(torch.stack(off).abs().max())
    return float("inf") if math.isnan(worst) else worst


@contextlib.contextmanager
def _in_eval(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextlib.contextmanager
def _short_window(config: Any) -> Iterator[None]:
    """A sliding window that the short test text overruns, so that the test sees it."""
    window = getattr(config, "sliding_window", None)
    if window is None:
        yield
        return
    config.sliding_window = min(window, _WINDOW)
    try:
        yield
    finally:
        config.sliding_window = window


def _config(model: Any) -> Any:
    return model.config.get_text_config(decoder=True)


def _attention(model: Any) -> str:
    return str(getattr(_config(model), "_attn_implementation", "eager") or "eager")


def _window(model: Any) -> int:
    return int(getattr(_config(model), "sliding_window", None) or 2**62)
