"""A draft model for any decoder: some of its own layers, taught by its own texts.

    small = prune_layers(model, evenly(30, 6))            layers 0, 6, 12, 17, 23, 29
    texts = own_outputs(model, prompts, max_new_tokens=64)
    loss = distillation_loss(small's logits, model's logits, tokens)

The cut keeps embeddings and head, so it has the target's tokenizer and speaks at once, if badly; distilling on what the target
itself writes teaches it where the target goes. `training=ouroboros_draft` does all of it in a run. (Our choice: the paper takes its
draft models from the shelf.)
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from .errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from fascicle.objects import LossOutput, Step

__all__ = [
    "Distillation",
    "distillation_loss",
    "evenly",
    "fitting",
    "last_logits",
    "own_outputs",
    "prune_layers",
    "quantized",
]

IGNORED = -100
_COUNTS = ("max_window_layers", "first_k_dense_replace")
"""Settings that say "the first n layers are of one kind"."""


def evenly(total: int, layers: int) -> list[int]:
    """Indices of `layers` of `total` layers, evenly spaced, the first and the last among them (one alone is the first).

    Raises:
        UnsupportedError: more layers than there are, or none.

    Example:
        >>> evenly(30, 6)
        [0, 6, 12, 17, 23, 29]
    """
    if not 1 <= layers <= total:
        raise UnsupportedError(f"layers: got {layers}, expected 1 to {total}, as many as the target has at most")
    return [round(i * (total - 1) / max(1, layers - 1)) for i in range(layers)]


def prune_layers(model: Any, layers: int | Sequence[int]) -> Any:
    """A new model of the same class with some of the decoder layers; embeddings, norm and head are copied, ties stay ties.

    Args:
        model: a decoder-only language model of transformers; it is left as it is.
        layers: how many, evenly spaced; or the indices, in the order in which they shall stand.

    Returns:
        the smaller model, on the device and in the dtype of `model`, in eval mode.

    Raises:
        UnsupportedError: no such layers; an encoder, an encoder-decoder, adapters or quantised weights; a class whose layers are
            not one list, or differ so that a chosen one does not fit its new place.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2)
        >>> net = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).eval()
        >>> small = prune_layers(net, 2)
        >>> last = [layers[-1].mlp.up_proj.weight for layers in (net.model.layers, small.model.layers)]
        >>> small.config.num_hidden_layers, torch.equal(*last)
        (2, True)
    """
    name, total = _layer_list(model)
    chosen = evenly(total, layers) if isinstance(layers, int) else [int(i) for i in layers]
    wrong = [i for i in chosen if not 0 <= i < total]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise UnsupportedError(
            f"layers: got {list(chosen)}, expected different indices from 0 to {total - 1}, the layers of "
            f"{type(model).__name__}"
        )
    config = _smaller_config(model.config, chosen, total)
    weight = next(model.parameters())
    devices = [weight.device] if weight.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        small = type(model)._from_config(config, dtype=weight.dtype)
    _copy(model, small, name, chosen)
    small.generation_config = copy.deepcopy(model.generation_config)
    return small.to(weight.device).eval()


def quantized(model: Any) -> Any:
    """A copy whose linear layers, the head included, have 8-bit weights and 8-bit inputs; on the CPU, for drafting alone.

    torch quantises the inputs as they come (dynamic quantisation). Such a copy can be neither trained nor saved.

    Raises:
        UnsupportedError: this torch has no dynamic quantisation.
    """
    import warnings

    try:
        from torch.ao import quantization
    except ImportError as error:
        raise UnsupportedError(f"torch {torch.__version__} has no dynamic quantisation of its own") from error
    # a tied head is a linear layer of its own here: the embeddings stay as they are
    net = copy.deepcopy(model).cpu().float().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch names its successor
        quantize: Any = quantization.quantize_dynamic
        return quantize(net, {nn.Linear}, dtype=torch.qint8)


# ---- the target's own texts ----------------------------------------------------------------------------------------------


@torch.no_grad()
def own_outputs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    do_sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> list[list[int]]:
    """What the model itself writes after each prompt, in batches of prompts of like length.

    Args:
        model: a decoder-only language model of transformers.
        prompts: token ids.
        max_new_tokens: tokens to write at most.
        batch_size: prompts at once; a batch of 16 costs little more time than one prompt.
        do_sample: draw the tokens instead of taking the likeliest.
        temperature: of the draws.
        seed: of the draws.
        progress: told the number of prompts after each batch.

    Returns:
        the new tokens of each prompt, up to the end token and with it.
    """
    import transformers

    own = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else getattr(model.config, "eos_token_id", None)
    stops = {int(t) for t in (ends if isinstance(ends, list) else [] if ends is None else [ends])}
    pad = next((int(p) for p in (own.pad_token_id, *sorted(stops)) if p is not None), 0)
    make: Any = transformers.GenerationConfig
    config = make(
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        eos_token_id=sorted(stops) or None,
        pad_token_id=pad,
        use_cache=True,
        **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if do_sample else {}),
    )
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    written: list[list[int]] = [[] for _ in prompts]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = max(len(prompts[i]) for i in rows)
            gaps = [longest - len(prompts[i]) for i in rows]
            ids = [[pad] * gap + list(prompts[i]) for gap, i in zip(gaps, rows, strict=True)]
            mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
            out = model.generate(
                input_ids=torch.tensor(ids, device=device),  # (B, L)
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
            )
            for i, tokens in zip(rows, out[:, longest:].tolist(), strict=True):
                end = next((at + 1 for at, token in enumerate(tokens) if token in stops), len(tokens))
                written[i] = tokens[:end]
            if progress is not None:
                progress(len(rows))
    return written


def fitting(prompts: Sequence[Sequence[int]], limit: int | None, new_tokens: int) -> list[list[int]]:
    """The prompts; one that leaves no room for `new_tokens` below `limit` loses its beginning.

    Example:
        >>> fitting([[1, 2, 3], [4]], 5, 3)
        [[2, 3], [4]]
    """
    if limit is None:
        return [list(ids) for ids in prompts]
    return [list(ids[-max(1, limit - new_tokens) :]) for ids in prompts]


# ---- distillation --------------------------------------------------------------------------------------------------------


def distillation_loss(
    draft: Tensor,
    target: Tensor,
    tokens: Tensor | None = None,
    *,
    cross_entropy: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """(1 - w) τ² KL(p ‖ q) + w · -log q₁(token), summed over positions; p, q are softmax(logits / τ), q₁ is q at τ = 1.

    Args:
        draft: logits (N, V) of the draft model, with gradient.
        target: logits (N, V) of the target.
        tokens: (N,) int64, the tokens that the target wrote; needed where `cross_entropy` is not 0.
        cross_entropy: w, from 0 to 1.
        temperature: τ > 0; above 1 softer distributions are compared.

    Returns:
        a scalar: the sum over the N positions, in nats.

    Raises:
        ValueError: a cross-entropy without tokens.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0]])
        >>> distillation_loss(logits, logits).item()
        0.0
    """
    # log-probabilities below float32 would drown what little the two differ by; above it nothing is to be lost
    wide = torch.promote_types(draft.dtype, torch.float32)
    log_q = F.log_softmax(draft.to(wide) / temperature, dim=-1)
    log_p = F.log_softmax(target.to(wide) / temperature, dim=-1)
    divergence = F.kl_div(log_q, log_p, reduction="sum", log_target=True) * temperature**2
    if cross_entropy == 0:
        return divergence
    if tokens is None:
        raise ValueError(f"cross_entropy={cross_entropy} needs the tokens that were written, got none")
    nll = F.cross_entropy(draft.to(wide), tokens, reduction="sum")
    return (1 - cross_entropy) * divergence + cross_entropy * nll


class Distillation:
    """An `Objective`: the draft model's distance from the target, on the tokens that have a label.

    Logits are computed from the batch's first labelled column on, and compared at labelled positions only: prompts and padding
    cost hidden states, hardly logits.

    Args:
        target: the model to imitate; it is asked without gradient.
        cross_entropy: weight of the written tokens' cross-entropy.
        temperature: of both distributions.

    Example:
        >>> from fascicle.objects import Step
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
        >>> net = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).eval()
        >>> batch = {"input_ids": torch.tensor([[1, 2, 3]]), "labels": torch.tensor([[-100, 2, 3]])}
        >>> Distillation(net).loss(prune_layers(net, 2), batch, Step(0, 1, 0.0)).loss.item()
        0.0
    """

    def __init__(self, target: Any, *, cross_entropy: float = 0.0, temperature: float = 1.0) -> None:
        self.target = target
        self.cross_entropy, self.temperature = cross_entropy, temperature

    def loss(
        self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Tensor | int | None = None
    ) -> LossOutput:
        """Loss of one batch, `input_ids`, `attention_mask` and `labels` (B, L); with `num_items` the batch's share of a mean."""
        from fascicle.objects import LossOutput

        labels = batch.get("labels")
        if labels is None:
            labels = batch["input_ids"]
            mask = batch.get("attention_mask")
            labels = labels if mask is None else labels.masked_fill(mask == 0, IGNORED)
            num_items = None
        wanted = labels[:, 1:] != IGNORED  # (B, L - 1): column t foretells token t + 1
        columns = wanted.any(0)
        first = int(columns.int().argmax()) if bool(columns.any()) else wanted.shape[1] - 1
        width = labels.shape[1] - first
        wanted = wanted[:, first:]
        tokens = labels[:, 1 + first :][wanted]  # (N,)
        inputs: dict[str, Any] = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        with torch.no_grad():
            theirs = last_logits(self.target, inputs, width)[:, :-1][wanted]  # (N, V)
        ours = last_logits(model, inputs, width)[:, :-1][wanted]
        size = min(ours.shape[-1], theirs.shape[-1])
        total = distillation_loss(
            ours[:, :size],
            theirs[:, :size],
            tokens,
            cross_entropy=self.cross_entropy,
            temperature=self.temperature,
        )
        with torch.no_grad():
            agree = (ours.argmax(-1) == theirs.argmax(-1)).float().mean() if len(tokens) else ours.new_zeros(())
        if num_items is None:
            return LossOutput(loss=total / max(1, len(tokens)), parts={"agreement": agree})
        return LossOutput(loss=total / num_items, parts={"agreement": agree}, scaled=True)


