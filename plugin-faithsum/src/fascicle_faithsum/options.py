"""Options of the plugin, typed. Light: no torch. The objective's option is `recipe.Recipe`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from fascicle.hf.data_options import HfSummarization
from fascicle.hf.model_options import Tiny  # noqa: TC001 - the configuration is checked by this type

__all__ = ["FaithsumFacts", "FaithsumFaithfulness", "FaithsumModel", "FaithsumSummaries"]

Rows = Annotated[int, Ge(1)]
Mode = Literal["map", "mean", "sample", "none", "posterior", "oracle", "shuffled"]


@dataclass(kw_only=True)
class FaithsumModel:
    """An encoder-decoder of transformers (BART, mBART, PEGASUS) that induces its guidance and writes the summary with it.

    >>> FaithsumModel(sources=["hub:facebook/bart-base"]).latent_type
    'sentence'
    """

    sources: list[str] = field(default_factory=list)
    """Where the base may be, in order; the first that exists is taken: `folder:/path`, `wheel:module/inside`, `hub:org/name`."""
    name: str | None = None
    """What tables call the model; None takes the base's name."""
    tiny: Tiny | None = None
    """A tiny random BART instead of a pretrained base, e.g. `{architecture: bart}`: for generated documents and tests."""
    warm_start: bool = False
    """The source is a BERT encoder: a BART is made whose encoder it is, and whose decoder starts from the same layers."""
    decoder_layers: Annotated[int, Ge(1)] = 3
    """Layers of the decoder that `warm_start` makes."""
    guided: bool = True
    """False leaves the base as it is: the twin without guidance, for comparisons."""
    latent_type: Literal["sentence", "bernoulli", "gaussian"] = "sentence"
    """What the latent variable is: one sentence of the document, a yes or no per token, or a vector."""
    latent_size: Annotated[int, Ge(1)] = 32
    """Width of a gaussian latent."""
    guidance_layers: Annotated[int, Ge(1)] = 1
    """Encoder layers over the guidance."""
    guidance_mode: Literal["map", "mean", "sample"] = "map"
    """What the prior gives when a summary is written: its best guess, its mean, or a draw."""
    bow: bool = False
    """A head that guesses the summary's words from the guidance, for `objective.bow_weight`."""
    max_length: Annotated[int, Ge(8)] | None = None
    """Longest input in tokens; None takes what the tokenizer and the positions of the model allow."""
    attention: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None = None
    """Implementation of the base's attention; None leaves transformers' choice."""
    attention_dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Dropout of the base's attention weights in training; None takes the checkpoint's. 0 saves half the time on a CPU."""

    def __post_init__(self) -> None:
        if not self.sources and self.tiny is None:
            raise ValueError(
                "sources: at least one place of the base is required, got an empty list; set e.g. "
                "model.sources=[hub:facebook/bart-base], or model.tiny={architecture: bart}"
            )
        if self.tiny is not None and self.tiny.architecture != "bart":
            raise ValueError(f"tiny.architecture: got {self.tiny.architecture!r}, expected 'bart'")
        if self.tiny is not None and self.warm_start:
            raise ValueError(
                "warm_start: got true beside tiny; a random model has nothing to start from, set one of them"
            )
        if self.tiny is not None and self.attention_dropout is not None:
            raise ValueError(
                f"attention_dropout: got {self.attention_dropout} beside tiny, which has one dropout for all; set tiny.dropout"
            )


@dataclass(kw_only=True)
class FaithsumFacts:
    """Documents of facts that the project writes: which fact is cued and which one a summary states is known.

    >>> FaithsumFacts().facts
    3
    """

    train_rows: Rows = 2000
    """Documents to train on."""
    validation_rows: Rows = 100
    """Documents of `validation`."""
    test_rows: Rows = 200
    """Documents to measure on."""
    facts: Annotated[int, Interval(ge=2, le=8)] = 3
    """Facts of a document."""
    noise: Annotated[float, Interval(ge=0, le=1)] = 0.4
    """How often the summary is of any fact, drawn evenly, instead of the cued one."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the documents, apart from the run's."""
    name: str = "facts"
    """What tables call the data."""


@dataclass(kw_only=True)
class FaithsumSummaries(HfSummarization):
    """Documents and summaries from files or the hub, with the sentences of each document and which of them the summary is from.

    >>> FaithsumSummaries(sources=["scitldr"], document_column="source", summary_column="target").oracle_column is None
    True
    """

    oracle_column: str | None = None
    """Column of marks, one per sentence: 1 where the summary is from there. None takes the sentence that shares most tokens with
    the summary. Only used where `objective.tag_weight` is above 0, and to measure with oracle guidance."""


@dataclass(kw_only=True)
class FaithsumFaithfulness:
    """Writes summaries and measures how faithful they are, how much they copy, and whether the guidance is used.

    >>> FaithsumFaithfulness().metrics[0]
    'sentence_max_bigram'
    """

    split: Literal["train", "validation", "test"] | None = None
    """Rows to measure on; None takes test, else validation."""
    rows: Rows | None = None
    """The first so many rows; None takes all."""
    batch_size: Rows = 16
    """Summaries written at once."""
    max_new_tokens: Rows = 64
    """Longest summary, in tokens."""
    metrics: list[str] = field(default_factory=lambda: ["sentence_max_bigram", "coverage", "numbers"])
    """Faithfulness metrics by name; `fascicle faithsum metrics` lists them."""
    checker: str | None = None
    """Folder of a trained entailment checker, measured as `checker`."""
    modes: list[Mode] = field(default_factory=lambda: ["posterior", "shuffled", "none"])
    """Guidance measured beside the prior's own: `posterior` and `oracle` see the reference, `shuffled` is another document's."""
    diagnostic_rows: Annotated[int, Ge(0)] = 200
    """Rows for the diagnostics of the latent variable; 0 leaves them out."""
    samples: Annotated[int, Ge(0)] = 3
    """Documents shown with their guidance on the run's page."""
    guided_samples: Annotated[int, Ge(0)] = 0
    """Summaries per document under drawn guidance, of which `rerank` chooses one; 0 leaves that out."""
    rerank: str = "sentence_max_bigram"
    """Metric that chooses."""

    def __post_init__(self) -> None:
        if not self.metrics and self.checker is None:
            raise ValueError("metrics: expected at least one name, got an empty list, e.g. [sentence_max_bigram]")
        for key, names in (("metrics", self.metrics), ("modes", self.modes)):
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: expected different names, got {names}")
