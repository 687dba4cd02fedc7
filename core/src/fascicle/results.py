"""What a run leaves behind: `result.json`, written whole or not at all, and checked field by field when read.

A result folder holds `result.json` (versioned, readable by people) and, where an evaluation measured single rows,
`examples.json` (metric to one value per test row), which the result names by its sha256. JSON has no NaN and no
infinity: they are stored as null, said so in `Result.notes`, and read back as NaN.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from .blocks import check_section
from .errors import ResultError
from .objects import Block, Section

__all__ = [
    "EXAMPLES_FILE",
    "RESULT_FILE",
    "SCHEMA_VERSION",
    "Result",
    "atomic_write_bytes",
    "atomic_write_text",
    "find_folders",
    "find_results",
    "read_result",
    "write_result",
]

SCHEMA_VERSION = 1
"""Version of `result.json`. A reader refuses any other; new optional fields do not change it."""
RESULT_FILE = "result.json"
EXAMPLES_FILE = "examples.json"

_AGAIN = "The file is damaged or was edited: repeat the run with run.overwrite=true, or leave its folder out."

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(kw_only=True)
class Result:
    """One finished run: what was asked, what came out, and with what it was made.

    >>> r = Result(name="demo", label="a", identity="0" * 64, seed=1, metrics={"accuracy": 0.5}, primary="accuracy")
    >>> r.status, r.schema_version
    ('finished', 1)
    """

    name: str
    """Family of runs, e.g. the experiment."""
    label: str
    """Short name of this configuration within the family."""
    identity: str
    """sha256 over the configuration without its `run` node; equal for repeats of one run."""
    seed: int
    choices: dict[str, str] = field(default_factory=dict)
    """Group to chosen option: `{"model": "minilm", "training": "hf_lora", ...}`."""
    config: dict[str, Any] = field(default_factory=dict)
    """The whole checked configuration, plain data."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What the evaluation measured. NaN: it could not be measured; `notes` says why."""
    primary: str = ""
    """The key of `metrics` that a comparison leads with."""
    higher_is_better: dict[str, bool] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per log event of training."""
    training: dict[str, float] = field(default_factory=dict)
    """Facts of training: `trainable_parameters`, `train_seconds`, ..."""
    sections: list[Section] = field(default_factory=list)
    """Plugins' parts of the run's page."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Versions, plugins, machine, sources and fingerprints of weights and data; see `fascicle.provenance`."""
    timings: dict[str, float] = field(default_factory=dict)
    """Phase to seconds."""
    started: str = ""
    """ISO 8601, UTC."""
    finished: str = ""
    per_example: dict[str, list[float]] = field(default_factory=dict)
    """Metric to one value per test row; lives in `examples.json`."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the numbers should know, e.g. which were infinite."""
    status: str = "finished"
    schema_version: int = SCHEMA_VERSION


# ---- writing: whole or not at all ----------------------------------------------------------------------------------------


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text so that `path` holds either the old content or the new, whatever happens.

    Raises:
        ResultError: the file cannot be written; a previous one is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write_text(Path(folder, "a.txt"), "whole").read_text()
    'whole'
    """
    return atomic_write_bytes(path, text.encode("utf-8", "backslashreplace"))


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write bytes so that `path` holds either the old content or the new: a sibling, fsync, `os.replace`.

    Raises:
        ResultError: the file cannot be written; a previous one is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write_bytes(Path(folder, "a.bin"), b"whole").name
    'a.bin'
    """
    return _write_together({Path(path): data})[0]


def _write_together(files: Mapping[Path, bytes]) -> list[Path]:
    """Bring every file safely to the disk under a temporary name before the first one is replaced."""
    staged: dict[Path, Path] = {}
    current, size = next(iter(files.items()))
    try:
        for current, data in files.items():
            size = data
            target = Path(os.path.realpath(current))
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
            staged[target] = temporary
            _write_and_sync(temporary, data)
        for current, (target, temporary) in zip(files, staged.items(), strict=True):
            size = files[current]
            os.replace(temporary, target)  # noqa: PTH105 - the one atomic call, named as the system names it
    except OSError as error:
        raise ResultError(_cannot_write(current, len(size), error)) from error
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    for folder in {target.parent for target in staged}:
        _sync_folder(folder)
    return list(files)


