"""Corruptions: small edits that change what is said."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fascicle_faithsum.corruptions import KINDS, any_corruption, corrupt, entities
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.text import tokens

SOURCE = "Anna Ruiz met Bob Hall in Madrid in March 2012. The BBC said he had won 1,200 votes and more support. Carl saw her."

CASES = {
    "entity": "Bob Hall lives in Madrid.",
    "number": "He won 1,200 votes.",
    "date": "They met in March.",
    "pronoun": "Later he saw it.",
    "negation": "He was there.",
    "antonym": "He won more votes.",
    "role": "Anna met Bob.",
    "word": "He got much help.",
    "modifier": "He left the meeting.",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_edits_its_example_and_tells_where(kind: str) -> None:
    sentence = CASES[kind]
    for seed in range(20):
        found = corrupt(sentence, SOURCE, random.Random(seed), kind)
        assert found is not None
        assert found.kind == kind
        assert found.text != sentence
        assert found.text[: found.start] + found.removed + found.text[found.end :] == sentence  # the edit undone


@given(
    st.text(alphabet=st.sampled_from("aA bnotN'1,2.w "), max_size=40) | st.sampled_from([*CASES.values(), SOURCE]),
    st.integers(0, 10**6),
    st.sampled_from(KINDS),
)
def test_a_corruption_is_never_the_sentence_and_follows_the_seed(sentence: str, seed: int, kind: str) -> None:
    found = corrupt(sentence, SOURCE, random.Random(seed), kind, pool=["Zoe"])
    assert found == corrupt(sentence, SOURCE, random.Random(seed), kind, pool=["Zoe"])
    if found is not None:
        assert found.text.lower().split() != sentence.lower().split()
        assert found.text[: found.start] + found.removed + found.text[found.end :] == sentence


def test_entities_come_from_the_source_and_from_the_pool_only_without_one() -> None:
    for seed in range(10):
        found = corrupt("Bob Hall was seen in Madrid.", SOURCE, random.Random(seed), "entity", pool=["Zoe"])
        assert found is not None
        assert found.inserted in {"Anna Ruiz", "BBC", "Carl"}
    alone = corrupt("Then Bob left.", "Then Bob left.", random.Random(0), "entity", pool=["Zoe", "Bob"])
    assert alone is not None
    assert alone.text == "Then Zoe left."
    assert corrupt("Then Bob left.", "Then Bob left.", random.Random(0), "entity") is None


def test_a_capital_that_opens_a_sentence_is_no_name() -> None:
    assert entities("Cats like Rome. NASA knows. Yesterday it rained.") == ("Rome", "NASA")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("He cannot win.", {"He can win."}),
        ("She has not come.", {"She has come."}),
        ("It is late.", {"It is not late."}),
        ("It didn't rain.", {"It did rain."}),
    ],
)
def test_a_negation_is_put_in_or_taken_out(sentence: str, expected: set[str]) -> None:
    found = corrupt(sentence, sentence, random.Random(0), "negation")
    assert found is not None
    assert " ".join(found.text.split()) in expected


def test_years_are_dates_and_no_numbers() -> None:
    assert corrupt("It began in 2012.", SOURCE, random.Random(0), "number") is None
    found = corrupt("It began in 2012.", SOURCE, random.Random(0), "date")
    assert found is not None
    assert found.removed == "2012"
    assert found.inserted.isdigit()


def test_a_number_keeps_its_form() -> None:
    for seed in range(20):
        found = corrupt("It cost 1,200.50 dollars.", SOURCE, random.Random(seed), "number")
        assert found is not None
        assert "," in found.inserted or float(found.inserted) < 1000
        assert len(found.inserted.partition(".")[2]) == 2


def test_roles_are_swapped_and_nothing_else_changes() -> None:
    sentence = "The small dog chased the cat, and it rained."
    found = corrupt(sentence, sentence, random.Random(0), "role")
    assert found is not None
    assert found.text == "The cat chased the small dog, and it rained."
    assert sorted(tokens(found.text)) == sorted(tokens(sentence))


def test_an_invented_modifier_is_not_in_the_source() -> None:
    source = "He left the meeting for the first time, in northern England."
    for seed in range(30):
        found = corrupt("He left the meeting.", source, random.Random(seed), "modifier")
        assert found is not None
        assert found.inserted.strip() not in source


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(MetricError, match="'colour'"):
        corrupt("It is red.", "It is red.", random.Random(0), "colour")


def test_any_corruption_is_none_where_no_kind_applies() -> None:
    assert any_corruption("Hm", "Hm", random.Random(0), kinds=["number", "date", "role"]) is None


@pytest.mark.realdata
def test_rates_on_scientific_summaries() -> None:
    data = Path(os.environ.get("FASCICLE_DATA", "/nowhere"), "scitldr", "dev.jsonl")
    if not data.is_file():
        pytest.skip("SciTLDR is not at hand: set FASCICLE_DATA")
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:500]]
    rates = {}
    for kind in KINDS:
        found = [corrupt(r["target"][0], " ".join(r["source"]), random.Random(i), kind) for i, r in enumerate(rows)]
        assert all(c is None or c.text != r["target"][0] for c, r in zip(found, rows, strict=True))
        rates[kind] = sum(c is not None for c in found) / len(rows)
    least = {"entity": 0.3, "number": 0.04, "negation": 0.5, "antonym": 0.6, "role": 0.15, "word": 0.9, "modifier": 0.9}
    assert all(rates[kind] >= rate for kind, rate in least.items()), rates
