"""What the engine needs to know of a model: which part generates, its vocabulary, how many positions it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import UnsupportedError, VocabularyError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_vocabulary", "decoder_of", "positions_left", "room_of", "vocabulary"]


def decoder_of(model: Any, what: str) -> Any:
    """The model that generates: a PEFT model's own base, whose layers hold the adapters."""
    peft = getattr(model, "peft_config", None)
    if isinstance(peft, dict) and any(getattr(c, "is_prompt_learning", False) for c in peft.values()):
        raise UnsupportedError(
            f"{what}: prompt-learning adapters put tokens of their own before the text; merge or drop them"
        )
    base = getattr(model, "get_base_model", None)
    inner = base() if callable(base) else model
    if getattr(inner.config, "is_encoder_decoder", False):
        raise UnsupportedError(f"{what}: expected a decoder-only model, got the encoder-decoder {type(inner).__name__}")
    return inner


def vocabulary(model: Any) -> int:
    """Tokens that the model can write; embeddings may be padded beyond the tokenizer's."""
    return int(model.get_output_embeddings().weight.shape[0])


def check_vocabulary(target: Any, draft: Any) -> None:
    """Refuse a draft model with another vocabulary. Sizes are all that models alone can tell.

    Raises:
        VocabularyError: the sizes are too far apart for one tokenizer.
    """
    sizes = [int(m.config.get_text_config(decoder=True).vocab_size) for m in (target, draft)]
    if abs(sizes[0] - sizes[1]) > 1024:  # the same tokenizer may be padded to another size
        raise VocabularyError(
            f"draft: its vocabulary has {sizes[1]} tokens, the target's {sizes[0]}; expected a draft with its tokenizer"
        )


def room_of(*models: Any) -> Callable[[int], int]:
    """Positions that all models can take beyond a text of some length, without a change of how they count them."""
    rules = [positions_left(m.config.get_text_config(decoder=True)) for m in models if m is not None]

    def room(length: int) -> int:
        return max(0, min((rule(length) for rule in rules), default=2**31))

    return room


def positions_left(config: Any) -> Callable[[int], int]:
    """How many positions a model has behind a text of some length before it would count them otherwise, or has none."""
    most = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [r for r in rope.values() if isinstance(r, dict)]
    names = {r.get("rope_type") for r in kinds}
    border = min((r.get("original_max_position_embeddings") or most or 2**31 for r in kinds), default=2**31)
    if "dynamic" in names:  # frequencies follow the last position
        return lambda length: border - length
    if "longrope" in names:  # they change once
        return lambda length: border - length if length <= border else 2**31
    if kinds or most is None:
        return lambda length: 2**31
    return lambda length: most - length  # learnt positions end
