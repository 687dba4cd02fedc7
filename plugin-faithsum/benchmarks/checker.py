"""How well trained checkers, and what needs no training, agree with people, system regressed out, by part of a rated set.

    python plugin-faithsum/benchmarks/checker.py FRANK.json --checker FOLDER [FOLDER ...] [--json FILE]
        [--metrics sentence_max_bigram,...] [--parts xsum] [--resamples 1000]

Intervals: 95 %, documents resampled. `sum` columns are sums of z-scores, an oracle-free mixture of the named scores.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from fascicle_faithsum.checker import Checker
from fascicle_faithsum.correlation import bootstrap_correlations, correlate, draw_clusters, interval
from fascicle_faithsum.frank import read_rated
from fascicle_faithsum.metrics import LEXICAL, metric


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rated", type=Path)
    parser.add_argument("--checker", type=Path, nargs="*", default=[])
    parser.add_argument("--metrics", default=",".join(LEXICAL))
    parser.add_argument("--parts", nargs="*", help="data sets of the file; default: all")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    found = read_rated(options.rated)
    rows = [row for row in found.rows if row.score is not None and row.document]
    if options.parts:
        rows = [row for row in rows if row.dataset in options.parts]
    sources, summaries = [r.document for r in rows], [r.summary for r in rows]
    scores: dict[str, np.ndarray] = {}
    for name in options.metrics.split(","):
        if name:
            scores[name] = np.array(metric(name)(sources, summaries))
    for folder in options.checker:
        scores[f"checker {folder.name}"] = np.array(Checker.load(folder)(sources, summaries))
    for folder in options.checker:
        for other in ("embedding_precision", "idf_alignment", "sentence_max_bigram"):
            if other in scores:
                mixed = sum(_z(scores[name]) for name in (f"checker {folder.name}", other))
                scores[f"sum {folder.name} + {other}"] = mixed
    parts = [*dict.fromkeys(row.dataset for row in rows)]
    lines: list[dict[str, Any]] = []
    for part in parts if len(parts) == 1 else ["all", *parts]:
        at = [i for i, row in enumerate(rows) if part in ("all", row.dataset)]
        lines += _part(part, [rows[i] for i in at], {n: s[at] for n, s in scores.items()}, options)
    for line in lines:
        low, high = line["interval"] or (float("nan"),) * 2
        print(f"{line['part']:<8} {line['metric']:<44} {line['pearson']:+.3f} [{low:+.3f}, {high:+.3f}]")
    if options.json is not None:
        about = {"rated_sha256": found.sha256, "seed": options.seed, "resamples": options.resamples}
        options.json.write_text("".join(json.dumps({**line, **about}) + "\n" for line in lines), encoding="utf-8")


def _part(
    part: str, rows: list[Any], scores: dict[str, np.ndarray], options: argparse.Namespace
) -> list[dict[str, Any]]:
    human, systems = [row.score for row in rows], [row.system for row in rows]
    draws = draw_clusters([row.document_id for row in rows], options.resamples, options.seed)
    resampled = bootstrap_correlations([human], list(scores.values()), systems, draws).pearson[:, 0]
    return [
        {
            "part": part,
            "metric": name,
            "rows": len(rows),
            "pearson": correlate(human, values, systems).value,
            "interval": interval(resampled[:, i]),
        }
        for i, (name, values) in enumerate(scores.items())
    ]


def _z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() or 1.0)


if __name__ == "__main__":
    main()
