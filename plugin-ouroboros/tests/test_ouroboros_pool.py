"""The phrase pool: what it learns, what it proposes, and what it never does: grow, leak, depend on how it is fed."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_ouroboros.errors import PoolError
from fascicle_ouroboros.pool import SOURCES, Phrase, PhrasePool, tokenizer_fingerprint

TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def proposals(pool, tails, k=4, length=None):
    return [[(p.tokens, p.source, p.key) for p in pool.lookup(tail, k, length)] for tail in tails]


def all_tails(text, n=3):
    return [text[max(0, i - n) : i] for i in range(1, len(text) + 1)]


class ReferencePool:
    """The same promise, written to be read: a list of all that was seen, searched from the newest."""

    def __init__(self, P, orders, per_key):
        self.P, self.orders, self.per_key = P, sorted(orders, reverse=True), per_key
        self.done = []  # (key, phrase) in the order in which phrases were completed
        self.text = []

    def feed(self, token):
        self.text.append(token)
        end = len(self.text) - self.P
        if end >= 1:
            for o in self.orders:
                if o <= end:
                    self.done.append((tuple(self.text[end - o : end]), tuple(self.text[end:])))

    def lookup(self, tail, k):
        found = []
        for o in self.orders:
            key = tuple(tail[-o:])
            if len(key) < o:
                continue
            begun = [
                (tuple(self.text[e - o : e]), tuple(self.text[e:]))
                for e in range(max(o, len(self.text) - self.P + 1), len(self.text))
            ]
            kept = []  # newest last
            for known, phrase in self.done + begun:
                if known == key:
                    if phrase in kept:
                        kept.remove(phrase)
                    elif len(kept) == self.per_key:
                        kept.pop(0)
                    kept.append(phrase)
            for phrase in reversed(kept):
                if any(better[: len(phrase)] == phrase for better, _ in found):
                    continue
                shorter = [j for j, (b, by) in enumerate(found) if by == key and phrase[: len(b)] == b]
                if shorter:
                    found[shorter[0]] = (phrase, key)
                    continue
                found.append((phrase, key))
                if len(found) == k:
                    return found
        return found


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, P=st.integers(1, 5), per_key=st.integers(1, 4), k=st.integers(1, 5))
def test_the_pool_is_the_brute_force_search(text, P, per_key, k):
    pool, reference = PhrasePool(phrase_len=P, orders=(1, 2, 3), per_key=per_key), ReferencePool(P, (1, 2, 3), per_key)
    for i, token in enumerate(text):
        pool.feed(text[: i + 1], i, "output")
        reference.feed(token)
        tail = text[max(0, i - 2) : i + 1]
        assert [(p.tokens, p.key) for p in pool.lookup(tail, k)] == reference.lookup(tail, k)


@settings(max_examples=100, deadline=None)
@given(
    text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=12), P=st.integers(1, 9), cap=st.sampled_from([5, 40, 10**6])
)
def test_feeding_in_pieces_is_feeding_at_once(text, cuts, P, cap):
    whole, pieces = (PhrasePool(phrase_len=P, max_phrases=cap) for _ in range(2))
    whole.feed(text, 0, "prompt")
    at = 0
    for cut in sorted({*(c for c in cuts if c < len(text)), len(text)}):
        pieces.feed(text[:cut], at, "prompt")
        at = cut
    assert proposals(pieces, all_tails(text)) == proposals(whole, all_tails(text))
    assert len(pieces) == len(whole)
    assert pieces._snapshot() == whole._snapshot()


@settings(max_examples=50, deadline=None)
@given(a=TEXTS, b=TEXTS, seed=st.integers(0, 99))
def test_texts_written_at_the_same_time_do_not_disturb_each_other(a, b, seed):
    """Whatever the interleaving, each text's phrases are learnt, and nothing else is."""
    rng, pool, at = random.Random(seed), PhrasePool(phrase_len=4, per_key=10_000), [0, 0]
    texts = [a, [t + 10 for t in b]]
    while any(at[i] < len(texts[i]) for i in range(2)):
        i = rng.choice([i for i in range(2) if at[i] < len(texts[i])])
        step = min(len(texts[i]), at[i] + rng.randint(1, 5))
        pool.feed(texts[i][:step], at[i], "output")
        at[i] = step
    seen = {(tuple(t[e - o : e]), tuple(t[e : e + 4])) for t in texts for o in (1, 2, 3) for e in range(o, len(t))}
    assert {(key, tokens) for key, bucket in pool._snapshot() for tokens in bucket} == seen


