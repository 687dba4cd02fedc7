"""The pool's file: the same proposals after loading, whole or not at all, and refused with the reason where it does not fit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fascicle_ouroboros.errors import PoolError
from fascicle_ouroboros.pool import PhrasePool


def used_pool(seed=0, tokens=800, **options):
    """A pool with judged phrases, corrections, and a text that is not finished."""
    rng, pool, text = random.Random(seed), PhrasePool(phrase_len=6, **options), []
    while len(text) < tokens:
        new = [rng.randrange(12) for _ in range(rng.randint(1, 5))]
        text += new
        pool.feed(text, len(text) - len(new), rng.choice(["prompt", "output", "history"]))
        for phrase in pool.lookup(text, 3):
            pool.record(phrase, len(phrase.tokens), rng.randint(0, len(phrase.tokens)))
        if not rng.randrange(4):
            pool.correct(text[-3:], new, rng.choice(["corrected", "rejected"]))
    return pool, text


def proposals(pool, seed=1):
    rng = random.Random(seed)
    tails = [[rng.randrange(12) for _ in range(rng.randint(1, 4))] for _ in range(300)]
    return [pool.lookup(tail, k) for tail in tails for k in (1, 3)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), tokens=st.integers(0, 300), per_key=st.integers(1, 16))
def test_a_loaded_pool_makes_the_same_proposals(tmp_path_factory, seed, tokens, per_key):
    pool, text = used_pool(seed, tokens, per_key=per_key)
    path = tmp_path_factory.mktemp("pool") / "pool.safetensors"
    pool.save(path, "tok")
    loaded = PhrasePool.load(path, "tok")
    assert loaded.options() == pool.options()
    assert proposals(loaded) == proposals(pool)
    assert loaded.lookup(text, 3) == pool.lookup(text, 3)
    assert [loaded.acceptance(o) for o in (1, 2, 3)] == [pool.acceptance(o) for o in (1, 2, 3)]


def test_a_loaded_pool_goes_on_learning_as_the_saved_one_would(tmp_path):
    pool, text = used_pool()
    pool.feed([90] * 30, 0, "output")  # closes nothing, but the old text is not continued
    pool.save(tmp_path / "p", "tok")
    loaded = PhrasePool.load(tmp_path / "p", "tok")
    more = [random.Random(5).randrange(12) for _ in range(200)]
    for each in (pool, loaded):
        each.feed(more, 0, "output")
    assert proposals(loaded) == proposals(pool)
    assert text


def test_saving_twice_writes_the_same_bytes(tmp_path):
    pool, _ = used_pool()
    for name in "ab":
        pool.save(tmp_path / name, "tok")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]  # and no temporary file stays


def test_an_empty_pool_can_be_kept(tmp_path):
    PhrasePool().save(tmp_path / "p", "tok")
    assert len(PhrasePool.load(tmp_path / "p", "tok")) == 0


def test_options_can_be_changed_on_loading(tmp_path):
    pool, text = used_pool()
    pool.save(tmp_path / "p", "tok")
    small = PhrasePool.load(tmp_path / "p", "tok", max_phrases=100, per_key=2, read_only=True)
    assert len(small) == 100
    assert all(len(bucket) <= 2 for bucket in small._table.values())
    small.feed(text, 0, "output")
    assert len(small) == 100
    with pytest.raises(PoolError, match="phrase_len: the file was made with 6, asked for 4"):
        PhrasePool.load(tmp_path / "p", "tok", phrase_len=4)


def test_the_header_says_what_the_file_is(tmp_path):
    used_pool()[0].save(tmp_path / "p", "tok")
    with safe_open(tmp_path / "p", "np") as file:
        header = json.loads(file.metadata()["fascicle"])
        assert {file.get_tensor(name).dtype.kind for name in file.keys()} == {"i", "f"}  # noqa: SIM118 - not a mapping
    assert (header["format"], header["version"], header["fingerprint"]) == ("fascicle-ouroboros/pool", 1, "tok")
    assert header["options"]["orders"] == [3, 2, 1]


def test_another_tokenizer_is_refused_with_both_fingerprints(tmp_path):
    used_pool()[0].save(tmp_path / "p", "tok A")
    with pytest.raises(PoolError, match=r"expected 'tok B', the file has 'tok A'. Load it with the tokenizer"):
        PhrasePool.load(tmp_path / "p", "tok B")
    with pytest.raises(PoolError, match="fingerprint: expected"):
        PhrasePool().save(tmp_path / "p", "")


def test_another_namespace_is_refused_unless_it_is_named(tmp_path):
    pool, _ = used_pool(namespace="ann")
    pool.save(tmp_path / "p", "tok")
    with pytest.raises(PoolError, match="namespace: expected '', the file has 'ann'"):
        PhrasePool.load(tmp_path / "p", "tok")
    with pytest.raises(PoolError, match="expected 'bob'"):
        PhrasePool.load(tmp_path / "p", "tok", namespace="bob")
    assert PhrasePool.load(tmp_path / "p", "tok", namespace="ann").namespace == "ann"


def rewrite(path, change=lambda header: None, arrays=lambda a: None):
    with safe_open(path, "np") as file:
        header = json.loads(file.metadata()["fascicle"])
    content = load_file(path)
    change(header)
    arrays(content)
    save_file(content, path, metadata={"fascicle": json.dumps(header)})


def test_another_version_is_refused(tmp_path):
    used_pool()[0].save(tmp_path / "p", "tok")
    rewrite(tmp_path / "p", lambda header: header.update(version=2))
    with pytest.raises(PoolError, match=r"version: expected 1, got 2. Use the release"):
        PhrasePool.load(tmp_path / "p", "tok")


def test_a_header_changed_by_hand_is_refused(tmp_path):
    used_pool()[0].save(tmp_path / "p", "tok A")
    rewrite(tmp_path / "p", lambda header: header.update(fingerprint="tok B"))
    with pytest.raises(PoolError, match="checksum"):
        PhrasePool.load(tmp_path / "p", "tok B")


def test_one_changed_token_is_refused(tmp_path):
    used_pool()[0].save(tmp_path / "p", "tok")

    def change(arrays):
        arrays["phrases"] = arrays["phrases"].copy()
        arrays["phrases"][5] += 1

    rewrite(tmp_path / "p", arrays=change)
    with pytest.raises(PoolError, match=r"expected checksum .*, got .*Restore the file"):
        PhrasePool.load(tmp_path / "p", "tok")


def test_damaged_files_are_refused_and_nothing_else_is_raised(tmp_path):
    used_pool()[0].save(tmp_path / "p", "tok")
    whole, rng = (tmp_path / "p").read_bytes(), random.Random(0)
    damaged = [whole[:n] for n in (0, 4, 8, 50, len(whole) // 2, len(whole) - 1)]
    damaged += [whole + b"x", b"\xff" * 200, b"PK\x03\x04" + whole]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    for data in damaged:
        (tmp_path / "p").write_bytes(data)
        try:
            loaded = PhrasePool.load(tmp_path / "p", "tok")
        except PoolError:
            continue
        # a bit that means nothing, such as a blank of the header's padding
        (tmp_path / "q").write_bytes(whole)
        assert loaded._snapshot() == PhrasePool.load(tmp_path / "q", "tok")._snapshot()


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(PoolError, match="no such file"):
        PhrasePool.load(tmp_path / "none", "tok")
    with pytest.raises(PoolError, match="cannot be read"):
        PhrasePool.load(tmp_path, "tok")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    pool, _ = used_pool()
    pool.save(tmp_path / "p", "tok")
    before = (tmp_path / "p").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PoolError, match=r"not saved: .*No space left.*untouched"):
        PhrasePool().save(tmp_path / "p", "tok")
    monkeypatch.undo()
    assert (tmp_path / "p").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


SAVER = """
import sys
from fascicle_ouroboros.pool import PhrasePool
pools = []
for size in (20_000, 30_000):
    pool = PhrasePool(phrase_len=8)
    pool.feed([(i * 7919 + i * i * size) % 5003 for i in range(size)], 0, "output")
    pools.append(pool)
