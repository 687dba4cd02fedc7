"""What teaches the posterior: the sentence that alone explains the summary best."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faithsum_models import documents, guided

from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.likelihood import document_nll
from fascicle_faithsum.recipe import Recipe

TEACHER: dict[str, Any] = {
    "beta": 0.0,
    "gamma": 0.0,
    "teacher_weight": 1.0,
    "teacher_share": 1.0,
    "through_draw": False,
    "source_dropout": 0.0,
}


def taught(**changes: Any) -> Any:
    settings = {name: changes.pop(name) for name in ("dropout", "seed", "attn_implementation") if name in changes}
    return guided(recipe=Recipe(**{**TEACHER, **changes}), **{"dropout": 0.0, **settings}).train()


def explained(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """log p(y | z = k) without the source, (B, K), by a forward for each sentence; -inf for an absent one."""
    model.eval()
    keep = model._source_keep
    segments = model.induce_guidance(batch["input_ids"], batch["attention_mask"]).segment_ids
    scores = []
    with torch.no_grad():
        for k in range(int(segments.max()) + 1):
            gate = (segments == k).double()
            encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"], guidance=gate)
            logits = model.decode(
                encoded,
                attention_mask=batch["attention_mask"],
                decoder_input_ids=model.prepare_decoder_input_ids_from_labels(batch["labels"]),
                source_keep=torch.zeros(len(gate)),
            ).logits
            scores.append((-document_nll(logits, batch["labels"])).masked_fill(gate.sum(1) == 0, -torch.inf))
    model.train()
    assert model._source_keep == keep
    return torch.stack(scores, 1)


def expected_loss(scores: torch.Tensor, posterior: torch.Tensor) -> torch.Tensor:
    """Sum over documents of CE(softmax of the scores, q), sentence by sentence."""
    total = torch.zeros((), dtype=scores.dtype)
    for row, logits in zip(scores, posterior, strict=True):
        exist = row.isfinite()
        target, log_q = row[exist].softmax(0), logits[exist].log_softmax(0)
        if len(target) > 1:
            total = total - (target * log_q).sum()
    return total


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_loss_is_that_of_enumeration(dropout: float) -> None:
    model, batch = taught().double(), documents((14, 9, 6))
    for module in (model.model.decoder, *model.model.decoder.layers):
        module.dropout = dropout  # the teacher goes without
    scores = explained(model, batch)
    torch.manual_seed(0)
    out = model(**batch)
    # the last document has one sentence: the others stand for it
    wanted = expected_loss(scores, out.posterior) * 3 / 2
    torch.testing.assert_close(out.parts["teacher"] * 3, wanted.detach())
    count = (batch["labels"] != -100).sum()
    torch.testing.assert_close(out.loss, (out.nll.sum() + wanted) / count)
    assert all(module.training for module in model.model.decoder.modules())


def test_of_many_sentences_a_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = taught(teacher_sentences=2).double(), documents((22, 14))
    scores = explained(model, batch)
    calls, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda guided, **told: calls.append(guided) or decode(guided, **told))
    seen = set()
    for seed in range(6):
        torch.manual_seed(seed)
        calls.clear()
        out = model(**batch)
        assert len(calls) == 2
        chosen = torch.stack([call.guidance_weights for call in calls], 1)  # (B, 2, T)
        kept = torch.full_like(scores, -torch.inf)
        for b in range(2):
            numbers = [int(out_segments(model, batch)[b][gate == 1].unique()) for gate in chosen[b]]
            assert len(set(numbers)) == 2
            kept[b, numbers] = scores[b, numbers]
            seen.add((b, *sorted(numbers)))
        torch.testing.assert_close(out.parts["teacher"] * 2, expected_loss(kept, out.posterior).detach())
    assert len(seen) > 4


def out_segments(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model.induce_guidance(batch["input_ids"], batch["attention_mask"]).segment_ids
    return found


def test_it_teaches_the_posterior_and_not_the_decoder() -> None:
    model, batch = taught(), documents()
    out = model(**batch)
    (out.loss * (batch["labels"] != -100).sum() - out.nll.sum()).backward()
    for name, parameter in model.named_parameters():
        size = 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
        if name.startswith("guidance_posterior.") and "score.bias" not in name:
            assert size > 0, name
        elif name.startswith(("model.decoder.layers", "lm_head", "guidance_memory", "guidance_prior")):
            assert size == 0, name


@pytest.mark.parametrize("through", [False, True])
def test_the_reconstruction_reaches_the_posterior_only_through_the_draw(through: bool) -> None:
    model, batch = taught(teacher_weight=0.0, through_draw=through), documents()
    torch.manual_seed(0)
    out = model(**batch)
    assert set(out.latent.detach().unique().tolist()) == {0.0, 1.0}
    assert (out.latent.detach().sum(1) == 1).all()
    out.nll.sum().backward()
    sizes = {
        name: 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
        for name, parameter in model.guidance_posterior.named_parameters()
        if name != "score.bias"
    }
    assert all((size > 0) is through for size in sizes.values()), sizes
    assert model.guidance_memory.layers[0].fc1.weight.grad.abs().max() > 0


def test_a_share_of_the_documents_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = taught(teacher_share=0.25)
    batch = {name: value.repeat(24, 1) for name, value in documents((14,)).items()}
    told = expected_loss(explained(model, batch), model(**batch).posterior)
    rows, decode = [], model.decode
    monkeypatch.setattr(
        model, "decode", lambda guided, **more: rows.append(len(guided.guidance_weights)) or decode(guided, **more)
    )
    torch.manual_seed(0)
    out = model(**batch)
    assert 0 < rows[0] < 24
    torch.testing.assert_close(out.parts["teacher"] * 24, told.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("share", "lengths"), [(1.0, (6, 5)), (0.0, (14, 9))])
def test_nobody_to_teach_is_no_teacher(share: float, lengths: tuple[int, ...]) -> None:
    out = taught(teacher_share=share)(**documents(lengths))
    assert "teacher" not in out.parts
    assert out.loss.isfinite()


def test_eager_attention_half_precision_and_given_decoder_inputs() -> None:
    batch = documents()
    losses = []
    for settings in ({}, {"attn_implementation": "eager"}):
        model = taught(**settings)
        torch.manual_seed(0)
        losses.append(model(**batch).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    model = taught()
    inputs = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    embedded = model.model.decoder.embed_tokens(inputs)
    torch.manual_seed(0)
    assert model(**batch, decoder_inputs_embeds=embedded).loss.item() == pytest.approx(losses[0], rel=1e-5)
    half = taught().bfloat16()
    half(**batch).loss.backward()
    assert half.guidance_posterior.dense.weight.grad.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = taught()(**batch)
    assert mixed.parts["teacher"].dtype is torch.float32
    assert mixed.loss.isfinite()


@pytest.mark.parametrize("latent_type", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("settings", [{"teacher_weight": 1.0}, {"teacher_weight": 0.0, "through_draw": False}])
def test_other_latents_have_no_teacher(latent_type: str, settings: dict[str, Any]) -> None:
    model = guided("bart", latent_type, recipe=Recipe(**settings)).train()
    with pytest.raises(GuidanceError, match=f"{latent_type} latent, which only a draw teaches"):
        model(**documents())
    assert guided("bart", latent_type).train()(**documents()).loss.isfinite()
