"""Sharing: exact sizes, T = 1 is plain LoRA, ties survive, merged starts are optimal."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loradrop_models import (
    BERT_TARGETS,
    bert,
    bert_base,
    descend,
    llama,
    logits,
    lora_config,
    token_batch,
    trainable,
    wake,
)
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from fascicle_loradrop.errors import LoraDropError, PlanError, TieError
from fascicle_loradrop.guards import check_loaded, check_optimizer
from fascicle_loradrop.layers import lora_layers, pair, pair_parameters
from fascicle_loradrop.merge import best_shared_pair
from fascicle_loradrop.plan import DropPlan
from fascicle_loradrop.reset import reset_adapter
from fascicle_loradrop.score import score
from fascicle_loradrop.tie import apply, is_tied, retie, shared_parameters, untie, verify


def plan_for(model, causal=False, **options):
    """A plan from random B; the model's weights stay as they were."""
    twin = wake(copy.deepcopy(model))
    return DropPlan.from_energies(score(twin, [token_batch(causal=causal)]), **options)


def lora_size(model):
    return sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)


def adapter_state(model, adapter="default"):
    return {k: v.clone() for k, v in get_peft_model_state_dict(model, adapter_name=adapter).items()}


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# sizes


@pytest.mark.parametrize("share_by", ["type", "shape", "none"])
@pytest.mark.parametrize("scope", ["global", "per_type", "per_layer"])
def test_the_formula_for_the_size_is_what_trains(share_by, scope):
    model = llama()
    assert model.get_nb_trainable_parameters()[0] == plan_for(model, causal=True, threshold=1.0).parameters_before
    plan = plan_for(model, causal=True, threshold=0.7, share_by=share_by, scope=scope)
    report = apply(model, plan)
    assert report.ok
    assert model.get_nb_trainable_parameters()[0] == plan.parameters_after < plan.parameters_before


def test_a_trained_head_comes_on_top_of_the_formula():
    model = bert(lora_bias=True)
    plan = plan_for(model, budget=0.6)
    apply(model, plan)
    head = sum(p.numel() for n, p in model.named_parameters() if "modules_to_save" in n)
    assert head == 3 * 16 + 3
    assert model.get_nb_trainable_parameters()[0] == plan.parameters_after + head


def test_the_optimizer_sees_every_shared_parameter_once():
    model = llama()
    plan = plan_for(model, causal=True, threshold=0.5)
    apply(model, plan)
    parameters = trainable(model)
    assert len({id(p) for p in parameters}) == len(parameters)
    assert sum(p.numel() for p in parameters) == plan.parameters_after
    assert len(shared_parameters(model, plan)) == 2 * sum(bool(m) for m in plan.groups.values())


# T = 1 is plain LoRA


@pytest.mark.parametrize(
    "options",
    [{}, {"lora_bias": True}, {"init_lora_weights": "gaussian"}, {"init_lora_weights": "orthogonal"}],
    ids=["kaiming", "bias", "gaussian", "orthogonal"],
)
@pytest.mark.parametrize("share_by", ["type", "none"])
def test_at_one_reset_gives_plain_lora_bit_for_bit(options, share_by):
    """Weights, trainable set, random state and loss curve (dropout included) are those of an untouched adapter."""
    batches = [token_batch(seed=s) for s in range(3)]
    base = bert_base(dropout=0.1)
    torch.manual_seed(7)
    plain = get_peft_model(base, lora_config(BERT_TARGETS, "SEQ_CLS", **options))
    expected_state, expected_random = adapter_state(plain), torch.get_rng_state()
    expected = descend(plain, batches, 6)

    model = bert(dropout=0.1, **options)
    descend(model, batches, 4)  # the probe moves LoRA and the head
    plan = plan_for(model, threshold=1.0, share_by=share_by)
    torch.manual_seed(7)
    apply(model, plan, init="reset")
    assert same_state(adapter_state(model), expected_state)
    assert torch.equal(torch.get_rng_state(), expected_random)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        n for n, p in plain.named_parameters() if p.requires_grad
    ]
    assert descend(model, batches, 6) == expected


def test_kept_modules_start_with_the_weights_of_plain_lora():
    base = bert_base()
    torch.manual_seed(3)
    plain = adapter_state(get_peft_model(base, lora_config(BERT_TARGETS, "SEQ_CLS")))
    model = bert()
    plan = plan_for(model, threshold=0.6)
    before = torch.get_rng_state()
    apply(model, plan, seed=3)
    assert torch.equal(torch.get_rng_state(), before), "seed= must leave the global random state alone"
    now = adapter_state(model)
    for name in (*plan.keep, *plan.groups):
        key = f"base_model.model.{name}.lora_A.weight"
        assert torch.equal(now[key], plain[key])


