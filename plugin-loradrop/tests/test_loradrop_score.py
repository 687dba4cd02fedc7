"""The energies are exact, and count tokens only."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from loradrop_models import (
    bert,
    bert_base,
    llama,
    lora_config,
    rows_of,
    seq2seq_batch,
    t5,
    t5_base,
    token_batch,
    wake,
)
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertModel

from fascicle_loradrop.energies import Energies
from fascicle_loradrop.errors import EnergyError, UnsupportedError
from fascicle_loradrop.layers import lora_layers
from fascicle_loradrop.score import EnergyMeter, score


def difference_energies(model, batch, masks):
    """`Σ ‖layer(x) - base_layer(x)‖²` over the tokens of `masks[name]`, the definition of ΔW·x taken literally."""
    found = {}

    def hook(name, layer):
        def measure(_, args, output):
            delta = (output - layer.base_layer(args[0])).double().square().sum(-1)
            found[name] = found.get(name, 0.0) + float(delta[masks(name).bool()].sum())

        return measure

    handles = [layer.register_forward_hook(hook(name, layer)) for name, layer in lora_layers(model).items()]
    with torch.no_grad():
        model(**batch)
    for handle in handles:
        handle.remove()
    return np.array(list(found.values()))


@pytest.mark.parametrize(
    ("build", "causal", "options"),
    [
        (bert, False, {}),
        (bert, False, {"lora_bias": True}),
        (llama, True, {}),
        (llama, True, {"use_rslora": True, "rank_pattern": {"q_proj": 2}}),
    ],
    ids=["bert", "bert-bias", "llama", "llama-rslora-ranks"],
)
def test_gram_equals_direct_equals_output_difference(build, causal, options):
    model, batch = wake(build(**options)), token_batch(causal=causal)
    gram = score(model, [batch])
    direct = score(model, [batch], direct=True)
    literal = difference_energies(model, batch, lambda _: batch["attention_mask"])
    np.testing.assert_allclose(gram.g, direct.g, rtol=1e-5)
    np.testing.assert_allclose(gram.g, literal, rtol=1e-5)
    assert set(gram.n_tokens) == {int(batch["attention_mask"].sum())}


def test_padding_does_not_count():
    model = wake(bert())
    tight, wide = score(model, [token_batch()]), score(model, [token_batch(pad_to=20)])
    np.testing.assert_allclose(tight.g, wide.g, rtol=1e-5)
    np.testing.assert_array_equal(tight.n_tokens, wide.n_tokens)


def test_padding_does_not_count_even_when_it_is_nan():
    model = wake(get_peft_model(nn.Sequential(nn.Linear(4, 3)), LoraConfig(r=2, target_modules=["0"])))
    x, mask = torch.randn(2, 3, 4), torch.tensor([[1, 1, 0], [1, 0, 0]])
    poisoned = x.masked_fill(mask[..., None] == 0, float("nan"))
    found = []
    for inputs in (x, poisoned):
        with EnergyMeter(model) as meter:
            meter.batch(attention_mask=mask)
            model(inputs)
        found.append(meter.energies().g)
    np.testing.assert_array_equal(*found)


def test_energies_do_not_depend_on_the_split_into_batches_or_their_order():
    model, batch = wake(llama()), token_batch(causal=True)
    whole = score(model, [batch])
    pieces = score(model, [rows_of(batch, [3]), rows_of(batch, [0, 2]), rows_of(batch, [1])])
    np.testing.assert_allclose(whole.g, pieces.g, rtol=1e-5)
    halves = score(model, [rows_of(batch, [0, 1])]) + score(model, [rows_of(batch, [2, 3])])
    np.testing.assert_allclose(whole.g, halves.g, rtol=1e-5)
    np.testing.assert_allclose(whole.S[0], halves.S[0], rtol=1e-4, atol=1e-6)


def test_labels_mode_counts_the_labelled_positions_only():
    model, batch = wake(llama()), token_batch(causal=True)
    answer = batch["labels"].clone()
    answer[:, :2] = -100  # a prompt of two tokens
    batch["labels"] = answer
    literal = difference_energies(model, batch, lambda _: answer != -100)
    found = score(model, [batch], tokens="labels")
    np.testing.assert_allclose(found.g, literal, rtol=1e-5)
    assert found.n_tokens[0] == int((answer != -100).sum()) < int(batch["attention_mask"].sum())


def test_labels_mode_needs_one_label_a_token():
    with pytest.raises(EnergyError, match=r"labels of shape \(B, L\), got \(4,\)"):
        score(wake(bert()), [token_batch()], tokens="labels")


@pytest.mark.parametrize("target", [(5, 3, 6, 4), (9, 4, 7, 2)], ids=["lengths-differ", "lengths-agree"])
def test_encoder_decoder_modules_use_the_mask_of_whom_they_read(target):
    """Cross-attention keys and values read the encoder, also where both lengths agree and shapes do not tell."""
    model = wake(t5())
    batch = seq2seq_batch((9, 4, 7, 2), target)
    batch["attention_mask"][0, -2:] = 0  # so that the two masks differ whatever the lengths
    decoder = batch["labels"] != -100

    def masks(name):
        cross = "EncDecAttention" in name and name.split(".")[-1] in "kv"
        return batch["attention_mask"] if name.startswith("encoder") or cross else decoder

    found = score(model, [batch])
    np.testing.assert_allclose(found.g, difference_energies(model, batch, masks), rtol=1e-5)
    assert "encoder.block.*.layer.*.SelfAttention.q" in found.types
    assert "decoder.block.*.layer.*.EncDecAttention.q" in found.types


def test_a_pooled_vector_counts_once_an_example():
    torch.manual_seed(0)
    base = BertModel(BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    model = wake(get_peft_model(base, LoraConfig(r=2, target_modules=["query", "pooler.dense"])))
    batch = {k: v for k, v in token_batch().items() if k != "labels"}
    e = score(model, [batch])
    assert dict(zip(e.names, e.n_tokens, strict=True)) == {
        "encoder.layer.0.attention.self.query": 22,
        "pooler.dense": 4,
    }


def test_dispatched_tokens_are_exact_without_padding_and_refused_with_it():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.expert = nn.Linear(4, 4)

        def forward(self, x, attention_mask):
            return self.expert(x.reshape(-1, 4)[::2])  # half of the tokens, in an order of its own

    model = wake(get_peft_model(Experts(), LoraConfig(r=2, target_modules=["expert"])))
    x, full = torch.randn(2, 4, 4), torch.ones(2, 4)
    padded = full.clone()
    padded[0, 3] = 0
    assert score(model, [{"x": x, "attention_mask": full}]).n_tokens[0] == 4
    with pytest.raises(EnergyError, match="mismatch='count'"):
        score(model, [{"x": x, "attention_mask": padded}])
    assert score(model, [{"x": x, "attention_mask": padded}], mismatch="count").n_tokens[0] == 4


def test_masks_are_found_in_positional_arguments_and_in_a_mapping():
    model, batch = wake(bert()), token_batch(pad_to=15)
    with EnergyMeter(model) as meter:
        model(batch["input_ids"], batch["attention_mask"])
    assert meter.energies().n_tokens[0] == 22


def test_a_forward_around_the_model_must_announce_its_batch():
    model, batch = wake(bert()), token_batch()
    inner = {k: v for k, v in batch.items() if k != "labels"}
    with EnergyMeter(model) as meter:
        with pytest.raises(EnergyError, match=r"meter\.batch"):
            model.base_model(**inner)
        meter.batch(attention_mask=batch["attention_mask"])
        model.base_model(**inner)
    assert meter.energies().n_tokens[0] == 22


def test_scoring_is_in_eval_mode_without_gradients_and_restores_the_modes():
    model, batch = wake(bert(dropout=0.5)), token_batch()
    model.train()
    model.base_model.model.bert.encoder.layer[2].eval()
    modes = [m.training for m in model.modules()]
    first, second = score(model, [batch]), score(model, [batch])
    np.testing.assert_array_equal(first.g, second.g)
    assert [m.training for m in model.modules()] == modes
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="boom"), EnergyMeter(model):
        raise RuntimeError("boom")
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())


def test_relative_energies_divide_by_the_output_of_the_frozen_layer():
    model, batch = wake(bert(layers=2)), token_batch()
    mask, found = batch["attention_mask"].bool(), {}
    layers = lora_layers(model)
    handles = [
        layer.base_layer.register_forward_hook(
            lambda _, args, out, name=name: found.update({name: float(out[mask].detach().double().square().sum())})
        )
        for name, layer in layers.items()
    ]
    logits = model(**batch).logits
    assert logits.shape == (4, 3)
    for handle in handles:
        handle.remove()
    e = score(model, [batch], base=True)
    np.testing.assert_allclose(e.base, list(found.values()), rtol=1e-5)
    ratio = e.g / e.base
    np.testing.assert_allclose(e.importance("relative"), ratio / ratio.sum())
    with pytest.raises(EnergyError, match="base=True"):
        score(model, [batch]).importance("relative")


def test_per_rank_scores_are_the_energies_of_single_components():
    model, batch = wake(bert(layers=1)), token_batch()
    e = score(model, [batch])
    layer, name = next((layer, name) for name, layer in lora_layers(model).items() if "query" in name)
    seen = []
    handle = layer.lora_A["default"].register_forward_hook(lambda _, args, h: seen.append(h.detach()))
    model(**batch)
    handle.remove()
    h = seen[0][batch["attention_mask"].bool()]  # (n, r)
    B, s = layer.lora_B["default"].weight.detach(), layer.scaling["default"]
    expected = [float((s * h[:, [k]] @ B[:, [k]].T).square().sum()) for k in range(4)]
    np.testing.assert_allclose(e.per_rank()[e.names.index(name)], expected, rtol=1e-5)


def test_bfloat16_activations_are_summed_in_full_precision():
    model, batch, seen = wake(llama(layers=2)), token_batch(causal=True), []
    for layer in lora_layers(model).values():
        layer.lora_A["default"].register_forward_hook(lambda _, args, h: seen.append(h.detach()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = score(model, [batch])
    assert {h.dtype for h in seen} == {torch.bfloat16}
    real = batch["attention_mask"].bool()
    for S, h in zip(found.S, seen, strict=True):
        rows = h[real].double().numpy()
        np.testing.assert_allclose(S, rows.T @ rows, rtol=1e-5, atol=1e-6)


def test_training_during_scoring_is_noticed():
    model = wake(bert(layers=1))
    with EnergyMeter(model) as meter:
        model(**token_batch())
        wake(model, seed=2)
    with pytest.raises(EnergyError, match="changed during scoring"):
        meter.energies()


def test_untrained_lora_has_no_importance():
    with pytest.raises(EnergyError, match="B is still 0"):
        score(bert(layers=1), [token_batch()]).importance()


def test_nothing_seen_is_an_error():
    with pytest.raises(EnergyError, match="no token"):
        score(wake(bert(layers=1)), [])


def two_adapters():
    model = bert(layers=1)
    model.add_adapter("second", lora_config(["query"]))
    return model


def merged():
    model = bert(layers=1)
    model.merge_adapter()
    return model


def embedding_lora():
    return get_peft_model(bert_base(layers=1), LoraConfig(target_modules=["query", "word_embeddings"]))


def convolution_lora():
    return get_peft_model(nn.Sequential(nn.Conv2d(3, 4, 3)), LoraConfig(target_modules=["0"]))


def attention_lora():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.MultiheadAttention(8, 2)

        def forward(self, x):
            return self.mix(x, x, x)[0]

    return get_peft_model(Net(), LoraConfig(target_modules=["mix"]))


def raw_parameter_lora():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(x)

    return get_peft_model(Net(), LoraConfig(target_parameters=["inner.weight"], target_modules=[], lora_dropout=0.0))


def adalora():
    config = AdaLoraConfig(target_modules=["query"], total_step=10, task_type="SEQ_CLS")
    return get_peft_model(bert_base(layers=1), config)


@pytest.mark.parametrize(
    ("build", "adapter", "message"),
    [
        (merged, "default", "unmerge"),
        (two_adapters, "second", "not active"),
        (two_adapters, "third", "found .'default', 'second'."),
        (adalora, "default", "ADALORA"),
        (lambda: bert(layers=1, use_dora=True), "default", "LoRA variant Dora"),
        (embedding_lora, "default", "embedding"),
        (convolution_lora, "default", "convolution"),
        (attention_lora, "default", "merges its LoRA"),
        (raw_parameter_lora, "default", "merges its LoRA"),
        (lambda: bert_base(layers=1), "default", "no adapter"),
    ],
    ids=["merged", "inactive", "unknown", "adalora", "dora", "embedding", "conv", "mha", "parameter", "plain"],
)
def test_what_cannot_be_scored_is_refused(build, adapter, message):
    with pytest.raises(UnsupportedError, match=message):
        EnergyMeter(build(), adapter)


def test_disabled_adapters_are_refused():
    model = bert(layers=1)
    with model.disable_adapter(), pytest.raises(UnsupportedError, match="disabled"):
        EnergyMeter(model)


def test_mixed_batches_are_refused():
    model, batch = wake(bert(layers=1)), token_batch()
    with EnergyMeter(model), pytest.raises(UnsupportedError, match="adapter_names"):
        model(**batch, adapter_names=["default"] * 4)


def test_energies_survive_json_bit_for_bit():
    e = score(wake(llama(layers=2)), [token_batch(causal=True)], base=True)
    back = Energies.from_json(e.to_json())
    for field in ("g", "base", "n_tokens", "d_in", "d_out", "r", "scaling", "bias"):
        np.testing.assert_array_equal(getattr(back, field), getattr(e, field))
    assert (back.names, back.types, back.fingerprint, back.devices) == (e.names, e.types, e.fingerprint, e.devices)
    np.testing.assert_array_equal(back.S, e.S)


def test_probes_of_different_weights_average_but_do_not_add():
    batch = token_batch()
    a, b = score(wake(bert(), seed=1), [batch]), score(wake(bert(), seed=2, std=1.0), [batch])
    with pytest.raises(EnergyError, match=r"Energies\.mean"):
        a + b
    mean = Energies.mean([a, b])
    np.testing.assert_allclose(mean.importance(), (a.importance() + b.importance()) / 2)
    assert mean.probes == 2


def test_importances_sum_to_one_in_each_pool():
    e = score(wake(bert()), [token_batch()], base=True)
    for normalize in ("none", "per_dim", "relative"):
        assert e.importance(normalize).sum() == pytest.approx(1, abs=1e-6)
        per_type = e.importance(normalize, "per_type")
        for kind in set(e.types):
            assert per_type[[t == kind for t in e.types]].sum() == pytest.approx(1, abs=1e-6)
        assert e.importance(normalize, "per_layer").sum() == pytest.approx(6, abs=1e-6)


def test_importing_the_package_imports_no_torch():
    code = "import sys, fascicle_loradrop as f; f.DropPlan, f.Energies, dir(f); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_resolves():
    import fascicle_loradrop

    for name in fascicle_loradrop.__all__:
        assert getattr(fascicle_loradrop, name).__name__ == name
        assert name in dir(fascicle_loradrop)
    with pytest.raises(AttributeError, match="nonsense"):
        fascicle_loradrop.nonsense  # noqa: B018


def test_the_fingerprint_knows_the_base_network_only():
    from fascicle_loradrop.layers import fingerprint

    plain = fingerprint(bert_base(seed=3))
    assert plain == fingerprint(bert(seed=0)) == fingerprint(bert(r=2).to(torch.bfloat16))
    assert plain != fingerprint(bert_base(layers=5))
    assert plain != fingerprint(t5_base())
