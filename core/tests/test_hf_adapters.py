"""Adapters: what they train, where they sit, what they leave behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from hf_tiny import bart, bert, context, data, equal, llama, losses, weights
from transformers import AutoModelForSequenceClassification

from fascicle.errors import ConfigError
from fascicle.hf.adapters import target_names
from fascicle.hf.objective import ModelLoss
from fascicle.hf.training import add_lora, train
from fascicle.hf.training_options import HfAdaLora, HfLora, HfTrainer, HfVera, LoraOptions, NoTraining


def test_lora_trains_the_adapters_and_the_head_only(tmp_path: Path) -> None:
    model, run = bert(), context(tmp_path)
    before = weights(model)
    result = train(
        HfLora(max_steps=20, learning_rate=1e-2, lora=LoraOptions(r=2)), model, data("classification"), ModelLoss(), run
    )
    after = weights(result.model)
    frozen = {name: v for name, v in after.items() if "lora_" not in name and "modules_to_save" not in name}
    assert frozen
    for name, value in frozen.items():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".original_module", "")
        assert torch.equal(value, before[plain])
    head = result.model.model.base_model.model.classifier
    assert not torch.equal(head.modules_to_save["default"].weight, head.original_module.weight)
    trained = sum(p.numel() for p in result.model.model.parameters() if p.requires_grad)
    assert result.metrics["trainable_parameters"] == trained


@pytest.mark.parametrize("named", [True, False])
def test_modules_that_a_plugin_calls_new_are_trained_with_the_adapters(named: bool) -> None:
    model = bert()
    model.task = "tags"  # none that the core knows a head of
    model.extra["head"] = ["classifier"] if named else []
    adapted = add_lora(model, LoraOptions(r=2), SimpleNamespace(seed=1)).model  # type: ignore[arg-type]
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert any("lora_" in name for name in trained)
    assert any("classifier" in name and "lora_" not in name for name in trained) is named


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning")  # PEFT, of its own AdaLoRA
def test_a_saved_adapter_is_one_that_peft_reads(tmp_path: Path) -> None:
    numbers = data("classification")
    batch = numbers.collate(None)(list(numbers.splits["test"]))  # type: ignore[arg-type]
    batch.pop("labels")
    for cfg in (
        HfLora(max_steps=6),
        HfAdaLora(max_steps=6, init_r=4, target_r=2),
        HfVera(max_steps=6, r=4),
        HfTrainer(max_steps=6),
    ):
        run = context(tmp_path / type(cfg).__name__)
        result = train(cfg, bert(), numbers, ModelLoss(), run)
        folder = result.artifacts["model"]
        assert folder == run.folder / "model"
        if isinstance(cfg, HfTrainer):
            read: Any = AutoModelForSequenceClassification.from_pretrained(folder)
        else:
            read = peft.PeftModel.from_pretrained(bert().model, folder)
        with torch.no_grad():
            one, two = read.eval()(**batch).logits, result.model.model(**batch).logits
        assert torch.allclose(one, two, atol=1e-5), type(cfg).__name__


def test_adapters_follow_from_the_seed_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    one = add_lora(bert(), LoraOptions(), SimpleNamespace(seed=1))  # type: ignore[arg-type]
    torch.manual_seed(6)
    two = add_lora(bert(), LoraOptions(), SimpleNamespace(seed=1))  # type: ignore[arg-type]
    other = add_lora(bert(), LoraOptions(), SimpleNamespace(seed=2))  # type: ignore[arg-type]
    assert equal(weights(one), weights(two))
    assert not equal(weights(one), weights(other))


def test_a_rank_pattern_gives_modules_other_ranks() -> None:
    run: Any = SimpleNamespace(seed=1)
    model = add_lora(bert(), LoraOptions(r=2, target_modules="attention", rank_pattern={"query": 6}), run).model
    ranks = {name.split(".")[-4]: p.shape[0] for name, p in model.named_parameters() if "lora_A" in name}
    assert ranks["query"] == 6
    assert ranks["value"] == 2


@pytest.mark.parametrize(
    ("make", "wanted", "expected"),
    [
        (bert, "query_value", {"query", "value"}),
        (bert, "attention", {"query", "key", "value", "dense"}),
        (llama, "attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (llama, "query_value", {"q_proj", "v_proj"}),
        (bart, "attention", {"q_proj", "k_proj", "v_proj", "out_proj"}),
        (llama, ["up_proj"], {"up_proj"}),
    ],
)
def test_shorthands_find_the_modules_of_each_architecture(make: Any, wanted: Any, expected: set[str]) -> None:
    run: Any = SimpleNamespace(seed=1)
    model = add_lora(make(), LoraOptions(r=1, target_modules=wanted), run).model
    adapted = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert {name.rpartition(".")[2] for name in adapted} == expected
    if wanted == "attention":
        assert all("attn" in name or "attention" in name for name in adapted)


def test_an_unknown_module_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"c_attn.*q_proj"):
        target_names(llama().model, ["c_attn"])


def test_adalora_moves_ranks_to_its_budget(tmp_path: Path) -> None:
    cfg = HfAdaLora(max_steps=30, init_r=6, target_r=3, learning_rate=2e-2, batch_size=8)
    result = train(cfg, bert(), data("classification"), ModelLoss(), context(tmp_path))
    ranks = result.sections[0].blocks[0].data["series"]["rank"]
    assert sum(ranks) == 3 * len(ranks)
    assert len(set(ranks)) > 1
    assert all("lora_E" not in label for label in result.sections[0].blocks[0].data["labels"])
    zero = sum(int((p == 0).sum()) for n, p in result.model.model.named_parameters() if "lora_E" in n)
    assert zero == 3 * len(ranks)


def test_adalora_is_told_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    plain = peft.AdaLoraModel.update_and_allocate

    def watched(self: Any, step: int) -> None:
        told.append(step)
        assert any(p.grad is not None for p in self.parameters()), (
            "it reads gradients, so it comes before they are cleared"
        )
        plain(self, step)

    monkeypatch.setattr(peft.AdaLoraModel, "update_and_allocate", watched)
    cfg = HfAdaLora(max_steps=6, init_r=4, target_r=2, batch_size=8, micro_batch_size=3)
    train(cfg, bert(), data("classification"), ModelLoss(), context(tmp_path))
    assert told == [1, 2, 3, 4, 5, 6]


def test_adalora_needs_ranks_to_take_and_steps_to_take_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.target_r"):
        train(HfAdaLora(init_r=4, target_r=4), bert(), data("classification"), ModelLoss(), context(tmp_path))
    with pytest.raises(ConfigError, match=r"training\.initial"):
        train(
            HfAdaLora(max_steps=10, initial=0.6, final=0.4),
            bert(),
            data("classification"),
            ModelLoss(),
            context(tmp_path),
        )


def test_vera_trains_vectors_around_shared_matrices(tmp_path: Path) -> None:
    cfg = HfVera(max_steps=40, r=8, learning_rate=3e-2, batch_size=8, log_every=1)
    result = train(cfg, bert(), data("classification"), ModelLoss(), context(tmp_path))
    assert losses(result.history)[-1] < losses(result.history)[0]
    trained = {n for n, p in result.model.model.named_parameters() if p.requires_grad}
    assert all("vera_lambda" in n or "modules_to_save" in n for n in trained)


def test_no_training_leaves_the_model_alone(tmp_path: Path) -> None:
    model = bert()
    before = weights(model)
    result = train(NoTraining(), model, data("classification"), ModelLoss(), context(tmp_path))
    assert equal(before, weights(result.model))
    assert result.metrics["trainable_parameters"] == 0
    assert not (tmp_path / "model").exists()
