"""Any number of finished runs as one comparison: a table in the terminal, plain rows, and one self-contained HTML page."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arms import Run, Selector, arms_of
from .comparison import choose_columns, compare, decimals_for, format_number, pool
from .errors import ResultError
from .hookspecs import VERBS
from .results import atomic_write_text, find_folders, read_result

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table as RichTable

    from .arms import Arm
    from .comparison import Cell, Column, Row, Table

__all__ = ["Report", "build"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Report:
    """The comparison of some runs. `build` makes one; print it with rich, take its rows, or write its page."""

    title: str
    runs: list[Run]
    arms: list[Arm]
    tables: list[Table]
    """One per value of the `split_by` keys."""
    pooled: Table | None
    """Paired differences over all tables."""
    columns: list[Column]
    baseline: str | None
    split_by: list[str]
    warnings: list[str] = field(default_factory=list)
    """What was left out, and why."""
    path: Path | None = None
    """Where the page was written."""

    def table(self) -> list[dict[str, Any]]:
        """Plain rows, one per arm and column: mean, sd, n, seeds, difference, low, high, pairs, best."""
        tables = [*self.tables, *([self.pooled] if self.pooled else [])]
        return [_plain_row(table, row, column) for table in tables for row in table.rows for column in table.columns]

    def to_json(self) -> str:
        """The comparison as JSON: title, baseline, warnings, and `table()`; numbers that do not exist are null."""
        content = {
            "title": self.title,
            "baseline": self.baseline,
            "split_by": self.split_by,
            "warnings": self.warnings,
            "rows": self.table(),
        }
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)

    def html(self) -> str:
        """The page: one file, no scripts, nothing loaded from outside."""
        from .page import render

        return render(self)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, whole or not at all; into `report.html` where `path` is a folder.

        Raises:
            ResultError: the file cannot be written.
        """
        path = Path(path)
        self.path = atomic_write_text(path / "report.html" if path.is_dir() else path, self.html())
        return self.path

    def render_terminal(self, console: Console) -> None:
        """Print the tables and what was left out."""
        console.print(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for table in self.tables:
            yield from _fitting(table, self.baseline, console, options)
        if self.pooled is not None:
            yield from _fitting(self.pooled, self.baseline, console, options)
        for note in [*(note for table in self.tables for note in table.notes), *self.warnings]:
            yield Text(f"! {note}", style="yellow")


def build(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    group_by: Sequence[str] | None = None,
    title: str | None = None,
) -> Report:
    """Compare the runs at or below `paths`.

    Runs that differ only by the seed are one row. Where several results repeat one run, the newest counts. Results that
    cannot be read are left out and listed, unless none can.

    Args:
        paths: run folders, or folders that hold some at any depth.
        out: also write the page there.
        baseline: `key=value` of the arm to compare with, e.g. `training=hf_lora`; several are separated by spaces. By default
            `report.baseline` of the runs' experiment, where they agree on one.
        metrics: columns; by default the primary metrics, the number of trainable parameters and the time of training.
        group_by: keys of which each value gets a table of its own, e.g. `["data.task"]`; by default `report.split_by` of the
            runs' experiment.
        title: heading of the page.

    Raises:
        ResultError: no result can be read; a metric, key or value that no run has; an ambiguous baseline.

    >>> import tempfile
    >>> from fascicle.results import Result, write_result
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in (1, 2):
    ...         r = Result(
    ...             name="demo", label="a", identity=f"{seed}", seed=seed, metrics={"f1": seed / 4}, primary="f1"
    ...         )
    ...         _ = write_result(f"{folder}/{seed}", r)
    ...     build([folder]).table()[0]["mean"]
    0.375
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    runs, warnings = _read([Path(path) for path in paths])
    runs = _without_repeats(runs, warnings)
    split_by = _split_keys(runs, group_by, warnings)
    arms = arms_of(runs, split_by)
    selector = _selector(runs, baseline, warnings)
    if selector is not None:  # the baseline leads, then the order of the runs
        arms.sort(key=lambda arm: not selector.matches(arm.runs[0]))
    columns = choose_columns(runs, metrics)
    splits = list(dict.fromkeys(arm.split for run in runs if (arm := run.arm)))
    tables = []
    for split in splits:
        title_ = " ".join(f"{key.split('.')[-1]}={value}" for key, value in zip(split_by, split, strict=True))
        members = [arm for arm in arms if arm.split == split]
        tables.append(compare(title_, members, columns, selector))
    pooled = pool(arms, columns, selector) if selector is not None and len(tables) > 1 else None
    names = list(dict.fromkeys(run.result.name for run in runs))
    report = Report(
        title=title or ", ".join(names[:3]) + (" and others" if len(names) > 3 else ""),
        runs=runs,
        arms=arms,
        tables=tables,
        pooled=pooled if pooled is not None and pooled.rows else None,
        columns=columns,
        baseline=selector.text if selector is not None else None,
        split_by=split_by,
        warnings=warnings,
    )
    if out is not None:
        report.write(out)
    return report


# ---- reading ------------------------------------------------------------------------------------------------------------


def _read(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    runs: list[Run] = []
    warnings: list[str] = []
    error: ResultError | None = None
    for folder in find_folders(paths):
        try:
            runs.append(Run(folder, read_result(folder)))
        except ResultError as damaged:
            error = error or damaged
            warnings.append(f"Left out: {damaged}")
            logger.warning("left out: %s", damaged)
    if not runs:
        assert error is not None
        raise error
    return runs, warnings


def _without_repeats(runs: Sequence[Run], warnings: list[str]) -> list[Run]:
    """One run per configuration and seed: the newest. Folders are kept in their order."""
    newest: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = (json.dumps(run.leaves, sort_keys=True) if run.leaves else run.result.identity, run.seed)
        other = newest.get(key)
        if other is None:
            newest[key] = run
            continue
        older, newer = sorted((other, run), key=lambda each: _time(each.result.finished))
        newest[key] = newer
        warnings.append(
            f"{older.folder} repeats {newer.folder} (seed {run.seed}, same configuration); only the newer counts."
        )
        logger.warning("%s", warnings[-1])
    chosen = set(map(id, newest.values()))
    return [run for run in runs if id(run) in chosen]


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _asked(runs: Sequence[Run], key: str) -> list[Any]:
    """What the runs' experiments ask of a report, each answer once."""
    answers = []
    for run in runs:
        node = run.result.config.get("report")
        answer = node.get(key) if isinstance(node, dict) else None
        if answer and answer not in answers:
            answers.append(answer)
    return answers


def _split_keys(runs: Sequence[Run], group_by: Sequence[str] | None, warnings: list[str]) -> list[str]:
    known = {key for run in runs for key in [*run.leaves, *(g for g in VERBS if g in run.result.choices)]}
    if group_by is not None:
        for key in group_by:
            if key not in known:
                raise ResultError(f"group_by: no run has a key {key!r}; write it whole, e.g. data.task.")
        return list(group_by)
    answers = _asked(runs, "split_by")
    if len(answers) > 1:
        warnings.append(f"The runs' experiments disagree on report.split_by ({answers}); one table for all.")
        return []
    keys = list(answers[0]) if answers and isinstance(answers[0], list) else []
    for key in [key for key in keys if key not in known]:
        warnings.append(f"report.split_by names {key}, which no run has.")
        keys.remove(key)
    return keys


def _selector(runs: Sequence[Run], baseline: str | None, warnings: list[str]) -> Selector | None:
    if baseline is not None:
        return Selector(baseline, runs)
    answers = _asked(runs, "baseline")
    if len(answers) != 1 or not isinstance(answers[0], str):
        if len(answers) > 1:
            warnings.append(
                f"The runs' experiments name different baselines ({', '.join(map(str, answers))}); choose one."
            )
        return None
    try:
        return Selector(answers[0], runs)
    except ResultError as error:
        warnings.append(f"No baseline: {error}")
        return None


# ---- the terminal and plain rows -------------------------------------------------------------------------------------


def _plain_row(table: Table, row: Row, column: Column) -> dict[str, Any]:
    cell = row.cells[column.key]
    difference = cell.difference
    return {
        "table": table.title,
        "arm": row.name,
        "baseline": row.is_baseline,
        "column": column.key,
        "unit": column.unit,
        "mean": None if table.pooled or not cell.summary.n else cell.summary.mean,
        "sd": None if table.pooled else cell.summary.sd,
        "n": cell.summary.n,
        "seeds": row.seeds,
        "difference": difference.mean if difference else None,
        "low": difference.low if difference else None,
        "high": difference.high if difference else None,
        "pairs": difference.pairs if difference else 0,
        "rows": difference.rows if difference else 0,
        "best": cell.best,
    }


def value_text(cell: Cell, decimals: int | None) -> tuple[str, str]:
    """(mean, spread) of a cell: `0.812`, `± 0.004`; no spread for a single run, or where all runs agree on a count."""
    mean = format_number(cell.summary.mean, decimals)
    if not cell.summary.sd:
        return mean, "± 0" if cell.summary.sd == 0 and decimals is not None else ""
    return mean, f"± {format_number(cell.summary.sd, decimals)}"


def difference_text(cell: Cell, decimals: int | None) -> tuple[str, str]:
    """(difference, interval) of a cell: `+0.012`, `[+0.004, +0.020]`; for a single pair, the interval says `1 pair`."""
    difference = cell.difference
    if difference is None:
        return "", ""
    mean = format_number(difference.mean, decimals, sign=True)
    if difference.low is None or difference.high is None:
        return mean, "1 pair, no interval"
    low, high = (format_number(end, decimals, sign=True) for end in (difference.low, difference.high))
    return mean, f"[{low}, {high}]"


def heading(column: Column) -> str:
    """Name of a column with its unit and direction: `accuracy ↑`."""
    arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
    name = (column.key.removesuffix("_seconds") + " time" if column.key.endswith("_seconds") else column.key).replace(
        "_", " "
    )
    return f"{name}{f' ({column.unit})' if column.unit else ''}{arrow}"


def shared_key(names: Sequence[str]) -> str:
    """The key that every arm's name begins with, so that a heading can say it once; empty where there is none.

    >>> shared_key(["training=hf_lora", "training=loradrop budget=0.6"])
    'training'
    >>> shared_key(["training=hf_lora", "run"])
    ''
    """
    keys = {name.partition("=")[0] if "=" in name.split(" ")[0] else "" for name in names}
    return keys.pop() if len(keys) == 1 else ""


def _fitting(table: Table, baseline: str | None, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
    """The table with as many columns, the leading ones first, as the terminal is wide enough for."""
    from rich.measure import Measurement
    from rich.text import Text

    for count in range(len(table.columns), 0, -1):
        grid = _rich_table(table, table.columns[:count])
        if Measurement.get(console, options.update(max_width=10_000), grid).maximum <= options.max_width or count == 1:
            yield grid
            if any(row.cells[column.key].difference for row in table.rows for column in table.columns[:count]):
                yield Text(f"difference: paired by seed with {baseline}, 95 % bootstrap interval", style="dim")
            left_out = [heading(column) for column in table.columns[count:]]
            if left_out:
                yield Text(f"too narrow here for: {', '.join(left_out)}; the page has them", style="dim")
            yield Text()
            return


def _rich_table(table: Table, columns: Sequence[Column]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title=Text(table.title) if table.title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    key = shared_key([row.name for row in table.rows])
    grid.add_column(Text(key or "arm"), overflow="fold")
    grid.add_column("seeds", justify="right")
    decimals = {column.key: decimals_for(table, column) for column in columns}
    compared = {c.key for c in columns if any(row.cells[c.key].difference for row in table.rows)}
    for column in columns:
        if not table.pooled:
            grid.add_column(Text(heading(column)), justify="right")
        if column.key in compared:
            grid.add_column(Text(f"{heading(column)}: difference" if table.pooled else "difference"), justify="right")
    for row in table.rows:
        name = Text(row.name.removeprefix(f"{key}=") if key else row.name)
        if row.is_baseline:
            name.append("  baseline", style="dim")
        cells = [name, Text(str(len(row.seeds)))]
        for column in columns:
            cell, places = row.cells[column.key], decimals[column.key]
            if not table.pooled:
                mean, spread = value_text(cell, places)
                cells.append(
                    Text.assemble((mean, "bold" if cell.best else ""), (f" {spread}" if spread else "", "dim"))
                )
            if column.key in compared:
                mean, interval = difference_text(cell, places)
                style = "bold" if cell.best and table.pooled else ""
                cells.append(Text.assemble((mean, style), (f" {interval}" if interval else "", "dim")))
        grid.add_row(*cells)
    return grid
