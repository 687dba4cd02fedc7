"""The controller against synthetic costs and texts: it finds what pays, and never loses more than it may."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_ouroboros.controller import PLAIN, Controller, FixedController, Plan
from fascicle_ouroboros.costs import CostModel
from fascicle_ouroboros.errors import OuroborosError
from fascicle_ouroboros.options import DraftingOptions, Ouroboros
from fascicle_ouroboros.pool import Phrase, PhrasePool

# Relative times of a forward over k tokens on two cores, one token = 1: not a line, not even rising.
CPU = {1: 1.0, 2: 1.88, 3: 2.48, 4: 1.86, 6: 1.69, 8: 1.89, 12: 2.57, 16: 2.55, 24: 2.74, 32: 2.55}
GPU = {k: 1.0 + 0.004 * k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)}


def cost_of(curve, unit=0.07):
    return CostModel({(k, 0): unit * c for k, c in curve.items()})


@dataclass
class Run:
    seconds: float
    plain: float
    tokens: int
    rounds: int
    plans: list

    @property
    def speed(self):
        return self.plain / self.seconds

    def share(self, reason):
        return sum(p.reason == reason for p in self.plans) / len(self.plans)


def write(
    text, controller, pool, curve, *, unit=0.07, told=True, pads=True, noise=None, alpha=None, d=0.3, prompt=10, seed=0
):
    """Decode `text` with a target that writes it and costs what `curve` says, and a draft model right with probability `alpha`."""
    truth, rng = cost_of(curve, unit), random.Random(seed)
    noise = noise or (lambda: 1.0)
    at, spent, plans = prompt, 0.0, []
    pool.feed(text[:at], 0, "prompt")
    while at < len(text):
        room = len(text) - at - 1
        proposals = pool.lookup(text[:at], controller.phrases)
        plan = controller.plan(proposals, room, at)
        plans.append(plan)
        assert plan.gamma + plan.length <= max(room, 0)
        chain = 0
        while chain < plan.gamma and rng.random() < alpha:
            chain += 1
        tree = set()
        behind = proposals
        if plan.gamma:
            behind = pool.lookup(text[: at + plan.gamma], plan.phrases) if chain == plan.gamma else []
        for phrase in behind[: plan.phrases]:
            tree |= {phrase.tokens[:l] for l in range(1, min(plan.length, len(phrase.tokens)) + 1)}
        fed = 1 + min(plan.nodes, plan.gamma + len(tree))
        if pads and plan.nodes:
            fed = 1 + plan.nodes
        followed = 0
        if chain == plan.gamma:
            while tuple(text[at + chain : at + chain + followed + 1]) in tree:
                followed += 1
        emitted = min(chain + followed + 1, len(text) - at)
        seconds = truth.seconds(fed, at) * noise()
        draft_seconds = plan.gamma * d * unit * noise()
        spent += seconds + draft_seconds
        controller.observe(
            plan,
            fed=fed,
            emitted=emitted,
            seconds=seconds,
            draft_seconds=draft_seconds,
            draft_forwards=plan.gamma,
            accepted_chain=chain,
            proposals=behind[: plan.phrases],
            **({"tokens": text[at : at + emitted]} if told else {}),
        )
        pool.feed(text[: at + emitted], at, "output")
        at += emitted
    n = len(text) - prompt
    return Run(spent, n * unit, n, len(plans), plans)


def random_text(n, vocabulary=40, seed=0):
    """Keys return all the time, phrases never do: every proposal is wrong or nearly so."""
    rng = random.Random(seed)
    return [rng.randrange(vocabulary) for _ in range(n)]


def hostile_text(n, pool_orders=3):
    """Each next token is one that no known phrase foretells, though contexts return: nothing is ever accepted."""
    pool, text, rng = PhrasePool(), [0, 1, 2], random.Random(0)
    pool.feed(text, 0, "output")
    while len(text) < n:
        foretold = {p.tokens[0] for p in pool.lookup(text, 16)}
        text.append(rng.choice([t for t in range(30) if t not in foretold]))
        pool.feed(text, len(text) - 1, "output")
    return text


def copying_text(n, seed=0, passage=25):
    """Passages of a source, in another order, with words in between: as a summary or an edit."""
    rng = random.Random(seed)
    source = [rng.randrange(2000) for _ in range(300)]
    text = list(source)
    while len(text) < n:
        i = rng.randrange(275)
        text += source[i : i + passage] + [rng.randrange(2000) for _ in range(5)]
    return text[:n]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("curve", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("length", [150, 400, 2000])
def test_on_a_hostile_text_drafting_costs_at_most_three_percent(told, curve, length):
    run = write(hostile_text(length), Controller(cost_of(curve)), PhrasePool(), curve, told=told)
    assert run.seconds <= 1.03 * run.plain


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("vocabulary", [3, 40])
def test_random_text_costs_at_most_three_percent(seed, vocabulary):
    run = write(random_text(1000, vocabulary, seed), Controller(cost_of(CPU)), PhrasePool(), CPU)
    assert run.seconds <= 1.03 * run.plain


def test_a_draft_model_that_is_always_wrong_costs_at_most_three_percent():
    cost, draft = cost_of(CPU), cost_of({1: 0.3})
    run = write(random_text(2000, 500), Controller(cost, draft), PhrasePool(), CPU, alpha=0.0)
    assert any(p.gamma for p in run.plans)
    assert run.seconds <= 1.03 * run.plain


def test_costs_that_were_calibrated_far_too_low_cost_at_most_three_percent():
    """The ledger counts what was spent, not what was promised."""
    promised = {k: 1.0 + 0.01 * k for k in CPU}
    run = write(
        copying_text(1500),
        Controller(cost_of(promised)),
        PhrasePool(),
        {k: 3.0 * c if k > 1 else 1.0 for k, c in CPU.items()},
    )
    assert run.seconds <= 1.03 * run.plain


def test_a_text_that_turns_hostile_after_a_good_one_is_given_up_early():
    controller, pool = Controller(cost_of(CPU)), PhrasePool()
    assert write(copying_text(1500), controller, pool, CPU).speed > 1.1
    bad = write([t + 5000 for t in hostile_text(1000)], controller, pool, CPU)
    assert bad.seconds <= 1.02 * bad.plain + 8 * 0.07 + 1e-9


@pytest.mark.parametrize("told", [True, False])
def test_copied_passages_are_written_faster(told):
    cpu = write(copying_text(2000), Controller(cost_of(CPU)), PhrasePool(), CPU, told=told, prompt=300)
    gpu = write(copying_text(2000), Controller(cost_of(GPU)), PhrasePool(), GPU, told=told, prompt=300)
    assert cpu.speed > 1.8
    assert gpu.speed > 3.5


def test_the_best_fixed_amount_is_hardly_better_than_the_controller():
    """Regret against the best of many fixed settings, chosen with hindsight."""
    text = copying_text(2000)
    own = write(text, Controller(cost_of(CPU)), PhrasePool(), CPU, prompt=300)
    fixed = [
        write(text, FixedController(phrases=p, length=l, nodes=31), PhrasePool(), CPU, prompt=300, pads=False).speed
        for p in (1, 2, 3)
        for l in (2, 3, 5, 7, 8)
    ]
    assert own.speed >= 0.95 * max(fixed)


def test_where_more_tokens_cost_nothing_phrases_stand_beside_the_draft_as_well():
    cost, draft = CostModel({(k, 0): 1.0 for k in (1, 8, 32)}), CostModel({(1, 0): 0.05})
    phrases = [Phrase((1, 2, 3), "output", (7, 8, 9)), Phrase((4, 5, 6), "output", (7, 8, 9))]
    for most, beside in ((0, 0), (1, 1), (2, 2)):
        plan = Controller(cost, draft, nodes=31, beside=most).plan(phrases, room=50, context=100)
        assert (plan.gamma > 0, plan.phrases, plan.beside) == (True, 2, beside)
        assert plan.nodes >= plan.gamma + 3 * (2 + beside)


def test_a_good_draft_model_is_used_and_a_bad_one_is_not():
    cost, draft = cost_of(GPU), cost_of({1: 0.2})
    text = random_text(800, 3000)
    good = write(text, Controller(cost, draft), PhrasePool(), GPU, alpha=0.85, d=0.2)
    bad = write(text, Controller(cost, draft), PhrasePool(), GPU, alpha=0.1, d=0.2)
    assert good.speed > 1.4
    assert sum(p.gamma for p in good.plans) / len(good.plans) > 3
    assert sum(p.gamma > 0 for p in bad.plans) < 0.1 * len(bad.plans)


def test_a_draft_model_that_gets_better_is_noticed_within_the_budget_of_exploration():
    controller, pool = Controller(cost_of(GPU), cost_of({1: 0.2})), PhrasePool()
    bad = write(random_text(1500, 3000), controller, pool, GPU, alpha=0.0, d=0.2)
    assert bad.share("explore") > 0
    good = write(random_text(1500, 3000, seed=9), controller, pool, GPU, alpha=0.9, d=0.2)
    late = good.plans[len(good.plans) // 2 :]
    assert sum(p.gamma > 0 for p in late) > 0.8 * len(late)


def test_phrases_that_become_right_are_noticed_without_drafting():
    """Plain steps judge phrases as well: no round is spent on finding out."""
    controller, pool = Controller(cost_of(CPU)), PhrasePool()
    write(hostile_text(1500), controller, pool, CPU)
    text = copying_text(900)
    text = [t + 5000 for t in text]
    run = write(text, controller, pool, CPU, prompt=300)
    first = next(i for i, p in enumerate(run.plans) if p.nodes)
    assert first < 60
    assert run.speed > 1.5


def test_padding_is_asked_for_where_it_is_cheaper():
    controller = Controller(cost_of(CPU), loss=1.0)
    phrase = Phrase((1, 2), "output", (7, 8, 9))
    for i in range(40):
        plan = controller.plan([phrase], 50, i)
        controller.observe(plan, fed=1 + plan.nodes, emitted=1, seconds=0.07 * CPU.get(1 + plan.nodes, 1.7), tokens=[1])
    plan = controller.plan([phrase], 50, 40)
    assert (plan.phrases, plan.length, plan.nodes) == (1, 2, 5)  # two nodes; 6 tokens cost less than 3


def test_an_engine_that_does_not_pad_is_not_asked_to():
    text = copying_text(1500)
    controller = Controller(cost_of(CPU))
    run = write(text, controller, PhrasePool(), CPU, pads=False, prompt=300)
    assert not controller._pads
    assert run.speed > 1.5


def test_plans_are_the_same_for_the_same_observations():
    runs = [
        write(copying_text(700, seed=4), Controller(cost_of(CPU), cost_of({1: 0.3})), PhrasePool(), CPU, alpha=0.6)
        for _ in range(2)
    ]
    assert runs[0].plans == runs[1].plans
    assert [p.predicted for p in runs[0].plans] == [p.predicted for p in runs[1].plans]


def test_noise_and_hiccups_change_little():
    rng = random.Random(7)

    def noise():
        return 20.0 if rng.random() < 0.01 else rng.uniform(0.9, 1.2)

    quiet = write(copying_text(1500), Controller(cost_of(CPU)), PhrasePool(), CPU, prompt=300)
    noisy = write(copying_text(1500), Controller(cost_of(CPU)), PhrasePool(), CPU, noise=noise, prompt=300)
    assert noisy.rounds <= 1.15 * quiet.rounds


def test_a_machine_that_slows_down_for_all_sizes_keeps_its_plans():
    slow = write(copying_text(1500), Controller(cost_of(CPU)), PhrasePool(), CPU, unit=0.21, prompt=300)
    assert slow.speed > 1.7


def test_plain_steps_are_timed_now_and_then():
    run = write([1, 2, 3, 4] * 500, Controller(cost_of(GPU), anchor=20), PhrasePool(), GPU)
    reasons = [p.reason for p in run.plans]
    assert "anchor" in reasons[30:]
    assert run.share("anchor") < 0.06


@settings(max_examples=100, deadline=None)
@given(room=st.integers(0, 12), k=st.integers(0, 5), known=st.integers(0, 3), gamma=st.integers(0, 9))
def test_a_plan_fits_into_the_room(room, k, known, gamma):
    proposals = [Phrase(tuple(range(10 * i, 10 * i + 8)), "output", (1, 2, 3)[:known] or (1,)) for i in range(k)]
    for controller in (
        Controller(cost_of(GPU), cost_of({1: 0.01}) if gamma else None, grace=1e9, gamma=gamma or 1),
        FixedController(gamma=gamma, phrases=k, length=8, nodes=20),
        FixedController(gamma=gamma, phrases=k, length=8),
    ):
        plan = controller.plan(proposals, room, 5)
        assert plan.gamma + plan.length <= room
        assert (plan.nodes == 0) == (plan.gamma == 0 and plan.phrases == 0)
        assert plan.gamma <= max(gamma, 0)
        assert plan.nodes <= (32 if isinstance(controller, Controller) else plan.gamma + plan.phrases * plan.length)


def test_a_fixed_controller_repeats_itself():
    fixed = FixedController(gamma=4, phrases=3, length=6)
    phrase = Phrase((1,), "output", (0,))
    assert fixed.plan([], 100, 1) == fixed.plan([phrase], 100, 9) == Plan(4, 3, 6, 22)
    assert FixedController(phrases=3, length=6).plan([], 100, 1) == PLAIN
    assert FixedController(phrases=3, length=6).plan([phrase], 100, 1) == Plan(0, 1, 6, 6)
    assert FixedController(gamma=4, nodes=0).plan([phrase], 100, 1) == PLAIN


# ---- costs ----


def test_costs_are_interpolated_as_measured_and_never_assumed_to_rise():
    cost = cost_of(CPU, 1.0)
    for k, c in CPU.items():
        assert cost.seconds(k, 77) == pytest.approx(c)
    assert cost.seconds(5, 0) == pytest.approx((1.86 + 1.69) / 2)
    assert cost.seconds(3, 0) > cost.seconds(6, 0)
    assert cost.seconds(64, 0) >= cost.seconds(32, 0)
    assert [round(t, 9) for t in cost.curve(0, 8)] == [0.0, *(round(cost.seconds(k, 0), 9) for k in range(1, 9))]


def test_costs_are_interpolated_between_contexts():
    cost = CostModel({(1, 100): 1.0, (1, 300): 2.0, (4, 100): 2.0, (4, 300): 3.0})
    assert cost.seconds(1, 200) == pytest.approx(1.5)
    assert cost.seconds(1, 10) == pytest.approx(1.0)
    assert cost.seconds(4, 500) == pytest.approx(4.0)


def test_observed_times_correct_the_model_and_outliers_do_not():
    cost = cost_of(CPU, 1.0)
    cost.observe(6, 0, 50.0)
    assert cost.seconds(6, 0) == pytest.approx(1.69)
    for _ in range(9):
        cost.observe(6, 0, 2 * 1.69)
    assert cost.seconds(6, 0) == pytest.approx(3.38)
    assert cost.seconds(1, 0) == pytest.approx(1.0)
    assert cost.seconds(32, 0) == pytest.approx(2.55)
    for _ in range(15):
        cost.observe(1, 0, 3.0)
    assert cost.seconds(32, 0) == pytest.approx(3 * 2.55)
    for _ in range(300):
        cost.observe(1, 0, 3.0)
    assert cost.seconds(6, 0) == pytest.approx(3 * 1.69)  # forgotten: it gets another chance
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        cost.observe(1, 0, bad)
    assert cost.seconds(1, 0) == pytest.approx(3.0)


def test_calibration_takes_the_least_and_interleaves():
    calls = []

    def measure(k, context):
        calls.append(k)
        return 100.0 if len(calls) == 1 else float(k)

    cost = CostModel.calibrate(measure, sizes=(1, 4), contexts=(0, 64), repeats=3)
    assert calls[:4] == [1, 4, 1, 4]
    assert cost.seconds(1, 0) == 1.0
    assert cost.spent[0] == len(calls) == 12
    assert cost.spent[1] > 0


def test_calibration_keeps_to_its_budget_but_measures_everything_once():
    def measure(k, context):
        time.sleep(0.002 * k)
        return 0.002 * k

    cost = CostModel.calibrate(measure, sizes=(1, 2, 8), contexts=(0,), repeats=3, budget=0.0)
    assert cost.spent[0] == 3
    cost = CostModel.calibrate(measure, sizes=(1, 2, 8), contexts=(0,), repeats=3, budget=60.0)
    assert cost.spent[0] == 9


@pytest.fixture
def other_process(monkeypatch):
    """Forgets what this process has measured."""
    from fascicle_ouroboros import costs

    def forget():
        monkeypatch.setattr(costs, "_MEASURED", {})

    forget()
    return forget


def test_costs_are_measured_once_in_a_process_and_corrected_by_each_engine_alone(other_process):
    made = []

    def make():
        made.append(1)
        return cost_of(CPU, len(made))

    first, second = CostModel.cached("a", make), CostModel.cached("a", make)
    assert len(made) == 1
    assert first.measured == second.measured
    for _ in range(9):
        first.observe(1, 0, 50.0)
    assert second.seconds(1, 0) == pytest.approx(1.0)
    assert CostModel.cached("b", make).seconds(1, 0) == pytest.approx(2.0)


def test_costs_are_kept_in_a_folder_where_one_is_given(tmp_path, other_process):
    made = []

    def make():
        made.append(1)
        return cost_of(CPU, len(made))

    folder = tmp_path / "new"
    first = CostModel.cached("a", make, folder)
    other_process()
    assert CostModel.cached("a", make, folder).measured == first.measured
    assert CostModel.cached("b", make, folder).measured != first.measured
    assert len(made) == 2
    for path in folder.iterdir():
        path.write_text("{")
    other_process()
    third = CostModel.cached("a", make, folder)
    assert len(made) == 3
    other_process()
    assert CostModel.cached("a", make, folder).measured == third.measured


def test_amounts_are_measured_by_default_but_in_runs_which_repeat():
    assert DraftingOptions.adaptive
    assert not Ouroboros.adaptive


def test_engines_of_one_model_measure_it_once_and_say_what_it_took(tmp_path, other_process):
    from ouroboros_models import greedy, model, near, prompt

    from fascicle_ouroboros.engine import OuroborosEngine

    options = DraftingOptions(adaptive=True, nodes=8)

    def forwards_of_calibration(draft=None):
        engine, forwards, told = OuroborosEngine(model(), draft, options=options, costs=tmp_path), [], []
        handle = model().register_forward_hook(lambda *_: forwards.append(1))
        for _ in range(2):
            out = engine.generate(prompt(), max_new_tokens=12)
            assert tuple(out[0].tolist()) == greedy("llama", 0)[: 9 + 12]
            told.append(engine.stats.calibration_forwards)
            assert len(forwards) == engine.stats.target_forwards + (0 if draft else told[-1])
            assert (engine.stats.calibration_seconds > 0) == (told[-1] > 0)
            forwards.clear()
        handle.remove()
        assert told[1] == 0
        return told[0]

    assert forwards_of_calibration() == 1 + 3 * 5  # reads a text, then thrice 1, 2, 4, 6 and 8 tokens
    assert forwards_of_calibration() == 0
    assert forwards_of_calibration(near()) == 1 + 3
    other_process()
    assert forwards_of_calibration(near()) == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ({}, "size 1"),
        ({(2, 0): 1.0}, "size 1"),
        ({(1, 0): 1.0, (2, 9): 1.0}, "missing"),
        ({(1, 0): 0.0}, "positive"),
        ({(1, 0): float("nan")}, "positive"),
    ],
)
def test_incomplete_measurements_are_refused(seconds, message):
    with pytest.raises(OuroborosError, match=message):
        CostModel(seconds)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"format": "x", "version": 1, "seconds": []}), "null"])
def test_a_text_that_holds_no_costs_is_refused(text):
    with pytest.raises(OuroborosError, match="costs: expected"):
        CostModel.from_json(text)
