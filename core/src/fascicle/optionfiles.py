"""The option files as text: who ships them, what their leading comment says, what they set. For people, not for composing.

An option is a YAML file `<group>/<option>.yaml` of a package that a plugin names, or of a user's own folder. Its leading comment
says what it is; `provider` and `kind` say who answers for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from .errors import ConfigError
from .plugins import GROUPS, manager, suggest
from .userfolders import local_options

__all__ = ["OptionFile", "find_option", "leading_comment", "option_files"]


@dataclass(frozen=True, kw_only=True)
class OptionFile:
    """One option as its file shows it."""

    group: str
    name: str
    plugin: str
    """Who ships the file; `local` for a user's own."""
    package: str
    """The package, or the folder of a user's own file."""
    description: str
    """The leading comment."""
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """First line of the description."""
        return self.description.partition("\n")[0]

    @property
    def provider(self) -> str:
        """The plugin that answers for the option, where the file itself says so."""
        return str(self.content.get("provider", ""))

    @property
    def kind(self) -> str:
        """The provider's schema of the option, where the file itself says so."""
        return str(self.content.get("kind", ""))


def leading_comment(text: str) -> str:
    r"""The comment that a YAML file begins with, without `# @package`.

    >>> leading_comment("# @package _global_\n# Table 1.\n# Takes 2 min.\n\nseed: 1  # not this\n")
    'Table 1.\nTakes 2 min.'
    """
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.removeprefix("#").strip().startswith("@package"):
            lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return "\n".join(lines).strip()


def option_files(group: str | None = None) -> list[OptionFile]:
    """Every option file, of one group or of all, sorted; a user's own first where it shadows a package's.

    Raises:
        ConfigError: a file that is not YAML.
    """
    import yaml

    found = []
    for name in GROUPS if group is None else [group]:
        texts = [
            (option, "local", str(file.parent.parent), file.read_text(encoding="utf-8"))
            for option, file in local_options(name).items()
        ]
        for (owner_group, option), owners in manager().option_owners().items():
            if owner_group == name:
                for plugin, package in owners:
                    file = resources.files(package) / name / f"{option}.yaml"
                    texts.append((option, plugin, package, file.read_text(encoding="utf-8")))
        for option, plugin, package, text in sorted(texts, key=lambda row: row[0]):
            try:
                content = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ConfigError(f"{package}/{name}/{option}.yaml is not YAML: {error}") from error
            found.append(
                OptionFile(
                    group=name,
                    name=option,
                    plugin=plugin,
                    package=package,
                    description=leading_comment(text),
                    content=content if isinstance(content, dict) else {},
                )
            )
    return found


def find_option(group: str, name: str) -> OptionFile:
    """One option's file.

    Raises:
        ConfigError: no such group or option; names the nearest.
        PluginError: the option of a plugin that is missing or broken.
    """
    require_group(group)
    files = {file.name: file for file in reversed(option_files(group))}
    if name not in files:
        from .overrides import missing_option

        raise missing_option(group, name, sorted(files))
    return files[name]


def require_group(group: str) -> None:
    """Refuse a group that does not exist.

    Raises:
        ConfigError: names the groups and the nearest.
    """
    if group not in GROUPS:
        raise ConfigError(f"no group {group!r}.{suggest(group, GROUPS)} Groups: {', '.join(GROUPS)}")