def last_logits(model: Any, inputs: dict[str, Any], columns: int) -> Tensor:
    """Logits (B, columns, V) of the last columns; the model computes no others where it knows how to.

    Args:
        model: a causal language model, wrapped or not.
        inputs: `input_ids` and `attention_mask` (B, L).
        columns: from 1 to L.
    """
    plain = getattr(model, "module", model)
    more: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(plain.forward).parameters:
        more["logits_to_keep"] = columns
    logits: Tensor = model(**inputs, use_cache=False, **more).logits
    return logits[:, -columns:]


# ---- the cut -------------------------------------------------------------------------------------------------------------


def _layer_list(model: Any) -> tuple[str, int]:
    """Name and length of the one list of decoder layers."""
    kind = type(model).__name__
    config = getattr(model, "config", None)
    if hasattr(model, "peft_config"):
        raise UnsupportedError(f"{kind} has adapters: merge them first, model = model.merge_and_unload()")
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(f"{kind} is an encoder-decoder, expected a decoder-only language model")
    if config is None or not hasattr(model, "_from_config") or not callable(getattr(model, "generate", None)):
        raise UnsupportedError(f"{kind} writes no text, expected a decoder-only language model of transformers")
    if model.get_output_embeddings() is None:
        raise UnsupportedError(f"{kind} has no language-modelling head, expected a decoder-only language model")
    if getattr(config, "quantization_config", None) is not None:
        raise UnsupportedError(f"{kind} has quantised weights: load it in full precision to cut it")
    total: Any = getattr(config, "num_hidden_layers", None)
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == total and not inside:
            found.append(name)
    if len(found) != 1:
        raise UnsupportedError(
            f"{kind}: expected one list of {total} decoder layers (config.num_hidden_layers), found {found or 'none'}; "
            "such a model cannot be cut"
        )
    return found[0], int(total)


