"""Errors of the plugin. Light: no numpy, no torch."""

from __future__ import annotations

from fascicle.errors import DataError, FascicleError

__all__ = ["DictionaryError", "MapError", "StatesError", "VectorError", "WcsError"]


class WcsError(FascicleError):
    """Something about words, vectors or maps that cannot be done.

    >>> issubclass(VectorError, WcsError)
    True
    """


class VectorError(WcsError, DataError):
    """A file that does not hold word vectors, or vectors that do not fit what is asked of them.

    >>> raise VectorError("en.vec: line 3: 299 numbers, expected 300")
    Traceback (most recent call last):
    ...
    fascicle_wcs.errors.VectorError: en.vec: line 3: 299 numbers, expected 300
    """


class DictionaryError(WcsError, DataError):
    """A bilingual dictionary that cannot be read, or that shares no words with the vectors."""


class MapError(WcsError):
    """A map that cannot be fitted, saved, loaded or applied."""


class StatesError(WcsError):
    """A model whose word states cannot be read or changed as asked."""
