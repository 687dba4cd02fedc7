"""The focusing loss: the official code's values, and what must hold whatever the values."""

from __future__ import annotations

import math

import pytest
import torch

from fascicle_sief.errors import ModelError
from fascicle_sief.focusing import FocusingLoss, adaptive_threshold_loss, importance, relation_loss

P, P_HAT = [0.1, 0.95, 0.3], [0.4, 0.3, 0.35]


def logits(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).logit().float()


@pytest.mark.parametrize(
    ("p", "p_hat", "score"),
    [
        (0.95, 0.40, 0.821748),
        (0.90, 0.40, 0.729837),
        (0.90, 0.36, 0.824662),
        (0.50, 0.10, 0.804719),
        (0.50, 0.11, 0.757064),
        (0.99, 0.01, 4.549169),
        (0.40, 0.90, -0.324372),
    ],
)
def test_scores_are_those_of_the_official_code(p: float, p_hat: float, score: float) -> None:
    assert importance(logits([p]), logits([p_hat])).item() == pytest.approx(score, abs=1e-5)


GOLDEN = [
    ([0, 1, 0], True, 0.583933, [0.018246, 0, 0.064999], [0.15, 0, 0.025]),
    ([0, 0, 0], True, 0.776492, [0.012164, 0.013416, 0.043333], [0.1, -0.216667, 0.016667]),
    ([0, 1, 0], False, 0.616495, [0, 0, 0.129998], [0, 0, 0.05]),
    ([0, 0, 0], False, 0.889051, [0, 0.020123, 0.064999], [0, -0.325, 0.025]),
]


@pytest.mark.parametrize("dead", [0, 2])
@pytest.mark.parametrize(("labels", "na", "loss", "of_z", "of_z_hat"), GOLDEN)
def test_loss_and_both_gradients_are_those_of_the_official_code(
    labels: list[int], na: bool, loss: float, of_z: list[float], of_z_hat: list[float], dead: int
) -> None:
    z, z_hat = (logits(row, *[[0.2, 0.9, 0.5]] * dead).requires_grad_() for row in (P, P_HAT))
    gold = torch.tensor([labels, *[[0, 1, 0]] * dead], dtype=torch.float32)
    out = FocusingLoss(include_na=na)(z, z_hat, gold, torch.tensor([True, *[False] * dead]))
    out.loss.backward()
    assert out.loss.item() == pytest.approx(loss, abs=1e-5)
    assert z.grad is not None
    assert z_hat.grad is not None
    assert z.grad[0].tolist() == pytest.approx(of_z, abs=1e-5)
    assert z_hat.grad[0].tolist() == pytest.approx(of_z_hat, abs=1e-5)
    assert not z.grad[1:].any()
    assert not z_hat.grad[1:].any()


@pytest.mark.parametrize(
    ("p", "below"),
    [(0.95, 0.409), (0.9, 0.370), (0.8, 0.294), (0.7, 0.223), (0.5, 0.101), (0.3, 0.021), (0.2, 0.0037)],
)
def test_a_sentence_is_evidence_where_the_probability_falls_below_the_table(p: float, below: float) -> None:
    for p_hat, evidence in ((below * 0.98, True), (below * 1.02, False)):
        z, z_hat = logits([0.01, p]), logits([0.01, p_hat])
        out = FocusingLoss()(z, z_hat, torch.tensor([[0.0, 1.0]]), torch.tensor([True]))
        assert out.exempt.tolist() == [[False, evidence]]


def test_neither_a_negative_label_nor_no_relation_is_ever_exempt() -> None:
    z, z_hat = logits([0.99, 0.99]), logits([0.001, 0.001])
    for labels in ([[0.0, 0.0]], [[1.0, 0.0]]):
        assert not FocusingLoss()(z, z_hat, torch.tensor(labels), torch.tensor([True])).exempt.any()
    assert FocusingLoss()(z, z_hat, torch.tensor([[1.0, 1.0]]), torch.tensor([True])).exempt.tolist() == [[False, True]]


def test_without_exemption_it_is_focusing_with_an_infinite_threshold() -> None:
    torch.manual_seed(0)
    z, z_hat = 4 * torch.randn(2, 30, 5)
    labels, alive = (torch.rand(30, 5) > 0.5).float(), torch.rand(30) > 0.3
    paper = FocusingLoss()(z, z_hat, labels, alive)
    never = FocusingLoss(beta=math.inf)(z, z_hat, labels, alive)
    plain = FocusingLoss(exempt=False)(z, z_hat, labels, alive)
    assert never.loss == plain.loss != paper.loss
    assert paper.exempt.any()
    assert not plain.exempt.any()


