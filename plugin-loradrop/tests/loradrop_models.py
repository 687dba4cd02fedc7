"""Tiny random models and batches for the LoRA-drop tests: no tokenizer, no hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from torch import Tensor, nn

BERT_TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
T5_TARGETS = ["q", "k", "v", "o", "wi", "wo"]
VOCAB = 64
LENGTHS = (9, 4, 7, 2)


def bert_base(seed: int = 0, layers: int = 6, dropout: float = 0.0, width: int = 16) -> BertForSequenceClassification:
    """A classifier with three classes; its targets have three shapes."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=4 * width,
        max_position_embeddings=32,
        num_labels=3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForSequenceClassification(config).eval()


def llama_base(seed: int = 0, layers: int = 6) -> LlamaForCausalLM:
    """A causal model with grouped queries: keys and values are narrower than queries."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        use_cache=False,
    )
    return LlamaForCausalLM(config).eval()


def t5_base(seed: int = 0, layers: int = 2) -> T5ForConditionalGeneration:
    """An encoder-decoder."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=VOCAB,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=layers,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval()


def lora_config(targets: Sequence[str], task: str | None = None, **options: Any) -> LoraConfig:
    """r = 4 and s = 2 unless told otherwise."""
    return LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": list(targets), "task_type": task, "lora_dropout": 0.0, **options}
    )


def bert(seed: int = 0, layers: int = 6, dropout: float = 0.0, **options: Any) -> PeftModel:
    return get_peft_model(bert_base(seed, layers, dropout), lora_config(BERT_TARGETS, "SEQ_CLS", **options))


def llama(seed: int = 0, layers: int = 6, **options: Any) -> PeftModel:
    return get_peft_model(llama_base(seed, layers), lora_config(LLAMA_TARGETS, "CAUSAL_LM", **options))


def t5(seed: int = 0, **options: Any) -> PeftModel:
    """A plain PeftModel: PEFT's own sequence-to-sequence wrapper needs a matching transformers release."""
    return get_peft_model(t5_base(seed), lora_config(T5_TARGETS, **options))


def wake(model: nn.Module, seed: int = 1, std: float = 0.1) -> nn.Module:
    """Give every B (and its bias) random values of module-dependent size, as a probe would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                size = std * (0.2 + 2 * torch.rand((), generator=generator))
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return model


def token_batch(
    lengths: Sequence[int] = LENGTHS, pad_to: int | None = None, seed: int = 0, causal: bool = False
) -> dict[str, Tensor]:
    """Sequences of these lengths, padded on the right. Row i holds the same tokens whatever the padding."""
    longest = pad_to or max(lengths)
    ids = torch.zeros(len(lengths), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + row)
        ids[row, :length] = torch.randint(1, VOCAB, (length,), generator=generator)
        mask[row, :length] = 1
    labels = ids.masked_fill(mask == 0, -100) if causal else torch.arange(len(lengths)) % 3
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def rows_of(batch: dict[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """Some examples of a batch."""
    return {key: value[list(rows)] for key, value in batch.items()}


def seq2seq_batch(source: Sequence[int], target: Sequence[int], seed: int = 0) -> dict[str, Tensor]:
    """Source and target sequences of these lengths, each padded to its longest."""
    left, right = token_batch(source, seed=seed), token_batch(target, seed=seed + 1, causal=True)
    return {"input_ids": left["input_ids"], "attention_mask": left["attention_mask"], "labels": right["labels"]}


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def descend(model: nn.Module, batches: Sequence[dict[str, Tensor]], steps: int, lr: float = 1e-2) -> list[float]:
    """AdamW on the model's own loss; the loss of each step."""
    model.train()
    optimizer = torch.optim.AdamW(trainable(model), lr=lr)
    losses = []
    for step in range(steps):
        loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """In eval mode; the mode is restored."""
    training = model.training
    model.eval()
    out = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    model.train(training)
    return out
