"""What a data option may say; light, since it is read to check a configuration before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Interval

__all__ = [
    "GeneratedClassification",
    "GeneratedPrompts",
    "GeneratedSummarization",
    "GeneratedText",
    "Glue",
    "HfClassification",
    "HfPrompts",
    "HfSummarization",
    "HfText",
    "Splits",
]

Rows = Annotated[int, Ge(1)] | None
Part = Annotated[float, Interval(ge=0, lt=1)]
Seed = Annotated[int, Ge(0)]


@dataclass(kw_only=True)
class Splits:
    """Which split is which. On the hub: names of splits. In a folder: names of files, with or without their ending.

    >>> Splits(test="dev").test
    'dev'
    """

    train: str | None = None
    """None takes `train`, where it exists."""
    validation: str | None = None
    """None takes `validation`, `valid`, `val` or `dev`, where one exists."""
    test: str | None = None
    """None takes `test`, where it exists. May name the same file as `validation`, where only one has labels."""


@dataclass(kw_only=True)
class _Sampled:
    train_rows: Rows = None
    """Train on this many rows, drawn with `sample_seed`, in proportion to the classes; None takes all."""
    eval_rows: Rows = None
    """The same for `validation` and for `test`."""
    sample_seed: Seed = 0
    """Seed of drawing rows. Fixed, so that the runs of a sweep over seeds share their rows; `${seed}` draws anew for each."""
    max_length: Annotated[int, Ge(8)] | None = None
    """Cut inputs to this many tokens; None takes what the model allows. Cut rows are counted and reported."""


@dataclass(kw_only=True)
class _Files(_Sampled):
    sources: list[str] = field(default_factory=list)
    """Where the data may be, in order; the first that exists is taken: `folder:/path` (a folder or one file),
    `wheel:module/inside`, `hub:org/name@revision`. `$VARIABLE` is filled in."""
    name: str | None = None
    """What tables call the data; None takes the last part of the source."""
    subset: str | None = None
    """Configuration of a data set of the hub, e.g. `sst2`."""
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "txt"] = "auto"
    """Format of local files; `auto` goes by the ending. A tsv has no quoting, a csv may quote; both name their columns in
    the first line."""
    splits: Splits = field(default_factory=Splits)
    """Which file or split is which."""
    single_file: Literal["train", "validation", "test"] = "train"
    """What a source that is one file counts as."""
    validation_part: Part = 0.0
    """Part of the training rows to set aside as `validation`, where there is none."""
    test_part: Part = 0.0
    """Part of the training rows to set aside as `test`, where there is none."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(
                "sources: at least one place of the data is required, got an empty list; "
                "set e.g. data.sources=[folder:/path/to/data] or data.sources=[hub:org/name]"
            )
        if self.validation_part + self.test_part >= 1:
            raise ValueError(
                f"validation_part and test_part: expected a sum below 1, got {self.validation_part + self.test_part}"
            )


@dataclass(kw_only=True)
class HfText(_Files):
    """Plain text for language modelling.

    >>> HfText(sources=["folder:/data/wiki"], block_length=512).text_column
    'text'
    """

    text_column: str = "text"
    """Column of the text; of a txt file, each line is a row of `text`."""
    block_length: Annotated[int, Ge(8)] | None = None
    """Join all texts (an end token between them) and cut them into blocks of this many tokens, so that nothing is lost;
    None keeps one row per text and cuts it at the longest input."""


