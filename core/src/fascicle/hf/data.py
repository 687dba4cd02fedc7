"""Data of the core's own provider: text, classes, prompts and summaries from files or the hub, GLUE, and data with a known truth.

Every reader ends in the same three steps: check each row (an error names its file and line), draw rows if fewer are wanted, and put
the splits into a `Data` that knows how to turn them into features for a classifier, a causal LM or an encoder-decoder.

What a `Data` of the core carries in `extra`:

    references(split)   right answers per row, a list of texts each, or None; for evaluations that write text
    primary             the metric that papers report for this data, where it is not the usual one
    truth               of generated data: what is known about it
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import datasets

from ..errors import ConfigError, DataError
from ..objects import Data
from .columns import joined_texts, prompt_table, several_texts
from .data_options import (
    GeneratedClassification,
    GeneratedPrompts,
    GeneratedSummarization,
    GeneratedText,
    Glue,
    HfClassification,
    HfPrompts,
    HfSummarization,
    HfText,
)
from .encoding import (
    Encoder,
    causal_features,
    classification_features,
    collate,
    seq2seq_features,
    token_ids,
)
from .files import Tables, draw, read_tables, set_aside
from .labels import class_ids, class_names, numbers
from .readers import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..context import RunContext
    from ..objects import LoadedModel
    from .encoding import Features, Featurise

__all__ = [
    "content_fingerprint",
    "load_classification",
    "load_data",
    "load_generated",
    "load_glue",
    "load_prompts",
    "load_summarization",
    "load_text",
]

logger = logging.getLogger(__name__)

Splits = Mapping[str, datasets.Dataset]
Generated = (GeneratedClassification, GeneratedText, GeneratedPrompts, GeneratedSummarization)


def load_data(options: Any, run: RunContext) -> Data:
    """Load the data of one option. The answer of the core's `fascicle_load_data`.

    Raises:
        SourceError: no source has the data.
        DataError: what it has cannot be used.

    >>> from fascicle.testing.helpers import run_context
    >>> import pathlib, tempfile
    >>> run = run_context(pathlib.Path(tempfile.mkdtemp()))
    >>> sorted(load_data(GeneratedText(train_rows=4, validation_rows=1, test_rows=1), run).splits)
    ['test', 'train', 'validation']
    """
    if isinstance(options, Generated):
        return load_generated(options)
    for kind, load in _LOADERS.items():
        if isinstance(options, kind):
            data: Data = load(options)
            return data
    raise ConfigError(f"data: {type(options).__name__} is none of the core's data options")


# ---- one function per task -----------------------------------------------------------------------------------------------


def load_classification(options: HfClassification) -> Data:
    """Texts, or pairs, with a class (an id in the column `label`) or a number.

    Raises:
        SourceError, DataError: see `load_data`.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = file.write_text("text,label\\nfine,good\\npoor,bad\\n")
    >>> list(load_classification(HfClassification(sources=[str(file)])).splits["train"]["label"])
    [1, 0]
    """
    tables = read_tables(options, "hf_classification")
    label = options.label_column
    for table in tables.splits.values():
        table.column(label, "data.label_column")
    by_class = None if options.regression else lambda table: [str(v) for v in table.column(label, "data.label_column")]
    tables.splits = set_aside(tables.splits, options, by_class)
    declared = options.label_names or tables.class_names.get(label)
    texts = [options.text_column, *([] if options.pair_column is None else [options.pair_column])]
    return _classification(
        tables,
        texts,
        label,
        declared,
        options,
        regression=options.regression,
        keys=("data.text_column", "data.pair_column"),
    )


def load_glue(options: Glue) -> Data:
    """One task of GLUE.

    Raises:
        SourceError, DataError: see `load_data`.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "SST-2").mkdir()
    >>> for name in ("train.tsv", "dev.tsv"):
    ...     _ = (folder / "SST-2" / name).write_text("sentence\\tlabel\\nfine\\t1\\n")
    >>> load_glue(Glue(sources=[str(folder)])).label_names
    ['negative', 'positive']
    """
    from .glue import TASKS, read_glue

    task = TASKS[options.task]
    tables = read_glue(options)
    data = _classification(tables, list(task.texts), "label", task.names, options)
    data.extra["primary"] = task.metric
    logger.info("%s: test is the development set, since GLUE's test labels are not public", options.task)
    return data


def load_text(options: HfText) -> Data:
    """Plain text for language modelling.

    Raises:
        SourceError, DataError: see `load_data`.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "a.txt")
    >>> _ = file.write_text("one\\ntwo\\n")
    >>> len(load_text(HfText(sources=[str(file)])).splits["train"])
    2
    """
    tables = read_tables(options, "hf_text")
    tables.splits = set_aside(tables.splits, options, None)
    for split, table in tables.splits.items():
        texts = table.texts(options.text_column, "data.text_column")
        if not any(text.strip() for text in texts):
            raise DataError(f"{table.origin}: every text of the {split} split is empty")
    return _text(tables, options.text_column, options, options.block_length)


def load_prompts(options: HfPrompts) -> Data:
    """Prompts to continue; columns `prompt`, and where they are known `completion` and `references`, beside those of the source.

    Raises:
        SourceError, DataError: see `load_data`.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "a.csv")
    >>> _ = file.write_text("q,a\\n1+1,2\\n")
    >>> load_prompts(HfPrompts(sources=[str(file)], template="{q}=", completion_column="a")).splits["test"]["prompt"][0]
    '1+1='
    """
    tables = read_tables(options, "hf_prompts")
    tables.splits = set_aside(tables.splits, options, None)
    tables.splits = {split: prompt_table(table, options, split) for split, table in tables.splits.items()}
    return _prompts(tables, options, options.completion_column is not None)


def load_summarization(options: HfSummarization) -> Data:
    """Documents and summaries; columns `document` (a text) and `summary` (a list of texts), beside those of the source.

    Raises:
        SourceError, DataError: see `load_data`.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "a.csv")
    >>> _ = file.write_text("document,summary\\nlong,short\\n")
    >>> load_summarization(HfSummarization(sources=[str(file)])).extra["references"]("train")
    [['short']]
    """
    tables = read_tables(options, "hf_summarization")
    tables.splits = set_aside(tables.splits, options, None)
    for split, table in tables.splits.items():
        documents = joined_texts(table, options.document_column, "data.document_column")
        summaries = several_texts(table, options.summary_column, "data.summary_column")
        columns = {**table.columns, "document": documents, "summary": summaries}
        tables.splits[split] = Table(table.origin, columns, table.lines, table.files)
    return _summaries(tables, options)


def load_generated(
    options: GeneratedClassification | GeneratedText | GeneratedPrompts | GeneratedSummarization,
) -> Data:
    """Data that the project makes; see `fascicle.hf.generated`.

    Raises:
        DataError: more rows are wanted than there can be.

    >>> load_generated(GeneratedClassification(train_rows=8, validation_rows=2, test_rows=2)).label_names
    ['negative', 'positive']
    """
    from .generated import CLASSES, generate

    kinds = dict(zip(Generated, ("classification", "text", "prompts", "summarization"), strict=True))
    name = f"generated_{kinds[type(options)]}"
    rows = generate(options)
    splits = {
        split: Table(f"{name} {split}", {key: [row[key] for row in made] for key in made[0]})
        for split, made in rows.items()
    }
    tables = Tables(splits, name, f"{name}(seed={options.seed})")
    if isinstance(options, GeneratedClassification):
        return _classification(tables, ["text"], "label", CLASSES, options)
    if isinstance(options, GeneratedText):
        data = _text(tables, "text", options, None)
        data.extra["truth"] = {
            split: {"nats_per_word": math.fsum(t.columns["nats"]) / sum(t.columns["words"])}
            for split, t in splits.items()
        }
        return data
    if isinstance(options, GeneratedPrompts):
        for table in splits.values():
            table.columns["references"] = [[text] for text in table.columns["completion"]]
        data = _prompts(tables, HfPrompts(sources=["generated"], max_length=options.max_length), True)
        data.extra["primary"] = "exact_match"
        return data
    for table in splits.values():
        table.columns["summary"] = [[text] for text in table.columns["summary"]]
    return _summaries(tables, HfSummarization(sources=["generated"], max_length=options.max_length, suffix=" answer :"))


_LOADERS: dict[type, Callable[[Any], Data]] = {
    HfClassification: load_classification,
    HfPrompts: load_prompts,
    HfSummarization: load_summarization,
    HfText: load_text,
    Glue: load_glue,
}


# ---- tables to Data ------------------------------------------------------------------------------------------------------


def _classification(
    tables: Tables,
    texts: Sequence[str],
    label: str,
    declared: Sequence[str] | None,
    options: Any,
    *,
    regression: bool = False,
    keys: Sequence[str] = ("data.text_column", "data.pair_column"),
) -> Data:
    """Checks texts and labels of every split, draws rows, and makes the `Data`; class ids stand in the column `label`."""
    names = None if regression else class_names(tables.splits, label, declared)
    ids: dict[str, list[Any]] = {}
    for split, table in tables.splits.items():
        for column, key in zip(texts, keys, strict=False):
            table.texts(column, key)
        ids[split] = (
            numbers(table, label) if names is None else class_ids(table, label, names, declared=declared is not None)
        )
    if (
        names is not None
        and "train" in ids
        and (absent := [name for i, name in enumerate(names) if i not in set(ids["train"])])
    ):
        logger.warning("%s: the training rows hold none of %s", tables.splits["train"].origin, ", ".join(absent))
    splits = {}
    for split, table in tables.splits.items():
        chosen = draw(
            len(table),
            _wanted(options, split, table),
            getattr(options, "sample_seed", 0),
            None if names is None else ids[split],
        )
        columns = table.take(chosen).columns
        columns.pop(label, None)
        columns["label"] = [ids[split][row] for row in chosen]
        splits[split] = _dataset(columns, table, keep={*texts, "label"}, classes=names)

    def features(split: str, model: LoadedModel, limit: int | None, *, labelled: bool = True) -> Features:
        rows = splits[split]
        pairs = list(rows[texts[1]]) if len(texts) > 1 else None
        return classification_features(
            model, list(rows[texts[0]]), pairs, list(rows["label"]) if labelled else None, limit
        )

    ways: dict[str, Featurise] = {
        "classification": features,
        "encoder": lambda split, model, limit: features(split, model, limit, labelled=False),
    }
    data = _data(tables, "classification", splits, ways, options)
    data.label_names = [] if names is None else list(names)
    data.strata = lambda split: list(splits[split]["label"])
    return data


def _text(tables: Tables, column: str, options: Any, block: int | None) -> Data:
    splits = {split: _drawn(table, split, options, {column}) for split, table in tables.splits.items()}

    def features(split: str, model: LoadedModel, limit: int | None) -> Features:
        end = _end(model)
        ids = [row + ([] if row and row[-1:] == end else end) for row in token_ids(model, list(splits[split][column]))]
        if block is None:
            return causal_features(ids, None, limit)
        if limit is not None and block > limit:
            raise ConfigError(f"data.block_length={block}: {model.name} takes at most {limit} tokens")
        joined = [token for row in ids for token in row]
        blocks = [joined[start : start + block] for start in range(0, len(joined), block)]
        return causal_features([b for b in blocks if len(b) > 1], None, None)

    data = _data(tables, "causal_lm", splits, {"causal_lm": features}, options)
    data.strata = lambda split: [len(text.split()) for text in splits[split][column]]
    return data


def _prompts(tables: Tables, options: HfPrompts, completed: bool) -> Data:
    keep = {"prompt", *(["completion"] if completed else [])}
    splits = {split: _drawn(table, split, options, keep) for split, table in tables.splits.items()}

    def completions(split: str) -> list[str] | None:
        return list(splits[split]["completion"]) if completed else None

    def causal(split: str, model: LoadedModel, limit: int | None) -> Features:
        prompts = (
            [_chat(model, text, options.system) for text in splits[split]["prompt"]]
            if options.chat
            else list(splits[split]["prompt"])
        )
        after = completions(split)
        ids = token_ids(model, prompts, special=not options.chat)
        if after is None:
            features = causal_features(ids, [[] for _ in ids], limit)
            del features.columns["labels"]
            return features
        gaps = [
            "" if options.chat or p[-1:].isspace() or t[:1].isspace() else options.separator
            for p, t in zip(prompts, after, strict=True)
        ]
        ends = [gap + text for gap, text in zip(gaps, after, strict=True)]
        return causal_features(ids, [row + _end(model) for row in token_ids(model, ends, special=False)], limit)

    def seq2seq(split: str, model: LoadedModel, limit: int | None) -> Features:
        return seq2seq_features(model, list(splits[split]["prompt"]), completions(split), limit, limit)

    data = _data(tables, "causal_lm", splits, {"causal_lm": causal, "seq2seq": seq2seq}, options)
    data.strata = lambda split: [len(text.split()) for text in splits[split]["prompt"]]
    data.extra["references"] = lambda split: (
        list(splits[split]["references"]) if "references" in splits[split].column_names else None
    )
    return data


def _summaries(tables: Tables, options: HfSummarization) -> Data:
    splits = {split: _drawn(table, split, options, {"document", "summary"}) for split, table in tables.splits.items()}

    def documents(split: str) -> list[str]:
        return [options.prefix + text for text in splits[split]["document"]]

    def seq2seq(split: str, model: LoadedModel, limit: int | None) -> Features:
        firsts = [texts[0] for texts in splits[split]["summary"]]
        return seq2seq_features(model, documents(split), firsts, limit, options.max_target_length)

    def causal(split: str, model: LoadedModel, limit: int | None) -> Features:
        tail = token_ids(model, [options.suffix], special=False)[0]
        asked = [row + tail for row in token_ids(model, documents(split))]
        told = token_ids(model, [f" {texts[0]}" for texts in splits[split]["summary"]], special=False)
        short = [row[: options.max_target_length - 1] + _end(model) for row in told]
        features = causal_features(asked, short, limit, keep_end=[len(tail)] * len(asked))
        features.cut |= {row for row, ids in enumerate(told) if len(ids) >= options.max_target_length}
        return features

    data = _data(tables, "seq2seq", splits, {"seq2seq": seq2seq, "causal_lm": causal}, options)
    data.strata = lambda split: [len(text.split()) for text in splits[split]["document"]]
    data.extra["references"] = lambda split: list(splits[split]["summary"])
    return data


def _end(model: LoadedModel) -> list[int]:
    """The end token, as a list; empty where the tokenizer has none."""
    end = getattr(model.tokenizer, "eos_token_id", None)
    return [] if end is None else [end]


def _chat(model: LoadedModel, prompt: str, system: str | None) -> str:
    tokenizer: Any = model.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"data.chat=true: the tokenizer of {model.name} has no chat template; set data.chat=false or choose a chat model"
        )
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": prompt})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _wanted(options: Any, split: str, table: Table) -> int | None:
    """How many rows to draw; generated data has what it was asked for."""
    if not hasattr(options, "eval_rows"):
        return None
    rows: int | None = options.train_rows if split == "train" else options.eval_rows
    if rows is not None and rows > len(table):
        key = "data.train_rows" if split == "train" else "data.eval_rows"
        logger.warning("%s=%d: %s has only %d rows; all are taken", key, rows, table.origin, len(table))
    return rows


def _drawn(table: Table, split: str, options: Any, keep: set[str]) -> datasets.Dataset:
    chosen = draw(len(table), _wanted(options, split, table), getattr(options, "sample_seed", 0))
    return _dataset(table.take(chosen).columns, table, keep)


def _dataset(
    columns: dict[str, list[Any]], table: Table, keep: set[str], classes: Sequence[str] | None = None
) -> datasets.Dataset:
    """The columns as a `datasets.Dataset`; one that mixes types and is not needed is left out, with a warning."""
    import pyarrow as pa  # type: ignore[import-untyped]

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            if name in keep:
                raise DataError(f"{table.origin}: the column {name!r} mixes types: {error}") from error
            logger.warning("%s: the column %r mixes types and is left out", table.origin, name)
    content = pa.table(arrays)
    features = datasets.Features.from_arrow_schema(content.schema)
    if classes is not None:
        features["label"] = datasets.ClassLabel(names=list(classes))
    return datasets.Dataset(content.cast(features.arrow_schema))


def _data(tables: Tables, task: str, splits: Splits, ways: Mapping[str, Featurise], options: Any) -> Data:
    for split, table in tables.splits.items():
        if not len(splits[split]):
            raise DataError(f"{table.origin}: the {split} split holds no rows")
    return Data(
        name=tables.name,
        task=task,
        splits=splits,
        encode=Encoder(tables.name, splits, ways, options.max_length),
        collate=collate,
        fingerprint=content_fingerprint(splits),
        source=tables.source,
    )


def content_fingerprint(splits: Splits) -> str:
    """sha256 over the splits' names, columns and values.

    >>> content_fingerprint({"train": datasets.Dataset.from_dict({"x": [1]})})[:8]
    'e63882ea'
    """
    digest = hashlib.sha256()
    for split in sorted(splits):
        rows = splits[split]
        digest.update(json.dumps([split, sorted(rows.column_names), len(rows)]).encode())
        for name in sorted(rows.column_names):
            for start in range(0, len(rows), 1000):
                values = rows[start : start + 1000][name]
                digest.update(json.dumps(values, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
