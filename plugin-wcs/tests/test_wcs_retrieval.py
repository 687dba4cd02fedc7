"""Retrieval and dictionary induction against the formulas written out in double precision."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from fascicle_wcs.errors import VectorError, WcsError
from fascicle_wcs.hubness import log_partition, mean_knn_both
from fascicle_wcs.retrieval import induce, mean_knn, retrieve
from fascicle_wcs.search import search, top_k, unit_rows

BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    )
    for name in ("numpy", "torch", "faiss")
]
BETA = 30.0


def unit(A):
    lengths = np.linalg.norm(A, axis=1, keepdims=True)
    return A / np.where(lengths > 0, lengths, 1)


def mean_largest(C, k):
    return np.sort(C, axis=1)[:, ::-1][:, :k].mean(axis=1)


def direct(X, Y, method, knn=10):
    """(n, m) scores in float64, by the formula."""
    C = unit(X) @ unit(Y).T
    if method == "csls":
        return 2 * C - mean_largest(C, knn)[:, None] - mean_largest(C.T, knn)
    if method == "invsoftmax":
        return BETA * C - np.log(np.exp(BETA * C).sum(axis=0))
    return C


def ranked(scores, k):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.fixture(scope="module")
def spaces():
    rng = np.random.default_rng(0)
    return rng.standard_normal((500, 50)), rng.standard_normal((700, 50)) + 0.3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["nn", "csls", "invsoftmax"])
def test_every_backend_gives_the_formulas_ranking_and_scores(spaces, method, backend):
    X, Y = spaces
    index, scores = retrieve(X, Y, k=5, method=method, beta=BETA, backend=backend)
    expected = direct(X, Y, method)
    assert index.dtype == np.int64
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(index, ranked(expected, 5))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, index, axis=1), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_knn_is_the_mean_cosine_of_the_nearest(spaces, backend):
    X, Y = spaces
    np.testing.assert_allclose(mean_knn(X, Y, 7, backend=backend), mean_largest(unit(X) @ unit(Y).T, 7), atol=1e-6)


@pytest.mark.parametrize("memory", [1, 10**4, 10**5, 2**28])
def test_both_hubness_terms_come_from_one_product_of_any_tiling(spaces, memory):
    X, Y = (unit_rows(A, "") for A in spaces)
    r_t, r_s = mean_knn_both(X, Y, 10, memory=memory)
    np.testing.assert_array_equal(r_t, mean_knn(X, Y, 10))
    np.testing.assert_array_equal(r_s, mean_knn(Y, X, 10))


def test_hubness_counts_all_sources_not_only_the_queries(spaces):
    X, Y = spaces
    few = np.array([3, 400, 3])
    index, scores = retrieve(X, Y, few, k=4)
    every, all_scores = retrieve(X, Y, k=4)
    np.testing.assert_array_equal(index, every[few])
    np.testing.assert_array_equal(scores, all_scores[few])


@pytest.mark.parametrize("method", ["nn", "csls", "invsoftmax"])
def test_the_result_does_not_depend_on_memory(spaces, method):
    X, Y = spaces
    small, large = (retrieve(X, Y, k=3, method=method, memory=m) for m in (2000, 2**28))
    np.testing.assert_array_equal(small[0], large[0])
    np.testing.assert_allclose(small[1], large[1], atol=1e-5)


def test_wide_tiles_find_what_a_sort_finds():
    scores = np.random.default_rng(0).integers(0, 1000, (7, 70001)).astype(np.float32)
    for k, width in [(1, 70001), (3, 70001), (10, 70001), (10, 20001), (10, 5000), (4, 4)]:
        part = scores[:, :width]
        found = np.sort(np.take_along_axis(part, top_k(part, k), axis=1), axis=1)
        np.testing.assert_array_equal(found, np.sort(part, axis=1)[:, width - k :])
        assert all(len(set(row)) == k for row in top_k(part, k).tolist())


def test_more_targets_than_one_tile_is_wide_are_merged():
    rng = np.random.default_rng(0)
    X, Y = (unit_rows(rng.standard_normal((n, 3)), "") for n in (20, 70_000))
    index, _ = search(X, Y, 6)
    np.testing.assert_array_equal(index, ranked(X.astype(float) @ Y.T.astype(float), 6))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["nn", "csls"])
def test_equal_targets_are_ranked_by_index(backend, method):
    rng = np.random.default_rng(1)
    Y = rng.standard_normal((30, 64))[rng.integers(0, 30, 900)]  # each about 30 times, more than the spare candidates
    X = Y[:40] + 0.1 * rng.standard_normal((40, 64))
    index, scores = retrieve(X, Y, k=12, method=method, backend=backend)
    for row, score in zip(index, scores, strict=True):
        first = np.flatnonzero((Y[row[0]] == Y).all(axis=1))
        np.testing.assert_array_equal(row, first[:12])
        assert len(set(score.tolist())) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_zero_row_has_the_scores_of_the_zero_vector(spaces, backend):
    X, Y = (A.copy() for A in spaces)
    X[7], Y[:3] = 0, 0
    index, scores = retrieve(X, Y, k=5, backend=backend)
    expected = direct(X, Y, "csls")
    np.testing.assert_array_equal(index, ranked(expected, 5))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, index, axis=1), atol=1e-5)
    assert retrieve(X, Y, np.array([7]), k=3, method="nn", backend=backend)[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_many_neighbours_are_as_many_as_there_are(backend):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, 5)), rng.standard_normal((6, 5))
    index, scores = retrieve(X, Y, k=99, knn=99, backend=backend)
    expected = direct(X, Y, "csls", 99)
    np.testing.assert_array_equal(index, ranked(expected, 6))
    np.testing.assert_allclose(scores, np.take_along_axis(expected, index, axis=1), atol=1e-5)


@pytest.mark.parametrize("method", ["nn", "csls", "invsoftmax"])
@pytest.mark.parametrize("mode", ["full", "auto"])
def test_no_queries_give_no_rows(spaces, method, mode):
    index, scores = retrieve(*spaces, np.array([], dtype=np.int64), k=3, method=method, mode=mode)
    assert index.shape == scores.shape == (0, 3)
    assert retrieve(np.empty((0, 50)), spaces[1], method=method)[0].shape == (0, 1)


def test_large_and_small_numbers_have_directions():
    X = np.array([[3e300, 4e300], [3e-300, 4e-300]])
    np.testing.assert_allclose(unit_rows(X, "X"), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_nothing_is_written_into_the_vectors(spaces):
    X, Y = (unit_rows(A, "") for A in spaces)
    copies = X.copy(), Y.copy()
    retrieve(X, Y, normalized=True)
    induce(X, Y, normalized=True, keep=0.5)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(Y, copies[1])


def test_vectors_that_do_not_fit_are_refused(spaces):
    X, Y = spaces
    broken = X.copy()
    broken[13, 4] = np.nan
    with pytest.raises(VectorError, match="vectors of 50 and 49 numbers"):
        retrieve(X, Y[:, :49])
    for normalized in (False, True):
        with pytest.raises(VectorError, match="X: row 13 has a number that is not finite"):
            retrieve(broken, Y, normalized=normalized)
    with pytest.raises(VectorError, match=r"X: expected a real matrix \(n, d\)"):
        retrieve(X[0], Y)
    with pytest.raises(VectorError, match="Y: no rows"):
        retrieve(X, Y[:0])
    for queries in ([500], [-1], [[0]], [0.5]):
        with pytest.raises(VectorError, match="queries: "):
            retrieve(X, Y, np.array(queries))


@pytest.mark.parametrize(
    "argument",
    [{"k": 0}, {"knn": 0}, {"beta": 0}, {"memory": 0}, {"method": "knn"}, {"mode": "eager"}, {"backend": "annoy"}],
)
def test_arguments_outside_their_range_are_named(spaces, argument):
    with pytest.raises(WcsError, match=next(iter(argument))):
        retrieve(*spaces, **argument)


def test_a_backend_that_is_missing_says_what_to_install_and_auto_does_without(spaces, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WcsError, match="pip install faiss-cpu"):
        retrieve(*spaces, backend="faiss")
    assert retrieve(*spaces, backend="auto")[0].shape == (500, 1)


def test_log_partition_does_not_overflow():
    I = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(log_partition(I, I, 1000.0, memory=1), [1000.0] * 3)


# ---- induction -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["nn", "csls", "invsoftmax"])
@pytest.mark.parametrize("memory", [20_000, 2**28])
def test_induction_is_the_best_of_rows_and_columns(spaces, method, memory):
    X, Y = spaces
    forward = direct(X, Y, method).argmax(axis=1)
    backward = direct(Y, X, method).argmax(axis=1)
    there = {(i, int(j)) for i, j in enumerate(forward)}
    back = {(int(i), j) for j, i in enumerate(backward)}
    stats = {}
    for mutual, expected in [
        ("forward", there),
        (False, there),
        ("backward", back),
        ("mutual", there & back),
        (True, there & back),
        ("union", there | back),
    ]:
        pairs = induce(X, Y, method=method, beta=BETA, mutual=mutual, memory=memory, stats=stats)
        assert pairs.dtype == np.int64
        assert [tuple(p) for p in pairs.tolist()] == sorted(expected)
    assert stats["forward"] == pytest.approx(direct(X, Y, method).max(axis=1).mean(), abs=1e-4)
    assert stats["backward"] == pytest.approx(direct(Y, X, method).max(axis=1).mean(), abs=1e-4)


def test_a_cutoff_leaves_the_rarer_words_out_of_pairs_and_of_hubness(spaces):
    X, Y = spaces
    np.testing.assert_array_equal(induce(X, Y, cutoff=200), induce(X[:200], Y[:200]))
    np.testing.assert_array_equal(induce(X, Y, cutoff=10**6), induce(X, Y))


def test_dropout_keeps_each_similarity_with_the_given_probability():
    Y = np.random.default_rng(0).standard_normal((2000, 20))
    kept = [len(induce(Y, Y, method="nn", keep=keep, seed=s)) / 2000 for keep in (0.3, 0.7) for s in (0, 1)]
    # A word is its own only best translation, and both directions see the same draws: mutual pairs (i, i) are what survives.
    same = induce(Y, Y, method="nn", keep=0.3)
    assert 0.25 < (same[:, 0] == same[:, 1]).sum() / 2000 < 0.35
    assert kept[0] != kept[1]
    forward = induce(Y, Y, method="nn", keep=0.7, mutual="forward")
    assert 0.66 < (forward[:, 0] == forward[:, 1]).mean() < 0.74


def test_dropout_is_decided_by_the_seed_not_by_memory(spaces):
    first, second = (induce(*spaces, keep=0.2, seed=5, memory=m) for m in (30_000, 2**28))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, induce(*spaces, keep=0.2, seed=6, memory=2**28))


def test_a_word_with_every_similarity_dropped_has_no_pair():
    I = np.eye(2)
    sizes = {len(induce(I, I, keep=0.3, mutual="forward", seed=seed)) for seed in range(30)}
    assert sizes == {0, 1, 2}


def test_the_objective_ignores_dropout(spaces):
    plain, dropped = {}, {}
    induce(*spaces, stats=plain)
    induce(*spaces, stats=dropped, keep=0.1)
    assert plain == pytest.approx(dropped)


@pytest.mark.parametrize(
    "argument", [{"keep": 0}, {"keep": 1.5}, {"cutoff": 0}, {"mutual": "both"}, {"method": "gan"}, {"knn": 0}]
)
def test_arguments_of_induction_outside_their_range_are_named(spaces, argument):
    with pytest.raises(WcsError, match=next(iter(argument))):
        induce(*spaces, **argument)


def test_no_words_give_no_pairs():
    assert induce(np.empty((0, 3)), np.eye(3)).shape == (0, 2)