@dataclass(kw_only=True)
class HfClassification(_Files):
    """Texts, or pairs of texts, with a class or a number.

    >>> HfClassification(sources=["reviews.csv"], label_names=["bad", "good"]).label_column
    'label'
    """

    text_column: str = "text"
    """Column of the text."""
    pair_column: str | None = None
    """Column of the second text, where the task compares two."""
    label_column: str = "label"
    """Column of the class: a name, or an id from 0."""
    label_names: list[str] | None = None
    """The classes in the order of their ids; None takes them from the data set, or sorts what the training rows hold."""
    regression: bool = False
    """The label is a number to predict; there are no classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.label_names
        if names is not None and self.regression:
            raise ValueError("label_names and regression: a regression has no classes; leave one of them out")
        if names is not None and (len(names) < 2 or len(set(names)) < len(names)):
            raise ValueError(f"label_names: expected two or more different names, got {names!r}")


@dataclass(kw_only=True)
class HfPrompts(_Files):
    """Prompts to continue, perhaps with the continuation: for fine-tuning, generation and decoding speed.

    >>> HfPrompts(sources=["gsm8k"], template="Question: {question}\\nAnswer:", completion_column="answer").chat
    False
    """

    prompt_column: str = "prompt"
    """Column of the prompt; `turns.0` is the first entry of a column of lists. Not used with a `template`."""
    template: str | None = None
    """The prompt from several columns, their names in braces: `"Question: {question}\\nAnswer:"`."""
    completion_column: str | None = None
    """Column of what should follow. Training learns these tokens only; without it, the whole prompt."""
    references_column: str | None = None
    """Column of the right answers (one text or a list) to compare with; None takes `completion_column`."""
    separator: str = " "
    """Put between prompt and completion where neither has a space there."""
    group_references: bool = False
    """In `validation` and `test`, make rows with the same prompt one row with several references."""
    chat: bool = False
    """Wrap the prompt as a user's message in the tokenizer's chat template."""
    system: str | None = None
    """The system message, with `chat`."""
    single_file: Literal["train", "validation", "test"] = "test"
    """What a source that is one file counts as."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.system is not None and not self.chat:
            raise ValueError("system: a system message needs data.chat=true")


@dataclass(kw_only=True)
class HfSummarization(_Files):
    """Documents and their summaries; for encoder-decoders, and with a prompt for decoder-only models.

    >>> HfSummarization(sources=["scitldr"], document_column="source", summary_column="target").prefix
    ''
    """

    document_column: str = "document"
    """Column of the document: a text, or a list of sentences."""
    summary_column: str = "summary"
    """Column of the summary: a text, or a list of summaries of which training takes the first and evaluation compares with all."""
    prefix: str = ""
    """Put before each document; T5 wants `"summarize: "`."""
    suffix: str = "\nTL;DR:"
    """Put after each document for decoder-only models, which write the summary next."""
    max_target_length: Annotated[int, Ge(4)] = 128
    """Cut summaries to this many tokens in training. Cut rows are counted and reported."""


@dataclass(kw_only=True)
class Glue(_Sampled):
    """Tasks of GLUE from their original files; the development set is both validation and test, since test labels are not public.

    >>> Glue(task="rte").sources[-1]
    'hub:nyu-mll/glue'
    """

    task: Literal["sst2", "mrpc", "cola", "rte"] = "sst2"
    """sst2: sentiment; mrpc: paraphrase; cola: acceptability; rte: entailment."""
    sources: list[str] = field(default_factory=lambda: ["folder:$FASCICLE_DATA/glue", "hub:nyu-mll/glue"])
    """Where GLUE may be, in order: a folder with `SST-2/train.tsv` and so on, or the hub."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(
                "sources: at least one place of GLUE is required, got an empty list; the default is folder:$FASCICLE_DATA/glue"
            )


@dataclass(kw_only=True)
class _Generated:
    seed: Seed = 0
    """Seed of the data: the same seed gives the same rows everywhere, whatever the run's seed."""
    train_rows: Annotated[int, Ge(1)] = 2000
    """Rows to train on."""
    validation_rows: Annotated[int, Ge(1)] = 200
    """Rows of `validation`."""
    test_rows: Annotated[int, Ge(1)] = 500
    """Rows of `test`."""
    max_length: Annotated[int, Ge(8)] | None = None
    """Cut inputs to this many tokens; None takes what the model allows."""


@dataclass(kw_only=True)
class GeneratedClassification(_Generated):
    """Opinions made from templates; negation and contrast decide the class, so the words alone do not.

    >>> GeneratedClassification(train_rows=100).seed
    0
    """


@dataclass(kw_only=True)
class GeneratedText(_Generated):
    """Small stories whose true probability is known, so that perplexity has a known floor.

    >>> GeneratedText().sentences
    4
    """

    sentences: Annotated[int, Ge(1)] = 4
    """Sentences per text."""


@dataclass(kw_only=True)
class GeneratedPrompts(_Generated):
    """Questions about a few facts in the prompt, and lists to copy; the right answer is known.

    >>> GeneratedPrompts(facts=3).facts
    3
    """

    facts: Annotated[int, Interval(ge=2, le=8)] = 4
    """Facts in a prompt, or items in a list."""


@dataclass(kw_only=True)
class GeneratedSummarization(_Generated):
    """Documents of facts with a cue that says which fact matters; the summary states that fact.

    >>> GeneratedSummarization().facts
    5
    """

    facts: Annotated[int, Interval(ge=2, le=8)] = 5
    """Facts in a document."""
