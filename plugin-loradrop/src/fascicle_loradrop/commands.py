"""`fascicle loradrop show|compact|expand`: look at a plan, and convert checkpoints. No torch model is built."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from .plan import DropPlan

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status. Errors are `LoraDropError`s, or fascicle's own."""
    from fascicle.errors import FascicleError

    from .errors import LoraDropError

    parser = argparse.ArgumentParser(prog="fascicle loradrop", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print the plan of a checkpoint: importance, what is kept, what is shared")
    show.add_argument("folder", type=Path, help="a folder with lora_drop.json")
    show.add_argument("--json", action="store_true", help="print the plan as JSON")
    for name, text in (
        ("compact", "write a checkpoint without the copies of shared pairs"),
        ("expand", "write an ordinary LoRA checkpoint from a compact one, byte for byte"),
    ):
        convert = commands.add_parser(name, help=text)
        convert.add_argument("source", type=Path)
        convert.add_argument("target", type=Path)
    options = parser.parse_args(list(arguments))
    try:
        if options.command == "show":
            return _show(options.folder, as_json=options.json)
        from . import io

        target = (
            io.compact(options.source, options.target)
            if options.command == "compact"
            else io.expand(options.source, options.target)
        )
    except LoraDropError as error:
        raise FascicleError(str(error)) from error
    _console().print(f"wrote {target}", markup=False)
    return 0


def _show(folder: Path, *, as_json: bool) -> int:
    from .io import load_plan

    plan = load_plan(folder)
    console = _console()
    if as_json:
        console.print(plan.to_json(), markup=False, soft_wrap=True, highlight=False)
        return 0
    console.print(_table(plan))
    console.print(
        f"{len(plan.keep)} of {len(plan.modules)} modules kept; {plan.parameters_after:,} of {plan.parameters_before:,} "
        f"parameters ({100 * plan.fraction:.1f} %)"
    )
    return 0


def _table(plan: DropPlan) -> Table:
    from rich.table import Table

    table = Table("module", "type", "importance %", "cumulative %", "fate", "pair of")
    for row in plan.table():
        style = {"kept": "bold", "shared": "", "dropped": "dim"}[row["fate"]]
        table.add_row(
            row["name"],
            row["type"],
            f"{100 * row['importance']:.2f}",
            f"{100 * row['cumulative']:.1f}",
            row["fate"],
            row["owner"],
            style=style,
        )
    return table


def _console() -> Console:
    from rich.console import Console

    return Console()
