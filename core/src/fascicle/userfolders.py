"""A user's own option files: the folders of `FASCICLE_CONFIG_PATH`, which stand in front of every package.

A file there may shadow a packaged option on purpose; whoever runs it is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .errors import ConfigError

__all__ = ["CONFIG_PATH", "local_options", "require_user_folders", "shadowed", "user_config_folders"]

CONFIG_PATH = "FASCICLE_CONFIG_PATH"


def user_config_folders() -> list[Path]:
    """The folders that `FASCICLE_CONFIG_PATH` names, absolute, in order, existing or not.

    >>> import os
    >>> os.environ["FASCICLE_CONFIG_PATH"] = os.pathsep.join(["/a", "", "/b"])
    >>> [str(folder) for folder in user_config_folders()]
    ['/a', '/b']
    >>> del os.environ["FASCICLE_CONFIG_PATH"]
    """
    words = os.environ.get(CONFIG_PATH, "").split(os.pathsep)
    return [Path(word.strip()).expanduser().absolute() for word in words if word.strip()]


def require_user_folders() -> None:
    """Refuse a `FASCICLE_CONFIG_PATH` that names something else than folders.

    Raises:
        ConfigError: names the entry.
    """
    for folder in user_config_folders():
        if not folder.is_dir():
            raise ConfigError(f"{CONFIG_PATH}: {folder} is not a folder; create it, or take it out of the variable")


def local_options(group: str) -> dict[str, Path]:
    """The user's own options of one group; the first folder wins, as in Hydra."""
    found: dict[str, Path] = {}
    for folder in user_config_folders():
        for file in sorted((folder / group).glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def shadowed(choices: Mapping[str, str]) -> list[str]:
    """One sentence for each chosen option that a user's own file takes from a plugin or from the core."""
    from .plugins import manager

    owners = manager().option_owners()
    return [
        f"{group}={option} is read from {file} ({CONFIG_PATH}), not from the plugin {owners[group, option][0][0]!r}"
        for group, option in choices.items()
        if (file := local_options(group).get(option)) is not None and (group, option) in owners
    ]
