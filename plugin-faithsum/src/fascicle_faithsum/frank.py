"""Rated summaries: FRANK (Pagnoni et al. 2021) and any other set of (document, summary, human score, optional system).

Light: json and csv of the standard library. Field names are found among the usual ones or given as `Fields`; a dot steps into
a nested object (`human.Factuality`), and into each object of a list, of which the mean is taken
(`expert_annotations.consistency`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import MetricError

__all__ = ["ERROR_GROUPS", "ERROR_TYPES", "FLIP", "Fields", "RatedSet", "RatedSummary", "read_rated"]

ERROR_GROUPS: Mapping[str, Sequence[str]] = {
    "Semantic_Frame_Errors": ("RelE", "EntE", "CircE"),
    "Discourse_Errors": ("CorefE", "LinkE"),
    "Content_Verifiability_Errors": ("OutE", "GramE"),
}
"""FRANK's groups of error types."""
ERROR_TYPES: Sequence[str] = ("RelE", "EntE", "CircE", "OutE", "GramE", "CorefE", "LinkE", "Other")
FLIP = "Flip_"
"""`Flip_X` is the human score with the errors X taken for correct."""

_USUAL: Mapping[str, Sequence[str]] = {
    "document": ("article", "document", "source", "doc", "text", "context", "dialogue", "src"),
    "summary": ("summary", "generated_summary", "decoded", "hypothesis", "claim", "prediction", "output", "hyp"),
    "score": (
        "human.Factuality",
        "Factuality",
        "human_score",
        "score",
        "human",
        "faithfulness",
        "consistency",
        "factuality",
        "expert_annotations.consistency",
        "rating",
        "label",
    ),
    "system": ("system", "model_name", "system_name", "model_id", "model"),
    "dataset": ("dataset", "origin", "corpus", "domain"),
    "document_id": ("hash", "document_id", "doc_id", "bbcid", "article_id"),
    "reference": ("reference", "references", "target", "gold"),
    "metrics": ("published_metrics", "metrics", "metric_scores", "scores"),
}
_WORDS = {
    **dict.fromkeys(("true", "yes", "correct", "consistent", "factual", "faithful", "supported"), 1.0),
    **dict.fromkeys(
        ("false", "no", "incorrect", "inconsistent", "non-factual", "nonfactual", "unfaithful", "unsupported"), 0.0
    ),
}
_NOTHING = ("", "null", "none", "nan", "na", "n/a")
_LISTS = ("data", "rows", "examples", "annotations", "records")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Where a row keeps what. None: the first of the usual names that the rows have."""

    document: str | None = None
    summary: str | None = None
    score: str | None = None
    system: str | None = None
    dataset: str | None = None
    document_id: str | None = None
    reference: str | None = None
    metrics: str | None = None
    """A field that holds a mapping from metric to score."""


@dataclass(frozen=True, kw_only=True)
class RatedSummary:
    """One summary with what people said of it."""

    document: str
    """Empty where the file has no documents: stored scores can still be evaluated."""
    summary: str
    score: float | None
    """Higher is more faithful. None where nobody rated it."""
    document_id: str
    """What is resampled; the document's text where the file has no id."""
    system: str = ""
    dataset: str = ""
    reference: str | None = None
    labels: Mapping[str, float | None] = field(default_factory=dict)
    """Further human labels: FRANK's error types (1 = no such error) and `Flip_*`."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Scores of metrics that the file holds, and its other columns of numbers."""


