"""`fascicle plugins`: what is installed, whether it is sound (`check`), and what is wrong with the environment (`doctor`)."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, PluginError
from ..plugins import manager, suggest

if TYPE_CHECKING:
    from ..plugins import PluginRecord

__all__ = ["main"]

HELP = """\
usage: fascicle plugins [--json] | check [NAME] | doctor

  fascicle plugins          every plugin: version, status, hooks, options, and what is wrong with a broken one
  fascicle plugins check    look at every plugin's hooks, option files and schemas; status 1 if something is wrong
  fascicle plugins doctor   look at the environment without loading any plugin

environment: FASCICLE_PLUGINS=a,b allows only these (empty: none), FASCICLE_DISABLE_PLUGINS=a blocks,
FASCICLE_STRICT_PLUGINS=1 raises at a broken one, FASCICLE_TRACE_PLUGINS=1 says who answers each hook.
"""


def main(args: list[str]) -> int:
    """List, check or diagnose.

    Raises:
        ConfigError: an unknown word.
        PluginError: `check NAME` of a plugin that is not installed.
    """
    match args:
        case ["-h" | "--help"]:
            sys.stdout.write(HELP)
            return 0
        case []:
            return _table()
        case ["--json"]:
            sys.stdout.write(json.dumps(_rows(), indent=1) + "\n")
            return 0
        case ["check"]:
            return _check(None)
        case ["check", name]:
            return _check(name)
        case ["doctor"]:
            from .doctor import doctor

            return doctor()
    near = suggest(args[0], ("check", "doctor", "--json"))
    raise ConfigError(f"fascicle plugins: cannot understand {' '.join(args)!r}.{near}\n{HELP}")


def _rows() -> list[dict[str, Any]]:
    options = Counter(plugin for owners in manager().option_owners().values() for plugin, _ in owners)
    return [
        {
            "name": record.name,
            "dist": record.dist,
            "version": record.version,
            "status": record.status,
            "title": record.info.title if record.info else "",
            "paper": record.info.paper if record.info else "",
            "hooks": record.hooks,
            "options": options[record.name],
            "error": record.error,
            "problems": record.problems,
        }
        for record in manager().plugins
    ]


COLUMNS = ("plugin", "version", "status", "hooks", "options", "what it is")


def _table() -> int:
    rows = []
    for row in _rows():
        said = "; ".join([text for text in (row["error"], *row["problems"]) if text]) or row["title"]
        version = f"{row['dist']} {row['version']}"
        rows.append([row["name"], version, row["status"], str(len(row["hooks"])), str(row["options"]), said])
    if sys.stdout.isatty():
        _draw(rows)
    else:  # a plugin a line, for those who search in them; and rich takes a third of the time that this may take
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for line in [list(COLUMNS), *rows]:
            cells = [" ".join(cell.split()).ljust(width) for cell, width in zip(line, widths, strict=True)]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
    return 0


def _draw(rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold", justify="right" if column in ("hooks", "options") else "left")
    colours = {"ok": "green", "broken": "red", "incompatible": "red", "blocked": "yellow"}
    for name, version, status, hooks, options, said in rows:
        table.add_row(Text(name), Text(version), Text(status, style=colours[status]), hooks, options, Text(said))
    Console(emoji=False, markup=False, highlight=False).print(table)


def _check(name: str | None) -> int:
    if name is not None and manager().get(name) is None:
        manager().usable(name)  # raises what a missing plugin deserves
    records = [record for record in manager().plugins if name in (None, record.name) and record.status != "blocked"]
    wrong = 0
    for record in records:
        problems = problems_of(record)
        wrong += bool(problems)
        sys.stdout.write(f"{record.name} ({record.dist} {record.version}): {'wrong' if problems else 'ok'}\n")
        sys.stdout.writelines(f"  - {problem}\n" for problem in problems)
        if record.traceback and os.environ.get("FASCICLE_LOG_LEVEL") == "debug":
            sys.stdout.write(record.traceback)
    return 1 if wrong else 0


def problems_of(record: PluginRecord) -> list[str]:
    """Everything that can be said against a plugin without running it."""
    if record.status in ("broken", "incompatible"):
        return [record.error]
    problems = list(record.problems)
    for target in record.info.options if record.info else ():
        group, _, kind = target.partition("/")
        try:
            manager().schema(group, kind, record.name)
        except PluginError as error:
            problems.append(str(error))
    return problems + _problems_of_options(record.name)


def _problems_of_options(name: str) -> list[str]:
    from ..config import compose
    from ..errors import FascicleError
    from ..optionfiles import option_files
    from ..plugins import CORE_PROVIDER

    problems = []
    owners = manager().option_owners()
    for file in option_files():
        if file.plugin != name:
            continue
        where = f"{file.group}={file.name}"
        claims = sorted({plugin for plugin, _ in owners[file.group, file.name]})
        if len(claims) > 1:
            problems.append(f"{where} is offered by {' and '.join(claims)}")
        if name != CORE_PROVIDER and not f"{file.name}_".startswith(f"{name}_"):
            problems.append(f"{where}: its name must be {name!r} or begin with {name + '_'!r}")
        if not file.description:
            problems.append(f"{where}: the file has no leading comment that says what it is")
        try:
            if file.group != "experiment" and "defaults" not in file.content:
                manager().schema(file.group, file.kind, file.provider)
            elif file.group == "experiment":
                compose([where])
        except FascicleError as error:
            if "a value is required" not in str(error):
                problems.append(f"{where}: {error}")
    return problems