def _smaller_config(config: Any, chosen: Sequence[int], total: int) -> Any:
    small = copy.deepcopy(config)
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == total and not name.startswith("_"):
            setattr(small, name, [value[i] for i in chosen])  # layer_types and the like
    small.num_hidden_layers = len(chosen)
    for name in _COUNTS:
        bound = getattr(config, name, None)
        if isinstance(bound, int):
            setattr(small, name, sum(i < bound for i in chosen))
    return small


def _copy(model: Any, small: Any, layers: str, chosen: Sequence[int]) -> None:
    """Copy parameters and buffers; each of the small model's must be found, and fit."""

    def origin(name: str) -> str:
        rest = name.removeprefix(f"{layers}.")
        if rest == name:
            return name
        index, _, tail = rest.partition(".")
        return f"{layers}.{chosen[int(index)]}.{tail}"

    theirs = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in [*small.named_parameters(), *small.named_buffers()]:
            source = theirs.get(origin(name))
            if source is None or source.shape != tensor.shape:
                was = "missing" if source is None else tuple(source.shape)
                raise UnsupportedError(
                    f"{type(model).__name__}: layer tensor {name} of shape {tuple(tensor.shape)} has no counterpart "
                    f"({origin(name)}: {was}); its layers differ, so that the chosen ones do not fit"
                )
            tensor.data = source.detach().clone().to(tensor.device)
