"""Documents of facts: what is known of them holds."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_faithsum.planted import entropy, fact_documents


@given(st.integers(2, 6), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_document_has_its_facts_its_cue_and_its_target(facts: int, noise: float, seed: int) -> None:
    for document in fact_documents(5, seed=seed, facts=facts, noise=noise):
        assert len(document.sentences) == len(set(document.statements)) == facts
        assert ["really" in s for s in document.sentences] == [k == document.cue for k in range(facts)]
        assert [document.stated(s) for s in document.statements] == list(range(facts))
        assert document.text == " ".join(document.sentences)


def test_documents_differ_and_the_seed_decides() -> None:
    documents = fact_documents(300, seed=3)
    assert len({d.text for d in documents}) == 300
    assert documents == fact_documents(300, seed=3)
    assert documents != fact_documents(300, seed=4)


def test_the_summary_is_of_the_cued_fact_as_often_as_told() -> None:
    documents = fact_documents(4000, seed=1, facts=3, noise=0.4)
    share = sum(d.cue == d.target for d in documents) / len(documents)
    assert abs(share - (0.6 + 0.4 / 3)) < 3 * math.sqrt(0.25 / len(documents))
    assert all(d.cue == d.target for d in fact_documents(200, seed=1, noise=0.0))


def test_entropy_is_what_frequencies_tend_to() -> None:
    offsets = Counter((d.target - d.cue) % 4 for d in fact_documents(20_000, seed=5, facts=4, noise=0.4))
    observed = -sum(n / 20_000 * math.log(n / 20_000) for n in offsets.values())
    assert entropy(4, 0.4) == pytest.approx(observed, abs=0.02)


@pytest.mark.parametrize(("facts", "noise"), [(1, 0.1), (50, 0.1), (3, 1.5)])
def test_what_cannot_be_is_refused(facts: int, noise: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        fact_documents(1, seed=1, facts=facts, noise=noise)
