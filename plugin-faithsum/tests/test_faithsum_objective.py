"""The objective of a run: scale, schedules, parts, wrappers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from faithsum_models import LATENT_TYPES, base, documents, guided
from peft import LoraConfig, get_peft_model

from fascicle.objects import Step
from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.objective import Guided
from fascicle_faithsum.recipe import Recipe


def _loss(model: Any, batch: dict[str, Any], num_items: int | None = None, **recipe: Any) -> Any:
    torch.manual_seed(3)
    told = dataclasses.replace(Recipe(), **recipe)
    return Guided(told).loss(model, batch, Step(2, 10, 0.0), num_items)


def test_it_sets_recipe_and_progress() -> None:
    model = guided(dropout=0.0).train()
    out = _loss(model, documents(), beta=0.5, beta_warmup=1.0)
    assert model.recipe == Recipe(beta=0.5, beta_warmup=1.0)
    assert model.progress == pytest.approx(0.2)
    assert out.parts["beta"] == pytest.approx(0.1)
    assert {"reconstruction", "kl", "rate", "active_units"} <= set(out.parts)
    assert not out.scaled
    out.loss.backward()
    assert model.guidance_prior.score.weight.grad.abs().sum() > 0


def test_shares_of_accumulated_batches_add_up_to_the_mean() -> None:
    model, batch = guided(dropout=0.0).train(), documents()
    own = int((batch["labels"] != -100).sum())
    whole, share = _loss(model, batch), _loss(model, batch, 3 * own)
    assert share.scaled
    torch.testing.assert_close(share.loss * 3, whole.loss)


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
@pytest.mark.parametrize("told", [True, False])
def test_active_units_look_at_sentences_that_exist(latent_type: str, told: bool) -> None:
    model, batch = guided(latent_type=latent_type, dropout=0.0).train(), documents()
    if told:
        batch["segment_ids"] = guided().induce_guidance(batch["input_ids"], batch["attention_mask"]).segment_ids
    units = float(_loss(model, batch).parts["active_units"])
    if latent_type == "gaussian":
        assert units == round(units)
    else:
        found = model.induce_guidance(batch["input_ids"], batch["attention_mask"], labels=batch["labels"])
        p, q = found.prior_probs, found.posterior_probs
        moved = p.argmax(-1) != q.argmax(-1) if latent_type == "sentence" else ((p > 0.5) != (q > 0.5)).any(-1)
        assert units == pytest.approx(moved.float().mean().item())


def test_evaluation_is_the_priors_loss() -> None:
    model, batch = guided(dropout=0.0).eval(), documents()
    out = _loss(model, batch)
    count = (batch["labels"] != -100).sum()
    torch.testing.assert_close(out.loss, model(**batch, guidance_mode="map").nll.sum() / count)
    assert "reconstruction" not in out.parts
    assert float(out.parts["prior_nll"]) == pytest.approx(out.loss.item() * int(count) / len(batch["labels"]), rel=1e-5)


def test_a_batch_without_targets_gives_nothing_not_nan() -> None:
    batch = documents()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    assert torch.isfinite(_loss(guided(dropout=0.0).eval(), batch).loss)


def test_under_adapters() -> None:
    model = get_peft_model(guided(dropout=0.0), LoraConfig(target_modules=["q_proj"], r=2)).train()
    _loss(model, documents()).loss.backward()
    assert model.get_base_model().progress == pytest.approx(0.2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_plain_twin_is_trained_by_the_reconstruction(smoothing: float) -> None:
    model, batch = base(dropout=0.0).train(), documents()
    out = _loss(model, batch, label_smoothing=smoothing)
    labels = batch["labels"]
    log_p = model(**batch).logits.log_softmax(-1)
    chosen = log_p.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    expected = -((1 - smoothing) * chosen + smoothing * log_p.mean(-1))[labels != -100].mean()
    torch.testing.assert_close(out.loss, expected)


def test_no_labels() -> None:
    batch = documents()
    del batch["labels"]
    with pytest.raises(GuidanceError, match="expected labels"):
        _loss(guided(), batch)
