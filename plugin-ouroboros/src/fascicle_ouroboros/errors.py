"""The errors of this package (our choice, the paper does not say).

One small family: every message says what was expected, what came, and which argument to change. All are
[`ValueError`]s, so a caller who knows nothing of the package can still catch them.
"""

from __future__ import annotations

__all__ = ["OuroborosError", "PoolError", "UnsupportedError", "VocabularyError"]


class OuroborosError(ValueError):
    """Base of all errors raised on purpose by `fascicle_ouroboros`.

    Example:
        >>> issubclass(OuroborosError, ValueError)
        True
    """


class UnsupportedError(OuroborosError):
    """A way of generating that this engine cannot do losslessly (beams, embeddings as input, an encoder-decoder, ...)."""


class VocabularyError(OuroborosError):
    """Draft and target do not number their tokens alike."""


class PoolError(OuroborosError):
    """A saved phrase pool is damaged, of another version, or of another tokenizer."""
