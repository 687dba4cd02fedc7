"""Plans: selection, exact sizes, controls of equal size, JSON."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loradrop_models import LLAMA_TARGETS, bert, bert_base, llama, llama_base, lora_config, token_batch, wake
from peft import get_peft_model

from fascicle_loradrop.controls import Group, inverse_of_size, random_of_size
from fascicle_loradrop.energies import Energies
from fascicle_loradrop.errors import EnergyError, LoraDropError, PlanError
from fascicle_loradrop.layers import lora_layers
from fascicle_loradrop.plan import DropPlan, uniform_rank
from fascicle_loradrop.sample import stratified_indices
from fascicle_loradrop.score import score
from fascicle_loradrop.stability import compare

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHAPES = {"q": (8, 8), "k": (8, 4), "up": (8, 24), "down": (24, 8)}


def energies_of(g, layers, types=("q", "k", "up", "down"), r=2):
    names = [f"h.{i}.{t}" for i in range(layers) for t in types]
    shapes = [SHAPES[t] for _ in range(layers) for t in types]
    return Energies.from_arrays(
        names=names, g=g[: len(names)], d_in=[s[0] for s in shapes], d_out=[s[1] for s in shapes], r=r
    )


@st.composite
def energies(draw):
    layers = draw(st.integers(1, 5))
    types = draw(st.lists(st.sampled_from(list(SHAPES)), min_size=1, unique=True))
    size = layers * len(types)
    g = draw(st.lists(st.sampled_from([0.0, 1e-12, 0.5, 1.0, 3.0, 7.5, 1e6]), min_size=size, max_size=size))
    if not any(g):
        g[draw(st.integers(0, size - 1))] = 1.0
    return energies_of(g, layers, types)


share = st.sampled_from(["type", "shape", "none"])
scopes = st.sampled_from(["global", "per_type", "per_layer"])


def size_by_definition(plan):
    """P counted tensor by tensor: every kept module, and one pair a group."""
    by_name = {m.name: m for m in plan.modules}
    own = sum(m.r * (m.d_in + m.d_out) for m in plan.modules if m.name in plan.keep)
    return own + sum(by_name[o].r * (by_name[o].d_in + by_name[o].d_out) for o in plan.groups)


def test_the_crossing_element_is_kept():
    e = energies_of([4, 3, 2, 1], layers=4, types=["q"])
    assert DropPlan.from_energies(e, threshold=0.7).keep == ("h.0.q", "h.1.q")
    assert DropPlan.from_energies(e, threshold=0.71).keep == ("h.0.q", "h.1.q", "h.2.q")


def test_the_default_is_the_threshold_of_nine_tenths():
    e = energies_of([4, 3, 2, 1], layers=4, types=["q"])
    assert DropPlan.from_energies(e) == DropPlan.from_energies(e, threshold=0.9)


def test_only_one_way_to_select():
    with pytest.raises(PlanError, match=r"\['budget', 'threshold'\]"):
        DropPlan.from_energies(energies_of([1, 2], 2, ["q"]), threshold=0.9, budget=0.5)


@pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"threshold": 1.1}, {"keep": 0}, {"keep": 9}, {"budget": 1.5}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(PlanError, match=next(iter(bad))):
        DropPlan.from_energies(energies_of([1, 2], 2, ["q"]), **bad)


@quick
@given(energies(), scopes, share)
def test_everything_is_kept_at_one(e, scope, share_by):
    plan = DropPlan.from_energies(e, threshold=1.0, scope=scope, share_by=share_by)
    assert plan.keep == e.names
    assert plan.parameters_after == plan.parameters_before
    assert not plan.groups


@quick
@given(energies())
def test_one_module_is_kept_near_zero(e):
    plan = DropPlan.from_energies(e, threshold=1e-15)
    assert plan.keep == (e.names[int(np.argmax(e.g))],)


@quick
@given(energies(), scopes, share, st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5))
def test_the_kept_set_grows_with_the_threshold(e, scope, share_by, thresholds):
    plans = DropPlan.from_energies(e, scope=scope, share_by=share_by).sweep(sorted(thresholds))
    for smaller, larger in itertools.pairwise(plans):
        assert set(smaller.keep) <= set(larger.keep)
    for plan in plans:
        assert plan.parameters_after == size_by_definition(plan)
        assert len(plan.keep) + len(plan.low) == len(e.names)


@quick
@given(energies(), st.floats(0.05, 1.0))
def test_the_kept_prefix_reaches_the_threshold_and_no_shorter_one_does(e, T):
    plan = DropPlan.from_energies(e, threshold=T)
    importance = sorted((m.importance for m in plan.modules), reverse=True)
    k = len(plan.keep)
    if T < 1:
        assert sum(importance[:k]) >= T - 1e-9
        assert k == 1 or sum(importance[: k - 1]) < T + 1e-9


def prefixes(e, share_by):
    """The plans of every prefix of the ranking."""
    return [DropPlan.from_energies(e, keep=k, share_by=share_by) for k in range(1, len(e.names) + 1)]


@quick
@given(energies(), scopes, share, st.floats(0.05, 1.0))
def test_a_budget_is_never_exceeded_and_no_longer_prefix_fits(e, scope, share_by, budget):
    smallest = DropPlan.from_energies(e, keep=1, scope=scope, share_by=share_by)
    if scope == "global" and all(p.fraction > budget for p in prefixes(e, share_by)):
        with pytest.raises(PlanError, match="no plan has at most"):
            DropPlan.from_energies(e, budget=budget, share_by=share_by)
        return
    if smallest.fraction > budget:
        return
    plan = DropPlan.from_energies(e, budget=budget, scope=scope, share_by=share_by)
    limit = budget * plan.parameters_before
    assert plan.parameters_after <= limit + 1e-6
    if scope == "global":
        assert all(p.parameters_after > limit for p in prefixes(e, share_by)[len(plan.keep) :])


def test_the_budget_search_sees_that_a_longer_prefix_can_be_cheaper():
    """Keeping the second and last q removes its group's shared pair: the longer prefix has the same size."""
    e = energies_of([9, 8, 1, 1, 1, 1], layers=2, types=["q", "up", "down"])
    sizes = [DropPlan.from_energies(e, keep=k).parameters_after for k in range(1, 7)]
    assert sorted(sizes) == sizes
    assert sizes[4] == sizes[5]  # five or six kept: the sixth's own pair replaces the shared one
    fraction = sizes[5] / sizes[-1]
    assert len(DropPlan.from_energies(e, budget=fraction).keep) == 6


