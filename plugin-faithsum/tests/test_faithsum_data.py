"""Documents as the data of a run: sentences of tokens, tags, twins without guidance, and what is wrong with files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from fascicle.errors import DataError
from fascicle.hf.model_options import Tiny
from fascicle.testing.helpers import run_context
from fascicle_faithsum.data import is_guided, load, segment_columns, unwrapped
from fascicle_faithsum.loading import load as load_model
from fascicle_faithsum.options import FaithsumFacts, FaithsumModel, FaithsumSummaries

if TYPE_CHECKING:
    from fascicle.objects import LoadedModel

TINY = Tiny(architecture="bart", hidden_size=16, layers=1, heads=2)
FACTS = FaithsumFacts(train_rows=6, validation_rows=2, test_rows=4)


def model(tmp_path: Path, **settings: Any) -> LoadedModel:
    return load_model(FaithsumModel(tiny=TINY, **settings), run_context(tmp_path))


def papers(folder: Path, **columns: Any) -> Path:
    row = {"source": ["It was cold.", "The lamp was sold in Oslo.", "Nobody came."], "target": ["A lamp was sold."]}
    (folder / "train.jsonl").write_text("\n".join([json.dumps({**row, **columns})] * 3), encoding="utf-8")
    (folder / "test.jsonl").write_text(json.dumps({**row, **columns}), encoding="utf-8")
    return folder


def summaries(folder: Path, **settings: Any) -> FaithsumSummaries:
    return FaithsumSummaries(sources=[str(folder)], document_column="source", summary_column="target", **settings)


def test_tokens_know_their_sentence(tmp_path: Path) -> None:
    loaded = model(tmp_path)
    data = load(FACTS, run_context(tmp_path))
    rows = data.encode("test", loaded)
    for row, document in zip(rows, data.extra["facts"]("test"), strict=True):
        for k, sentence in enumerate(document.sentences):
            own = [i for i, s in zip(row["input_ids"], row["segment_ids"], strict=True) if s == k]
            assert loaded.tokenizer is not None
            assert loaded.tokenizer.decode(own).strip() == sentence
        assert row["segment_ids"][0] == row["segment_ids"][-1] == -1
        assert row["guidance_tags"] == [float(k == document.target) for k in range(3)]


def test_batches_are_padded_outside_of_sentences(tmp_path: Path) -> None:
    loaded, data = model(tmp_path), load(FACTS, run_context(tmp_path))
    rows = [dict(row) for row in data.encode("train", loaded)]
    rows[0] = {n: v[:-3] if n in ("input_ids", "attention_mask", "segment_ids") else v for n, v in rows[0].items()}
    batch = data.collate(loaded)(rows)
    assert batch["segment_ids"].shape == batch["input_ids"].shape
    assert (batch["segment_ids"][batch["attention_mask"] == 0] == -1).all()


def test_splits_share_no_document(tmp_path: Path) -> None:
    data = load(FaithsumFacts(train_rows=300, validation_rows=100, test_rows=100, facts=2), run_context(tmp_path))
    texts = {split: set(rows["document"]) for split, rows in data.splits.items()}
    assert {split: len(found) for split, found in texts.items()} == {"train": 300, "validation": 100, "test": 100}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]


def test_the_twin_gets_what_any_model_gets(tmp_path: Path) -> None:
    twin = model(tmp_path, guided=False)
    data = load(FACTS, run_context(tmp_path))
    assert not is_guided(twin.model)
    assert set(data.encode("train", twin).column_names) == {"input_ids", "attention_mask", "labels"}
    assert set(data.collate(twin)(list(data.encode("train", twin)))) == {"input_ids", "attention_mask", "labels"}


def test_tags_are_per_token_for_a_latent_per_token(tmp_path: Path) -> None:
    loaded = model(tmp_path, latent_type="bernoulli")
    data = load(FACTS, run_context(tmp_path))
    row, document = data.encode("test", loaded)[0], data.extra["facts"]("test")[0]
    assert row["guidance_tags"] == [float(k == document.target) for k in row["segment_ids"]]


def test_sentences_of_a_file_are_kept_and_the_best_match_is_tagged(tmp_path: Path) -> None:
    loaded, data = model(tmp_path), load(summaries(papers(tmp_path)), run_context(tmp_path))
    assert data.extra["sentences"]("test")[0] == ["It was cold.", "The lamp was sold in Oslo.", "Nobody came."]
    assert data.encode("test", loaded)[0]["guidance_tags"] == [0.0, 1.0, 0.0]
    assert data.extra["references"]("test") == [["A lamp was sold."]]


def test_marks_of_a_file_are_taken_and_checked(tmp_path: Path) -> None:
    loaded = model(tmp_path)
    marked = load(summaries(papers(tmp_path, marks=[0, 0, 1]), oracle_column="marks"), run_context(tmp_path))
    assert marked.encode("train", loaded)[0]["guidance_tags"] == [0.0, 0.0, 1.0]
    with pytest.raises(DataError, match="oracle_column: the data has no column 'other'"):
        load(summaries(tmp_path, oracle_column="other"), run_context(tmp_path))
    with pytest.raises(DataError, match="row 0 has 2 marks in 'marks' for 3 sentences"):
        load(summaries(papers(tmp_path, marks=[0, 1]), oracle_column="marks"), run_context(tmp_path))


def test_a_text_is_split_into_sentences(tmp_path: Path) -> None:
    folder = papers(tmp_path, source="It was cold. The lamp was sold in Oslo. Nobody came.")
    data = load(summaries(folder), run_context(tmp_path))
    assert data.extra["sentences"]("test")[0] == ["It was cold.", "The lamp was sold in Oslo.", "Nobody came."]


def test_a_cut_document_keeps_its_end_token_outside(tmp_path: Path) -> None:
    loaded = model(tmp_path)
    data = load(summaries(papers(tmp_path), max_length=8), run_context(tmp_path))
    row = data.encode("test", loaded)[0]
    assert len(row["input_ids"]) == len(row["segment_ids"]) == 8
    assert row["segment_ids"][-1] == -1
    assert max(row["segment_ids"]) + 1 == len(row["guidance_tags"])


def test_a_prefix_is_in_no_sentence(tmp_path: Path) -> None:
    loaded = model(tmp_path)
    data = load(summaries(papers(tmp_path), prefix="summarize : "), run_context(tmp_path))
    row = data.encode("test", loaded)[0]
    assert loaded.tokenizer is not None
    outside = [i for i, s in zip(row["input_ids"], row["segment_ids"], strict=True) if s == -1]
    assert loaded.tokenizer.decode(outside, skip_special_tokens=True).strip() == "summarize :"


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(DataError, match="expected a fast tokenizer"):
        segment_columns(object(), ["a"], [["a"]], [3])


def test_wrappers_are_seen_through(tmp_path: Path) -> None:
    net = model(tmp_path).model
    wrapped = torch.nn.Module()
    wrapped.module = net
    assert unwrapped(wrapped) is net
    assert is_guided(wrapped)
