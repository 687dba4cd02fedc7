"""Data of the core: what is read, what is refused with file and line, what a model gets, and what is known of generated data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest
import torch

from fascicle.config import check_option
from fascicle.context import RunContext
from fascicle.errors import ConfigError, DataError, SourceError
from fascicle.hf.data import load_data
from fascicle.hf.data_options import (
    GeneratedClassification,
    GeneratedPrompts,
    GeneratedSummarization,
    GeneratedText,
    Glue,
    HfClassification,
    HfPrompts,
    HfSummarization,
    HfText,
    Splits,
)
from fascicle.hf.generated import generate
from fascicle.hf.model_options import Tiny
from fascicle.hf.models import load_model

if TYPE_CHECKING:
    from fascicle.objects import Data, LoadedModel

SMALL: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2}


@pytest.fixture
def run(tmp_path: Path) -> RunContext:
    return RunContext(folder=tmp_path, num_labels=2, label_names=["no", "yes"])


def tiny(run: RunContext, architecture: Any = "bert", **options: Any) -> LoadedModel:
    return load_model(Tiny(architecture=architecture, **{**SMALL, **options}), run)


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def jsonl(path: Path, rows: Sequence[Any]) -> str:
    return written(path, "".join(json.dumps(row) + "\n" for row in rows))


def rows(data: Data, split: str = "train") -> list[dict[str, Any]]:
    return [dict(row) for row in data.splits[split]]


REVIEWS = "text,label\n" + "".join(f"review {i},{'good' if i % 3 else 'bad'}\n" for i in range(12))


# ---- formats -------------------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_rows(tmp_path: Path, run: RunContext) -> None:
    made = [{"text": 'a "b"', "label": "x"}, {"text": "c\u2028d, e", "label": "y"}]
    files = {
        "a.jsonl": "\n".join(json.dumps(row) for row in made) + "\n\n",
        "a.json": json.dumps({"version": 1, "data": made}),
        "a.csv": '\ufefftext,label\r\n"a ""b""",x\r\n\r\n"c\u2028d, e",y\r\n',
        "a.tsv": '\ufefftext\tlabel\na "b"\tx\nc\u2028d, e\ty\n',
    }
    sources = [written(tmp_path / name, text) for name, text in files.items()]
    datasets.Dataset.from_list(made).to_parquet(tmp_path / "a.parquet")
    read = [load_data(HfClassification(sources=[source]), run) for source in [*sources, str(tmp_path / "a.parquet")]]
    expected = [{"text": 'a "b"', "label": 0}, {"text": "c\u2028d, e", "label": 1}]
    assert all(rows(data) == expected for data in read)
    assert len({data.fingerprint for data in read}) == 1


def test_a_quoted_csv_field_may_hold_lines(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", 'text,label\n"one\ntwo",x\nthree,y\nfour,\n')
    with pytest.raises(DataError, match=r"a\.csv:5: data\.label_column=label: expected the name or the id of a class"):
        load_data(HfClassification(sources=[source]), run)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "x"}\n\n["x"]\n', r"a\.jsonl:3: expected an object with named fields"),
        ("a.json", '[{"text": "x"},\n {"text" "y"}]', r"a\.json:2: not JSON.*format=jsonl"),
        ("a.json", '[{"text": "x"}, "y"]', r"a\.json, row 1: expected an object"),
        ("a.json", '"text"', "expected a list of objects"),
        ("a.csv", "text,label\nx,y\nx\n", r"a\.csv:3: expected 2 fields \(text, label\), got 1"),
        ("a.csv", 'text,label\nx,"y\nx,y\n', r"a\.csv:2: not a csv row"),
        ("a.csv", "text,text\nx,y\n", r"a\.csv:1: the first line must name every column"),
        ("a.tsv", "text\tlabel\nx\ty\tz\n", r"a\.tsv:2: expected 2 fields .* got 3"),
        ("a.csv", "", r"a\.csv holds no rows"),
        ("a.csv", "text,label\n", r"a\.csv holds no rows"),
        ("a.jsonl", "\n\n", r"a\.jsonl holds no rows"),
        ("a.txt", "\n \n", r"a\.txt holds no rows"),
        ("a.parquet", "nonsense", r"a\.parquet: not a parquet file"),
        ("a.docx", "x", "the ending says 'docx'; set data.format to one of"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(
    tmp_path: Path, run: RunContext, name: str, text: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        load_data(HfText(sources=[written(tmp_path / name, text)]), run)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, run: RunContext) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\nna\xefve\n")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 text near line 2"):
        load_data(HfText(sources=[str(tmp_path / "a.txt")]), run)


@pytest.mark.parametrize("value", [3, None, ["x"], 1.5])
def test_what_is_not_text_is_named_with_its_line(tmp_path: Path, run: RunContext, value: Any) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"text": value}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: data\.text_column=text: expected text, got"):
        load_data(HfText(sources=[source]), run)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", REVIEWS)
    with pytest.raises(DataError, match=r"data\.text_column=txt.*Did you mean 'text'\? Columns: text, label"):
        load_data(HfClassification(sources=[source], text_column="txt"), run)
    with pytest.raises(DataError, match=r"data\.label_column=labels.*Did you mean 'label'"):
        load_data(HfClassification(sources=[source], label_column="labels"), run)


