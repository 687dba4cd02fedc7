"""A meta-evaluation as tables for the terminal, Markdown, report blocks and a page of its own."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table

    from fascicle.objects import Block

    from .correlation import Correlation
    from .meta_report import MetaReport, MetricRow

__all__ = ["blocks", "markdown", "page", "terminal"]

_COLUMNS = (
    "metric",
    "n",
    "documents",
    "partial Pearson",
    "95 %",
    "p",
    "partial Spearman",
    "95 %",
    "p",
    "rank first",
    "raw Pearson",
    "raw Spearman",
)
_PAIR_COLUMNS = ("better", "other", "n", "r better", "r other", "t", "p", "p (Holm)", "difference, 95 %")
_MOST_PAIRS = 200
"""Pairs of metrics on a page; the JSON has all."""


def markdown(report: MetaReport) -> str:
    """The table of correlations, one per subset.

    >>> from fascicle_faithsum.meta_report import MetaReport
    >>> empty = MetaReport(rows=(), comparisons=(), ablations=(), seed=0, resamples=0, control="system")
    >>> markdown(empty)
    ''
    """
    parts = []
    for subset in report.subsets:
        lines = [f"**{subset}**", "", f"| {' | '.join(_heads(report, subset))} |"]
        lines.append(f"|{'---|' * len(_heads(report, subset))}")
        lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in _cells(report, subset)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def terminal(report: MetaReport) -> Iterator[Table]:
    """Tables for a terminal: correlations of each subset, then the ablation of error groups."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def made(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        for i, head in enumerate(heads):
            table.add_column(head, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    for subset in report.subsets:
        auc = ["AUC"] if _has_auc(report, subset) else []
        heads = ["metric", "n", "Pearson", "95 %", "Spearman", "95 %", "raw P.", "raw S.", *auc]
        rows = []
        for row in (row for row in report.rows if row.subset == subset):
            cells = [row.metric, str(row.n)]
            for found, span in ((row.pearson, row.pearson_interval), (row.spearman, row.spearman_interval)):
                cells += [_number(found.value, 3), "" if span is None else f"{span[0]:.2f}, {span[1]:.2f}"]
            cells += [_number(row.raw_pearson.value, 3), _number(row.raw_spearman.value, 3)]
            rows.append([*cells, *([_number(row.auc, 3)] if auc else [])])
        partial = "" if report.control == "none" else "partial "
        yield made(f"{subset}: {partial}correlation with human scores", heads, rows)
        errors, owed = _ablation(report, subset, groups=True)
        if owed:
            short = [error.replace("_Errors", "").replace("_", " ") for error in errors]
            lines = [[name, *(_number(value, 3) for value in values)] for name, values in owed]
            yield made(f"{subset}: Pearson owed to seeing a group of errors", ["metric", *short], lines)


def blocks(report: MetaReport) -> list[Block]:
    """Text and tables of a report's section."""
    from fascicle.objects import Block

    found = [Block(kind="text", data={"text": _summary(report)})]
    found += [
        _table(f"{subset}: correlation with human scores", _heads(report, subset), _cells(report, subset))
        for subset in report.subsets
    ]
    for subset in report.subsets:
        errors, rows = _ablation(report, subset, groups=False)
        if rows:
            found.append(
                Block(
                    kind="heatmap",
                    title=f"{subset}: correlation owed to seeing an error type",
                    data={
                        "rows": [name for name, _ in rows],
                        "columns": errors,
                        "values": [[_finite(value, 4) for value in values] for _, values in rows],
                    },
                )
            )
    for subset in report.subsets:
        if pairs := _pairs(report, subset):
            found.append(_table(f"{subset}: Williams' test between metrics", _PAIR_COLUMNS, pairs[:_MOST_PAIRS]))
    return found


def page(report: MetaReport, title: str) -> str:
    """One self-contained HTML file: no scripts, nothing loaded from outside; everything from the data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from fascicle import figures
    from fascicle.svg import clean

    ids = (f"m{i}" for i in itertools.count(1))
    sections: list[dict[str, Any]] = []
    for subset in report.subsets:
        rows = [row for row in report.rows if row.subset == subset]
        drawn = []
        for name in ("pearson", "spearman"):
            dots = [_dot(row, name, i) for i, row in enumerate(rows) if not math.isnan(getattr(row, name).value)]
            svg = figures.dot_plot(next(ids), dots, x_label=f"partial {name.capitalize()}", zero=True)
            if svg is not None:
                drawn.append({"title": f"Partial {name.capitalize()}", "svg": svg})
        errors, owed = _ablation(report, subset, groups=False)
        heat = None
        if owed:
            values = [[_finite(value, 4) for value in line] for _, line in owed]
            heat = figures.heatmap(next(ids), [name for name, _ in owed], errors, values)
        sections.append(
            {
                "name": subset,
                "columns": _heads(report, subset),
                "rows": list(_cells(report, subset)),
                "figures": drawn,
                "heatmap": None if heat is None else heat[0],
                "owed_columns": ["metric", *errors],
                "owed": [[name, *(_number(value, 3) for value in line)] for name, line in owed],
                "pairs": _pairs(report, subset),
            }
        )
    environment = Environment(
        loader=PackageLoader("fascicle"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary = _summary(report).split("\n\n")
    text = environment.from_string(_TEMPLATE).render(
        title=title, sections=sections, summary=summary, pair_columns=_PAIR_COLUMNS, most=_MOST_PAIRS
    )
    return clean(text).strip() + "\n"


# ---- cells ------------------------------------------------------------------------------------------------------------


def _summary(report: MetaReport) -> str:
    source = report.source
    said = f"{source.get('rated', 0):,} of {source.get('rows', 0):,} rows have a human score."
    if source.get("sha256"):
        said += f" File {source['path']}, SHA-256 {source['sha256']}."
    what = {
        "system": "Each system's mean is removed from both scores before they are correlated (partial).",
        "system+dataset": "The mean of each system on each data set is removed from both scores (partial).",
        "none": "Nothing is partialled out.",
    }[report.control]
    how = (
        f"{what} Partial Spearman ranks the residuals; 'rank first' takes the residuals of ranks. Raw correlations mostly tell "
        "good systems from bad."
    )
    if report.resamples:
        how += f" Intervals: percentile bootstrap over documents, {report.resamples:,} resamples, seed {report.seed}."
    notes = "\n\n".join(report.notes)
    return f"{said}\n\n{how}" + (f"\n\n{notes}" if notes else "")


def _heads(report: MetaReport, subset: str) -> list[str]:
    return [*_COLUMNS, *(["AUC"] if _has_auc(report, subset) else [])]


def _has_auc(report: MetaReport, subset: str) -> bool:
    return any(row.auc is not None for row in report.rows if row.subset == subset)


def _cells(report: MetaReport, subset: str) -> Iterator[list[str]]:
    with_auc = _has_auc(report, subset)
    for row in report.rows:
        if row.subset != subset:
            continue
        cells = [row.metric, f"{row.n:,}", f"{row.documents:,}"]
        for name in ("pearson", "spearman"):
            found: Correlation = getattr(row, name)
            cells += [_number(found.value, 3), _span(getattr(row, f"{name}_interval")), _p(found.p)]
        cells += [_number(c.value, 3) for c in (row.spearman_rank_first, row.raw_pearson, row.raw_spearman)]
        yield [*cells, *([_number(row.auc, 3)] if with_auc else [])]


def _ablation(
    report: MetaReport, subset: str, *, groups: bool
) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    from .frank import ERROR_GROUPS

    chosen = [a for a in report.ablations if a.subset == subset and (not groups or a.error in ERROR_GROUPS)]
    errors = list(dict.fromkeys(a.error for a in chosen))
    by_metric: dict[str, dict[str, float]] = {}
    for a in chosen:
        by_metric.setdefault(a.metric, {})[a.error] = a.delta
    return errors, [(name, [found.get(error) for error in errors]) for name, found in by_metric.items()]


def _pairs(report: MetaReport, subset: str) -> list[list[str]]:
    """Of each pair the better metric first, smallest p first."""
    found = []
    for c in sorted((c for c in report.comparisons if c.subset == subset), key=lambda c: (math.isnan(c.p), c.p)):
        span = c.difference_interval
        names, values, t = [c.first, c.second], [c.r_first, c.r_second], c.t
        if c.r_second > c.r_first:
            names, values, t = names[::-1], values[::-1], -t
            span = None if span is None else (-span[1], -span[0])
        numbers = [*(_number(v, 3) for v in values), _number(t, 2), _p(c.p), _p(c.p_holm), _span(span)]
        found.append([*names, f"{c.n:,}", *numbers])
    return found


def _table(title: str, columns: Sequence[str], rows: Any) -> Block:
    from fascicle.objects import Block

    return Block(kind="table", title=title, data={"columns": list(columns), "rows": [list(row) for row in rows]})


def _dot(row: MetricRow, name: str, index: int) -> Any:
    from fascicle.figures import Dot

    low, high = getattr(row, f"{name}_interval") or (None, None)
    return Dot(name=row.metric, index=index, mean=getattr(row, name).value, low=low, high=high)


def _finite(value: float | None, digits: int) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _span(span: tuple[float, float] | None) -> str:
    return "" if span is None else f"{span[0]:.3f} to {span[1]:.3f}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


_TEMPLATE = """\
{% macro table(columns, rows, label) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}"><table>
<thead><tr>
{% for head in columns %}
<th scope="col"{% if not loop.first %} class="num"{% endif %}>{{ head }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr>
{% for cell in row %}
{% if loop.first %}<th scope="row">{{ cell }}</th>{% else %}<td class="num">{{ cell }}</td>{% endif %}

{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{{ title }}</title>
<style>
{% include "report.css" %}
</style>
</head>
<body>
<header class="top"><h1>{{ title }}</h1>
<nav aria-label="Contents">{% for part in sections %}<a href="#s{{ loop.index }}">{{ part.name }}</a>{% endfor %}</nav>
{% for text in summary %}<p class="note">{{ text }}</p>{% endfor %}
</header>
<main>
{% for part in sections %}
<section id="s{{ loop.index }}">
<h2>{{ part.name }}</h2>
{{ table(part.columns, part.rows, "Correlations, " ~ part.name) }}
{% if part.figures %}<div class="figures">
{% for figure in part.figures %}
<figure><figcaption>{{ figure.title }}<small>95 % interval over documents</small></figcaption>{{ figure.svg }}</figure>
{% endfor %}
</div>{% endif %}
{% if part.owed %}
<h3>Correlation owed to seeing an error type</h3>
<p class="note">Partial Pearson less what it is when these errors are taken for correct: positive where the metric sees them.</p>
{% if part.heatmap %}<figure>{{ part.heatmap }}</figure>{% endif %}
<details><summary>As numbers</summary><div class="inside">
{{ table(part.owed_columns, part.owed, "Ablation, " ~ part.name) }}
</div></details>
{% endif %}
{% if part.pairs %}
<details><summary>Williams' test between metrics<small>{{ part.pairs | length }}</small></summary><div class="inside">
<p class="note">Better metric first, smallest p first. p is two-sided and takes rows as independent; the interval is by document.
{% if part.pairs | length > most %}The first {{ most }}; the JSON report has all.{% endif %}</p>
{{ table(pair_columns, part.pairs[:most], "Williams, " ~ part.name) }}
</div></details>
{% endif %}
</section>
{% endfor %}
</main>
</body></html>
"""
