"""Scoring: `g_i = Σ_{x∈D_s} ‖ΔW_i x_i‖²` on a frozen model (step 3 of the method).

When `g` is taken, and that padding does not count, is our choice: the paper does not say. `ΔW_i x = s·B_i·h` with
`h = A_i x`, so `g_i = s²·tr(B_iᵀB_i·Σ h hᵀ)`, and one r by r matrix a module is all that has to be kept. Hooks sit on
`lora_A`, never on the base weight, hence any quantised base works.

Shapes: n rows (tokens), r rank.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from .energies import Energies
from .errors import EnergyError, UnsupportedError
from .layers import base_model, fingerprint, lora_layers, pair, unwrap
from .masks import TokenMasks, roles
from .naming import module_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from peft.tuners.lora import LoraLayer
    from torch import nn

    from .masks import Tokens

__all__ = ["Energies", "EnergyMeter", "score", "to_device"]

logger = logging.getLogger(__name__)


class EnergyMeter(AbstractContextManager["EnergyMeter"]):
    """Collects `S_i = Σ_tokens h hᵀ` while the model runs; inside, the model is in eval mode without gradients.

    The mask of a batch is read from the arguments of the model's own forward; where it is called in another way,
    announce the batch with `meter.batch(...)`.

    Args:
        model: a `PeftModel` (DDP and `torch.compile` wrappers are looked through).
        adapter: the adapter to score; it must be active.
        tokens: "all" or "labels", see `TokenMasks`.
        direct: take `s²·Σ‖B h‖²` from the output of `lora_B` instead: slower, no matrices, a check on the Gram form.
        base: also measure `Σ‖W x + b‖²` of the frozen layers, for `normalize="relative"`.
        mismatch: "raise" or "count", for modules whose rows are not the batch's tokens (experts).

    Raises:
        UnsupportedError: merged, disabled or inactive adapter; LoRA variants; layers that are no plain pair.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> net = get_peft_model(nn.Sequential(nn.Linear(4, 3)), LoraConfig(r=2, target_modules=["0"]))
        >>> _ = nn.init.ones_(net.base_model.model[0].lora_B["default"].weight)
        >>> with EnergyMeter(net) as meter:
        ...     _ = net(torch.ones(5, 4))
        >>> meter.energies().n_tokens.tolist()
        [5]
    """

    def __init__(
        self,
        model: nn.Module,
        adapter: str = "default",
        tokens: Tokens = "all",
        direct: bool = False,
        *,
        base: bool = False,
        mismatch: Literal["raise", "count"] = "raise",
    ) -> None:
        if tokens not in ("all", "labels"):
            raise EnergyError(f"tokens must be 'all' or 'labels', got {tokens!r}")
        if mismatch not in ("raise", "count"):
            raise EnergyError(f"mismatch must be 'raise' or 'count', got {mismatch!r}")
        self.model, self.adapter = unwrap(model), adapter
        self.tokens, self.direct, self.mismatch = tokens, direct, mismatch
        self.layers = lora_layers(model, adapter)
        for name, layer in self.layers.items():
            _check_live(name, layer, adapter)
        self._roles = roles(self.model, list(self.layers))
        self._encoder_decoder = bool(self._roles)
        self._masks: TokenMasks | None = None
        self._announced: TokenMasks | None = None
        pairs = {name: pair(layer, adapter) for name, layer in self.layers.items()}
        self._pairs = pairs
        self._count = {n: torch.zeros((), dtype=torch.int64, device=A.weight.device) for n, (A, _) in pairs.items()}
        self._S = {n: _zeros((_order(A, B), _order(A, B)), A.weight.device) for n, (A, B) in pairs.items()}
        self._direct = {n: _zeros((), A.weight.device) for n, (A, _) in pairs.items()} if direct else {}
        self._base = {n: _zeros((), A.weight.device) for n, (A, _) in pairs.items()} if base else {}
        self._versions: dict[str, int] = {}
        self._stack = ExitStack()

    def batch(self, attention_mask: Tensor | None = None, labels: Tensor | None = None, **more: Tensor) -> None:
        """Announce the next forward's masks, for models that are not called with them.

        Args:
            attention_mask: shape (B, L), 1 for tokens and 0 for padding; None counts every position.
            labels: shape (B, L), -100 where there is no label; only `tokens="labels"` and encoder-decoders look.
            more: `decoder_attention_mask`, shape (B, L_decoder).
        """
        self._announced = self._token_masks({"attention_mask": attention_mask, "labels": labels, **more})

    def __enter__(self) -> Self:
        training = [(module, module.training) for module in self.model.modules()]
        self._stack.callback(_restore_modes, training)
        self.model.eval()
        self._stack.enter_context(torch.no_grad())
        hooks = [
            self.model.register_forward_pre_hook(self._before, with_kwargs=True),
            self.model.register_forward_hook(self._after, always_call=True),
        ]
        for name, layer in self.layers.items():
            lora_A, lora_B = self._pairs[name]
            hooks.append(lora_A.register_forward_hook(self._gram_hook(name)))
            if self.direct:
                hooks.append(lora_B.register_forward_hook(self._norm_hook(name, self._direct)))
            if self._base:
                hooks.append(layer.get_base_layer().register_forward_hook(self._norm_hook(name, self._base)))
            self._versions[name] = lora_B.weight._version
        for hook in hooks:
            self._stack.callback(hook.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def energies(self, *, all_reduce: bool = False) -> Energies:
        """`g_i = s²·tr(B_iᵀB_i·S_i)` in double precision, from what has been seen so far.

        Args:
            all_reduce: sum over the ranks of `torch.distributed` first; every rank must call it.

        Raises:
            EnergyError: no batch was seen, or `B` has been trained in the meantime.
        """
        if all_reduce:
            self._all_reduce()
        n_tokens = np.array([int(c) for c in self._count.values()], dtype=np.int64)
        if not n_tokens.any():
            raise EnergyError("no token was scored: run the model inside `with EnergyMeter(model) as meter:`")
        silent = [name for name, n in zip(self.layers, n_tokens, strict=True) if n == 0]
        if silent:
            logger.warning("%d modules never ran and score 0, for example %s", len(silent), silent[:3])
        grams = []
        for name, (_, lora_B) in self._pairs.items():
            if lora_B.weight._version != self._versions.get(name, lora_B.weight._version):
                raise EnergyError(f"B of {name!r} changed during scoring; score a frozen model")
            grams.append(_gram(lora_B))
        S = [_numpy(s) for s in self._S.values()]
        s2 = np.array([layer.scaling[self.adapter] ** 2 for layer in self.layers.values()], dtype=np.float64)
        if self.direct:
            g = s2 * np.array([float(e) for e in self._direct.values()])
        else:
            g = s2 * np.array([float((G * M).sum()) for G, M in zip(grams, S, strict=True)])
        return Energies(
            names=tuple(self.layers),
            types=module_types(list(self.layers)),
            # S comes from single-precision products, so a zero can come out as -1e-18
            g=np.where(g < 0, 0.0, g),
            n_tokens=n_tokens,
            d_in=np.array([A.in_features for A, _ in self._pairs.values()], dtype=np.int64),
            d_out=np.array([B.out_features for _, B in self._pairs.values()], dtype=np.int64),
            r=np.array([A.out_features for A, _ in self._pairs.values()], dtype=np.int64),
            scaling=np.sqrt(s2),
            bias=np.array([B.bias is not None for _, B in self._pairs.values()]),
            devices=tuple(str(A.weight.device) for A, _ in self._pairs.values()),
            adapter=self.adapter,
            fingerprint=fingerprint(self.model),
            tokens=self.tokens,
            base=np.array([float(e) for e in self._base.values()]) if self._base else None,
            S=None if self.direct else tuple(S),
            gram=None if self.direct else tuple(grams),
        )

    def _token_masks(self, arguments: Mapping[str, Any]) -> TokenMasks:
        return TokenMasks(arguments, self.tokens, self._encoder_decoder, self.mismatch)

    def _before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments = _arguments(model, args, kwargs)
        if arguments.get("adapter_names") is not None:
            raise UnsupportedError("a batch with adapter_names mixes adapters, so no single one can be scored; drop it")
        self._masks = self._announced if self._announced is not None else self._token_masks(arguments)

    def _after(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._masks = self._announced = None

    def _current(self, name: str) -> TokenMasks:
        masks = self._masks or self._announced
        if masks is None:
            raise EnergyError(
                f"{name!r} ran outside of the scored model's forward, so its padding is unknown; call the model given "
                "to EnergyMeter, or meter.batch(attention_mask=...) before each batch"
            )
        return masks

    def _gram_hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        role = self._roles.get(name)
        S, count, bias = self._S[name], self._count[name], self._pairs[name][1].bias is not None

        def hook(_: nn.Module, args: Any, h: Tensor) -> None:
            padding, n = self._current(name).rows(name, role, h.shape[:-1], h.device)
            h = h.detach().reshape(-1, h.shape[-1])  # (n, r)
            h = h if h.dtype == torch.float32 else h.float()
            if bias:
                h = torch.cat([h, h.new_ones(len(h), 1)], dim=1)  # (n, r + 1)
            if padding is not None:
                h = h.masked_fill(padding, 0.0)  # not a product: a padded row may be NaN
            with torch.autocast(h.device.type, enabled=False):
                S.add_(h.T @ h)  # S_i += Σ_tokens mask · h hᵀ
            count.add_(n)

        return hook

    def _norm_hook(self, name: str, into: dict[str, Tensor]) -> Callable[[nn.Module, Any, Tensor], None]:
        role, total = self._roles.get(name), into[name]

        def hook(_: nn.Module, args: Any, output: Tensor) -> None:
            padding, _n = self._current(name).rows(name, role, output.shape[:-1], output.device)
            o = output.detach().reshape(-1, output.shape[-1]).float()  # (n, d_out)
            if padding is not None:
                o = o.masked_fill(padding, 0.0)
            total.add_(o.square().sum())

        return hook

    def _all_reduce(self) -> None:
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            raise EnergyError("all_reduce=True needs torch.distributed to be initialised; leave it False otherwise")
        for store in (self._S, self._count, self._direct, self._base):
            for tensor in store.values():
                dist.all_reduce(tensor)


def score(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    *,
    adapter: str = "default",
    tokens: Tokens = "all",
    direct: bool = False,
    base: bool = False,
    mismatch: Literal["raise", "count"] = "raise",
    forward: Callable[[nn.Module, Mapping[str, Any]], Any] | None = None,
    all_reduce: bool = False,
) -> Energies:
    """Energies of one adapter over some batches, in eval mode and without gradients; modes are restored.

    Args:
        model: a `PeftModel` whose LoRA has been trained a little (with B = 0 every energy is 0).
        batches: mappings of tensors, moved to the model's device; called as `model(**batch)`.
        adapter, tokens, direct, base, mismatch: see `EnergyMeter`.
        forward: how to call the model on a batch, if not `model(**batch)`.
        all_reduce: sum over the ranks of `torch.distributed`.

    Raises:
        EnergyError: no batch, no token, or masks that do not fit.
        UnsupportedError: see `EnergyMeter`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> net = get_peft_model(nn.Sequential(nn.Linear(4, 3)), LoraConfig(r=2, target_modules=["0"]))
        >>> _ = nn.init.ones_(net.base_model.model[0].lora_B["default"].weight)
        >>> score(net, [{"input": torch.ones(5, 4)}]).names
        ('0',)
    """
    device = next(base_model(model).parameters()).device
    with EnergyMeter(model, adapter, tokens, direct, base=base, mismatch=mismatch) as meter:
        for batch in batches:
            moved = to_device(batch, device)
            if forward is None:
                model(**moved)
            else:
                forward(model, moved)
    return meter.energies(all_reduce=all_reduce)


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on `device`; everything else stays as it is."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def _check_live(name: str, layer: LoraLayer, adapter: str) -> None:
    if layer.merged:
        raise UnsupportedError(f"{name!r} is merged into the base weight and has no output of its own; unmerge first")
    if layer.disable_adapters:
        raise UnsupportedError(f"{name!r} is disabled, so it has no output; leave the disable_adapter() context")
    if adapter not in layer.active_adapters:
        raise UnsupportedError(
            f"adapter {adapter!r} is not active on {name!r} (active: {layer.active_adapters}); call set_adapter"
        )


def _arguments(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments by name, however they were passed."""
    if not args:
        return dict(kwargs)
    if len(args) == 1 and isinstance(args[0], Mapping):
        return {**args[0], **kwargs}
    signature = inspect.signature(model.forward)
    if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        signature = inspect.signature(base_model(model).forward)
    try:
        return dict(signature.bind_partial(*args, **kwargs).arguments)
    except TypeError:
        return dict(kwargs)


def _restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def _order(lora_A: nn.Linear, lora_B: nn.Linear) -> int:
    """r, or r + 1 with a bias b of B, which joins as one more column: B h + b = [B, b]·[h; 1]."""
    return lora_A.out_features + (lora_B.bias is not None)


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An accumulator: double where the device has it, so that long sums stay exact."""
    return torch.zeros(shape, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


def _numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return tensor.detach().cpu().double().numpy()


def _gram(lora_B: nn.Linear) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`BᵀB`, with the bias as one more column of B where there is one."""
    B = lora_B.weight.detach().double().cpu()
    if lora_B.bias is not None:
        B = torch.cat([B, lora_B.bias.detach().double().cpu()[:, None]], dim=1)  # (d_out, r + 1)
    return (B.T @ B).numpy()