def test_a_column_of_mixed_types_that_is_not_needed_is_left_out(
    tmp_path: Path, run: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"text": "x", "id": 1}, {"text": "y", "id": "two"}])
    assert load_data(HfText(sources=[source]), run).splits["train"].column_names == ["text"]
    assert "the column 'id' mixes types and is left out" in caplog.text


# ---- splits --------------------------------------------------------------------------------------------------------------


def test_a_folders_files_are_its_splits(tmp_path: Path, run: RunContext) -> None:
    for name in ("train.csv", "dev.csv", "test.csv"):
        written(tmp_path / "d" / name, REVIEWS)
    data = load_data(HfClassification(sources=[str(tmp_path / "d")]), run)
    assert {split: len(data.splits[split]) for split in data.splits} == {"train": 12, "validation": 12, "test": 12}
    assert data.name == "d"


def test_splits_can_be_named_and_shared(tmp_path: Path, run: RunContext) -> None:
    written(tmp_path / "d" / "mine.csv", REVIEWS)
    written(tmp_path / "d" / "dev.csv", REVIEWS.replace("review", "other"))
    data = load_data(HfClassification(sources=[str(tmp_path / "d")], splits=Splits(train="mine.csv", test="dev")), run)
    assert rows(data, "validation") == rows(data, "test") != rows(data, "train")


def test_shards_are_joined_and_errors_name_the_shard(tmp_path: Path, run: RunContext) -> None:
    jsonl(tmp_path / "d" / "train-00000-of-00002.jsonl", [{"text": "a"}])
    jsonl(tmp_path / "d" / "train-00001-of-00002.jsonl", [{"text": "b"}, {"text": 1}])
    with pytest.raises(DataError, match=r"train-00001-of-00002\.jsonl:2: .*expected text"):
        load_data(HfText(sources=[str(tmp_path / "d")]), run)
    jsonl(tmp_path / "d" / "train-00001-of-00002.jsonl", [{"text": "b"}])
    assert [row["text"] for row in rows(load_data(HfText(sources=[str(tmp_path / "d")]), run))] == ["a", "b"]


def test_what_is_missing_is_said_with_what_is_there(tmp_path: Path, run: RunContext) -> None:
    source = str(tmp_path / "d")
    written(tmp_path / "d" / "mine.csv", REVIEWS)
    with pytest.raises(DataError, match=r"holds no split: looked for train.*it holds mine\.csv"):
        load_data(HfClassification(sources=[source]), run)
    with pytest.raises(DataError, match=r"data\.splits\.test=gone: .* holds no such file; it holds mine\.csv"):
        load_data(HfClassification(sources=[source], splits=Splits(train="mine", test="gone")), run)
    with pytest.raises(DataError, match="is one file, which has no splits"):
        load_data(HfClassification(sources=[source + "/mine.csv"], splits=Splits(train="mine")), run)
    with pytest.raises(SourceError, match="there is no such file or folder"):
        load_data(HfClassification(sources=[source + "/gone.csv"]), run)
    written(tmp_path / "d" / "train.csv", REVIEWS)
    written(tmp_path / "d" / "train.jsonl", "{}")
    with pytest.raises(DataError, match=r"several files named train: train\.csv, train\.jsonl"):
        load_data(HfClassification(sources=[source]), run)


