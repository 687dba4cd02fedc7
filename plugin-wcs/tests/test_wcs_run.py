"""Whole runs, from a configuration to a result: what is found, what is refused, what is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fascicle.cli import main
from fascicle.errors import ConfigError, DataError
from fascicle.pipeline import run as run_pipeline
from fascicle_wcs.maps import Map

PLANTED = ["model=wcs_planted", "data=wcs_planted", "evaluation=wcs_bli"]
TWO_LAYERS = ["model=tiny_causal_lm", "model.layers=2"]
SMALL = ["model.words=300", "model.dim=16", "data.test_rows=60"]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    assert main(["run", *overrides, f"run.dir={folder}"]) == 0
    told: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return told


def test_the_planted_map_is_found_and_no_map_and_a_shuffled_dictionary_are_not(tmp_path: Path) -> None:
    told = run(tmp_path / "run", *PLANTED, *SMALL, "training=wcs_procrustes")["metrics"]
    assert told["p_at_1"] == 1.0
    assert told["backward_p_at_1"] == 1.0
    assert told["identity_p_at_1"] < 0.2
    assert told["shuffled_p_at_1"] < 0.2
    assert told["coverage"] == 1.0
    assert told["test_words"] == 60


def test_the_saved_map_is_the_planted_rotation(tmp_path: Path) -> None:
    from fascicle_wcs.planted import planted_languages

    run(tmp_path / "run", *PLANTED, *SMALL, "model.noise=0", "training=wcs_procrustes", "training.normalize=[unit]")
    found = Map.load(tmp_path / "run" / "maps" / "static")
    planted = planted_languages(300, 16, noise=0.0, seed=0)
    mapped, there = found.apply(planted.source.matrix), found.apply_target(planted.target.matrix)
    assert np.abs(mapped[planted.pairs[:, 0]] - there[planted.pairs[:, 1]]).max() < 1e-5
    assert found.meta["static"] is True


def test_twenty_five_pairs_are_enough_when_the_dictionary_grows(tmp_path: Path) -> None:
    told = run(tmp_path / "run", *PLANTED, "model.words=600", "model.dim=32", "training=wcs_selflearning")
    assert told["metrics"]["p_at_1"] > 0.99
    assert told["training"]["converged"] == 1.0
    assert any(section["title"] == "Self-learning" for section in told["sections"])


def test_a_run_that_cannot_find_the_map_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = run(tmp_path / "run", *PLANTED, *SMALL, "model.noise=0.5", "training=wcs_selflearning", "training.pairs=5")
    assert told["training"]["converged"] == 0.0
    assert "did not converge" in caplog.text
    section = next(s for s in told["sections"] if s["title"] == "Self-learning")
    assert "NOT CONVERGED" in json.dumps(section)


def test_isomorphism_of_a_rotation_is_perfect_and_of_noise_is_not(tmp_path: Path) -> None:
    options = [
        *PLANTED[:2],
        *SMALL,
        "evaluation=wcs_isomorphism",
        "evaluation.permutations=20",
        "evaluation.resamples=10",
    ]
    same = run(tmp_path / "same", *options, "model.noise=0")["metrics"]
    other = run(tmp_path / "other", *options, "model.noise=2")["metrics"]
    assert same["residual"] < 0.01
    assert same["rsim"] > 0.999
    assert same["alignable_layers"] == 1
    assert other["alignable_layers"] == 0
    assert other["residual"] > same["residual"]


def dictionary(folder: Path, words: int = 12) -> Path:
    file = folder / "pairs.tsv"
    file.write_text("".join(f"mot{i}\tword{i}\n" for i in range(words)), encoding="utf-8")
    return file


def vectors(folder: Path, name: str, prefix: str, words: int = 12, dim: int = 3) -> Path:
    rows = np.random.default_rng(0).normal(size=(words, dim))
    if dim == 2:
        rows = np.random.default_rng(1).normal(size=(words, dim))
    lines = [f"{prefix}{i} {' '.join(f'{x:.4f}' for x in row)}" for i, row in enumerate(rows)]
    file = folder / name
    file.write_text("\n".join([f"{words} {dim}", *lines]) + "\n", encoding="utf-8")
    return file


def procrustes(model: Sequence[str], words: Path) -> list[str]:
    """Procrustes on eight pairs of a dictionary of twelve, measured on the other four."""
    return [
        *model,
        "data=wcs_dictionary",
        f"data.train={words}",
        "data.train_words=8",
        "data.test_words=4",
        "training=wcs_procrustes",
        "evaluation=wcs_bli",
    ]


def static(source: Path, target: Path) -> list[str]:
    return ["model=wcs_static", f"model.source={source}", f"model.target={target}"]


def test_sides_of_different_width_are_joined_on_principal_axes_and_the_map_says_so(tmp_path: Path) -> None:
    source, target = vectors(tmp_path, "s.vec", "mot", dim=3), vectors(tmp_path, "t.vec", "word", dim=2)
    told = run(tmp_path / "run", *procrustes(static(source, target), dictionary(tmp_path)))
    assert "identity_p_at_1" not in told["metrics"]
    assert Map.load(tmp_path / "run" / "maps" / "static").meta["reduced"] == {"side": "source", "from": 3}


@pytest.mark.parametrize(
    ("overrides", "error", "says"),
    [
        (["training=wcs_unsupervised", "training.self_learning=false"], ConfigError, "self_learning: true"),
        (["training=wcs_procrustes", "training.method=procrustean"], ConfigError, "training.method"),
        (["training=wcs_procrustes", "training.normalise=[unit]"], ConfigError, "normalize"),
        (["data=generated_text", "training=wcs_procrustes"], ConfigError, "no bilingual dictionary"),
        (["data.test_rows=300"], ConfigError, "data.test_rows"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key(
    tmp_path: Path, overrides: list[str], error: type[Exception], says: str
) -> None:
    small = SMALL[:2] if "data=generated_text" in overrides else SMALL
    with pytest.raises(error, match=says.replace(".", r"\.")):
        run_pipeline([*PLANTED, *small, *overrides, f"run.dir={tmp_path / 'run'}"])


def test_words_without_vectors_are_an_error_that_names_the_dictionary(tmp_path: Path) -> None:
    source, target = vectors(tmp_path, "s.vec", "mot"), vectors(tmp_path, "t.vec", "other")
    with pytest.raises(DataError, match="have vectors"):
        run_pipeline([*procrustes(static(source, target), dictionary(tmp_path)), f"run.dir={tmp_path / 'run'}"])


def test_a_layer_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layers"):
        run_pipeline(
            [
                *procrustes(TWO_LAYERS, dictionary(tmp_path)),
                "training.states.layers=[3]",
                f"run.dir={tmp_path / 'run'}",
            ]
        )


def test_layers_of_a_language_model_are_measured_one_by_one_and_resumed_from_the_store(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    words = [
        "bread",
        "soup",
        "fish",
        "cake",
        "lamp",
        "violin",
        "carpet",
        "camera",
        "kettle",
        "mirror",
        "jacket",
        "guitar",
    ]
    file.write_text("".join(f"{w}\t{w}\n" for w in words), encoding="utf-8")
    told = run(tmp_path / "run", *procrustes(TWO_LAYERS, file))
    assert told["metrics"]["identity_p_at_1"] == 1.0  # the same words on both sides have the same states
    assert {f"p_at_1_layer_{n}" for n in range(3)} <= told["metrics"].keys()
    assert (tmp_path / "run" / "maps" / "layer-2").is_dir()
    assert told["metrics"]["p_at_1_no_identical"] == 0.0
    assert told["metrics"]["test_words_no_identical"] == 0
