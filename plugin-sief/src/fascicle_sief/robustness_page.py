"""A robustness report as tables on a run's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measures import MEASURES, VARIANTS

if TYPE_CHECKING:
    from fascicle.objects import Block, Section

    from .estimates import Rate
    from .robustness_report import RobustnessReport

__all__ = ["section"]


def section(report: RobustnessReport) -> Section:
    """The plugin's part of a run's page.

    >>> from fascicle_sief.robustness_report import RobustnessReport
    >>> empty = RobustnessReport(
    ...     records=(), threshold=0.5, seed=0, resamples=0, foreign_sentences=2, passes=0
    ... )  # fmt: skip
    >>> [block.kind for block in section(empty).blocks]
    ['text', 'table', 'table']
    """
    from fascicle.objects import Block, Section

    blocks = [Block(kind="text", data={"text": _summary(report)}), _rates_block(report), _f1_block(report)]
    return Section(title="Robustness: sentences removed, moved and added", blocks=blocks, plugin="sief")


def _summary(report: RobustnessReport) -> str:
    away, evidence = report.rates["removal_flip"], report.rates["evidence_flip"]
    text = (
        f"Removing one sentence outside the evidence loses {_percent(away.value)} of the true positives; removing one sentence of "
        f"the evidence loses {_percent(evidence.value)}. Read the two together: low, then high. A model that ignores the text "
        "has 0 and 0."
    )
    if report.ignores_context:
        text += " So it is here: nothing that was removed changed a true positive."
    reasons = "".join(f", {reason}: {n:,}" for reason, n in report.excluded.items())
    return (
        f"{text}\n\n{len(report.records):,} documents, {sum(len(r.triples) for r in report.records):,} gold triples, "
        f"{report.passes:,} passes; threshold {report.threshold:.4g} as on whole documents; seed {report.seed}. "
        f"Left out: {reasons.lstrip(', ') or 'nothing'}."
    )


def _percent(value: float | None) -> str:
    return "(none to count)" if value is None else f"{100 * value:.1f} %"


def _cells(rate: Rate, digits: int = 4) -> list[str | float | None]:
    value = None if rate.value is None else round(rate.value, digits)
    interval = None if rate.low is None or rate.high is None else f"{rate.low:.{digits}f} to {rate.high:.{digits}f}"
    return [value, interval]


def _left_out(rate: Rate) -> str:
    return "; ".join(f"{reason}: {n:,}" for reason, n in rate.excluded.items())


def _rates_block(report: RobustnessReport) -> Block:
    from fascicle.objects import Block

    lines = [(m.name, m.short, m.text, m.good) for m in MEASURES.values()]
    lines.insert(2, ("selectivity", "EVS - NEF", "evidence_flip - removal_flip", "high"))
    lines.append(("false_positives", "FPD", "new positives per document when one random sentence is removed", "low"))
    rows: list[list[str | float | None]] = []
    for name, short, text, good in lines:
        rate = report.rates[name]
        title = f"{name} ({short})" if short else name
        rows.append([title, *_cells(rate), rate.count, rate.n, rate.documents, good, text, _left_out(rate)])
    columns = ["rate", "value", "95 % interval", "count", "of", "documents", "good", "meaning", "left out"]
    caption = (
        f"Percentile bootstrap over documents, {report.resamples:,} draws. "
        "T: gold triples with known evidence; TP: those predicted."
    )
    return Block(kind="table", title="Rates", data={"columns": columns, "rows": rows, "caption": caption})


def _f1_block(report: RobustnessReport) -> Block:
    from fascicle.objects import Block

    rows: list[list[str | float | None]] = []
    for variant, text in VARIANTS.items():
        own, change = report.rates[f"f1_{variant}"], report.rates.get(f"f1_{variant}_change")
        changes = [None, None] if change is None else _cells(change)
        rows.append([text, *_cells(own), *changes, own.documents, _left_out(own)])
    columns = ["documents are", "F1", "95 % interval", "change", "95 % interval", "documents", "left out"]
    caption = (
        "Micro F1 of all predictions against all gold triples, also those whose entities are gone. "
        "Change: against the same documents, whole."
    )
    return Block(kind="table", title="F1 of the variants", data={"columns": columns, "rows": rows, "caption": caption})
