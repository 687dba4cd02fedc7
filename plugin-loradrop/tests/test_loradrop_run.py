"""`training=loradrop` inside a run: the method, its controls, what it leaves behind, and how it goes on after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from fascicle import ConfigError, run
from fascicle.cli import main

if TYPE_CHECKING:
    from fascicle import Result

SMALL = [
    "experiment=smoke",
    "model.layers=4",
    "data.train_rows=96",
    "data.test_rows=32",
    "training.epochs=1",
    "training.log_every=1",
    "run.device=cpu",
]
PROBE = ["training.probe.ratio=0.5", "training.probe.epochs=1"]


def go(tmp_path: Path, *overrides: str, base: list[str] = SMALL) -> Result:
    return run([*base, f"run.root={tmp_path}", *overrides])


def losses(result: Result) -> list[float]:
    return [row["loss"] for row in result.history if "loss" in row]


def folder_of(tmp_path: Path) -> Path:
    (result,) = tmp_path.glob("**/result.json")
    return result.parent


def test_threshold_one_is_plain_lora_bit_for_bit(tmp_path: Path) -> None:
    plain = go(tmp_path / "a", "training=hf_lora", "training.learning_rate=0.001")
    dropped = go(tmp_path / "b", "training=loradrop", *PROBE, "training.threshold=1.0", "training.learning_rate=0.001")
    assert losses(plain) == losses(dropped)
    assert plain.metrics == dropped.metrics
    assert plain.training["trainable_parameters"] == dropped.training["trainable_parameters"]


def test_another_threshold_is_another_training(tmp_path: Path) -> None:
    one = go(tmp_path / "a", "training=loradrop", *PROBE, "training.threshold=1.0")
    few = go(tmp_path / "b", "training=loradrop", *PROBE, "training.threshold=0.3")
    assert losses(one) != losses(few)
    assert few.training["lora_parameters"] < one.training["lora_parameters"]
    removed = one.training["lora_parameters"] - few.training["lora_parameters"]
    assert one.training["trainable_parameters"] - few.training["trainable_parameters"] == removed


def test_controls_have_the_size_of_the_plan(tmp_path: Path) -> None:
    sizes = {
        name: go(tmp_path / name, f"training={name}", *PROBE, "training.budget=0.6").training
        for name in ("loradrop", "loradrop_random", "loradrop_inverse", "loradrop_uniform")
    }
    wanted = sizes["loradrop"]["lora_parameters"]
    assert sizes["loradrop"]["lora_fraction"] <= 0.6
    assert sizes["loradrop_random"]["lora_parameters"] == wanted
    assert sizes["loradrop_inverse"]["lora_parameters"] == wanted
    assert 0.8 * wanted <= sizes["loradrop_uniform"]["lora_parameters"] <= wanted
    assert (
        len({s["trainable_parameters"] - s["lora_parameters"] for s in sizes.values()}) == 1
    )  # the same head everywhere


def test_the_smaller_rank_is_saved_as_a_vanilla_adapter_with_the_trained_ranks(tmp_path: Path) -> None:
    result = go(tmp_path, "training=loradrop_uniform", *PROBE, "training.budget=0.6")
    folder = folder_of(tmp_path) / "model"
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    assert config["r"] < 8
    assert sum(t.numel() for name, t in tensors.items() if "lora_" in name) == result.training["lora_parameters"]
    assert result.training["model_bytes"] > 0


def test_without_sharing_low_modules_have_no_lora(tmp_path: Path) -> None:
    result = go(tmp_path, "training=loradrop_no_share", *PROBE, "training.keep=3")
    config = json.loads((folder_of(tmp_path) / "model" / "adapter_config.json").read_text())
    assert result.training["kept_modules"] == 3
    assert len(config["target_modules"]) == 3


@pytest.mark.parametrize("init", ["keep", "merge"])
def test_the_probe_may_be_gone_on_from(tmp_path: Path, init: str) -> None:
    fresh = go(tmp_path / "a", "training=loradrop", *PROBE, "training.budget=0.6")
    going_on = go(tmp_path / "b", "training=loradrop", *PROBE, "training.budget=0.6", f"training.init={init}")
    assert losses(going_on)[0] != losses(fresh)[0]


@pytest.mark.parametrize(
    ("model", "data", "evaluation"),
    [("tiny_causal_lm", "generated_text", "perplexity"), ("tiny_seq2seq", "generated_summarization", "generation")],
)
def test_every_kind_of_model_is_trained(tmp_path: Path, model: str, data: str, evaluation: str) -> None:
    base = [
        f"model={model}",
        "model.layers=4",
        f"data={data}",
        f"evaluation={evaluation}",
        "data.train_rows=32",
        "data.test_rows=8",
    ]
    base += ["data.train_rows=32", "data.test_rows=8"]
    more = ["training.epochs=1", "training.probe.tokens=labels", "run.device=cpu", "name=kinds"]
    result = go(tmp_path, "training=loradrop", *PROBE, "training.budget=0.7", *more, base=base)
    assert result.training["lora_fraction"] <= 0.7
    assert torch.tensor(losses(result)).isfinite().all()


def test_the_checkpoint_is_a_vanilla_adapter_and_the_compact_form_expands_to_it(tmp_path: Path) -> None:
    result = go(tmp_path, "training=loradrop", *PROBE, "training.budget=0.6")
    folder = folder_of(tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors", "lora_drop.json"} <= {
        f.name for f in (folder / "model").iterdir()
    }
    assert result.training["compact_bytes"] < result.training["model_bytes"]
    assert main(["loradrop", "expand", str(folder / "model-compact"), str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "adapter_model.safetensors").read_bytes()
    assert again == (folder / "model" / "adapter_model.safetensors").read_bytes()


def test_the_plan_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(tmp_path, "training=loradrop", *PROBE, "training.keep=4")
    folder = str(folder_of(tmp_path) / "model")
    assert main(["loradrop", "show", folder]) == 0
    assert "4 of 25 modules kept" in capsys.readouterr().out
    assert main(["loradrop", "show", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["selection"] == {"keep": 4}


def test_the_page_shows_importance_and_stability(tmp_path: Path) -> None:
    result = go(tmp_path, "training=loradrop", *PROBE, "training.probe.probes=2", "training.budget=0.6")
    (section,) = [s for s in result.sections if s.plugin == "loradrop"]
    kinds = [block.kind for block in section.blocks]
    assert {"heatmap", "bars", "table", "text"} <= set(kinds)
    assert any("Spearman" in block.title for block in section.blocks)
    heat = next(block for block in section.blocks if block.kind == "heatmap")
    total = sum(v for row in heat.data["values"] for v in row if v is not None)
    assert total == pytest.approx(100)


def test_a_resumed_run_does_not_probe_again_and_ends_the_same(tmp_path: Path) -> None:
    options = ["training=loradrop", *PROBE, "training.budget=0.6"]
    whole = go(tmp_path / "a", *options)
    go(tmp_path / "b", *options)
    folder = folder_of(tmp_path / "b")
    (folder / "result.json").unlink()  # killed after the probe: stage 2 is yet to be done
    shutil.rmtree(folder / "train")
    energies = (folder / "loradrop" / "energies-0.json").stat().st_mtime_ns
    resumed = go(tmp_path / "b", *options, "run.resume=true")
    assert (folder / "loradrop" / "energies-0.json").stat().st_mtime_ns == energies
    assert losses(resumed) == losses(whole)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.threshold=1.5"], ["training.threshold", "1.5"]),
        (["training.threshold=0.9", "training.budget=0.5"], ["give one of threshold, keep and budget"]),
        (["training.scope=per_modul"], ["training.scope", "per_modul"]),
        (["training.lora.init=pissa"], ["init=reset cannot redo lora.init=pissa"]),
        (["training.budget=0.001"], ["budget"]),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        go(tmp_path, "training=loradrop", *overrides)
    for word in words:
        assert word in str(raised.value)
