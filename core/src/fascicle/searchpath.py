"""The one Hydra plugin of fascicle: puts the option files of the core and of every usable plugin on the search path.

Hydra finds it three ways: the entry point `hydra.plugins` (1.4), the module in `hydra_plugins` (1.3), and our own command line,
which registers it. So every Hydra application of the environment sees the groups, and only this class has to know Hydra.
`FASCICLE_CONFIG_PATH=dir1:dir2` puts a user's own folders in front; `FASCICLE_HYDRA=0` keeps the groups out of other applications.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.plugins.search_path_plugin import SearchPathPlugin

from .userfolders import user_config_folders

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath

__all__ = ["FascicleSearchPath"]

log = logging.getLogger("fascicle.searchpath")


class FascicleSearchPath(SearchPathPlugin):
    """Appends `pkg://fascicle.conf` and the plugins' packages, sorted by plugin name, behind the application's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra once per application, before anything is composed."""
        if os.environ.get("FASCICLE_HYDRA") == "0":
            return
        from .plugins import manager  # inside: every Hydra application of the environment imports this module

        present = {element.path for element in search_path.get_path()}
        has_main = any(element.provider == "main" for element in search_path.get_path())
        folders = [folder for folder in user_config_folders() if _usable(folder)]
        for folder in folders if has_main else reversed(folders):  # without an anchor each goes to the very front
            search_path.prepend("fascicle-local", f"file://{folder}", anchor="main")
        for packages in manager().config_packages().values():
            for package in packages:
                if (path := f"pkg://{package}") not in present:
                    search_path.append("fascicle", path)


def _usable(folder: Path) -> bool:
    if not folder.is_dir():
        log.warning("FASCICLE_CONFIG_PATH: %s is not a folder; left out", folder)
        return False
    return True
