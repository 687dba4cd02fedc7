"""Guided models in files: whole, from a plain checkpoint, and as adapters."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from faithsum_models import PAIRS, base, documents, guided, without_labels
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from fascicle_faithsum.modeling import GuidedBart

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("family", "latent_type"), PAIRS)
def test_a_saved_model_is_the_same_when_loaded(family: str, latent_type: str, tmp_path: Path) -> None:
    model, batch = guided(family, latent_type, bow=True, guidance_layers=2), documents()
    model.save_pretrained(tmp_path)
    for loaded in (AutoModelForSeq2SeqLM.from_pretrained(tmp_path), type(model).from_pretrained(tmp_path)):
        assert type(loaded) is type(model)
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, loaded.state_dict()[name])
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
        assert loaded.config.boundary_ids == [4]
    assert AutoConfig.from_pretrained(tmp_path).latent_type == latent_type


def test_a_plain_checkpoint_loads_as_a_guided_model_that_is_its_base(tmp_path: Path) -> None:
    plain, batch = base(), documents()
    plain.save_pretrained(tmp_path)
    model = GuidedBart.from_pretrained(tmp_path, boundary_ids=[4])
    torch.testing.assert_close(model(**batch).logits, plain(**batch).logits, rtol=0, atol=1e-6)
    assert torch.equal(model.guidance_memory.layers[0].fc1.weight, plain.model.encoder.layers[0].fc1.weight)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_adapters_train_guidance_whole_and_come_back(targets: Any, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    model, batch = guided(), documents()
    expected = model(**batch).logits
    config = LoraConfig(r=2, target_modules=targets, modules_to_save=model.guidance_modules, task_type="SEQ_2_SEQ_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks a transformers model by a name that is going
        adapted = get_peft_model(model, config)
    torch.testing.assert_close(adapted(**batch).logits, expected)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    new = {name.removeprefix("base_model.model.") for name in trained if "modules_to_save" in name}
    assert len(new) == sum(model.is_new(name) and "original" not in name for name in guided().state_dict())
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], 0.05)
    adapted.train()(**batch).loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)
    optimizer.step()
    moved = adapted.eval()(**batch).logits
    assert not torch.allclose(moved, expected, atol=1e-3)
    adapted.generate(**without_labels(batch), guidance_mode="mean", num_beams=2, max_new_tokens=3)
    adapted.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        loaded = PeftModel.from_pretrained(guided(), tmp_path).eval()
    torch.testing.assert_close(loaded(**batch).logits, moved)
