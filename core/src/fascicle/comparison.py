"""Arms side by side: mean and spread over seeds, facts of training, paired differences to a baseline."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import ResultError
from .statistics import Pair, paired_difference, summarize

if TYPE_CHECKING:
    from .arms import Arm, Run, Selector
    from .statistics import Difference, Summary

__all__ = ["Cell", "Column", "Row", "Table", "choose_columns", "compare", "format_number", "pool"]

_FACTS = ("trainable_parameters", "train_seconds")
"""Facts of training that a table shows unasked."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measured quantity over all arms."""

    key: str
    kind: str
    """`metric` or `fact` (of training)."""
    unit: str = ""
    higher_is_better: bool | None = None

    def value(self, run: Run) -> float:
        """The run's value; NaN where it has none."""
        source = run.result.metrics if self.kind == "metric" else run.result.training
        return source.get(self.key, math.nan)


@dataclass(kw_only=True)
class Cell:
    """What one arm reached in one column."""

    summary: Summary
    values: list[tuple[int, float]] = field(default_factory=list)
    """(seed, value) of each run that has one."""
    difference: Difference | None = None
    best: bool = False
    """Best of its column, and the interval of the comparison that says so excludes 0."""


@dataclass(kw_only=True)
class Row:
    """One arm, or in a pooled table one method over all tables."""

    name: str
    cells: dict[str, Cell]
    seeds: list[int]
    is_baseline: bool = False


@dataclass(kw_only=True)
class Table:
    """Rows that may be compared with each other."""

    title: str
    columns: list[Column]
    rows: list[Row]
    split: tuple[str, ...] = ()
    """The values of the `split_by` keys that the rows share."""
    pooled: bool = False
    notes: list[str] = field(default_factory=list)


def choose_columns(runs: Sequence[Run], metrics: Sequence[str] | None = None) -> list[Column]:
    """The asked columns, or else every run's primary metric and the usual facts of training.

    Raises:
        ResultError: a column that no run has.
    """
    known: dict[str, str] = {}
    for run in runs:
        known.update(dict.fromkeys(run.result.training, "fact"))
    for run in runs:
        known.update(dict.fromkeys(run.result.metrics, "metric"))
    if metrics is None:
        keys = list(dict.fromkeys(run.result.primary for run in runs if run.result.primary))
        keys += [key for key in _FACTS if known.get(key) == "fact"]
    else:
        keys = list(dict.fromkeys(metrics))
        for key in keys:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ResultError(
                    f"metrics: no run has {key!r}.{hint} The runs have: {', '.join(sorted(known)) or 'none'}."
                )
    return [_column(key, known[key], runs) for key in keys]


def _column(key: str, kind: str, runs: Sequence[Run]) -> Column:
    units = {run.result.units[key] for run in runs if run.result.units.get(key)}
    directions = {run.result.higher_is_better[key] for run in runs if key in run.result.higher_is_better}
    unit = "s" if key.endswith("_seconds") and not units else (units.pop() if len(units) == 1 else "")
    return Column(key=key, kind=kind, unit=unit, higher_is_better=directions.pop() if len(directions) == 1 else None)


def compare(title: str, arms: Sequence[Arm], columns: Sequence[Column], selector: Selector | None) -> Table:
    """One table. Each arm's runs are paired with the baseline's of the same seed and otherwise same configuration.

    Raises:
        ResultError: the baseline fits several runs at once.
    """
    runs = [run for arm in arms for run in arm.runs]
    table = Table(title=title, columns=list(columns), rows=[], split=arms[0].split)
    for arm in arms:
        base = selector is not None and selector.matches(arm.runs[0])
        cells = {}
        for column in columns:
            values = [(run.seed, column.value(run)) for run in arm.runs if math.isfinite(column.value(run))]
            cell = Cell(summary=summarize([value for _, value in values]), values=values)
            if selector is not None and not base and column.kind == "metric":
                pairs = pairs_of(arm, runs, column, selector)
                cell.difference = paired_difference(pairs) if pairs else None
            cells[column.key] = cell
        table.rows.append(Row(name=arm.name, cells=cells, seeds=[run.seed for run in arm.runs], is_baseline=base))
        if selector is not None and not base:
            table.notes += _unpaired(arm, runs, selector)
    for column in columns:
        _mark_best(table.rows, column)
    return table


def pool(arms: Sequence[Arm], columns: Sequence[Column], selector: Selector) -> Table:
    """Paired differences over all tables, by method; each test set weighs the same."""
    metrics = [column for column in columns if column.kind == "metric"]
    runs = [run for arm in arms for run in arm.runs]
    splits = list(dict.fromkeys(arm.split for arm in arms))
    table = Table(title="All tables together", columns=metrics, rows=[], pooled=True)
    methods: dict[str, list[Arm]] = {}
    for arm in arms:
        if not selector.matches(arm.runs[0]):
            methods.setdefault(arm.name, []).append(arm)
    for name, members in methods.items():
        cells = {}
        for column in metrics:
            pairs = [
                pair
                for arm in members
                for pair in pairs_of(
                    arm, [run for run in runs if run.arm and run.arm.split == arm.split], column, selector
                )
            ]
            difference = paired_difference(pairs) if pairs else None
            summary = summarize([pair.value - pair.baseline for pair in pairs])
            cells[column.key] = Cell(summary=summary, difference=difference)
        table.rows.append(Row(name=name, cells=cells, seeds=sorted({run.seed for arm in members for run in arm.runs})))
        if len(members) < len(splits):
            table.notes.append(f"{name}: in {len(members)} of {len(splits)} tables.")
    for column in metrics:
        better = 1 if column.higher_is_better else -1
        known = [row for row in table.rows if row.cells[column.key].difference is not None]
        if column.higher_is_better is None or not known:
            continue
        best = max(known, key=lambda row: better * _mean(row.cells[column.key]))
        best.cells[column.key].best = _wins(best.cells[column.key].difference, better)
    return table


