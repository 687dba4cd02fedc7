"""The report's HTML page: what the template shows, as plain data. Everything that came from a run is escaped by jinja."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import figures
from .arms import flatten, show_value
from .comparison import Column, decimals_for, format_number
from .figures import Dot, Line
from .report import difference_text, heading, value_text
from .statistics import DRAWS, summarize
from .svg import clean

if TYPE_CHECKING:
    from markupsafe import Markup

    from .arms import Arm, Run
    from .comparison import Row, Table
    from .objects import Block
    from .report import Report

__all__ = ["render"]

_NOT_CURVES = ("step", "epoch", "learning_rate", "grad_norm", "total_flos", "num_tokens", "num_input_tokens_seen")
_MOST_PANELS = 6


@dataclass(kw_only=True)
class Key:
    """One entry of a legend."""

    name: str
    mark: str = "●"
    color: str = "base"
    """Name of a CSS variable."""


@dataclass(kw_only=True)
class Picture:
    """A figure, or a table or text in its place, with its heading and legend."""

    kind: str
    title: str = ""
    svg: Markup | None = None
    legend: list[Key] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def wide(self) -> bool:
        """Whether the figure needs the whole column."""
        return self.svg is not None and 'class="figure wide"' in self.svg[:400]


def render(report: Report) -> str:
    """The whole page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fascicle"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return clean(environment.get_template("report.html.j2").render(page=_Page(report))) + "\n"


