"""Errors of the plugin. Light: no torch."""

from __future__ import annotations

from fascicle.errors import DataError, FascicleError

__all__ = ["FaithsumError", "GuidanceError", "MetricError"]


class FaithsumError(FascicleError):
    """Something about guidance, summaries or their scores that cannot be done; says what came, what was expected, what to do.

    >>> issubclass(GuidanceError, FaithsumError)
    True
    """


class GuidanceError(FaithsumError, DataError):
    """Guidance that does not fit the document, or a model that cannot be guided so."""


class MetricError(FaithsumError, DataError):
    """Texts or scores that a metric cannot measure."""
