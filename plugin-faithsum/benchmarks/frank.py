"""Every metric on FRANK: partial correlations with intervals by document, and what a pair costs.

    python benchmarks/frank.py FRANK.json [--metrics lexical,embedding_precision] [--checker FOLDER] [--pooled]

`--pooled` adds sums of z-scores of pairs of metrics (z-scores of the file itself, so nothing is fitted to human scores).
Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np

from fascicle_faithsum.frank import read_rated
from fascicle_faithsum.meta import meta_evaluate, metric_scores
from fascicle_faithsum.metrics import LEXICAL, metric

FACTS = ("numbers", "entities", "negations")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--metrics", default="published,lexical,facts")
    parser.add_argument("--checker", type=Path)
    parser.add_argument("--pooled", action="store_true")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rated = read_rated(options.file)
    rows = [row for row in rated.rows if row.score is not None]
    several = {"published": rated.published, "lexical": LEXICAL, "facts": FACTS}
    names = [name for word in options.metrics.split(",") for name in several.get(word, (word,))]
    scorers = {name: name if name in rated.columns else metric(name) for name in names}
    if options.checker is not None:
        from fascicle_faithsum.checker import Checker

        scorers["checker"] = Checker.load(options.checker)
    scores: dict[str, list[float | None]] = {}
    cost: dict[str, float] = {}
    for name, scorer in scorers.items():
        start = time.perf_counter()
        scores |= metric_scores(rows, {name: scorer})
        cost[name] = 1000 * (time.perf_counter() - start) / len(rows)
    if options.pooled:
        whole = {
            name: np.array(values, dtype=float)
            for name, values in scores.items()
            if name not in rated.columns and None not in values and len(set(values)) > 1
        }
        z = {name: (values - values.mean()) / values.std() for name, values in whole.items()}
        scores |= {f"{a} + {b}": (z[a] + z[b]).tolist() for a, b in itertools.combinations(z, 2)}
    report = meta_evaluate(rows, scores, resamples=options.resamples, seed=options.seed)
    lines = [
        f"{options.file.name}, SHA-256 {rated.sha256}; {options.resamples} resamples, seed {options.seed}",
        "",
        report.markdown(),
        "| metric | ms per summary |",
        "|---|---|",
        *(f"| {name} | {ms:.1f} |" for name, ms in cost.items() if name not in rated.columns),
        "",
        *(f"- {note}" for note in report.notes),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
