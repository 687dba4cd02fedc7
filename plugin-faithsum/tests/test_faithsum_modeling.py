"""Guided models: equal to their base at first, exact bounds, saved and loaded, independent of padding and of labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from faithsum_models import FAMILIES, LATENT_TYPES, MODES, PAIRS, base, documents, guided, row, without_labels
from transformers import AutoModelForSeq2SeqLM, BartConfig, BartModel, T5Config, T5ForConditionalGeneration

from fascicle_faithsum.boundaries import segment_ids_from_boundaries
from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.modeling import GuidedForConditionalGeneration
from fascicle_faithsum.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

# ---- step 0 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_guided_model_is_its_base(family: str, latent_type: str) -> None:
    plain, model, batch = base(family), guided(family, latent_type, awake=False), documents()
    expected = plain(**batch)
    torch.manual_seed(0)
    for mode in (*MODES, "posterior"):
        out = model(**batch, guidance_mode=mode)
        torch.testing.assert_close(out.logits, expected.logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(out.loss, expected.loss, rtol=1e-6, atol=1e-6)
    if latent_type != "gaussian":
        out = model(**batch, guidance=torch.ones(3, 14))
        torch.testing.assert_close(out.logits, expected.logits, rtol=0, atol=1e-6)
    told = without_labels(batch)
    assert torch.equal(model.generate(**told, max_new_tokens=6), plain.generate(**told, max_new_tokens=6))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_new_starts_from_the_base_and_the_bases_names_stay(family: str) -> None:
    plain, model = base(family), guided(family, awake=False)
    weights = model.state_dict()
    assert set(plain.state_dict()) <= set(weights)
    assert all(model.is_new(name) for name in set(weights) - set(plain.state_dict()))
    assert not any(model.is_new(name) for name in plain.state_dict())
    for layer in model.model.decoder.layers:
        assert torch.equal(layer.encoder_attn.guidance.k_proj.weight, layer.encoder_attn.k_proj.weight)
        assert (layer.encoder_attn.guidance.out_proj.weight == 0).all()
    assert torch.equal(model.guidance_memory.layers[0].fc1.weight, plain.model.encoder.layers[0].fc1.weight)
    assert (model.guidance_memory.layer_norm is None) is (family == "bart")


def test_settings_of_the_base_are_kept() -> None:
    plain = base("bart", attn_implementation="eager", tie_word_embeddings=False).bfloat16()
    plain.generation_config.num_beams = 3
    model = GuidedForConditionalGeneration.from_base(plain, boundary_ids=[4])
    assert model.dtype is torch.bfloat16
    assert model.generation_config.num_beams == 3
    assert model.config._attn_implementation == "eager"
    assert not torch.equal(model.lm_head.weight, model.model.shared.weight)


def test_attention_outputs_are_the_bases() -> None:
    plain, batch = base("bart", attn_implementation="eager"), documents()
    model = GuidedForConditionalGeneration.from_base(plain, boundary_ids=[4])
    ours, theirs = (m(**batch, output_attentions=True, output_hidden_states=True) for m in (model, plain))
    for name in ("cross_attentions", "decoder_attentions", "encoder_attentions", "decoder_hidden_states"):
        assert len(ours[name]) == len(theirs[name])
        for one, other in zip(ours[name], theirs[name], strict=True):
            torch.testing.assert_close(one, other)


def test_attention_implementations_agree() -> None:
    batch, logits = documents(), []
    for attention in ("eager", "sdpa"):
        model = guided("bart", attn_implementation=attention)
        assert model.config._attn_implementation == attention
        logits.append(model(**batch).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)


# ---- exactness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_elbo_of_a_sentence_latent_is_short_by_the_kl_to_the_true_posterior(seed: int) -> None:
    model, batch = guided(seed=seed).double(), documents((26, 17, 6), seed=seed)
    joint, log_p, log_q = model.joint_log_probs(batch)
    q = log_q.exp()
    out = model(**batch)
    assert joint.shape[1] == 6
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((q * (log_q - log_p)).sum(1), out.kl)
    elbo = (q * (joint - log_q)).sum(1)
    evidence = -model.exact_nll(batch)
    true = joint - evidence[:, None]
    gap = (q * (log_q - true)).sum(1)
    assert (elbo <= evidence).all()
    assert (gap[:2] > 1e-6).all()
    torch.testing.assert_close(evidence - elbo, gap, rtol=0, atol=1e-5)
    assert gap[2].abs() < 1e-9  # one sentence: nothing to infer


def test_p_of_y_given_a_sentence_is_the_forward_guided_to_it() -> None:
    model, batch = guided().double(), documents()
    joint, log_p, _ = model.joint_log_probs(batch)
    segments = model.induce_guidance(**without_labels(batch)).segment_ids
    for k in range(2):
        out = model(**batch, guidance=(segments == k).double())
        torch.testing.assert_close(out.nll, log_p[:, k] - joint[:, k])


def test_more_samples_tighten_the_importance_weighted_bound() -> None:
    model, batch = guided(seed=1).double(), documents((14, 12), seed=1)
    exact = model.exact_nll(batch)
    _, log_p, log_q = model.joint_log_probs(batch)
    torch.manual_seed(0)
    often = {name: value.repeat(60, 1) for name, value in batch.items()}
    means = [model.iw_nll(often, samples).view(60, 2).mean(0) for samples in (1, 8)]
    torch.manual_seed(0)
    many = model.iw_nll(often, 8).neg().view(60, 2).logsumexp(0).neg() + math.log(60)  # 480 samples
    assert (means[0] > means[1]).all()
    assert (means[1] > exact - 0.02).all()
    torch.testing.assert_close(many, exact, rtol=0, atol=0.1)
    assert (log_q.exp() * (log_q - log_p)).sum(1).min() > 1e-3


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
def test_the_mean_of_one_sample_bounds_is_the_elbo(latent_type: str) -> None:
    model, batch = guided("bart", latent_type, latent_size=2, seed=2), documents((9, 7), seed=2)
    torch.manual_seed(0)
    one = torch.stack([model.iw_nll(batch, 1) for _ in range(30)])
    many = torch.stack([model.iw_nll(batch, 16) for _ in range(4)])
    assert torch.isfinite(one).all()
    assert (many.mean(0) < one.mean(0) + 3 * one.std(0) / 30**0.5 + 1e-3).all()


# ---- what evaluation may see ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
def test_in_evaluation_guidance_does_not_depend_on_the_summary(latent_type: str) -> None:
    model, batch = guided("bart", latent_type), documents()
    out = model(**batch)
    other = model(**{**batch, "labels": batch["labels"].flip(0)})
    assert torch.equal(out.latent, other.latent)
    assert not torch.allclose(out.posterior, other.posterior)
    alone = model(
        **without_labels(batch), decoder_input_ids=model.prepare_decoder_input_ids_from_labels(batch["labels"])
    )
    torch.testing.assert_close(out.logits, alone.logits)
    torch.testing.assert_close(out.loss * (batch["labels"] != -100).sum(), out.nll.sum())


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family: str, latent_type: str) -> None:
    model, batch = guided(family, latent_type).double(), documents()
    together = model(**batch)
    for number in range(3):
        alone = model(**row(batch, number))
        for name in ("nll", "kl", "prior", "posterior", "gate"):
            one, all_ = getattr(alone, name), getattr(together, name)
            if one is None:
                assert name == "gate"
                assert latent_type == "gaussian"
                continue
            kept = all_[number : number + 1]
            if kept.dim() == 2:
                kept = kept[:, : one.shape[1]]
            torch.testing.assert_close(one, kept, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("latent_type", ["sentence", "bernoulli"])
def test_gates_are_zero_outside_sentences(latent_type: str) -> None:
    model, batch = guided("bart", latent_type), documents()
    outside = torch.isin(batch["input_ids"], torch.tensor([0, 1, 2]))
    for mode in ("map", "mean", "sample", "topk"):
        gate = model(**batch, guidance_mode=mode).gate
        assert (gate[outside] == 0).all()
        assert gate.max() <= 1
    assert model(**batch, guidance_mode="none").gate.abs().max() == 0
    assert (model(**batch, guidance=torch.ones(3, 14)).gate == (~outside).float()).all()
    induced = model.induce_guidance(**batch)
    assert (induced.token_prior[outside] == 0).all()
    assert (induced.segment_ids[outside] == -1).all()
    torch.testing.assert_close(induced.token_prior, model(**batch, guidance_mode="mean").gate)


def test_sentence_guidance_is_one_sentence() -> None:
    model, batch = guided(), documents()
    induced = model.induce_guidance(**batch)
    torch.testing.assert_close(induced.prior_probs.sum(1), torch.ones(3))
    torch.testing.assert_close(induced.posterior_probs.sum(1), torch.ones(3))
    out = model(**batch)
    for number in range(3):
        guiding = induced.segment_ids[number][out.gate[number] == 1]
        assert guiding.unique().tolist() == [induced.prior_probs[number].argmax().item()]


def test_given_segments_override_the_models_own() -> None:
    model, batch = guided(), documents((14, 14))
    segments = torch.full((2, 14), -1)
    segments[:, 1:13] = torch.arange(12) // 6
    out = model(**batch, segment_ids=segments)
    assert out.prior.shape == (2, 2)
    own = model.induce_guidance(**without_labels(batch)).segment_ids
    torch.testing.assert_close(model(**batch, segment_ids=own).logits, model(**batch).logits)


def test_a_missing_sentence_number_is_no_sentence() -> None:
    model, batch = guided(), documents((14,))
    segments = torch.full((1, 14), -1)
    segments[:, 1:5], segments[:, 5:9] = 0, 2
    assert model.induce_guidance(**batch, segment_ids=segments).prior_probs[0, 1] == 0
    close = segments.clamp(max=1)
    torch.testing.assert_close(model(**batch, segment_ids=segments).kl, model(**batch, segment_ids=close).kl)


# ---- sentences by their ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([0, 7, 4, 8, 9, 4, 2], [-1, 0, 0, 1, 1, 1, -1]),
        ([0, 7, 8, 2], [-1, 0, 0, -1]),  # no end: one sentence
        ([0, 7, 4, 4, 4, 8, 2], [-1, 0, 0, 0, 0, 1, -1]),  # several ends in a row
        ([0, 4, 7, 4, 8, 2], [-1, 0, 1, 1, 2, -1]),  # an end before the first word
        ([0, 7, 4, 2, 8, 4, 2], [-1, 0, 0, -1, 1, 1, -1]),  # a special token inside
        ([0, 2], [-1, -1]),
    ],
)
def test_sentences_end_with_their_boundary(ids: list[int], expected: list[int]) -> None:
    padded = torch.tensor([[*ids, 1, 1]])
    mask = (padded != 1).long()
    assert segment_ids_from_boundaries(padded, mask, [4], [0, 1, 2]).tolist() == [[*expected, -1, -1]]
    left = torch.tensor([[1, *ids]])
    assert segment_ids_from_boundaries(left, (left != 1).long(), [4], [0, 1, 2]).tolist() == [[-1, *expected]]


# ---- training ------------------------------------------------------------------------------------------------------------


ELBO = Recipe(beta=1.0, beta_warmup=0.0, balance=False, source_dropout=0.0, teacher_weight=0.0, through_draw=True)


def tags_of(latent_type: str) -> torch.Tensor:
    tags = torch.zeros(3, 4 if latent_type == "sentence" else 14)
    tags[:, 1] = 1
    return tags


def losses(model: Any, batch: dict[str, torch.Tensor], **told: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(0)
    loss = model(**batch, **told).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("family", "latent_type"), PAIRS)
def test_the_loss_reaches_every_weight_and_checkpointing_changes_nothing(family: str, latent_type: str) -> None:
    recipe = replace(
        Recipe(),
        bow_weight=0.1,
        tag_weight=0.0 if latent_type == "gaussian" else 1.0,
        label_smoothing=0.1,
        source_dropout=0.5,
        posterior_dropout=0.5,
        posterior_dropout_start=0.0,
    )
    model, batch = guided(family, latent_type, bow=True, recipe=recipe).train(), documents()
    model.progress = 0.4
    loss, gradients = losses(model, batch, guidance_tags=tags_of(latent_type))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(gradients)
    shifts = "score.bias" if latent_type == "sentence" else "none"  # a softmax is blind to it
    assert [name for name, gradient in gradients.items() if gradient.abs().max() == 0 and shifts not in name] == []
    model.activation_checkpointing_enable()
    again, same = losses(model, batch, guidance_tags=tags_of(latent_type))
    assert loss == pytest.approx(again, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-3, atol=1e-4)


def test_reentrant_checkpointing_is_refused() -> None:
    with pytest.raises(GuidanceError, match="the reentrant kind"):
        guided().activation_checkpointing_enable({"use_reentrant": True})


def test_without_other_terms_the_loss_is_the_negative_elbo_per_token() -> None:
    model, batch = guided(dropout=0.0, recipe=ELBO).train(), documents()
    torch.manual_seed(0)
    out = model(**batch)
    count = (batch["labels"] != -100).sum()
    torch.testing.assert_close(out.loss, (out.nll + out.kl).sum() / count)
    torch.manual_seed(0)
    torch.testing.assert_close(model(**batch, num_items_in_batch=2 * count).loss, out.loss / 2)


def test_training_draws_from_the_posterior_and_posterior_dropout_from_the_prior() -> None:
    batch = {name: value.repeat(200, 1) for name, value in documents((14,), seed=4).items()}
    seen = {}
    for rho in (0.0, 1.0):
        recipe = Recipe(posterior_dropout=rho, posterior_dropout_start=0.0)
        model = guided(dropout=0.0, recipe=recipe).train()
        model.progress = 1.0
        torch.manual_seed(0)
        out = model(**batch)
        assert set(out.latent.detach().unique().tolist()) == {0.0, 1.0}
        seen[rho] = out.latent.mean(0)
        expected = (out.posterior if rho == 0 else out.prior).softmax(-1)[0]
        assert (seen[rho] - expected).abs().max() < 4 * 0.5 / 200**0.5
    assert not torch.allclose(seen[0.0], seen[1.0])


def test_a_document_without_its_source_is_written_from_guidance_alone() -> None:
    model, batch = guided(dropout=0.0, recipe=Recipe(source_dropout=1.0)).train(), documents()
    gate = torch.ones(3, 14)
    kept = model(**batch, guidance=gate).logits
    for layer in model.model.decoder.layers:
        layer.encoder_attn.q_proj.weight.data.mul_(-1)
        layer.encoder_attn.out_proj.weight.data.mul_(3)
    torch.testing.assert_close(model(**batch, guidance=gate).logits, kept)
    model.progress = 1.0
    assert not torch.allclose(model(**batch, guidance=gate).logits, kept)
    model.progress = 0.0
    assert not torch.allclose(model.eval()(**batch, guidance=gate).logits, kept)


def test_tags_of_fewer_or_more_sentences_fit() -> None:
    model, batch = guided(dropout=0.0, recipe=Recipe(tag_weight=1.0, teacher_weight=0.0)).train(), documents()
    found = []
    for width in (2, 3, 9):
        tags = torch.zeros(3, width)
        tags[:, 0] = 1
        tags[:, 3:] = 1  # there are no such sentences
        torch.manual_seed(0)
        found.append(model(**batch, guidance_tags=tags).loss.item())
    assert found[0] == pytest.approx(found[1]) == pytest.approx(found[2])


def test_the_recipe_is_kept_in_the_configuration(tmp_path: Path) -> None:
    recipe = Recipe(beta=0.2, source_dropout=0.4)
    guided(recipe=recipe).save_pretrained(tmp_path)
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path).recipe == recipe
    assert guided().recipe == Recipe()


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
def test_half_precision_runs(latent_type: str) -> None:
    model, batch = guided("bart", latent_type, bow=True).bfloat16(), documents()
    assert model(**batch).loss.isfinite()
    assert model.iw_nll(batch, 2).isfinite().all()
    model.generate(**without_labels(batch), max_new_tokens=3)
    _loss, gradients = losses(model.train(), batch)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = guided("bart", latent_type).train()(**batch).loss
    assert mixed.isfinite()
    assert mixed.dtype is torch.float32


# ---- what cannot be done -------------------------------------------------------------------------------------------------


def tiny_t5() -> Any:
    config = T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config)


@pytest.mark.parametrize("make", [tiny_t5, guided, lambda: BartModel(BartConfig(
    vocab_size=16, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16)), lambda: 3])  # fmt: skip
def test_other_bases_are_refused_with_what_is_supported(make: Any) -> None:
    with pytest.raises(GuidanceError, match="of the types bart, mbart, pegasus"):
        GuidedForConditionalGeneration.from_base(make())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_type": "word"}, "latent_type: got 'word'"),
        ({"latent_size": 0}, "latent_size: got 0, expected at least 1"),
        (
            {"guidance_mode": "posterior"},
            "guidance_mode: got 'posterior', expected one of map, mean, sample, topk, none",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        GuidedForConditionalGeneration.from_base(base(), **settings)


def test_sentences_that_cannot_be_told_are_refused() -> None:
    model, batch = GuidedForConditionalGeneration.from_base(base()), documents()
    with pytest.raises(GuidanceError, match=r"segment_ids: got none, and config\.boundary_ids names no token"):
        model(**batch)
    with pytest.raises(GuidanceError, match=r"segment_ids: got shape \(3, 4\), expected \(3, 14\)"):
        model(**batch, segment_ids=torch.zeros(3, 4, dtype=torch.long))
    with pytest.raises(GuidanceError, match="gaussian latent, which points at nothing"):
        guided("bart", "gaussian").induce_guidance(batch["input_ids"])
    with pytest.raises(GuidanceError, match="got a bernoulli latent, expected sentence"):
        guided("bart", "bernoulli").exact_nll(batch)
    with pytest.raises(GuidanceError, match="samples: got 0"):
        guided().iw_nll(batch, 0)
