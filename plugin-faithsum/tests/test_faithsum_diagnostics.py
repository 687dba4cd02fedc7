"""Diagnostics against enumeration, and a monitor that warns of a collapsed latent variable only."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from faithsum_models import LATENT_TYPES, base, documents, guided

from fascicle_faithsum.diagnostics import CollapseMonitor, active_units, diagnose
from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.latents import latent


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
def test_a_model_asleep_ignores_guidance(latent_type: str) -> None:
    model = guided(latent_type=latent_type, awake=False)
    found = diagnose(model, [documents()])
    assert found.shuffled_cost == pytest.approx(0.0, abs=1e-4)
    assert found.none_cost == pytest.approx(0.0, abs=1e-4)
    assert found.prior_nll == pytest.approx(found.posterior_nll, abs=1e-4)
    if latent_type == "sentence":
        assert found.mutual_information == pytest.approx(0.0, abs=1e-4)
    else:
        assert "mutual_information" not in found.values()


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
def test_a_model_awake_does_not(latent_type: str) -> None:
    model = guided(latent_type=latent_type)
    found = diagnose(model, [documents()])
    assert abs(found.none_cost) > 1e-3
    assert found.kl > 0
    assert found.documents == 3


def test_mutual_information_by_hand() -> None:
    """Bayes' rule with one forward per sentence, the gate given as a user's."""
    model, batch = guided(), documents()
    encoded = model(**batch)
    expected = []
    for b in range(3):
        segments = model.induce_guidance(batch["input_ids"], batch["attention_mask"]).segment_ids
        probs = model.induce_guidance(batch["input_ids"], batch["attention_mask"]).prior_probs[b].double()
        nll = torch.stack(
            [model(**batch, guidance=(segments == k).float()).nll[b] for k in range(probs.shape[0])]
        ).double()
        there = probs > 0
        after = (probs.log() - nll)[there].softmax(0)
        expected.append((after * (after / probs[there]).log()).sum().item())
    assert encoded.kl is not None
    assert diagnose(model, [batch]).mutual_information == pytest.approx(sum(expected) / 3, abs=1e-4)


def test_the_kl_is_the_models() -> None:
    model, batch = guided(), documents()
    assert diagnose(model, [batch]).kl == pytest.approx(
        model(**batch, guidance_mode="posterior").kl.mean().item(), rel=1e-4
    )


def test_same_seed_same_numbers_and_the_generator_is_left_alone() -> None:
    model, batch = guided().train(), documents()
    before = torch.get_rng_state()
    first = diagnose(model, [batch], seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert diagnose(model, [batch], seed=4) == first


def test_active_units_of_each_family() -> None:
    prior = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    posterior = torch.tensor([[0.0, 3.0], [4.0, 0.0]])
    assert active_units(latent("sentence"), posterior, prior).item() == 0.5
    assert active_units(latent("bernoulli"), posterior - 1, prior - 1).item() == 0.5
    means = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.01, 0.0, 0.0]])
    assert active_units(latent("gaussian"), means, torch.zeros_like(means)).item() == 1


def test_what_cannot_be_diagnosed() -> None:
    batch = documents()
    with pytest.raises(GuidanceError, match="expected a guided model"):
        diagnose(base(), [batch])
    with pytest.raises(GuidanceError, match="batch of two documents"):
        diagnose(guided(), [documents((9,))])
    del batch["labels"]
    with pytest.raises(GuidanceError, match="expected labels"):
        diagnose(guided(), [batch])


def _state(step: int) -> Any:
    return SimpleNamespace(global_step=step, max_steps=10, log_history=[])


def test_the_monitor_warns_of_a_collapse_after_warmup(caplog: pytest.LogCaptureFixture) -> None:
    model = guided(awake=False)
    with torch.no_grad():  # both networks say the same: KL 0
        for head in (model.guidance_prior, model.guidance_posterior):
            head.score.weight.zero_()
    monitor = CollapseMonitor([documents()], every=1)
    with caplog.at_level(logging.WARNING):
        monitor.on_step_end(None, _state(1), None, model=model)
        assert not monitor.fired, "beta is still rising"
        state = _state(5)
        monitor.on_step_end(None, state, None, model=model)
    assert monitor.fired
    assert "out of use" in caplog.text
    assert state.log_history[0]["guidance_kl"] == pytest.approx(0.0, abs=1e-6)
    assert [row["step"] for row in monitor.history] == [1, 5]


def test_the_monitor_is_silent_while_guidance_says_something() -> None:
    model = guided()
    with torch.no_grad():
        model.guidance_posterior.score.weight.mul_(20)
    monitor = CollapseMonitor([documents()])
    monitor.on_step_end(None, _state(3), None, model=model)
    assert not monitor.history, "it looks at evaluations"
    monitor.on_evaluate(None, _state(9), None, model=model)
    monitor.on_train_end(None, _state(9), None, model=model)
    assert len(monitor.history) == 1
    assert monitor.history[0]["kl"] > 0.1
    assert not monitor.fired


def test_the_monitors_steps() -> None:
    with pytest.raises(ValueError, match="every: got 0"):
        CollapseMonitor([], every=0)
