"""`fascicle faithsum summarize|score|metrics|meta|train-checker|check`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import MetricError

__all__ = ["main", "read_texts"]

COMMANDS = {
    "summarize": (
        "commands_summarize",
        "summarize_command",
        "write summaries with a guided model, by your guidance or its own",
    ),
    "score": ("commands", "score_command", "faithfulness of summaries to their documents"),
    "metrics": ("commands", "metrics_command", "the metrics, and where each is weak"),
    "meta": ("commands_meta", "meta_command", "how well metrics agree with people"),
    "train-checker": ("commands_checker", "train_checker_command", "train the entailment checker"),
    "check": ("commands_checker", "check_command", "ask a trained checker"),
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status.

    Raises:
        FascicleError: a file, a model or a metric that cannot be used.
    """
    told = "\n".join(f"  {name:<14} {text}" for name, (_, _, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="fascicle faithsum",
        description=f"Guided summaries and their faithfulness.\n\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="`fascicle faithsum COMMAND --help` lists them")
    options = parser.parse_args(list(arguments))
    module, function, _ = COMMANDS[options.command]
    run = getattr(importlib.import_module(f".{module}", __package__), function)
    return int(run(options.arguments))


def score_command(arguments: Sequence[str]) -> int:
    """Print means, or write one row per summary.

    Raises:
        MetricError: files of different length, an unknown metric.
    """
    parser = argparse.ArgumentParser(prog="fascicle faithsum score", description="Faithfulness of summaries.")
    parser.add_argument("sources", type=Path, help="documents: one per line, or .jsonl with `document` (or `source`)")
    parser.add_argument("summaries", type=Path, help="summaries: one per line, or .jsonl with `summary`")
    parser.add_argument("--metrics", default="sentence_max_bigram,coverage,log_density,numbers,entities,negations")
    parser.add_argument("--json", type=Path, help="write one row per summary")
    options = parser.parse_args(list(arguments))
    from fascicle.results import atomic_write_text

    from .metrics import score

    sources = read_texts(options.sources, ("document", "source"))
    summaries = read_texts(options.summaries, ("summary", "target"))
    if len(sources) != len(summaries):
        raise MetricError(
            f"{options.sources} has {len(sources)} documents, {options.summaries} {len(summaries)} summaries; "
            "expected one summary per document"
        )
    scores = score(sources, summaries, metrics=[name for name in options.metrics.split(",") if name])
    for name, values in scores.items():
        _say(f"{name:<24} {sum(values) / len(values):.4f}")
    if options.json is not None:
        rows = [dict(zip(scores, values, strict=True)) for values in zip(*scores.values(), strict=True)]
        atomic_write_text(options.json, json.dumps(rows, indent=1) + "\n")
        _say(f"wrote {options.json}")
    return 0


def metrics_command(arguments: Sequence[str]) -> int:
    """List the metrics."""
    parser = argparse.ArgumentParser(prog="fascicle faithsum metrics", description="The faithfulness metrics.")
    parser.parse_args(list(arguments))
    from .metrics import METRICS, describe

    for name in METRICS:
        _say(f"{name:<24} {describe(name)}")
    return 0


def read_texts(path: Path, columns: Sequence[str]) -> list[str]:
    """One text per line, or of a .jsonl file the first of the columns that a row has; lists of sentences are joined.

    Raises:
        MetricError: a file that cannot be read or has no texts, a row without such a column, with its line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MetricError(f"{path} cannot be read: {error}") from error
    if path.suffix != ".jsonl":
        texts = lines
    else:
        texts = [_column(line, columns, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise MetricError(f"{path} is empty, expected a text per line")
    return texts


def _column(line: str, columns: Sequence[str], where: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise MetricError(f"{where}: no JSON: {error}") from error
    found = next((row[name] for name in columns if isinstance(row, dict) and name in row), None)
    if isinstance(found, list) and found and all(isinstance(part, str) for part in found):
        found = " ".join(found)
    if not isinstance(found, str):
        raise MetricError(f"{where}: expected a text in {' or '.join(columns)}, got {type(found).__name__}")
    return found


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
