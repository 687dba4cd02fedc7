"""The commands fit a map, translate by it and show neighbours; what they write can be read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fascicle_wcs.commands import main
from fascicle_wcs.errors import DictionaryError, VectorError
from fascicle_wcs.maps import Map
from fascicle_wcs.planted import planted_languages
from fascicle_wcs.vectorfiles import write_vectors

if TYPE_CHECKING:
    from pathlib import Path

LANGUAGES = planted_languages(300, 16, noise=0.01, seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Vectors of two languages and a dictionary of their first 200 words."""
    write_vectors(tmp_path / "source.vec", LANGUAGES.source)
    LANGUAGES.target.save(tmp_path / "target")
    lines = (f"{source.upper()}\t{target}\n" for source, target in LANGUAGES.dictionary.pairs[:200])
    (tmp_path / "dictionary.tsv").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def spaces(folder: Path) -> list[str]:
    return [str(folder / "source.vec"), str(folder / "target")]


@pytest.mark.parametrize("method", ["procrustes", "vecmap", "rcsls"])
def test_words_outside_the_dictionary_are_translated_by_the_map(
    folder: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    told = ["--dict", str(folder / "dictionary.tsv"), "--out", str(folder / "map"), "--lower", "--method", method]
    assert main(["map", *spaces(folder), *told]) == 0
    assert "200 of 200 source words, 200 of 200 target words, 200 of 200 pairs have vectors" in capsys.readouterr().out
    assert Map.load(folder / "map").meta["method"] == method
    pairs = dict(LANGUAGES.dictionary.pairs[200:])
    assert main(["translate", str(folder / "map"), *spaces(folder), *pairs, "-k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    answers = {word: line.split()[1] for word, line in zip(lines[::2], lines[1::2], strict=True)}
    assert np.mean([answers[source] == target for source, target in pairs.items()]) > 0.95


def test_a_word_without_a_vector_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Map(LANGUAGES.rotation).save(folder / "map")
    word = LANGUAGES.source.words[0]
    main(["translate", str(folder / "map"), *spaces(folder), "absent", word, "-k", "2", "--method", "nn"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["absent  (no vector)", word]
    assert len(lines) == 4
    with pytest.raises(VectorError, match="none of absent has a vector"):
        main(["translate", str(folder / "map"), *spaces(folder), "absent"])


def test_the_first_words_of_a_dictionary_are_counted_by_source(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--dict", str(folder / "dictionary.tsv"), "--out", str(folder / "map"), "--lower", "--pairs", "30"]
    assert main(["map", *spaces(folder), *told]) == 0
    assert "procrustes on 30 pairs, 16 to 16 dimensions" in capsys.readouterr().out
    with pytest.raises(DictionaryError, match="is the case the same"):
        main(["map", *spaces(folder), *told[:4]])


def test_neighbours_are_shown_best_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = LANGUAGES.source.words[0]
    assert main(["neighbours", str(folder / "source.vec"), word, "-k", "3"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown == [[word], *([f"{c:.4f}", w] for w, c in LANGUAGES.source.neighbours(word, 3))]


def test_a_wrong_count_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["neighbours", str(folder / "source.vec"), "a", "-k", "0"])
    assert "expected a number of at least 1, got '0'" in capsys.readouterr().err
