"""Options of the core's own objective, training, decoding and evaluation. Light: standard library and `annotated_types` only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le, MinLen

__all__ = [
    "Assisted",
    "Beam",
    "Classification",
    "DecodingSpeed",
    "Generation",
    "Greedy",
    "HfAdaLora",
    "HfLora",
    "HfTrainer",
    "HfVera",
    "LoraOptions",
    "ModelLoss",
    "NoTraining",
    "Perplexity",
    "PromptLookup",
    "Sample",
    "TrainerOptions",
]

Fraction = Annotated[float, Interval(ge=0, le=1)]
Split = Literal["train", "validation", "test"]


# ---- objective ----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class ModelLoss:
    """The loss that the model computes from its own labels. Nothing to choose.

    >>> ModelLoss()
    ModelLoss()
    """


# ---- training -----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class NoTraining:
    """Leave the model as it was loaded. Nothing to choose.

    >>> NoTraining()
    NoTraining()
    """


@dataclass(kw_only=True)
class TrainerOptions:
    """How `fascicle.hf.training.fit` trains: AdamW on transformers' Trainer, under accelerate.

    >>> TrainerOptions(batch_size=16, micro_batch_size=4).schedule
    'linear'
    """

    epochs: Annotated[float, Gt(0)] = 3.0
    """Passes over the training rows; may be a fraction. More for small sets, 1 for large ones."""
    max_steps: Annotated[int, Ge(1)] | None = None
    """Optimizer steps, instead of `epochs`. Set it to compare methods at an equal number of steps."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Rows per optimizer step over all processes and accumulation, as a paper reports it. An epoch's last step has the rest."""
    micro_batch_size: Annotated[int, Ge(1)] | None = None
    """Rows per forward pass and process; None takes a process's whole share. Lower it when memory runs out: results stay equal."""
    learning_rate: Annotated[float, Gt(0)] = 5e-5
    """Peak learning rate. 1e-5 to 1e-4 for all weights, 1e-4 to 1e-3 for adapters."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Decoupled weight decay; biases and norms are spared. 0.01 to 0.1 where training overfits."""
    warmup_ratio: Fraction = 0.06
    """Share of the steps over which the learning rate rises from 0. More when the first losses jump."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after the warm-up; linear and cosine end at 0."""
    max_grad_norm: Annotated[float, Ge(0)] = 1.0
    """Clip the gradient to this norm; 0 does not clip."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Type of the arithmetic; weights stay as `run.dtype` has them. bf16 on GPUs since Ampere and on
    CPUs with AMX (0.6 to 0.7 of the time; slow on others), fp16 on older GPUs."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, far less memory. The gradient is the same."""
    use_reentrant: bool = False
    """Kind of gradient checkpointing. False works with adapters, DDP and tied weights; True is torch's older one."""
    group_by_length: bool = False
    """Put rows of like length into one batch: less padding and faster, at some cost in the randomness of the order."""
    log_every: Annotated[int, Ge(1)] = 10
    """Steps between rows of the history. Each row costs one synchronisation with the device."""
    eval_every: Annotated[int, Ge(1)] | None = None
    """Steps between measurements of the objective on the validation rows; None measures none."""
    eval_batch_size: Annotated[int, Ge(1)] = 32
    """Rows per forward pass and process of these measurements."""
    checkpoint_every: Annotated[int, Ge(1)] | None = None
    """Steps between checkpoints; None makes four over the run. The last step always makes one, so evaluating never trains again."""
    keep_checkpoints: Annotated[int, Ge(2)] = 2
    """Newest complete checkpoints to keep. At least 2, so that one survives a kill while the next is written."""
    fsdp: dict[str, Any] | None = None
    """Shard the model over processes (FSDP): the `fsdp_config` of transformers' TrainingArguments, e.g. `{}` or
    `{transformer_layer_cls_to_wrap: [LlamaDecoderLayer]}`. Always FSDP2. Needs torchrun or accelerate, and GPUs; None replicates it
    (DDP). Only the last step makes a checkpoint: a sharded run that is killed in training begins its training again."""


