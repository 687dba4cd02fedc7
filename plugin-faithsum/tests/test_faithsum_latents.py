"""Latent families: closed forms against torch.distributions, draws against their means, gradients against differences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.latents import LATENTS, latent

if TYPE_CHECKING:
    from torch.distributions import Distribution

DISCRETE = ("sentence", "bernoulli")


def logits(rows: int, width: int, seed: int, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def distribution(name: str, values: torch.Tensor) -> Distribution:
    if name == "sentence":
        return Categorical(logits=values)
    if name == "bernoulli":
        return Independent(Bernoulli(logits=values), 1)
    mu, log_variance = values.chunk(2, dim=-1)
    return Independent(Normal(mu, (log_variance / 2).exp()), 1)


@pytest.mark.parametrize("name", LATENTS)
@given(seed=st.integers(0, 10**6), half=st.integers(1, 6), scale=st.floats(0.1, 6))
@settings(max_examples=40, deadline=None)
def test_the_kl_is_that_of_torch_distributions(name: str, seed: int, half: int, scale: float) -> None:
    q, p = logits(3, 2 * half, seed, scale), logits(3, 2 * half, seed + 1, scale)
    expected = kl_divergence(distribution(name, q), distribution(name, p))
    torch.testing.assert_close(latent(name).kl(q, p), expected, rtol=1e-9, atol=1e-6)
    assert (latent(name).kl(q, p) >= -1e-12).all()


@pytest.mark.parametrize("name", LATENTS)
def test_the_kl_is_zero_where_the_two_are_equal_and_only_there(name: str) -> None:
    q = logits(4, 6, 1)
    assert latent(name).kl(q, q).abs().max() < 1e-12
    other = q.clone()
    other[:, 0] += 0.1
    assert (latent(name).kl(q, other) > 1e-7).all()


def test_a_constant_added_to_sentence_logits_changes_nothing() -> None:
    q, p = logits(4, 6, 1), logits(4, 6, 2)
    torch.testing.assert_close(LATENTS["sentence"].kl(q + 3, p - 5), LATENTS["sentence"].kl(q, p))


@pytest.mark.parametrize("name", LATENTS)
def test_entropies_and_log_probabilities_are_those_of_torch_distributions(name: str) -> None:
    values = logits(4, 6, 3)
    torch.testing.assert_close(latent(name).entropy(values), distribution(name, values).entropy())
    torch.manual_seed(0)
    z = latent(name).draw(values)
    expected = distribution(name, values).log_prob(z.argmax(-1) if name == "sentence" else z)
    torch.testing.assert_close(latent(name).log_prob(z, values), expected)


@pytest.mark.parametrize("name", DISCRETE)
def test_masked_places_count_nothing_whatever_is_there(name: str) -> None:
    family, q, p = latent(name), logits(2, 5, 1), logits(2, 5, 2)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    wild_q, wild_p = q.clone(), p.clone()
    wild_q[0, 3:], wild_p[0, 3:] = 50.0, -70.0
    for got, short in (
        (family.kl(wild_q, wild_p, mask), family.kl(q[:1, :3], p[:1, :3])),
        (family.entropy(wild_q, mask), family.entropy(q[:1, :3])),
        (family.mean(wild_q, mask)[:, :3], family.mean(q[:1, :3])),
    ):
        torch.testing.assert_close(got[:1], short)
    torch.testing.assert_close(family.kl(wild_q, wild_p, mask)[1], family.kl(q, p)[1])
    torch.manual_seed(0)
    for z in (
        family.map(wild_q, mask),
        family.mean(wild_q, mask),
        family.topk(wild_q, mask, 4),
        *(family.draw(wild_q, mask) for _ in range(20)),
        *(family.relaxed(wild_q, mask, tau=0.5, hard=hard) for hard in (True, False) for _ in range(20)),
    ):
        assert (z[0, 3:] == 0).all()
        assert torch.isfinite(z).all()


@pytest.mark.parametrize("name", DISCRETE)
def test_a_document_without_places_has_no_kl_no_entropy_and_no_draw(name: str) -> None:
    family, q, p, mask = (
        latent(name),
        logits(2, 3, 1).requires_grad_(),
        logits(2, 3, 2),
        torch.zeros(2, 3, dtype=torch.bool),
    )
    nothing = [family.kl(q, p, mask), family.entropy(q, mask)]
    for value in (*nothing, family.draw(q, mask), family.map(q, mask), family.relaxed(q, mask, hard=True)):
        assert (value == 0).all()
    torch.stack(nothing).sum().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    assert (q.grad == 0).all()


@pytest.mark.parametrize("name", LATENTS)
def test_gradients_of_the_kl_are_those_of_differences(name: str) -> None:
    q, p = logits(2, 4, 1).requires_grad_(), logits(2, 4, 2).requires_grad_()
    latent(name).kl(q, p).sum().backward()  # type: ignore[no-untyped-call]
    step = 1e-6
    for values in (q, p):
        assert values.grad is not None
        for place in [(0, 0), (1, 3), (0, 2)]:
            moved = values.detach().clone()
            moved[place] += step
            low = values.detach().clone()
            low[place] -= step
            pair = [(m, p.detach()) if values is q else (q.detach(), m) for m in (moved, low)]
            high, under = (latent(name).kl(*two).sum() for two in pair)
            assert values.grad[place].item() == pytest.approx(((high - under) / (2 * step)).item(), abs=1e-5)


DRAWS = 20_000


@pytest.mark.parametrize("name", LATENTS)
@pytest.mark.parametrize("way", ["draw", "hard"])
def test_the_mean_of_many_draws_is_the_mean(name: str, way: str) -> None:
    family, values = latent(name), logits(1, 6, 4, 1.0)
    many = values.expand(DRAWS, -1)
    torch.manual_seed(1)
    z = family.draw(many) if way == "draw" else family.relaxed(many, tau=0.7, hard=True)
    error = z.std(0) / math.sqrt(DRAWS)
    assert ((z.mean(0) - family.mean(values)[0]).abs() < 3 * error + 1e-9).all()
    if name == "gaussian":
        expected = (values[0, 3:] / 2).exp()
        assert ((z.std(0) - expected).abs() < 3 * expected / math.sqrt(2 * DRAWS)).all()
    else:
        assert set(z.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", DISCRETE)
def test_a_cold_relaxation_is_nearly_a_draw(name: str) -> None:
    family, values = latent(name), logits(1, 4, 5, 1.0)
    torch.manual_seed(2)
    z = family.relaxed(values.expand(DRAWS, -1), tau=0.05)
    near = (z < 0.01) | (z > 0.99)
    assert near.double().mean() > 0.85
    chosen = (z > 0.5).double()
    error = chosen.std(0) / math.sqrt(DRAWS)
    assert ((chosen.mean(0) - family.mean(values)[0]).abs() < 3 * error).all()


@pytest.mark.parametrize("name", DISCRETE)
def test_straight_through_has_the_value_of_a_draw_and_the_gradient_of_the_relaxation(name: str) -> None:
    family, weights = latent(name), logits(3, 4, 6)
    gradients = []
    for hard in (True, False):
        values = logits(3, 4, 7).requires_grad_()
        torch.manual_seed(3)
        z = family.relaxed(values, tau=0.8, hard=hard)
        assert (set(z.unique().tolist()) <= {0.0, 1.0}) is hard
        (z * weights).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(values.grad)
    assert gradients[0] is not None
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_gaussian_draw_passes_gradients_to_both_halves() -> None:
    values = logits(2, 6, 8).requires_grad_()
    torch.manual_seed(0)
    LATENTS["gaussian"].relaxed(values).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert (values.grad[:, :3] == 1).all()
    assert (values.grad[:, 3:] != 0).all()


@pytest.mark.parametrize("name", DISCRETE)
def test_map_and_topk_choose_the_most_probable(name: str) -> None:
    family, values = latent(name), torch.tensor([[0.5, 3.0, -1.0, 2.0]])
    assert family.map(values).tolist() == ([[0, 1, 0, 0]] if name == "sentence" else [[1, 1, 0, 1]])
    assert family.topk(values, k=2).tolist() == [[0, 1, 0, 1]]
    assert family.topk(values, k=9).tolist() == [[1, 1, 1, 1]]
    if name == "sentence":
        assert family.topk(values, k=1).tolist() == family.map(values).tolist()


@pytest.mark.parametrize("name", LATENTS)
def test_half_precision_logits_are_computed_wide(name: str) -> None:
    q, p = logits(3, 4, 1).bfloat16(), logits(3, 4, 2).bfloat16()
    assert latent(name).kl(q, p).dtype == torch.float32
    torch.testing.assert_close(latent(name).kl(q, p), latent(name).kl(q.double(), p.double()).float())


def test_what_cannot_be_done_says_so() -> None:
    with pytest.raises(GuidanceError, match="latent_type: got 'word', expected one of sentence, bernoulli, gaussian"):
        latent("word")
    with pytest.raises(GuidanceError, match="gaussian latent, which has no places"):
        LATENTS["gaussian"].topk(torch.zeros(1, 4))
    with pytest.raises(GuidanceError, match="guidance_k: got 0"):
        LATENTS["sentence"].topk(torch.zeros(1, 4), k=0)
