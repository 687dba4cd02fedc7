"""Text of several languages for a small model, without what belongs together."""

from __future__ import annotations

from pathlib import Path

import pytest

from fascicle.errors import ConfigError, DataError
from fascicle.testing.helpers import load, run_context
from fascicle_wcs.corpus import monolingual

LINES = [f"The lamp number {n} is here.\tDie Lampe Nummer {n} ist da.\n" for n in range(40)]


def files(folder: Path) -> str:
    (folder / "texts.tsv").write_text("".join(LINES), encoding="utf-8")
    return f"en-de:{folder / 'texts.tsv'}"


def test_paragraphs_of_a_language_are_kept_once_and_lose_their_places(tmp_path: Path) -> None:
    texts = monolingual([files(tmp_path), files(tmp_path)])
    numbers = {language: [int("".join(filter(str.isdigit, t))) for t in found] for language, found in texts.items()}
    assert sorted(numbers["en"]) == sorted(numbers["de"]) == list(range(40))
    together = sum(a == b for a, b in zip(numbers["en"], numbers["de"], strict=True))
    assert together < 10  # a pair beside each other by chance is one in forty


def test_a_row_of_the_training_data_is_of_one_language(tmp_path: Path) -> None:
    chosen = [
        "data=wcs_texts",
        f"data.files=[{files(tmp_path)}]",
        "data.test_rows=5",
        "data.block_length=32",
        "model=wcs_small_lm",
        "model.vocabulary=320",
        "model.hidden_size=16",
        "model.layers=1",
        "model.heads=2",
    ]
    data, model = load(chosen, run_context(tmp_path / "run"))
    assert model.tokenizer is not None
    rows = [model.tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in data.encode("train", model)]
    assert any("Lampe" in row for row in rows)
    assert any("lamp " in row for row in rows)
    assert not any("Lampe" in row and "lamp " in row for row in rows)
    held = set(data.splits["test"]["text"])
    assert not held & set(data.splits["train"]["text"])


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.tsv"
    file.write_text("one\teins\nno tab\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        monolingual([f"en-de:{file}"])


@pytest.mark.parametrize("entry", ["english:FILE", "en-de", "en-de-fr:FILE"])
def test_an_entry_without_two_languages_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="en-de:FILE"):
        monolingual([entry])
