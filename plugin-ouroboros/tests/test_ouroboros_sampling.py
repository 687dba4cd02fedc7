"""Sampled text has the target's distribution, and with the coupled rule it is one text for one seed."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ouroboros_models import TOKENS, Planned, greedy, liar, model, near, prompt
from scipy.stats import chi2
from transformers import LogitsProcessorList, MaxLengthCriteria, StoppingCriteriaList

from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions
from fascicle_ouroboros.pool import Phrase
from fascicle_ouroboros.rounds import Drafting, Rounds
from fascicle_ouroboros.sampling import (
    Coupled,
    GumbelNoise,
    Leviathan,
    accept_candidates,
    accept_draft,
    draw,
    gumbel,
    residual,
)
from fascicle_ouroboros.state import Verification
from fascicle_ouroboros.stats import Stats
from fascicle_ouroboros.stopping import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from fascicle_ouroboros.tree import DraftTree

V, LENGTH, DRAWS = 4, 3, 800


# ---- functions, exactly ----


def test_acceptance_and_residual_give_p_exactly() -> None:
    """Σ_x q(x)·(min(1, p/q)[t = x] + (1 - min(1, p/q))·residual(t)) = p(t)."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        p, q = torch.rand(2, 6, generator=generator).double().pow(3)
        p, q = p / p.sum(), q / q.sum()
        total = torch.zeros(6, dtype=torch.float64)
        for x in range(6):
            accepted = min(1.0, float(p[x] / q[x]))
            assert accept_draft(p, q, x, accepted - 1e-9)
            assert accepted == 1.0 or not accept_draft(p, q, x, accepted + 1e-9)
            total[x] += q[x] * accepted
            total += q[x] * (1 - accepted) * residual(p, q)
        torch.testing.assert_close(total, p)


@pytest.mark.parametrize("candidates", [(), (1,), (2, 0), (0, 1, 2, 3), (1, 1, 2)])
def test_rejecting_one_candidate_after_another_gives_p(candidates: tuple[int, ...]) -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    grid = (np.arange(40) + 0.5) / 40
    counts = np.zeros(4)
    rng = np.random.default_rng(0)
    draws = 4000
    us = grid[rng.integers(0, 40, (draws, len(candidates) + 1))] + (rng.random((draws, len(candidates) + 1)) - 0.5) / 40
    for row in us:
        token, _ = accept_candidates(p, candidates, row)
        counts[token] += 1
    assert chi2.sf(((counts - draws * p.numpy()) ** 2 / (draws * p.numpy())).sum(), 3) > 1e-3


def test_drawing_inverts_the_distribution_function() -> None:
    p = torch.tensor([0.25, 0.0, 0.5, 0.25])
    tokens = [draw(p, u) for u in (np.arange(1000) + 0.5) / 1000]
    assert [tokens.count(t) for t in range(4)] == [250, 0, 500, 250]


def test_noise_is_gumbel_and_belongs_to_seed_and_position() -> None:
    g = np.concatenate([gumbel(3, position, 500) for position in range(40)])
    assert abs(g.mean() - np.euler_gamma) < 0.03
    assert abs(g.var() - np.pi**2 / 6) < 0.06
    assert len(np.unique(g)) == len(g)
    assert not np.array_equal(gumbel(3, 0, 5), gumbel(4, 0, 5))


# ---- the engine's own rounds, on tables instead of models ----