def test_reset_is_reproducible_and_follows_its_seed():
    found = []
    for seed in (1, 1, 2):
        model = bert()
        apply(model, plan_for(model, threshold=0.5), seed=seed)
        found.append(adapter_state(model))
    assert same_state(found[0], found[1])
    assert not same_state(found[0], found[2])


def test_reset_puts_a_probed_head_back():
    model = bert()
    first = adapter_state(model)["base_model.model.classifier.weight"]
    descend(model, [token_batch()], 3)
    assert not torch.equal(adapter_state(model)["base_model.model.classifier.weight"], first)
    apply(model, plan_for(model), init="reset")
    assert torch.equal(adapter_state(model)["base_model.model.classifier.weight"], first)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"init_lora_weights": "pissa"}, "pissa"), ({"init_lora_weights": "olora"}, "olora"), ({"bias": "all"}, "biases")],
)
def test_starts_that_cannot_be_drawn_again_are_refused(options, message):
    model = bert(**options)
    plan = plan_for(model, threshold=0.5)
    with pytest.raises(TieError, match=message):
        apply(model, plan, init="reset")
    assert apply(model, plan, init="keep").ok


def test_reset_in_bfloat16_rounds_as_peft_does():
    base = bert_base().to(torch.bfloat16)
    torch.manual_seed(7)
    plain = get_peft_model(base, lora_config(BERT_TARGETS, "SEQ_CLS"))
    model = get_peft_model(bert_base().to(torch.bfloat16), lora_config(BERT_TARGETS, "SEQ_CLS"))
    reset_adapter(model, seed=7)
    assert same_state(adapter_state(plain), adapter_state(model))


# other starts


def test_keep_goes_on_from_the_probe_and_shares_the_owner():
    model = wake(bert())
    plan = DropPlan.from_energies(score(model, [token_batch()]), threshold=0.6)
    before = adapter_state(model)
    apply(model, plan, init="keep")
    after = adapter_state(model)
    owner_of = {m: o for o, members in plan.groups.items() for m in (o, *members)}
    for m in plan.modules:
        for end in ("lora_A.weight", "lora_B.weight"):
            source = owner_of.get(m.name, m.name)
            assert torch.equal(after[f"base_model.model.{m.name}.{end}"], before[f"base_model.model.{source}.{end}"])


