"""Stage 1 (probe) and the hand-over to stage 2 (steps 2 and 6 of the method).

The probe is ordinary LoRA on all targets, trained a little on the sample, because B = 0 at the start and so ΔW·x = 0.
How long and how fast is our choice: the paper's settings were not read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from .energies import Energies
from .errors import LoraDropError
from .guards import check_optimizer, check_training, drop_stale
from .io import write_plan
from .layers import base_model, lora_layers, pair
from .plan import DropPlan
from .reset import reset_adapter
from .score import score, to_device
from .tie import is_tied, retie, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .masks import Tokens

__all__ = ["LoraDropCallback", "LossFn", "make_plan", "probe"]

logger = logging.getLogger(__name__)

LossFn = Callable[[nn.Module, Mapping[str, Any]], Tensor]
"""Loss of one batch, a scalar with a gradient."""


def probe(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    steps: int | None = None,
    lr: float = 1e-3,
    seed: int = 0,
    loss_fn: LossFn | None = None,
    *,
    epochs: int = 3,
    max_grad_norm: float = 1.0,
    adapter: str = "default",
    tokens: Tokens = "all",
    base: bool = False,
) -> Energies:
    """Train LoRA on all targets for a while with AdamW, then score the same batches. Deterministic for a seed.

    The global random state is put back afterwards; the weights stay trained, for `init="keep"` or `"merge"`.

    Args:
        model: a `PeftModel` with LoRA on all targets, nothing shared.
        batches: the sample D_s, mappings of tensors; a loader is read anew in each epoch, a generator kept in memory.
        steps: number of optimizer steps, one batch each; None takes `epochs` passes.
        lr: learning rate, constant.
        seed: seeds dropout (and a shuffling loader).
        loss_fn: loss of a batch; by default `model(**batch).loss`, so batches need labels.
        epochs: passes over the sample where `steps` is None.
        max_grad_norm: clip the gradient to this norm; 0 or infinity does not clip.
        adapter, tokens, base: for scoring, see `score.EnergyMeter`.

    Raises:
        LoraDropError: nothing to train, no batch, shared pairs, no loss, or a loss that is not finite.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from peft import LoraConfig, get_peft_model
        >>> net = get_peft_model(
        ...     nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), LoraConfig(r=2, target_modules=["0", "1"])
        ... )
        >>> x = torch.linspace(-1, 1, 32).reshape(8, 4)
        >>> e = probe(net, [{"input": x}], steps=5, loss_fn=lambda m, b: (m(b["input"]) - 1).square().mean())
        >>> e.names, bool((e.g > 0).all())
        (('0', '1'), True)
    """
    _check_trainable(model, adapter)
    batches = list(batches) if iter(batches) is batches else batches
    training = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        try:
            _train(model, batches, steps, epochs, lr, max_grad_norm, loss_fn or _own_loss)
        finally:
            for module, mode in training:
                module.training = mode
            model.zero_grad(set_to_none=True)
        forward = None if loss_fn is None else loss_fn
        return score(model, batches, adapter=adapter, tokens=tokens, base=base, forward=forward)


def make_plan(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    *,
    threshold: float | None = None,
    keep: int | None = None,
    budget: float | None = None,
    seeds: Sequence[int] = (0,),
    options: Mapping[str, Any] | None = None,
    **probing: Any,
) -> DropPlan:
    """Probe, score and select in one call: the first of the three lines that turn a LoRA fine-tuning into LoRA-drop.

    Args:
        model: a `PeftModel` with LoRA on all targets.
        batches: the sample D_s.
        threshold, keep, budget: see `DropPlan.from_energies`; none means `threshold=0.9`.
        seeds: one probe a seed. With several, LoRA is drawn anew before each, and importances are averaged.
        options: `scope`, `normalize`, `share_by`, `floor` of `DropPlan.from_energies`.
        probing: arguments of `probe` (steps, lr, loss_fn, ...).

    Example:
        >>> import torch
        >>> import fascicle_loradrop
        >>> from peft import LoraConfig, get_peft_model
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(
        ...     vocab_size=32, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32
        ... )
        >>> lora = LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
        >>> model = get_peft_model(BertForSequenceClassification(config), lora)
        >>> ids = torch.arange(32).reshape(4, 8)
        >>> sample = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1, 0, 1])}]

        Three lines, before the optimizer or Trainer is built:

        >>> plan = fascicle_loradrop.make_plan(model, sample, keep=3, steps=4)
        >>> report = fascicle_loradrop.apply(model, plan)
        >>> callback = fascicle_loradrop.LoraDropCallback(plan)  # Trainer(model, ..., callbacks=[callback])

        >>> len(plan.keep), report.ok
        (3, True)
    """
    if not seeds:
        raise LoraDropError("seeds must name at least one probe, got none")
    options = dict(options or {})
    batches = list(batches) if iter(batches) is batches else batches
    if options.get("normalize") == "relative":
        probing.setdefault("base", True)
    found = []
    for seed in seeds:
        if len(seeds) > 1:
            reset_adapter(model, probing.get("adapter", "default"), seed)
        found.append(probe(model, batches, seed=seed, **probing))
    energies = found[0] if len(found) == 1 else Energies.mean(found)
    return DropPlan.from_energies(energies, threshold=threshold, keep=keep, budget=budget, **options)


class LoraDropCallback(TrainerCallback):
    """Watches over the ties in a transformers `Trainer`.

    When the Trainer is built and again when training begins it refuses set-ups that give shared pairs wrong gradients
    and optimizers with stale parameters; ties that resuming has broken are restored. Each checkpoint gets its
    `lora_drop.json`.

    Args:
        plan: the plan that was applied to the Trainer's model.

    Example:
        >>> from fascicle_loradrop.energies import Energies
        >>> from fascicle_loradrop.plan import DropPlan
        >>> e = Energies.from_arrays(names=["0", "1"], g=[8, 1], d_in=4, d_out=4, r=2)
        >>> LoraDropCallback(DropPlan.from_energies(e)).plan.keep
        ('0', '1')
    """

    def __init__(self, plan: DropPlan) -> None:
        self.plan = plan

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Before the optimizer exists and before FSDP wraps the model: check ties and set-up."""
        verify(model, self.plan).raise_for_broken()
        self._check_setup(args, model)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """After a checkpoint was loaded and the optimizer built: re-tie if need be, then check all again."""
        if not verify(model, self.plan).ok:
            logger.warning("loading a checkpoint has broken ties of LoRA-drop; restoring them")
            retie(model, self.plan)
            if optimizer is not None:
                drop_stale(optimizer, model)
        self._check_setup(args, model)
        sharded = bool(getattr(args, "fsdp", None)) or bool(getattr(args, "deepspeed", None))
        if optimizer is not None and not sharded:  # these replace parameters by flat or sharded ones
            check_optimizer(optimizer, model, self.plan.adapter)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the plan into the checkpoint's folder."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            write_plan(self.plan, folder)

    def _check_setup(self, args: Any, model: nn.Module) -> None:
        checkpointing = getattr(args, "activation_checkpointing", None) or getattr(args, "gradient_checkpointing", None)
        chosen = getattr(args, "activation_checkpointing_kwargs", None)
        chosen = chosen or getattr(args, "gradient_checkpointing_kwargs", None)
        options = chosen if isinstance(chosen, Mapping) else {}
        # without options transformers checkpoints non-re-entrantly, with options but no choice torch's default holds
        reentrant = options.get("use_reentrant", bool(options)) if checkpointing else None
        check_training(
            model,
            adapter=self.plan.adapter,
            world_size=int(getattr(args, "world_size", 1)),
            gradient_checkpointing=True if checkpointing else None,
            use_reentrant=reentrant,
            static_graph=bool(getattr(args, "ddp_static_graph", None)),
            fsdp="layers" if getattr(args, "fsdp", None) else "none",
            deepspeed_stage=3 if getattr(args, "deepspeed", None) else 0,
        )


