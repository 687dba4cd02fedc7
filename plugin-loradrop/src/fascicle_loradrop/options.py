"""Options of the plugin, typed. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from fascicle.hf.training_options import LoraOptions, TrainerOptions

__all__ = ["E2eData", "E2eEvaluation", "LoraDrop", "ProbeOptions"]


@dataclass(kw_only=True)
class ProbeOptions:
    """Stage 1: ordinary LoRA on all targets, trained on a sample, so that there is an output to score."""

    ratio: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """Share of the training rows in the sample, drawn by strata. Raise it when the ranking is unstable between seeds."""
    max_rows: Annotated[int, Ge(1)] | None = 1024
    """Upper bound on the sample's rows: a probe needs hundreds, whatever the size of the set. None for no bound."""
    epochs: Annotated[int, Ge(1)] = 3
    """Passes over the sample. Energy is read from what was learnt, so too few rank by noise."""
    steps: Annotated[int, Ge(1)] | None = None
    """Optimizer steps instead of epochs."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Rows per step of the probe."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """Constant AdamW rate of the probe."""
    probes: Annotated[int, Ge(1)] = 1
    """Probes with seeds of their own whose importances are averaged; from two on, the page shows how stable the ranking is."""
    tokens: Literal["all", "labels"] = "all"
    """Positions that count: all that are no padding, or only those with a label (causal and seq2seq models)."""


@dataclass(kw_only=True)
class LoraDrop(TrainerOptions):
    """LoRA-drop: probe, score, select, share, train. With no threshold, keep or budget given, `threshold` is 0.9."""

    lora: LoraOptions = field(default_factory=LoraOptions)
    """The LoRA of both stages."""
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    """Stage 1."""
    threshold: Annotated[float, Interval(gt=0, le=1)] | None = None
    """T: the kept modules carry this share of the energy (the method's own rule, 0.9 by default). 1 is plain LoRA."""
    keep: Annotated[int, Ge(1)] | None = None
    """Keep this many modules instead."""
    budget: Annotated[float, Interval(gt=0, le=1)] | None = None
    """Keep as many as fit into this share of the full LoRA's parameters, shared pairs included."""
    scope: Literal["global", "per_type", "per_layer"] = "global"
    """Pool of the ranking. `per_type` when one wide weight type takes all the energy."""
    normalize: Literal["none", "per_dim", "relative"] = "none"
    """Raw energy (the method), per output dimension, or relative to the frozen layer's output."""
    share_by: Literal["type", "shape", "none"] = "type"
    """Who shares one LoRA: low modules of a weight type, of a shape, or nobody (they get none)."""
    floor: Annotated[int, Ge(1)] = 1
    """Modules kept at least in each pool."""
    init: Literal["reset", "keep", "merge"] = "reset"
    """Stage 2 starts afresh, goes on from the probe, or shares the best fit of the group's mean."""
    shared_grad: Literal["sum", "mean"] = "sum"
    """Gradient of a shared pair over its users. `mean` where clipping bites."""
    control: Literal["none", "random", "inverse", "uniform"] = "none"
    """What could prove the method wrong at the same size: random modules, the least important ones, or a smaller rank
    everywhere."""
    match: Literal["parameters", "count"] = "parameters"
    """A control has exactly the plan's parameters, or its number of modules."""
    compact: bool = True
    """Write the adapter without its copies too (`model-compact`)."""

    def __post_init__(self) -> None:
        given = [name for name in ("threshold", "keep", "budget") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of threshold, keep and budget, got {' and '.join(given)}")
        if self.lora.init not in ("default", "gaussian", "orthogonal") and self.init == "reset":
            raise ValueError(
                f"init=reset cannot redo lora.init={self.lora.init}, which changes the base; use init=keep"
            )


@dataclass(kw_only=True)
class E2eData:
    """E2E NLG as its repository ships it: csv with `mr` and `ref`; a meaning representation in, a sentence out."""

    folder: str
    """Folder with devset.csv and testset_w_refs.csv."""
    train_rows: Annotated[int, Ge(1)] | None = None
    """Rows of the development set to train on, drawn by seed; None takes all 4,672."""
    test_mrs: Annotated[int, Ge(1)] | None = None
    """Meaning representations of the test set, in its order; None takes all 630."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the draw, apart from the run's, so that all runs see the same rows."""
    max_length: Annotated[int, Ge(16)] = 160
    """Tokens of one example; longer ones are refused, not cut."""


@dataclass(kw_only=True)
class E2eEvaluation:
    """Teacher-forced loss of all references, and BLEU and slot error of one text per meaning representation."""

    batch_size: Annotated[int, Ge(1)] = 16
    """Rows at once."""
    generate_mrs: Annotated[int, Ge(0)] = 100
    """Meaning representations to write a text for; 0 measures the loss only."""
    max_new_tokens: Annotated[int, Ge(1)] = 64
    """Tokens of a text at most."""