def test_only_the_last_tokens_before_start_are_needed():
    text = [random.Random(1).randrange(5) for _ in range(200)]
    whole, short = PhrasePool(), PhrasePool()
    whole.feed(text, 0, "output")
    for i in range(200):
        before = text[max(0, i - 11) : i]
        short.feed([*before, text[i]], len(before), "output")
    assert short._snapshot() == whole._snapshot()


def test_a_longer_key_ranks_first_and_shorter_keys_fill_up():
    pool = PhrasePool(phrase_len=2)
    pool.feed([1, 2, 3, 10, 11, 9, 2, 3, 20, 21, 9, 9, 3, 30, 31, 0, 0], 0, "prompt")
    assert [(p.tokens, len(p.key)) for p in pool.lookup([1, 2, 3], 3)] == [((10, 11), 3), ((20, 21), 2), ((30, 31), 1)]


def test_proposals_are_distinct_and_none_begins_a_better_one():
    rng = random.Random(0)
    pool = PhrasePool(phrase_len=5)
    text = [rng.randrange(3) for _ in range(500)]
    pool.feed(text, 0, "output")
    for i in range(3, 500):
        for length in (None, 1, 2, 3):
            found = [p.tokens for p in pool.lookup(text[:i], 8, length)]
            assert len(found) == len(set(found))
            assert not any(b[: len(a)] == a for j, a in enumerate(found) for b in found[:j])
            assert all(len(t) <= (length or 5) for t in found)


def test_what_the_target_accepted_ranks_before_what_is_newer():
    pool = PhrasePool(phrase_len=1, orders=(1,))
    pool.feed([1, 2, 1, 3, 1, 4, 0], 0, "output")
    assert [p.tokens for p in pool.lookup([1], 3)] == [(4,), (3,), (2,)]
    pool.record(Phrase((2,), "output", (1,)), 1, 1)
    pool.record(Phrase((4,), "output", (1,)), 1, 0)
    assert [p.tokens for p in pool.lookup([1], 3)] == [(2,), (3,), (4,)]


def test_the_beta_prior_keeps_one_lucky_token_from_ruling():
    """1 of 1 is not better than 60 of 64."""
    pool = PhrasePool(phrase_len=1, orders=(1,))
    pool.feed([1, 2, 1, 3, 0], 0, "output")
    for _ in range(60):
        pool.record(Phrase((2,), "output", (1,)), 1, 1)
    pool.record(Phrase((3,), "output", (1,)), 1, 1)
    assert pool.lookup([1], 1)[0].tokens == (2,)


def test_sources_rank_seen_then_corrected_then_rejected():
    pool = PhrasePool(phrase_len=1, orders=(1,))
    pool.correct([1], [2], "output")
    pool.correct([1], [3], "corrected")
    pool.correct([1], [4], "rejected")
    assert [p.source for p in pool.lookup([1], 3)] == ["output", "corrected", "rejected"]
    pool.correct([1], [4], "output")  # now it was seen
    assert [(p.tokens, p.source) for p in pool.lookup([1], 1)] == [((4,), "output")]


def test_a_full_bucket_gives_up_its_lowest_ranked_phrase_and_takes_the_new_one():
    pool = PhrasePool(phrase_len=1, orders=(1,), per_key=3)
    for token in (2, 3, 4):
        pool.correct([1], [token], "output")
    pool.record(Phrase((2,), "output", (1,)), 1, 1)
    pool.record(Phrase((4,), "output", (1,)), 1, 0)
    pool.correct([1], [5], "rejected")
    assert [p.tokens for p in pool.lookup([1], 9)] == [(2,), (3,), (5,)]


