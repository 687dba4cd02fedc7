"""Measures of isomorphism: exact, blind to rotations, and never believed without their controls."""

from __future__ import annotations

import itertools
import math
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fascicle_wcs import bottleneck
from fascicle_wcs.bottleneck import bottleneck_h0, cosine_deaths, row_deaths
from fascicle_wcs.controls import gaussian_control, interval, null, shuffled
from fascicle_wcs.errors import VectorError, WcsError
from fascicle_wcs.isomorphism import (
    CHANCE_RESIDUAL,
    evs,
    gh_h0,
    gh_legacy,
    isomorphism_report,
    residual,
    rsim,
    rsim_null,
    rsim_u,
)
from fascicle_wcs.normalization import normalize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def rotation(d: int, seed: int = 1) -> np.ndarray:
    """Neither symmetric nor, for this seed, free of a reflection: what a transposed map would not survive."""
    return np.linalg.qr(gaussian(d, d, seed))[0]


def topics(n: int, d: int, seed: int, topics: int = 12, spread: float = 0.25) -> np.ndarray:
    """Words around a few topics: neighbourhoods as words have them, in the same places for no two seeds."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(topics, d))[rng.integers(topics, size=n)] + spread * rng.normal(size=(n, d))


# ---- the bottleneck distance ---------------------------------------------------------------------------------------------


def brute_bottleneck(a: np.ndarray, b: np.ndarray) -> float:
    """The cheapest of all partial matchings."""
    best = math.inf
    for k in range(min(len(a), len(b)) + 1):
        for chosen in itertools.combinations(range(len(a)), k):
            for partners in itertools.permutations(range(len(b)), k):
                costs = [abs(a[i] - b[j]) for i, j in zip(chosen, partners, strict=True)]
                costs += [a[i] / 2 for i in set(range(len(a))) - set(chosen)]
                costs += [b[j] / 2 for j in set(range(len(b))) - set(partners)]
                best = min(best, max(costs, default=0.0))
    return best


def test_the_closed_form_is_the_cheapest_of_all_matchings() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        a, b = rng.exponential(size=rng.integers(0, 5)), rng.exponential(size=rng.integers(0, 5))
        assert bottleneck_h0(a, b) == pytest.approx(brute_bottleneck(a, b), abs=1e-12)


def test_deaths_are_the_edges_of_the_minimum_spanning_tree() -> None:
    from scipy.sparse.csgraph import minimum_spanning_tree

    X = normalize(gaussian(60, 5))[0]
    D = np.sqrt(np.maximum(2 - 2 * X @ X.T, 0))
    np.fill_diagonal(D, 0)
    assert np.allclose(cosine_deaths(X), np.sort(minimum_spanning_tree(D).data)[::-1])
    rows = np.linalg.norm(D[:, None] - D[None], axis=2)
    assert np.allclose(row_deaths(X), np.sort(minimum_spanning_tree(rows).data)[::-1])


def test_a_large_vocabulary_is_measured_row_by_row_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = gaussian(50, 4), gaussian(40, 6, 2)
    dense = gh_h0(X, Y)
    monkeypatch.setattr(bottleneck, "MEMORY", 0)
    assert gh_h0(X, Y) == pytest.approx(dense, abs=1e-12)


def test_gh_is_what_gudhi_computes_from_a_distance_matrix() -> None:
    gudhi = pytest.importorskip("gudhi")
    X, Y = normalize(topics(90, 6, 0))[0], normalize(topics(80, 5, 1))[0]
    D = []
    for rows in (X, Y):
        D.append(np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0)))
        np.fill_diagonal(D[-1], 0)

    def distance(kind: str) -> float:
        diagrams = []
        for matrix in D:
            tree = gudhi.RipsComplex(**{kind: matrix}).create_simplex_tree(max_dimension=1)
            tree.persistence()
            diagrams.append(tree.persistence_intervals_in_dimension(0))
        return float(gudhi.bottleneck_distance(*diagrams, e=0))

    assert gh_h0(X, Y, steps=()) == pytest.approx(distance("distance_matrix"), abs=1e-9)
    assert gh_legacy(X, Y, steps=()) == pytest.approx(distance("points"), abs=1e-9)
    assert gh_legacy(X, Y) != pytest.approx(gh_h0(X, Y), abs=1e-2)


# ---- invariances ---------------------------------------------------------------------------------------------------------


def test_a_rotated_space_is_isomorphic_under_every_measure() -> None:
    X = topics(120, 8, 0)
    Y = X @ rotation(8)
    assert gh_h0(X, Y) < 1e-6
    assert gh_legacy(X, Y) < 1e-6
    assert evs(X, Y) < 1e-9
    assert rsim(X, Y) == pytest.approx(1, abs=1e-12)
    assert rsim_u(X, Y) == pytest.approx(1, abs=1e-6)
    assert residual(X, Y) < 1e-6


def test_what_ignores_the_pairing_does_not_see_it_broken_and_what_uses_it_does() -> None:
    X = gaussian(400, 20)
    Y = shuffled(X @ rotation(20), seed=3)
    assert gh_h0(X, Y) < 1e-6
    assert evs(X, Y) < 1e-9
    assert rsim_u(X, Y) > 1 - 1e-6
    assert abs(rsim(X, Y)) < 0.02
    assert residual(X, Y) > 1.3


def test_independent_directions_leave_a_residual_of_chance() -> None:
    assert residual(gaussian(600, 30), gaussian(600, 30, 9)) == pytest.approx(CHANCE_RESIDUAL, rel=0.05)


def test_the_residual_is_of_unseen_pairs() -> None:
    """On the pairs that it was fitted on, a map of 30 dimensions explains much of 40 independent ones."""
    X, Y = normalize(gaussian(40, 30))[0], normalize(gaussian(40, 30, 9))[0]
    U, _, Vt = np.linalg.svd(X.T @ Y)
    seen = np.linalg.norm(X @ U @ Vt - Y) / np.linalg.norm(Y)
    assert seen < 1
    assert residual(X, Y, steps=()) > 1.25


def test_the_residual_of_noise_is_its_size() -> None:
    X = normalize(gaussian(800, 10))[0]
    Y = X @ rotation(10) + gaussian(800, 10, 5) * 0.05
    expected = math.sqrt(2 - 2 / math.sqrt(1 + 10 * 0.05**2))
    assert residual(X, Y, steps=("unit",)) == pytest.approx(expected, rel=0.05)


def test_spaces_of_different_width_are_compared_on_zeros_added() -> None:
    X = gaussian(100, 6)
    Y = np.pad(X, ((0, 0), (0, 3))) @ rotation(9)
    assert residual(X, Y) < 1e-6
    assert residual(Y, X) < 1e-6
    assert rsim(X, Y) == pytest.approx(1)


# ---- each measure against its definition ---------------------------------------------------------------------------------


def test_rsim_is_the_correlation_of_all_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fascicle_wcs.isomorphism._BLOCK", 7)
    X, Y = gaussian(40, 5), gaussian(40, 8, 2)
    Y[:, :5] += X
    above = np.triu_indices(40, 1)
    cosines = [(rows @ rows.T)[above] for rows in (normalize(X)[0], normalize(Y)[0])]
    assert rsim(X, Y) == pytest.approx(np.corrcoef(*cosines)[0, 1], abs=1e-12)
    assert rsim_u(X, Y) == pytest.approx(np.corrcoef(*map(np.sort, cosines))[0, 1], abs=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("largest", [True, False])
def test_evs_compares_whole_laplacian_spectra(neighbours: int, largest: bool) -> None:
    sides = [topics(70, 5, 0), topics(60, 5, 1)]
    spectra = []
    for X in (normalize(side)[0] for side in sides):
        cosines = X @ X.T
        np.fill_diagonal(cosines, -2)
        A = np.zeros_like(cosines)
        for i, nearest in enumerate(np.argsort(-cosines, axis=1)[:, :neighbours]):
            A[i, nearest] = A[nearest, i] = 1
        spectrum = np.linalg.eigvalsh(np.diag(A.sum(axis=1)) - A)
        spectra.append(spectrum[::-1] if largest else spectrum)
    k = min(next(i + 1 for i in range(len(s)) if s[: i + 1].sum() >= 0.9 * s.sum()) for s in spectra)
    expected = ((spectra[0][:k] - spectra[1][:k]) ** 2).sum()
    assert expected > 0.01
    assert evs(*sides, neighbours=neighbours, largest=largest) == pytest.approx(expected, abs=1e-9)


def test_evs_looks_at_the_first_words_only() -> None:
    X = gaussian(50, 4)
    assert evs(X, np.concatenate([X[:30], gaussian(20, 4, 3)]), words=30) < 1e-9


# ---- controls ------------------------------------------------------------------------------------------------------------


def test_the_fast_null_of_rsim_is_the_plain_one() -> None:
    X, Y = gaussian(50, 4), gaussian(50, 4, 2)
    fast, plain = rsim_null(X, Y, permutations=8, seed=3), null(rsim, X, Y, permutations=8, seed=3)
    assert fast.value == plain.value
    assert np.allclose(fast.values, plain.values, atol=1e-6)


def test_a_measure_that_ignores_the_pairing_has_no_evidence_in_its_null() -> None:
    X = topics(40, 4, 0)
    assert null(gh_h0, X, X, permutations=9).p_value("low") == 1.0
    assert null(residual, X, X, permutations=9).p_value("low") == 0.1


def test_p_values_of_unrelated_spaces_are_spread_evenly() -> None:
    p = [rsim_null(gaussian(30, 3, 2 * s), gaussian(30, 3, 2 * s + 1), permutations=19).p_value() for s in range(200)]
    assert np.mean(p) == pytest.approx(0.525, abs=0.06)
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_the_gaussian_control_keeps_lengths_or_mean_and_covariance() -> None:
    X = topics(3000, 4, 0) * [1, 2, 3, 4] + 5
    plain, alike = gaussian_control(X, 1), gaussian_control(X, 1, covariance=True)
    assert np.allclose(np.linalg.norm(plain, axis=1), np.linalg.norm(X, axis=1))
    assert np.allclose(alike.mean(axis=0), X.mean(axis=0), atol=0.3)
    assert np.allclose(np.cov(alike.T), np.cov(X.T), atol=0.1 * np.cov(X.T).max())
    assert np.array_equal(alike, gaussian_control(X, 1, covariance=True))
    assert not np.array_equal(alike, gaussian_control(X, 2, covariance=True))


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_the_interval_of_a_mean_is_the_classical_one_whatever_the_fraction(fraction: float) -> None:
    X = gaussian(400, 1)
    found = interval(lambda X, Y: float(X.mean()), X, X, resamples=2000, fraction=fraction)
    assert found.value == pytest.approx(X.mean())
    assert found.high - found.value == pytest.approx(1.96 * X.std() / math.sqrt(400), rel=0.06)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_the_interval_holds_the_true_value_about_as_often_as_it_says() -> None:
    def pair(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        X = gaussian(n, 3, seed)
        return X, X + 0.7 * gaussian(n, 3, seed + 10_000)

    measure = partial(rsim, steps=("unit",))
    truth = measure(*pair(3000, 1))
    held = []
    for seed in range(2, 122):
        found = interval(measure, *pair(80, seed), resamples=20, seed=seed)
        held.append(found.low <= truth <= found.high)
    assert 0.87 <= np.mean(held) <= 1


def test_no_word_is_drawn_twice_into_a_subsample() -> None:
    seen = []

    def measure(X: np.ndarray, Y: np.ndarray) -> float:
        assert np.array_equal(X, Y)
        seen.append(X[:, 0])
        return float(X.sum())

    X = np.arange(20.0)[:, None]
    interval(measure, X, X, resamples=5, fraction=0.6)
    assert [len(set(rows)) for rows in seen[:-1]] == [12] * 5


# ---- the report ----------------------------------------------------------------------------------------------------------


def test_a_planted_map_is_found_alignable() -> None:
    X = topics(200, 10, 0)
    report = isomorphism_report(X, X @ rotation(10) + gaussian(200, 10, 4) * 0.02, permutations=20, resamples=5)
    assert report.verdict == "alignable"
    values = report.values()
    assert values["rsim"] > 0.95 > values["rsim_null"] + 0.8
    assert values["residual"] < 0.3
    assert values["residual_shuffled"] > 1.2
    assert values["p_at_1"] > 0.8
    assert values["p_at_1_shuffled"] < 0.1
    assert values["p_at_1_identity"] < 0.1
    for reading in report.readings.values():
        assert reading.low <= reading.value <= reading.high


def test_a_low_gh_alone_is_not_called_alignable() -> None:
    """Two languages of one shape whose words do not correspond: GH is far below the Gaussian's, and nothing can be aligned."""
    X = topics(300, 10, 0)
    Y = shuffled(X, 5) @ rotation(10)
    report = isomorphism_report(X, Y, permutations=20, resamples=5)
    values = report.values()
    assert values["gh"] < 1e-6 < values["gh_gaussian"]
    assert values["gh_covariance"] > 1e-2
    assert not report.alignable
    for told in ("RSIM", "near chance, 1.414", "shuffled dictionary", "low GH"):
        assert told in report.verdict


