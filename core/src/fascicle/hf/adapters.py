"""Adapters on a loaded model: LoRA, AdaLoRA and VeRA, all as PEFT implements them."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import TrainerCallback

from ..errors import ConfigError
from ..objects import Block, Section

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor

    from ..context import RunContext
    from ..objects import LoadedModel
    from .training_options import HfAdaLora, HfVera, LoraOptions

__all__ = ["AdaLoraAllocation", "add_adalora", "add_lora", "add_vera", "head_names", "target_names"]

TASK_TYPES = {"classification": "SEQ_CLS", "causal_lm": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}
ADAPTER = "default"


def add_lora(model: LoadedModel, lora: LoraOptions, run: RunContext) -> LoadedModel:
    """Wrap the model in a `PeftModel` with new LoRA adapters, drawn from the run's seed; the rest is frozen.

    Raises:
        ConfigError: no module has such a name, or the model carries adapters already.

    >>> from types import SimpleNamespace
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> from fascicle.hf.training_options import LoraOptions
    >>> from fascicle.objects import LoadedModel
    >>> net = BertForSequenceClassification(
    ...     BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ... )
    >>> bert = LoadedModel(model=net, tokenizer=None, task="classification", name="tiny", source="random")
    >>> adapted = add_lora(bert, LoraOptions(r=2, target_modules="query_value"), SimpleNamespace(seed=1))
    >>> sum(p.numel() for n, p in adapted.model.named_parameters() if "lora_" in n)
    64
    """
    from peft import LoraConfig

    init: Any = True if lora.init == "default" else lora.init
    alpha: Any = lora.alpha
    config = LoraConfig(
        r=lora.r,
        lora_alpha=alpha,
        lora_dropout=lora.dropout,
        target_modules=target_names(model.model, lora.target_modules),
        rank_pattern=dict(lora.rank_pattern),
        use_rslora=lora.use_rslora,
        init_lora_weights=init,
        bias=lora.bias,
        modules_to_save=_saved(model, lora.modules_to_save),
        task_type=TASK_TYPES.get(model.task),
    )
    return _wrap(model, config, run.seed)


def add_adalora(model: LoadedModel, cfg: HfAdaLora, total_steps: int, run: RunContext) -> LoadedModel:
    """Wrap the model in a `PeftModel` with AdaLoRA adapters, whose budget falls over `total_steps`.

    Raises:
        ConfigError: a target rank that is not below the first, or a schedule without a step to lower the ranks in.
    """
    from peft import AdaLoraConfig

    initial, final = math.floor(cfg.initial * total_steps), math.floor(cfg.final * total_steps)
    if cfg.target_r >= cfg.init_r:
        raise ConfigError(
            f"training.target_r: got {cfg.target_r} with init_r={cfg.init_r}, expected less, since AdaLoRA takes ranks away; "
            "raise training.init_r"
        )
    if initial >= total_steps - final:
        raise ConfigError(
            f"training.initial and training.final: got {cfg.initial} and {cfg.final} of {total_steps} steps, expected some steps "
            "between them; lower one of them or train longer"
        )
    alpha: Any = cfg.alpha
    config = AdaLoraConfig(
        init_r=cfg.init_r,
        target_r=cfg.target_r,
        lora_alpha=alpha,
        lora_dropout=cfg.dropout,
        target_modules=target_names(model.model, cfg.target_modules),
        modules_to_save=_saved(model, cfg.modules_to_save),
        tinit=initial,
        tfinal=final,
        deltaT=cfg.allocate_every,
        beta1=cfg.beta1,
        beta2=cfg.beta2,
        orth_reg_weight=cfg.orthogonality,
        total_step=total_steps,
        task_type=TASK_TYPES.get(model.task),
    )
    return _wrap(model, config, run.seed)


def add_vera(model: LoadedModel, cfg: HfVera, run: RunContext) -> LoadedModel:
    """Wrap the model in a `PeftModel` with VeRA's vectors; the shared random matrices follow from the run's seed."""
    from peft import VeraConfig

    config = VeraConfig(
        r=cfg.r,
        d_initial=cfg.d_initial,
        vera_dropout=cfg.dropout,
        projection_prng_key=run.seed,
        target_modules=target_names(model.model, cfg.target_modules),
        modules_to_save=_saved(model, cfg.modules_to_save),
        task_type=TASK_TYPES.get(model.task),
    )
    return _wrap(model, config, run.seed)


def target_names(model: nn.Module, wanted: str | list[str]) -> str | list[str]:
    """Turn `all-linear`, `attention`, `query_value` or ends of module names into what PEFT takes.

    Raises:
        ConfigError: nothing in the model has such a name.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> net = LlamaForCausalLM(
    ...     LlamaConfig(
    ...         vocab_size=8,
    ...         hidden_size=8,
    ...         intermediate_size=8,
    ...         num_hidden_layers=1,
    ...         num_attention_heads=2,
    ...         num_key_value_heads=2,
    ...     )
    ... )
    >>> target_names(net, "attention")
    ['k_proj', 'o_proj', 'q_proj', 'v_proj']
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as QUERY_VALUE

    if wanted == "all-linear":
        return "all-linear"
    linear = _linear_names(model)
    if wanted == "attention":
        inside = {name for name in linear if _in_attention(model, name)}
        leaves = {name.rpartition(".")[2] for name in inside}
        if inside:
            same = inside == {name for name in linear if name.rpartition(".")[2] in leaves}
            return sorted(leaves if same else inside)
    kind = getattr(getattr(model, "config", None), "model_type", "")
    named = [wanted] if isinstance(wanted, str) else list(wanted)
    if wanted == "query_value" and isinstance(known := QUERY_VALUE.get(kind, named), str):
        return known  # a pattern over whole paths
    if wanted == "query_value":
        named = list(known)
    paths = [name for name, _ in model.named_modules()]
    missing = [end for end in named if not any(path == end or path.endswith(f".{end}") for path in paths)]
    if missing or not named:
        raise ConfigError(
            f"target_modules: {type(model).__name__} has no module {missing or named}; expected all-linear, attention, "
            f"query_value, or a list of {sorted({name.rpartition('.')[2] for name in linear})}"
        )
    return named


