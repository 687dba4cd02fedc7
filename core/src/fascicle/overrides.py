"""Overrides as people type them, and Hydra's complaints in our words.

Hydra is strict about keys that a file does not show and terse about what is missing. Here a dotted key of ours is opened
(`training.threshold=0.9` becomes `++training.threshold=0.9`), so that our own schema judges it and names the nearest key; and an
option that does not exist is explained by what exists, what was probably meant, and which package would bring it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from .errors import ConfigError, PluginError
from .hookspecs import VERBS
from .plugins import manager, suggest

if TYPE_CHECKING:
    from .errors import FascicleError

__all__ = ["close_keys", "explain", "known_plugins", "open_keys"]

TOP_KEYS = ("seed", "name", "description", "run", "report")
GROUPS = (*VERBS, "experiment")
_OPENABLE = re.compile(rf"({'|'.join((*VERBS, *TOP_KEYS))})\.[^=]*=", re.DOTALL)


def open_keys(overrides: Iterable[str]) -> list[str]:
    """Let every dotted key of ours be set, whether or not the option's file shows it; the schema judges it later.

    >>> open_keys(["training.threshold=0.9", "seed=1", "+data.x=1", "training=hf_lora", "hydra.verbose=true"])
    ['++training.threshold=0.9', 'seed=1', '+data.x=1', 'training=hf_lora', 'hydra.verbose=true']
    """
    return [f"++{override}" if _OPENABLE.match(override) else override for override in overrides]


def close_keys(overrides: Iterable[str]) -> list[str]:
    """The overrides as they were typed.

    >>> close_keys(open_keys(["training.threshold=0.9", "+seed=1"]))
    ['training.threshold=0.9', '+seed=1']
    """
    return [
        override[2:] if override.startswith("++") and _OPENABLE.match(override[2:]) else override
        for override in overrides
    ]


@cache
def known_plugins() -> dict[str, dict[str, str]]:
    """The index of plugins that the core knows by name, installed or not: name to `dist` and `title`.

    >>> known_plugins()["loradrop"]["dist"]
    'fascicle-loradrop'
    """
    text = (resources.files("fascicle") / "known_plugins.json").read_text(encoding="utf-8")
    index: dict[str, dict[str, str]] = json.loads(text)
    return index


def explain(error: Exception) -> FascicleError:
    """What a Hydra or OmegaConf error means for the user: an error of ours to raise from it, or from the cause it has already."""
    missing, options = getattr(error, "missing_cfg_file", None), getattr(error, "options", None)
    if isinstance(missing, str) and "/" in missing:
        group, _, option = missing.partition("/")
        return missing_option(group, option, options or [])
    text = str(error).strip() or str(error.__cause__ or type(error).__name__)
    if (
        match := re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", text)
    ) is not None:
        key = match.group(1)
        known = (*GROUPS, *TOP_KEYS)
        top = key.split(".")[0].split("@")[0]
        if top not in known and not top.startswith("hydra"):
            return ConfigError(
                f"{key}: no such key.{suggest(top, known)} Known keys and groups: {', '.join(sorted(known))}"
            )
    if "group/option" in text or type(error).__name__ == "OverrideParseException":
        text += (
            "\nAn override is key=value; quote it for the shell where it holds blanks, brackets or quotes: 'key=[a,b]'"
        )
    cause = str(error.__cause__) if error.__cause__ is not None and str(error.__cause__) not in text else ""
    return ConfigError("\n".join(part for part in (text, cause) if part))


def missing_option(group: str, option: str, available: Sequence[str]) -> FascicleError:
    """The error for a choice that no installed package offers.

    Returns:
        A `PluginError` where the option is one of a plugin that is missing, blocked or broken, else a `ConfigError`.
    """
    installed = {record.name: record for record in manager().plugins}
    plugin = _owner_by_name(option, {*known_plugins(), *installed})
    if plugin is not None and plugin in installed and installed[plugin].status != "ok":
        try:
            manager().usable(plugin)
        except PluginError as error:
            told = PluginError(f"{group}={option}: {error}")
            told.__cause__ = error.__cause__
            return told
    names = f"Available options of {group}: {', '.join(sorted(available)) or 'none'}"
    if plugin is not None and plugin not in installed:
        dist = known_plugins()[plugin]["dist"]
        return PluginError(
            f"{group}={option}: this option belongs to the plugin {plugin!r}, which is not installed. "
            f"Install it with: pip install {dist}\n{names}"
        )
    if group not in GROUPS:
        return ConfigError(f"{group}={option}: no such option. {names}")
    return ConfigError(f"{group}={option}: no such option.{_suggest_option(option, available)} {names}")


def _owner_by_name(option: str, plugins: Iterable[str]) -> str | None:
    """The plugin to whose name an option's begins; `lora_drop` counts as `loradrop`."""
    plain = option.replace("_", "").replace("-", "").lower()
    exact = [p for p in plugins if option == p or option.startswith(f"{p}_")]
    loose = [p for p in plugins if len(p) > 3 and plain.startswith(p.replace("_", "").replace("-", ""))]
    return max(exact or loose, key=len, default=None)


def _suggest_option(option: str, available: Sequence[str]) -> str:
    plain = {name.replace("_", ""): name for name in available}
    if (same := plain.get(option.replace("_", "").replace("-", "").lower())) is not None:
        return f" Did you mean {same!r}?"
    return suggest(option, available)