def test_a_map_that_loses_to_no_map_is_not_called_alignable() -> None:
    """Spaces that share a few directions, where a map fitted on few pairs spoils what the identity has."""
    X = gaussian(60, 120)
    X[:, :4] *= 3
    Y = gaussian(60, 120, 8)
    Y[:, :4] = X[:, :4]
    values = (report := isomorphism_report(X, Y, permutations=20, resamples=0)).values()
    assert values["p_at_1"] <= values["p_at_1_identity"]
    assert not report.alignable
    assert "without a map" in report.verdict


def test_spaces_that_lie_on_each_other_need_no_map_to_be_alignable() -> None:
    X = topics(150, 8, 0)
    report = isomorphism_report(X, X + gaussian(150, 8, 4) * 0.01, permutations=20, resamples=0)
    assert report.values()["residual_identity"] < 0.2
    assert report.alignable
    assert "one space already" in report.verdict


def test_the_report_has_no_identity_between_widths_and_legacy_only_on_demand() -> None:
    X = topics(60, 5, 0)
    values = isomorphism_report(X, topics(60, 6, 1), permutations=10, resamples=0, legacy=True).values()
    assert "p_at_1_identity" not in values
    assert "gh_legacy" in values
    assert "gh_legacy" not in isomorphism_report(X, X, permutations=10, resamples=0).values()
    assert all(math.isfinite(value) for value in values.values())


