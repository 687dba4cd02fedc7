"""Options of the plugin, typed. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from fascicle.hf.model_options import Tiny  # noqa: TC001 - the configuration is checked by this type

__all__ = ["SiefDocre", "SiefDocuments", "SiefFocusing", "SiefModel", "SiefPlanted"]

Rows = Annotated[int, Ge(1)]


@dataclass(kw_only=True)
class SiefModel:
    """A model of relations between entities of a document, on any encoder of transformers; the relations are the data's.

    >>> SiefModel(base="atlop", sources=["hub:google-bert/bert-base-cased"]).window
    512
    """

    base: Literal["bilstm", "bilinear", "atlop", "graph", "graph_bilstm"] = "atlop"
    """`bilinear`: means of mentions, bilinear. `atlop`: localized context pooling with an adaptive threshold. `graph`: sentences
    and mentions in a graph (the base of the official code). `bilstm`, `graph_bilstm`: over word vectors alone."""
    sources: list[str] = field(default_factory=list)
    """Where the encoder may be, in order; the first that exists is taken: `folder:/path`, `wheel:module/inside`, `hub:org/name`."""
    name: str | None = None
    """What tables call the model; None takes the encoder's name and the base."""
    tiny: Tiny | None = None
    """A tiny random encoder instead of a pretrained one, e.g. `{architecture: bert}`: for generated documents and tests."""
    entity_types: list[str] = field(default_factory=lambda: ["PER", "ORG", "LOC", "TIME", "NUM", "MISC"])
    """Entity types that are told apart; any other type counts as one more."""
    max_pieces: Annotated[int, Ge(16)] = 1024
    """Word pieces of a document that are read; a longer one loses whole sentences at its end, with a warning."""
    window: Annotated[int, Ge(16)] = 512
    """Word pieces that the transformer reads at once; longer documents are read in windows that overlap."""
    overlap: Annotated[int, Ge(0)] = 128
    """Word pieces that neighbouring windows share."""
    hidden: Annotated[int, Ge(2)] = 256
    """Width of the BiLSTM, both directions together; half of it is the width of the bilinear head's entities."""
    emb: Annotated[int, Ge(1)] = 384
    """Width of ATLOP's pair representation, a multiple of `block`; 768 in its paper."""
    block: Annotated[int, Ge(1)] = 64
    """Width of a group of ATLOP's bilinear form."""
    layers: Annotated[int, Ge(1)] = 2
    """Layers of the graph."""
    heads: Annotated[int, Ge(1)] = 4
    """Attention heads of the graph."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """Dropout in the head and in the BiLSTM."""
    attention_dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Dropout of the encoder's attention weights in training; None takes the checkpoint's. 0 saves half the time on a CPU."""

    def __post_init__(self) -> None:
        if not self.sources and self.tiny is None:
            raise ValueError(
                "sources: at least one place of the encoder is required, got an empty list; set e.g. "
                "model.sources=[folder:/path/to/model], or model.tiny={architecture: bert}"
            )
        if self.tiny is not None and self.tiny.architecture != "bert":
            raise ValueError(f"tiny.architecture: got {self.tiny.architecture!r}, expected 'bert', an encoder")
        if self.tiny is not None and self.attention_dropout is not None:
            raise ValueError(
                f"attention_dropout: got {self.attention_dropout} beside tiny, which has one dropout for all; set tiny.dropout"
            )
        if self.emb % self.block:
            raise ValueError(f"emb: expected a multiple of block={self.block}, got {self.emb}")
        if self.overlap >= self.window - 2:
            raise ValueError(f"overlap: expected less than window - 2 = {self.window - 2}, got {self.overlap}")