@dataclass(frozen=True, kw_only=True)
class RatedSet:
    """The rows of a file, and what is known of the file."""

    rows: Sequence[RatedSummary]
    path: str = ""
    sha256: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What was read from where."""
    published: Sequence[str] = ()
    """Metrics whose scores the file itself declares (FRANK: `published_metrics`)."""
    unrated: int = 0
    """Rows without a human score; they are kept, and not evaluated."""

    @property
    def columns(self) -> list[str]:
        """Every stored score, declared or not."""
        return list(dict.fromkeys(name for row in self.rows for name in row.scores))

    @property
    def datasets(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(row.dataset for row in self.rows if row.dataset))


def read_rated(path: str | os.PathLike[str], names: Fields | None = None) -> RatedSet:
    """Read rated summaries: json (a list of rows, or an object that holds one), jsonl, csv or tsv.

    A human score may be a number, a truth value, a list of numbers (their mean), or one of a few words (`factual`,
    `inconsistent`, ...); null, empty and NaN mean that nobody rated the row. FRANK's name `bbc` is read as `xsum`.

    Raises:
        MetricError: the file cannot be read, a field is missing, or a value is of the wrong kind; names file, row and field.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rated.csv")
    ...     _ = path.write_text("document,summary,score,length\\nA cat sat.,A cat.,0.5,2\\n", encoding="utf-8")
    ...     rated = read_rated(path)
    >>> rated.rows[0].score, rated.rows[0].document, rated.columns
    (0.5, 'A cat sat.', ['length'])
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise MetricError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise MetricError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    raw = _raw_rows(path, text)
    if not raw:
        raise MetricError(f"{path}: no rows.")
    found = _resolve(path, raw, names or Fields())
    frank = any("Factuality" in where for where in found.values()) or found["score"].startswith("human.")
    rows = [_row(f"{path}: row {i + 1}", row, found, frank) for i, row in enumerate(raw)]
    declared = dict.fromkeys(name for row in raw for name in _declared(row, found))
    held = {name for row in rows for name in row.scores}
    return RatedSet(
        rows=rows,
        path=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
        fields=found,
        published=[name for name in declared if name in held],
        unrated=sum(row.score is None for row in rows),
    )


# ---- layouts ----------------------------------------------------------------------------------------------------------


def _raw_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        csv.field_size_limit(1 << 27)
        try:
            reader = csv.DictReader(
                io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",", strict=True
            )
            return [_table_row(path, i, row) for i, row in enumerate(reader)]
        except csv.Error as error:
            raise MetricError(f"{path}: not a table: {error}.") from error
    if suffix in (".jsonl", ".ndjson"):
        return list(_json_lines(path, text))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if "\n" in text.strip() and text.lstrip().startswith("{"):
            return list(_json_lines(path, text))
        raise MetricError(f"{path}: not JSON: {error.msg} at line {error.lineno}.") from error
    if isinstance(content, Mapping):
        content = next((content[name] for name in _LISTS if isinstance(content.get(name), list)), [content])
    if not isinstance(content, list):
        raise MetricError(f"{path}: expected a list of rows, got {type(content).__name__}.")
    for i, row in enumerate(content):
        if not isinstance(row, Mapping):
            raise MetricError(f"{path}: row {i + 1}: expected an object of fields, got {type(row).__name__}.")
    return content