def test_a_collapsed_space_is_not_alignable_and_breaks_nothing() -> None:
    """A layer may give every word the same state."""
    report = isomorphism_report(np.ones((30, 4)), gaussian(30, 4), permutations=10, resamples=3)
    assert all(math.isfinite(value) for value in report.values().values())
    assert not report.alignable


def test_a_report_repeats() -> None:
    X, Y = topics(60, 5, 0), topics(60, 5, 1)
    first, again = (isomorphism_report(X, Y, permutations=10, resamples=3, seed=4) for _ in range(2))
    assert first == again


# ---- errors --------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_measured_is_refused() -> None:
    X = gaussian(12, 3)
    holed = X.copy()
    holed[4, 1] = np.nan
    for measure in (gh_h0, gh_legacy, evs, rsim, rsim_u, residual):
        with pytest.raises(VectorError, match="row 4 has a number that is not finite"):
            measure(X, holed)
    for measure in (rsim, rsim_u, residual, isomorphism_report):
        with pytest.raises(VectorError, match=r"\(12, 3\) and \(11, 3\)"):
            measure(X, X[:11])
    with pytest.raises(WcsError, match="folds: got 13 for 12 pairs"):
        residual(X, X, folds=13)
    with pytest.raises(WcsError, match="permutations: got 0"):
        rsim_null(X, X, permutations=0)
    with pytest.raises(WcsError, match="1 resamples"):
        interval(rsim, X, X, resamples=1)
    with pytest.raises(WcsError, match="energy: got 0"):
        evs(X, X, energy=0)
    with pytest.raises(VectorError, match="12 rows for 12 neighbours"):
        evs(X, X, neighbours=12)