@dataclass(kw_only=True)
class SiefDocuments:
    """Documents from files: DocRED's json, DialogRE's, PubTator (BC5CDR) or SciERC's json lines."""

    train: str
    """File to train on. With `parts` it is divided, by title."""
    validation: str | None = None
    """File to choose the threshold on."""
    test: str | None = None
    """File to measure on."""
    parts: list[Annotated[int, Ge(0)]] = field(default_factory=list)
    """Documents of `train` taken for training, validation and test, e.g. [400, 50, 50]; empty where there are three files."""
    validation_part: Annotated[int, Ge(0)] = 0
    """Documents of `train` set aside to choose the threshold on, by title, where there is a test file but none for validation."""
    split_seed: Annotated[int, Ge(0)] = 0
    """Seed of a division, apart from the run's, so that all runs see the same documents."""
    titles_of: list[str] = field(default_factory=list)
    """More files whose titles take part in the division: documents that stand in several files are then on the same side in all."""
    format: Literal["auto", "docred", "dialogre", "cdr", "scierc"] = "auto"
    """Format of the files; `auto` looks at them."""
    relations: list[str] = field(default_factory=list)
    """Names of the relations, in order; empty takes those of all files, sorted; for DialogRE its 36 in the order of their ids."""
    names: str | None = None
    """rel_info.json, what to call relations such as P17 on the page."""
    name: str | None = None
    """What tables call the data; None takes the training file's name."""

    def __post_init__(self) -> None:
        given = self.validation is not None or self.test is not None
        if self.parts and (given or len(self.parts) != 3):
            raise ValueError(
                f"parts: expected three numbers and no other files, got {self.parts}"
                + (" with validation or test" if given else "")
            )
        if self.validation_part and (self.parts or self.validation is not None):
            raise ValueError(
                f"validation_part: expected 0 beside {'parts' if self.parts else 'a validation file'}, got {self.validation_part}; "
                "set one of them"
            )
        if not self.parts and self.test is None:
            raise ValueError("test: got no file, expected one, or parts=[...] of the training file, e.g. [400, 50, 50]")


@dataclass(kw_only=True)
class SiefPlanted:
    """Documents that the project writes: one pair each, a sentence with the evidence, and one that hints by chance."""

    train_rows: Rows = 400
    """Documents to train on."""
    validation_rows: Rows = 100
    """Documents to choose the threshold on."""
    test_rows: Rows = 400
    """Documents to measure on."""
    cue: Annotated[float, Interval(ge=0, le=1)] = 0.6
    """How often the distractor names the right relation. High: a shortcut."""
    triggers: Annotated[int, Interval(ge=1, le=25)] = 4
    """Words that tell each relation; more of them make the evidence harder to learn."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the documents; `${seed}` draws anew for each run."""


@dataclass(kw_only=True)
class SiefFocusing:
    """The focusing loss beside the model's own, and its controls. Needs relation labels only, never evidence."""

    mode: Literal["focusing", "consistency", "random_drop", "none"] = "focusing"
    """`focusing`: the paper. `consistency`: no cell is exempt. `random_drop`: the shortened document with its gold labels.
    `none`: the base model's loss alone."""
    beta: float = 0.8
    """Importance above which a sentence is evidence and its cells are left alone (β); 0.8 in the paper's code."""
    detach_target: bool = False
    """Keep the gradient of the focusing loss out of the whole document. The paper's code does not; on small data it keeps
    probabilities from shrinking."""
    include_na: bool = True
    """Count "no relation" as a class in both losses, as the paper's code does with BERT."""
    sentences: Annotated[int, Ge(1)] = 1
    """Sentences removed from each document at a step."""
    weight: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Share of the focusing loss in the sum; 0.5 in the paper's code."""
    warmup: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Part of training before the focusing loss sets in; 0 in the paper's code. A model that is sure of nothing exempts nothing."""
    negatives: Annotated[float, Gt(0)] | None = 5.0
    """Pairs without a relation for each pair with one, drawn anew at each step; 5 in the paper's code with BERT, None takes all."""
    min_negatives: Annotated[int, Ge(0)] = 20
    """At least so many of them in each document."""
    distance: Literal["full", "recomputed"] = "full"
    """Distance between entities in the shortened document: as it was, as in the paper's code, or measured there."""
    one_pass: bool = False
    """Read whole and shortened documents as one batch. On a CPU two batches are sooner, since the shorter one needs less padding;
    on a GPU one may be."""


@dataclass(kw_only=True)
class SiefDocre:
    """Relations by DocRED's rules, and how much they depend on evidence."""

    threshold: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Probability above which a relation is predicted; None chooses the best on `validation` (ATLOP: 0.5, its own threshold)."""
    robustness: Annotated[int, Ge(0)] = 100
    """Test documents to ask again with sentences removed, moved and added; 0 leaves it out. Each costs some twenty passes."""
    evidence: bool = True
    """Compare importance with the evidence that people marked, where they did."""
    resamples: Annotated[int, Ge(100)] = 1000
    """Bootstrap samples of documents for intervals."""
    batch_pieces: Annotated[int, Ge(64)] = 4096
    """Word pieces read at once, padding included."""
    examples: Annotated[int, Ge(0)] = 1
    """Test documents to show on the page, with the importance of each sentence."""