print("ready", flush=True)
sys.stdin.readline()
while True:
    for pool in pools:
        pool.save(sys.argv[1], "tok")
        print("saved", len(pool), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_kill_during_saving_leaves_a_whole_file(tmp_path):
    path = tmp_path / "pool.safetensors"
    old, _ = used_pool(tokens=60)
    old.save(path, "tok")
    rng, left_behind = random.Random(2), 0
    for attempt in range(9):
        if attempt >= 4 and left_behind:
            break
        worker = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert worker.stdout.readline() == "ready\n"
            worker.stdin.write("go\n")
            worker.stdin.flush()
            if attempt == 0:  # while the first file is made and written
                time.sleep(0.1)
            elif attempt % 2:  # as soon as a temporary file is there
                known, until = set(tmp_path.glob(".*.tmp")), time.monotonic() + 20
                while not set(tmp_path.glob(".*.tmp")) - known and time.monotonic() < until:
                    pass
            else:
                worker.stdout.readline()
                time.sleep(rng.random() * 0.4)
        finally:
            worker.kill()
            worker.communicate()
        PhrasePool.load(path, "tok")  # checks every byte
        left_behind = len(list(tmp_path.glob(".*.tmp")))
    assert left_behind  # one kill at least came between the beginning of a write and its rename