def test_parts_are_set_aside_in_proportion_and_overlap_nowhere(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", REVIEWS)
    options = HfClassification(sources=[source], validation_part=0.25, test_part=1 / 3)
    data = load_data(options, run)
    assert {split: Counter(data.splits[split]["label"]) for split in data.splits} == {
        "train": {1: 4, 0: 2},
        "validation": {1: 2, 0: 1},
        "test": {1: 2, 0: 1},
    }
    texts = [row["text"] for split in data.splits for row in rows(data, split)]
    assert len(set(texts)) == len(texts) == 12
    assert load_data(options, run).fingerprint == data.fingerprint


def test_rows_are_drawn_by_seed_and_in_proportion(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", REVIEWS)
    draws = [load_data(HfClassification(sources=[source], train_rows=6, sample_seed=s), run) for s in (0, 0, 1)]
    assert [Counter(data.splits["train"]["label"]) for data in draws] == [{1: 4, 0: 2}] * 3
    assert rows(draws[0]) == rows(draws[1]) != rows(draws[2])
    assert draws[0].fingerprint != draws[2].fingerprint


def test_more_rows_than_there_are_is_said(tmp_path: Path, run: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    data = load_data(HfClassification(sources=[written(tmp_path / "a.csv", REVIEWS)], train_rows=99), run)
    assert len(data.splits["train"]) == 12
    assert "data.train_rows=99" in caplog.text


# ---- classes -------------------------------------------------------------------------------------------------------------


def test_classes_are_sorted_names_or_numbers_or_as_declared(tmp_path: Path, run: RunContext) -> None:
    named = HfClassification(sources=[written(tmp_path / "a.csv", REVIEWS)])
    data = load_data(named, run)
    assert data.label_names == ["bad", "good"]
    assert data.splits["train"]["label"][:3] == [0, 1, 1]
    named.label_names = ["good", "bad"]
    assert load_data(named, run).splits["train"]["label"][:3] == [1, 0, 0]
    numbered = jsonl(tmp_path / "b.jsonl", [{"text": "x", "label": label} for label in (10, 2, 10)])
    data = load_data(HfClassification(sources=[numbered]), run)
    assert (data.label_names, list(data.splits["train"]["label"])) == (["2", "10"], [1, 0, 1])
    ids = jsonl(tmp_path / "c.jsonl", [{"text": "x", "label": label} for label in (1, 0)])
    data = load_data(HfClassification(sources=[ids], label_names=["no", "yes"]), run)
    assert list(data.splits["train"]["label"]) == [1, 0]


def test_a_label_outside_the_classes_is_named_with_its_line(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", "text,label\nx,good\ny,bad\nz,goood\n")
    with pytest.raises(
        DataError, match=r"a\.csv:4: the label 'goood' is outside the declared classes bad, good.* Did you"
    ):
        load_data(HfClassification(sources=[source], label_names=["bad", "good"]), run)
    ids = jsonl(tmp_path / "b.jsonl", [{"text": "x", "label": 0}, {"text": "y", "label": -1}])
    with pytest.raises(DataError, match=r"b\.jsonl:2: the label -1 is outside"):
        load_data(HfClassification(sources=[ids], label_names=["bad", "good"]), run)


def test_a_class_that_training_lacks_is_an_error(tmp_path: Path, run: RunContext) -> None:
    written(tmp_path / "d" / "train.csv", REVIEWS)
    written(tmp_path / "d" / "test.csv", REVIEWS + "x,fair\n")
    with pytest.raises(DataError, match=r"test\.csv:14: the label 'fair' does not occur in the training rows"):
        load_data(HfClassification(sources=[str(tmp_path / "d")]), run)


def test_one_class_is_none(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", "text,label\nx,good\n")
    with pytest.raises(DataError, match=r"holds only one class \(good\)"):
        load_data(HfClassification(sources=[source]), run)


def test_regression_has_numbers_and_no_classes(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", "text,label\nx,0.5\ny,-2\n")
    data = load_data(HfClassification(sources=[source], regression=True), run)
    assert data.label_names == []
    run.num_labels, run.label_names = 1, []
    model = tiny(run)
    batch = data.collate(model)([data.encode("train", model)[i] for i in range(2)])
    assert batch["labels"].tolist() == [0.5, -2.0]
    assert model.model(**batch).loss.isfinite()
    written(tmp_path / "a.csv", "text,label\nx,0.5\ny,nan\n")
    with pytest.raises(DataError, match=r"a\.csv:3: data\.regression=true: expected a number"):
        load_data(HfClassification(sources=[source], regression=True), run)


# ---- features ------------------------------------------------------------------------------------------------------------


def test_pairs_are_encoded_together_and_padded(tmp_path: Path, run: RunContext) -> None:
    source = jsonl(
        tmp_path / "a.jsonl",
        [{"a": "good", "b": "bad", "label": "x"}, {"a": "good film", "b": "the film was bad", "label": "y"}],
    )
    data = load_data(HfClassification(sources=[source], text_column="a", pair_column="b"), run)
    model = tiny(run)
    assert model.tokenizer is not None
    features = data.encode("train", model)
    assert model.tokenizer.decode(features[1]["input_ids"]) == "<s>good film</s>the film was bad</s>"
    batch = data.collate(model)([features[0], features[1]])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape
    assert batch["attention_mask"][0].tolist() == [1] * 5 + [0] * 4
    assert batch["input_ids"][0, 5:].tolist() == [model.tokenizer.pad_token_id] * 4
    assert batch["labels"].tolist() == [0, 1]
    assert "labels" not in data.encode("train", tiny(run, head="none")).column_names


def test_cut_rows_are_counted_and_said_once(tmp_path: Path, run: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"text": "good " * n, "label": str(n % 2)} for n in (1, 20, 31)])
    data = load_data(HfClassification(sources=[source], max_length=16), run)
    model = tiny(run)
    features = data.encode("train", model)
    assert [len(ids) for ids in features["input_ids"]] == [4, 16, 16]
    assert model.tokenizer is not None
    assert all(ids[-1] == model.tokenizer.eos_token_id for ids in features["input_ids"])
    assert data.encode("train", model) is features
    said = [record.getMessage() for record in caplog.records]
    assert said == ["a: 2 of 3 rows of train are longer than the limit of 16 tokens and were cut"]
    assert max(map(len, data.encode("train", tiny(run, max_length=24))["input_ids"])) == 16


def test_a_split_or_model_that_does_not_fit_is_an_error(tmp_path: Path, run: RunContext) -> None:
    data = load_data(HfClassification(sources=[written(tmp_path / "a.csv", REVIEWS)]), run)
    with pytest.raises(DataError, match="a has no split 'test'; it has train"):
        data.encode("test", tiny(run))
    with pytest.raises(
        ConfigError, match="needs a model for classification or encoder, but tiny-llama is one for causal_lm"
    ):
        data.encode("train", tiny(run, "llama"))
    without = tiny(run)
    without.tokenizer = None
    with pytest.raises(ConfigError, match="has no tokenizer"):
        data.encode("train", without)


def test_text_is_learned_whole_with_its_end(tmp_path: Path, run: RunContext) -> None:
    data = load_data(HfText(sources=[written(tmp_path / "a.txt", "good film\n\nbad\n")]), run)
    model = tiny(run, "llama")
    assert model.tokenizer is not None
    features = data.encode("train", model)
    assert [model.tokenizer.decode(ids) for ids in features["input_ids"]] == ["<s>good film</s>", "<s>bad</s>"]
    assert list(features["labels"]) == list(features["input_ids"])
    batch = data.collate(model)([features[0], features[1]])
    assert batch["labels"][1].tolist() == [*features[1]["input_ids"], -100]
    assert data.strata is not None
    assert data.strata("train") == [2, 1]


def test_blocks_lose_no_token(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.txt", "\n".join("good " * n for n in range(1, 12)))
    model = tiny(run, "llama")
    whole = load_data(HfText(sources=[source]), run).encode("train", model)["input_ids"]
    blocks = load_data(HfText(sources=[source], block_length=16), run).encode("train", model)["input_ids"]
    assert [len(b) for b in blocks][:-1] == [16] * (len(blocks) - 1)
    assert [*chain(*blocks)] == [*chain(*whole)]
    with pytest.raises(ConfigError, match=r"data\.block_length=999: tiny-llama takes at most 256 tokens"):
        load_data(HfText(sources=[source], block_length=999), run).encode("train", model)


def prompts(tmp_path: Path, run: RunContext, **options: Any) -> Data:
    source = jsonl(tmp_path / "a.jsonl", [{"q": "two and two", "turns": ["first", "second"], "a": "four", "n": 7}])
    return load_data(HfPrompts(sources=[source], single_file="train", **options), run)


def test_only_the_completion_is_learned(tmp_path: Path, run: RunContext) -> None:
    data = prompts(tmp_path, run, template="{{Q{n}}}: {q}?\nA:", completion_column="a")
    assert data.splits["train"]["prompt"][0] == "{Q7}: two and two?\nA:"
    assert data.extra["references"]("train") == [["four"]]
    model = tiny(run, "llama")
    assert model.tokenizer is not None
    row = data.encode("train", model)[0]
    start = row["labels"].index(next(label for label in row["labels"] if label != -100))
    assert model.tokenizer.decode(row["input_ids"][:start]) == "<s>{Q7}: two and two?\nA:"
    assert model.tokenizer.decode(row["input_ids"][start:]) == " four</s>"
    assert row["labels"][start:] == row["input_ids"][start:]
    assert all(label == -100 for label in row["labels"][:start])
    seq2seq = tiny(run, "bart")
    assert seq2seq.tokenizer is not None
    row = data.encode("train", seq2seq)[0]
    assert seq2seq.tokenizer.decode(row["input_ids"], skip_special_tokens=True) == "{Q7}: two and two?\nA:"
    assert seq2seq.tokenizer.decode(row["labels"], skip_special_tokens=True) == "four"


def test_no_second_space_is_put_before_a_completion(tmp_path: Path, run: RunContext) -> None:
    model = tiny(run, "llama")
    assert model.tokenizer is not None
    for template, separator, expected in (("{q} ", " ", "two and two four"), ("{q}", "\n", "two and two\nfour")):
        data = prompts(tmp_path, run, template=template, completion_column="a", separator=separator)
        text = model.tokenizer.decode(data.encode("train", model)[0]["input_ids"], skip_special_tokens=True)
        assert text == expected


def test_prompts_alone_have_no_labels(tmp_path: Path, run: RunContext) -> None:
    data = prompts(tmp_path, run, prompt_column="turns.0")
    assert data.splits["train"]["prompt"][0] == "first"
    assert data.extra["references"]("train") is None
    assert data.encode("train", tiny(run, "llama")).column_names == ["input_ids", "attention_mask"]
    with pytest.raises(DataError, match=r"a\.jsonl:1: data\.prompt_column=turns\.2 wants entry 2 of a list"):
        prompts(tmp_path, run, prompt_column="turns.2")


def test_a_long_prompt_loses_its_beginning(tmp_path: Path, run: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"prompt": "good " * 30 + "last", "completion": "bad film"}])
    data = load_data(HfPrompts(sources=[source], completion_column="completion", max_length=8), run)
    model = tiny(run, "llama")
    assert model.tokenizer is not None
    text = model.tokenizer.decode(data.encode("test", model)[0]["input_ids"])
    assert text.endswith(" last bad film</s>")
    assert len(data.encode("test", model)[0]["input_ids"]) == 8
    assert "1 of 1 rows of test" in caplog.text


def test_rows_with_one_prompt_share_their_references(tmp_path: Path, run: RunContext) -> None:
    for name in ("train", "test"):
        jsonl(tmp_path / "d" / f"{name}.jsonl", [{"prompt": p, "c": c} for p, c in ("xa", "yb", "xc")])
    data = load_data(HfPrompts(sources=[str(tmp_path / "d")], completion_column="c", group_references=True), run)
    assert len(data.splits["train"]) == 3
    assert list(data.splits["test"]["prompt"]) == ["x", "y"]
    assert data.extra["references"]("test") == [["a", "c"], ["b"]]


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"template": "{q"}, DataError, "a brace is not closed"),
        ({"template": "{question}"}, DataError, "data.template=question: .* no such column"),
        ({"template": "{turns}"}, DataError, "needs text or a number for {turns}"),
        ({"prompt_column": "q", "group_references": True}, None, ""),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(
    tmp_path: Path, run: RunContext, options: dict[str, Any], error: Any, expected: str
) -> None:
    if error is None:  # grouping concerns evaluation; training rows stay as they are
        assert len(prompts(tmp_path, run, **options).splits["train"]) == 1
        return
    with pytest.raises(error, match=expected):
        prompts(tmp_path, run, **options)


def test_an_empty_prompt_is_named_with_its_line(tmp_path: Path, run: RunContext) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"prompt": "x"}, {"prompt": " "}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: the prompt is empty"):
        load_data(HfPrompts(sources=[source]), run)