def test_merge_starts_from_the_best_fit_of_the_mean():
    model = wake(llama())
    plan = DropPlan.from_energies(score(model, [token_batch(causal=True)]), threshold=0.6)
    layers, delta = lora_layers(model), {}
    for owner, others in plan.groups.items():
        delta[owner] = torch.stack([layers[n].get_delta_weight("default") for n in (owner, *others)]).mean(0)
    apply(model, plan, init="merge")
    for owner, mean in delta.items():
        U, sigma, Vh = torch.linalg.svd(mean.detach().double())
        best = (U[:, :4] * sigma[:4]) @ Vh[:4]
        torch.testing.assert_close(layers[owner].get_delta_weight("default").double(), best, atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_the_merged_pair_is_the_truncated_svd_of_the_mean(n, r, d_in, d_out, seed):
    """Also where n·r exceeds the widths, and where there are fewer directions than ranks."""
    generator = torch.Generator().manual_seed(seed)
    A = [torch.randn(r, d_in, generator=generator, dtype=torch.float64) for _ in range(n)]
    B = [torch.randn(d_out, r, generator=generator, dtype=torch.float64) for _ in range(n)]
    A_, B_ = best_shared_pair(A, B, 0.7)
    assert A_.shape == (r, d_in)
    assert B_.shape == (d_out, r)
    mean = sum(0.7 * b @ a for a, b in zip(A, B, strict=True)) / n
    U, sigma, Vh = torch.linalg.svd(mean, full_matrices=False)
    best = (U[:, :r] * sigma[:r]) @ Vh[:r]
    assert (0.7 * B_ @ A_ - best).norm() <= 1e-10 * max(1.0, best.norm())


def test_a_merged_pair_without_energy_can_still_learn():
    A_, B_ = best_shared_pair([torch.randn(2, 6)] * 2, [torch.zeros(5, 2)] * 2, 1.0)
    assert not B_.any()
    assert A_.norm(dim=1).tolist() == pytest.approx([1, 1])


# ties


def test_shared_gradients_are_the_sum_over_users_or_their_mean():
    model = wake(bert())
    plan = DropPlan.from_energies(score(model, [token_batch()]), keep=3)
    apply(model, plan, init="keep")
    loose = copy.deepcopy(model)
    untie(loose, plan)
    assert torch.equal(logits(model, token_batch()), logits(loose, token_batch()))
    mean = copy.deepcopy(model)
    apply(mean, plan, init="keep", shared_grad="mean")
    for m in (model, loose, mean):
        m(**token_batch()).loss.backward()
    for owner, others in plan.groups.items():
        users = (owner, *others)
        for i in (0, 1):
            each = [pair(lora_layers(loose)[u], "default")[i].weight.grad for u in users]
            shared = pair(lora_layers(model)[owner], "default")[i].weight.grad
            averaged = pair(lora_layers(mean)[owner], "default")[i].weight.grad
            torch.testing.assert_close(shared, sum(each), atol=1e-7, rtol=1e-5)
            torch.testing.assert_close(averaged, sum(each) / len(users), atol=1e-7, rtol=1e-5)


def test_averaging_hooks_are_not_doubled_and_are_missed_after_a_copy():
    model = wake(bert())
    plan = DropPlan.from_energies(score(model, [token_batch()]), keep=3)
    apply(model, plan, init="keep", shared_grad="mean")
    retie(model, plan)
    assert all(len(p._backward_hooks) == 1 for p in shared_parameters(model, plan))
    copied = copy.deepcopy(model)
    assert "averages" in verify(copied, plan).broken[0]
    assert retie(copied, plan).ok
    apply(model, plan, init="keep", shared_grad="sum")
    assert not any(p._backward_hooks for p in shared_parameters(model, plan))


def test_ties_hold_through_training_copies_casts_and_other_adapters():
    model = llama()
    plan = plan_for(model, causal=True, threshold=0.6)
    apply(model, plan)
    assert is_tied(model)
    descend(model, [token_batch(causal=True)], 5)
    assert verify(model, plan).ok
    assert verify(copy.deepcopy(model), plan).ok
    before = adapter_state(model)
    model.to(torch.bfloat16)
    model.to(torch.float32)
    assert verify(model, plan).ok
    model.add_adapter("other", lora_config(["q_proj"]))
    model.set_adapter("other")
    model.set_adapter("default")
    model.delete_adapter("other")
    model.merge_adapter()
    model.unmerge_adapter()
    assert verify(model, plan).ok
    set_peft_model_state_dict(model, before)
    assert verify(model, plan).ok
    assert same_state(adapter_state(model), before)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_leaves_gradients_alone_in_one_process(reentrant):
    found = []
    for checkpointing in (False, True):
        model = wake(llama())
        plan = DropPlan.from_energies(score(model, [token_batch(causal=True)]), threshold=0.6)
        apply(model, plan, init="keep")
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.train()
        model(**token_batch(causal=True)).loss.backward()
        found.append([p.grad.clone() for p in trainable(model)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-6)


def test_low_cpu_mem_usage_unties_silently_and_is_noticed():
    model = wake(llama())
    plan = DropPlan.from_energies(score(model, [token_batch(causal=True)]), threshold=0.6)
    apply(model, plan, init="keep")
    before = logits(model, token_batch(causal=True))
    set_peft_model_state_dict(model, adapter_state(model), low_cpu_mem_usage=True)
    assert not verify(model, plan).ok
    with pytest.raises(LoraDropError, match="low_cpu_mem_usage"):
        check_loaded(model, plan)
    assert retie(model, plan).ok
    check_loaded(model, plan)
    assert torch.equal(before, logits(model, token_batch(causal=True)))


def test_retie_refuses_to_change_weights():
    model = wake(llama())
    plan = DropPlan.from_energies(score(model, [token_batch(causal=True)]), threshold=0.6)
    before = adapter_state(model)
    with pytest.raises(TieError, match="not trained under this plan"):
        retie(model, plan)
    assert same_state(adapter_state(model), before)
    assert retie(model, plan, check_values=False).ok


def test_stale_and_missing_parameters_of_an_optimizer_are_noticed():
    model = llama()
    early = torch.optim.AdamW(trainable(model))
    plan = plan_for(model, causal=True, threshold=0.6)
    apply(model, plan)
    with pytest.raises(LoraDropError, match="stale"):
        check_optimizer(early, model)
    check_optimizer(torch.optim.AdamW(trainable(model)), model)
    with pytest.raises(LoraDropError, match="lacks the LoRA"):
        check_optimizer(torch.optim.AdamW(trainable(model)[3:]), model)


def test_a_second_plan_replaces_the_first():
    model = wake(llama())
    e = score(model, [token_batch(causal=True)])
    first, second = DropPlan.from_energies(e, keep=3), DropPlan.from_energies(e, keep=20)
    apply(model, first, init="keep")
    assert apply(model, second, init="keep").ok
    assert not verify(model, first).ok
    assert lora_size(model) == second.parameters_after
    untie(model, second)
    assert not is_tied(model)
    assert lora_size(model) == second.parameters_before


def test_merged_adapters_and_unknown_options_are_refused():
    model = bert()
    plan = plan_for(model)
    with pytest.raises(TieError, match="init must be"):
        apply(model, plan, init="fresh")
    with pytest.raises(TieError, match="shared_grad must be"):
        apply(model, plan, shared_grad="max")
    model.merge_adapter()
    with pytest.raises(TieError, match="unmerge"):
        apply(model, plan)


def test_members_of_different_dtypes_are_refused_before_anything_changes():
    model = bert()
    plan = plan_for(model, keep=2)
    members = next(m for m in plan.groups.values() if m)
    lora_layers(model)[members[0]].lora_A["default"].to(torch.float64)
    before = adapter_state(model)
    with pytest.raises(TieError, match=r"cannot share lora_A\.weight"):
        apply(model, plan)
    assert same_state(adapter_state(model), before)


# two adapters


def test_two_adapters_with_different_plans_are_independent():
    model = llama()
    model.add_adapter("second", lora_config(["q_proj", "v_proj"], r=2))
    plan = plan_for(model, causal=True, threshold=0.5)
    model.set_adapter("second")
    twin = wake(copy.deepcopy(model))
    second = DropPlan.from_energies(score(twin, [token_batch(causal=True)], adapter="second"), threshold=0.8)
    model.set_adapter("default")
    apply(model, plan)
    untouched = adapter_state(model)
    model.set_adapter("second")
    apply(model, second)
    assert verify(model, plan).ok
    assert verify(model, second).ok
    assert same_state(adapter_state(model), untouched)
    descend(model, [token_batch(causal=True)], 2)
    assert same_state(adapter_state(model), untouched)
    model.delete_adapter("default")
    assert verify(model, second).ok


# without sharing


def test_without_sharing_low_modules_are_gone_and_the_config_names_the_kept():
    model = bert()
    plan = plan_for(model, threshold=0.6, share_by="none")
    head = [n for n, p in model.named_parameters() if "modules_to_save" in n and p.requires_grad]
    apply(model, plan)
    assert set(model.peft_config["default"].target_modules) == set(plan.keep)
    assert [n for n, p in model.named_parameters() if "modules_to_save" in n and p.requires_grad] == head != []
    fresh = get_peft_model(bert_base(), model.peft_config["default"])
    assert [n for n, _ in fresh.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert {n for n, p in fresh.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    descend(model, [token_batch()], 2)
    assert verify(model, plan).ok
    with pytest.raises(PlanError, match="lacks"):
        plan.invert().validate(model)


def test_without_sharing_kept_modules_compute_what_they_did():
    model = wake(bert())
    plan = DropPlan.from_energies(score(model, [token_batch()]), threshold=0.6, share_by="none")
    silenced = copy.deepcopy(model)
    for name in plan.dropped:
        lora_layers(silenced)[name].lora_B["default"].weight.data.zero_()
    apply(model, plan, init="keep")
    assert torch.equal(logits(model, token_batch()), logits(silenced, token_batch()))


def test_without_sharing_another_adapter_on_the_layer_stays_and_stays_inactive():
    model = bert()
    model.add_adapter("second", lora_config(["query"]))
    plan = plan_for(model, keep=2, share_by="none")
    expected = adapter_state(model, "second")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(model, plan)
    assert same_state(adapter_state(model, "second"), expected)
    assert model.active_adapters == ["default"]
    assert all(layer.active_adapters == ["default"] for layer in lora_layers(model, "second").values())
    assert len(lora_layers(model, "second")) == 6


def test_names_that_suffixes_would_confuse_become_one_expression():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(2)])
            self.twin = torch.nn.ModuleDict({"block": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})

        def forward(self, x):
            return self.twin["block"][0](self.block[1](self.block[0](x)))

    model = get_peft_model(Net(), lora_config(["block.0", "block.1"]))
    twin = wake(copy.deepcopy(model))
    e = score(twin, [{"x": torch.randn(3, 4)}])
    assert "twin.block.0" in e.names
    plan = replace(DropPlan.from_energies(e, keep=1, share_by="none"), keep=("block.0",))
    apply(model, plan)
    fresh = get_peft_model(Net(), model.peft_config["default"])
    assert list(lora_layers(fresh)) == ["block.0"]


def test_pairs_are_named_as_in_a_checkpoint():
    layer = next(iter(lora_layers(bert(lora_bias=True)).values()))
    assert list(pair_parameters(layer, "default")) == ["lora_A.weight", "lora_B.weight", "lora_B.bias"]