def test_phrases_are_cut_where_they_are_no_longer_accepted():
    pool = PhrasePool(phrase_len=8, orders=(2, 1))
    pool.feed([*range(20)], 0, "output")
    assert len(pool.lookup([3], 1)[0].tokens) == 8
    for _ in range(60):
        pool.record(Phrase(tuple(range(4, 12)), "output", (3,)), 8, 2)  # two tokens, then never the third
    assert pool.lookup([3], 1)[0].tokens == (4, 5)
    assert pool.acceptance(1)[0] > 0.95
    assert pool.acceptance(1)[2] < 0.15
    assert len(pool.lookup([2, 3], 1)[0].tokens) == 8  # keys of another length are judged on their own
    assert len(pool.lookup([3], 1, length=6)[0].tokens) == 6  # asked for, given


def test_one_token_is_always_left():
    pool = PhrasePool(phrase_len=4, orders=(1,))
    pool.feed([*range(9)], 0, "output")
    for _ in range(2000):
        pool.record(Phrase((2, 3, 4, 5), "output", (1,)), 4, 0)
    assert pool.lookup([1], 1)[0].tokens == (2,)


def test_the_cap_holds_under_a_million_inserts():
    rng = random.Random(3)
    pool = PhrasePool(phrase_len=4, orders=(2, 1), max_phrases=2_000)
    at = 0
    while at < 500_000:  # two keys a token
        pool.feed([rng.randrange(50_000) for _ in range(25_000)], 0, "output")
        at += 25_000
        assert len(pool) <= 2_000
    assert len(pool) == sum(len(bucket) for bucket in pool._table.values()) == 2_000
    assert len(pool._mixed) == 0


def test_the_least_recently_used_key_gives_first():
    pool = PhrasePool(phrase_len=1, orders=(1,), max_phrases=2)
    pool.correct([1], [10], "output")
    pool.correct([2], [20], "output")
    pool.record(pool.lookup([1], 1)[0], 1, 1)  # 1 was useful
    pool.correct([3], [30], "output")
    assert [bool(pool.lookup([t], 1)) for t in (1, 2, 3)] == [True, False, True]


def test_a_key_that_is_seen_again_is_used():
    pool = PhrasePool(phrase_len=1, orders=(1,), max_phrases=2)
    for key in (1, 2, 1, 3):
        pool.correct([key], [10], "output")
    assert [bool(pool.lookup([t], 1)) for t in (1, 2, 3)] == [True, False, True]


def test_judged_keys_that_are_evicted_leave_nothing_behind():
    pool = PhrasePool(phrase_len=1, orders=(1,), max_phrases=3)
    for t in range(200):
        pool.correct([t], [t + 1], "rejected")
        pool.record(pool.lookup([t], 1)[0], 1, 1)
    assert len(pool) == 3
    assert len(pool._mixed) <= 3


def test_many_unfinished_texts_are_bounded_and_kept_as_short_phrases():
    pool = PhrasePool(phrase_len=4, orders=(1,))
    for i in range(0, 1000, 2):
        pool.feed([i, i + 1], 0, "output")
    assert len(pool._open) <= 4
    assert [p.tokens for p in pool.lookup([10], 1)] == [(11,)]


def test_a_read_only_pool_learns_nothing():
    pool = PhrasePool(phrase_len=2)
    pool.feed([1, 2, 3, 4, 1, 5, 6], 0, "output")
    pool.read_only = True
    before = pool._snapshot()
    pool.feed([7, 8, 9, 9], 0, "output")
    pool.correct([1], [9], "corrected")
    pool.record(pool.lookup([1], 1)[0], 1, 0)
    assert pool._snapshot() == before
    assert pool.acceptance(1) == PhrasePool(phrase_len=2).acceptance(1)


