"""SummEdits: rows read with clear errors, split by document."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fascicle_faithsum.checker_pairs import read_papers, summedits_pairs, without_documents
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.summedits import (
    EditedSummary,
    document_key,
    edited_claims,
    read_summedits,
    split_by_document,
    summedits_folder,
)


def _row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "a",
        "doc": "It rained. It hailed.",
        "summary": "It rained. It snowed.",
        "original_summary": "It rained. It hailed.",
        "label": 0,
        "edit_types": ["entity_modification"],
        **changes,
    }


def _write(folder: Path, rows: Any, name: str = "news.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def test_rows_carry_domain_label_and_edits(tmp_path: Path) -> None:
    _write(tmp_path, [_row(), _row(label=1)])
    _write(tmp_path, [_row()], "samsum.json")
    rows = read_summedits(tmp_path)
    assert [(r.domain, r.consistent) for r in rows] == [("news", False), ("news", True), ("samsum", False)]
    assert rows[0].edit_types == ("entity_modification",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"doc": ""}, "doc: expected a text"),
        ({"summary": 3}, "summary: expected a text"),
        ({"label": 2}, "label: expected 1"),
        ({"label": None}, "label: expected 1"),
        ({"edit_types": "x"}, "edit_types: expected a list"),
    ],
)
def test_a_broken_row_is_named_with_its_file(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    file = _write(tmp_path, [_row(), _row(**change)])
    with pytest.raises(MetricError, match=r"news\.json, row 2: " + told):
        read_summedits(file)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[3]"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "news.json").write_text(text, encoding="utf-8")
    with pytest.raises(MetricError, match=r"news\.json"):
        read_summedits(tmp_path)


def test_missing_files_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MetricError, match=r"no \.json"):
        read_summedits(tmp_path)
    with pytest.raises(MetricError, match="cannot be read"):
        read_summedits(tmp_path / "news.json")
    monkeypatch.delenv("FASCICLE_DATA", raising=False)
    with pytest.raises(MetricError, match="FASCICLE_DATA"):
        summedits_folder()


def test_only_the_edited_sentence_is_unsupported() -> None:
    row = EditedSummary("a", "news", "D.", "It snowed. He won.", "It rained. He won.", consistent=False)
    assert edited_claims(row) == [("It snowed.", False), ("He won.", True)]
    kept = EditedSummary("a", "news", "D.", "He won. It rained.", "It rained. He won.", consistent=False)
    assert edited_claims(kept) == []  # nobody can tell which sentence is wrong


def test_parts_have_no_document_in_common_and_lose_none() -> None:
    rows = [
        EditedSummary(str(i), domain, f"Document {i % 10} of {domain}.", "S.", "S.", consistent=True)
        for i in range(50)
        for domain in ("news", "samsum")
    ]
    parts = split_by_document(rows, seed=3)
    keys = [{document_key(r.document) for r in part} for part in parts]
    assert [len(k) for k in keys] == [12, 4, 4]  # 6 + 2 + 2 of each domain
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert sorted(r.id + r.domain for part in parts for r in part) == sorted(r.id + r.domain for r in rows)
    assert split_by_document(rows, seed=3) == parts
    assert split_by_document(rows, seed=4) != parts


def test_shares_must_be_shares() -> None:
    with pytest.raises(MetricError, match="sum to 1"):
        split_by_document([], (0.5, 0.2))


@pytest.mark.realdata
def test_the_published_files_and_the_papers_they_share_with_scitldr() -> None:
    data = Path(os.environ.get("FASCICLE_DATA", "/nowhere"))
    if not (data / "summedits").is_dir() or not (data / "scitldr").is_dir():
        pytest.skip("SummEdits and SciTLDR are not at hand: set FASCICLE_DATA")
    rows = read_summedits(data / "summedits")
    assert len(rows) == 2380
    assert len({r.document for r in rows if r.domain == "scitldr"}) == 17
    assert {p.domain for p in summedits_pairs(rows)} == {"news", "samsum", "scitldr", "qmsumm"}
    papers = read_papers(data / "scitldr" / "train.jsonl")
    left = without_documents(papers, {r.document for r in rows if r.domain == "scitldr"})
    assert 16 <= len(papers) - len(left) <= 17