class _Page:
    """What the template asks for, in its order."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._ids = (f"f{i}" for i in itertools.count(1))
        methods = dict.fromkeys(arm.name for arm in report.arms if not self._is_baseline(arm))
        self.index: dict[str, int] = {name: i for i, name in enumerate(methods)}
        roots = [os.path.realpath(run.folder) for run in report.runs]
        root = os.path.commonpath(roots) if len(roots) > 1 else str(Path(roots[0]).parent)
        self.runs = [run for arm in report.arms for run in arm.runs]
        """In the order of the tables, not of the folders."""
        self.folders = {id(run): os.path.relpath(real, root) for run, real in zip(report.runs, roots, strict=True)}
        self.title = report.title
        self.baseline = report.baseline
        self.warnings = report.warnings
        self.draws = f"{DRAWS:,}"

    # ---- head

    @property
    def facts(self) -> list[str]:
        runs, arms = self.report.runs, {arm.name for arm in self.report.arms}
        seeds = sorted({run.seed for run in runs})
        days = sorted({run.result.finished[:10] for run in runs})
        facts = [_count(len(runs), "run"), _count(len(arms), "arm"), _count(len(seeds), "seed")]
        if len(self.report.tables) > 1:
            facts.append(_count(len(self.report.tables), "table"))
        return [*facts, days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"]

    # ---- comparison

    def tables(self) -> Iterator[dict[str, Any]]:
        """Each table with its rows as text and its dot plots."""
        for table in self.report.tables:
            yield self._table(table)
        if self.report.pooled is not None:
            yield self._table(self.report.pooled)

    def _table(self, table: Table) -> dict[str, Any]:
        compared = [c for c in table.columns if any(row.cells[c.key].difference for row in table.rows)]
        decimals = {column.key: decimals_for(table, column) for column in table.columns}
        rows = [
            {
                "arm": self._arm(row.name, row.is_baseline),
                "baseline": row.is_baseline,
                "n": len(row.seeds),
                "seeds": ", ".join(map(str, row.seeds)),
                "cells": [
                    self._cell(row, column, decimals[column.key], column in compared) for column in table.columns
                ],
            }
            for row in table.rows
        ]
        resampled = max(
            (cell.difference.rows for row in table.rows for cell in row.cells.values() if cell.difference), default=0
        )
        return {
            "title": table.title,
            "pooled": table.pooled,
            "columns": [{"name": heading(c), "compared": c in compared, "kind": c.kind} for c in table.columns],
            "rows": rows,
            "notes": table.notes,
            "compared": bool(compared),
            "resampled": f"{resampled:,}" if resampled else "",
            "any_best": any(cell.best for row in table.rows for cell in row.cells.values()),
            "pictures": list(self._dots(table, compared)),
        }

    def _cell(self, row: Row, column: Column, decimals: int | None, compared: bool) -> dict[str, Any]:
        cell = row.cells[column.key]
        mean, spread = value_text(cell, decimals)
        difference, interval = difference_text(cell, decimals)
        return {
            "mean": mean,
            "spread": spread,
            "exact": ", ".join(f"seed {seed}: {value:.10g}" for seed, value in cell.values),
            "n": f"n = {cell.summary.n}" if 0 < cell.summary.n < len(row.seeds) else "",
            "compared": compared,
            "difference": difference,
            "interval": interval,
            "best": cell.best,
        }

    def _dots(self, table: Table, compared: Sequence[Column]) -> Iterator[Picture]:
        metrics = [column for column in table.columns if column.kind == "metric"]
        for column in metrics:
            known = [row for row in table.rows if row.cells[column.key].summary.n]
            if len(table.rows) < 2 and not table.pooled:
                continue
            if not table.pooled:
                dots = []
                for row in known:
                    cell = row.cells[column.key]
                    mean, sd = cell.summary.mean, cell.summary.sd
                    ends = (None, None) if sd is None else (mean - sd, mean + sd)
                    points = [value for _, value in cell.values] if cell.summary.n > 1 else []
                    dots.append(
                        Dot(
                            name=row.name,
                            index=self._row_index(row),
                            mean=mean,
                            low=ends[0],
                            high=ends[1],
                            points=points,
                        )
                    )
                svg = figures.dot_plot(next(self._ids), dots, x_label=heading(column))
                yield Picture(
                    kind="figure", title=column.key.replace("_", " "), svg=svg, note="mean ± sd; ticks are single runs"
                )
            if column in compared:
                dots = [
                    Dot(name=row.name, index=self._row_index(row), mean=d.mean, low=d.low, high=d.high)
                    for row in known
                    if (d := row.cells[column.key].difference) is not None
                ]
                svg = figures.dot_plot(next(self._ids), dots, x_label=f"difference in {heading(column)}", zero=True)
                title = f"{column.key.replace('_', ' ')}: difference to {self.baseline}"
                yield Picture(kind="figure", title=title, svg=svg, note="paired, 95 % bootstrap interval")

    def _is_baseline(self, arm: Arm) -> bool:
        return any(row.is_baseline and row.name == arm.name for table in self.report.tables for row in table.rows)

    def _row_index(self, row: Row) -> int | None:
        return self.index.get(row.name)

    def _arm(self, name: str, baseline: bool = False) -> dict[str, Any]:
        key = self._key(name)
        return {"name": name, "words": _words(name), "mark": key.mark, "color": key.color, "baseline": baseline}

    def _key(self, name: str) -> Key:
        index = self.index.get(name)
        if index is None:
            return Key(name=name)
        return Key(name=name, mark=_mark(index), color=f"s{index % 7}")

    def all_metrics(self) -> dict[str, Any]:
        """Every metric and fact by arm, also those that the comparison leaves out."""
        runs = self.report.runs
        keys = list(dict.fromkeys((kind, key) for run in runs for kind, key in _measured(run)))
        columns = [Column(key=key, kind=kind) for kind, key in keys]
        rows = []
        for arm in self.report.arms:
            cells = []
            for column in columns:
                summary = summarize([column.value(run) for run in arm.runs])
                mean = format_number(summary.mean)
                cells.append(f"{mean} ± {format_number(summary.sd)}" if summary.sd else mean)
            rows.append({"arm": self._arm(arm.name), "split": " ".join(arm.split), "cells": cells})
        return {"columns": [column.key for column in columns], "rows": rows, "split": bool(self.report.split_by)}

    # ---- learning curves

    def curves(self) -> Iterator[dict[str, Any]]:
        """Per table: panels of loss and evaluation by step, one line per arm."""
        for table in self.report.tables:
            arms = [arm for arm in self.report.arms if arm.split == table.split]
            keys = _curve_keys(arms)
            panels = []
            for key in keys:
                series = [line for arm in arms if (line := _mean_line(arm, key, self.index.get(arm.name))) is not None]
                svg = figures.lines(next(self._ids), series, x_label="step")
                if svg is not None:
                    panels.append(Picture(kind="figure", title=key.replace("_", " "), svg=svg))
            if panels:
                drawn = [
                    arm
                    for arm in arms
                    if any(key in row for run in arm.runs for row in run.result.history for key in keys)
                ]
                spread = any(len(arm.runs) > 1 for arm in drawn)
                yield {
                    "title": table.title,
                    "panels": panels,
                    "legend": [self._key(arm.name) for arm in drawn],
                    "note": "Mean over seeds; the band is one standard deviation." if spread else "",
                }

    # ---- runs

    def run_table(self) -> dict[str, Any]:
        """One row per run, with the configuration in which runs differ."""
        differing = _differing(self.runs)
        columns = self.report.columns
        rows = [
            {
                "folder": self.folders[id(run)],
                "seed": run.seed,
                "differences": [show_value(run.get(key)) if run.has(key) else "–" for key in differing],
                "values": [format_number(column.value(run)) for column in columns],
                "notes": run.result.notes,
            }
            for run in self.runs
        ]
        return {"differing": differing, "columns": [heading(column) for column in columns], "rows": rows}

    def provenance(self) -> dict[str, Any]:
        """What all runs share, once; then what each run has of its own."""
        all_facts = [_facts(run) for run in self.runs]
        shared = {
            key: value
            for key, value in all_facts[0].items()
            if len(all_facts) > 1 and all(facts.get(key) == value for facts in all_facts)
        }
        runs = [
            {
                "folder": self.folders[id(run)],
                "arm": run.arm.name if run.arm else "",
                "seed": run.seed,
                "facts": [(key, value) for key, value in facts.items() if key not in shared],
                "config": json.dumps(run.result.config, indent=2, ensure_ascii=False),
            }
            for run, facts in zip(self.runs, all_facts, strict=True)
        ]
        return {"shared": list(shared.items()), "runs": runs}

    # ---- the plugins' parts

    def sections(self) -> Iterator[dict[str, Any]]:
        """Per arm, the sections of each of its runs."""
        for arm in self.report.arms:
            runs = [run for run in arm.runs if run.result.sections]
            if runs:
                yield {
                    "arm": self._arm(arm.name),
                    "split": " ".join(arm.split),
                    "runs": [
                        {"seed": run.seed, "folder": self.folders[id(run)], "sections": self._sections(run)}
                        for run in runs
                    ],
                }

    def _sections(self, run: Run) -> list[dict[str, Any]]:
        return [
            {"title": part.title, "plugin": part.plugin, "blocks": [self._block(block) for block in part.blocks]}
            for part in run.result.sections
        ]

    def _block(self, block: Block) -> Picture:
        data, ident = block.data, next(self._ids)
        picture = Picture(kind=block.kind, title=block.title, data=data)
        if block.kind == "text":
            picture.data = {"paragraphs": [part for part in data["text"].split("\n\n") if part.strip()]}
        elif block.kind == "table":
            picture.data = _table_data(data)
        elif block.kind == "spans":
            picture.data = _spans_data(data)
        elif block.kind == "bars":
            marked = data.get("marked") or []
            unit = data.get("unit") or ""
            picture.svg = figures.bars(ident, data["labels"], data["series"], unit=unit, marked=marked)
            picture.legend = _legend(list(data["series"]), square=True)
            picture.note = "Full colour: marked." if marked else ""
        elif block.kind == "lines":
            series = [
                Line(name=name, index=i, x=line["x"], y=line["y"], low=line.get("low"), high=line.get("high"))
                for i, (name, line) in enumerate(data["series"].items())
            ]
            picture.svg = figures.lines(
                ident,
                series,
                x_label=data.get("x_label") or "",
                y_label=data.get("y_label") or "",
                log_y=bool(data.get("log_y")),
            )
            picture.legend = _legend(list(data["series"]))
        elif block.kind == "scatter":
            labels = {"x_label": data.get("x_label") or "", "y_label": data.get("y_label") or ""}
            picture.svg = figures.scatter(ident, data["series"], **labels)
            picture.legend = _legend(list(data["series"]))
        elif block.kind == "heatmap":
            self._heatmap(picture, ident)
        if block.kind in ("bars", "lines", "scatter", "heatmap") and picture.svg is None:
            picture.note = "No numbers to draw."
        return picture

    def _heatmap(self, picture: Picture, ident: str) -> None:
        data = picture.data
        drawn = figures.heatmap(ident, data["rows"], data["columns"], data["values"], marked=data.get("marked") or [])
        if drawn is None:
            return
        picture.svg, low, high, pooled = drawn
        unit = f" {data['unit']}" if data.get("unit") else ""
        picture.data = {
            "low": format_number(low) + unit,
            "high": format_number(high) + unit,
            "diverging": low < 0 < high,
            "negative": high <= 0 and low < 0,
        }
        notes = ["Neighbouring rows and columns are averaged; marks are left out."] if pooled else []
        notes += ["Outlined: marked."] if data.get("marked") and not pooled else []
        picture.note = " ".join(notes)


# ---- data for one thing on the page -----------------------------------------------------------------------------------


def _words(name: str) -> list[tuple[str, str]]:
    """(key, value) pieces of an arm's name, so that the values can stand out; a name without keys is one value."""
    words = []
    for word in name.split(" "):
        key, sign, value = word.partition("=")
        words.append((key + sign, value) if sign else ("", word))
    return words


