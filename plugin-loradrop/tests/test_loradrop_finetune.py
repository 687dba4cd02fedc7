"""The probe, the three lines, and the Trainer callback."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loradrop_models import bert, bert_base, descend, llama, logits, rows_of, token_batch, wake
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

import fascicle_loradrop
from fascicle_loradrop.errors import GuardError, LoraDropError, TieError
from fascicle_loradrop.finetune import LoraDropCallback, make_plan, probe
from fascicle_loradrop.guards import check_training, reentrant_checkpointing
from fascicle_loradrop.io import load_plan
from fascicle_loradrop.reset import reset_adapter
from fascicle_loradrop.score import score
from fascicle_loradrop.tie import apply, verify

SAMPLE = [token_batch(seed=s) for s in range(3)]


def examples(n=16):
    """Single examples of one length, for a Trainer."""
    batch = token_batch([8] * n)
    return [{key: value[0] for key, value in rows_of(batch, [i]).items()} for i in range(n)]


def trainer(model, plan, folder, **options):
    arguments = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_steps": 2,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 1,
        "seed": 5,
    }
    args = TrainingArguments(**{**arguments, **options})
    return Trainer(model, args, train_dataset=examples(), callbacks=[LoraDropCallback(plan)])


def test_a_probe_is_deterministic_and_leaves_the_random_state_alone():
    torch.manual_seed(11)
    state = torch.get_rng_state()
    found = [probe(bert(dropout=0.1), SAMPLE, steps=4, seed=s).g for s in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    model = bert()
    torch.set_rng_state(state)
    probe(model, SAMPLE, steps=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_probe_learns_and_leaves_modes_and_gradients_as_they_were():
    model = bert().eval()
    with torch.no_grad():
        before = sum(model(**b).loss.item() for b in SAMPLE)
    e = probe(model, iter(SAMPLE), epochs=6, lr=1e-2)  # a generator is read several times
    with torch.no_grad():
        assert sum(model(**b).loss.item() for b in SAMPLE) < before
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_array_equal(e.g, score(model, SAMPLE).g)


def test_steps_and_epochs_count_batches():
    seen = []

    def loss(model, batch):
        seen.append(torch.is_grad_enabled())
        return model(**batch).loss

    probe(bert(layers=1), SAMPLE, epochs=2, loss_fn=loss)
    assert (sum(seen), len(seen)) == (6, 9)  # two passes with gradients, one pass to score
    seen.clear()
    probe(bert(layers=1), DataLoader(SAMPLE, batch_size=None, shuffle=True), steps=4, loss_fn=loss)
    assert (sum(seen), len(seen)) == (4, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches": []}, "no batch"),
        ({"steps": 0}, "above 0"),
        ({"lr": 0.0}, "above 0"),
        ({"batches": [{k: v for k, v in SAMPLE[0].items() if k != "labels"}]}, "no loss"),
        ({"loss_fn": lambda model, batch: model(**batch).loss * float("nan")}, "lower lr"),
    ],
)
def test_probes_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(LoraDropError, match=message):
        probe(bert(layers=1), **{"batches": SAMPLE, "steps": 1, **arguments})


def test_a_probe_wants_all_targets_trainable_and_nothing_shared():
    model = bert(layers=2)
    plan = make_plan(model, SAMPLE, keep=3, steps=1)
    apply(model, plan)
    with pytest.raises(LoraDropError, match="shares some"):
        probe(model, SAMPLE, steps=1)
    frozen = bert(layers=1)
    frozen.requires_grad_(False)
    with pytest.raises(LoraDropError, match="is_trainable"):
        probe(frozen, SAMPLE, steps=1)


def test_several_probes_are_averaged_from_fresh_draws():
    plan = make_plan(bert(), SAMPLE, keep=4, seeds=(0, 1, 2), steps=3)
    single = []
    for seed in (0, 1, 2):
        model = bert()
        reset_adapter(model, seed=seed)
        single.append(probe(model, SAMPLE, steps=3, seed=seed).importance())
    np.testing.assert_allclose([m.importance for m in plan.modules], np.mean(single, axis=0))
    assert plan.probes == 3
    relative = make_plan(bert(layers=2), SAMPLE, budget=0.6, steps=2, options={"normalize": "relative"})
    assert relative.normalize == "relative"
    assert relative.fraction <= 0.6
    with pytest.raises(LoraDropError, match="seeds"):
        make_plan(bert(layers=1), SAMPLE, seeds=())


def test_three_lines_train_save_and_reload(tmp_path):
    model = bert()
    plan = fascicle_loradrop.make_plan(model, SAMPLE, budget=0.5, steps=4)
    fascicle_loradrop.apply(model, plan)
    trainer(model, plan, tmp_path / "run").train()
    fascicle_loradrop.save(model, plan, tmp_path / "out")
    assert verify(model, plan).ok
    assert plan.fraction <= 0.5
    plain = PeftModel.from_pretrained(bert_base(), str(tmp_path / "out"))
    assert torch.equal(logits(plain, SAMPLE[0]), logits(model.eval(), SAMPLE[0]))


def test_a_trainer_resumes_with_ties_and_the_same_numbers(tmp_path):
    def fresh():
        model = bert()
        plan = make_plan(model, SAMPLE, keep=4, steps=3)
        apply(model, plan, seed=1)
        return model, plan

    model, plan = fresh()
    trainer(model, plan, tmp_path / "whole").train()
    assert load_plan(tmp_path / "whole" / "checkpoint-2") == plan
    again, plan_again = fresh()
    assert plan_again == plan
    resumed = trainer(again, plan, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert verify(again, plan).ok
    assert torch.equal(logits(again, SAMPLE[0]), logits(model, SAMPLE[0]))


def test_the_callback_refuses_a_model_without_the_plan(tmp_path):
    model = bert()
    plan = make_plan(model, SAMPLE, keep=4, steps=3)
    with pytest.raises(TieError, match=r"tie\.apply"):
        trainer(model, plan, tmp_path)


def test_the_callback_restores_ties_that_loading_has_broken(tmp_path):
    model = bert()
    plan = make_plan(model, SAMPLE, keep=4, steps=3)
    apply(model, plan)
    run = trainer(model, plan, tmp_path)
    state = {key: value.clone() for key, value in get_peft_model_state_dict(model).items()}
    set_peft_model_state_dict(model, state, low_cpu_mem_usage=True)
    assert not verify(model, plan).ok
    run.train()
    assert verify(model, plan).ok


def test_the_callback_refuses_an_optimizer_from_before_the_plan(tmp_path):
    model = bert()
    early = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    plan = make_plan(model, SAMPLE, keep=4, steps=3)
    apply(model, plan)
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True, max_steps=1)
    run = Trainer(model, args, train_dataset=examples(), optimizers=(early, None), callbacks=[LoraDropCallback(plan)])
    with pytest.raises(GuardError, match="stale"):
        run.train()


@pytest.fixture
def shared():
    model = wake(llama(layers=3))
    plan = fascicle_loradrop.DropPlan.from_energies(score(model, [token_batch(causal=True)]), threshold=0.6)
    apply(model, plan)
    return model


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"world_size": 2}, False),
        ({"world_size": 1, "gradient_checkpointing": True, "use_reentrant": True}, False),
        ({"world_size": 2, "gradient_checkpointing": True, "use_reentrant": False}, False),
        ({"world_size": 2, "gradient_checkpointing": True, "use_reentrant": True}, True),
        ({"world_size": 2, "gradient_checkpointing": True, "use_reentrant": True, "static_graph": True}, False),
        ({"world_size": 2, "gradient_checkpointing": True}, True),
        ({"world_size": 2, "fsdp": "layers"}, True),
        ({"world_size": 2, "fsdp": "root"}, False),
    ],
)
def test_set_ups_with_wrong_gradients_are_refused(shared, options, wrong):
    if wrong:
        with pytest.raises(GuardError, match=r"WRONG gradients|FSDP per layer"):
            check_training(shared, **options)
    else:
        check_training(shared, **options)
    check_training(llama(layers=1), **options)  # a model without ties may do as it likes


@pytest.mark.parametrize(("kwargs", "expected"), [({"use_reentrant": True}, True), ({"use_reentrant": False}, False)])
def test_checkpointing_is_read_off_the_model(shared, kwargs, expected):
    assert reentrant_checkpointing(shared) is None
    shared.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
    assert reentrant_checkpointing(shared) is expected
    if expected:
        with pytest.raises(GuardError, match="use_reentrant"):
            check_training(shared, world_size=2)
    else:
        check_training(shared, world_size=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}, "use_reentrant"),
        ({"fsdp": True}, "FSDP per layer"),
    ],
)
def test_the_callback_reads_the_trainers_arguments(shared, options, message):
    class Arguments:
        world_size = 2

    args = Arguments()
    for key, value in options.items():
        setattr(args, key, value)
    callback = LoraDropCallback.__new__(LoraDropCallback)
    callback.plan = type("Plan", (), {"adapter": "default"})()
    with pytest.raises(GuardError, match=message):
        callback._check_setup(args, shared)


def test_a_trained_model_moves(tmp_path):
    """The probe's plan is not a dead end: stage 2 lowers the loss."""
    model = bert()
    apply(model, make_plan(model, SAMPLE, budget=0.5, steps=4))
    losses = descend(model, SAMPLE, 40)
    assert sum(losses[-3:]) < sum(losses[:3])
