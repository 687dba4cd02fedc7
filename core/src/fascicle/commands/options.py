"""`fascicle list`: the options of every group, or all about one option."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, FascicleError
from ..optionfiles import find_option, option_files, require_group
from ..userfolders import require_user_folders

if TYPE_CHECKING:
    from ..optionfiles import OptionFile

__all__ = ["main"]

HELP = """\
usage: fascicle list [GROUP | GROUP/OPTION] [--json]

  fascicle list                       every option of every group
  fascicle list training              the options of one group
  fascicle list training/hf_lora      one option: what it is, and its keys with type, value and meaning
"""


def main(args: list[str]) -> int:
    """List options.

    Raises:
        ConfigError: no such group or option, or too many words.
        PluginError: the option of a plugin that is missing or broken.
    """
    words, flags = [a for a in args if not a.startswith("-")], {a for a in args if a.startswith("-")}
    if flags & {"-h", "--help"}:
        sys.stdout.write(HELP)
        return 0
    if len(words) > 1 or flags - {"--json"}:
        raise ConfigError(f"fascicle list takes one GROUP or GROUP/OPTION and --json, got {' '.join(args)!r}")
    require_user_folders()
    if words and "/" in words[0]:
        group, _, name = words[0].partition("/")
        return _one(find_option(group, name), as_json="--json" in flags)
    if words:
        require_group(words[0])
    return _many(option_files(words[0] if words else None), as_json="--json" in flags)


def _summary(file: OptionFile) -> dict[str, Any]:
    return {
        "group": file.group,
        "option": file.name,
        "provider": file.provider,
        "kind": file.kind,
        "plugin": file.plugin,
        "package": file.package,
        "description": file.description,
    }


def _many(files: list[OptionFile], *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps([_summary(file) for file in files], indent=1) + "\n")
        return 0
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("option", "provider", "from", "what it is"):
        table.add_column(column, overflow="fold")
    group = ""
    for file in files:
        if file.group != group:
            group = file.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(f"  {file.name}", file.provider, file.plugin, _plain(file.title))
    Console().print(table)
    return 0


def _one(file: OptionFile, *, as_json: bool) -> int:
    rows = _fields(file)
    if as_json:
        sys.stdout.write(json.dumps({**_summary(file), "keys": rows}, indent=1) + "\n")
        return 0
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{file.group}={file.name}[/bold]", highlight=False)
    if file.description:
        console.print(_plain(file.description), highlight=False)
    where = f"from {file.plugin} ({file.package})"
    answered = f"; provider {file.provider}, kind {file.kind}" if file.provider else ""
    console.print(f"[dim]{_plain(where)}{_plain(answered)}[/dim]", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("key", "type", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row["key"], _plain(row["type"]), _plain(json.dumps(row["value"])), _plain(row["doc"]))
    if rows:
        console.print(table)
    return 0


def _fields(file: OptionFile) -> list[dict[str, Any]]:
    """The option's keys: of its schema where it names one, else (an experiment) what the file sets."""
    from ..config import schema_fields

    if file.group == "experiment":
        rows = {
            "defaults": file.content.get("defaults", []),
            **{k: v for k, v in file.content.items() if k != "defaults"},
        }
        return [
            {"key": k, "type": "", "value": v, "default": None, "doc": ""}
            for k, v in rows.items()
            if v not in ([], None)
        ]
    node = _composed(file)
    from ..plugins import manager

    schema = manager().schema(file.group, str(node.get("kind")), str(node.get("provider")))
    return [
        {
            "key": f"{file.group}.{f.name}",
            "type": f.type,
            "value": _json(node[f.name]) if f.name in node else ("???" if f.required else _json(f.default)),
            "default": None if f.required else _json(f.default),
            "doc": f.doc,
        }
        for f in schema_fields(schema)
    ]


def _composed(file: OptionFile) -> dict[str, Any]:
    """What the file gives once its own defaults list is followed; the file alone where it has none."""
    if "defaults" not in file.content:
        return file.content
    from ..config import compose

    try:
        node = compose([f"{file.group}={file.name}"]).get(file.group)
    except FascicleError:
        node = None  # a value that must be given first; the file alone still says most
    return node if isinstance(node, dict) else file.content


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
