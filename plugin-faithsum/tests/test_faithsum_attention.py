"""The guidance attention against its formula, and the memory that it reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faithsum_models import FAMILIES, base, documents, guided

from fascicle_faithsum.attention import GuidanceAttention, record_guidance_attention
from fascicle_faithsum.modeling import GuidedForConditionalGeneration


def formula(attention: GuidanceAttention, hidden: torch.Tensor, memory: torch.Tensor, gate: torch.Tensor) -> Any:
    """a_t = g_t exp(s_t) / (1 + sum_j g_j exp(s_j)), place by place."""
    size = hidden.shape[-1] // attention.heads
    query, keys, values = (
        getattr(attention, f"{n}_proj")(x) for n, x in zip("qkv", (hidden, memory, memory), strict=True)
    )
    out = torch.zeros_like(query)
    for b in range(len(hidden)):
        for n in range(hidden.shape[1]):
            for head in range(attention.heads):
                part = slice(head * size, (head + 1) * size)
                read = gate[b] * (keys[b, :, part] @ query[b, n, part] / size**0.5).exp()
                out[b, n, part] = (read / (1 + read.sum())) @ values[b, :, part]
    return attention.out_proj(out)


def pieces(scale: float = 1.0) -> tuple[GuidanceAttention, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    attention = GuidanceAttention(8, 2, layer=0).double()
    return attention, torch.randn(2, 3, 8).double() * scale, torch.randn(2, 5, 8).double() * scale


GATES = {
    "one sentence": [[0.0, 1, 1, 0, 0], [0, 0, 0, 1, 1]],
    "soft": [[0.1, 0.9, 0.5, 1e-6, 0], [1, 1, 0.3, 0, 0.7]],
    "all": [[1.0] * 5] * 2,
    "nothing": [[0.0] * 5] * 2,
}


@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("name", GATES)
def test_both_ways_of_reading_are_the_formula(name: str, scale: float) -> None:
    attention, hidden, memory = pieces(scale)
    gate = torch.tensor(GATES[name]).double()
    expected = formula(attention, hidden, memory, gate)
    keys_values = attention.keys_values(memory)
    torch.testing.assert_close(attention(hidden, keys_values, gate), expected)
    with torch.no_grad():
        torch.testing.assert_close(attention(hidden, keys_values, gate), expected)
    if name == "nothing":
        torch.testing.assert_close(expected, attention.out_proj.bias.expand_as(expected))


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("name", GATES)
def test_the_gradient_by_the_gate_is_the_slope_where_it_is_open_and_what_opening_changes_where_it_is_closed(
    name: str, scale: float
) -> None:
    attention, hidden, memory = pieces(scale)
    gate, direction = torch.tensor(GATES[name]).double(), torch.randn(2, 3, 8).double()

    def loss(told: torch.Tensor) -> torch.Tensor:
        return (formula(attention, hidden, memory, told) * direction).sum()

    leaf = gate.clone().requires_grad_()
    (attention(hidden, attention.keys_values(memory), leaf) * direction).sum().backward()
    assert leaf.grad is not None
    for b in range(2):
        for t in range(5):
            step = torch.zeros_like(gate)
            step[b, t] = 1e-6 if gate[b, t] else 1.0
            expected = (loss(gate + step) - loss(gate - step)) / 2e-6 if gate[b, t] else loss(gate + step) - loss(gate)
            if scale == 1 or not gate[b, t]:
                torch.testing.assert_close(leaf.grad[b, t], expected, rtol=1e-4, atol=1e-7)


def test_the_gradient_by_a_closed_sentence_is_what_opening_it_changes() -> None:
    attention, hidden, memory = pieces(3.0)
    gate, segments = (
        torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]).double(),
        torch.tensor([[0, 0, 1, 1, 2], [0, 0, 1, 2, -1]]),
    )
    direction = torch.randn(2, 3, 8).double()
    leaf = gate.clone().requires_grad_()
    (attention(hidden, attention.keys_values(memory), leaf, segments) * direction).sum().backward()
    assert leaf.grad is not None
    now = (formula(attention, hidden, memory, gate) * direction).sum()
    for b, k in ((0, 1), (0, 2), (1, 0), (1, 1)):
        of = (segments == k) & (torch.arange(2)[:, None] == b)
        opened = (formula(attention, hidden, memory, gate + of) * direction).sum()
        torch.testing.assert_close(leaf.grad[of].sum(), opened - now)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_by_the_gate_is_bounded_whatever_the_scores(dtype: torch.dtype) -> None:
    attention, hidden, memory = (x.to(dtype) for x in pieces(20.0))
    gate = torch.tensor(GATES["one sentence"], dtype=dtype, requires_grad=True)
    segments = torch.tensor([[0, 1, 1, 2, 2]] * 2)
    keys_values = attention.keys_values(memory)
    attention(hidden, keys_values, gate, segments).sum().backward()
    assert gate.grad is not None
    largest = attention.out_proj.weight.sum(0).abs().amax() * keys_values[:, 1].abs().amax() * hidden.shape[1] * 8
    assert gate.grad.abs().max() <= 2 * largest


def test_a_high_score_of_what_is_no_guidance_takes_nothing_from_what_is() -> None:
    attention = GuidanceAttention(8, 2, layer=0)
    query, values = torch.ones(1, 2, 1, 4), torch.randn(1, 2, 3, 4)
    keys = torch.tensor([400.0, 0.5, -0.5])[None, None, :, None].expand(1, 2, 3, 4)  # scores 800, 1, -1
    gate = torch.tensor([[0.0, 1.0, 1.0]], requires_grad=True)
    keys_values = [torch.nn.functional.pad(kv, (0, 0, 0, 1)) for kv in (keys, values)]  # a place for nothing
    found = attention._attend(query, *keys_values, gate, 0.0, None)
    with torch.no_grad():
        torch.testing.assert_close(found, attention._attend(query, *keys_values, gate, 0.0, None))
    found.sum().backward()
    assert gate.grad is not None
    assert gate.grad.isfinite().all()
    read = torch.tensor([1.0, -1.0]).exp()
    torch.testing.assert_close(found[0, 0, 0], (read / (1 + read.sum())) @ values[0, 0, 1:])


def test_recorded_weights_are_what_the_guidance_attention_read() -> None:
    model, batch = guided(), documents()
    expected = model(**batch).logits
    with record_guidance_attention(model) as record:
        out = model(**batch)
    torch.testing.assert_close(out.logits, expected, rtol=1e-4, atol=1e-4)
    weights = record.weights()
    assert weights.shape == (2, 3, 4, 6, 14)
    assert ((weights.sum(-1) > 0) & (weights.sum(-1) < 1 + 1e-6)).all()
    assert weights.sum(-1).min() < 0.5
    read = (weights.amax((0, 2, 3)) > 0).float()
    assert torch.equal(read, out.gate)
    before = len(record.steps[0])
    model(**batch)
    assert len(record.steps[0]) == before
    with pytest.raises(ValueError, match="nothing was recorded"), record_guidance_attention(model) as empty:
        empty.weights()


# ---- the memory ----------------------------------------------------------------------------------------------------------


def memory_of(model: Any, ids: torch.Tensor, **told: Any) -> torch.Tensor:
    encoded = model.encode_source(ids, None)
    source = model._source(encoded.last_hidden_state, ids, None, None)
    found: torch.Tensor = model._remember(source, None, torch.ones(ids.shape))[0]
    return found


@pytest.mark.parametrize("mode", ["map", "mean", "sample", "topk", "none", "given"])
@pytest.mark.parametrize("latent_type", ["sentence", "bernoulli"])
def test_remembering_what_is_chosen_alone_changes_nothing(latent_type: str, mode: str) -> None:
    model, batch = guided("bart", latent_type).double(), documents()
    told: dict[str, Any] = {"guidance_mode": mode}
    if mode == "given":
        told = {"guidance": (torch.arange(14) == 6).double().expand(3, -1) * batch["attention_mask"]}
    torch.manual_seed(3)
    whole = model(**batch, **told)
    torch.manual_seed(3)
    with torch.no_grad():
        chosen = model(**batch, **told)
    assert torch.equal(chosen.gate, whole.gate)
    torch.testing.assert_close(chosen.logits, whole.logits, rtol=0, atol=1e-12)


def test_one_sentence_is_remembered_where_one_is_chosen() -> None:
    model, batch = guided(), documents()
    with torch.no_grad():
        encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"], guidance_mode="map")
        nothing = model.get_encoder()(batch["input_ids"], batch["attention_mask"], guidance_mode="none")
    assert encoded.guidance_weights.shape == (3, int((encoded.guidance_gate > 0).sum(1).max()))
    assert encoded.guidance_cache.shape[4] == encoded.guidance_weights.shape[1] + 1 < 14
    assert nothing.guidance_weights.tolist() == [[0.0]] * 3


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sentence_is_remembered_whatever_the_others_say(family: str, layers: int) -> None:
    model, ids = guided(family, guidance_layers=layers).double(), documents((14,))["input_ids"]
    before = memory_of(model, ids)
    other = ids.clone()
    other[0, 5:8] = torch.tensor([7, 9, 11])
    assert not torch.equal(other, ids)
    after = memory_of(model, other)
    kept = torch.ones(14, dtype=torch.bool)
    kept[5:9] = False
    torch.testing.assert_close(after[:, kept], before[:, kept], rtol=0, atol=1e-12)
    assert (after[:, ~kept] - before[:, ~kept]).abs().amax(-1).min() > 1e-3
    encoded, changed = (model.encode_source(x, None).last_hidden_state for x in (ids, other))
    assert not torch.allclose(encoded[:, 1:5], changed[:, 1:5])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_begins_with_what_the_encoders_first_layer_reads(family: str) -> None:
    plain, batch = base(family, scale_embedding=True), documents()
    model = GuidedForConditionalGeneration.from_base(plain, boundary_ids=[4])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    expected = plain.model.encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(model._embedded(ids, None), expected[0])
    given = plain.model.encoder.embed_tokens(ids)
    other = plain.model.encoder(inputs_embeds=given, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(model._embedded(None, given), other[0])
    whole = torch.zeros_like(ids)  # one sentence: the encoder's own first layer, where nothing follows it
    found = model.guidance_memory.layers[0](expected[0], (mask.bool()[:, None, None, :]).expand(-1, 1, 14, -1))
    torch.testing.assert_close(found[mask.bool()], expected[1][mask.bool()])
    read = model.guidance_memory(expected[0], whole, mask.bool())
    norm = model.guidance_memory.layer_norm or torch.nn.Identity()
    torch.testing.assert_close(read[mask.bool()], norm(found)[mask.bool()])


def test_a_gaussian_is_remembered_in_one_place() -> None:
    model, batch = guided("bart", "gaussian", latent_size=3), documents()
    encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    assert encoded.guidance_cache.shape == (3, 2, 2, 4, 2, 8)  # and a place for nothing
    assert torch.equal(encoded.guidance_weights, torch.ones(3, 1))
    assert encoded.guidance_gate is None
    one = model(**batch, guidance_mode="none").logits
    assert not torch.allclose(one, model(**batch).logits)


@pytest.mark.parametrize("latent_type", ["sentence", "bernoulli"])
def test_a_training_step_opens_whole_sentences_where_a_sentence_is_chosen(
    latent_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, seen = guided(latent_type=latent_type).train(), documents(), []
    plain = GuidanceAttention.secant

    def told(odds: torch.Tensor, gate: torch.Tensor, segments: torch.Tensor | None) -> torch.Tensor:
        seen.append(segments)
        return plain(odds, gate, segments)

    monkeypatch.setattr(GuidanceAttention, "secant", staticmethod(told))
    labels = batch.pop("labels", batch["input_ids"][:, :4])
    expected = model.guide(model.encode_source(batch["input_ids"], batch.get("attention_mask")), **batch).segments
    model(**batch, labels=labels)
    assert len(seen) == model.config.decoder_layers
    for segments in seen:
        assert segments is None if latent_type == "bernoulli" else torch.equal(segments, expected)
