"""What a plugin says about itself. Apart from the other objects, because every command asks it and they take longer to define."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["HOOK_API", "PluginInfo"]

HOOK_API = 1
"""Version of the hooks. A plugin states the one it was written for in `PluginInfo.hook_api`."""


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """What a plugin says about itself; plain data and strings, so that asking costs nothing.

    >>> PluginInfo(name="toy", title="A toy", options={"training/toy": "fascicle_toy.options:ToyOptions"}).hook_api
    1
    """

    name: str
    """Entry-point name: `loradrop` for the distribution `fascicle-loradrop`."""
    title: str
    """One line: what it gives a user."""
    paper: str = ""
    """Authors, title, venue, year."""
    bibtex: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    """`"group/kind"` to `"module:Dataclass"`: the schema that types and checks the option. The module must be light."""
    requires: Sequence[str] = ()
    """Distributions that a user must install beside it (wheels with weights, say), as pip would name them."""
    hook_api: int = HOOK_API