def pairs_of(arm: Arm, runs: Sequence[Run], column: Column, selector: Selector) -> list[Pair]:
    """The arm's runs with their counterparts, where both have the metric."""
    pairs = []
    for run in arm.runs:
        other = selector.counterpart(run, runs)
        if other is None or not (math.isfinite(column.value(run)) and math.isfinite(column.value(other))):
            continue
        pairs.append(
            Pair(
                value=column.value(run),
                baseline=column.value(other),
                rows=run.result.per_example.get(column.key, ()),
                baseline_rows=other.result.per_example.get(column.key, ()),
                unit=" ".join(arm.split),
            )
        )
    return pairs


def _unpaired(arm: Arm, runs: Sequence[Run], selector: Selector) -> list[str]:
    """Why runs of the arm have no counterpart, in words."""
    lonely = [run for run in arm.runs if selector.counterpart(run, runs) is None]
    if not lonely:
        return []
    seeded = [other for other in runs if selector.matches(other) and other.seed == lonely[0].seed]
    seeds = ", ".join(str(run.seed) for run in lonely)
    if not seeded:
        return [f"{arm.name}: the baseline has no run with seed {seeds}, so no pair."]
    keys = min((selector.differing(lonely[0], other) for other in seeded), key=len)
    shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
    reason = f"the baseline differs from it also in {shown}; name that key in the baseline too"
    return [f"{arm.name}: seed {seeds} has no pair: {reason}."]


def _mark_best(rows: Sequence[Row], column: Column) -> None:
    """Bold the best mean only where an interval excludes 0: its own, or, for the baseline, that of every other arm."""
    if column.higher_is_better is None:
        return
    better = 1 if column.higher_is_better else -1
    known = [row for row in rows if row.cells[column.key].summary.n]
    if len(known) < 2:
        return
    best = max(known, key=lambda row: better * row.cells[column.key].summary.mean)
    if best.is_baseline:
        others = [row.cells[column.key].difference for row in known if not row.is_baseline]
        best.cells[column.key].best = bool(others) and all(_wins(other, -better) for other in others)
    else:
        best.cells[column.key].best = _wins(best.cells[column.key].difference, better)


def _wins(difference: Difference | None, better: int) -> bool:
    return difference is not None and difference.excludes_zero and better * difference.mean > 0


def _mean(cell: Cell) -> float:
    return cell.difference.mean if cell.difference else math.nan


# ---- numbers as text -----------------------------------------------------------------------------------------------------


def format_number(value: float | None, decimals: int | None = None, *, sign: bool = False) -> str:
    """A number for a table: four significant digits, or as many decimals as its column has.

    >>> format_number(0.81234), format_number(1234567.0), format_number(0.5, 3), format_number(-0.25, 2, sign=True)
    ('0.8123', '1.235 M', '0.500', '−0.25')
    >>> format_number(math.nan)
    '–'
    """
    if value is None or not math.isfinite(value):
        return "–"
    plus = "+" if sign else ""
    if decimals is None:
        size = abs(value)
        if size >= 1e15:
            text = f"{value:{plus}.3g}"
        elif size >= 1e6:
            scale, suffix = (1e9, "G") if size >= 1e9 else (1e6, "M")
            text = f"{value / scale:{plus}.4g} {suffix}"
        elif value == int(value):
            text = f"{int(value):{plus},}"
        elif size < 1e-4:
            text = f"{value:{plus}.2e}"
        else:
            text = f"{value:{plus}.{max(0, 3 - math.floor(math.log10(size)))}f}"
    else:
        rounded = round(value, decimals)
        text = f"{rounded + 0.0 if rounded else 0.0:{plus},.{decimals}f}"
    return text.replace("-", "−")


def decimals_for(table: Table, column: Column) -> int | None:
    """Decimals that show the spread with two digits; None where there is no spread to go by or numbers are large."""
    spreads = []
    for row in table.rows:
        cell = row.cells[column.key]
        if cell.summary.sd:
            spreads.append(cell.summary.sd)
        elif cell.difference is not None and cell.difference.mean:
            spreads.append(abs(cell.difference.mean))
    largest = max(
        (abs(row.cells[column.key].summary.mean) for row in table.rows if row.cells[column.key].summary.n), default=0
    )
    if not spreads or largest >= 1e6 or (column.kind == "fact" and _all_integral(table, column)):
        return None
    middle = sorted(spreads)[len(spreads) // 2]
    return min(6, max(0, 1 - math.floor(math.log10(middle))))


def _all_integral(table: Table, column: Column) -> bool:
    return all(value == int(value) for row in table.rows for _, value in row.cells[column.key].values)