def test_namespaces_do_not_see_each_other():
    pool = PhrasePool(phrase_len=2, per_key=7)
    pool.feed([1, 2, 3], 0, "prompt")
    ann, bob = pool.within("ann"), pool.within("bob")
    ann.feed([1, 7, 8], 0, "prompt")
    assert [p.tokens for p in ann.lookup([1], 3)] == [(7, 8)]
    assert bob.lookup([1], 3) == []
    assert [p.tokens for p in pool.lookup([1], 3)] == [(2, 3)]
    assert ann is pool.within("ann")
    assert (ann.namespace, ann.per_key) == ("ann", 7)
    shared = pool.within("ann", share=True)
    assert [p.tokens for p in shared.lookup([1], 3)] == [(7, 8), (2, 3)]
    assert [p.tokens for p in pool.within("ann").lookup([1], 3)] == [(7, 8)]  # not unless asked for


def test_the_number_of_namespaces_is_bounded():
    pool = PhrasePool()
    for i in range(100):
        pool.within(f"user {i}")
    assert len(pool._within) == 16


def test_threads_can_share_a_pool():
    pool = PhrasePool(phrase_len=4, max_phrases=500)
    errors = []

    def work(seed):
        try:
            rng = random.Random(seed)
            text = []
            for _ in range(400):
                new = [rng.randrange(30) for _ in range(rng.randint(1, 4))]
                text += new
                pool.feed(text, len(text) - len(new), "output")
                for phrase in pool.lookup(text, 3):
                    assert phrase.tokens
                    pool.record(phrase, len(phrase.tokens), rng.randint(0, len(phrase.tokens)))
                pool.correct(text[-3:], new, "rejected")
                if not rng.randrange(40):
                    pool._snapshot()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(pool) == sum(len(bucket) for bucket in pool._table.values()) <= 500


def test_an_empty_tail_or_text_is_no_error():
    pool = PhrasePool()
    pool.feed([], 0, "prompt")
    pool.feed([1], 1, "prompt")
    pool.correct([], [1], "output")
    pool.correct([1], [], "output")
    assert pool.lookup([], 3) == pool.lookup([1], 0) == pool.lookup([1], 3, length=0) == []


def test_history_is_a_source_of_its_own():
    assert SOURCES["output"] > SOURCES["history"] > SOURCES["corrected"] > SOURCES["rejected"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phrase_len": 0}, "phrase_len: expected a whole number of at least 1, got 0"),
        ({"per_key": True}, "per_key"),
        ({"max_phrases": 1.5}, "max_phrases"),
        ({"orders": ()}, "orders: expected key lengths"),
        ({"orders": (0, 1)}, "orders"),
        ({"namespace": None}, "namespace"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(PoolError, match=message):
        PhrasePool(**options)


def test_an_unknown_source_and_an_impossible_outcome_are_refused():
    pool = PhrasePool()
    with pytest.raises(PoolError, match="source: expected one of prompt"):
        pool.feed([1], 0, "somewhere")
    with pytest.raises(PoolError, match="accepted: expected 0 to 2"):
        pool.record(Phrase((1, 2), "output", (0,)), 2, 3)


def test_a_fingerprint_changes_with_the_meaning_of_an_id():
    class Toy:
        def __init__(self, vocab, special=(0,)):
            self.vocab, self.all_special_ids = vocab, list(special)

        def get_vocab(self):
            return self.vocab

    same = tokenizer_fingerprint(Toy({"a": 1, "b": 2}))
    assert same == tokenizer_fingerprint(Toy({"b": 2, "a": 1}))
    assert same != tokenizer_fingerprint(Toy({"a": 2, "b": 1}))
    assert same != tokenizer_fingerprint(Toy({"a": 1, "b": 2}, special=(1,)))
    with pytest.raises(PoolError, match="get_vocab"):
        tokenizer_fingerprint(object())
