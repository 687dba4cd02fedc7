"""Asking a model with and without the map inside, and growing a dictionary from both answers; on tiny random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fascicle.errors import ConfigError
from fascicle.pipeline import run as run_pipeline
from fascicle.results import read_result
from fascicle.testing.helpers import load, run_context
from fascicle_wcs.maps import Map
from fascicle_wcs.options import InjectOptions
from fascicle_wcs.planted import random_orthogonal
from fascicle_wcs.translation import injected, turned_at_random

WORDS = ["bread", "soup", "fish", "cake", "lamp", "violin", "carpet", "camera", "kettle", "mirror", "jacket", "guitar"]


def options(folder: Path, *overrides: str) -> list[str]:
    file = folder / "pairs.tsv"
    file.write_text("".join(f"{w}\t{w[::-1]}\n" for w in WORDS), encoding="utf-8")
    return [
        "model=tiny_causal_lm",
        "model.layers=2",
        "model.hidden_size=32",
        "data=wcs_dictionary",
        f"data.train={file}",
        "data.train_words=8",
        "data.test_words=4",
        "evaluation=wcs_translation",
        "evaluation.inject.layer=1",
        *overrides,
    ]


def turn(seed: int = 0, dim: int = 32) -> Map:
    mean = np.random.default_rng(seed).normal(size=dim) / 10
    steps = ("unit", "center", "unit")
    Q = random_orthogonal(dim, np.random.default_rng(seed))
    return Map(Q, None, steps, (mean,), steps, (2 * mean,))


def test_a_random_rotation_turns_as_far_as_the_map_and_elsewhere() -> None:
    found = turn()
    other = turned_at_random(found, 3)
    assert np.linalg.norm(other.source_matrix - np.eye(32)) == pytest.approx(
        np.linalg.norm(found.source_matrix - np.eye(32))
    )
    assert other.is_orthogonal
    assert np.abs(other.source_matrix - found.source_matrix).max() > 0.1


def logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.model(ids).logits


@pytest.mark.parametrize("affine", [True, False])
def test_strength_0_changes_nothing_and_strength_1_does(tmp_path: Path, affine: bool) -> None:
    import torch

    _, model = load(options(tmp_path)[:7], run_context(tmp_path / "run"))
    ids, mask = torch.tensor([[1, 7, 8, 9]]), torch.ones(1, 4)
    plain = logits(model, ids)
    chosen = InjectOptions(layer=1, affine=affine, scope="all")
    differences = []
    for strength in (0.0, 1.0):
        with injected(model, turn(), chosen, strength=strength) as injection:
            injection.prompts(mask)
            differences.append(float((logits(model, ids) - plain).abs().max()))
    assert differences[0] < 1e-5
    assert differences[1] > 1e-3
    assert torch.equal(logits(model, ids), plain)


def test_means_of_other_vectors_than_those_that_are_mapped_are_refused(tmp_path: Path) -> None:
    _, model = load(options(tmp_path)[:7], run_context(tmp_path / "run"))
    with (
        pytest.raises(ConfigError, match="normalize"),
        injected(model, turn(), InjectOptions(layer=1, keep_norm=False)),
    ):
        pass


def test_the_map_the_controls_and_the_sweep_are_asked_beside_the_plain_model(tmp_path: Path) -> None:
    run_pipeline(
        options(
            tmp_path,
            "training=wcs_procrustes",
            "evaluation.sweep=[0.5]",
            "evaluation.back_translation=true",
            f"run.dir={tmp_path / 'run'}",
        )
    )
    told = read_result(tmp_path / "run")
    arms = {"plain_p_at_1", "random_p_at_1", "shift_p_at_1", "strength_0.5_p_at_1", "back_translated"}
    assert arms <= told.metrics.keys()
    assert {"Translation by asking", "P@1 by strength of the injection"} <= {s.title for s in told.sections}


def test_a_layer_without_a_map_is_refused(tmp_path: Path) -> None:
    chosen = options(tmp_path, "training=wcs_procrustes", "training.states.layers=[2]", f"run.dir={tmp_path / 'run'}")
    with pytest.raises(ConfigError, match=r"evaluation\.inject\.layer"):
        run_pipeline(chosen)


def ida(folder: Path, name: str, *overrides: str) -> Any:
    chosen = options(
        folder,
        "training=wcs_ida",
        "training.inject.layer=1",
        "training.inject.strength=0",
        "training.pairs=3",
        "training.chunk=3",
        "training.max_iter=4",
        f"run.dir={folder / name}",
        *overrides,
    )
    run_pipeline(chosen)
    return read_result(folder / name)


def test_ida_keeps_its_gold_pairs_and_asks_no_word_of_the_test(tmp_path: Path) -> None:
    ida(tmp_path, "run")
    pairs = [tuple(line.split("\t")) for line in (tmp_path / "run" / "dictionary.tsv").read_text().splitlines()]
    assert pairs[:3] == [(w, w[::-1]) for w in WORDS[:3]]
    asked = set(json.loads((tmp_path / "run" / "ida" / "ida.json").read_text())["state"]["plain"])
    assert asked == set(WORDS[3:8])
    assert {source for source, _ in pairs[3:]} <= asked
    assert Map.load(tmp_path / "run" / "maps" / "layer-1").dim == 32


def test_the_grown_map_can_be_measured_by_retrieval_too(tmp_path: Path) -> None:
    told = ida(tmp_path, "run", "evaluation=wcs_bli", "~evaluation.inject")
    assert told.metrics["test_words"] == 4


def test_uida_drops_the_pairs_it_began_with(tmp_path: Path) -> None:
    told = ida(tmp_path, "run", "training.unsupervised=true")
    state = json.loads((tmp_path / "run" / "ida" / "ida.json").read_text())["state"]
    pairs = dict(line.split("\t") for line in (tmp_path / "run" / "dictionary.tsv").read_text().splitlines())
    assert pairs == state["pairs"]
    assert told.training["pairs"] == len(pairs)


def test_a_model_that_cannot_write_is_refused(tmp_path: Path) -> None:
    chosen = [o for o in options(tmp_path, f"run.dir={tmp_path / 'run'}") if not o.startswith("model")]
    with pytest.raises(ConfigError, match="causal language model"):
        run_pipeline(["model=wcs_planted", *chosen, "training=none"])
