"""Guided models write: every search, with and without a cache, in batches and alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faithsum_models import FAMILIES, LATENT_TYPES, STOP, documents, guided, row, without_labels
from transformers.modeling_outputs import BaseModelOutput

from fascicle_faithsum.errors import GuidanceError

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"num_beams": 3},
    "sample": {"do_sample": True},
}


def write(model: Any, batch: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    torch.manual_seed(5)
    return model.generate(**without_labels(batch), **{"max_new_tokens": 7, **settings})


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_is_its_documents_one_by_one(family: str, latent_type: str) -> None:
    model, batch = guided(family, latent_type), documents()
    for search in ("greedy", "beam"):
        together = write(model, batch, **SEARCHES[search])
        for number in range(3):
            alone = write(model, row(batch, number), **SEARCHES[search])[0]
            padded = torch.full_like(together[number], 1)
            padded[: len(alone)] = alone
            assert together[number].tolist() == padded.tolist()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_changes_nothing(family: str, search: str) -> None:
    model, batch = guided(family), documents()
    kept = write(model, batch, **SEARCHES[search])
    assert torch.equal(kept, write(model, batch, use_cache=False, **SEARCHES[search]))


@pytest.mark.parametrize("latent_type", LATENT_TYPES)
def test_scores_with_a_cache_are_those_of_one_forward(latent_type: str) -> None:
    model, batch = guided("bart", latent_type), documents()
    out = write(model, batch, output_scores=True, return_dict_in_generate=True)
    logits = model(**without_labels(batch), decoder_input_ids=out.sequences[:, :-1]).logits
    for step, scores in enumerate(out.scores):
        alive = (out.sequences[:, 1 : step + 1] != 2).all(1)
        torch.testing.assert_close(scores[alive], logits[alive, step], rtol=1e-4, atol=1e-4)


def test_one_beam_is_greedy() -> None:
    model, batch = guided(), documents()
    assert torch.equal(write(model, batch, num_beams=1), write(model, batch))


def test_guidance_decides_what_is_written() -> None:
    model, batch = guided(), documents((14, 14))
    written = set()
    for k in range(3):
        gate = torch.zeros(2, 14)
        gate[:, 1 + 4 * k : 5 + 4 * k] = 1
        written.add(tuple(write(model, batch, guidance=gate)[0].tolist()))
    assert len(written) > 1


def test_several_sequences_of_a_document_stand_together_and_share_its_guidance() -> None:
    model, batch = guided(), documents()
    for settings in ({"do_sample": True, "num_return_sequences": 2}, {"num_beams": 3, "num_return_sequences": 3}):
        count = settings["num_return_sequences"]
        written = write(model, batch, guidance_mode="sample", **settings)
        assert len(written) == 3 * count
    best = write(model, batch, num_beams=3)
    several = write(model, batch, num_beams=3, num_return_sequences=3)
    width = min(best.shape[1], several.shape[1])
    assert torch.equal(several[::3, :width], best[:, :width])


@pytest.mark.parametrize("mode", ["map", "mean", "topk", "none"])
def test_modes_are_those_of_the_forward(mode: str) -> None:
    model, batch = guided(guidance_k=2), documents()
    written = write(model, batch, guidance_mode=mode)
    logits = model(**without_labels(batch), guidance_mode=mode, decoder_input_ids=written[:, :-1]).logits
    assert logits[:, 0].argmax(-1).tolist() == written[:, 1].tolist()
    model.config.guidance_mode = mode
    assert torch.equal(write(model, batch), written)


def test_labels_are_looked_at_in_posterior_mode_only() -> None:
    model, batch = guided(seed=3), documents()
    other = {**batch, "labels": batch["labels"].flip(0)}

    def with_labels(told: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
        return model.generate(**told, max_new_tokens=7, **settings)

    assert torch.equal(with_labels(batch), write(model, batch))
    assert torch.equal(with_labels(batch), with_labels(other))
    gate = model(**batch, guidance_mode="posterior").gate
    assert torch.equal(with_labels(batch, guidance_mode="posterior"), write(model, batch, guidance=gate))


def test_a_trainers_inputs_are_taken() -> None:
    model, batch = guided(), documents()
    tags = torch.zeros(3, 3)
    segments = model.induce_guidance(**without_labels(batch)).segment_ids
    assert torch.equal(
        model.generate(**batch, guidance_tags=tags, segment_ids=segments, max_new_tokens=7), write(model, batch)
    )


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="guidance_mod"):
        write(guided(), documents(), guidance_mod="map")


@pytest.mark.parametrize("plain", [True, False])
def test_given_encoder_outputs_are_guided_once(plain: bool) -> None:
    model, batch = guided(), without_labels(documents())
    encoded = model.model.encoder(**batch) if plain else model.get_encoder()(**batch)
    assert isinstance(encoded, BaseModelOutput)
    calls = []
    guide = model.guide
    model.guide = lambda *args, **kwargs: calls.append(1) or guide(*args, **kwargs)
    out = model.generate(**batch, encoder_outputs=encoded, num_beams=2, max_new_tokens=7)
    assert torch.equal(out, model.generate(**batch, num_beams=2, max_new_tokens=7))
    assert len(calls) == 1 + plain


def test_keys_and_values_of_the_guidance_are_made_once_per_document() -> None:
    model, batch = guided(), documents()
    calls: list[int] = []
    for layer in model.model.decoder.layers:
        layer.encoder_attn.guidance.k_proj.register_forward_hook(lambda *_: calls.append(1))
    write(model, batch, num_beams=2)
    assert len(calls) == 2


def test_a_model_without_guidance_given_runs_no_guidance_attention() -> None:
    model, batch = guided(), without_labels(documents())
    calls: list[int] = []
    for layer in model.model.decoder.layers:
        layer.encoder_attn.guidance.register_forward_hook(lambda *_: calls.append(1))
    model.model(**batch)
    assert not calls
    model(**batch)
    assert len(calls) == 2


def test_several_draws_of_a_document_are_its_repeated_rows() -> None:
    model = guided()
    batch = {name: value.repeat_interleave(20, 0) for name, value in documents((14,)).items()}
    torch.manual_seed(0)
    gates = model.get_encoder()(**without_labels(batch), guidance_mode="sample").guidance_gate
    assert len({tuple(gate.tolist()) for gate in gates}) > 1


def test_what_does_not_fit_says_so() -> None:
    model, batch = guided(), without_labels(documents())
    encoded = model.model.encoder(**batch)
    with pytest.raises(GuidanceError, match="segment_ids: got none and no input_ids"):
        model.generate(encoder_outputs=encoded, attention_mask=batch["attention_mask"], max_new_tokens=3)
    with pytest.raises(GuidanceError, match="guidance_mode: got 'best', expected one of map"):
        model.generate(**batch, guidance_mode="best")
    with pytest.raises(GuidanceError, match="'posterior' without labels"):
        model.generate(**batch, guidance_mode="posterior")
    with pytest.raises(GuidanceError, match=r"guidance: got shape \(3, 5\), expected \(3, 14\)"):
        model.generate(**batch, guidance=torch.zeros(3, 5))
    with pytest.raises(GuidanceError, match="guidance: got 0 to 2, expected numbers in"):
        model.generate(**batch, guidance=2.0 * (batch["input_ids"] == STOP))
    with pytest.raises(GuidanceError, match="a gate for a gaussian latent"):
        guided("bart", "gaussian").generate(**batch, guidance=torch.zeros(3, 14))
