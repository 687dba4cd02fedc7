"""`fascicle faithsum train-checker` and `fascicle faithsum check`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import MetricError

__all__ = ["check_command", "train_checker_command"]


def train_checker_command(arguments: Sequence[str]) -> int:
    """Train a checker on files at hand and print its held-out score; the exit status.

    Raises:
        FascicleError: files that cannot be read, no encoder, a folder that holds something else.
    """
    parser = argparse.ArgumentParser(
        prog="fascicle faithsum train-checker",
        description="Train the entailment checker. SummEdits' documents are split 60/20/20: training, threshold, held-out score.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the checker")
    parser.add_argument(
        "--summedits",
        type=Path,
        nargs="*",
        default=[],
        help="SummEdits files or folders; default: $FASCICLE_DATA/summedits",
    )
    parser.add_argument("--leave-out", help="a SummEdits domain to hold out whole, instead of a fifth of each")
    parser.add_argument("--papers", type=Path, help="SciTLDR .jsonl; papers that SummEdits has are left out")
    parser.add_argument(
        "--pairs", type=Path, nargs="*", default=[], help="RTE or MRPC .tsv, or source, claim, label with a header"
    )
    parser.add_argument("--max-papers", type=int, default=450)
    parser.add_argument(
        "--max-pairs", type=int, default=2500, help="of each file of pairs; as many corruptions at most"
    )
    parser.add_argument("--base", type=Path, help="folder of another encoder than MiniLM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", type=int, default=3, help="trained apart and averaged")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--layer", type=int, default=5, help="hidden layer of the encoder that is compared")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(list(arguments))

    from .checker import TrainingOptions, train_checker
    from .checker_pairs import corrupted, paper_pairs, read_pairs, read_papers, summedits_pairs, without_documents
    from .summedits import read_summedits, split_by_document

    rng = random.Random(options.seed)  # noqa: S311 - a sample, no secret
    rows = read_summedits(*options.summedits)
    if options.leave_out is not None:
        held_rows = [row for row in rows if row.domain == options.leave_out]
        if not held_rows:
            raise MetricError(
                f"--leave-out: expected one of {sorted({r.domain for r in rows})}, got {options.leave_out!r}"
            )
        others = [row for row in rows if row.domain != options.leave_out]
        train_rows, validation_rows = split_by_document(others, (0.8, 0.2), seed=options.seed)
    else:
        train_rows, validation_rows, held_rows = split_by_document(rows, seed=options.seed)
    pairs = summedits_pairs(train_rows)
    if options.papers is not None:
        papers = without_documents(read_papers(options.papers), {row.document for row in rows})
        pairs += paper_pairs(rng.sample(papers, min(len(papers), options.max_papers)), rng)
    for path in options.pairs:
        found = read_pairs(path)
        found = rng.sample(found, min(len(found), options.max_pairs))
        pairs += found + corrupted(found, rng)
    report = train_checker(
        pairs,
        options.out,
        validation=summedits_pairs(validation_rows),
        held_out=summedits_pairs(held_rows),
        base=options.base,
        options=TrainingOptions(
            seed=options.seed,
            heads=options.heads,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            layer=options.layer,
            device=options.device,
        ),
    )
    for domain, score in report.card["held_out"].items():
        sys.stdout.write(
            f"{domain:<12} balanced accuracy {score['balanced_accuracy']:.3f} over {score['pairs']} claims "
            f"of {score['documents']} held-out documents\n"
        )
    sys.stdout.write(f"wrote {report.folder}\n")
    return 0


def check_command(arguments: Sequence[str]) -> int:
    """Ask a checker about each sentence of each summary; the exit status.

    Raises:
        FascicleError: files that cannot be read or differ in length, a folder without a checker.
    """
    parser = argparse.ArgumentParser(
        prog="fascicle faithsum check", description="Which sentences of summaries their documents support."
    )
    parser.add_argument("sources", type=Path, help="documents: one per line, or .jsonl with `document` (or `source`)")
    parser.add_argument("summaries", type=Path, help="summaries: one per line, or .jsonl with `summary`")
    parser.add_argument("--checker", type=Path, required=True, help="folder of a trained checker")
    parser.add_argument("--json", type=Path, help="write one row per summary, its claims with their context")
    options = parser.parse_args(list(arguments))

    from fascicle.results import atomic_write_text

    from .checker import Checker
    from .commands import read_texts

    sources = read_texts(options.sources, ("document", "source"))
    summaries = read_texts(options.summaries, ("summary", "target"))
    if len(sources) != len(summaries):
        raise MetricError(
            f"{options.sources} has {len(sources)} documents, {options.summaries} {len(summaries)} summaries; "
            "expected one summary per document"
        )
    checker = Checker.load(options.checker)
    rows = []
    for number, (source, summary) in enumerate(zip(sources, summaries, strict=True), start=1):
        claims = checker.claims(source, summary)
        rows.append({"score": sum(c["probability"] for c in claims) / len(claims) if claims else 0.0, "claims": claims})
        for claim in claims:
            mark = "supported  " if claim["supported"] else "unsupported"
            sys.stdout.write(f"{number}: {mark} {claim['probability']:.3f} {claim['claim']}\n")
    if options.json is not None:
        atomic_write_text(options.json, json.dumps(rows, indent=1) + "\n")
        sys.stdout.write(f"wrote {options.json}\n")
    return 0
