"""Lazy CSLS finds exactly what the full one finds, and works out few hubness terms for it."""

from __future__ import annotations

import numpy as np
import pytest

from fascicle_wcs.errors import WcsError
from fascicle_wcs.lazy import lower_hubness
from fascicle_wcs.retrieval import mean_knn, retrieve
from fascicle_wcs.search import unit_rows


def clustered(n, m, dim, seed=0):
    """Two vocabularies of words in clusters, in one space."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // 20), dim))
    X, Y = (centres[rng.integers(0, len(centres), size)] + 0.7 * rng.standard_normal((size, dim)) for size in (n, m))
    return X, Y


def assert_same(X, Y, queries=None, **options):
    full, lazy = (retrieve(X, Y, queries, mode=mode, **options) for mode in ("full", "lazy"))
    np.testing.assert_array_equal(full[0], lazy[0])
    np.testing.assert_array_equal(full[1], lazy[1])


def small_integers(rng, n, d):
    return rng.integers(-1, 2, (n, d)).astype(float)


def copies(rng, n, d):
    return rng.standard_normal((max(1, n // 4), d))[rng.integers(0, max(1, n // 4), n)]


def plain(rng, n, d):
    return rng.standard_normal((n, d))


@pytest.mark.parametrize("draw", [small_integers, copies, plain])
def test_lazy_is_full_whatever_the_vectors(draw):
    """Equal vectors, zero vectors, equal cosines of unequal vectors, any sizes, any tiling."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, Y = (draw(rng, n, d) for d in [int(rng.integers(1, 40))] for n in rng.integers(1, 120, 2))
        memory = int(rng.choice([1000, 10_000, 10**6]))
        queries = rng.integers(0, len(X), int(rng.integers(0, 20)))
        assert_same(X, Y, queries, k=int(rng.integers(1, 8)), knn=int(rng.integers(1, 15)), memory=memory, seed=seed)


@pytest.mark.parametrize("k", [1, 10])
def test_lazy_is_full_on_clusters(k):
    X, Y = clustered(3000, 4000, 40)
    assert_same(X, Y, np.arange(0, 3000, 7), k=k)
    assert_same(X, Y, k=k)


def test_a_target_that_is_near_to_all_sources_is_found_out():
    """A hub wins by cosine and loses by CSLS; a wrong bound of its hubness would let it win."""
    X, Y = clustered(2000, 2500, 30)
    X += 1
    Y[17] = 1
    by_cosine, by_csls = ((retrieve(X, Y, method=method)[0] == 17).mean() for method in ("nn", "csls"))
    assert by_cosine > 2 * by_csls > 0
    assert_same(X, Y, np.arange(0, 2000, 5))


@pytest.mark.parametrize("share", [0.001, 0.05, 1.0])
def test_the_bound_is_below_and_close(share):
    X, Y = (unit_rows(A, "") for A in clustered(3000, 2000, 30))
    gap = mean_knn(Y, X, 10) - lower_hubness(Y, X, 10, share=share)
    assert gap.min() > 0
    if share == 1:
        assert gap.max() < 1e-4
    elif share == 0.05:
        assert np.median(gap) < 0.02


def test_few_hubness_terms_are_worked_out():
    X, Y = clustered(8000, 8000, 40)
    stats = {}
    retrieve(X, Y, np.arange(200), mode="lazy", stats=stats)
    assert stats["targets"] == 8000
    assert 0 < stats["evaluated"] < 1000


def test_auto_is_lazy_for_few_queries_and_full_for_many():
    X, Y = clustered(6000, 6000, 8)
    few, many, small = {}, {}, {}
    retrieve(X, Y, np.arange(5), mode="auto", stats=few)
    retrieve(X, Y, np.arange(3000), mode="auto", stats=many)
    retrieve(X[:100], Y[:100], np.arange(2), mode="auto", stats=small)
    assert few["evaluated"] < 1000
    assert many["evaluated"] == 6000
    assert small["evaluated"] == 100


def test_a_list_too_short_to_decide_falls_back_to_all_targets():
    """300 targets are equal, more than a word lists: no list shows that nothing beside it is as good."""
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((900, 6))
    X = np.concatenate([Y[:1] + 0.01 * rng.standard_normal((5, 6)), rng.standard_normal((600, 6))])
    Y[200:500] = Y[0]
    stats = {}
    assert_same(X, Y, np.array([3, 4, 5]), k=3, stats=stats)
    assert stats["evaluated"] == 900


def test_the_seed_changes_no_result():
    X, Y = clustered(2000, 2000, 20)
    first, second = (retrieve(X, Y, np.arange(50), k=3, mode="lazy", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_lazy_is_for_csls_only():
    with pytest.raises(WcsError, match="method='csls' only"):
        retrieve(np.eye(2), np.eye(2), method="nn", mode="lazy")
