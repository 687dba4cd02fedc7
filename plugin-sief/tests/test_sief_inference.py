"""Asking a model: its own answers, whatever the batches, and the same after saving and loading."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sief_documents import RELATIONS, TYPES, random_document, relation_model, tokenizer

from fascicle_sief.document import Document, Mention, drop_sentences
from fascicle_sief.errors import ModelError
from fascicle_sief.features import DocumentEncoder, collate
from fascicle_sief.inference import ModelScorer, encoder_of
from fascicle_sief.inference import load as load_scorer
from fascicle_sief.scorer import Scorer

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = [random_document(seed) for seed in range(24)]


def scorer(base: str, **options: Any) -> ModelScorer:
    model = relation_model(base)
    return ModelScorer(model, encoder_of(model, tokenizer()), **options)


@pytest.mark.parametrize("base", ["bilinear", "atlop"])
def test_probabilities_are_those_of_the_model_asked_directly(base: str) -> None:
    asked = scorer(base)
    assert isinstance(asked, Scorer)
    for document, p in zip(DOCUMENTS, asked.probabilities(DOCUMENTS), strict=True):
        pairs = document.all_pairs()
        assert p.shape == (len(pairs), len(RELATIONS))
        assert p.dtype == np.float64
        if not pairs:
            continue
        with torch.no_grad():
            z = asked.model(**collate([asked.encode(document)], asked.encode.pad_id, len(RELATIONS))).logits.double()
        # column 0 is "no relation" in one, the pair's own threshold in the other
        want = torch.sigmoid(z[:, 1:] - z[:, :1] if base == "atlop" else z[:, 1:]).numpy()
        alive = np.array([bool(document.entities[h]) and bool(document.entities[t]) for h, t in pairs])
        assert p[alive] == pytest.approx(want[alive], abs=1e-6)
        assert (p[~alive] == 0).all()
    assert any(not mentions for document in DOCUMENTS for mentions in document.entities)


def test_a_pair_whose_entity_was_in_the_removed_sentence_or_was_cut_off_is_0() -> None:
    document = Document(
        "d",
        [["it", "was"], ["the", "film"], ["good", "film"]],
        [[Mention(0, 0, 1), Mention(2, 1, 2)], [Mention(1, 0, 1)], [Mention(2, 0, 1)]],
    )
    asked = scorer("bilinear")
    whole, without = asked.probabilities([document, drop_sentences(document, {1}).document])
    alive = [1 not in pair for pair in document.all_pairs()]
    assert (whole > 0).all()
    assert ((without > 0).all(1) == alive).all()
    assert (without[~np.array(alive)] == 0).all()
    short = DocumentEncoder(
        tokenizer(), RELATIONS, types=TYPES, max_length=6, markers=False
    )  # the last sentence does not fit
    (cut,) = ModelScorer(asked.model, short).probabilities([document])
    assert ((cut > 0).all(1) == [2 not in pair for pair in document.all_pairs()]).all()


@pytest.mark.parametrize("base", ["bilinear", "atlop", "graph", "bilstm"])
def test_batches_and_order_change_nothing(base: str) -> None:
    told: list[int] = []
    want = scorer(base, batch_pieces=1, advance=told.append).probabilities(DOCUMENTS)
    assert told == [1] * len(DOCUMENTS)
    for pieces in (40, 10_000):
        for a, b in zip(want, scorer(base, batch_pieces=pieces).probabilities(DOCUMENTS), strict=True):
            assert a == pytest.approx(b, abs=1e-6)
    backwards = scorer(base, batch_pieces=40).probabilities(DOCUMENTS[::-1])[::-1]
    for a, b in zip(want, backwards, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_a_batch_holds_no_more_pieces_than_allowed_padding_included() -> None:
    sizes: list[tuple[int, ...]] = []
    asked = scorer("bilinear", batch_pieces=60)
    hook = asked.model.register_forward_pre_hook(
        lambda _m, _a, kw: sizes.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    asked.probabilities(DOCUMENTS)
    hook.remove()
    assert all(rows == 1 or rows * length <= 60 for rows, length in sizes)
    assert max(rows for rows, _ in sizes) > 1


def test_documents_without_pairs_are_not_read() -> None:
    lonely = Document("d", [["it"]], [[Mention(0, 0, 1)]])
    empty = Document("e", [], [])
    told: list[int] = []
    found = scorer("graph", advance=told.append).probabilities([lonely, empty])
    assert [p.shape for p in found] == [(0, len(RELATIONS))] * 2
    assert sum(told) == 2
    assert scorer("graph").probabilities([]) == []


@pytest.mark.parametrize("base", ["bilinear", "atlop", "graph", "bilstm", "graph_bilstm"])
def test_saved_and_loaded_it_gives_the_same_probabilities_and_threshold(base: str, tmp_path: Path) -> None:
    asked = scorer(base, threshold=0.37)
    loaded = load_scorer(asked.save(tmp_path / "run" / "model"))
    assert loaded.threshold == 0.37
    assert tuple(loaded.relations) == RELATIONS
    assert (loaded.encode.types, loaded.encode.markers) == (TYPES, base == "atlop")
    for a, b in zip(asked.probabilities(DOCUMENTS[:6]), loaded.probabilities(DOCUMENTS[:6]), strict=True):
        assert a == pytest.approx(b, abs=1e-7)
    again = ModelScorer.load(tmp_path / "run", batch_pieces=64)  # the folder of a run
    assert again.threshold == 0.37
    assert again.batch_pieces == 64


def test_a_folder_without_a_model_of_relations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a folder with config\.json"):
        ModelScorer.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(ModelError, match="holds a bert, expected sief_relations"):
        ModelScorer.load(tmp_path)


def test_an_adapter_alone_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="holds an adapter, expected a whole model; merge it first"):
        ModelScorer.load(tmp_path)