def _mark(index: int) -> str:
    return figures.MARKS[index % len(figures.MARKS)]


def _legend(names: Sequence[str], *, square: bool = False) -> list[Key]:
    if len(names) < 2:
        return []
    return [Key(name=name, mark="■" if square else _mark(i), color=f"s{i % 7}") for i, name in enumerate(names)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _measured(run: Run) -> Iterator[tuple[str, str]]:
    yield from (("metric", key) for key in run.result.metrics)
    yield from (("fact", key) for key in run.result.training)


def _curve_keys(arms: Sequence[Arm]) -> list[str]:
    """Losses first, then what evaluation measured on the way."""
    seen = dict.fromkeys(key for arm in arms for run in arm.runs for row in run.result.history for key in row)
    timing = ("runtime", "per_second", "seconds", "flos")
    keys = [key for key in seen if key not in _NOT_CURVES and not any(word in key for word in timing)]
    keys = [key for key in keys if "loss" in key or key.startswith("eval_")]
    order = {"loss": 0, "eval_loss": 1}
    return sorted(keys, key=lambda key: order.get(key, 2))[:_MOST_PANELS]


def _mean_line(arm: Arm, key: str, index: int | None) -> Line | None:
    """Mean and one standard deviation over an arm's runs; a run counts between its own first and last step."""
    import numpy as np

    curves = []
    for run in arm.runs:
        points = {
            row["step"]: row[key]
            for row in run.result.history
            if math.isfinite(row.get("step", math.nan)) and math.isfinite(row.get(key, math.nan))
        }
        if points:
            steps = sorted(points)
            curves.append((np.array(steps), np.array([points[step] for step in steps])))
    if not curves:
        return None
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    table = np.array([np.interp(grid, steps, values, left=np.nan, right=np.nan) for steps, values in curves])
    count = np.isfinite(table).sum(axis=0)
    mean = np.nansum(table, axis=0) / count
    line = Line(name=arm.name, index=index, x=grid.tolist(), y=mean.tolist())
    if len(curves) > 1:
        squares = np.nansum((table - mean) ** 2, axis=0)
        sd = np.sqrt(squares / np.maximum(count - 1, 1))
        line.low, line.high = (mean - sd).tolist(), (mean + sd).tolist()
    return line


def _differing(runs: Sequence[Run]) -> list[str]:
    """Groups and keys whose value is not the same in all runs; providers and kinds say what the option says already."""
    keys = dict.fromkeys(key for run in runs for key in [*run.result.choices, *run.leaves] if key != "experiment")
    shown = []
    for key in keys:
        group, _, field_name = key.partition(".")
        if field_name in ("provider", "kind") and any(group in run.result.choices for run in runs):
            continue
        if len({json.dumps(run.get(key), sort_keys=True) for run in runs}) > 1:
            shown.append(key)
    return shown


def _facts(run: Run) -> dict[str, str]:
    """Provenance, times and notes of one run, flat."""
    facts = {key: show_value(value, 90) for key, value in flatten(run.result.provenance).items()}
    facts |= {f"seconds.{phase}": format_number(seconds) for phase, seconds in run.result.timings.items()}
    facts |= {"started": run.result.started, "finished": run.result.finished, "identity": run.result.identity}
    facts |= {f"note {i}": note for i, note in enumerate(run.result.notes, 1)}
    return facts


def _table_data(data: dict[str, Any]) -> dict[str, Any]:
    columns, rows = data["columns"], data["rows"]
    numeric = [
        all(row[j] is None or _is_number(row[j]) for row in rows) and any(row[j] is not None for row in rows)
        for j in range(len(columns))
    ]
    places = [_decimals([row[j] for row in rows]) for j in range(len(columns))]
    cells = [
        [{"text": _cell_text(cell, places[j]), "number": numeric[j]} for j, cell in enumerate(row)] for row in rows
    ]
    heads = [{"text": column, "number": numeric[j]} for j, column in enumerate(columns)]
    return {"columns": heads, "rows": cells, "caption": data.get("caption") or ""}


def _decimals(cells: Sequence[Any]) -> int | None:
    """Decimals that a column of floats shares; None where its numbers are too far apart, or none is a float."""
    sizes = [abs(cell) for cell in cells if _is_number(cell) and cell]
    if not any(isinstance(cell, float) for cell in cells) or not sizes or not 1e-4 <= max(sizes) < 1e6:
        return None
    return max(0, 3 - math.floor(math.log10(max(sizes)))) if min(sizes) >= max(sizes) / 1000 else None


def _cell_text(cell: Any, decimals: int | None) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}".replace("-", "−") if abs(cell) >= 10_000 else str(cell).replace("-", "−")
    if isinstance(cell, float):
        return format_number(cell, decimals)
    return str(cell)


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _spans_data(data: dict[str, Any]) -> dict[str, Any]:
    """Spans with a shade in percent relative to the strongest, and their sign."""
    weights = [span.get("weight") for span in data["spans"]]
    strongest = max((abs(weight) for weight in weights if weight is not None), default=0) or 1
    spans = [
        {
            "text": span["text"],
            "label": span.get("label") or "",
            "weight": format_number(weight) if weight is not None else "",
            "shade": None if not weight else round(6 + 54 * min(1.0, abs(weight) / strongest)),
            "negative": weight is not None and weight < 0,
        }
        for span, weight in zip(data["spans"], weights, strict=True)
    ]
    return {"spans": spans, "caption": data.get("caption") or ""}