# ---- real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.realdata
def test_german_and_english_of_one_codebook_are_near_by_gh_and_yet_no_map_aligns_them(
    real_data: Callable[[str], Path],
) -> None:
    """WordLlama, words spelt alike left out: GH is lower than any value of the paper's table, and means nothing."""
    if find_spec("wordllama") is None:
        pytest.skip("the wheel wordllama is not installed")
    from fascicle_wcs.dictionary import read_dictionary
    from fascicle_wcs.wordllama import wordllama_vectors

    pairs = read_dictionary(real_data("muse/de-en.train.0-5000.tsv")).one_to_one().without_identical()
    source, target = wordllama_vectors(pairs.sources()), wordllama_vectors(pairs.inverse().sources())
    rows = pairs.rows(source, target)[:1000]
    X, Y = source.matrix[rows[:, 0]], target.matrix[rows[:, 1]]
    report = isomorphism_report(X, Y, permutations=20, resamples=0)
    values = report.values()
    assert values["gh"] == pytest.approx(0.101, abs=0.005)
    assert values["gh_gaussian"] == pytest.approx(0.62, abs=0.02)
    assert values["rsim"] == pytest.approx(0.059, abs=0.005)
    assert values["residual"] == pytest.approx(1.35, abs=0.02)
    assert not report.alignable