def test_the_budget_of_one_half_is_met_for_llama():
    e = score(wake(llama()), [token_batch(causal=True)])
    plan = DropPlan.from_energies(e, budget=0.5)
    assert 0.4 < plan.fraction <= 0.5


@pytest.mark.parametrize("scope", ["global", "per_type", "per_layer"])
@pytest.mark.parametrize("share_by", ["type", "shape", "none"])
def test_groups_hold_all_low_modules_of_one_kind_once(scope, share_by):
    e = energies_of(list(range(1, 21)), layers=5)
    plan = DropPlan.from_energies(e, threshold=0.6, scope=scope, share_by=share_by)
    low = [m.name for m in plan.low]
    grouped = [name for owner, members in plan.groups.items() for name in (owner, *members)]
    if share_by == "none":
        assert plan.groups == {}
        assert list(plan.dropped) == low
    else:
        assert sorted(grouped) == sorted(low)
        assert plan.dropped == ()
        shapes = {m.name: (m.d_in, m.d_out) for m in plan.modules}
        for owner, members in plan.groups.items():
            assert {shapes[owner]} >= {shapes[m] for m in members}


def test_sharing_never_crosses_devices_ranks_or_scalings():
    e = energies_of([9, 1, 1, 1], layers=4, types=["q"])
    split = replace(e, devices=("cuda:0", "cuda:0", "cuda:1", "cuda:1"))
    plan = DropPlan.from_energies(split, keep=1)
    assert plan.groups == {"h.1.q": (), "h.2.q": ("h.3.q",)}
    ranks = replace(e, r=np.array([2, 2, 4, 4]))
    assert len(DropPlan.from_energies(ranks, keep=1).groups) == 2


