"""`fascicle sief predict|score`: relations of your own text with the sentences they rest on, and scores of a prediction file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .document import Document

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status.

    Raises:
        FascicleError: a file or a model that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="fascicle sief", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser(
        "predict", help="relations of a text or of documents, and the importance of each sentence"
    )
    predict.add_argument("model", type=Path, help="folder of a trained model, or of the run that trained it")
    predict.add_argument("input", type=Path, help="a text file (with --entity), or documents in a format of --format")
    predict.add_argument(
        "--entity", action="append", default=[], metavar="NAME[=TEXT|TEXT...]", help="an entity and its spellings"
    )
    predict.add_argument("--format", default="auto", help="of documents: docred, dialogre, cdr, scierc, auto")
    predict.add_argument("--top", type=int, help="show this many relations of a document at most")
    predict.add_argument(
        "--threshold", type=float, help="probability above which a relation is predicted; the model's own by default"
    )
    predict.add_argument("--names", type=Path, help="rel_info.json, what to call relations such as P17")
    predict.add_argument("--json", type=Path, help="write the answers as JSON")
    predict.add_argument(
        "--html", type=Path, help="write a page; with several documents the title is added to the name"
    )
    score = commands.add_parser("score", help="DocRED's scores of a result.json")
    score.add_argument("predictions", type=Path)
    score.add_argument("gold", type=Path, help="documents with relations")
    score.add_argument("--train", type=Path, help="training documents, for Ign F1")
    options = parser.parse_args(list(arguments))
    return _predict(options) if options.command == "predict" else _score(options)


def _predict(options: argparse.Namespace) -> int:
    from fascicle.results import atomic_write_text

    from .docred import relation_names
    from .inference import ModelScorer
    from .prediction import predict

    documents = _documents(options)
    names = None if options.names is None else relation_names(options.names)
    scorer = ModelScorer.load(options.model)
    if options.threshold is not None:
        scorer.threshold = options.threshold
    answers = []
    for i, document in enumerate(documents):
        explanation = predict(scorer, document, top=options.top, relation_names=names)
        answers.append(explanation.to_json())
        if options.html is not None:
            page = options.html if len(documents) == 1 else options.html.with_stem(f"{options.html.stem}-{i + 1}")
            atomic_write_text(page, explanation.to_html())
            _say(f"wrote {page}")
        if options.html is None and options.json is None:
            _say(explanation.to_ansi())
    if options.json is not None:
        atomic_write_text(options.json, json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
        _say(f"wrote {options.json}")
    return 0


def _documents(options: argparse.Namespace) -> list[Document]:
    from .readers import read
    from .rows import text_of
    from .text import document_from_text

    if not options.entity:
        return read(options.input, options.format)
    entities: dict[str, list[Any]] = {}
    for told in options.entity:
        name, _, spellings = told.partition("=")
        entities[name] = spellings.split("|") if spellings else [name]
    return [document_from_text(text_of(options.input), entities, title=options.input.stem)]


def _score(options: argparse.Namespace) -> int:
    from .readers import read
    from .scores import docred_scores, train_facts
    from .submissions import read_docred_predictions

    facts = None if options.train is None else {"annotated": train_facts(read(options.train))}
    scores = docred_scores(read(options.gold), read_docred_predictions(options.predictions), facts)
    for name, value in scores.items():
        _say(f"{name:<24} {value:.6f}")
    return 0


def _say(text: str) -> None:
    import sys

    sys.stdout.write(text + "\n")
