"""SummEdits (Laban et al. 2023): a checked summary per document and edits of it, labelled consistent or not. Light: no torch."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import MetricError
from .text import sentences, tokens

__all__ = [
    "EditedSummary",
    "document_key",
    "edit_words",
    "edited_claims",
    "read_summedits",
    "split_by_document",
    "summedits_folder",
]


@dataclass(frozen=True)
class EditedSummary:
    """A row: a document, a summary with or without an edit, and whether it is consistent."""

    id: str
    domain: str
    document: str
    summary: str
    original: str
    """The checked summary that was edited."""
    consistent: bool
    edit_types: tuple[str, ...] = ()


def summedits_folder() -> Path:
    """`$FASCICLE_DATA/summedits`.

    Raises:
        MetricError: the variable is not set, or there is no such folder.
    """
    data = os.environ.get("FASCICLE_DATA")
    if not data:
        raise MetricError(
            "SummEdits: the environment variable FASCICLE_DATA is not set; set it to the folder that holds summedits/, "
            "or give the files (https://github.com/salesforce/factualNLG)"
        )
    folder = Path(data).expanduser() / "summedits"
    if not folder.is_dir():
        raise MetricError(
            f"SummEdits: there is no folder {folder}; put the domains' .json files there, or give their paths"
        )
    return folder


def read_summedits(*paths: str | os.PathLike[str]) -> list[EditedSummary]:
    """All rows of the files (`news.json`, ...; the name is the domain) or folders given; of [`summedits_folder`] if none is.

    Raises:
        MetricError: a file that cannot be read or is no list, a row without a field or with a wrong one: file and row are named.
    """
    files: list[Path] = []
    for path in paths or (summedits_folder(),):
        found = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
        if not found:
            raise MetricError(f"SummEdits: {path} holds no .json files; expected one per domain")
        files += found
    return [row for file in files for row in _read(file)]


def _read(file: Path) -> list[EditedSummary]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MetricError(f"SummEdits: {file} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise MetricError(f"SummEdits: {file} is no JSON: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise MetricError(
            f"SummEdits: {file}: expected a list of rows, got {type(rows).__name__} of length {len(rows) if rows else 0}"
        )
    return [_row(row, file.stem, f"{file}, row {number}") for number, row in enumerate(rows, start=1)]


def _row(row: Any, domain: str, where: str) -> EditedSummary:
    if not isinstance(row, Mapping):
        raise MetricError(f"SummEdits: {where}: expected an object, got {type(row).__name__}")
    for name in ("doc", "summary", "original_summary"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise MetricError(f"SummEdits: {where}: {name}: expected a text, got {row.get(name)!r}")
    label = row.get("label")
    if isinstance(label, float) or label not in (0, 1):
        raise MetricError(f"SummEdits: {where}: label: expected 1 (consistent) or 0, got {label!r}")
    edits = row.get("edit_types") or ()
    if not isinstance(edits, list | tuple) or not all(isinstance(edit, str) for edit in edits):
        raise MetricError(f"SummEdits: {where}: edit_types: expected a list of names, got {edits!r}")
    return EditedSummary(
        id=str(row.get("id", where)),
        domain=domain,
        document=row["doc"],
        summary=row["summary"],
        original=row["original_summary"],
        consistent=bool(label),
        edit_types=tuple(edits),
    )


def document_key(text: str) -> str:
    """The same for texts that differ in case, spaces and marks only: finds one document in two sets.

    >>> document_key("We show A ,\\nB.") == document_key("we show a, b")
    True
    """
    return hashlib.sha256(" ".join(tokens(text)).encode()).hexdigest()[:16]


def edited_claims(row: EditedSummary) -> list[tuple[str, bool]]:
    """The sentences of the summary, and whether the document supports each.

    Of an inconsistent summary those sentences are unsupported that the checked one does not have; should it have them all
    (a sentence was moved or taken away), none is told.

    >>> row = EditedSummary("1", "news", "A. B.", "It rained. It snowed.", "It rained. It hailed.", consistent=False)
    >>> edited_claims(row)
    [('It rained.', True), ('It snowed.', False)]
    """
    found = sentences(row.summary)
    if row.consistent:
        return [(claim, True) for claim in found]
    before = {tuple(tokens(claim)) for claim in sentences(row.original)}
    told = [(claim, tuple(tokens(claim)) in before) for claim in found]
    return told if not all(kept for _, kept in told) else []


def split_by_document(
    rows: Sequence[EditedSummary], shares: Sequence[float] = (0.6, 0.2, 0.2), *, seed: int = 0
) -> list[list[EditedSummary]]:
    """Parts without a document in common, each domain divided for itself. A document is told by its text.

    Args:
        rows: of any domains.
        shares: of the documents; they sum to 1. A domain of fewer documents than parts leaves some parts without it.
        seed: of the shuffle.

    Raises:
        MetricError: shares that are negative or do not sum to 1.
    """
    if not shares or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise MetricError(f"shares: expected non-negative numbers that sum to 1, got {list(shares)}")
    parts: list[list[EditedSummary]] = [[] for _ in shares]
    for domain in sorted({row.domain for row in rows}):
        inside = [row for row in rows if row.domain == domain]
        keys = sorted({document_key(row.document) for row in inside})
        random.Random(f"{seed}/{domain}").shuffle(keys)  # noqa: S311 - a split, no secret
        edges = [round(sum(shares[: i + 1]) * len(keys)) for i in range(len(shares))]
        part_of = {key: next(p for p, edge in enumerate(edges) if i < edge) for i, key in enumerate(keys)}
        for row in inside:
            parts[part_of[document_key(row.document)]].append(row)
    return parts


def edit_words(row: EditedSummary) -> tuple[list[str], list[str]]:
    """Words of the checked summary that the edit took away, and those it put in.

    >>> edit_words(EditedSummary("1", "news", "A.", "It snowed a lot.", "It rained a lot.", consistent=False))
    (['rained'], ['snowed'])
    """
    before, after = tokens(row.original), tokens(row.summary)
    away: list[str] = []
    put: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            away += before[a:b]
            put += after[c:d]
    return away, put
