"""One spelling for the words of vectors and of dictionaries: without it `é` (one sign) and `é` (two) are different words.

Source: our choice; the paper does not say. MUSE's dictionaries are in lower case and NFC.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Literal

__all__ = ["NormalForm", "speller"]

NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]
"""Unicode's normal forms; NFC joins a letter and its accent."""


def speller(*, lower: bool = False, normalize_unicode: NormalForm | None = "NFC") -> Callable[[str], str]:
    """The function that spells a word in one way.

    >>> speller(lower=True)("E\\N{COMBINING ACUTE ACCENT}TE\\N{COMBINING ACUTE ACCENT}")
    'été'
    >>> speller(normalize_unicode=None)("Été")
    'Été'
    """

    def spell(word: str) -> str:
        if word.isascii():
            return word.lower() if lower else word
        word = word.lower() if lower else word
        return unicodedata.normalize(normalize_unicode, word) if normalize_unicode else word

    return spell
