"""`fascicle faithsum meta FILE`: how well metrics agree with people, on FRANK or any rated summaries."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MetricError

if TYPE_CHECKING:
    from .frank import RatedSet

__all__ = ["meta_command"]

_CHECKER = "checker"


def meta_command(arguments: Sequence[str]) -> int:
    """Score metrics against the human labels of a file; the exit status.

    Raises:
        MetricError: the file, a field, a metric or an output folder that cannot be used; said before anything is scored.
    """
    options = _parser().parse_args(list(arguments))
    if options.resamples < 0:
        raise MetricError(f"--resamples: expected 0 or more, got {options.resamples}.")
    for name in ("out", "page"):
        target: Path | None = getattr(options, name)
        if target is not None and not target.absolute().parent.is_dir():
            raise MetricError(f"--{name} {target}: there is no folder {target.absolute().parent}; make it first.")
    if options.checker is not None and not options.checker.is_dir():
        raise MetricError(f"--checker {options.checker}: no such folder; `fascicle faithsum train-checker` writes one.")
    from .frank import Fields, read_rated

    names = {option.name: getattr(options, f"{option.name}_field") for option in fields(Fields)}
    rated = read_rated(options.file, Fields(**names))
    subsets = None if options.subset is None else _split(options.subset)
    known = ["all", *rated.datasets]
    for subset in subsets or ():
        if subset not in known:
            raise MetricError(f"--subset {subset}: not in the file; there are: {', '.join(known)}.")
    metrics = _metrics(options.metrics, rated, options.checker)

    from fascicle.results import atomic_write_text

    from .meta import meta_evaluate

    report = meta_evaluate(
        rated, metrics, by=subsets, seed=options.seed, resamples=options.resamples, control=options.control
    )
    _show(report)
    if options.out is not None:
        atomic_write_text(options.out, report.to_json())
        _say(f"wrote {options.out}")
    if options.page is not None:
        atomic_write_text(options.page, report.html(f"Metrics against human scores: {options.file.name}"))
        _say(f"wrote {options.page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fascicle faithsum meta",
        description="How well metrics agree with people: partial correlation with systems removed (FRANK's protocol), intervals "
        "by document, Williams' test between metrics, and an ablation of error types where the labels allow it.",
    )
    parser.add_argument("file", type=Path, help="rated summaries: FRANK's json, or any json, jsonl, csv or tsv of rows")
    parser.add_argument(
        "--metrics",
        help="names, separated by commas: of the plugin's metrics or of columns of numbers in the file; `published`: the scores "
        "that the file declares; `lexical`: the plugin's that need no model; `all`: both. By default `all`",
    )
    parser.add_argument("--checker", type=Path, metavar="FOLDER", help="also a checker trained by `train-checker`")
    parser.add_argument("--subset", help="all, or data sets of the file, separated by commas; by default all of these")
    parser.add_argument("--out", type=Path, help="write the report as JSON")
    parser.add_argument("--page", type=Path, help="write the report as an HTML page")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--resamples", type=int, default=1000, help="of documents, for the intervals; 0 for none")
    parser.add_argument(
        "--control",
        choices=("system", "system+dataset", "none"),
        default="system",
        help="what is partialled out: systems (FRANK's), systems of each data set, or nothing",
    )
    told = {
        "document": "the text that was summarized",
        "summary": "the summary",
        "score": "the human score; human.Factuality steps into an object, annotations.score averages over a list",
        "system": "who wrote the summary",
        "dataset": "a data set, reported separately",
        "document_id": "rows of one document, resampled together; by default its text",
        "reference": "a reference summary",
        "metrics": "an object of stored scores",
    }
    for name, text in told.items():
        option = f"--{name.replace('_', '-')}-field"
        parser.add_argument(option, metavar="NAME", help=f"field of {text}; by default the usual names are tried")
    return parser


def _metrics(asked: str | None, rated: RatedSet, checker: Path | None) -> Mapping[str, Any]:
    """Name to what scores it, `checker` last. A column of the file wins over a metric of that name."""
    from .metrics import METRICS, metric

    has_text = all(any(getattr(row, role) for row in rated.rows) for role in ("document", "summary"))
    words = _split(asked) if asked is not None else ["all"]
    found: dict[str, Any] = {}
    for word in words:
        if word == "all":
            names = [*rated.published, *(_lexical() if has_text else [])]
        elif word == "published":
            names = list(rated.published)
            if not names:
                columns = ", ".join(rated.columns) or "none"
                raise MetricError(
                    f"--metrics published: the file declares no scores; its columns of numbers: {columns}."
                )
        elif word == "lexical":
            names = _lexical()
        else:
            names = [word]
        for name in names:
            if name not in rated.columns and name not in METRICS:
                columns = ", ".join(rated.columns) or "none"
                raise MetricError(
                    f"--metrics {name}: unknown. In the file: {columns}. The plugin's: {', '.join(METRICS)}. "
                    "Also: published, lexical, all."
                )
            if name not in rated.columns and not has_text:
                raise MetricError(
                    f"--metrics {name}: reads documents and summaries, and the file has none that were found; name their "
                    "fields (--document-field, --summary-field)."
                )
            found[name] = name if name in rated.columns else metric(name)
    if checker is not None:
        from .checker import Checker

        found[_CHECKER] = Checker.load(checker)
    if not found:
        raise MetricError("nothing to score: the file has no stored scores and no texts; name fields or --metrics.")
    return found


def _lexical() -> list[str]:
    from .metrics import LEXICAL

    return [*LEXICAL, "numbers", "entities", "negations"]


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _show(report: Any) -> None:
    from rich.console import Console

    from .meta_page import terminal

    console = Console()
    for table in terminal(report):
        console.print(table)
        console.print()
    for note in report.notes:
        console.print(f"! {note}", markup=False, highlight=False)
    source = report.source
    console.print(f"{source['path']}  SHA-256 {source['sha256']}", markup=False, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    import sys

    sys.stdout.write(text + "\n")