def _train(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    steps: int | None,
    epochs: int,
    lr: float,
    max_grad_norm: float,
    loss_fn: LossFn,
) -> None:
    if (steps is not None and steps < 1) or epochs < 1 or lr <= 0:
        raise LoraDropError(f"a probe needs steps, epochs and lr above 0, got {steps}, {epochs}, {lr}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = next(base_model(model).parameters()).device
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    for batch in islice(_stream(batches, None if steps is not None else epochs), steps):
        loss = loss_fn(model, to_device(batch, device))
        if not torch.isfinite(loss):
            raise LoraDropError(f"the probe's loss is {loss.detach().item()}; lower lr= or look at the batches")
        torch.autograd.backward(loss)
        if 0.0 < max_grad_norm < float("inf"):
            torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _stream(batches: Iterable[Mapping[str, Any]], epochs: int | None) -> Iterable[Mapping[str, Any]]:
    """`epochs` passes over the batches, endless for None."""
    done = 0
    while epochs is None or done < epochs:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise LoraDropError("the sample has no batch; pass at least one")
        done += 1


def _own_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    loss = getattr(model(**batch), "loss", None)
    if not isinstance(loss, Tensor):
        raise LoraDropError("the model returns no loss; put labels into the batches, or pass loss_fn=")
    return loss


def _check_trainable(model: nn.Module, adapter: str) -> None:
    layers = lora_layers(model, adapter)
    if is_tied(model, adapter):
        raise LoraDropError("a probe trains LoRA on all targets, but this model shares some; untie or rebuild it")
    if not all(pair(layer, adapter)[0].weight.requires_grad for layer in layers.values()):
        raise LoraDropError(f"adapter {adapter!r} does not train; load it with is_trainable=True, or set_adapter it")
