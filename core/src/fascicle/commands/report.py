"""`fascicle report`: finished runs side by side, as a table here and as one HTML page."""

from __future__ import annotations

import argparse
import sys

from .logs import setup_logging

__all__ = ["main"]


def main(args: list[str]) -> int:
    """Compare the runs under the given folders.

    Raises:
        ResultError: no result there, or a damaged one.
    """
    parser = argparse.ArgumentParser(
        prog="fascicle report", description="Compare finished runs: one table and one HTML page."
    )
    parser.add_argument("paths", nargs="+", metavar="DIR", help="folders that hold runs, at any depth")
    parser.add_argument("--out", default=None, metavar="PAGE.html", help="write one self-contained page")
    parser.add_argument(
        "--baseline", metavar="KEY=VALUE", help="the arm to compare the others with, e.g. training=hf_lora"
    )
    parser.add_argument("--metrics", metavar="A,B", help="only these metrics")
    parser.add_argument(
        "--split-by", metavar="KEY,KEY", help="a table of its own for each value of these, e.g. data.task"
    )
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    try:
        options = parser.parse_args(args)
    except SystemExit as stop:
        return int(stop.code or 0)
    setup_logging()
    from ..report import build

    report = build(
        options.paths,
        options.out,
        baseline=options.baseline,
        metrics=options.metrics.split(",") if options.metrics else None,
        group_by=options.split_by.split(",") if options.split_by else None,
        title=options.title,
    )
    if options.json:
        sys.stdout.write(report.to_json() + "\n")
        return 0
    from rich.console import Console

    console = Console()
    console.print(report)
    if options.out:
        console.print(options.out, highlight=False, soft_wrap=True, markup=False)
    return 0
