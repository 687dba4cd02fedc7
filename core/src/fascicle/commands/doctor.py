"""`fascicle plugins doctor`: what is wrong with the environment. Loads no plugin, so that a broken one cannot stop it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = ["doctor", "stray_namespace_files"]

LIBRARIES = ("fascicle", "hydra-core", "omegaconf", "torch", "transformers", "peft", "accelerate", "datasets")
VARIABLES = (
    "FASCICLE_PLUGINS",
    "FASCICLE_DISABLE_PLUGINS",
    "FASCICLE_STRICT_PLUGINS",
    "FASCICLE_TRACE_PLUGINS",
    "FASCICLE_CONFIG_PATH",
    "FASCICLE_HYDRA",
    "HF_HUB_OFFLINE",
)


def doctor() -> int:
    """Say what is installed and what is wrong with it; 1 if something is."""
    say = sys.stdout.write
    say(f"python {platform.python_version()} at {sys.executable}\n")
    for name in LIBRARIES:
        say(f"{name} {_version(name)}\n")
    for variable in VARIABLES:
        if (value := os.environ.get(variable)) is not None:
            say(f"{variable}={value}\n")
    for entry in _entries():
        dist = entry.dist
        say(f"plugin {entry.name}: {dist.name if dist else '?'} {dist.version if dist else '?'} -> {entry.value}\n")
    problems = _missing_libraries() + _entry_point_problems() + _namespace_problems() + _path_problems()
    say("\n" + ("".join(f"problem: {problem}\n" for problem in problems) or "no problem found\n"))
    return 1 if problems else 0


def _entries() -> list[metadata.EntryPoint]:
    return sorted(metadata.entry_points(group="fascicle.plugins"), key=lambda entry: (entry.name, entry.value))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _missing_libraries() -> list[str]:
    found = [
        f"{name} is not installed: pip install fascicle" for name in LIBRARIES if _version(name) == "not installed"
    ]
    hydra = _version("hydra-core")
    if hydra.startswith("1.3") and sys.version_info >= (3, 14):
        found.append(f"hydra-core {hydra} does not work on Python 3.14: pip install 'hydra-core>=1.4.0rc3' --pre")
    return found


def _entry_point_problems() -> list[str]:
    found = []
    seen: dict[str, str] = {}
    for entry in _entries():
        module = entry.value.partition(":")[0]
        if entry.name in seen and seen[entry.name] != entry.value:
            found.append(f"two distributions are the plugin {entry.name!r}: {seen[entry.name]} and {entry.value}")
        seen[entry.name] = entry.value
        if find_spec(module.partition(".")[0]) is None:
            dist = entry.dist.name if entry.dist else entry.name
            found.append(
                f"plugin {entry.name!r}: its module {module} is not there; reinstall it: pip install --force-reinstall {dist}"
            )
    found += [
        f"{dist} declares the plugin {name!r} in its pyproject.toml since it was installed; run pip install -e again"
        for dist, names in _source_entry_points().items()
        for name in names
        if name not in seen
    ]
    return found


def _source_entry_points() -> dict[str, list[str]]:
    """Entry points that the sources of editable installs declare now; installing wrote down those of then."""
    import json
    import tomllib
    from urllib.parse import unquote, urlparse

    declared: dict[str, list[str]] = {}
    for dist in metadata.distributions():
        if not (dist.name or "").startswith("fascicle"):
            continue
        try:
            url = json.loads(dist.read_text("direct_url.json") or "{}").get("url", "")
            project = tomllib.loads((Path(unquote(urlparse(url).path)) / "pyproject.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # not editable, or its sources are gone: nothing to compare with
        declared[dist.name] = list(project.get("project", {}).get("entry-points", {}).get("fascicle.plugins", {}))
    return declared


def _namespace_problems() -> list[str]:
    found = []
    for file in stray_namespace_files():
        owner = _owner(file)
        found.append(
            f"{file} (of {owner}) hides the Hydra plugins of every other package. "
            f"Delete the file or uninstall {owner}; `fascicle run` works nevertheless"
        )
    return found


def stray_namespace_files() -> list[Path]:
    """`hydra_plugins/__init__.py` anywhere on the path: it turns the shared namespace into one package's own."""
    folders = [Path(entry or ".") / "hydra_plugins" / "__init__.py" for entry in sys.path]
    return sorted({file.resolve() for file in folders if file.is_file()})


def _owner(file: Path) -> str:
    for dist in metadata.distributions():
        for entry in dist.files or ():
            if entry.name == "__init__.py" and Path(str(dist.locate_file(entry))).resolve() == file:
                return dist.name
    return "no distribution"


def _path_problems() -> list[str]:
    from ..userfolders import CONFIG_PATH, user_config_folders

    return [f"{CONFIG_PATH}: {folder} is not a folder" for folder in user_config_folders() if not folder.is_dir()]