def test_a_chat_template_wraps_the_prompt(tmp_path: Path, run: RunContext) -> None:
    data = prompts(tmp_path, run, prompt_column="q", completion_column="a", chat=True, system="be brief")
    model = tiny(run, "llama")
    tokenizer: Any = model.tokenizer
    with pytest.raises(ConfigError, match="has no chat template"):
        data.encode("train", model)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[answer]"
    row = data.encode("train", model)[0]
    assert tokenizer.decode(row["input_ids"]) == "[system]be brief[user]two and two[answer]four</s>"


def summaries(tmp_path: Path, run: RunContext, **options: Any) -> Data:
    made = [{"document": ["good film .", "bad play ."], "summary": ["a film", "one film"]}]
    return load_data(HfSummarization(sources=[jsonl(tmp_path / "a.jsonl", made)], **options), run)


def test_summaries_for_both_kinds_of_model(tmp_path: Path, run: RunContext) -> None:
    data = summaries(tmp_path, run, prefix="sum: ")
    assert data.extra["references"]("train") == [["a film", "one film"]]
    bart, llama = tiny(run, "bart"), tiny(run, "llama")
    assert bart.tokenizer is not None
    assert llama.tokenizer is not None
    row = data.encode("train", bart)[0]
    assert bart.tokenizer.decode(row["input_ids"], skip_special_tokens=True) == "sum: good film . bad play ."
    assert bart.tokenizer.decode(row["labels"], skip_special_tokens=True) == "a film"
    assert bart.model(**data.collate(bart)([row])).loss.isfinite()
    row = data.encode("train", llama)[0]
    assert llama.tokenizer.decode(row["input_ids"]) == "<s>sum: good film . bad play .\nTL;DR: a film</s>"
    assert llama.tokenizer.decode([i for i in row["labels"] if i != -100]) == " a film</s>"