@dataclass(kw_only=True)
class LoraOptions:
    """Low-rank adapters ΔW = (alpha / r)·B·A beside frozen weights (LoRA, Hu et al., 2022).

    >>> LoraOptions(r=4, rank_pattern={"query": 8}).alpha
    16.0
    """

    r: Annotated[int, Ge(1)] = 8
    """Rank. 4 to 16 for most tasks, more where the data is large and far from the pretraining."""
    alpha: Annotated[float, Gt(0)] = 16.0
    """Scale: ΔW is multiplied by alpha / r. Kept at one or two times r, so that the learning rate need not change with r."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Dropout on the adapters' input. 0.05 to 0.1 for small data."""
    target_modules: str | list[str] = "all-linear"
    """`all-linear`: every linear layer but the head; `attention`: those inside attention (q, k, v, o); `query_value`: q and v,
    as in the paper; or ends of module names, as `[q_proj, v_proj]`."""
    rank_pattern: dict[str, Annotated[int, Ge(1)]] = field(default_factory=dict)
    """Ends of module names (or patterns) to ranks that differ from `r`: the control at an equal budget."""
    use_rslora: bool = False
    """Scale by alpha / √r instead: keeps large ranks stable (Kalajdzievski, 2023)."""
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default"
    """How A and B begin. `pissa` and `olora` start from the weight's own principal parts and change the frozen weight."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Biases of the base model to train as well."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules to train fully beside the adapters. A classifier's new head is always among them."""


@dataclass(kw_only=True)
class HfTrainer(TrainerOptions):
    """Train all weights of the model.

    >>> HfTrainer(epochs=1).learning_rate
    5e-05
    """


@dataclass(kw_only=True)
class HfLora(TrainerOptions):
    """Train LoRA adapters and a classifier's head.

    >>> HfLora(lora=LoraOptions(r=4)).lora.r
    4
    """

    learning_rate: Annotated[float, Gt(0)] = 2e-4
    """Peak learning rate; adapters take about ten times that of full training."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    """The adapters."""


@dataclass(kw_only=True)
class HfAdaLora(TrainerOptions):
    """Train adapters P·Λ·Q whose ranks are moved to where they matter (AdaLoRA, Zhang et al., 2023), as PEFT implements it.

    >>> HfAdaLora(init_r=6, target_r=4).final
    0.3
    """

    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """Peak learning rate; the paper's are 5e-4 to 2e-3."""
    init_r: Annotated[int, Ge(2)] = 12
    """Rank of each adapter at the start; must exceed `target_r`. The paper takes 1.5 times the target."""
    target_r: Annotated[int, Ge(1)] = 8
    """Mean rank at the end: the budget to compare with LoRA's `r`."""
    alpha: Annotated[float, Gt(0)] = 32.0
    """Scale: ΔW is multiplied by alpha / rank."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Dropout on the adapters' input."""
    target_modules: str | list[str] = "all-linear"
    """As in LoRA: `all-linear`, `attention`, `query_value`, or ends of module names."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules to train fully beside the adapters; a classifier's head is always among them."""
    initial: Fraction = 0.1
    """Share of the steps before ranks begin to fall (t_i of the paper)."""
    final: Fraction = 0.3
    """Share of the steps after the ranks are settled (t_f). `initial` and `final` must leave steps between them."""
    allocate_every: Annotated[int, Ge(1)] = 1
    """Steps between two allocations (ΔT). 10 to 100 in long runs: each costs a sort over all ranks."""
    beta1: Annotated[float, Interval(gt=0, lt=1)] = 0.85
    """Smoothing of the sensitivity."""
    beta2: Annotated[float, Interval(gt=0, lt=1)] = 0.85
    """Smoothing of its uncertainty."""
    orthogonality: Annotated[float, Ge(0)] = 0.5
    """Weight γ of the penalty that keeps P and Q orthogonal; it is part of the loss. The paper tries 0.1 to 0.5."""


@dataclass(kw_only=True)
class HfVera(TrainerOptions):
    """Train two vectors per layer around random frozen matrices that all layers share (VeRA, Kopiczko et al., 2024).

    >>> HfVera(r=64).d_initial
    0.1
    """

    learning_rate: Annotated[float, Gt(0)] = 4e-3
    """Peak learning rate; the paper's are 1e-3 to 1e-2, above LoRA's."""
    r: Annotated[int, Ge(1)] = 256
    """Rank of the shared matrices; large, because it costs r numbers per layer only."""
    d_initial: float = 0.1
    """First value of the vector d; 0.1 or 1e-7 in the paper."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Dropout on the adapters' input."""
    target_modules: str | list[str] = "all-linear"
    """As in LoRA: `all-linear`, `attention`, `query_value`, or ends of module names."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules to train fully beside the vectors; a classifier's head is always among them."""


# ---- decoding -----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Decoding:
    min_new_tokens: Annotated[int, Ge(0)] = 0
    """Tokens to write before the end token is allowed. Set it to the maximum to time texts of equal length."""
    repetition_penalty: Annotated[float, Gt(0)] = 1.0
    """Divides the logits of tokens written before; 1 does nothing, 1.1 to 1.3 where a small model loops."""
    no_repeat_ngram_size: Annotated[int, Ge(0)] = 0
    """Forbid repeating an n-gram of this length; 0 allows all. 3 is usual for summaries."""


@dataclass(kw_only=True)
class Greedy(_Decoding):
    """Always the likeliest token.

    >>> Greedy().min_new_tokens
    0
    """


