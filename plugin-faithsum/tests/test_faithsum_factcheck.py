"""Numbers, names and negations against the source."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import pytest

from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.factcheck import entities, find_entities, find_numbers, findings, negations, numbers

SCITLDR = Path(os.environ.get("FASCICLE_DATA", "")) / "scitldr" / "train.jsonl"


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        ("It sold 1,000 cars.", "It sold 1000 cars."),
        ("It sold seven cars.", "It sold 7 cars."),
        ("It sold 12 cars.", "It sold twelve cars."),
        ("It fell by 5%.", "It fell by 5 percent."),
        ("It fell by 5-10 per cent.", "It fell by 5% or so."),
        ("It cost £1.5 million.", "It cost £ 1.5m."),
        ("It cost 2bn.", "It cost 2,000 million."),
        ("On 3 May 2015 it rained.", "On May 3rd, 2015 it rained."),
        ("On 2015-05-03 it rained.", "It rained on 3 May."),
        ("The 21st try.", "Try 21."),
        ("It took place in the 1990s.", "In the 1990s."),
        ("No numbers here.", "One of them left."),
        ("No numbers here.", "None."),
    ],
)
def test_a_number_in_another_form_is_supported(source: str, summary: str) -> None:
    assert numbers(source, summary) == 1.0


@pytest.mark.parametrize(
    ("source", "summary", "score"),
    [
        ("It sold 1,000 cars.", "It sold 1,001 cars.", 0.0),
        ("It fell by 5%.", "It fell by 6%.", 0.0),
        ("It fell by 5 points.", "It fell by 5%.", 0.0),
        ("It cost 2 million.", "It cost 2 billion.", 0.0),
        ("On 3 May it rained.", "On 4 May it rained.", 0.0),
        ("On 3 May it rained.", "On 3 June it rained.", 0.0),
        ("Two of 30 came.", "Two of 40 came.", 0.5),
        ("It sold cars.", "It sold 2 cars.", 0.0),
    ],
)
def test_another_number_is_not_supported(source: str, summary: str, score: float) -> None:
    assert numbers(source, summary) == score


def test_a_word_with_digits_is_no_number() -> None:
    assert find_numbers("BM25 and gpt2 use x1") == []


@pytest.mark.parametrize(
    ("source", "summary", "score"),
    [
        ("Then Ann Lee met Bob Ray.", "Bob Ray met Ann Lee.", 1.0),
        ("Then Ann Lee met Bob Ray.", "He met Ann Ray.", 0.0),
        ("Then Ann Maria Lee won.", "There Ann Lee won.", 1.0),
        ("Here President Lee won.", "There Mr Lee won.", 1.0),
        ("The European Union paid.", "But the EU paid.", 1.0),
        ("We train GANs here.", "We train a GAN.", 1.0),
        ("We train GANs here.", "We train VAEs.", 0.0),
        ("Nobody came.", "They saw Paris.", 0.0),
        ("Nobody came.", "they saw nothing", 1.0),
        ("Yesterday Chris Gayle met Mark Evans.", "chris gayle met mark evans .", 1.0),
        ("Yesterday Chris Gayle met Mark Evans.", "manager chris evans won .", 0.0),
    ],
)
def test_names_are_supported_by_names(source: str, summary: str, score: float) -> None:
    assert entities(source, summary) == score


def test_first_words_and_calendar_are_no_names() -> None:
    assert find_entities("Researchers say so. On Monday they met in May. I agree.") == []


@pytest.mark.parametrize(
    ("source", "summary", "score"),
    [
        ("The plan did not pass the vote.", "The plan passed the vote.", 0.0),
        ("The plan passed the vote.", "The plan didn't pass the vote.", 0.0),
        ("The plan passed the vote.", "The plan never passed the vote.", 0.0),
        ("The plan did not pass the vote.", "The plan failed to pass the vote.", 1.0),
        ("The plan did not pass the vote.", "the plan did n\\'t pass the vote .", 1.0),
        ("The plan passed, but no money came.", "The plan passed.", 1.0),
        ("The plan passed the vote.", "Nobody likes rain in April.", 1.0),
        ("The plan passed. The bill did not pass.", "The plan passed. The bill passed.", 0.0),
    ],
)
def test_negation_is_compared_with_the_nearest_sentence(source: str, summary: str, score: float) -> None:
    assert negations(source, summary) == score


@pytest.mark.parametrize("function", [numbers, entities, negations])
@pytest.mark.parametrize(
    "text", ["Word", "42", "In 2019 Ann Lee did not win 5% of it.", "日本語です。", "😀", "don't", "-5 to -3"]
)
def test_identical_texts_score_one_and_empty_summaries_zero(function, text: str) -> None:
    assert function(text, text) == 1.0
    assert function(text, "") == 0.0
    with pytest.raises(MetricError, match="blank"):
        function(" ", text)


def test_findings_point_at_what_is_not_supported() -> None:
    source = "In 2019 Ann Lee sold 300 cars. The plan did not pass the vote."
    summary = "In 2018 they say Bob Ray sold 300 cars. The plan passed the vote."
    found = findings(source, summary)
    assert [(f.kind, summary[f.start : f.end]) for f in found] == [
        ("number", "2018"),
        ("entity", "Bob Ray"),
        ("negation", "The plan passed the vote."),
    ]
    assert all(f.text == summary[f.start : f.end] and f.reason for f in found)
    assert findings(source, source) == []
    assert findings(source, "") == []


def test_the_finding_of_an_added_negation_is_its_cue() -> None:
    (found,) = findings("The plan passed the vote.", "The plan never passed the vote.")
    assert (found.kind, found.text) == ("negation", "never")


@pytest.mark.realdata
@pytest.mark.skipif(not SCITLDR.is_file(), reason="FASCICLE_DATA has no scitldr/train.jsonl")
def test_a_swapped_number_or_name_lowers_the_score_in_95_of_100_reference_sentences() -> None:
    """The source is the reference sentence itself, so that the right answer is known; swaps are other rows' numbers and names."""
    rows = [json.loads(line) for line in SCITLDR.read_text(encoding="utf-8").splitlines()]
    texts = [row["target"][0] for row in rows]
    draw = random.Random(0)
    pool = sorted({claim.text for text in texts for claim in find_entities(text)})
    digits = [(text, m) for text in texts for m in re.finditer(r"(?<![\w.,])\d+(?![\w.,])", text)]
    lowered = []
    for text, m in (digits * 9)[:500]:
        other = str(int(m.group()) + draw.randint(11, 89))
        lowered.append(numbers(text, text[: m.start()] + other + text[m.end() :]) < numbers(text, text))
    assert len(lowered) == 500
    assert sum(lowered) / 500 >= 0.95
    named = [(text, claim) for text in texts for claim in find_entities(text)]
    draw.shuffle(named)
    lowered = []
    for text, claim in named[:500]:
        other = draw.choice([name for name in draw.sample(pool, 9) if name.lower() not in text.lower()])
        lowered.append(entities(text, text[: claim.start] + other + text[claim.end :]) < 1.0)
    assert len(lowered) == 500
    assert sum(lowered) / 500 >= 0.95
