"""Tiny random models with a tokenizer built in code: no download, a few hundred thousand weights, learning in seconds.

The tokenizer is byte-level, so any text fits and comes back unchanged. With `words` it has one token for each word that the
generated data uses (learned by BPE from that lexicon, which is the same in every run).
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from .generated import lexicon

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .model_options import Tiny

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "build_tiny",
    "byte_level_bpe",
    "state_fingerprint",
    "task_of",
    "tiny_tokenizer",
    "wrapped_tokenizer",
]

PAD, BOS, EOS, UNK, MASK = "<pad>", "<s>", "</s>", "<unk>", "<mask>"
SPECIAL = [PAD, BOS, EOS, UNK, MASK]
SPREAD = 0.05
"""Standard deviation of the first weights. The usual 0.02 suits widths of many hundreds; narrow models learn faster so."""
TASKS = {"bert": "classification", "llama": "causal_lm", "bart": "seq2seq"}


def task_of(options: Tiny) -> str:
    """What the architecture is for.

    >>> from fascicle.hf.model_options import Tiny
    >>> task_of(Tiny(architecture="llama"))
    'causal_lm'
    """
    return "encoder" if options.architecture == "bert" and options.head == "none" else TASKS[options.architecture]


def build_tiny(
    options: Tiny, *, seed: int, num_labels: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random model and its tokenizer.

    >>> from fascicle.hf.model_options import Tiny
    >>> model, tokenizer = build_tiny(Tiny(architecture="llama", hidden_size=16, layers=1, heads=2), seed=1)
    >>> model.num_parameters() < 100_000, tokenizer.decode(tokenizer("Hi, you!").input_ids, skip_special_tokens=True)
    (True, 'Hi, you!')
    """
    from .models import seeded

    tokenizer = tiny_tokenizer(options)
    with seeded(seed):
        model = _MAKERS[options.architecture](options, len(tokenizer), num_labels)
    model.train(False)
    return model, tokenizer


def state_fingerprint(model: torch.nn.Module) -> str:
    """sha256 over names, types, shapes and values of the state dict.

    >>> torch.manual_seed(0) and len(state_fingerprint(torch.nn.Linear(2, 2)))
    64
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# ---- the three architectures ---------------------------------------------------------------------------------------------


def _bert(options: Tiny, vocab_size: int, num_labels: int | None) -> PreTrainedModel:
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.hidden_size,
        max_position_embeddings=options.max_length,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        initializer_range=SPREAD,
        **_ids(),
    )
    if options.head == "none":
        return BertModel(config)
    config.num_labels = num_labels or 2
    return BertForSequenceClassification(config)


def _llama(options: Tiny, vocab_size: int, num_labels: int | None) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            num_key_value_heads=options.heads,
            intermediate_size=3 * options.hidden_size,
            max_position_embeddings=options.max_length,
            attention_dropout=options.dropout,
            tie_word_embeddings=True,
            initializer_range=SPREAD,
            **_ids(),
        )
    )


def _bart(options: Tiny, vocab_size: int, num_labels: int | None) -> PreTrainedModel:
    from transformers import BartConfig, BartForConditionalGeneration

    width = 4 * options.hidden_size
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=vocab_size,
            d_model=options.hidden_size,
            encoder_layers=options.layers,
            decoder_layers=options.layers,
            encoder_attention_heads=options.heads,
            decoder_attention_heads=options.heads,
            encoder_ffn_dim=width,
            decoder_ffn_dim=width,
            max_position_embeddings=options.max_length,
            dropout=options.dropout,
            attention_dropout=options.dropout,
            decoder_start_token_id=_ids()["eos_token_id"],
            forced_eos_token_id=None,
            init_std=SPREAD,
            **_ids(),
        )
    )


_MAKERS = {"bert": _bert, "llama": _llama, "bart": _bart}


def _ids() -> dict[str, Any]:
    return {f"{name}_token_id": SPECIAL.index(token) for name, token in (("pad", PAD), ("bos", BOS), ("eos", EOS))}


# ---- the tokenizer -------------------------------------------------------------------------------------------------------


def tiny_tokenizer(options: Tiny) -> PreTrainedTokenizerBase:
    """The tokenizer of a tiny model; every call gives a new one, with the same ids.

    >>> from fascicle.hf.model_options import Tiny
    >>> tokenizer = tiny_tokenizer(Tiny())
    >>> tokenizer.convert_ids_to_tokens(tokenizer("it was not good")["input_ids"])
    ['<s>', 'it', 'Ġwas', 'Ġnot', 'Ġgood', '</s>']
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_str(_vocabulary(options.tokenizer))
    single, pair = {
        "bert": (f"{BOS} $A {EOS}", f"{BOS} $A {EOS} $B:1 {EOS}:1"),
        "bart": (f"{BOS} $A {EOS}", f"{BOS} $A {EOS} {EOS} $B {EOS}"),
        "llama": (f"{BOS} $A", f"{BOS} $A $B"),
    }[options.architecture]
    tokenizer.post_processor = TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, SPECIAL.index(token)) for token in (BOS, EOS)]
    )
    return wrapped_tokenizer(
        tokenizer,
        options.max_length,
        unk_token=UNK,
        mask_token=MASK,
        cls_token=BOS,
        sep_token=EOS,
        padding_side="right",
        model_input_names=[
            "input_ids",
            "attention_mask",
            *(["token_type_ids"] if options.architecture == "bert" else []),
        ],
    )


def wrapped_tokenizer(tokenizer: Tokenizer, max_length: int, **settings: Any) -> PreTrainedTokenizerBase:
    """A tokenizer of the library `tokenizers` as one of transformers, with this module's `PAD`, `BOS` and `EOS`.

    Args:
        tokenizer: with its template, if it has one.
        max_length: tokens that the model takes.
        **settings: further ones of `PreTrainedTokenizerFast`, such as `unk_token`.

    Example:
        >>> wrapped = wrapped_tokenizer(byte_level_bpe(["a cat"], 300, [PAD, BOS, EOS]), 64)
        >>> (
        ...     wrapped.pad_token_id,
        ...     wrapped.eos_token,
        ...     wrapped.model_max_length,
        ...     wrapped.decode(wrapped("a cat").input_ids),
        ... )
        (0, '</s>', 64, 'a cat')
    """
    from transformers import PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerBase = make(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        **settings,
    )
    return made


def byte_level_bpe(texts: Iterable[str], size: int, special: Sequence[str], *, min_frequency: int = 0) -> Tokenizer:
    """BPE learnt from the texts, over bytes, so that any text fits and comes back unchanged. It has no template.

    Args:
        texts: to learn from.
        size: tokens at most; the special ones and the 256 bytes are among them, and are there in any case.
        special: tokens with the first ids, in this order.
        min_frequency: how often a pair must stand in the texts to become a token.

    Example:
        >>> tokenizer = byte_level_bpe(["the cat", "the dog"] * 5, 300, ["<pad>"])
        >>> tokenizer.encode("the cat").tokens, tokenizer.token_to_id("<pad>")
        (['the', 'Ġcat'], 0)
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer: Tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@cache
def _vocabulary(kind: str) -> str:
    """The tokenizer without its template, as JSON."""
    words = lexicon() if kind == "words" else []
    forms = [form for word in words for form in (word, word.capitalize())]
    texts = [text for form in forms for text in (form, f" {form}")]
    return byte_level_bpe(texts, 100_000, SPECIAL, min_frequency=1).to_str()
