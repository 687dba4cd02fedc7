"""Prediction files in the formats that the official evaluations of DocRED and DialogRE read.

Source: the `result.json` of thunlp/DocRED `code/evaluation.py`; the logits files of nlpdata/dialogre `bert/evaluate.py`, one line
of 36 numbers for each pair (F1), or for each pair and each of its turns (F1c).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.results import atomic_write_text

from .dialogre_scores import RELATIONS
from .errors import DocumentError, SiefError
from .rows import text_of
from .scores import Prediction

if TYPE_CHECKING:
    import os

__all__ = [
    "read_dialogre_prefixes",
    "read_dialogre_scores",
    "read_docred_predictions",
    "write_dialogre_prefixes",
    "write_dialogre_scores",
    "write_docred_predictions",
]


def write_docred_predictions(path: str | os.PathLike[str], predictions: Iterable[Prediction]) -> Path:
    """Write a `result.json`: one row of title, h_idx, t_idx, r and evidence for each prediction, in the order given.

    Raises:
        ResultError: the file cannot be written; a previous one is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_docred_predictions(Path(folder, "result.json"), [Prediction("d", 0, 1, "P17", (2,))])
    ...     path.read_text()
    '[{"title": "d", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": [2]}]\\n'
    """
    rows = [
        {"title": p.title, "h_idx": p.head, "t_idx": p.tail, "r": p.relation, "evidence": list(p.evidence)}
        for p in predictions
    ]
    return atomic_write_text(path, json.dumps(rows, ensure_ascii=False) + "\n")


def read_docred_predictions(path: str | os.PathLike[str]) -> list[Prediction]:
    """Read a `result.json`; rows may leave `evidence` out.

    Raises:
        DocumentError: no such file, no JSON list, or a row that is not a prediction, said with its number from 0.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "result.json")
    ...     _ = path.write_text('[{"title": "d", "h_idx": 0, "t_idx": 1, "r": "P17"}]')
    ...     read_docred_predictions(path)
    [Prediction(title='d', head=0, tail=1, relation='P17', evidence=())]
    """
    path = Path(path)
    try:
        rows = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}:{error.lineno}: not JSON ({error.msg}); write it again") from error
    if not isinstance(rows, list):
        raise DocumentError(f"{path}: expected a list of predictions, got {type(rows).__name__}")
    return [_prediction(f"{path}, row {i}", row) for i, row in enumerate(rows)]


def _prediction(where: str, row: Any) -> Prediction:
    if not isinstance(row, dict):
        raise DocumentError(f"{where}: expected an object with title, h_idx, t_idx and r, got {row!r:.60}")
    for key, kind, words in (
        ("title", str, "text"),
        ("h_idx", int, "a number"),
        ("t_idx", int, "a number"),
        ("r", str, "text"),
    ):
        if not isinstance(row.get(key), kind) or isinstance(row[key], bool):
            raise DocumentError(f"{where}: {key}: expected {words}, got {row.get(key, 'nothing')!r:.60}")
    evidence = row.get("evidence", [])
    if not isinstance(evidence, list) or any(type(k) is not int for k in evidence):
        raise DocumentError(f"{where}: evidence: expected a list of sentence numbers, got {evidence!r:.60}")
    return Prediction(row["title"], row["h_idx"], row["t_idx"], row["r"], tuple(evidence))


def write_dialogre_scores(path: str | os.PathLike[str], scores: np.ndarray) -> Path:
    """Write the logits file for F1: the official script turns them into probabilities again.

    Args:
        path: of the file.
        scores: (pairs, 36) probabilities; 0 and 1 are written as -inf and inf, which the script reads.

    Raises:
        SiefError: another shape, or values outside [0, 1].
        ResultError: the file cannot be written; a previous one is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_dialogre_scores(Path(folder, "logits_dev.txt"), np.full((2, 36), 0.5))
        ...     read_dialogre_scores(path).shape
        (2, 36)
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.shape[1] != len(RELATIONS) or not ((scores >= 0) & (scores <= 1)).all():
        raise SiefError(
            f"scores: expected (rows, {len(RELATIONS)}) probabilities from 0 to 1, got shape {scores.shape}, "
            f"{int((~((scores >= 0) & (scores <= 1))).sum())} values outside"
        )
    with np.errstate(divide="ignore"):
        logits = np.log(scores) - np.log1p(-scores)
    return atomic_write_text(path, "".join(" ".join(map(repr, row)) + "\n" for row in logits.tolist()))


def read_dialogre_scores(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a logits file as (rows, 36) probabilities.

    Raises:
        DocumentError: no such file, or a line that is not 36 numbers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "logits_dev.txt")
    ...     _ = path.write_text(" ".join(["0.0"] * 36))
    ...     float(read_dialogre_scores(path)[0, 35])
    0.5
    """
    path = Path(path)
    rows = [_logits(f"{path}:{number}", line) for number, line in enumerate(text_of(path).splitlines(), 1)]
    logits = np.array(rows, dtype=float).reshape(-1, len(RELATIONS))
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)))


def _logits(where: str, line: str) -> list[float]:
    try:
        row = [float(word) for word in line.split()]
    except ValueError as error:
        raise DocumentError(f"{where}: expected {len(RELATIONS)} numbers, {error}") from error
    nan = sum(map(math.isnan, row))
    if len(row) != len(RELATIONS) or nan:
        raise DocumentError(f"{where}: expected {len(RELATIONS)} numbers, got {len(row)}, of which {nan} are NaN")
    return row


def write_dialogre_prefixes(path: str | os.PathLike[str], prefix_scores: Sequence[np.ndarray]) -> Path:
    """Write the logits file for F1c: all turns of the first pair, then of the next.

    Args:
        path: of the file.
        prefix_scores: for each pair (turns, 36) probabilities, as [`dialogre_f1c`] takes them.

    Raises:
        SiefError: no pairs, another shape, or values outside [0, 1].
        ResultError: the file cannot be written; a previous one is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_dialogre_prefixes(
        ...         Path(folder, "logits_devc.txt"), [np.full((3, 36), 0.5), np.full((1, 36), 0.5)]
        ...     )
        ...     [scores.shape for scores in read_dialogre_prefixes(path, turns=[3, 1])]
        [(3, 36), (1, 36)]
    """
    if not len(prefix_scores):
        raise SiefError("prefix_scores: expected (turns, 36) probabilities for each pair, got no pair")
    return write_dialogre_scores(path, np.concatenate([np.asarray(scores, dtype=float) for scores in prefix_scores]))


def read_dialogre_prefixes(path: str | os.PathLike[str], turns: Sequence[int]) -> list[np.ndarray]:
    """Read a logits file for F1c as (turns, 36) probabilities for each pair.

    Args:
        path: of the file.
        turns: number of turns of each pair's dialogue, in order.

    Raises:
        DocumentError: no such file, a line that is not 36 numbers, or another number of lines than turns.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_dialogre_scores(Path(folder, "logits_devc.txt"), np.full((3, 36), 0.5))
        ...     [len(scores) for scores in read_dialogre_prefixes(path, turns=[1, 2])]
        [1, 2]
    """
    scores = read_dialogre_scores(path)
    if len(scores) != sum(turns):
        raise DocumentError(
            f"{path}: expected {sum(turns)} lines, one for each turn of {len(turns)} pairs, got {len(scores)}; "
            "is it the file of another part of the data, or the one for F1?"
        )
    return np.split(scores, np.cumsum(turns)[:-1]) if len(turns) else []