def _write_and_sync(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot_write(path: Path, size: int, error: OSError) -> str:
    free = ""
    with contextlib.suppress(OSError):
        free = f", {shutil.disk_usage(path.parent).free:,} bytes are free there"
    previous = "the previous file is untouched" if path.exists() else "no partial file was left"
    return (
        f"{path}: cannot write {size:,} bytes: {error.strerror or error}{free}; {previous}. Free some space or choose "
        "another folder (run.root=...), then continue with run.resume=true."
    )


def write_result(folder: str | os.PathLike[str], result: Result) -> Path:
    """Write `result.json`, and `examples.json` where there are values per row. Both are on the disk before either counts.

    Returns:
        The path of `result.json`.

    Raises:
        ResultError: a field has a wrong type or cannot be stored as JSON, or the disk refuses; previous files stay.

    >>> import tempfile
    >>> r = Result(name="demo", label="a", identity="0" * 64, seed=1, metrics={"perplexity": float("inf")})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_result(folder, r)
    ...     read_result(folder).notes
    ['metrics.perplexity was inf; stored as null.']
    """
    folder = Path(folder)
    notes = list(result.notes)
    raw = {item.name: getattr(result, item.name) for item in dataclasses.fields(result)}
    examples = {name: list(values) for name, values in raw.pop("per_example").items()}
    raw["sections"] = [dataclasses.asdict(section) for section in result.sections]
    for key in ("started", "finished"):
        raw[key] = raw[key] or datetime.now(UTC).isoformat(timespec="seconds")
    plain = _plain(raw, "", notes)
    plain["notes"] = list(dict.fromkeys(notes))
    files: dict[Path, bytes] = {}
    if examples:
        rows = _plain(examples, "per_example", [])
        data = json.dumps(rows, allow_nan=False, separators=(",", ":")).encode()
        files[folder / EXAMPLES_FILE] = data
        plain["examples"] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": {k: len(v) for k, v in rows.items()}}
        _examples(rows, EXAMPLES_FILE)
    _from_plain(plain, f"{folder / RESULT_FILE} (not written)", "Give the field the expected type.")
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files[folder / RESULT_FILE] = text.encode("utf-8", "backslashreplace")
    _write_together(files)
    if not examples:
        with contextlib.suppress(OSError):
            (folder / EXAMPLES_FILE).unlink(missing_ok=True)
    return folder / RESULT_FILE


def _plain(value: Any, where: str, notes: list[str]) -> Any:
    """Only dict, list, str, int, float, bool and None: what JSON can hold, with NaN and infinities as None and a note."""
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        notes.append(f"{where} was {value}; stored as null.")
        return None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ResultError(
                    f"{where or 'result'}: expected keys that are strings, got {key!r}; convert it with str()."
                )
        return {str(key): _plain(item, f"{where}.{key}" if where else key, notes) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", notes) for i, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(getattr(value, "tolist", None)):  # numpy and torch, without importing either
        return _plain(value.tolist(), where, notes)
    raise ResultError(
        f"{where}: expected plain data (text, numbers, lists, mappings), got {type(value).__name__}; "
        "convert it before it goes into the result."
    )


# ---- reading: every field checked -------------------------------------------------------------------------------------


def read_result(folder: str | os.PathLike[str]) -> Result:
    """Read and check the result of a run folder (or of a path to its `result.json`).

    Raises:
        ResultError: there is none, it is damaged or half-written, or a newer fascicle wrote it.

    >>> read_result("no/such/run")
    Traceback (most recent call last):
    ...
    fascicle.errors.ResultError: no/such/run/result.json: there is no result; the run has not finished. ...
    """
    path = Path(folder)
    path = path if path.name == RESULT_FILE else path / RESULT_FILE
    data = _read_json(path)
    result = _from_plain(data, str(path), _AGAIN)
    named = data.get("examples")
    if named is not None:
        result.per_example = _read_examples(path.with_name(EXAMPLES_FILE), named, path)
    return result


def find_folders(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Folders with a `result.json` at or below `paths`, each once, in the order of their names.

    Raises:
        ResultError: a path does not exist, or nothing below it is a result.

    >>> find_folders(["no/such/folder"])
    Traceback (most recent call last):
    ...
    fascicle.errors.ResultError: no/such/folder: no such file or folder; name run folders, or a folder that holds some.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_file() and path.name == RESULT_FILE:
            here = [path.parent]
        elif path.is_dir():
            here = sorted(Path(root) for root, _, files in os.walk(path) if RESULT_FILE in files)
        elif path.exists():
            raise ResultError(f"{path}: expected a run folder or a {RESULT_FILE}, got another file.")
        else:
            raise ResultError(f"{path}: no such file or folder; name run folders, or a folder that holds some.")
        if not here:
            raise ResultError(
                f"{path}: no {RESULT_FILE} in it or below; a run writes it when it finishes. "
                "Start one with `fascicle run`, or continue one with run.resume=true."
            )
        for folder in here:
            found.setdefault(os.path.realpath(folder), folder)
    if not found:
        raise ResultError("no folders were named; name run folders, or a folder that holds some.")
    return list(found.values())


def find_results(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[Path, Result]]:
    """Every result at or below `paths`, with its folder.

    Raises:
        ResultError: nothing was found, or a result cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_result(folder, Result(name="demo", label="a", identity="0" * 64, seed=1))
    ...     [result.name for _, result in find_results([folder])]
    ['demo']
    """
    return [(folder, read_result(folder)) for folder in find_folders(paths)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ResultError(
            f"{path.as_posix()}: there is no result; the run has not finished. Continue it with run.resume=true."
        ) from None
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from error
    return _parse(raw, path)


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    if not raw.strip():
        raise ResultError(f"{path}: expected JSON, got an empty file. {_AGAIN}")
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ResultError(
            f"{path}: expected UTF-8 text, got byte {raw[error.start]:#04x} at {error.start}. {_AGAIN}"
        ) from error
    except json.JSONDecodeError as error:
        raise ResultError(f"{path}: expected JSON, broken at line {error.lineno}: {error.msg}. {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: expected JSON, got something else: {error}. {_AGAIN}") from error
    if not isinstance(data, dict):
        raise ResultError(f"{path}: expected a JSON object, got {type(data).__name__}. {_AGAIN}")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _read_examples(path: Path, named: Any, owner: Path) -> dict[str, list[float]]:
    if not isinstance(named, dict) or not isinstance(named.get("sha256"), str):
        raise ResultError(f"{owner}: examples: expected a mapping with sha256, got {named!r}. {_AGAIN}")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        logger.warning("%s is missing; intervals will not resample test rows.", path)
        return {}
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror or error}. Check its permissions.") from error
    if hashlib.sha256(raw).hexdigest() != named["sha256"]:
        raise ResultError(
            f"{path}: expected the values per row of {owner.name} (sha256 {named['sha256'][:12]}...), got other content. "
            "Repeat the run with run.overwrite=true, or delete this file to go without values per row."
        )
    return _examples(_parse(raw, path), str(path))


def _examples(data: dict[str, Any], where: str) -> dict[str, list[float]]:
    return {name: _list_of(_number)(values, f"{where}: {name}", _AGAIN) for name, values in data.items()}


Reader = Callable[[Any, str, str], T]


def _from_plain(data: Mapping[str, Any], where: str, remedy: str) -> Result:
    """Check every field. `where` leads each message and `remedy` ends it."""
    version = data.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "A newer fascicle wrote it: upgrade with `pip install -U fascicle`." if newer else remedy
        raise ResultError(f"{where}: schema_version: expected {SCHEMA_VERSION}, got {version!r}. {advice}")
    values: dict[str, Any] = {}
    for name, (reader, required) in _FIELDS.items():
        if name in data:
            values[name] = reader(data[name], f"{where}: {name}", remedy)
        elif required:
            raise ResultError(f"{where}: {name}: expected the field, got nothing. {remedy}")
    result = Result(**values)
    if result.status != "finished":
        raise ResultError(f"{where}: status: expected 'finished', got {result.status!r}. {remedy}")
    if (result.metrics or result.primary) and result.primary not in result.metrics:
        if result.primary or len(result.metrics) != 1:
            keys = ", ".join(result.metrics) or "none"
            raise ResultError(
                f"{where}: primary: expected one of the metrics ({keys}), got {result.primary!r}. {remedy}"
            )
        result.primary = next(iter(result.metrics))
    return result


def _refuse(where: str, expected: str, value: Any, remedy: str) -> ResultError:
    text = repr(value)
    return ResultError(f"{where}: expected {expected}, got {text if len(text) <= 60 else text[:57] + '...'}. {remedy}")


def _string(value: Any, where: str, remedy: str) -> str:
    if not isinstance(value, str):
        raise _refuse(where, "text", value, remedy)
    return value


def _integer(value: Any, where: str, remedy: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(where, "a whole number", value, remedy)
    return value


def _boolean(value: Any, where: str, remedy: str) -> bool:
    if not isinstance(value, bool):
        raise _refuse(where, "true or false", value, remedy)
    return value


def _number(value: Any, where: str, remedy: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _refuse(where, "a number or null", value, remedy)
    return float(value)


def _time(value: Any, where: str, remedy: str) -> str:
    try:
        datetime.fromisoformat(_string(value, where, remedy))
    except ValueError:
        raise _refuse(where, "a time like 2025-01-31T12:00:00+00:00", value, remedy) from None
    return str(value)


def _mapping(value: Any, where: str, remedy: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refuse(where, "a mapping", value, remedy)
    return value


def _map_of(reader: Reader[T]) -> Reader[dict[str, T]]:
    def read(value: Any, where: str, remedy: str) -> dict[str, T]:
        return {key: reader(item, f"{where}.{key}", remedy) for key, item in _mapping(value, where, remedy).items()}

    return read


def _list_of(reader: Reader[T]) -> Reader[list[T]]:
    def read(value: Any, where: str, remedy: str) -> list[T]:
        if not isinstance(value, list):
            raise _refuse(where, "a list", value, remedy)
        return [reader(item, f"{where}[{i}]", remedy) for i, item in enumerate(value)]

    return read


def _section(value: Any, where: str, remedy: str) -> Section:
    raw = _mapping(value, where, remedy)
    blocks = [
        _block(block, f"{where}.blocks", remedy) for block in _list_of(_mapping)(raw.get("blocks", []), where, remedy)
    ]
    section = Section(title=raw.get("title", ""), plugin=raw.get("plugin", ""), blocks=blocks)
    try:
        check_section(section, where)
    except ResultError as error:
        raise ResultError(f"{error} {remedy}") from None
    return section


def _block(raw: dict[str, Any], where: str, remedy: str) -> Block:
    if "kind" not in raw:
        raise ResultError(f"{where}: kind: expected the field, got nothing. {remedy}")
    return Block(kind=raw["kind"], title=raw.get("title", ""), data=raw.get("data", {}))


_FIELDS: dict[str, tuple[Reader[Any], bool]] = {  # field to (reader, required)
    "schema_version": (_integer, True),
    "status": (_string, True),
    "name": (_string, True),
    "label": (_string, True),
    "identity": (_string, True),
    "seed": (_integer, True),
    "choices": (_map_of(_string), True),
    "config": (_mapping, True),
    "metrics": (_map_of(_number), True),
    "primary": (_string, True),
    "higher_is_better": (_map_of(_boolean), False),
    "units": (_map_of(_string), False),
    "history": (_list_of(_map_of(_number)), False),
    "training": (_map_of(_number), False),
    "sections": (_list_of(_section), False),
    "provenance": (_mapping, False),
    "timings": (_map_of(_number), False),
    "started": (_time, True),
    "finished": (_time, True),
    "notes": (_list_of(_string), False),
}
