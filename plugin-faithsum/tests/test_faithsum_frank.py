"""Reading rated summaries of many layouts, and saying clearly what is wrong with a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.frank import ERROR_GROUPS, Fields, read_rated

FRANK_ROW = {
    "hash": "11",
    "system": "PtGen",
    "dataset": "xsum",
    "article": "A cat sat on a mat.",
    "summary": "a cat sat .",
    "reference": None,
    "human": {"hash": "11", "dataset": "bbc", "Factuality": 0.5, "EntE": 0.5, "Flip_EntE": 1.0, "split": "test"},
    "published_metrics": {"hash": "11", "dataset": "bbc", "FactCC": 1.0, "Dep Entail": None, "split": "test"},
}


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_franks_own_layout(tmp_path):
    path = written(tmp_path, "test.json", [FRANK_ROW, FRANK_ROW | {"human": {"Factuality": None}}])
    rated = read_rated(path)
    row = rated.rows[0]
    assert (row.system, row.dataset, row.score, row.reference, row.document_id) == ("PtGen", "xsum", 0.5, None, "11")
    assert row.labels == {"EntE": 0.5, "Flip_EntE": 1.0}
    assert row.scores == {"FactCC": 1.0, "Dep Entail": None}
    assert rated.published == ["FactCC", "Dep Entail"]
    assert rated.unrated == 1
    assert rated.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_flat_annotations_without_text_and_with_bbc(tmp_path):
    flat = {"hash": "1", "model_name": "bart", "dataset": "bbc", "Factuality": 1.0, "RelE": 1.0, "Flip_RelE": 1.0}
    row = read_rated(written(tmp_path, "human.json", [flat])).rows[0]
    assert (row.document, row.system, row.dataset, row.score) == ("", "bart", "xsum", 1.0)
    assert row.labels == {"RelE": 1.0, "Flip_RelE": 1.0}
    assert row.scores == {}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_any_rows_in_any_layout(tmp_path, suffix):
    rows = [
        {"doc": "One, two.\nThree.", "claim": "Two.", "label": i % 2, "model": "m", "mine": 0.25 * i} for i in range(3)
    ]
    if suffix == ".jsonl":
        text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    elif suffix == ".json":
        text = json.dumps({"data": rows})
    else:
        mark = "," if suffix == ".csv" else "\t"
        body = [mark.join(['"One, two.\nThree."', "Two.", str(r["label"]), "m", str(r["mine"])]) for r in rows]
        text = "\ufeff" + "\n".join([mark.join(rows[0]), *body])
    rated = read_rated(written(tmp_path, f"set{suffix}", text))
    assert [row.score for row in rated.rows] == [0, 1, 0]
    assert [row.scores for row in rated.rows] == [{"mine": 0.0}, {"mine": 0.25}, {"mine": 0.5}]
    assert {row.document for row in rated.rows} == {"One, two.\nThree."}
    assert len({row.document_id for row in rated.rows}) == 1
    assert rated.published == []


def test_json_lines_in_a_file_named_json(tmp_path):
    assert len(read_rated(written(tmp_path, "x.json", '{"score": 1}\n{"score": 0}\n')).rows) == 2


def test_line_separators_inside_text_do_not_split_lines(tmp_path):
    text = json.dumps({"source": "a\u2028b", "summary": "c", "score": 1}, ensure_ascii=False)
    assert read_rated(written(tmp_path, "x.jsonl", text)).rows[0].document == "a\u2028b"


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (True, 1.0),
        ("0.25", 0.25),
        ("Inconsistent", 0.0),
        ("factual", 1.0),
        ([1, 2, None], 1.5),
        (None, None),
        ("", None),
        ("n/a", None),
        (float("nan"), None),
    ],
)
def test_human_scores_of_many_kinds(tmp_path, value, score):
    rows = [{"document": "d", "summary": "s", "score": value}, {"document": "d", "summary": "s", "score": 1}]
    assert read_rated(written(tmp_path, "x.json", rows)).rows[0].score == score


def test_fields_by_name_and_by_path(tmp_path):
    row = {
        "body": {"text": "d"},
        "out": "s",
        "expert": [{"consistency": 4, "fluency": 1}, {"consistency": 5, "fluency": 1}],
        "who": 7,
        "part": "news",
        "m": {"bleu": 0.5},
        "a.b": 3,
    }
    names = Fields(
        document="body.text",
        summary="out",
        score="expert.consistency",
        system="who",
        dataset="part",
        metrics="m",
        document_id="a.b",
    )
    found = read_rated(written(tmp_path, "x.json", [row]), names).rows[0]
    assert (found.document, found.summary, found.score, found.system) == ("d", "s", 4.5, "7")
    assert (found.dataset, found.scores, found.document_id) == ("news", {"bleu": 0.5}, "3")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.json", "[{]", "not JSON"),
        ("x.json", "3", "list of rows, got int"),
        ("x.json", "[1]", "row 1: expected an object"),
        ("x.json", "[]", "no rows"),
        ("x.json", [{"document": "d"}], "--score-field"),
        ("x.json", [{"score": 1}, {"score": "good"}], "row 2: field score: expected a number, got 'good'"),
        (
            "x.json",
            [{"score": 1, "document": 1}, {"score": 1, "document": True, "summary": [1]}],
            "row 2: field summary",
        ),
        ("x.json", '[{"score": Infinity}]', "row 1: field score: expected a finite"),
        ("x.json", [FRANK_ROW | {"published_metrics": {"QAGS": [["x"]]}}], "row 1: field published_metrics.QAGS"),
        ("x.jsonl", '{"score": 1}\n{', "line 2: not JSON"),
        ("x.jsonl", "[1]", "line 1: expected an object"),
        ("x.csv", "score,summary\n1,a,b\n", "row 1: more cells than columns"),
    ],
)
def test_a_bad_file_is_named_with_row_and_field(tmp_path, name, content, said):
    path = written(tmp_path, name, content)
    with pytest.raises(MetricError) as error:
        read_rated(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_field_that_no_row_has(tmp_path):
    path = written(tmp_path, "x.json", [{"score": 1, "text": "d"}])
    with pytest.raises(MetricError, match=r"summary field 'output': no row has it. The rows have: score, text"):
        read_rated(path, Fields(summary="output"))


def test_unreadable_files(tmp_path):
    with pytest.raises(MetricError, match="cannot be read"):
        read_rated(tmp_path / "none.json")
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe[")
    with pytest.raises(MetricError, match="not UTF-8"):
        read_rated(path)


@pytest.mark.realdata
def test_frank_validation_split(real_data):
    rated = read_rated(real_data("frank/valid.json"))
    assert len(rated.rows) == 671
    assert rated.datasets == ["cnndm", "xsum"]
    assert len({row.document_id for row in rated.rows}) == 149
    assert len({row.system for row in rated.rows}) == 9
    assert len(rated.published) == 15
    assert sum(row.scores["Dep Entail"] is None for row in rated.rows) == 42
    assert all(row.reference is None for row in rated.rows if row.dataset == "cnndm")
    assert all(f"Flip_{group}" in row.labels for row in rated.rows for group in ERROR_GROUPS)
