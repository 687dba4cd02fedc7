"""The recipe: checks, schedules, and the loss against its formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fascicle_faithsum.latents import latent
from fascicle_faithsum.recipe import Recipe, guided_loss


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beta", -0.1),
        ("beta", float("nan")),
        ("beta", float("inf")),
        ("beta", "much"),
        ("beta_warmup", 1.5),
        ("gamma", -1.0),
        ("tau", 0.0),
        ("tau_end", -1.0),
        ("posterior_dropout", 2.0),
        ("source_dropout", -0.5),
        ("source_dropout_end", 0.2),
        ("label_smoothing", 1.0),
        ("tag_on", "prior"),
    ],
)
def test_a_value_that_cannot_be_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field}: got .*expected"):
        Recipe(**{field: value})


def test_dict_there_and_back() -> None:
    recipe = Recipe(beta=0.3, balance=False, tag_on="both")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(ValueError, match=r"betta.*expected some of beta"):
        Recipe.from_dict({"betta": 1.0})


def test_schedules() -> None:
    recipe = Recipe(
        beta=0.2,
        beta_warmup=0.5,
        tau=2.0,
        tau_end=1.0,
        posterior_dropout=0.4,
        posterior_dropout_start=0.5,
        source_dropout=0.8,
        source_dropout_hold=0.25,
        source_dropout_end=0.75,
    )
    told = [(w.beta, w.tau, w.posterior_dropout, w.source_dropout) for w in map(recipe.at, (0.0, 0.25, 0.5, 0.75, 1.0))]
    expected = [
        (0.0, 2.0, 0.0, 0.8),
        (0.1, 1.75, 0.0, 0.8),
        (0.2, 1.5, 0.0, 0.4),
        (0.2, 1.25, 0.2, 0.0),
        (0.2, 1.0, 0.4, 0.0),
    ]
    for row, wanted in zip(told, expected, strict=True):
        assert row == pytest.approx(wanted)


def test_no_warmup_means_the_whole_weight_at_once() -> None:
    assert Recipe(beta=0.2, beta_warmup=0.0).at(0.0).beta == 0.2


@given(done=st.floats(-1, 2), later=st.floats(0, 1))
def test_weights_only_rise_or_fall(done: float, later: float) -> None:
    recipe = Recipe(beta=1.0, posterior_dropout=0.5, source_dropout=0.5)
    a, b = recipe.at(done), recipe.at(done + later)
    assert a.beta <= b.beta
    assert a.posterior_dropout <= b.posterior_dropout
    assert a.source_dropout >= b.source_dropout


def _terms(seed: int = 0) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    return {
        "nll": torch.rand(2, generator=g, dtype=torch.float64) * 5,
        "prior": torch.randn(2, 3, generator=g, dtype=torch.float64).requires_grad_(),
        "posterior": torch.randn(2, 3, generator=g, dtype=torch.float64).requires_grad_(),
        "mask": mask,
        "count": 7,
    }


def _kl(terms: dict[str, Any]) -> torch.Tensor:
    """KL(q || p) by the definition, document by document."""
    rows = []
    for q, p, mask in zip(terms["posterior"], terms["prior"], terms["mask"], strict=True):
        a, b = q[mask].softmax(0), p[mask].softmax(0)
        rows.append((a * (a / b).log()).sum())
    return torch.stack(rows)


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("free_bits", [0.0, 0.4, 50.0])
def test_the_loss_is_its_formula(balance: bool, free_bits: float) -> None:
    terms, smooth = _terms(), torch.tensor([3.0, 4.0], dtype=torch.float64)
    tags = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    bow = torch.tensor([2.0, 6.0], dtype=torch.float64)
    recipe = Recipe(
        beta=0.3,
        beta_warmup=0.0,
        gamma=2.0,
        balance=balance,
        free_bits=free_bits,
        tag_weight=0.5,
        tag_on="both",
        bow_weight=0.25,
        label_smoothing=0.1,
    )
    loss, parts = guided_loss(recipe, 0.0, latent("sentence"), **terms, smooth=smooth, tags=tags, bow=bow)
    kl = _kl(terms)
    rate = kl.clamp(min=free_bits)
    tag = sum(
        -terms[name][b][terms["mask"][b]].log_softmax(0)[k]
        for name in ("prior", "posterior")
        for b, k in ((0, 1), (1, 0))
    )
    expected = (0.9 * terms["nll"] + 0.1 * smooth).sum() + 0.3 * rate.sum() + 0.5 * tag + 0.25 * bow.sum()
    expected = expected + (2.0 * kl.sum() if balance else 0.0)
    torch.testing.assert_close(loss, expected / 7)
    assert float(parts["kl"]) == pytest.approx(kl.mean().item())
    assert float(parts["rate"]) == pytest.approx(rate.mean().item())
    assert float(parts["reconstruction"]) == pytest.approx(terms["nll"].mean().item())
    assert not parts["kl"].requires_grad


@pytest.mark.parametrize("free_bits", [0.0, 50.0])
def test_balanced_terms_train_one_network_each(free_bits: float) -> None:
    """The posterior's gradient has the weight beta, none below the free bits; the prior's has gamma always."""
    terms = _terms()
    recipe = Recipe(beta=0.3, beta_warmup=0.0, gamma=2.0, free_bits=free_bits)
    guided_loss(recipe, 0.0, latent("sentence"), **terms)[0].backward()
    posterior, prior = terms["posterior"].grad, terms["prior"].grad
    terms = _terms()
    _kl(terms).sum().backward()
    scale = 0.0 if free_bits else 0.3
    torch.testing.assert_close(posterior, terms["posterior"].grad * scale / 7)
    torch.testing.assert_close(prior, terms["prior"].grad * 2.0 / 7)


def test_accumulated_batches_add_up() -> None:
    terms, recipe = _terms(), Recipe(beta=0.5, beta_warmup=0.0)
    whole = guided_loss(recipe, 0.5, latent("sentence"), **terms)[0]
    parts = [
        guided_loss(
            recipe, 0.5, latent("sentence"), **{n: v[b : b + 1] if n != "count" else v for n, v in terms.items()}
        )[0]
        for b in range(2)
    ]
    torch.testing.assert_close(whole, parts[0] + parts[1])


@pytest.mark.parametrize("field", ["tag_weight", "bow_weight", "label_smoothing"])
def test_a_weight_without_its_term_is_an_error(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: above 0"):
        guided_loss(Recipe(**{field: 0.5}), 0.0, latent("sentence"), **_terms())


def test_no_tags_for_a_gaussian() -> None:
    terms = {**_terms(), "mask": None, "prior": torch.zeros(2, 4), "posterior": torch.zeros(2, 4)}
    with pytest.raises(ValueError, match="gaussian latent, which marks nothing"):
        guided_loss(Recipe(tag_weight=1.0), 0.0, latent("gaussian"), **terms, tags=torch.zeros(2, 4))
