"""E2E: reading its files, and what the slot measure counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fascicle import DataError, RunContext
from fascicle_loradrop.e2e import load, prompt_of
from fascicle_loradrop.options import E2eData
from fascicle_loradrop.slots import parse_mr, slot_errors

MR = (
    "name[The Mill], eatType[pub], priceRange[cheap], customer rating[5 out of 5], area[riverside], "
    "familyFriendly[yes], near[Raja Cuisine]"
)
GOOD = "The Mill is a cheap, family friendly pub by the river near Raja Cuisine. Customers rate it 5 out of 5."


def write(folder: Path, train: str = "", test: str = "") -> Path:
    (folder / "devset.csv").write_text("mr,ref\n" + train, encoding="utf-8")
    (folder / "testset_w_refs.csv").write_text("mr,ref\n" + test, encoding="utf-8")
    return folder


def test_a_complete_text_has_no_slot_error() -> None:
    assert slot_errors(parse_mr(MR), GOOD) == (7, 0, 0)


@pytest.mark.parametrize(
    ("change", "missed", "added"),
    [
        (("by the river ", ""), 1, 0),
        (("family friendly", "adults only, not family friendly"), 1, 0),
        (("5 out of 5", "1 out of 5"), 1, 0),
        (("cheap", "high-priced"), 1, 0),
        (("The Mill", "The Mull"), 1, 0),
    ],
)
def test_a_changed_text_misses_a_slot(change: tuple[str, str], missed: int, added: int) -> None:
    assert slot_errors(parse_mr(MR), GOOD.replace(*change)) == (7, missed, added)


def test_what_nobody_asked_for_is_added() -> None:
    assert slot_errors(parse_mr("name[The Mill]"), "The Mill is an expensive place in the city centre.") == (1, 0, 2)


def test_rows_are_read_and_test_meanings_counted(tmp_path: Path) -> None:
    row = '"name[A], area[riverside]","A is by the river, cheaply."\n'
    folder = write(tmp_path, row * 3, row + '"name[B], area[riverside]",B.\n')
    data = load(E2eData(folder=str(folder), train_rows=2, test_mrs=1), RunContext(folder=tmp_path))
    assert len(data.splits["train"]) == 2
    assert data.splits["test"]["ref"][:] == ["A is by the river, cheaply."]
    assert prompt_of(data.splits["test"][0]["mr"]) == "name: A | area: riverside =>"


@pytest.mark.parametrize(
    ("train", "words"),
    [("", "no rows"), ('"name[A]",\n', "line 2"), ("nothing,A.\n", "line 2"), ('"name[A]",A.\nname[B]\n', "line 3")],
)
def test_malformed_files_are_named_with_their_line(tmp_path: Path, train: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(E2eData(folder=str(write(tmp_path, train, '"name[A]",A.\n'))), RunContext(folder=tmp_path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"devset\.csv does not exist"):
        load(E2eData(folder=str(tmp_path)), RunContext(folder=tmp_path))


@pytest.mark.realdata
def test_the_published_sizes_are_read(real_data: object) -> None:
    folder: Path = real_data("e2e")  # type: ignore[operator]
    data = load(E2eData(folder=str(folder)), RunContext(folder=folder))
    assert (len(data.splits["train"]), len(data.splits["test"])) == (4672, 4693)
    assert len(set(data.splits["test"]["mr"])) == 630
    assert not set(data.splits["train"]["mr"]) & set(data.splits["test"]["mr"])
