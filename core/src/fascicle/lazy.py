"""Public names of a package that resolve on first use, so that importing the package costs next to nothing.

Only the standard library is imported here, and little of it: every plugin's package begins with this module.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # as in the package itself

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["attach"]


def attach(package: str, homes: Mapping[str, Iterable[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names come from its modules when they are first asked for.

    The package keeps a written `__all__`, and imports of the same names under `if TYPE_CHECKING:`, for type checkers and editors.

    Args:
        package: its `__name__`.
        homes: module of the package to the names that it has.

    Example:
        >>> __getattr__, __dir__ = attach("json", {"decoder": ("JSONDecoder",)})
        >>> __getattr__("JSONDecoder").__name__, "JSONDecoder" in __dir__()
        ('JSONDecoder', True)
        >>> __getattr__("YAMLDecoder")
        Traceback (most recent call last):
        ...
        AttributeError: module 'json' has no attribute 'YAMLDecoder'
    """
    home = {name: module for module, names in homes.items() for name in names}
    space = vars(sys.modules[package])

    def resolve(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f".{home[name]}", package), name)
        space[name] = found  # a module of the same name, once imported, would stand in its place
        return found

    def names() -> list[str]:
        return sorted({*space, *home})

    return resolve, names
