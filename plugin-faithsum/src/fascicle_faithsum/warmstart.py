"""A BART whose encoder is a given BERT encoder, for where no encoder-decoder weights are at hand.

BERT's encoder layer and BART's compute the same thing, LN(h + Attention(h)) and then LN(h + FFN(h)), so the weights map one to one;
the decoder starts from the same layers, in the way of Rothe et al. 2020 (BERT2BERT), with the self-attention's weights for the
attention to the source as well. Two details differ. BERT adds an embedding of the token type: type 0 goes into the positions.
BERT's LayerNorms have epsilon 1e-12, BART's 1e-5, which matters where variances are small, in the sum of embeddings: there both
summands are scaled by sqrt(d), the words by `scale_embedding`, and the LayerNorm takes the factor out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import BartConfig, BartForConditionalGeneration

from .errors import GuidanceError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["bart_from_bert"]


def bart_from_bert(bert: Any, tokenizer: Any, *, decoder_layers: int = 3) -> BartForConditionalGeneration:
    """A BART whose encoder gives what the BERT gives, with a decoder that starts from its layers.

    Args:
        bert: a `BertModel`, or a model with one as its `bert`.
        tokenizer: of it; [CLS] begins a summary and [SEP] ends it.
        decoder_layers: at most the encoder's; they start from encoder layers at even distances.

    Raises:
        GuidanceError: another architecture, a tokenizer without these tokens, or too many layers.

    >>> from types import SimpleNamespace
    >>> from transformers import BertConfig, BertModel
    >>> config = BertConfig(
    ...     vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    ... )
    >>> ids = SimpleNamespace(cls_token_id=2, sep_token_id=3, pad_token_id=0)
    >>> bart = bart_from_bert(BertModel(config), ids, decoder_layers=1)
    >>> bart.config.decoder_start_token_id, len(bart.model.decoder.layers)
    (2, 1)
    """
    encoder = getattr(bert, "bert", bert)
    source: Any = getattr(encoder, "config", None)
    if getattr(source, "model_type", None) != "bert" or not hasattr(encoder, "embeddings") or source.is_decoder:
        raise GuidanceError(f"warm start: got {type(bert).__name__}, expected a BERT encoder (BertModel)")
    begin, end, pad = (getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "pad"))
    if begin is None or end is None or pad is None:
        raise GuidanceError(
            f"warm start: the tokenizer has [CLS] {begin}, [SEP] {end}, [PAD] {pad}; expected an id for each"
        )
    if not 1 <= decoder_layers <= source.num_hidden_layers:
        raise GuidanceError(
            f"decoder_layers: got {decoder_layers}, expected 1 to {source.num_hidden_layers}, the encoder's layers"
        )
    config = BartConfig(
        vocab_size=source.vocab_size,
        max_position_embeddings=source.max_position_embeddings,
        d_model=source.hidden_size,
        encoder_layers=source.num_hidden_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=source.num_attention_heads,
        decoder_attention_heads=source.num_attention_heads,
        encoder_ffn_dim=source.intermediate_size,
        decoder_ffn_dim=source.intermediate_size,
        activation_function=source.hidden_act,
        dropout=source.hidden_dropout_prob,
        attention_dropout=source.attention_probs_dropout_prob,
        activation_dropout=0.0,
        init_std=source.initializer_range,
        scale_embedding=True,
        bos_token_id=begin,
        decoder_start_token_id=begin,
        eos_token_id=end,
        forced_eos_token_id=end,
        pad_token_id=pad,
    )
    bart: BartForConditionalGeneration = BartForConditionalGeneration._from_config(  # type: ignore[no-untyped-call]
        config, dtype=encoder.dtype, attn_implementation=source._attn_implementation
    )
    with torch.no_grad():
        _copy_embeddings(bart, encoder.embeddings)
        layers = encoder.encoder.layer
        for to, layer in zip(bart.model.encoder.layers, layers, strict=True):
            _copy_layer(to, layer)
        for number, to in enumerate(bart.model.decoder.layers):
            layer = layers[_even(number, decoder_layers, len(layers))]
            _copy_layer(to, layer)
            _copy_attention(to.encoder_attn, layer)
            _copy(to.encoder_attn_layer_norm, layer.attention.output.LayerNorm)
    bart.to(encoder.device)
    bart.train(encoder.training)
    return bart


def _even(number: int, count: int, of: int) -> int:
    """Places at even distances, the first and the last among them.

    >>> [_even(n, 3, 6) for n in range(3)], _even(0, 1, 6)
    ([0, 2, 5], 5)
    """
    return of - 1 if count == 1 else round(number * (of - 1) / (count - 1))


def _copy_embeddings(bart: Any, embeddings: Any) -> None:
    bart.model.shared.weight.copy_(embeddings.word_embeddings.weight)
    positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    for side in (bart.model.encoder, bart.model.decoder):
        table = side.embed_positions
        table.weight.zero_()
        table.weight[table.offset :] = positions * bart.config.d_model**0.5
        _copy(side.layernorm_embedding, embeddings.LayerNorm)


def _copy_layer(to: Any, layer: Any) -> None:
    _copy_attention(to.self_attn, layer)
    _copy(to.self_attn_layer_norm, layer.attention.output.LayerNorm)
    _copy(to.fc1, layer.intermediate.dense)
    _copy(to.fc2, layer.output.dense)
    _copy(to.final_layer_norm, layer.output.LayerNorm)


def _copy_attention(to: Any, layer: Any) -> None:
    attention = layer.attention
    _copy(to.q_proj, attention.self.query)
    _copy(to.k_proj, attention.self.key)
    _copy(to.v_proj, attention.self.value)
    _copy(to.out_proj, attention.output.dense)


def _copy(to: nn.Module, start: nn.Module) -> None:
    to.load_state_dict(start.state_dict())