def test_a_pool_without_energy_keeps_its_floor_only():
    e = energies_of([1, 0, 2, 0, 3, 0], layers=3, types=["q", "k"])
    plan = DropPlan.from_energies(e, threshold=0.99, scope="per_type")
    assert [n for n in plan.keep if n.endswith("k")] == ["h.0.k"]
    more = DropPlan.from_energies(e, threshold=0.99, scope="per_type", floor=2)
    assert sum(n.endswith("k") for n in more.keep) == 2


@quick
@given(energies(), share, st.integers(0, 5), st.floats(0.2, 0.95))
def test_controls_of_equal_parameters_have_exactly_the_size_of_the_plan(e, share_by, seed, T):
    plan = DropPlan.from_energies(e, threshold=T, share_by=share_by)
    for control in (plan.randomize(seed, match="parameters"), plan.invert(match="parameters")):
        assert control.parameters_after == plan.parameters_after == size_by_definition(control)
        assert control.keep
    inverse = plan.invert(match="parameters")
    weight = {m.name: m.importance for m in plan.modules}
    assert sum(map(weight.get, inverse.keep)) <= sum(map(weight.get, plan.keep)) + 1e-12


@quick
@given(energies(), scopes, st.integers(0, 5))
def test_controls_of_equal_count_keep_as_many_in_each_pool(e, scope, seed):
    plan = DropPlan.from_energies(e, threshold=0.7, scope=scope)
    for control in (plan.randomize(seed), plan.invert()):
        assert len(control.keep) == len(plan.keep)
    assert plan.randomize(seed) == plan.randomize(seed)


def test_the_inverse_of_equal_count_is_the_other_end_of_the_ranking():
    e = energies_of([5, 4, 3, 2, 1], layers=5, types=["q"])
    plan = DropPlan.from_energies(e, keep=2)
    assert plan.invert().keep == ("h.3.q", "h.4.q")
    assert plan.invert().kind == "inverse"
    assert plan.invert(match="parameters").keep == ("h.3.q", "h.4.q")


def brute(groups, total):
    every = [i for g in groups for i in g.members]
    for size in range(1, len(every) + 1):
        for keep in itertools.combinations(every, size):
            if sum(g.parameters(len(set(g.members) & set(keep))) for g in groups) == total:
                yield keep


def test_random_controls_are_uniform_over_all_keep_sets_of_the_size():
    groups = [Group((0, 1, 2), 2, True), Group((3, 4), 4, True), Group((5,), 6, True)]
    total = 14
    sets = sorted(brute(groups, total))
    assert len(sets) > 5
    draws = 4000
    counts = dict.fromkeys(sets, 0)
    for seed in range(draws):
        counts[tuple(random_of_size(groups, total, seed))] += 1
    expected = draws / len(sets)
    chi2 = sum((c - expected) ** 2 / expected for c in counts.values())
    assert chi2 < 3 * len(sets)  # far beyond any quantile in use, far below a biased draw


def test_the_inverse_control_is_the_least_important_set_of_the_size():
    groups = [Group((0, 1, 2), 2, True), Group((3, 4), 4, True), Group((5,), 6, True)]
    importance = [0.3, 0.05, 0.1, 0.2, 0.15, 0.2]
    for total in range(2, 30, 2):
        best = min((sum(importance[i] for i in keep) for keep in brute(groups, total)), default=None)
        found = inverse_of_size(groups, importance, total)
        if best is None:
            assert found is None
            assert random_of_size(groups, total, 0) is None
        else:
            assert sum(importance[i] for i in found) == pytest.approx(best)


@quick
@given(energies(), st.floats(0.55, 1.0))
def test_uniform_rank_is_the_largest_that_fits_and_the_exact_version_never_exceeds(e, budget):
    found = uniform_rank(e, budget)
    step = {n: int(i + o) for n, i, o in zip(e.names, e.d_in, e.d_out, strict=True)}
    assert found.parameters == found.rank * sum(step.values()) <= found.target
    assert (found.rank + 1) * sum(step.values()) > found.target
    exact = sum(rank * step[name] for name, rank in found.ranks(list(e.names)).items())
    assert exact == found.parameters_exact <= found.target
    room = found.target - exact
    others = [step[n] for n in e.names if n not in found.rank_pattern]
    assert all(room < s for s in others)


