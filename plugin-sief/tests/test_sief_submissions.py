"""Prediction files in the official formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sief_data import file

from fascicle_sief.errors import DocumentError, SiefError
from fascicle_sief.scores import Prediction
from fascicle_sief.submissions import (
    read_dialogre_prefixes,
    read_dialogre_scores,
    read_docred_predictions,
    write_dialogre_prefixes,
    write_dialogre_scores,
    write_docred_predictions,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_docred_predictions_come_back_as_written(tmp_path: Path) -> None:
    predictions = [Prediction("Café", 0, 1, "P17", (2, 0)), Prediction("a", 3, 2, "P131")]
    path = write_docred_predictions(tmp_path / "result.json", predictions)
    assert read_docred_predictions(path) == predictions
    assert json.loads(path.read_text(encoding="utf-8"))[0] == {
        "title": "Café",
        "h_idx": 0,
        "t_idx": 1,
        "r": "P17",
        "evidence": [2, 0],
    }
    assert read_docred_predictions(write_docred_predictions(path, [])) == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "expected an object"),
        ({"h_idx": 0, "t_idx": 1, "r": "P17"}, "title: expected text, got 'nothing'"),
        ({"title": "a", "h_idx": "0", "t_idx": 1, "r": "P17"}, "h_idx: expected a number, got '0'"),
        ({"title": "a", "h_idx": 0, "t_idx": True, "r": "P17"}, "t_idx: expected a number, got True"),
        ({"title": "a", "h_idx": 0, "t_idx": 1, "r": 17}, "r: expected text, got 17"),
        (
            {"title": "a", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": [True]},
            "evidence: expected a list of sentence",
        ),
    ],
)
def test_a_malformed_prediction_is_named_with_its_row(tmp_path: Path, row: Any, message: str) -> None:
    good = {"title": "a", "h_idx": 0, "t_idx": 1, "r": "P17"}
    with pytest.raises(DocumentError, match=rf"result\.json, row 1: {message}"):
        read_docred_predictions(file(tmp_path, [good, row], "result.json"))


def test_a_prediction_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"result\.json:2: not JSON"):
        read_docred_predictions(file(tmp_path, "[\n{]", "result.json"))
    with pytest.raises(DocumentError, match="expected a list of predictions, got dict"):
        read_docred_predictions(file(tmp_path, {}, "result.json"))
    with pytest.raises(DocumentError, match="no such file"):
        read_docred_predictions(tmp_path / "none.json")
    with pytest.raises(DocumentError, match=r"cannot be read \("):
        read_docred_predictions(tmp_path)


def test_dialogre_logits_give_the_probabilities_back(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((5, 36))
    scores[0, :3] = 0, 1, 0.5
    path = write_dialogre_scores(tmp_path / "logits.txt", scores)
    back = read_dialogre_scores(path)
    np.testing.assert_allclose(back, scores, rtol=1e-12)
    assert back[0, :3].tolist() == [0, 1, 0.5]  # exact where the thresholds ask for it
    lines = path.read_text().splitlines()
    assert [len(line.split(" ")) for line in lines] == [36] * 5
    assert float(lines[1].split()[0]) == pytest.approx(np.log(scores[1, 0] / (1 - scores[1, 0])))


def test_prefix_files_hold_the_turns_of_one_pair_after_the_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prefixes = [rng.random((turns, 36)) for turns in (3, 1, 2)]
    path = write_dialogre_prefixes(tmp_path / "logits.txt", prefixes)
    for back, scores in zip(read_dialogre_prefixes(path, turns=[3, 1, 2]), prefixes, strict=True):
        np.testing.assert_allclose(back, scores, rtol=1e-12)
    with pytest.raises(DocumentError, match="expected 5 lines, one for each turn of 2 pairs, got 6"):
        read_dialogre_prefixes(path, turns=[3, 2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2", "got 2"),
        ("", "got 0"),
        (" ".join(["x"] * 36), "could not convert"),
        (" ".join(["nan"] * 36), "36 are NaN"),
    ],
)
def test_a_malformed_line_of_logits_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DocumentError, match=rf"logits\.txt:2: expected 36 numbers, .*{message}"):
        read_dialogre_scores(file(tmp_path, f"{' '.join(['0'] * 36)}\n{line}\n", "logits.txt"))


def test_only_probabilities_are_written(tmp_path: Path) -> None:
    with pytest.raises(SiefError, match=r"got shape \(2, 35\)"):
        write_dialogre_scores(tmp_path / "logits.txt", np.zeros((2, 35)))
    with pytest.raises(SiefError, match="2 values outside"):
        write_dialogre_scores(tmp_path / "logits.txt", np.array([[1.5, np.nan, *[0.0] * 34]]))
    with pytest.raises(SiefError, match="got no pair"):
        write_dialogre_prefixes(tmp_path / "logits.txt", [])