def _json_lines(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise MetricError(f"{path}: line {number}: not JSON: {error.msg}.") from error
        if not isinstance(row, Mapping):
            raise MetricError(f"{path}: line {number}: expected an object of fields, got {type(row).__name__}.")
        yield row


def _table_row(path: Path, index: int, row: Mapping[Any, Any]) -> Mapping[str, Any]:
    if None in row:
        raise MetricError(f"{path}: row {index + 1}: more cells than columns; quote cells that hold the separator.")
    return {name: value for name, value in row.items() if value is not None}


# ---- fields -----------------------------------------------------------------------------------------------------------


def _has(row: Mapping[str, Any], where: str) -> bool:
    return _get(row, where) is not _MISSING


_MISSING = object()


def _get(row: Any, where: str) -> Any:
    """The value at a dotted path; a whole name with dots wins over the path."""
    if isinstance(row, Mapping):
        if where in row:
            return row[where]
        head, dot, rest = where.partition(".")
        return _get(row[head], rest) if dot and head in row else _MISSING
    if isinstance(row, list):
        found = [value for item in row if (value := _get(item, where)) is not _MISSING]
        return found if found else _MISSING
    return _MISSING


def _resolve(path: Path, raw: Sequence[Mapping[str, Any]], names: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in fields(Fields):
        role, asked = option.name, getattr(names, option.name)
        if asked is not None:
            if not any(_has(row, asked) for row in raw):
                raise MetricError(f"{path}: {role} field {asked!r}: no row has it. {_known(raw)}")
            found[role] = asked
            continue
        for name in _USUAL[role]:
            if name in found.values():
                continue
            values = [value for row in raw if (value := _get(row, name)) is not _MISSING]
            if values and all(_fits(role, value) for value in values):
                found[role] = name
                break
    if "score" not in found:
        raise MetricError(f"{path}: no field of human scores found; name it (--score-field). {_known(raw)}")
    return found


def _fits(role: str, value: Any) -> bool:
    """Whether a usual name holds the usual kind of value: `human` may be a score or an object, `scores` a list or an object."""
    if role == "metrics":
        return isinstance(value, Mapping)
    return not isinstance(value, Mapping) or value is None


def _known(raw: Sequence[Mapping[str, Any]]) -> str:
    names = Counter(
        key if not isinstance(value, Mapping) else f"{key}.*" for row in raw[:100] for key, value in row.items()
    )
    return f"The rows have: {', '.join(sorted(map(str, names)))}."


def _declared(row: Mapping[str, Any], found: Mapping[str, str]) -> Mapping[str, Any]:
    value = _get(row, found["metrics"]) if "metrics" in found else None
    return value if isinstance(value, Mapping) else {}


def _row(where: str, row: Mapping[str, Any], found: Mapping[str, str], frank: bool) -> RatedSummary:
    document, summary = (_text(where, row, found.get(role)) for role in ("document", "summary"))
    name = _text(where, row, found.get("dataset"))
    ident = _text(where, row, found.get("document_id"))
    parent = found["score"].rpartition(".")[0]
    siblings = _get(row, parent) if parent else row
    labels = {
        key: _number(f"{where}: field {parent}.{key}".replace(" .", " "), value)
        for key, value in (siblings.items() if isinstance(siblings, Mapping) else ())
        if key.startswith(FLIP) or (frank and (key in ERROR_TYPES or key in ERROR_GROUPS))
    }
    taken = {place.split(".")[0] for place in found.values()} | set(found.values())
    scores: dict[str, float | None] = {}
    for key, value in _declared(row, found).items():
        if isinstance(value, str) and _parsed(value) is None and value.strip().lower() not in _NOTHING:
            continue
        if key not in ("hash", "bbcid", "id"):
            scores[key] = _number(f"{where}: field {found['metrics']}.{key}", value)
    for key, value in row.items():
        if key not in taken and key not in scores and key not in labels and not isinstance(value, bool):
            number = _parsed(value) if isinstance(value, str) else value
            if isinstance(number, int | float) and math.isfinite(number):
                scores[key] = float(number)
    return RatedSummary(
        document=document,
        summary=summary,
        score=_number(f"{where}: field {found['score']}", _get(row, found["score"])),
        document_id=ident or document or where,
        system=_text(where, row, found.get("system")),
        dataset="xsum" if frank and name == "bbc" else name,
        reference=_text(where, row, found.get("reference")) or None,
        labels=labels,
        scores=scores,
    )


def _text(where: str, row: Mapping[str, Any], name: str | None) -> str:
    value = _MISSING if name is None else _get(row, name)
    if isinstance(value, list) and name is not None:
        if not all(isinstance(item, str) for item in value):
            raise MetricError(f"{where}: field {name}: expected text, got a list of other things.")
        return value[0] if name.startswith("reference") and value else " ".join(value)
    if value is _MISSING or value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise MetricError(f"{where}: field {name}: expected text, got {type(value).__name__}.")
    return value


def _number(where: str, value: Any) -> float | None:
    if value is _MISSING or value is None:
        return None
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _NOTHING:
            return None
        number = _WORDS.get(word, _parsed(value))
        if number is None:
            raise MetricError(f"{where}: expected a number, got {value[:40]!r}.")
        return number
    if isinstance(value, list):
        parts = [part for item in value if (part := _number(where, item)) is not None]
        return sum(parts) / len(parts) if parts else None
    if not isinstance(value, int | float):
        raise MetricError(f"{where}: expected a number, got {type(value).__name__}.")
    if math.isinf(value):
        raise MetricError(f"{where}: expected a finite number, got {value}.")
    return None if math.isnan(value) else float(value)


def _parsed(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