def test_the_uniform_control_has_its_size_and_the_scaling_in_peft():
    model = wake(llama())
    plan = DropPlan.from_energies(score(model, [token_batch(causal=True)]), threshold=0.8)
    control = uniform_rank(plan)
    assert control.target == plan.parameters_after
    smallest = min(m.d_in + m.d_out for m in plan.modules)
    assert plan.parameters_after - control.parameters_exact < smallest
    for exact, size in ((True, control.parameters_exact), (False, control.parameters)):
        config = control.lora_config(lora_config(LLAMA_TARGETS, "CAUSAL_LM"), exact=exact)
        built = get_peft_model(llama_base(), config)
        assert built.get_nb_trainable_parameters()[0] == size
        scalings = {layer.scaling["default"] for layer in lora_layers(built).values()}
        assert scalings == {2.0}


def test_uniform_rank_needs_room_for_rank_one():
    with pytest.raises(PlanError, match="rank 1"):
        uniform_rank(energies_of([1, 1], 2, ["q"]), budget=0.4)


def test_the_table_lists_every_module_once_and_adds_up():
    e = energies_of(list(range(1, 9)), layers=2)
    plan = DropPlan.from_energies(e, threshold=0.5)
    rows = plan.table()
    assert sorted(r["name"] for r in rows) == sorted(e.names)
    assert sum(r["parameters"] for r in rows) == plan.parameters_after
    assert rows[-1]["cumulative"] == pytest.approx(1)
    assert {r["fate"] for r in rows} == {"kept", "shared"}
    assert all(r["owner"] in e.names for r in rows)


@quick
@given(energies(), scopes, share, st.sampled_from([{"threshold": 0.8}, {"keep": 1}]))
def test_plans_survive_json(e, scope, share_by, selection):
    plan = DropPlan.from_energies(e, scope=scope, share_by=share_by, **selection)
    for p in (plan, plan.invert(), plan.randomize(3, match="parameters")):
        assert DropPlan.from_json(p.to_json()) == p


def tamper(**changes):
    def change(data):
        for path, value in changes.items():
            *where, last = path.split("__")
            target = data
            for key in where:
                target = target[int(key) if key.isdigit() else key]
            target[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (tamper(format="other"), "format must be"),
        (tamper(version=99), "version must be 1, got 99"),
        (tamper(share_by="nobody"), "share_by must be one of"),
        (tamper(floor="1"), "floor must be int"),
        (tamper(seed=True), "seed must be int or NoneType, got True"),
        (tamper(keep=["h.9.q"]), "does not list"),
        (tamper(keep=[]), "at least one"),
        (tamper(keep=["h.0.q"]), "groups does not follow"),
        (tamper(parameters__after=1), "parameters does not follow"),
        (tamper(modules__0__r=7), "parameters does not follow"),
        (tamper(modules__0__d_in=-1), r"modules\[0\].d_in must be positive"),
        (tamper(modules__0__g=float("nan")), r"modules\[0\].g must be finite"),
        (tamper(modules__1=3), r"modules\[1\] must be an object"),
        (tamper(surprise=1), "unknown fields"),
        (lambda data: data.pop("adapter"), r"missing fields \['adapter'\]"),
        (tamper(selection={"luck": 1}), "selection must be one of"),
    ],
)
def test_a_tampered_plan_is_refused_field_by_field(change, message):
    plan = DropPlan.from_energies(energies_of([4, 3, 2, 1], layers=4, types=["q"]), keep=2)
    data = json.loads(plan.to_json())
    change(data)
    with pytest.raises(PlanError, match=message):
        DropPlan.from_json(json.dumps(data))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(PlanError, match="JSON"):
        DropPlan.from_json("{")
    with pytest.raises(EnergyError, match="JSON"):
        Energies.from_json("{")


