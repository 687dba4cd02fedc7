"""Dictionaries are read in every column order, split by source word, and say what they share and what has vectors."""

from __future__ import annotations

import gzip
import logging
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fascicle_wcs.dictionary import (
    Dictionary,
    Overlap,
    check_overlap,
    drop_overlap,
    most_frequent,
    overlap,
    read_dictionary,
)
from fascicle_wcs.errors import DictionaryError
from fascicle_wcs.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAIRS = (("chat", "cat"), ("les", "the"), ("chat", "chat"), ("été", "summer"))


def file(tmp_path: Path, content: str | bytes, name: str = "fr-en.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def vectors(*words: str) -> Vectors:
    return Vectors(words, np.eye(len(words)))


# ---- files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("chat\tcat\nles\tthe\nchat\tchat\nété\tsummer\n", {}),
        ("chat cat\nles  the\nchat chat \nété summer", {}),
        ("\ufeffchat\tcat\r\n\r\n les \tthe\r\nchat\tchat\r\nété\tsummer\r\n", {}),
        ("# French\tEnglish\nchat\tcat\n#comment\nles\tthe\nchat\tcat\nchat\tchat\nété\tsummer\n", {}),
        ("cat\tchat\nthe\tles\nchat\tchat\nsummer\tété\n", {"columns": "target-source"}),
        ("cat chat\nthe les\nchat chat\nsummer été\n", {"columns": "target-source"}),
        ("Target\tSource\ncat\tchat\nthe\tles\nchat\tchat\nsummer\tété\n", {}),
        ("1\tchat\tn\tcat\n2\tles\td\tthe\n3\tchat\tn\tchat\n4\tété\tn\tsummer\n", {"columns": (1, 3)}),
        ("eng\tid\tfra\ncat\t1\tchat\nthe\t2\tles\nchat\t3\tchat\nsummer\t4\tété\n", {"columns": ("fra", "eng")}),
        ("Chat\tcat\nLes\tThe\nCHAT\tchat\ne\u0301te\u0301\tSummer\nchat\tcat\n", {"lower": True}),
    ],
    ids=[
        "MUSE",
        "blanks",
        "Windows",
        "comments",
        "reversed",
        "reversed blanks",
        "header",
        "number",
        "name",
        "spelling",
    ],
)
def test_every_format_says_the_same(tmp_path: Path, content: str, options: dict[str, Any]) -> None:
    assert read_dictionary(file(tmp_path, content), **options).pairs == PAIRS
    packed = file(tmp_path, gzip.compress(content.encode()), "fr-en.tsv.gz")
    assert read_dictionary(packed, **options).pairs == PAIRS


def test_between_tabs_words_may_hold_blanks(tmp_path: Path) -> None:
    path = file(tmp_path, "pomme de terre\tpotato\nchat\ttom cat\n")
    assert read_dictionary(path).pairs == (("pomme de terre", "potato"), ("chat", "tom cat"))


