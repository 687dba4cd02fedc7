"""SIEF beside its base and the random-drop control on real documents: the record of long runs, and the tables made from it.

    python plugin-sief/benchmarks/real.py collect outputs/sief_redocred
    python plugin-sief/benchmarks/real.py

`collect` adds one line a finished run to results/real.jsonl; without arguments the tables are printed. Differences are paired by
seed; intervals are the report's own, at 95 %, over seeds alone, since F1 is no mean over documents.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fascicle.results import atomic_write_text, find_results
from fascicle.statistics import Pair, paired_difference, summarize

RECORD = Path(__file__).parent / "results" / "real.jsonl"
SET = ("experiment", "model", "epochs", "batch_size")
BASE, ARMS = "sief_none", ("sief_focusing", "sief_random_drop")
SHOWN = {
    "sief_redocred": ("f1", "ign_f1", "removal_flip", "evidence_flip", "false_positives", "evidence_f1_importance"),
    "sief_docred_human": ("f1", "ign_f1", "removal_flip", "evidence_flip", "false_positives", "evidence_f1_importance"),
    "sief_dialogre": ("f1", "f1c", "t2"),
}
Line = dict[str, Any]


def collect(roots: Iterable[Path]) -> int:
    """Add the finished runs under `roots`; a run of the same choices replaces its line. How many are new."""
    lines = {key(line): line for line in read()}
    before = len(lines)
    for _, result in find_results(roots):
        training = result.config["training"]
        line = {
            "experiment": result.choices["experiment"],
            "model": result.choices["model"],
            "objective": result.choices["objective"],
            "seed": result.seed,
            "epochs": training["epochs"],
            "batch_size": training["batch_size"],
            "learning_rate": training["learning_rate"],
            "data": result.provenance.get("data", {}).get("fingerprint", ""),
            "train_seconds": round(result.training.get("train_seconds", 0.0), 1),
            "metrics": {name: round(value, 6) for name, value in result.metrics.items()},
        }
        lines[key(line)] = line
    RECORD.parent.mkdir(exist_ok=True)
    ordered = sorted(lines.values(), key=lambda line: str(key(line)))
    atomic_write_text(RECORD, "".join(json.dumps(line) + "\n" for line in ordered))
    return len(lines) - before


def key(line: Line) -> tuple[Any, ...]:
    """What makes a run another one."""
    return tuple(line[name] for name in (*SET, "objective", "seed"))


def read() -> list[Line]:
    """The lines of the record."""
    return [json.loads(text) for text in RECORD.read_text(encoding="utf-8").splitlines()] if RECORD.exists() else []


def table(lines: Sequence[Line]) -> str:
    """Means and deviations by arm, and each arm minus the base, of one set of runs."""
    metrics = SHOWN[lines[0]["experiment"]]
    out = [f"| objective | seeds | {' | '.join(metrics)} |", "|---" * (len(metrics) + 2) + "|"]
    for arm in (BASE, *ARMS):
        some = [line for line in lines if line["objective"] == arm]
        cells = [summarize([line["metrics"][metric] for line in some]) for metric in metrics]
        told = [f"{c.mean:.4f}" + (f" ± {c.sd:.4f}" if c.sd is not None else "") for c in cells]
        out.append(f"| {arm} | {len(some)} | {' | '.join(told)} |")
    bases = {line["seed"]: line["metrics"] for line in lines if line["objective"] == BASE}
    for arm in ARMS:
        pairs = [
            (line["metrics"], bases[line["seed"]])
            for line in lines
            if line["objective"] == arm
            if line["seed"] in bases
        ]
        told = []
        for metric in metrics if pairs else ():
            d = paired_difference([Pair(value=value[metric], baseline=base[metric]) for value, base in pairs])
            ends = "" if d.low is None or d.high is None else f" [{d.low:+.4f}, {d.high:+.4f}]"
            told.append(f"{d.mean:+.4f}{ends}")
        if pairs:
            out.append(f"| {arm} - {BASE} | {len(pairs)} | {' | '.join(told)} |")
    return "\n".join(out)


def main() -> None:
    """Collect, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("collect", help="add finished runs").add_argument("roots", nargs="+", type=Path)
    args = parser.parse_args()
    if args.command == "collect":
        sys.stdout.write(f"{collect(args.roots)} new lines in {RECORD}\n")
        return
    lines = read()
    for one in dict.fromkeys(tuple(line[name] for name in SET) for line in lines):
        some = [line for line in lines if tuple(line[name] for name in SET) == one]
        sys.stdout.write(
            f"{', '.join(f'{name} {value}' for name, value in zip(SET, one, strict=True))}\n\n{table(some)}\n\n"
        )


if __name__ == "__main__":
    main()
