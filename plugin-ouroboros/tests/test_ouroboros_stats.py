"""Counters: what a round adds, and that sums are sums."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_ouroboros.stats import PARTS, Stats

SOURCES = st.sampled_from(["draft", "prompt", "output", "rejected"])
ROUNDS = st.lists(
    st.tuples(st.lists(SOURCES, max_size=6), st.integers(0, 6), st.floats(0.01, 1), st.floats(0.01, 1)), max_size=12
)


def counted(rounds):
    stats = Stats(mode="tree")
    for proposed, accepted, predicted, measured in rounds:
        path = proposed[:accepted]
        stats.add_round(
            fed=1 + len(proposed),
            tokens=[*((3, source) for source in path), (4, "target")],
            proposed=proposed,
            accepted=path,
            predicted=predicted,
            measured=measured,
        )
    return stats


def test_a_round_is_counted_as_it_was():
    stats = Stats()
    stats.add_round(
        fed=6,
        tokens=[(1, "draft"), (2, "draft"), (3, "prompt"), (9, "target")],
        proposed=["draft", "draft", "prompt", "prompt", "prompt"],
        accepted=["draft", "draft", "prompt"],
    )
    stats.add_round(fed=1, tokens=[(5, "target")], proposed=[], accepted=[])
    assert (stats.rounds, stats.drafted_rounds, stats.target_forwards, stats.target_tokens_fed) == (2, 1, 2, 7)
    assert (stats.emitted, stats.tau, stats.proposed, stats.accepted) == (5, 2.5, 5, 3)
    assert stats.accepted_by_depth == [1, 1, 1]
    assert stats.by_source == {"draft": {"proposed": 2, "accepted": 2}, "prompt": {"proposed": 3, "accepted": 1}}
    assert [token for token, _ in stats.tokens] == [1, 2, 3, 9, 5]
    assert stats.prediction_error is None


@settings(max_examples=60, deadline=None)
@given(a=ROUNDS, b=ROUNDS, c=ROUNDS)
def test_merging_is_counting_all_rounds_in_one(a, b, c):
    parts = [counted(rounds) for rounds in (a, b, c)]
    whole = counted([*a, *b, *c])
    assert parts[0].merge(*parts[1:]) == whole == parts[0].merge(parts[1]).merge(parts[2])
    assert parts == [counted(rounds) for rounds in (a, b, c)]  # untouched


@settings(max_examples=60, deadline=None)
@given(rounds=ROUNDS)
def test_counts_agree_with_each_other(rounds):
    stats = counted(rounds)
    assert stats.emitted == stats.accepted + stats.rounds == len(stats.tokens)
    assert sum(stats.accepted_by_depth) == stats.accepted
    assert stats.accepted_by_depth == sorted(stats.accepted_by_depth, reverse=True)
    assert stats.target_tokens_fed == stats.proposed + stats.rounds
    assert json.loads(json.dumps(stats.to_dict())) == stats.to_dict()


def test_the_error_of_the_prediction_is_relative_to_what_was_measured():
    stats = counted([([], 0, 0.1, 0.2), ([], 0, 0.3, 0.2)])
    assert stats.prediction_error == pytest.approx(0.5)


def test_timed_rounds_are_bounded():
    stats = Stats()
    for i in range(5000):
        stats.add_round(fed=1, tokens=[], proposed=[], accepted=[], predicted=1.0, measured=i + 1.0)
    assert len(stats.timed) == 4096
    assert stats.timed[-1] == (1.0, 5000.0)
    assert len(stats.merge(stats).timed) == 4096


def test_an_empty_count_is_plain_decoding():
    assert Stats().tau == 1.0
    assert set(Stats().seconds) == set(PARTS)
    assert Stats().seconds is not Stats().seconds
    assert Stats().merge() == Stats()
