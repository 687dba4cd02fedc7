from __future__ import annotations

import pytest
import torch
from faithsum_texts import DOCUMENTS, texts_model
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.guidance import Guidance, guide, summarize, update_belief, widened
from fascicle_faithsum.segments import encode


def test_signals_reach_their_tokens():
    _, tokenizer = texts_model()
    document = encode(tokenizer, DOCUMENTS[:1]).documents[0]
    start = document.text.index("film")
    both = (Guidance.sentences([0], 0.5) | Guidance.keywords(["FILM"])).gate(document).tolist()
    for (a, b), segment, value in zip(document.offsets, document.segments, both, strict=True):
        inside = b > a and a < start + 4 and b > start
        assert value == (1.0 if inside else 0.5 if segment == 0 else 0.0)
    assert torch.equal(Guidance.spans([(start, start + 4)]).gate(document), Guidance.keywords(["film"]).gate(document))


def test_missing_keyword_is_told():
    _, tokenizer = texts_model()
    document = encode(tokenizer, DOCUMENTS[:1]).documents[0]
    with pytest.warns(UserWarning, match="'fil' does not occur"):
        assert Guidance.keywords(["fil"]).gate(document).sum() == 0
    with pytest.raises(GuidanceError, match="does not occur"):
        Guidance.keywords(["fil"]).gate(document, missing="error")
    with pytest.raises(GuidanceError, match="from 0 to 2"):
        Guidance.sentences([3]).gate(document)


def test_sentence_gate_equals_the_models_own_choice():
    model, tokenizer = texts_model()
    encoded = encode(tokenizer, DOCUMENTS[:1])
    labels = encode(tokenizer, DOCUMENTS[1:]).inputs["input_ids"]
    own = model(**encoded.inputs, labels=labels, guidance_mode="map")
    chosen = int(own.latent[0].argmax())
    given = model(**guide(model, tokenizer, DOCUMENTS[:1], sentences=[chosen]), labels=labels)
    other = model(**guide(model, tokenizer, DOCUMENTS[:1], sentences=[(chosen + 1) % 3]), labels=labels)
    torch.testing.assert_close(given.logits, own.logits)
    assert not torch.allclose(other.logits, own.logits)


def test_belief_formulas():
    prior, signal = torch.tensor([0.2, 0.7]), torch.tensor([1.0, 0.5])
    assert torch.equal(update_belief(prior, signal), signal)
    torch.testing.assert_close(update_belief(prior, signal, "max"), torch.tensor([1.0, 0.7]))
    torch.testing.assert_close(update_belief(prior, signal, "mix", 0.25), torch.tensor([0.4, 0.65]))
    model, tokenizer = texts_model()
    inputs = guide(model, tokenizer, DOCUMENTS[:1], sentences=[1], belief="mix", weight=0.3)
    gate = inputs.pop("guidance")
    own = model.induce_guidance(**inputs).token_prior
    torch.testing.assert_close(gate, 0.7 * own + 0.3 * (inputs["segment_ids"] == 1).float())


@pytest.mark.parametrize("kind", ["sentence", "bernoulli", "gaussian"])
def test_summaries_tell_their_guidance(kind):
    model, tokenizer = texts_model(kind)
    kwargs = {"max_new_tokens": 4, "num_beams": 2, "samples": 2, "seed": 3}
    first = summarize(model, tokenizer, DOCUMENTS, **kwargs)
    assert first == summarize(model, tokenizer, DOCUMENTS, **kwargs)
    assert [len(s.candidates) for s in first] == [2, 2]
    assert all(s.scores["log_likelihood"] == max(c.log_likelihood for c in s.candidates) for s in first)
    if kind == "sentence":
        assert [len(s.guidance) for s in first] == [1, 1]
        assert first[1].guidance[0].text == DOCUMENTS[1]
        assert first[1].guidance[0].probability == pytest.approx(1.0)


def test_a_keyword_stands_for_its_sentence_in_a_model_of_sentences() -> None:
    model, tokenizer = texts_model()
    document = encode(tokenizer, DOCUMENTS[:1]).documents[0]
    named = {k for k, (start, end) in enumerate(document.spans) if "film" in document.text[start:end]}
    found = guide(model, tokenizer, DOCUMENTS[:1], keywords=["film"])
    assert 0 < len(named) < len(document.spans)
    assert [s in named for s in found["segment_ids"][0].tolist()] == found["guidance"][0].bool().tolist()


@given(st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_gate_is_widened_to_its_sentences(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    gate, segments = torch.rand(3, 8, generator=rng), torch.randint(-1, 4, (3, 8), generator=rng)
    found = widened(gate, segments)
    for b in range(3):
        for t in range(8):
            own = gate[b][segments[b] == segments[b, t]]
            assert found[b, t] == (0.0 if segments[b, t] < 0 else own.max())
