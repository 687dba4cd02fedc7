"""Whole runs, from a configuration to a result, and from a result to predictions on a text."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fascicle.cli import main
from fascicle.errors import ConfigError, DataError, FascicleError
from fascicle.testing.helpers import load, run_context
from fascicle_sief.data import of_documents
from fascicle_sief.document import drop_sentences
from fascicle_sief.errors import DocumentError
from fascicle_sief.inference import ModelScorer
from fascicle_sief.planted import RELATIONS, TOPICS, planted_documents

if TYPE_CHECKING:
    from pathlib import Path

SMALL = [
    "model=sief_tiny",
    "data=sief_planted",
    "data.train_rows=24",
    "data.validation_rows=12",
    "data.test_rows=12",
    "training=hf_trainer",
    "training.max_steps=3",
    "training.batch_size=8",
    "evaluation=sief_docre",
    "evaluation.robustness=6",
]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    assert main(["run", *SMALL, f"run.dir={folder}", *overrides]) == 0
    told: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sief") / "run"
    run(folder, "objective=sief_focusing", "seed=2")
    return folder


def test_a_run_measures_relations_robustness_and_evidence_and_shows_a_document(finished: Path) -> None:
    told = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    assert told["metrics"].keys() >= {"f1", "ign_f1", "threshold", "mentions_map", "evidence_f1_trivial"}
    titles = [section["title"] for section in told["sections"]]
    assert "Evidence from importance" in titles
    assert len(titles) >= 3
    assert any("exempt_rate" in row and "focusing_loss" in row for row in told["history"])
    rows = json.loads((finished / "predictions" / "docred.json").read_text(encoding="utf-8"))
    assert all({"title", "h_idx", "t_idx", "r"} <= row.keys() for row in rows)


def test_a_finished_run_is_loaded_and_predicts_as_it_was_measured(finished: Path) -> None:
    scorer = ModelScorer.load(finished)
    told = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    assert scorer.threshold == pytest.approx(told["metrics"]["threshold"])
    documents = [p.document for p in planted_documents(12, seed=2, triggers=4)]
    rows = json.loads((finished / "predictions" / "docred.json").read_text(encoding="utf-8"))
    found = {
        (d.title, RELATIONS[r])
        for d, p in zip(documents, scorer.probabilities(documents), strict=True)
        for r in (p[0] > scorer.threshold).nonzero()[0]
    }
    assert found == {(row["title"], row["r"]) for row in rows}


def test_the_command_predicts_on_a_text_and_scores_a_file(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "note.txt"
    text.write_text("Anna bought a lamp. It was good. Boris, a <b>friend</b>, thanked Anna.", encoding="utf-8")
    page, answers = tmp_path / "page.html", tmp_path / "answers.json"
    command = [
        "sief",
        "predict",
        str(finished),
        str(text),
        "--entity",
        "Anna",
        "--entity",
        "B.=Boris|Bo",
        "--threshold",
        "0",
    ]
    assert main([*command, "--html", str(page), "--json", str(answers)]) == 0
    (answer,) = json.loads(answers.read_text(encoding="utf-8"))
    assert [entity["name"] for entity in answer["entities"]] == ["Anna", "B."]
    assert len(answer["sentences"]) == 3
    assert {row["relation"] for row in answer["relations"]} == set(RELATIONS)
    html = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;" in html
    assert "<b>friend" not in html
    capsys.readouterr()
    assert main([*command, "--top", "1"]) == 0
    assert "Anna" in capsys.readouterr().out


def test_a_run_without_the_loss_is_the_base_and_the_controls_differ(tmp_path: Path) -> None:
    losses = {}
    for arm in ("sief_none", "sief_focusing", "sief_random_drop", "sief_consistency"):
        told = run(tmp_path / arm, f"objective={arm}", "evaluation.robustness=0", "evaluation.evidence=false")
        losses[arm] = next(row["loss"] for row in told["history"] if "loss" in row)
    assert losses["sief_focusing"] == losses["sief_consistency"]  # a new model is sure of nothing, so nothing is exempt
    assert len(set(losses.values())) == 3


def test_a_resumed_run_draws_the_same_sentences(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "objective=sief_focusing", "training.checkpoint_every=1", "evaluation.robustness=0")
    folder = tmp_path / "cut"
    run(folder, "objective=sief_focusing", "training.checkpoint_every=1", "evaluation.robustness=0")
    (folder / "result.json").unlink()
    for late in sorted((folder / "train").glob("checkpoint-*"))[1:]:
        shutil.rmtree(late)
    again = run(
        folder, "objective=sief_focusing", "training.checkpoint_every=1", "evaluation.robustness=0", "run.resume=true"
    )
    assert again["metrics"] == whole["metrics"]
    assert [row.get("loss") for row in again["history"]] == [row.get("loss") for row in whole["history"]]


def test_lora_trains_the_new_head_as_well(tmp_path: Path) -> None:
    told = run(
        tmp_path / "lora", "objective=sief_focusing", "training=hf_lora", "evaluation.robustness=0", "model.base=atlop"
    )
    assert 0 < told["training"]["trainable_parameters"] < told["training"]["total_parameters"]


# ---- data ----------------------------------------------------------------------------------------------------------------


def test_planted_documents_are_what_they_say() -> None:
    planted = planted_documents(400, seed=5, cue=0.8, triggers=6)
    related = [p for p in planted if p.evidence is not None]
    assert 0.6 < len(related) / 400 < 0.8
    right = 0
    for p in related:
        (relation,) = p.document.relations
        assert relation.evidence == (p.evidence,)
        assert p.distractor not in p.document.sentences_of(0) | p.document.sentences_of(1)
        assert p.document.sentences_of(0) == p.document.sentences_of(1)
        topic = next(w for w in p.document.sentences[p.distractor] if w in TOPICS)
        right += TOPICS.index(topic) == RELATIONS.index(relation.type)
        assert all(drop_sentences(p.document, {p.evidence}).alive)
    assert 0.75 < right / len(related) < 0.93  # 0.8 + 0.2 / 4
    assert planted_documents(400, seed=5, cue=0.8, triggers=6) == planted
    assert planted_documents(400, seed=6, cue=0.8, triggers=6) != planted


def test_files_become_parts_by_title(tmp_path: Path) -> None:
    rows = [
        {
            "title": f"doc {i}",
            "sents": [["A", "knows", "B", "."], ["So", "it", "is", "."]],
            "vertexSet": [
                [{"name": "A", "pos": [0, 1], "sent_id": 0, "type": "PER"}],
                [{"name": "B", "pos": [2, 3], "sent_id": 0, "type": "PER"}],
            ],
            "labels": [{"h": 0, "t": 1, "r": "P1", "evidence": [0]}],
        }
        for i in range(10)
    ]
    file = tmp_path / "all.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    data, model = load(
        ["model=sief_tiny", "data=sief_docred", f"data.train={file}", "data.parts=[6,2,2]"], run_context(tmp_path / "r")
    )
    documents = data.extra["documents"]
    assert [len(documents[split]) for split in ("train", "validation", "test")] == [6, 2, 2]
    assert len({d.title for part in documents.values() for d in part}) == 10
    assert data.label_names == ["P1"]
    assert data.splits["test"][0]["relations"] == ["A | P1 | B"]
    names = tmp_path / "rel_info.json"
    names.write_text('{"P1": "knows"}', encoding="utf-8")
    named, _ = load(
        ["model=sief_tiny", "data=sief_docred", f"data.train={file}", "data.parts=[6,2,2]", f"data.names={names}"],
        run_context(tmp_path / "r"),
    )
    assert named.extra["relation_names"] == {"P1": "knows"}
    batch = data.collate(model)([data.encode("train", model)[i] for i in range(3)])
    assert model.model(**batch).logits.shape == (6, 2)
    with pytest.raises(DataError, match=r"asked for 12 documents, .* has 10"):
        load(
            ["model=sief_tiny", "data=sief_docred", f"data.train={file}", "data.parts=[8,2,2]"],
            run_context(tmp_path / "r"),
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=sief_docred", "data.train=nowhere.json"], "nowhere.json: there is no such file"),
        (["data=sief_docred", "data.train=$NO_SUCH_FOLDER/x.json"], "data.train: .* names a variable that is not set"),
        (["data=sief_docred", "data.parts=[1,2]"], "parts: expected three numbers"),
        (["data=sief_docred", "data.parts=[]"], "test: got no file"),
        (["model.tiny=null"], "sources: at least one place of the encoder"),
        (["model.emb=100"], "emb: expected a multiple of block=64"),
        (["objective=sief_focusing", "objective.mode=foucsing"], "objective.mode"),
        (["evaluation.threshold=1.5"], "evaluation.threshold"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key(
    overrides: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = [o for o in SMALL if not (o.startswith("data") and any(x.startswith("data=") for x in overrides))]
    assert main(["run", *base, f"run.dir={tmp_path / 'r'}", *overrides]) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(message, told), told


def test_data_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the data names no relations"):
        load(["model=sief_tiny", "data=generated_text"], run_context(tmp_path))
    assert issubclass(DocumentError, FascicleError)


def test_documents_of_your_own_are_data(tmp_path: Path) -> None:
    documents = [p.document for p in planted_documents(4, seed=1)]
    data = of_documents("mine", {"train": documents, "test": documents[:1]}, RELATIONS)
    other = of_documents("mine", {"train": documents[:3], "test": documents[:1]}, RELATIONS)
    assert data.fingerprint != other.fingerprint
    assert data.strata is not None
    assert list(data.strata("train")) == [6] * 4


@pytest.mark.parametrize("base", ["bilstm", "graph_bilstm", "graph", "atlop"])
def test_every_base_trains_under_the_loss(base: str, tmp_path: Path) -> None:
    fast = ["evaluation.robustness=0", "evaluation.evidence=false", "evaluation.examples=0", "training.max_steps=2"]
    told = run(tmp_path / base, f"model.base={base}", "objective=sief_focusing", *fast)
    assert told["metrics"]["f1"] >= 0
    assert ModelScorer.load(tmp_path / base).model.config.base == base