@dataclass(kw_only=True)
class Sample(_Decoding):
    """Draw each token; the draws follow from the run's seed.

    >>> Sample(top_p=0.9).temperature
    1.0
    """

    temperature: Annotated[float, Gt(0)] = 1.0
    """Divides the logits: below 1 sharper, above 1 wilder."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that together have this probability; 1 takes all."""
    top_k: Annotated[int, Ge(0)] = 0
    """Draw from the k likeliest tokens; 0 takes all."""


@dataclass(kw_only=True)
class Beam(_Decoding):
    """Beam search.

    >>> Beam(num_beams=4).length_penalty
    1.0
    """

    num_beams: Annotated[int, Ge(2)] = 4
    """Hypotheses kept. Time and memory grow with it; 4 to 6 for summaries and translation."""
    length_penalty: float = 1.0
    """Exponent on the length that divides the score: above 0 longer, below 0 shorter texts."""
    early_stopping: bool = True
    """Stop as soon as `num_beams` hypotheses are finished."""


@dataclass(kw_only=True)
class Assisted(_Decoding):
    """Greedy text of the target, drafted by a smaller model with the same tokenizer (Leviathan et al., 2023).

    >>> Assisted(draft=["./small"]).num_assistant_tokens
    5
    """

    draft: Annotated[list[str], MinLen(1)] = field(default_factory=list)
    """Where the draft model is: local folders or hub ids, the first that exists is taken."""
    num_assistant_tokens: Annotated[int, Ge(1)] = 5
    """Tokens drafted per forward pass of the target. More when drafts are mostly accepted."""
    schedule: Literal["constant", "heuristic", "heuristic_transient"] = "constant"
    """Whether that number grows by 2 after a fully accepted draft and falls by 1 otherwise (heuristic)."""
    confidence_threshold: Annotated[float, Ge(0), Le(1)] = 0.0
    """Stop a draft when the draft model's probability falls below this; 0 never stops early."""


@dataclass(kw_only=True)
class PromptLookup(_Decoding):
    """Greedy text, drafted by copying what followed the same n-gram earlier in the text (Saxena, 2023).

    >>> PromptLookup().num_tokens
    10
    """

    num_tokens: Annotated[int, Ge(1)] = 10
    """Tokens copied per draft."""
    max_ngram: Annotated[int, Ge(1)] = 2
    """Longest n-gram to look for; longer ones are tried first."""


# ---- evaluation ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Evaluation:
    split: Split | None = None
    """Rows to measure on; None takes `test`, or `validation` where there is no test."""
    rows: Annotated[int, Ge(1)] | None = None
    """Measure on the first rows only; None takes all."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Rows per forward pass. Changes speed and memory, not the result."""


@dataclass(kw_only=True)
class Classification(_Evaluation):
    """Accuracy, macro F1, Matthews correlation and negative log-likelihood of a classifier; error and correlation of a regressor.

    >>> Classification().batch_size
    32
    """


@dataclass(kw_only=True)
class Perplexity(_Evaluation):
    """Negative log-likelihood per target token with the true text before it, and its exponential.

    >>> Perplexity(batch_size=4).rows is None
    True
    """

    batch_size: Annotated[int, Ge(1)] = 8
    """Rows per forward pass."""


@dataclass(kw_only=True)
class Generation(_Evaluation):
    """Write text and compare it with the references: ROUGE, BLEU, chrF, exact match.

    >>> Generation(max_new_tokens=32).stemmer
    True
    """

    batch_size: Annotated[int, Ge(1)] = 8
    """Rows written at once; assisted and prompt-lookup decoding write one by one whatever it is."""
    max_new_tokens: Annotated[int, Ge(1)] = 128
    """Tokens to write at most."""
    stemmer: bool = True
    """Stem words before ROUGE, as papers on English do; False for other languages."""
    samples: Annotated[int, Ge(0)] = 5
    """Texts to show on the run's page."""


@dataclass(kw_only=True)
class DecodingSpeed:
    """Tokens per second of the run's decoder and of plain greedy decoding, measured in turns on the same prompts.

    >>> DecodingSpeed(repeats=5).warmup
    1
    """

    split: Split | None = None
    """Rows to take the prompts from; None takes `test`, or `validation` where there is no test."""
    rows: Annotated[int, Ge(1)] = 16
    """Prompts."""
    max_new_tokens: Annotated[int, Ge(1)] = 128
    """Tokens to write at most for each prompt."""
    repeats: Annotated[int, Ge(1)] = 3
    """Times each prompt is written by both, in turns. The median of the ratios is reported; more where the machine is busy."""
    warmup: Annotated[int, Ge(0)] = 1
    """Prompts to write before measuring, so that caches and clocks have settled."""
