"""The errors a user can meet. Each message says what was expected, what came, and what to change."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "FascicleError",
    "OutputFolderError",
    "PluginError",
    "ResultError",
    "SourceError",
]


class FascicleError(Exception):
    """Anything fascicle refuses, with the reason and the remedy; the command line prints it without a traceback."""


class ConfigError(FascicleError, ValueError):
    """A configuration that cannot run: unknown option or key, wrong type, value out of range."""


class PluginError(FascicleError):
    """A plugin that is missing, broken, incompatible, or in conflict with another."""


class DataError(FascicleError, ValueError):
    """Data that cannot be used: a missing file, a malformed row, an empty set, a label outside the classes."""


class SourceError(FascicleError):
    """Weights or data that none of the named sources has."""


class OutputFolderError(FascicleError):
    """An output folder that belongs to another run, or is in use by one."""


class ResultError(FascicleError):
    """A result that cannot be written or read: disk full, damaged file, unknown schema version."""
