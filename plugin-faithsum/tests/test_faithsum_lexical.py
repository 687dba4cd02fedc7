"""Lexical metrics: against definitions written out, and their invariants."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_faithsum import lexical
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.lexical import Idf, fragments, lcs_length
from fascicle_faithsum.text import tokens

FRANK = Path(os.environ.get("FASCICLE_DATA", "")) / "frank" / "valid.json"
words = st.lists(st.sampled_from("abcd"), max_size=14)
SCORES: dict[str, Callable[[str, str], float]] = {
    **{f"sentence_max_{n}": partial(lexical.sentence_max_ngram, n=n) for n in (1, 2, 3, 4)},
    **{f"precision_{n}": partial(lexical.ngram_precision, n=n) for n in (1, 2, 3, 4)},
    "coverage": lexical.coverage,
    "log_density": lexical.log_density,
    "idf_alignment": lexical.idf_alignment,
    "lcs_precision": lexical.lcs_precision,
}
ARTICLE = "The small cat sat on the mat. A dog ran off in 2019. They met again . it was late."


def reference_fragments(source: Sequence[str], summary: Sequence[str]) -> list[tuple[int, int]]:
    """Grusky et al. 2018, figure 2, by trying every start."""
    found, i = [], 0
    while i < len(summary):
        best = 0
        for j in range(len(source)):
            k = 0
            while i + k < len(summary) and j + k < len(source) and summary[i + k] == source[j + k]:
                k += 1
            best = max(best, k)
        if best:
            found.append((i, best))
        i += max(best, 1)
    return found


def reference_lcs(a: Sequence[str], b: Sequence[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(source=words, summary=words)
@settings(max_examples=200, deadline=None)
def test_fragments_are_those_of_the_greedy_search(source: list[str], summary: list[str]) -> None:
    assert fragments(source, summary) == reference_fragments(source, summary)


@given(a=words, b=words)
@settings(max_examples=200, deadline=None)
def test_the_common_subsequence_is_as_long_as_the_table_says(a: list[str], b: list[str]) -> None:
    assert lcs_length(a, b) == reference_lcs(a, b)


@given(source=words.filter(bool), summary=words.filter(bool))
@settings(max_examples=100, deadline=None)
def test_coverage_is_the_unigram_precision(source: list[str], summary: list[str]) -> None:
    a, b = " ".join(source), " ".join(summary)
    assert lexical.coverage(a, b) == lexical.ngram_precision(a, b, 1)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    "text",
    [
        "Word",
        "42",
        "1,000.5 2",
        "日本語です。はい。",
        "😀",
        "?!",
        "A. B. C.",
        ARTICLE,
        "the of and",
        "U.S.",
        "नमस्ते",
        "\u0301",
    ],
)
def test_identical_texts_score_one(name: str, text: str) -> None:
    assert SCORES[name](text, text) == 1.0


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    ("source", "summary"), [("Red fox. Blue owl.", "Some grey cat."), ("日本", "中文"), ("1 2", "3 4"), ("a", "b")]
)
def test_texts_without_a_common_word_score_zero(name: str, source: str, summary: str) -> None:
    assert SCORES[name](source, summary) == 0.0


@pytest.mark.parametrize("name", SCORES)
def test_an_empty_summary_scores_zero_and_a_blank_source_is_an_error(name: str) -> None:
    assert SCORES[name](ARTICLE, " \n") == 0.0
    with pytest.raises(MetricError, match="source: expected a text, got a blank one"):
        SCORES[name](" ", "A summary.")
    with pytest.raises(MetricError, match="summary: expected a string, got NoneType"):
        SCORES[name](ARTICLE, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SCORES)
@given(source=words.filter(bool), summary=words)
@settings(max_examples=40, deadline=None)
def test_scores_stay_in_the_unit_interval(name: str, source: list[str], summary: list[str]) -> None:
    assert 0.0 <= SCORES[name](" ".join(source), " ".join(summary)) <= 1.0


def test_a_bigram_counts_only_in_the_best_sentence() -> None:
    source = "The cat sat down. The dog ran off."
    assert lexical.sentence_max_ngram(source, "The cat ran off.") == 1 / 3  # the cat | ran off, never both
    assert lexical.ngram_precision(source, "The cat ran off.") == 2 / 3
    assert lexical.sentence_max_ngram(source, "The cat sat. The dog sat.") == (1 + 1 / 2) / 2


def test_a_sentence_of_one_word_is_compared_as_a_word() -> None:
    assert lexical.sentence_max_ngram("He said yes.", "Yes.") == 1.0
    assert lexical.sentence_max_ngram("He said yes.", "No.") == 0.0


def test_density_is_the_mean_squared_fragment() -> None:
    source, summary = "a b c d e f", "a b c x e f"
    assert lexical.density(source, summary) == (9 + 4) / 6
    assert lexical.log_density(source, summary) == math.log(1 + 13 / 6) / math.log(7)
    assert lexical.novel_ngrams(source, summary, 1) == pytest.approx(1 / 6)
    assert lexical.novel_ngrams(source, "", 1) == 0.0


def test_escapes_and_spaced_stops_do_not_change_a_score() -> None:
    plain, artefact = "It's late. He didn't go home.", "it\\'s late . he did n't go home ."
    for name, function in SCORES.items():
        assert function(plain, artefact) == 1.0, name


def test_a_fitted_idf_stays_fixed() -> None:
    table = Idf.fit(["common rare", "common", "common"])
    assert table("rare") == math.log(4 / 1.5)
    source = "common rare. common."
    score = lexical.idf_alignment(source, "rare unknown", idf=table)
    assert score == pytest.approx(table("rare") / (table("rare") + table("unknown")))
    with pytest.raises(MetricError, match="at least one document"):
        Idf.fit([])


def test_bad_orders_and_windows_are_refused() -> None:
    with pytest.raises(MetricError, match="n: expected an n-gram order of at least 1, got 0"):
        lexical.ngram_precision("a b", "a b", 0)
    with pytest.raises(MetricError, match="window"):
        lexical.idf_alignment("a b", "a b", window=0)


def test_the_window_lets_two_neighbours_answer_together() -> None:
    source = "Red fox. Blue owl. Grey cat."
    assert lexical.idf_alignment(source, "Fox and owl.") == 1.0
    assert lexical.idf_alignment(source, "Fox and owl.", window=1) == 0.5
    assert lexical.idf_alignment(source, "Fox and cat.") == 0.5
    assert tokens("Fox and cat.") == ["fox", "and", "cat"]


@pytest.mark.realdata
@pytest.mark.skipif(not FRANK.is_file(), reason="FASCICLE_DATA has no frank/valid.json")
@pytest.mark.parametrize(
    ("name", "everywhere", "cnndm", "xsum"),
    [
        ("sentence_max_2", 0.322, 0.467, 0.091),
        ("sentence_max_3", 0.338, 0.461, 0.110),
        ("precision_2", 0.216, 0.374, 0.091),
        ("coverage", 0.156, 0.222, 0.152),
        ("lcs_precision", 0.315, 0.425, 0.160),
        ("idf_alignment", 0.243, 0.345, 0.163),
    ],
)
def test_agreement_with_people_is_what_the_documentation_says(
    name: str, everywhere: float, cnndm: float, xsum: float
) -> None:
    """Pearson with the rated factuality, the means of each system taken out of both."""
    rows = json.loads(FRANK.read_text(encoding="utf-8"))
    x = np.array([SCORES[name](row["article"], row["summary"]) for row in rows])
    y = np.array([row["human"]["Factuality"] for row in rows])
    half = np.array([row["dataset"] for row in rows])
    system = np.array([f"{row['dataset']} {row['system']}" for row in rows])
    for one in set(system):
        x[system == one] -= x[system == one].mean()
        y[system == one] -= y[system == one].mean()
    for chosen, wanted in ((half != "", everywhere), (half == "cnndm", cnndm), (half == "xsum", xsum)):
        assert np.corrcoef(x[chosen], y[chosen])[0, 1] == pytest.approx(wanted, abs=0.01)
