"""Checkpoints are ordinary LoRA, the compact form loses nothing, tampering is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
import torch
from loradrop_models import bert, bert_base, descend, llama, llama_base, logits, token_batch, wake
from peft import PeftModel
from safetensors.torch import load_file, save_file

from fascicle_loradrop import io
from fascicle_loradrop.errors import PlanError, StorageError, TieError
from fascicle_loradrop.guards import check_optimizer
from fascicle_loradrop.plan import DropPlan
from fascicle_loradrop.score import score
from fascicle_loradrop.tie import apply, verify

BATCH = token_batch(causal=True)


@pytest.fixture
def trained():
    """A llama with shared pairs after a few steps, and its plan."""
    model = wake(llama())
    plan = DropPlan.from_energies(score(model, [BATCH]), threshold=0.6)
    apply(model, plan, init="keep")
    descend(model, [BATCH], 2)
    return model.eval(), plan


def quietly(load, *args, **kwargs):
    """Loading must not warn about missing keys, nor about anything of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
        return load(*args, **kwargs)


def test_the_checkpoint_is_plain_lora_for_plain_peft(trained, tmp_path):
    model, plan = trained
    io.save(model, plan, tmp_path / "out")
    plain = quietly(PeftModel.from_pretrained, llama_base(), str(tmp_path / "out"))
    assert (logits(plain, BATCH) - logits(model, BATCH)).abs().max() <= 1e-6
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (4, 8, {}, {})
    assert len(load_file(tmp_path / "out" / "adapter_model.safetensors")) == 2 * len(plan.modules)


def test_loading_restores_the_ties_and_training_goes_on_alike(trained, tmp_path):
    model, plan = trained
    io.save(model, plan, tmp_path / "out")
    again = quietly(io.load, llama_base(), tmp_path / "out", is_trainable=True)
    assert verify(again, plan).ok
    assert torch.equal(logits(again, BATCH), logits(model, BATCH))
    assert descend(again, [BATCH], 3) == descend(model, [BATCH], 3)
    frozen = io.load(llama_base(), tmp_path / "out")
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.training


def test_a_loaded_adapter_may_have_another_name(trained, tmp_path):
    model, plan = trained
    io.save(model, plan, tmp_path / "out")
    again = io.load(llama_base(), tmp_path / "out", is_trainable=True, adapter="task")
    assert verify(again, plan.renamed("task")).ok
    check_optimizer(torch.optim.SGD([p for p in again.parameters() if p.requires_grad], lr=0.1), again, "task")
    folder = io.save(again, plan.renamed("task"), tmp_path / "named")
    assert folder == tmp_path / "named" / "task"
    assert torch.equal(logits(io.load(llama_base(), folder), BATCH), logits(model, BATCH))
    assert io.write_plan(plan.renamed("task"), tmp_path / "named") == folder / "lora_drop.json"


@pytest.mark.parametrize("share_by", ["type", "shape", "none"])
def test_the_head_travels_along_and_dropped_modules_stay_away(share_by, tmp_path):
    batch = token_batch()
    model = wake(bert(lora_bias=share_by == "shape"))
    plan = DropPlan.from_energies(score(model, [batch]), threshold=0.6, share_by=share_by)
    apply(model, plan, init="keep")
    descend(model, [batch], 2)
    io.save(model, plan, tmp_path / "out")
    plain = quietly(PeftModel.from_pretrained, bert_base(), str(tmp_path / "out"))
    assert torch.equal(logits(plain, batch), logits(model, batch))
    again = quietly(io.load, bert_base(), tmp_path / "out")
    assert torch.equal(logits(again, batch), logits(model, batch))
    modules = {
        k.rsplit(".lora_", 1)[0] for k in load_file(tmp_path / "out" / "adapter_model.safetensors") if "lora_" in k
    }
    assert len(modules) == len(plan.modules) - len(plan.dropped)