class Table:
    """A model whose logits depend on the last two tokens."""

    how = Verification("tree", "one")

    def __init__(self, seed: int, sharpness: float = 1.5) -> None:
        self.logits = sharpness * torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed))
        self.cached: list[int] = []
        self.forwards = self.fed = 0

    def forward(self, unread: Sequence[int], tree: DraftTree) -> Tensor:
        self.unread, self.tree = list(unread), tree
        text = [0, *self.cached, *unread]
        rows = [self.logits[text[-2], text[-1]]]
        for node in range(1, len(tree) + 1):
            parent = tree.parents[node - 1]
            before = text[-1] if parent == 0 else tree.tokens[parent - 1]
            rows.append(self.logits[before, tree.tokens[node - 1]])
        return torch.stack(rows)

    def keep(self, path: Sequence[int]) -> None:
        self.cached += [*self.unread, *(self.tree.tokens[node - 1] for node in path)]

    def rollback(self, length: int) -> None:
        del self.cached[length:]

    def distribution(self, warp: Callable[[Tensor], Tensor]) -> dict[tuple[int, ...], float]:
        """Probability of each text of three tokens after [1]."""
        found = {}
        for text in itertools.product(range(V), repeat=LENGTH):
            probability, so_far = 1.0, [0, 1]
            for token in text:
                probability *= float(warp(self.logits[so_far[-2], so_far[-1]]).double().softmax(-1)[token])
                so_far.append(token)
            found[text] = probability
        return found


