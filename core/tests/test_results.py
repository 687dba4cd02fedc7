"""A result is on the disk whole or not at all, and what is read back was checked field by field."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import make_result

from fascicle.blocks import BLOCK_KINDS, check_block
from fascicle.errors import ResultError
from fascicle.objects import Block, Section
from fascicle.results import (
    RESULT_FILE,
    atomic_write_bytes,
    atomic_write_text,
    find_folders,
    find_results,
    read_result,
    write_result,
)

SECTIONS = [
    Section(
        title="All kinds",
        plugin="toy",
        blocks=[
            Block(kind="text", title="t", data={"text": "One.\n\nTwo."}),
            Block(kind="table", data={"columns": ["a", "b"], "rows": [["x", 1], [None, 2.5]], "caption": "c"}),
            Block(kind="bars", data={"labels": ["p", "q"], "series": {"s": [1, None]}, "unit": "u", "marked": [1]}),
            Block(kind="lines", data={"series": {"s": {"x": [1, 2], "y": [3, 4], "low": [2, 3], "high": [4, 5]}}}),
            Block(
                kind="heatmap", data={"rows": ["r"], "columns": ["c", "d"], "values": [[0.5, None]], "marked": [[0, 1]]}
            ),
            Block(kind="scatter", data={"series": {"s": {"x": [1], "y": [2], "text": ["w"]}}, "x_label": "x"}),
            Block(kind="spans", data={"spans": [{"text": "word", "weight": -0.5, "label": "cue"}, {"text": "x"}]}),
        ],
    )
]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    result = make_result(
        metrics={"accuracy": 0.75, "f1": 0.5},
        history=[{"step": 1.0, "loss": 0.5}],
        training={"trainable_parameters": 12.0},
        sections=SECTIONS,
        per_example={"accuracy": [1.0, 0.0, 1.0, 1.0]},
        provenance={"libraries": {"torch": "2"}, "cpus": 2},
        timings={"training": 1.5},
        units={"accuracy": "share"},
        started="2026-01-01T00:00:00+00:00",
        notes=["a note"],
    )
    assert write_result(tmp_path, result) == tmp_path / RESULT_FILE
    assert read_result(tmp_path) == result
    assert read_result(tmp_path / RESULT_FILE) == result
    assert files(tmp_path) == ["examples.json", "result.json"]
    assert json.loads((tmp_path / "examples.json").read_text()) == {"accuracy": [1.0, 0.0, 1.0, 1.0]}


def test_all_kinds_of_blocks_are_covered_here() -> None:
    assert {block.kind for section in SECTIONS for block in section.blocks} == set(BLOCK_KINDS)


def test_numpy_numbers_and_arrays_become_plain_ones(tmp_path: Path) -> None:
    result = make_result(
        metrics={"accuracy": np.float32(0.5)},
        per_example={"accuracy": np.array([0.0, 1.0])},
        history=[{"step": np.int64(3)}],
    )
    write_result(tmp_path, result)
    back = read_result(tmp_path)
    assert back.metrics == {"accuracy": 0.5}
    assert back.per_example == {"accuracy": [0.0, 1.0]}
    assert back.history == [{"step": 3.0}]


def test_infinity_and_nan_are_null_in_the_file_and_a_note_says_what_they_were(tmp_path: Path) -> None:
    write_result(tmp_path, make_result(metrics={"perplexity": math.inf, "f1": math.nan, "accuracy": 0.5}))
    stored = json.loads((tmp_path / RESULT_FILE).read_text())
    assert stored["metrics"] == {"perplexity": None, "f1": None, "accuracy": 0.5}
    back = read_result(tmp_path)
    assert math.isnan(back.metrics["perplexity"])
    assert back.notes == ["metrics.perplexity was inf; stored as null.", "metrics.f1 was nan; stored as null."]
    write_result(tmp_path, back)
    assert read_result(tmp_path).notes[:2] == back.notes


def test_what_json_cannot_hold_is_refused_by_its_key_before_anything_is_written(tmp_path: Path) -> None:
    result = make_result()
    result.config["training"]["thing"] = object()
    with pytest.raises(ResultError, match=r"config\.training\.thing: expected plain data .* got object"):
        write_result(tmp_path / "run", result)
    assert not (tmp_path / "run").exists()


def test_a_primary_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"primary: expected one of the metrics \(accuracy\), got 'f1'"):
        write_result(tmp_path, make_result(primary="f1"))


# ---- the disk says no ----------------------------------------------------------------------------------------------


def full_disk(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_previous_result_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = make_result(metrics={"accuracy": 0.25}, per_example={"accuracy": [0.0, 0.5]})
    write_result(tmp_path, before)
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(ResultError) as error:
        write_result(tmp_path, make_result(metrics={"accuracy": 1.0}, per_example={"accuracy": [1.0, 1.0]}))
    monkeypatch.undo()
    assert files(tmp_path) == ["examples.json", "result.json"]
    assert read_result(tmp_path).metrics == before.metrics
    assert read_result(tmp_path).per_example == before.per_example
    text = str(error.value)
    assert os.strerror(errno.ENOSPC) in text
    assert "bytes" in text
    assert "previous file is untouched" in text
    assert "run.resume=true" in text


def test_a_disk_that_fills_up_at_the_second_file_keeps_both_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result(tmp_path, make_result(metrics={"accuracy": 0.25}, per_example={"accuracy": [0.0, 0.5]}))
    calls = []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            full_disk()

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(ResultError):
        write_result(tmp_path, make_result(metrics={"accuracy": 1.0}, per_example={"accuracy": [1.0, 1.0]}))
    monkeypatch.undo()
    assert read_result(tmp_path).per_example == {"accuracy": [0.0, 0.5]}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip(f"mounting needs root: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_file_system_that_is_really_full_keeps_the_old_result_and_takes_the_new_one_once_there_is_room(
    small_disk: Path,
) -> None:
    run = small_disk / "run"
    before = make_result(metrics={"accuracy": 0.25}, per_example={"accuracy": [0.0, 0.5]})
    write_result(run, before)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    after = make_result(metrics={"accuracy": 1.0}, per_example={"accuracy": [1.0] * 500})
    with pytest.raises(ResultError, match=r"No space left on device.*previous file is untouched"):
        write_result(run, after)
    assert files(run) == ["examples.json", "result.json"]
    assert read_result(run).metrics == before.metrics
    ballast.unlink()
    write_result(run, after)
    assert read_result(run).metrics == after.metrics


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = atomic_write_text(tmp_path / "a.txt", "old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(path, b"new")
    assert path.read_text() == "old"
    assert files(tmp_path) == ["a.txt"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    assert atomic_write_bytes(tmp_path / "a.bin", b"0123456789").read_bytes() == b"0123456789"


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("x")
    path = atomic_write_text(tmp_path / "ours", "x")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


# ---- damaged files -------------------------------------------------------------------------------------------------


def edit(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {**data, **changes}


def drop(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {key: value for key, value in data.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("schema_version"), "schema_version: expected 1, got None"),
        (edit(schema_version=2), "expected 1, got 2. A newer fascicle wrote it: upgrade"),
        (edit(schema_version="1"), "schema_version: expected 1, got '1'"),
        (edit(schema_version=True), "schema_version: expected 1, got True"),
        (edit(status="running"), "status: expected 'finished', got 'running'"),
        (drop("seed"), "seed: expected the field, got nothing"),
        (edit(seed="1"), "seed: expected a whole number, got '1'"),
        (edit(seed=True), "seed: expected a whole number, got True"),
        (edit(metrics={"accuracy": "0.5"}), r"metrics\.accuracy: expected a number or null, got '0.5'"),
        (edit(metrics=[0.5]), "metrics: expected a mapping"),
        (edit(primary="f1"), "primary: expected one of the metrics"),
        (edit(higher_is_better={"accuracy": 1}), r"higher_is_better\.accuracy: expected true or false"),
        (edit(history=[{"loss": "low"}]), r"history\[0\]\.loss: expected a number"),
        (edit(choices={"model": 3}), r"choices\.model: expected text"),
        (edit(finished="yesterday"), "finished: expected a time"),
        (edit(sections=[{"title": "t", "blocks": [{"kind": "video"}]}]), "kind: expected one of text, table"),
        (edit(sections=[{"title": 3}]), "title: expected a string, got int 3"),
        (edit(sections="none"), "sections: expected a list"),
        (edit(examples=[1]), "examples: expected a mapping with sha256"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected_and_what_came(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    path = write_result(tmp_path, make_result())
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ResultError, match=message) as error:
        read_result(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"  \n", "empty file"),
        (b"[1]", "expected a JSON object, got list"),
        (b"\xff\xfe{}", "expected UTF-8 text"),
        (b'{"metrics": NaN}', "NaN is not JSON"),
        (b"[" * 200_000, "expected JSON"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / RESULT_FILE).write_bytes(content)
    with pytest.raises(ResultError, match=message):
        read_result(tmp_path)


def test_every_cut_of_a_result_is_refused(tmp_path: Path) -> None:
    path = write_result(tmp_path, make_result(sections=SECTIONS))
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ResultError):
            read_result(tmp_path)


def test_unknown_fields_of_a_later_minor_version_are_left_alone(tmp_path: Path) -> None:
    path = write_result(tmp_path, make_result())
    path.write_text(json.dumps({**json.loads(path.read_text()), "news": 1}))
    assert read_result(tmp_path).seed == 1


def test_values_per_row_of_another_run_are_refused_and_missing_ones_are_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_result(tmp_path, make_result(per_example={"accuracy": [0.0, 1.0]}))
    rows = tmp_path / "examples.json"
    rows.write_text('{"accuracy": [1.0, 1.0]}')
    with pytest.raises(ResultError, match="got other content"):
        read_result(tmp_path)
    rows.unlink()
    assert read_result(tmp_path).per_example == {}
    assert "examples.json is missing" in caplog.text


def test_a_result_without_rows_removes_those_of_the_run_it_replaces(tmp_path: Path) -> None:
    write_result(tmp_path, make_result(per_example={"accuracy": [0.0, 1.0]}))
    write_result(tmp_path, make_result())
    assert files(tmp_path) == ["result.json"]


# ---- finding -------------------------------------------------------------------------------------------------------


def test_results_are_found_at_any_depth_each_once(tmp_path: Path) -> None:
    for name in ("b/2", "a", "b/1"):
        write_result(tmp_path / name, make_result())
    found = find_folders([tmp_path, tmp_path / "b", tmp_path / "a" / RESULT_FILE])
    assert [folder.relative_to(tmp_path).as_posix() for folder in found] == ["a", "b/1", "b/2"]
    assert [folder for folder, _ in find_results([tmp_path])] == found


def test_finding_nothing_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"no result\.json in it or below.*fascicle run"):
        find_folders([tmp_path])
    with pytest.raises(ResultError, match="no such file or folder"):
        find_folders([tmp_path / "nowhere"])
    with pytest.raises(ResultError, match="no folders were named"):
        find_folders([])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ResultError, match="expected a run folder"):
        find_folders([tmp_path / "notes.txt"])
    with pytest.raises(ResultError, match="has not finished"):
        read_result(tmp_path)


# ---- blocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("text", {}, r"data\.text: expected a string, got nothing"),
        ("table", {"columns": ["a"], "rows": [[1, 2]]}, r"rows\[0\]: expected a row of 1 cells"),
        ("table", {"columns": ["a"], "rows": [[{}]]}, "cells that are text, numbers or null"),
        ("bars", {"labels": ["a"], "series": {"s": ["x"]}}, r"series\['s'\]: expected a list of numbers"),
        ("bars", {"labels": ["a"], "series": {"s": [1]}, "marked": [1]}, "positions from 0 to 0"),
        ("lines", {"series": {"s": {"x": [1], "y": [1, 2]}}}, "y: expected 1 numbers, got 2"),
        ("lines", {"series": {"s": {"x": [1], "y": [1], "low": [0]}}}, "low and high together"),
        ("lines", {"series": {"s": [1]}}, "a mapping with x and y"),
        ("heatmap", {"rows": ["r"], "columns": ["c"], "values": []}, "expected 1 rows, got 0 rows"),
        ("heatmap", {"rows": ["r"], "columns": ["c"], "values": [[1]], "marked": [[0, 1]]}, "pairs inside 1 x 1"),
        ("scatter", {"series": {"s": {"x": [1], "y": [1], "text": []}}}, "text: expected 1 strings, got 0"),
        ("spans", {"spans": [{"text": "a", "weight": "high"}]}, r"spans\[0\]\.weight: expected a number or null"),
        ("spans", {"spans": ["a"]}, r"spans\[0\]: expected a mapping"),
        ("film", {}, "kind: expected one of text, table"),
    ],
)
def test_a_block_that_cannot_be_drawn_is_refused(kind: Any, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        check_block(Block(kind=kind, data=data))