def head_names(model: nn.Module) -> list[str]:
    """The modules beside a classifier's backbone that have weights: its new head.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> config = BertConfig(
    ...     vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    ... )
    >>> head_names(BertForSequenceClassification(config))
    ['classifier']
    """
    backbone = getattr(model, "base_model_prefix", "")
    return [
        name for name, child in model.named_children() if name != backbone and any(True for _ in child.parameters())
    ]


def _saved(model: LoadedModel, named: list[str]) -> list[str] | None:
    head = head_names(model.model) if model.task == "classification" else model.extra.get("head", [])
    return [*dict.fromkeys([*head, *named])] or None


def _wrap(model: LoadedModel, config: PeftConfig, seed: int) -> LoadedModel:
    from peft import PeftModel, get_peft_model

    if isinstance(model.model, PeftModel):
        raise ConfigError(
            "training: the model carries adapters already, expected none; choose training=hf_trainer, or load it without them"
        )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks a transformers model by a name that is going
        torch.manual_seed(seed)
        adapted = get_peft_model(model.model, config, adapter_name=ADAPTER)
    return dataclasses.replace(model, model=adapted)


def _linear_names(model: nn.Module) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]


def _in_attention(model: nn.Module, name: str) -> bool:
    parents = name.split(".")
    return any(
        type(model.get_submodule(".".join(parents[:depth]))).__name__.endswith("Attention")
        for depth in range(1, len(parents))
    )


class AdaLoraAllocation(TrainerCallback):
    """Moves AdaLoRA's ranks after each optimizer step, and keeps the allocator's averages in checkpoints.

    PEFT leaves the call to the training loop; between the optimizer's step and the next `zero_grad`, since it reads gradients.
    """

    FILE = "adalora.safetensors"

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @property
    def _config(self) -> Any:
        return self.model.peft_config[ADAPTER]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The step just taken is number `global_step + 1`."""
        if getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            for parameter in self.model.parameters():  # fp16 overflowed: its infinities must not enter the averages
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        self.model.base_model.update_and_allocate(state.global_step + 1)

    def save_state(self, folder: Path) -> None:
        """Write sensitivities, uncertainties and the mask of ranks."""
        from safetensors.torch import save_file

        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self._tensors().items()}, folder / self.FILE
        )

    def load_state(self, folder: Path) -> None:
        """Read them back."""
        from safetensors.torch import load_file

        allocator = self.model.base_model.rankallocator
        allocator.reset_ipt()
        pattern = {}
        device = next(self.model.parameters()).device
        for name, tensor in load_file(folder / self.FILE).items():
            kind, _, parameter = name.partition("|")
            if kind == "rank":
                pattern[parameter] = tensor.tolist()
            else:
                getattr(allocator, kind)[parameter] = tensor.to(device)
        self._config.rank_pattern = pattern or None

    def _tensors(self) -> dict[str, Tensor]:
        allocator = self.model.base_model.rankallocator
        averages = {
            f"{kind}|{n}": t
            for kind in ("ipt", "exp_avg_ipt", "exp_avg_unc")
            for n, t in getattr(allocator, kind).items()
        }
        return averages | {f"rank|{n}": torch.tensor(mask) for n, mask in (self._config.rank_pattern or {}).items()}

    def ranks(self) -> dict[str, int]:
        """Rank of each adapted module now."""
        pattern = self._config.rank_pattern or {}
        # saving the model drops the adapter's name from these keys
        names = {
            name: name.removesuffix(f".{ADAPTER}").removesuffix(".lora_E").removeprefix("model.") for name in pattern
        }
        return {names[name]: sum(mask) for name, mask in pattern.items()}

    def section(self) -> Section:
        """A bar per module: the rank it ended with."""
        ranks = self.ranks()
        bars = Block(kind="bars", title="Rank", data={"labels": list(ranks), "series": {"rank": list(ranks.values())}})
        return Section(title="AdaLoRA's ranks", blocks=[bars], plugin="hf")
