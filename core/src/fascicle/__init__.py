"""fascicle: papers as plugins around one thin core.

Public names resolve on first use, so `import fascicle` costs next to nothing; `fascicle.loradrop` is the module of the installed
plugin of that name.

>>> import fascicle
>>> fascicle.PluginInfo(name="toy", title="A toy").name
'toy'
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for typing's, whose import is most of what this package would cost

if TYPE_CHECKING:
    from typing import Any

    from .context import RunContext
    from .errors import ConfigError, DataError, FascicleError, OutputFolderError, PluginError, ResultError, SourceError
    from .hookspecs import hookimpl
    from .info import PluginInfo
    from .objects import (
        Block,
        Data,
        Decoder,
        Generation,
        LoadedModel,
        LossOutput,
        Metrics,
        Objective,
        Section,
        Step,
        TrainResult,
    )
    from .pipeline import run
    from .results import Result, find_results, read_result

__version__ = "0.1.0"

_HOMES = {
    "context": ["RunContext"],
    "errors": [
        "ConfigError",
        "DataError",
        "FascicleError",
        "OutputFolderError",
        "PluginError",
        "ResultError",
        "SourceError",
    ],
    "hookspecs": ["hookimpl"],
    "objects": [
        "Block",
        "Data",
        "Decoder",
        "Generation",
        "LoadedModel",
        "LossOutput",
        "Metrics",
        "Objective",
        "Section",
        "Step",
        "TrainResult",
    ],
    "info": ["PluginInfo"],
    "pipeline": ["run"],
    "results": ["Result", "find_results", "read_result"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Block",
    "ConfigError",
    "Data",
    "DataError",
    "Decoder",
    "FascicleError",
    "Generation",
    "LoadedModel",
    "LossOutput",
    "Metrics",
    "Objective",
    "OutputFolderError",
    "PluginError",
    "PluginInfo",
    "Result",
    "ResultError",
    "RunContext",
    "Section",
    "SourceError",
    "Step",
    "TrainResult",
    "__version__",
    "find_results",
    "hookimpl",
    "read_result",
    "run",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module
    from importlib.util import find_spec

    if name not in _HOME and find_spec(f"{__name__}.{name}") is not None:
        # `from . import name` asks here first and then imports it; no need to look through what is installed
        raise AttributeError(f"module 'fascicle' has no attribute {name!r} before 'import fascicle.{name}'")
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name.startswith("_") or (module := _plugin_module(name)) is None:
        raise AttributeError(
            f"module 'fascicle' has no attribute {name!r}; if it is a plugin, install it: pip install fascicle-{name}"
        )
    else:
        value = import_module(module)
    globals()[name] = value
    return value


def _plugin_module(name: str) -> str | None:
    """Top-level module of the installed plugin `name`, found without importing it."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="fascicle.plugins", name=name):
        return entry.value.partition(":")[0].partition(".")[0]
    return None


def __dir__() -> list[str]:
    return sorted(__all__)