def test_a_plan_is_refused_by_another_model():
    plan = DropPlan.from_energies(score(wake(bert()), [token_batch()]))
    plan.validate(bert())
    with pytest.raises(PlanError, match="another base model"):
        plan.validate(bert(layers=5))
    with pytest.raises(PlanError, match=r"\(d_in, d_out, r, bias\)"):
        plan.validate(bert(r=2))
    with pytest.raises(PlanError, match="lora_alpha"):
        plan.validate(bert(lora_alpha=5))
    with pytest.raises(PlanError, match="lacks"):
        plan.validate(get_peft_model(bert_base(), lora_config(["query"])))
    few = get_peft_model(bert_base(), lora_config(["query"]))
    smaller = DropPlan.from_energies(score(wake(few), [token_batch()]))
    with pytest.raises(PlanError, match="besides"):
        smaller.validate(bert())
    wider = replace(plan, fingerprint="0" * 16)
    wider.validate(bert(), fingerprint=False)


def test_wide_outputs_dominate_raw_energy_and_normalisation_removes_that():
    e = energies_of([1, 1, 6, 1], layers=1)
    raw = DropPlan.from_energies(e, keep=1)
    assert raw.keep == ("h.0.up",)
    per_dim = e.importance("per_dim")
    assert per_dim.tolist() == pytest.approx((np.array([1 / 8, 1 / 4, 6 / 24, 1 / 8]) / 0.75).tolist())


# sampling


@quick
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0.01, 1.0), st.integers(0, 3))
def test_every_class_is_in_the_sample_in_proportion(labels, ratio, seed):
    found = stratified_indices(labels, ratio, seed)
    assert len(set(found.tolist())) == len(found)
    assert found.tolist() == sorted(found.tolist()) == stratified_indices(labels, ratio, seed).tolist()
    picked = [labels[i] for i in found]
    for c in set(labels):
        assert max(1, int(labels.count(c) * ratio + 1e-9)) <= picked.count(c) <= labels.count(c) * ratio + 1 + 1e-9
    assert len(found) >= round(len(labels) * ratio)
    assert len(found) <= round(len(labels) * ratio) + len(set(labels))


def test_strings_regressions_and_lengths_are_stratified_too():
    assert len(stratified_indices(["a", "b"] * 50, 0.1)) == 10
    scores = np.linspace(0.0, 5.0, 100)
    found = stratified_indices(scores, 0.1, bins=10)
    assert [int(scores[i] * 2 - 1e-9) for i in found] == list(range(10))
    lengths = np.arange(100)
    assert {int(lengths[i]) // 20 for i in stratified_indices(lengths=lengths, ratio=0.05, bins=5)} == set(range(5))
    assert stratified_indices(scores, 0.1, seed=0).tolist() != stratified_indices(scores, 0.1, seed=1).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either"),
        ({"labels": [1], "lengths": [1]}, "either"),
        ({"labels": []}, "at least one"),
        ({"labels": [1, 2], "ratio": 0.0}, "ratio"),
        ({"labels": [1.0, float("nan")]}, "finite"),
        ({"lengths": [1, 2], "bins": 0}, "bins"),
    ],
)
def test_samples_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(LoraDropError, match=message):
        stratified_indices(**arguments)


# stability


def test_stability_of_equal_and_of_opposite_probes():
    a = energies_of([4, 3, 2, 1], layers=4, types=["q"])
    b = energies_of([1, 2, 3, 4], layers=4, types=["q"])
    same, opposite = compare([a, a], [0.5]), compare([a, b], [0.5])
    assert same.mean_spearman == pytest.approx(1)
    assert opposite.mean_spearman == pytest.approx(-1)
    assert same.mean_jaccard(0.5) == 1
    assert opposite.mean_jaccard(0.5) == 0
    assert opposite.kept == {0.5: (2, 2)}
    flat = energies_of([5, 5, 1, 1], layers=4, types=["q"])  # keeps two where a keeps three: two of three in common
    uneven = compare([a, flat], [0.8])
    assert uneven.kept == {0.8: (3, 2)}
    assert uneven.jaccard[0.8].tolist() == [[1, 2 / 3], [2 / 3, 1]]
    with pytest.raises(EnergyError, match="two probes"):
        compare([a])
    with pytest.raises(EnergyError, match="different modules"):
        compare([a, energies_of([1], 1, ["q"])])