class Amounts:
    """Gamma 2, phrases behind and beside it, always."""

    def plan(self, proposals: Any, room: int, context: int) -> Any:
        from fascicle_ouroboros.controller import Plan

        return Plan(gamma=2, phrases=3, length=2, nodes=16, beside=3)

    def observe(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to learn."""


def warpers(kind: str) -> LogitsProcessorList:
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    return LogitsProcessorList([] if kind == "all" else [TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.9)])


def sample(picker: Any, draft: Table | None, kind: str = "all") -> tuple[int, ...]:
    phrases = [Phrase(t, "prompt", ()) for t in ((1, 2), (1, 3), (0, 0))]
    pool = Planned(lambda tail: [p.tokens for p in phrases])
    text = Text(torch.tensor([[1]]), warpers(kind), StoppingCriteriaList([MaxLengthCriteria(1 + LENGTH)]))
    if draft is not None:
        draft.cached = []
    drafting = Drafting(vocabulary=V, phrases=3, draft_phrases=2, processors=warpers(kind))
    target = TARGET
    target.cached = []
    Rounds(text, [1], target, draft, pool, Amounts(), picker, Stats(), drafting).run()  # type: ignore[arg-type]
    return tuple(text.tokens[1:])


TARGET = Table(0)


def p_value(counts: dict[tuple[int, ...], int], expected: dict[tuple[int, ...], float]) -> float:
    total = sum(counts.values())
    large = [t for t, p in expected.items() if p * total >= 10]
    statistic = sum((counts.get(t, 0) - total * expected[t]) ** 2 / (total * expected[t]) for t in large)
    rest = 1 - sum(expected[t] for t in large)
    seen = total - sum(counts.get(t, 0) for t in large)
    if rest * total >= 1:
        statistic += (seen - rest * total) ** 2 / (rest * total)
    elif seen > 20:
        return 0.0
    return float(chi2.sf(statistic, len(large) - (rest * total < 1)))


def count(
    make: Callable[[int], Any], draft: Table | None, kind: str = "all", draws: int = DRAWS
) -> dict[tuple[int, ...], int]:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(draws):
        text = sample(make(seed), draft, kind)
        counts[text] = counts.get(text, 0) + 1
    return counts


def warped_target(kind: str) -> dict[tuple[int, ...], float]:
    return TARGET.distribution(lambda row: warpers(kind)(None, row[None].clone())[0])


@pytest.mark.parametrize(("rule", "kind"), [(Coupled, "warped"), (Leviathan, "all")])
def test_texts_have_the_distribution_of_the_target(rule: Any, kind: str) -> None:
    assert p_value(count(rule, Table(1), kind), warped_target(kind)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all", "warped"])
@pytest.mark.parametrize("rule", [Coupled, Leviathan])
@pytest.mark.parametrize("drafted", [True, False], ids=["draft", "pool"])
def test_many_texts_have_the_distribution_of_the_target(rule: Any, kind: str, drafted: bool) -> None:
    assert p_value(count(rule, Table(1) if drafted else None, kind, 20_000), warped_target(kind)) > 1e-3


class WrongDraft(Leviathan):
    """Negative control: accepts with a q that the draft did not draw from."""

    def draft(self, scores: Tensor, position: int) -> tuple[int, Tensor | None]:
        token, q = super().draft(scores, position)
        assert q is not None
        return token, torch.full_like(q, 1 / len(q))


class LongestOfThree(Coupled):
    """Negative control: three independent draws, the one that goes on in the tree is taken."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.rng = np.random.default_rng(seed)

    def pick(self, scores: Tensor, position: int, drafted: Any = None) -> int:
        p = scores.double().softmax(-1)
        draws = [draw(p, self.rng.random()) for _ in range(3)]
        return next((t for t in draws if t in (0, 1)), draws[0])


@pytest.mark.parametrize("control", [WrongDraft, LongestOfThree])
def test_the_test_of_the_distribution_notices_wrong_rules(control: Any) -> None:
    assert p_value(count(control, Table(1)), TARGET.distribution(lambda row: row)) < 1e-6


# ---- one seed, one text ----


def autoregressive(seed: int, warp: dict[str, Any], tokens: int = TOKENS) -> list[int]:
    """A plain loop with the same noise."""
    from transformers import TemperatureLogitsWarper

    processors = LogitsProcessorList([TemperatureLogitsWarper(warp["temperature"]), GumbelNoise(seed)])
    out = model().generate(prompt(), max_new_tokens=tokens, do_sample=False, logits_processor=processors)
    return list(out[0].tolist())


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_coupled_text_is_that_of_a_plain_loop_with_the_same_noise(temperature: float) -> None:
    warp = {"temperature": temperature, "top_k": 0, "do_sample": True}
    for seed in (1,):
        text = autoregressive(seed, warp)
        for draft, options in (
            (None, {}),
            (near(), {"gamma": 5}),
            (model(), {"gamma": 3, "phrases": 0}),
            (model("llama", 7), {"nodes": 4}),
        ):
            engine = OuroborosEngine(model(), draft, options=DraftingOptions(**options))
            assert engine.generate(prompt(), max_new_tokens=TOKENS, seed=seed, **warp)[0].tolist() == text
        engine = OuroborosEngine(model(), pool=liar(text))
        assert engine.generate(prompt(), max_new_tokens=TOKENS, seed=seed, **warp)[0].tolist() == text


def test_a_coupled_draft_often_agrees() -> None:
    engine = OuroborosEngine(model(), model(), options=DraftingOptions(gamma=5, phrases=0))
    engine.generate(prompt(), max_new_tokens=TOKENS, do_sample=True, top_k=0, seed=3)
    assert engine.stats.target_forwards == TOKENS // 6


def test_a_model_that_decodes_plainly_writes_the_same_coupled_text() -> None:
    engine = OuroborosEngine(model())
    asked = {"max_new_tokens": 12, "do_sample": True, "top_k": 0, "seed": 5}
    text = engine.generate(prompt(), **asked)
    assert torch.equal(engine.generate(prompt(), use_cache=False, **asked), text)
    assert engine.stats.mode == "plain"


def test_without_a_seed_torch_gives_one_and_greedy_asks_for_none() -> None:
    engine = OuroborosEngine(model())
    texts = []
    for _ in range(2):
        torch.manual_seed(11)
        texts.append(engine.generate(prompt(), max_new_tokens=12, do_sample=True).tolist())
    assert texts[0] == texts[1]
    before = torch.get_rng_state(), random.getstate()
    engine.generate(prompt(), max_new_tokens=12)
    engine.generate(prompt(), max_new_tokens=12, do_sample=True, seed=4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_temperature_of_almost_nothing_is_greedy() -> None:
    for rule in ("coupled", "leviathan"):
        engine = OuroborosEngine(model(), near(), options=DraftingOptions(sampling=rule))
        out = engine.generate(prompt(), max_new_tokens=TOKENS, do_sample=True, temperature=1e-6, seed=1)
        assert tuple(out[0].tolist()) == greedy("llama", 0)
