"""Errors of the plugin. Light: no torch."""

from __future__ import annotations

from fascicle.errors import DataError, FascicleError

__all__ = ["DocumentError", "ModelError", "SiefError"]


class SiefError(FascicleError):
    """Something about relations, documents or importance that cannot be done.

    >>> issubclass(DocumentError, SiefError)
    True
    """


class DocumentError(SiefError, DataError):
    """A document that contradicts itself, or a file that does not hold documents.

    >>> raise DocumentError("document 'd': entities[0][0]: words [2, 1)")
    Traceback (most recent call last):
    ...
    fascicle_sief.errors.DocumentError: document 'd': entities[0][0]: words [2, 1)
    """


class ModelError(SiefError):
    """A model that cannot do what is asked of it."""
