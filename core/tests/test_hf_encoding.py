"""What a model gets of each row: what is learned, what is cut and how it is said, how rows become a batch."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from hf_rows import REVIEWS, jsonl, tiny, written

from fascicle.context import RunContext
from fascicle.errors import ConfigError, DataError
from fascicle.hf.data import load_data
from fascicle.hf.data_options import (
    HfClassification,
    HfPrompts,
    HfSummarization,
    HfText,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fascicle.objects import Data


@pytest.fixture
def run(tmp_path: Path) -> RunContext:
    return RunContext(folder=tmp_path, num_labels=2, label_names=["no", "yes"])


# ---- features --------------------------------------------------------------------------------------------------------------


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