def test_a_word_may_begin_with_a_hash(tmp_path: Path) -> None:
    assert read_dictionary(file(tmp_path, "#the\t#les\n#\t#\n#comment\n")).pairs == (("#the", "#les"), ("#", "#"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("new york", "line 3: expected a source and a target word with a tab between them, got 'new york'"),
        ("a\t", "line 3: expected a source and a target"),
        ("\ta", "line 3: expected a source and a target"),
        ("a\tb\tc", r"line 3: expected two words, got 3 columns: .*columns=\(0, 1\)"),
    ],
)
def test_a_broken_line_is_named_or_skipped_and_counted(
    tmp_path: Path, line: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = file(tmp_path, f"chat\tcat\n\n{line}\nles\tthe\n")
    with pytest.raises(DictionaryError, match=rf"fr-en\.txt: {told}"):
        read_dictionary(path)
    assert read_dictionary(path, on_error="skip").pairs == (("chat", "cat"), ("les", "the"))
    assert "1 broken lines, skipped: '3'" in caplog.text


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ("chat cat\npomme de terre potato\n", {}, "line 2: expected two words with a blank between them.*need a tab"),
        ("chat\n", {}, "line 1: expected two words"),
        ("# nothing\n\n", {}, "no pairs"),
        (b"chat\tcat\n\xe9t\xe9\tsummer\n", {}, "line 2: not UTF-8"),
        ("fra\teng\n", {"columns": ("fra", "deu")}, "0 columns are named 'deu' in the first line; there are fra, eng"),
        ("a\tb\n", {"columns": (0, -1)}, "a number from 0, got -1"),
        ("a\tb\n", {"columns": (1, 1)}, "the same column"),
        ("a\tb\n", {"columns": "reversed"}, "columns: expected 'auto'"),
        ("a\tb\n", {"columns": (0, 2)}, "line 1: expected a source and a target"),
        ("a\tb\n", {"on_error": "ignore"}, "on_error: "),
    ],
)
def test_what_is_no_dictionary_is_refused(
    tmp_path: Path, content: str | bytes, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(DictionaryError, match=told):
        read_dictionary(file(tmp_path, content), **options)
    with pytest.raises(DictionaryError, match="cannot be read"):
        read_dictionary(tmp_path / "absent.txt")


# ---- pairs ---------------------------------------------------------------------------------------------------------------


def test_a_dictionary_knows_all_answers_in_order() -> None:
    found = Dictionary(PAIRS, "toy")
    assert found.gold() == {"chat": ("cat", "chat"), "les": ("the",), "été": ("summer",)}
    assert found.sources() == ("chat", "les", "été")
    assert found.inverse().inverse() == found
    assert found.first_targets().pairs == (("chat", "cat"), ("les", "the"), ("été", "summer"))
    assert found.without_identical().sources() == ("les", "été")
    assert found.first(2).pairs == PAIRS[:3]
    assert list(found) == list(PAIRS)


def test_what_is_no_set_of_pairs_is_refused() -> None:
    with pytest.raises(DictionaryError, match=r"\('a', 'x'\) stands twice"):
        Dictionary((("a", "x"), ("b", "x"), ("a", "x")))
    with pytest.raises(DictionaryError, match=r"pair 1 is \('', 'x'\)"):
        Dictionary((("a", "x"), ("", "x")))


def test_one_to_one_has_every_word_once_and_cannot_grow() -> None:
    rng = np.random.default_rng(0)
    pairs = tuple(dict.fromkeys((f"s{s}", f"t{t}") for s, t in rng.integers(0, 20, size=(100, 2))))
    kept = Dictionary(pairs).one_to_one().pairs
    sources, targets = {s for s, _ in kept}, {t for _, t in kept}
    assert len(sources) == len(targets) == len(kept)
    assert all(s in sources or t in targets for s, t in pairs)


def test_a_split_is_by_source_word_and_keeps_all_targets(caplog: pytest.LogCaptureFixture) -> None:
    pairs = tuple((f"s{i % 7}", f"t{i}") for i in range(21))
    train, test = Dictionary(pairs).split(4, 2)
    assert train.sources() == ("s0", "s1", "s2", "s3")
    assert test.sources() == ("s4", "s5")
    assert (len(train), len(test)) == (12, 6)
    assert not caplog.text
    assert len(Dictionary(pairs).split(4, 9)[1].sources()) == 3
    assert "only 3 source words are left for the test, not 9" in caplog.text
    for counts in ((7, 1), (0, 1), (1, 0)):
        with pytest.raises(DictionaryError, match="7 source words cannot be split"):
            Dictionary(pairs).split(*counts)


def test_overlap_is_counted_exactly_warned_about_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    train = Dictionary((("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")))
    test = Dictionary((("a", "y"), ("a", "w"), ("c", "x"), ("d", "x")))
    assert check_overlap(train, test) == Overlap(sources=2, pairs=1)
    assert "2 of 3 source words and 1 of 4 pairs of the test are trained on" in caplog.text
    caplog.clear()
    dropped = drop_overlap(train, test)
    assert dropped.pairs == (("b", "x"),)
    assert check_overlap(dropped, test) == overlap(dropped, test) == Overlap(0, 0)
    assert not caplog.text


def test_rows_are_those_of_pairs_with_both_vectors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fr, en = vectors("les", "chat", "ours"), vectors("cat", "the", "bear", "chat")
    rows = Dictionary(PAIRS, "toy").rows(fr, en)
    assert rows.dtype == np.int64
    assert [(fr.words[s], en.words[t]) for s, t in rows] == list(PAIRS[:3])
    assert "toy: 2 of 3 source words, 3 of 4 target words, 3 of 4 pairs have vectors" in caplog.text
    with pytest.raises(
        DictionaryError, match=r"0 of 4 pairs have vectors: 'chat', .* against vectors of 'Chat'; .*lower"
    ):
        Dictionary(PAIRS).rows(vectors("Chat"), en)


# ---- frequent words ------------------------------------------------------------------------------------------------------


def test_frequent_words_come_from_wordfreq(monkeypatch: pytest.MonkeyPatch) -> None:
    def top(language: str, n: int) -> list[str]:
        if language != "fr":
            raise LookupError
        return ["de", "e\u0301te\u0301", "été", "la"][:n]

    wordfreq = SimpleNamespace(top_n_list=top, available_languages=lambda: {"fr": "", "en": ""})
    monkeypatch.setitem(sys.modules, "wordfreq", wordfreq)
    assert most_frequent("fr", 4) == ("de", "été", "la")
    with pytest.raises(DictionaryError, match="no language 'xx'; it knows en, fr"):
        most_frequent("xx", 1)
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(DictionaryError, match="pip install wordfreq"):
        most_frequent("fr", 1)


# ---- real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("pair", "train_rows", "test_rows"),
    [
        ("fr-en", 8270, 2342),
        ("es-en", 8667, 2416),
        ("it-en", 7364, 2102),
        ("de-en", 10866, 2827),
        ("en-fr", 10872, 2943),
        ("en-es", 11977, 2975),
        ("en-it", 9657, 2585),
        ("en-de", 14677, 3660),
    ],
)
def test_muse_files_are_read_whole_and_split_as_muse_does(
    real_data: Callable[[str], Path], pair: str, train_rows: int, test_rows: int
) -> None:
    train = read_dictionary(real_data(f"muse/{pair}.train.0-5000.tsv"))
    test = read_dictionary(real_data(f"muse/{pair}.test.5000-6500.tsv"))
    assert (len(train), len(train.sources())) == (train_rows, 5000)
    assert (len(test), len(test.sources())) == (test_rows, 1500)
    assert overlap(train, test) == Overlap(0, 0)
    assert Dictionary(train.pairs + test.pairs).split() == (train, test)