def test_the_same_answer_twice_costs_its_entropy_and_pushes_nothing() -> None:
    z = logits([0.1, 0.7, 0.5])
    z_hat = z.clone().requires_grad_()
    out = FocusingLoss()(z, z_hat, torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([True]))
    out.loss.backward()
    p = z.sigmoid()
    assert out.loss.item() == pytest.approx(-(p * p.log() + (1 - p) * (1 - p).log()).mean().item(), rel=1e-5)
    assert z_hat.grad is not None
    assert z_hat.grad.abs().max() < 1e-6
    assert out.score.abs().max() < 1e-6


def test_a_detached_target_lets_no_gradient_into_the_whole_document() -> None:
    for detach, moved in ((True, False), (False, True)):
        z, z_hat = logits(P).requires_grad_(), logits(P_HAT).requires_grad_()
        FocusingLoss(detach_target=detach)(z, z_hat, torch.zeros(1, 3), torch.tensor([True])).loss.backward()
        assert (z.grad is not None and bool(z.grad.any())) is moved


@pytest.mark.parametrize("link", ["sigmoid", "threshold"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_and_dead_pairs_stay_finite(link: str, dtype: torch.dtype) -> None:
    z = torch.tensor([[200.0, -200.0, 200.0], [-200.0, 200.0, 0.0]], dtype=dtype, requires_grad=True)
    z_hat = (-z.detach()).requires_grad_()
    for alive in (torch.tensor([True, True]), torch.tensor([False, False])):
        out = FocusingLoss(link=link)(z, z_hat, torch.tensor([[0.0, 1, 1], [0, 1, 0]]), alive)  # type: ignore[arg-type]
        (grad,) = torch.autograd.grad(out.loss, z_hat)
        assert out.loss.isfinite()
        assert grad.isfinite().all()
        assert out.score.isfinite().all()
        if not alive.any():
            assert out.loss == 0
            assert not grad.any()
    nothing = FocusingLoss(link=link)(z[:0], z_hat[:0], torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool))  # type: ignore[arg-type]
    assert nothing.loss == 0


def test_with_a_threshold_class_only_what_stands_above_it_matters() -> None:
    torch.manual_seed(1)
    z, z_hat = 2 * torch.randn(2, 12, 5)
    labels, alive = (torch.rand(12, 5) > 0.6).float(), torch.rand(12) > 0.2
    one = FocusingLoss(link="threshold")(z, z_hat, labels, alive)
    two = FocusingLoss(link="threshold")(z + torch.randn(12, 1), z_hat + torch.randn(12, 1), labels, alive)
    assert one.loss.item() == pytest.approx(two.loss.item(), rel=1e-5)
    assert one.score.shape == (12, 4)
    shifted = FocusingLoss()(
        torch.cat([z[:, :1], z[:, 1:] - z[:, :1]], 1),
        torch.cat([z_hat[:, :1], z_hat[:, 1:] - z_hat[:, :1]], 1),
        labels,
        alive,
    )
    assert (one.exempt == shifted.exempt[:, 1:]).all()


def test_the_adaptive_threshold_loss_is_the_sum_over_its_definition() -> None:
    torch.manual_seed(2)
    z, labels = torch.randn(9, 6, dtype=torch.float64).float(), (torch.rand(9, 6) > 0.6).float()
    labels[0] = 0
    for row, gold, loss in zip(z.double(), labels, adaptive_threshold_loss(z, labels), strict=True):
        pos = [r for r in range(1, 6) if gold[r]]
        neg = [r for r in range(1, 6) if not gold[r]]
        e = [math.exp(v) for v in row.tolist()]
        want = -sum(math.log(e[r] / (e[0] + sum(e[q] for q in pos))) for r in pos)
        want -= math.log(e[0] / (e[0] + sum(e[q] for q in neg)))
        assert loss.item() == pytest.approx(want, rel=1e-5)


def test_the_relation_loss_is_a_mean_over_pairs_that_count() -> None:
    torch.manual_seed(3)
    z, labels = torch.randn(6, 4), (torch.rand(6, 4) > 0.5).float()
    counted = torch.tensor([True, False, True, True, False, False])
    for link, na in (("sigmoid", True), ("sigmoid", False), ("threshold", True)):
        some = relation_loss(z, labels, link, include_na=na, pairs=counted)  # type: ignore[arg-type]
        assert some.item() == pytest.approx(
            relation_loss(z[counted], labels[counted], link, include_na=na).item(), rel=1e-6
        )  # type: ignore[arg-type]
        assert relation_loss(z, labels, link, include_na=na, pairs=~counted & counted) == 0  # type: ignore[arg-type]
    q = z.double().sigmoid()
    cells = -(labels * q.log() + (1 - labels) * (1 - q).log())
    assert relation_loss(z, labels).item() == pytest.approx(cells.mean().item(), rel=1e-5)
    assert relation_loss(z, labels, include_na=False).item() == pytest.approx(cells[:, 1:].mean().item(), rel=1e-5)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"logits \(2, 3\).*labels \(2, 2\)"):
        FocusingLoss()(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 2), torch.ones(2, dtype=torch.bool))