def test_expanding_the_compact_form_gives_the_same_bytes(trained, tmp_path):
    model, plan = trained
    io.save(model, plan, tmp_path / "out")
    io.save_compact(model, plan, tmp_path / "small")
    io.expand(tmp_path / "small", tmp_path / "big")
    for name in ("adapter_config.json", "lora_drop.json"):
        assert (tmp_path / "big" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    a, b = (load_file(tmp_path / d / "adapter_model.safetensors") for d in ("out", "big"))
    assert a.keys() == b.keys()
    assert all(a[k].numpy().tobytes() == b[k].numpy().tobytes() for k in a)
    assert torch.equal(logits(io.load(llama_base(), tmp_path / "big"), BATCH), logits(model, BATCH))


def test_the_compact_form_has_the_size_of_the_plan(tmp_path):
    """At a width where the header does not dominate; each shared pair is stored once."""
    model = wake(llama(r=16))
    plan = DropPlan.from_energies(score(model, [BATCH]), threshold=0.6)
    apply(model, plan, init="keep")
    small = io.save_compact(model, plan, tmp_path / "small") / io.COMPACT_FILE
    full = io.save(model, plan, tmp_path / "out") / "adapter_model.safetensors"
    assert sum(t.numel() for t in load_file(small).values()) == plan.parameters_after
    assert small.stat().st_size / full.stat().st_size <= plan.fraction + 0.08


def test_half_precision_and_nan_survive_compaction(trained, tmp_path):
    model, plan = trained
    folder = io.save(model, plan, tmp_path / "out")
    tensors = {k: v.to(torch.bfloat16) for k, v in load_file(folder / "adapter_model.safetensors").items()}
    owner = next(o for o, m in plan.groups.items() if m)
    for name in (owner, *plan.groups[owner]):
        tensors[f"base_model.model.{name}.lora_A.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    io.expand(io.compact(folder, tmp_path / "small"), tmp_path / "big")
    back = load_file(tmp_path / "big" / "adapter_model.safetensors")
    assert all(torch.equal(back[k].view(torch.int16), tensors[k].view(torch.int16)) for k in tensors)


def test_compaction_refuses_to_lose_weights(trained, tmp_path):
    model, plan = trained
    folder = io.save(model, plan, tmp_path / "out")
    tensors = load_file(folder / "adapter_model.safetensors")
    member = next(m for m in plan.groups.values() if m)[0]
    tensors[f"base_model.model.{member}.lora_B.weight"][0, 0] += 1
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(StorageError, match="differs from"):
        io.compact(folder, tmp_path / "small")
    with pytest.raises(TieError, match="weights differ"):
        io.load(llama_base(), folder)


def test_saving_an_untied_model_is_refused_and_leaves_nothing(tmp_path):
    model = wake(llama())
    plan = DropPlan.from_energies(score(model, [BATCH]), threshold=0.6)
    with pytest.raises(TieError, match=r"tie\.apply"):
        io.save(model, plan, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_save_leaves_the_old_adapter(trained, tmp_path, monkeypatch):
    model, plan = trained
    folder = io.save(model, plan, tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(DropPlan, "to_json", lambda self: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StorageError, match="disk full"):
        io.save(model, plan, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_plan_of_another_base_or_another_run_is_refused(trained, tmp_path):
    model, plan = trained
    folder = io.save(model, plan, tmp_path / "out")
    other = llama_base(layers=5)
    names = [name for name, _ in other.named_modules()]
    with pytest.raises(PlanError, match="another base model"):
        io.load(other, folder)
    assert [name for name, _ in other.named_modules()] == names, "a refused base must stay as it was"
    data = json.loads((folder / "lora_drop.json").read_text())
    data["parameters"]["after"] -= 1
    (folder / "lora_drop.json").write_text(json.dumps(data))
    with pytest.raises(PlanError, match="parameters does not follow"):
        io.load(llama_base(), folder)
    # a consistent plan that is not this adapter's: the weights give it away
    (folder / "lora_drop.json").write_text(plan.invert().to_json())
    with pytest.raises(TieError, match="weights differ"):
        io.load(llama_base(), folder)
    (folder / "lora_drop.json").unlink()
    with pytest.raises(StorageError, match="is missing"):
        io.load(llama_base(), folder)


def test_pickled_weights_are_never_opened(trained, tmp_path):
    model, plan = trained
    folder = io.save(model, plan, tmp_path / "out")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(StorageError, match="pickled"):
        io.load(llama_base(), folder)


def test_broken_compact_files_are_refused(trained, tmp_path):
    model, plan = trained
    small = io.save_compact(model, plan, tmp_path / "small")
    tensors = load_file(small / io.COMPACT_FILE)
    save_file(tensors, small / io.COMPACT_FILE)
    with pytest.raises(StorageError, match="no list of aliases"):
        io.expand(small, tmp_path / "big")
    save_file(tensors, small / io.COMPACT_FILE, metadata={"lora_drop_alias": "{}"})
    with pytest.raises(StorageError, match="different runs"):
        io.expand(small, tmp_path / "big")
    (small / io.COMPACT_FILE).write_bytes(b"nothing")
    with pytest.raises(StorageError, match="no readable"):
        io.expand(small, tmp_path / "big")
    assert not (tmp_path / "big").exists()


def test_only_peft_models_can_be_saved(trained, tmp_path):
    _, plan = trained
    with pytest.raises(StorageError, match="expected a PeftModel, got LlamaForCausalLM"):
        io.save(llama_base(), plan, tmp_path / "out")


def test_expanding_needs_no_model_library(trained, tmp_path):
    """Neither PEFT nor transformers is imported by expand."""
    model, plan = trained
    io.save_compact(model, plan, tmp_path / "small")
    code = (
        "import sys; from fascicle_loradrop import expand; "
        f"expand({str(tmp_path / 'small')!r}, {str(tmp_path / 'big')!r}); "
        "sys.exit(bool({'peft', 'transformers'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "big" / "adapter_model.safetensors").is_file()
