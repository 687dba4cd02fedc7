"""Fitting maps: Procrustes, VecMap's steps, RCSLS; widths that differ."""

from __future__ import annotations

import numpy as np
import pytest

from fascicle_wcs.errors import MapError
from fascicle_wcs.fits import Rcsls, fit, minimize_rcsls, principal_axes, rcsls_loss, vecmap
from fascicle_wcs.maps import procrustes
from fascicle_wcs.normalization import normalize


def rows(k: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(k, d))


def unit(X: np.ndarray) -> np.ndarray:
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def orthogonal(d: int, seed: int) -> np.ndarray:
    return np.asarray(np.linalg.qr(rows(d, d, seed))[0])


def spaces(n: int = 300, d: int = 12, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X, Y, all true pairs, Q: the target is a rotated source in another order."""
    rng = np.random.default_rng(5)
    X = rows(n, d) * np.linspace(2, 0.3, d) + 0.5
    order, Q = rng.permutation(n), orthogonal(d, 1)
    Y = (X @ Q)[order] + noise * rng.normal(size=(n, d))
    return X, Y, np.stack([order, np.arange(n)], axis=1), Q


def hits(X: np.ndarray, Y: np.ndarray, pairs: np.ndarray) -> float:
    """Share of pairs whose target is the nearest by cosine."""
    return float((np.argmax(unit(X)[pairs[:, 0]] @ unit(Y).T, axis=1) == pairs[:, 1]).mean())


@pytest.mark.parametrize("method", ["procrustes", "vecmap", "rcsls"])
def test_every_method_translates_words_that_were_not_in_the_pairs(method: str) -> None:
    X, Y, pairs, _ = spaces(noise=0.02)
    found = fit(X, Y, pairs[:100], method=method)  # type: ignore[arg-type]
    assert hits(found.apply(X), found.apply_target(Y), pairs[100:]) > 0.98
    assert found.meta["method"] == method
    assert found.meta["pairs"] == 100


def test_procrustes_is_solved_on_the_normalised_rows_of_the_pairs() -> None:
    X, Y, pairs, _ = spaces(noise=0.3)
    found = fit(X, Y, pairs[:80])
    (Xn, mean), (Yn, _) = normalize(X), normalize(Y)
    expected = procrustes(Xn[pairs[:80, 0]], Yn[pairs[:80, 1]])
    np.testing.assert_allclose(found.source_matrix, expected, atol=1e-12)
    np.testing.assert_allclose(found.source_means[0], mean[0])
    assert found.target_matrix is None


def test_a_mean_that_differs_between_the_languages_does_no_harm() -> None:
    X, Y, pairs, Q = spaces()
    found = fit(X - 7, Y + 3, pairs[:100], normalize=("center", "unit"))
    np.testing.assert_allclose(found.source_matrix, Q, atol=1e-9)


def test_completion_and_ridge_reach_the_solver() -> None:
    X, Y, pairs, _ = spaces()
    few, steps = pairs[:5], ("unit",)
    Xd, Yd = unit(X)[few[:, 0]], unit(Y)[few[:, 1]]
    plain = fit(X, Y, few, normalize=steps).source_matrix
    np.testing.assert_allclose(plain, procrustes(Xd, Yd), atol=1e-12)
    pulled = fit(X, Y, few, normalize=steps, ridge=0.5).source_matrix
    np.testing.assert_allclose(pulled, procrustes(Xd, Yd, ridge=0.5), atol=1e-12)
    # Outside of the pairs' span the decomposition returns anything; only the fit of the pairs can be compared.
    arbitrary = fit(X, Y, few, normalize=steps, completion="svd").source_matrix
    np.testing.assert_allclose(Xd @ arbitrary, Xd @ plain, atol=1e-9)
    assert np.abs(arbitrary - plain).max() > 0.1


# ---- VecMap --------------------------------------------------------------------------------------------------------------


def _root(M: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(M)
    return np.asarray((vectors * values**power) @ vectors.T)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_vecmap_is_its_formula(p: float) -> None:
    """Step by step as the paper describes it, through eigenvalues: whiten, turn, re-weight, de-whiten."""
    X, Y = rows(60, 8, 1) * np.linspace(1, 3, 8), rows(60, 8, 2) + rows(60, 8, 1)
    white_x, white_y = X @ _root(X.T @ X, -0.5), Y @ _root(Y.T @ Y, -0.5)
    np.testing.assert_allclose(white_x.T @ white_x, np.eye(8), atol=1e-10)
    U, s, Vt = np.linalg.svd(white_x.T @ white_y)
    weighted_x, weighted_y = white_x @ U * s**p, white_y @ Vt.T * s**p
    expected_x = weighted_x @ U.T @ _root(X.T @ X, 0.5) @ U
    expected_y = weighted_y @ Vt @ _root(Y.T @ Y, 0.5) @ Vt.T
    source, target = vecmap(X, Y, reweight=p)
    # Singular vectors are unique up to a common sign of both sides.
    sign = np.sign((X @ source * expected_x).sum(axis=0))
    np.testing.assert_allclose(X @ source * sign, expected_x, atol=1e-9)
    np.testing.assert_allclose(Y @ target * sign, expected_y, atol=1e-9)


def test_turning_a_language_before_vecmap_changes_no_cosine_after_it() -> None:
    X, Y, pairs, _ = spaces(noise=0.3)
    plain = fit(X, Y, pairs[:100], method="vecmap")
    turned = fit(X @ orthogonal(12, 8), Y @ orthogonal(12, 9), pairs[:100], method="vecmap")
    one = unit(plain.apply(X)) @ unit(plain.apply_target(Y)).T
    other = unit(turned.apply(X @ orthogonal(12, 8))) @ unit(turned.apply_target(Y @ orthogonal(12, 9))).T
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_without_noise_the_two_sides_of_vecmap_meet() -> None:
    X, Y, pairs, _ = spaces()
    found = fit(X, Y, pairs, method="vecmap")
    np.testing.assert_allclose(found.apply(X)[pairs[:, 0]], found.apply_target(Y)[pairs[:, 1]], atol=1e-9)


def test_whitening_needs_as_many_independent_pairs_as_dimensions() -> None:
    X, Y, pairs, _ = spaces()
    with pytest.raises(MapError, match="11 pairs span 11 of 12 dimensions of the source"):
        fit(X, Y, pairs[:11], method="vecmap")
    repeated = np.repeat(pairs[:5], 10, axis=0)
    with pytest.raises(MapError, match="50 pairs span 5 of 12"):
        fit(X, Y, repeated, method="vecmap")


# ---- RCSLS ---------------------------------------------------------------------------------------------------------------


def _rcsls_spaces(k: int = 30, d: int = 6) -> tuple[np.ndarray, ...]:
    X, Y = unit(rows(k, d, 1)), unit(rows(k, d, 2))
    return X, Y, unit(rows(70, d, 3)), unit(rows(90, d, 4)), orthogonal(d, 5) + 0.1 * rows(d, d, 6)


def test_the_rcsls_loss_is_its_formula() -> None:
    X, Y, X_all, Y_all, W = _rcsls_spaces()
    total = 0.0
    for x, y in zip(X, Y, strict=True):
        near_y = sorted((float(x @ W @ other) for other in Y_all), reverse=True)[:4]
        near_x = sorted((float(other @ W @ y) for other in X_all), reverse=True)[:4]
        total -= 2 * float(x @ W @ y) - np.mean(near_y) - np.mean(near_x)
    assert rcsls_loss(W, X, Y, X_all, Y_all, 4)[0] == pytest.approx(total / len(X), abs=1e-10)


def test_the_rcsls_gradient_is_that_of_finite_differences() -> None:
    X, Y, X_all, Y_all, W = _rcsls_spaces()
    gradient, step = rcsls_loss(W, X, Y, X_all, Y_all, 4)[1], 1e-6
    measured = np.empty_like(W)
    for i, j in np.ndindex(*W.shape):
        shift = np.zeros_like(W)
        shift[i, j] = step
        up, down = (rcsls_loss(V, X, Y, X_all, Y_all, 4)[0] for V in (W + shift, W - shift))
        measured[i, j] = (up - down) / (2 * step)
    np.testing.assert_allclose(gradient, measured, atol=1e-7)


def test_descent_never_raises_the_loss_even_from_a_step_that_is_far_too_long() -> None:
    X, Y, X_all, Y_all, W = _rcsls_spaces()
    before = rcsls_loss(W, X, Y, X_all, Y_all)[0]
    for rate in (1.0, 1e3):
        for orthogonal_too in (False, True):
            start = orthogonal(6, 5)
            before = rcsls_loss(start, X, Y, X_all, Y_all)[0]
            options = Rcsls(learning_rate=rate, iterations=30, orthogonal=orthogonal_too)
            found = minimize_rcsls(X, Y, X_all, Y_all, start, options)
            assert rcsls_loss(found, X, Y, X_all, Y_all)[0] < before
            if orthogonal_too:
                np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-12)


def test_rcsls_begins_at_procrustes_and_looks_for_neighbours_in_the_first_words_only() -> None:
    X, Y, pairs, _ = spaces(noise=0.5)
    start = fit(X, Y, pairs[:50])
    still = fit(X, Y, pairs[:50], method="rcsls", rcsls=Rcsls(iterations=0))
    np.testing.assert_array_equal(still.source_matrix, start.source_matrix)
    all_words, few = (fit(X, Y, pairs[:50], method="rcsls", rcsls=Rcsls(max_neg=n)) for n in (300, 20))
    assert np.abs(all_words.source_matrix - few.source_matrix).max() > 1e-3


@pytest.mark.parametrize("options", [{"knn": 0}, {"learning_rate": 0.0}, {"iterations": -1}, {"max_neg": 0}])
def test_rcsls_options_outside_their_range(options: dict[str, float]) -> None:
    with pytest.raises(MapError, match="expected knn"):
        Rcsls(**options)  # type: ignore[arg-type]


# ---- widths that differ --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["procrustes", "vecmap", "rcsls"])
@pytest.mark.parametrize("wide", ["source", "target"])
def test_the_wider_side_is_brought_to_its_principal_axes(wide: str, method: str) -> None:
    narrow, wider, pairs, _ = spaces(d=12)
    # Directions with next to no variance around the twelve that count.
    wider = np.hstack([wider, 1e-3 * rows(300, 8, 3)]) @ orthogonal(20, 4)
    X, Y = (narrow, wider) if wide == "target" else (wider, narrow)
    pairs = pairs if wide == "target" else pairs[:, ::-1]
    found = fit(X, Y, pairs[:150], method=method, reduce="pca")  # type: ignore[arg-type]
    assert found.dim == 12
    assert (found.source_dim, found.target_dim) == (X.shape[1], Y.shape[1])
    assert found.meta["reduced"] == {"side": wide, "from": 20}
    assert hits(found.apply(X), found.apply_target(Y), pairs[150:]) > 0.98
    if method == "procrustes":
        assert found.orthogonality_error() < 1e-10


def test_widths_that_differ_are_refused_unless_reduced() -> None:
    X, Y, pairs, _ = spaces()
    with pytest.raises(MapError, match=r"12 and 7 dimensions; reduce='pca' brings them to 7"):
        fit(X, Y[:, :7], pairs)
    assert "reduced" not in fit(X, Y, pairs, reduce="pca").meta


def test_principal_axes_are_those_of_the_singular_vectors() -> None:
    X = rows(50, 6) * np.linspace(3, 1, 6)
    axes = principal_axes(X, 3)
    np.testing.assert_allclose(np.abs(axes.T @ np.linalg.svd(X)[2][:3].T), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(principal_axes(X[::-1], 3), axes, atol=1e-12)


# ---- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (np.zeros((0, 2), dtype=int), "at least 1"),
        (np.array([0, 1]), "row numbers"),
        (np.array([[0.0, 1.0]]), "row numbers"),
        (np.array([[300, 1]]), "source rows reach from 300"),
        (np.array([[0, -1]]), "target rows reach from -1"),
    ],
)
def test_pairs_must_be_rows_of_both_sides(pairs: np.ndarray, message: str) -> None:
    X, Y, _, _ = spaces()
    with pytest.raises(MapError, match=message):
        fit(X, Y, pairs)


def test_a_vector_that_is_not_finite_is_named_by_its_row() -> None:
    X, Y, pairs, _ = spaces()
    Y[17, 3] = np.nan
    with pytest.raises(MapError, match="target vectors: row 17"):
        fit(X, Y, pairs)


def test_unknown_names_tell_the_known_ones() -> None:
    X, Y, pairs, _ = spaces()
    with pytest.raises(MapError, match="'procrustes', 'vecmap' or 'rcsls'"):
        fit(X, Y, pairs, method="muse")  # type: ignore[arg-type]
    with pytest.raises(MapError, match="'pca' or None"):
        fit(X, Y, pairs, reduce="svd")  # type: ignore[arg-type]
