"""What LoRA-drop gains or loses against plain LoRA and against controls of the same size: the record of long measurements.

Runs of `loradrop_glue` and `loradrop_e2e` take hours on a CPU. `collect` turns their folders into one line a run; the lines are
kept in `results/`, so that the table can be made again, and continued, without them. Without arguments it prints the tables.

    python benchmarks/accuracy.py collect outputs/loradrop_glue --out benchmarks/results/glue.jsonl
    python benchmarks/accuracy.py

A line holds what was chosen, what was measured, and for a classifier which test rows were right, as a hexadecimal number of one
bit a row. Differences are paired by seed (and row); intervals are the report's own, at 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fascicle.results import atomic_write_text, find_results
from fascicle.statistics import Pair, paired_difference, summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fascicle.results import Result
    from fascicle.statistics import Difference

Set = tuple[str, int, int]
HOME = Path(__file__).parent / "results"
SET = ("task", "rows", "batch_size")
"""What makes a comparison fair: two runs that differ in one of these are not of one test set."""
KEYS = ("experiment", *SET, "training", "budget", "seed")
CONTROLS = ("hf_lora", "loradrop_random", "loradrop_inverse", "loradrop_uniform", "loradrop_no_share")


def pack(right: Sequence[float]) -> dict[str, Any]:
    """Right or wrong of each row, as bits.

    >>> unpack(pack([1.0, 0.0, 1.0, 1.0]))
    [1.0, 0.0, 1.0, 1.0]
    """
    return {"test_rows": len(right), "right": f"{int(''.join(str(int(r)) for r in right), 2):x}"}


def unpack(line: dict[str, Any]) -> list[float]:
    """The rows that `pack` packed; none where there were none."""
    if "right" not in line:
        return []
    return [float(bit) for bit in f"{int(line['right'], 16):0{line['test_rows']}b}"]


def line_of(result: Result) -> dict[str, Any]:
    """One run as one line."""
    data, training = result.config["data"], result.config["training"]
    line = {
        "experiment": result.choices["experiment"],
        "task": data.get("task", data["kind"]),
        "rows": data["train_rows"],
        "training": result.choices["training"],
        "budget": training.get("budget"),
        "seed": result.seed,
        "epochs": training["epochs"],
        "batch_size": training["batch_size"],
        "learning_rate": training["learning_rate"],
        "metrics": {key: round(value, 6) for key, value in result.metrics.items()},
        "lora_fraction": round(result.training.get("lora_fraction", 1.0), 6),
    }
    if "accuracy" in result.per_example:
        line |= pack(list(result.per_example["accuracy"]))
    return line


def collect(roots: Iterable[Path], out: Path) -> int:
    """Add the finished runs under `roots` to `out`; a run of the same choices replaces its line."""
    lines = {tuple(line[key] for key in KEYS): line for line in read(out)}
    before = len(lines)
    for _, result in find_results(roots):
        line = line_of(result)
        lines[tuple(line[key] for key in KEYS)] = line
    ordered = sorted(lines.values(), key=lambda line: [str(line[key]) for key in KEYS])
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out, "".join(json.dumps(line) + "\n" for line in ordered))
    return len(lines) - before


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none where there is no file."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(lines: Sequence[dict[str, Any]], metric: str, scale: float, digits: int) -> str:
    """Means by task, and paired differences of LoRA-drop to each other arm: in each task, then over all, which weigh the same."""
    sets = list(dict.fromkeys(_set(line) for line in lines))
    out = [
        f"| training | budget | {' | '.join(map(_name, sets))} |",
        "|---" * (len(sets) + 2) + "|",
    ]
    arms = sorted({(line["training"], line["budget"] or 1.0) for line in lines}, key=lambda arm: (-arm[1], arm[0]))
    for training, budget in arms:
        cells = []
        for one in sets:
            found = _chosen(lines, training, budget, one)
            summary = summarize([line["metrics"][metric] * scale for line in found])
            spread = f" ± {summary.sd:.{digits}f}" if summary.sd is not None else ""
            cells.append(f"{summary.mean:.{digits}f}{spread} ({summary.n})" if summary.n else "")
        out.append(f"| {training} | {budget:g} | {' | '.join(cells)} |")
    out += ["", "| test set | loradrop minus | budget | mean | 95 % interval | pairs |", "|---" * 6 + "|"]
    shown = [([one], _name(one)) for one in sets] + ([(sets, "all")] if len({one[0] for one in sets}) > 1 else [])
    for chosen, name in shown:
        some = [line for line in lines if _set(line) in chosen]
        for budget in sorted({budget for training, budget in arms if training == "loradrop"}, reverse=True):
            for other in CONTROLS:
                d = difference(some, other, budget, metric)
                if d is not None:
                    ends = [f"{scale * end:+.{digits}f}" for end in (d.low, d.high) if end is not None]
                    interval = f"[{', '.join(ends)}]" if ends else "-"
                    out.append(
                        f"| {name} | {other} | {budget:g} | {scale * d.mean:+.{digits}f} | {interval} | {d.pairs} |"
                    )
    return "\n".join(out)


def difference(lines: Sequence[dict[str, Any]], other: str, budget: float, metric: str) -> Difference | None:
    """LoRA-drop minus another arm, paired by test set and seed; None where no pair exists."""
    pairs = []
    for line in (line for line in lines if line["training"] == "loradrop" and line["budget"] == budget):
        theirs = 1.0 if other == "hf_lora" else budget
        found = _chosen(lines, other, theirs, _set(line), line["seed"])
        for base in found:
            by_row = metric == "accuracy"
            pairs.append(
                Pair(
                    value=line["metrics"][metric],
                    baseline=base["metrics"][metric],
                    rows=unpack(line) if by_row else (),
                    baseline_rows=unpack(base) if by_row else (),
                    unit=_name(_set(line)),
                )
            )
    return paired_difference(pairs) if pairs else None


def _chosen(
    lines: Sequence[dict[str, Any]], training: str, budget: float, one: Set, seed: int | None = None
) -> list[dict[str, Any]]:
    return [
        line
        for line in lines
        if (line["training"], line["budget"] or 1.0, _set(line)) == (training, budget, one)
        and seed in (None, line["seed"])
    ]


def _set(line: dict[str, Any]) -> Set:
    return line["task"], line["rows"], line["batch_size"]


def _name(one: Set) -> str:
    return f"{one[0]}, {one[1]} rows in {one[2]}s"


def main() -> None:
    """Collect, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser("collect", help="add finished runs to a file of lines")
    command.add_argument("roots", nargs="+", type=Path)
    command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "collect":
        sys.stdout.write(f"{collect(args.roots, args.out)} new lines in {args.out}\n")
        return
    for path in sorted(HOME.glob("*.jsonl")):
        lines = read(path)
        classifies = all("right" in line for line in lines)
        chosen = ("accuracy", 100.0, 2) if classifies else ("nll", 1.0, 4)
        nan = [line for line in lines if not math.isfinite(line["metrics"][chosen[0]])]
        sys.stdout.write(
            f"{path.stem}: {chosen[0]}, {len(lines)} runs, {len(nan)} without a number\n\n{table(lines, *chosen)}\n\n"
        )


if __name__ == "__main__":
    main()
