"""For the tests of plugins: a conformance suite to subclass, a run context, throw-away plugins, whole runs in a subprocess.

>>> import tempfile, pathlib
>>> run_context(pathlib.Path(tempfile.mkdtemp()), seed=3).seed
3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conformance import PluginConformance
    from .fakes import write_plugin
    from .helpers import load, run_context, run_fascicle, run_python

_HOME = {
    "PluginConformance": "conformance",
    "load": "helpers",
    "run_context": "helpers",
    "run_fascicle": "helpers",
    "run_python": "helpers",
    "write_plugin": "fakes",
}

__all__ = ["PluginConformance", "load", "run_context", "run_fascicle", "run_python", "write_plugin"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fascicle.testing' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value