def test_a_long_document_keeps_its_beginning_and_the_question(tmp_path: Path, run: RunContext) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"document": "first" + " good" * 90, "summary": "bad" + " bad" * 9}])
    data = load_data(HfSummarization(sources=[source], max_length=32, max_target_length=4), run)
    llama, bart = tiny(run, "llama"), tiny(run, "bart")
    assert llama.tokenizer is not None
    row = data.encode("train", llama)[0]
    text = llama.tokenizer.decode(row["input_ids"])
    assert len(row["input_ids"]) == 32
    assert text.startswith("<s>first good")
    assert text.endswith("good\nTL;DR: bad bad bad</s>")
    row = data.encode("train", bart)[0]
    assert len(row["input_ids"]) == 32
    assert len(row["labels"]) == 4
    assert row["labels"][-1] == 2


def test_a_summary_that_is_no_text_is_named(tmp_path: Path, run: RunContext) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"document": "x", "summary": "y"}, {"document": "x", "summary": []}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: data\.summary_column=summary: expected a text or a list"):
        load_data(HfSummarization(sources=[source]), run)


# ---- the hub, from a folder laid out like one ----------------------------------------------------------------------------


def hub_folder(folder: Path) -> Path:
    """A data set repository with one configuration, `sst2`, as nyu-mll/glue has it; its test labels are hidden."""
    features = datasets.Features(
        sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["negative", "positive"])
    )
    for split, labels in (("train", [0, 1, 1]), ("validation", [1, 0]), ("test", [-1, -1])):
        content = {"sentence": [f"{split} {i}" for i in range(len(labels))], "label": labels}
        (folder / "sst2").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(content, features=features).to_parquet(
            folder / "sst2" / f"{split}-00000-of-00001.parquet"
        )
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sst2\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: sst2/{s}-*\n" for s in ("train", "validation", "test"))
        + "---\n"
    )
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hub:org/rows` is read from a local folder."""
    from fascicle.hf import files, glue
    from fascicle.sources import Resolved

    class Local(Resolved):
        @property
        def location(self) -> str:
            return str(hub_folder(tmp_path / "hub"))

    def resolved(sources: Sequence[str], what: str, repo_type: str = "model") -> Resolved:
        assert repo_type == "dataset"
        return Local(kind="hub", path=None, repo_id="org/rows", description="hub org/rows")

    monkeypatch.setattr(files, "resolve", resolved)
    monkeypatch.setattr(glue, "resolve", resolved)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))


@pytest.mark.usefixtures("hub")
def test_a_data_set_of_the_hub_brings_its_classes(run: RunContext) -> None:
    options = HfClassification(
        sources=["hub:org/rows"], subset="sst2", text_column="sentence", splits=Splits(test="validation")
    )
    data = load_data(options, run)
    assert (data.name, data.label_names) == ("rows-sst2", ["negative", "positive"])
    assert {split: list(data.splits[split]["label"]) for split in data.splits} == {
        "train": [0, 1, 1],
        "validation": [1, 0],
        "test": [1, 0],
    }


@pytest.mark.usefixtures("hub")
def test_the_hubs_errors_say_what_to_choose(run: RunContext) -> None:
    options = HfClassification(sources=["hub:org/rows"], subset="sst2", text_column="sentence")
    with pytest.raises(DataError, match=r"test, row 0: the label -1 is outside the declared classes"):
        load_data(options, run)
    options.splits = Splits(train="training")
    with pytest.raises(DataError, match=r"data\.splits\.train=training: .* it has train, validation, test"):
        load_data(options, run)
    options.subset = "sst3"
    with pytest.raises(DataError, match=r"\(sst3\): datasets cannot read it: .*sst2"):
        load_data(options, run)


@pytest.mark.usefixtures("hub")
def test_glue_from_the_hub_is_glue_from_the_files(tmp_path: Path, run: RunContext) -> None:
    data = load_data(Glue(task="sst2", sources=["hub:org/rows"]), run)
    assert rows(data) == [{"sentence": f"train {i}", "label": label} for i, label in enumerate([0, 1, 1])]
    assert rows(data, "test") == rows(data, "validation")
    assert data.label_names == ["negative", "positive"]


# ---- GLUE ----------------------------------------------------------------------------------------------------------------


def glue_folder(folder: Path, bad: str = "") -> Path:
    mrpc = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    for name in ("train", "dev"):
        written(folder / "SST-2" / f"{name}.tsv", f"sentence\tlabel\nfine \t1\nbad \t0\n{bad}")
        written(folder / "MRPC" / f"{name}.tsv", mrpc + '1\t1\t2\tHe said " yes\t" Yes , he said\r\n0\t3\t4\ta\tb\r\n')
        written(folder / "CoLA" / f"{name}.tsv", "gj04\t1\t\tOne fine sentence.\ngj04\t0\t*\tOne sentence bad.\n")
        written(
            folder / "RTE" / f"{name}.tsv",
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\ta\ta\tentailment\n",
        )
    return folder


def test_each_task_of_glue_is_read_as_it_is_written(tmp_path: Path, run: RunContext) -> None:
    source = str(glue_folder(tmp_path / "glue"))
    read = {task: load_data(Glue(task=task, sources=[source]), run) for task in ("sst2", "mrpc", "cola", "rte")}
    assert rows(read["sst2"]) == [{"sentence": "fine ", "label": 1}, {"sentence": "bad ", "label": 0}]
    assert rows(read["mrpc"])[0] == {"sentence1": 'He said " yes', "sentence2": '" Yes , he said', "label": 1}
    assert rows(read["cola"], "validation")[1] == {"sentence": "One sentence bad.", "label": 0}
    assert [row["label"] for row in rows(read["rte"], "test")] == [1, 0]
    assert read["rte"].label_names == ["entailment", "not_entailment"]
    assert read["cola"].extra["primary"] == "mcc"


def test_glues_errors_name_file_and_line(tmp_path: Path, run: RunContext) -> None:
    folder = glue_folder(tmp_path / "glue", bad="x\t2\n")
    with pytest.raises(DataError, match=r"SST-2/train\.tsv:4: the label '2' is none of 0, 1"):
        load_data(Glue(sources=[str(folder)]), run)
    glue_folder(folder, bad="no label\n")
    with pytest.raises(DataError, match=r"SST-2/train\.tsv:4: expected 2 fields"):
        load_data(Glue(sources=[str(folder)]), run)
    (folder / "RTE" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"RTE/dev\.tsv: there is no such file; the folder of GLUE must hold RTE/train"):
        load_data(Glue(task="rte", sources=[str(folder)]), run)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("task", "sizes", "positive"),
    [("sst2", (67349, 872), 444), ("mrpc", (3667, 408), 279), ("cola", (8551, 1043), 721), ("rte", (2490, 277), 131)],
)
def test_glue_has_the_sizes_of_its_files(
    real_data: Callable[[str], Path],
    run: RunContext,
    task: Any,
    sizes: tuple[int, int],
    positive: int,
) -> None:
    data = load_data(Glue(task=task, sources=[str(real_data("glue"))]), run)
    assert (len(data.splits["train"]), len(data.splits["validation"])) == sizes
    assert sum(data.splits["test"]["label"]) == positive


@pytest.mark.realdata
def test_real_prompts_and_summaries_are_read(real_data: Callable[[str], Path], run: RunContext) -> None:
    speed = load_data(HfPrompts(sources=[str(real_data("spec_bench/question.jsonl"))], prompt_column="turns.0"), run)
    assert len(speed.splits["test"]) == 320
    template = "Question: {question}\nAnswer:"
    maths = load_data(HfPrompts(sources=[str(real_data("gsm8k"))], template=template, completion_column="answer"), run)
    assert (len(maths.splits["train"]), len(maths.splits["test"])) == (7473, 1239)
    options = HfPrompts(
        sources=[str(real_data("e2e"))],
        prompt_column="mr",
        completion_column="ref",
        group_references=True,
        splits=Splits(train="devset.csv", test="testset_w_refs.csv"),
    )
    e2e = load_data(options, run)
    assert (len(e2e.splits["train"]), len(e2e.splits["test"])) == (4672, 630)
    assert sum(map(len, e2e.extra["references"]("test"))) == 4693
    options2 = HfSummarization(
        sources=[str(real_data("scitldr"))], document_column="source", summary_column="target", eval_rows=100
    )
    assert {s: len(r) for s, r in load_data(options2, run).splits.items()} == {"train": 1992, "validation": 100}


# ---- generated data ------------------------------------------------------------------------------------------------------

GENERATED = [GeneratedClassification, GeneratedText, GeneratedPrompts, GeneratedSummarization]


@pytest.mark.parametrize("kind", GENERATED)
def test_generated_data_follows_from_its_seed_and_no_row_is_twice(kind: Any, run: RunContext) -> None:
    small = {"train_rows": 60, "validation_rows": 20, "test_rows": 20}
    one, two, other = (load_data(kind(**small, seed=seed), run) for seed in (0, 0, 1))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert {split: len(one.splits[split]) for split in one.splits} == {"train": 60, "validation": 20, "test": 20}
    first = one.splits["train"].column_names[0]
    texts = [row[first] for split in one.splits for row in rows(one, split)]
    assert len(set(texts)) == 100
    more = load_data(kind(**{**small, "train_rows": 61}), run)
    assert [row[first] for row in rows(more)][:60] == [row[first] for row in rows(one)]


def test_generated_data_is_the_same_everywhere(run: RunContext) -> None:
    small = {"train_rows": 20, "validation_rows": 5, "test_rows": 5}
    assert [load_data(kind(**small), run).fingerprint[:12] for kind in GENERATED] == FINGERPRINTS


FINGERPRINTS = ["2cc7fa1baa87", "20bdaa963f12", "61fa824924f0", "6db8661e80a0"]


def test_too_many_generated_rows_are_refused(run: RunContext) -> None:
    with pytest.raises(DataError, match=r"data\.train_rows=4000: .* gave only \d+ different rows; ask for fewer"):
        load_data(GeneratedText(sentences=1, train_rows=4000), run)


def judged(text: str) -> str:
    """The class of an opinion, worked out again from its words by the rules that the module states."""
    from fascicle.hf.generated import BAD, GOOD, NEGATIONS

    text = text.removesuffix(" .")
    if " but " in text:
        text = text.split(" but ")[1]
    elif text.startswith("although"):
        text = text.split(" , ")[1]
    else:
        text = text.split(" although ")[0]
    words = text.split()
    good = any(word in GOOD for word in words)
    assert good != any(word in BAD for word in words)
    return "positive" if good != any(word in NEGATIONS for word in words) else "negative"


def test_opinions_follow_their_rules() -> None:
    made = generate(GeneratedClassification())
    assert all(judged(row["text"]) == row["label"] for split in made.values() for row in split)
    assert 0.45 < sum(row["label"] == "positive" for row in made["train"]) / 2000 < 0.55


def test_the_bag_of_words_does_not_suffice_but_a_tiny_model_learns(run: RunContext) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = load_data(GeneratedClassification(), run)
    texts = {split: list(data.splits[split]["text"]) for split in data.splits}
    bag = CountVectorizer()
    linear = LogisticRegression(max_iter=500).fit(
        bag.fit_transform(texts["train"]), list(data.splits["train"]["label"])
    )
    assert linear.score(bag.transform(texts["test"]), list(data.splits["test"]["label"])) < 0.7
    model = tiny(run, hidden_size=64, layers=2, heads=4)
    train(model, data, epochs=6)
    features = [data.encode("test", model)[i] for i in range(500)]
    batch = data.collate(model)(features)
    with torch.no_grad():
        accuracy = (model.model(**batch).logits.argmax(-1) == batch["labels"]).float().mean().item()
    assert accuracy > 0.75


def train(model: LoadedModel, data: Data, epochs: int, rate: float = 2e-3, size: int = 32) -> None:
    features = data.encode("train", model)
    made, collate = [features[i] for i in range(len(features))], data.collate(model)
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=rate)
    steps = epochs * (len(made) // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / (steps + 1))
    )
    generator = torch.Generator().manual_seed(0)
    model.model.train()
    for _ in range(epochs):
        order = torch.randperm(len(made), generator=generator).tolist()
        for start in range(0, len(made) - size + 1, size):
            model.model(**collate([made[i] for i in order[start : start + size]])).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.model.eval()


def test_no_model_beats_the_known_floor_of_the_stories(run: RunContext) -> None:
    data = load_data(GeneratedText(train_rows=1500), run)
    floor = data.extra["truth"]["test"]["nats_per_word"]
    assert floor == pytest.approx(sum(data.splits["test"]["nats"]) / sum(data.splits["test"]["words"]))
    model = tiny(run, "llama", hidden_size=64, layers=2, heads=4)
    train(model, data, epochs=2, rate=3e-3)
    batch = data.collate(model)([data.encode("test", model)[i] for i in range(200)])
    words = sum(data.splits["test"]["words"][:200])
    with torch.no_grad():
        targets = (batch["labels"][:, 1:] != -100).sum().item()
        loss = model.model(**batch).loss.item() * targets / words
    assert floor - 0.05 < loss < 2 * floor


def test_answers_and_cued_facts_are_right() -> None:
    for row in generate(GeneratedPrompts(train_rows=80))["train"]:
        prompt, answer = row["prompt"], row["completion"].removesuffix(" .")
        if row["category"] == "where":
            thing = prompt.split("where is ")[1].split(" ?")[0]
            assert f"{thing} is {answer} ." in prompt
        elif row["category"] == "what":
            box = prompt.split("what is ")[1].split(" ?")[0]
            assert f"{answer} is {box} ." in prompt
        else:
            items = prompt.split(" : ")[1].removesuffix(" . answer :").split(" , ")
            assert answer.split(" , ") == (items if row["category"] == "copy" else items[::-1])
    for row in generate(GeneratedSummarization(train_rows=50))["train"]:
        assert row["document"] == " ".join(row["sentences"])
        assert row["sentences"][-1] == f"the question is about {row['cue']} ."
        fact = row["summary"].removesuffix(" .")
        assert [i for i, s in enumerate(row["sentences"]) if s.startswith(fact)] == [row["evidence"]]
        assert fact.startswith(row["cue"])


# ---- options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"kind": "hf_text", "sources": []}, "sources: at least one place of the data is required"),
        ({"kind": "hf_text", "sources": ["x"], "validation_part": 0.6, "test_part": 0.5}, "expected a sum below 1"),
        ({"kind": "hf_classification", "sources": ["x"], "label_names": ["a", "a"]}, "two or more different names"),
        ({"kind": "hf_classification", "sources": ["x"], "label_names": ["a", "b"], "regression": True}, "no classes"),
        ({"kind": "hf_prompts", "sources": ["x"], "system": "be brief"}, "needs data.chat=true"),
        ({"kind": "glue", "task": "qqp"}, "data.task"),
        ({"kind": "glue", "sources": []}, "at least one place of GLUE"),
        ({"kind": "hf_text", "sources": ["x"], "splits": {"trian": "a"}}, "data.splits.trian.*Did you mean 'train'"),
        ({"kind": "generated_prompts", "facts": 1}, "data.facts"),
    ],
)
def test_wrong_options_are_refused_with_the_key(node: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_option("data", {"provider": "hf", **node}, None)


@pytest.mark.parametrize("group", ["model", "data"])
def test_every_option_file_fits_its_schema_and_says_what_it_is(group: str) -> None:
    from importlib import resources

    import yaml

    folder = resources.files("fascicle") / "conf" / group
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    assert len(files) >= 8
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# ")
        node = yaml.safe_load(text)
        if node.get("sources") == []:
            node["sources"] = ["folder:/somewhere"]
        check_option(group, node, file.name)
