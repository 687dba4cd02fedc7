"""Solving for a map, applying it, saving it, joining maps, and going part of the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import expm, orthogonal_procrustes

from fascicle_wcs.errors import MapError
from fascicle_wcs.maps import Map, identity_map, procrustes
from fascicle_wcs.normalization import normalize


def orthogonal(d: int, seed: int, sign: int = 1) -> np.ndarray:
    """A random, non-symmetric orthogonal matrix with this determinant."""
    Q, R = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    Q = Q * np.sign(np.diag(R))
    if np.sign(np.linalg.det(Q)) != sign:
        Q[:, 0] *= -1
    return Q


def near_identity(d: int, size: float, seed: int) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(d, d)) * size / np.sqrt(d)
    return np.asarray(expm(A - A.T))


def rows(k: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(k, d))


def distance(A: np.ndarray, B: np.ndarray) -> float:
    return float(np.linalg.norm(A - B) / np.sqrt(len(A)))


# ---- Procrustes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_map_is_recovered_reflections_included(sign: int) -> None:
    Q, X = orthogonal(30, 1, sign), rows(200, 30)
    W = procrustes(X, X @ Q)
    assert distance(W, Q) < 1e-10
    assert np.abs(W.T @ W - np.eye(30)).max() < 1e-12
    assert np.sign(np.linalg.det(W)) == sign


def test_it_is_the_minimiser_that_scipy_finds() -> None:
    X, Y = rows(100, 20, 1), rows(100, 20, 2)
    np.testing.assert_allclose(procrustes(X, Y), orthogonal_procrustes(X, Y)[0], atol=1e-12)


def test_the_map_back_is_the_transpose() -> None:
    X, Y = rows(100, 20, 1), rows(100, 20, 2)
    np.testing.assert_allclose(procrustes(Y, X), procrustes(X, Y).T, atol=1e-12)


def test_the_error_under_noise_is_the_predicted_one() -> None:
    k, d, sigma = 5000, 300, 0.1
    Q, X = orthogonal(d, 3), rows(k, d)
    W = procrustes(X, X @ Q + sigma * rows(k, d, 9))
    assert distance(W, Q) == pytest.approx(sigma * np.sqrt((d - 1) / (2 * k)), rel=0.05)


def test_half_precision_rows_are_solved_in_double() -> None:
    Q, X = orthogonal(16, 1), rows(100, 16).astype(np.float16)
    W = procrustes(X, X.astype(float) @ Q)
    assert W.dtype == np.float64
    assert distance(W, Q) < 1e-10


# ---- fewer pairs than dimensions -----------------------------------------------------------------------------------------


def _few(d: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    Q, X, unseen = near_identity(d, 0.08, 1), rows(k, d), rows(500, d, 5)
    return X, X @ Q, unseen, unseen @ Q


@pytest.mark.parametrize(("d", "k"), [(300, 100), (120, 100)])
def test_the_identity_completion_leaves_unseen_directions_alone(d: int, k: int) -> None:
    X, Y, unseen, expected = _few(d, k)
    W = procrustes(X, Y)
    assert np.abs(W.T @ W - np.eye(d)).max() < 1e-12
    assert distance(X @ W, Y) < 1e-9
    mapped = np.linalg.norm(unseen @ W - expected)
    assert mapped < np.linalg.norm(unseen - expected)
    assert mapped < 0.5 * np.linalg.norm(unseen @ procrustes(X, Y, completion="svd") - expected)


def test_the_svd_completion_fits_the_pairs_as_well() -> None:
    X, Y, _, _ = _few(60, 20)
    assert distance(X @ procrustes(X, Y, completion="svd"), Y) < 1e-9


@pytest.mark.parametrize(("d", "k"), [(40, 10), (40, 25)])
def test_among_all_minimisers_the_completed_one_is_nearest_to_the_identity(d: int, k: int) -> None:
    X, Y = rows(k, d, 1), rows(k, d, 2)
    W = procrustes(X, Y)
    U, _, Vt = np.linalg.svd(X.T @ Y)
    for seed in range(20):
        free = orthogonal(d - k, seed, 1 if seed % 2 else -1)
        other = U[:, :k] @ Vt[:k] + U[:, k:] @ free @ Vt[k:]
        assert np.linalg.norm(X @ other - Y) == pytest.approx(np.linalg.norm(X @ W - Y))
        assert np.linalg.norm(other - np.eye(d)) >= np.linalg.norm(W - np.eye(d)) - 1e-9
    # A maximum of the trace over the free part has a symmetric, positive product.
    free = U[:, k:].T @ W @ Vt[k:].T
    product = free.T @ (U[:, k:].T @ Vt[k:].T)
    np.testing.assert_allclose(product, product.T, atol=1e-9)
    assert np.linalg.eigvalsh(product).min() > -1e-9


@pytest.mark.parametrize(("d", "k"), [(40, 10), (40, 25)])
def test_a_vanishing_ridge_is_the_identity_completion(d: int, k: int) -> None:
    X, Y = rows(k, d, 1), rows(k, d, 2)
    W = procrustes(X, Y)
    assert distance(procrustes(X, Y, ridge=1e-9), W) < 1e-5
    assert distance(procrustes(X, Y, ridge=1e9), np.eye(d)) < 1e-6
    pulls = [distance(procrustes(X, Y, ridge=r), np.eye(d)) for r in (0.0, 0.01, 0.1, 1.0, 10.0)]
    assert pulls == sorted(pulls, reverse=True)


def test_the_small_problem_of_few_pairs_equals_the_large_one() -> None:
    X, Y = rows(10, 40, 1), rows(10, 40, 2)
    M = X.T @ Y
    for share in (0.01, 1.0):
        U, _, Vt = np.linalg.svd(M + share * np.linalg.norm(M, 2) * np.eye(40))
        np.testing.assert_allclose(procrustes(X, Y, ridge=share), U @ Vt, atol=1e-10)


@pytest.mark.parametrize(
    ("X", "Y", "options", "message"),
    [
        (rows(3, 2), rows(4, 2), {}, "row i beside row i"),
        (rows(3, 2), rows(3, 3), {}, "row i beside row i"),
        (np.zeros((0, 3)), np.zeros((0, 3)), {}, "row i beside row i"),
        (np.full((3, 2), np.nan), rows(3, 2), {}, "not finite"),
        (rows(3, 2), rows(3, 2), {"completion": "zero"}, "'identity' or 'svd'"),
        (rows(3, 2), rows(3, 2), {"ridge": -1.0}, "at least 0"),
    ],
)
def test_what_cannot_be_solved_is_said(X: np.ndarray, Y: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(MapError, match=message):
        procrustes(X, Y, **options)  # type: ignore[arg-type]


# ---- the map as a thing --------------------------------------------------------------------------------------------------


def _full_map() -> Map:
    X, Y = rows(50, 6, 1) + 1, rows(50, 4, 2) - 1
    (_, source), (_, target) = normalize(X, ("unit", "center")), normalize(Y, ("center", "unit", "center"))
    return Map(
        rows(6, 3), rows(4, 3, 1), ("unit", "center"), tuple(source), ("center", "unit", "center"), tuple(target),
        {"method": "test", "pairs": 50},
    )  # fmt: skip


def test_both_sides_are_normalised_as_in_the_fit_then_mapped() -> None:
    found, X, Y = _full_map(), rows(5, 6, 7), rows(5, 4, 8)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(found.apply(X), (unit - found.source_means[0]) @ found.source_matrix)
    assert found.target_matrix is not None
    expected = normalize(Y, found.target_steps, found.target_means)[0] @ found.target_matrix
    np.testing.assert_allclose(found.apply_target(Y), expected)
    assert (found.source_dim, found.target_dim, found.dim) == (6, 4, 3)


def test_single_precision_vectors_stay_so_and_half_precision_is_not_computed_in() -> None:
    found = _full_map()
    assert found.apply(rows(5, 6).astype(np.float32)).dtype == np.float32
    assert found.apply(rows(5, 6).astype(np.float16)).dtype == np.float32
    assert Map(np.eye(6)).apply_target(rows(5, 6)).dtype == np.float64


def test_vectors_of_another_width_are_refused_by_name_of_the_side() -> None:
    with pytest.raises(MapError, match=r"source side takes rows of shape \(n, 6\), got \(5, 4\)"):
        _full_map().apply(rows(5, 4))
    with pytest.raises(MapError, match="target side"):
        _full_map().apply_target(rows(5, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.full((2, 2), np.inf),), "source_matrix"),
        ((np.eye(2), np.eye(3)), "target_matrix"),
        ((np.eye(2), None, ("center",), ()), "source_means"),
        ((np.eye(2), None, (), (), ("center",), (np.zeros(3),)), "target_means"),
        ((np.eye(2), None, ("whiten",)), "whiten"),
    ],
)
def test_parts_that_do_not_fit_make_no_map(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(MapError, match=message):
        Map(*arguments)  # type: ignore[arg-type]


def test_the_identity_map_normalises_only() -> None:
    X, Y = rows(50, 4, 1) + 1, rows(60, 4, 2)
    found = identity_map(X, Y)
    np.testing.assert_allclose(found.apply(X), normalize(X)[0], atol=1e-12)
    np.testing.assert_allclose(found.apply_target(Y), normalize(Y)[0], atol=1e-12)
    with pytest.raises(MapError, match="one width"):
        identity_map(X, rows(5, 3))


# ---- files ---------------------------------------------------------------------------------------------------------------


def test_a_saved_map_is_the_same_map(tmp_path: Path) -> None:
    found = _full_map()
    again = Map.load(found.save(tmp_path / "fr-en"))
    X, Y = rows(5, 6, 7), rows(5, 4, 8)
    np.testing.assert_array_equal(again.apply(X), found.apply(X))
    np.testing.assert_array_equal(again.apply_target(Y), found.apply_target(Y))
    assert again.meta == found.meta
    assert sorted(file.name for file in (tmp_path / "fr-en").iterdir()) == ["map.json", "map.safetensors"]


def test_saving_again_replaces(tmp_path: Path) -> None:
    _full_map().save(tmp_path)
    Map(np.eye(3)).save(tmp_path)
    again = Map.load(tmp_path)
    assert again.target_matrix is None
    np.testing.assert_array_equal(again.source_matrix, np.eye(3))


def test_a_transposed_view_is_saved_as_it_reads(tmp_path: Path) -> None:
    Q = orthogonal(5, 1)
    np.testing.assert_array_equal(Map.load(Map(Q.T).save(tmp_path)).source_matrix, Q.T)


def test_a_folder_without_a_map_is_told(tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"expected map.json and map.safetensors"):
        Map.load(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "other"}', b"\xff\xfe"])
def test_a_foreign_json_is_no_map(tmp_path: Path, content: bytes) -> None:
    _full_map().save(tmp_path)
    (tmp_path / "map.json").write_bytes(content)
    with pytest.raises(MapError, match=r"map\.json"):
        Map.load(tmp_path)


def test_files_of_two_savings_do_not_make_a_map(tmp_path: Path) -> None:
    Map(orthogonal(3, 1)).save(tmp_path / "a")
    Map(orthogonal(3, 2)).save(tmp_path / "b")
    (tmp_path / "a" / "map.safetensors").replace(tmp_path / "b" / "map.safetensors")
    with pytest.raises(MapError, match="same saving"):
        Map.load(tmp_path / "b")


def test_a_map_that_lost_a_field_is_broken(tmp_path: Path) -> None:
    _full_map().save(tmp_path)
    facts = json.loads((tmp_path / "map.json").read_text())
    for field in ("source_steps", "meta"):
        (tmp_path / "map.json").write_text(json.dumps({k: v for k, v in facts.items() if k != field}))
        with pytest.raises(MapError, match=field):
            Map.load(tmp_path)


def test_meta_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="JSON"):
        Map(np.eye(2), meta={"W": np.eye(2)}).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ---- joining and inverting -----------------------------------------------------------------------------------------------


def _orthogonal_map(Q: np.ndarray, X: np.ndarray, Y: np.ndarray) -> Map:
    steps = ("unit", "center", "unit")
    return Map(Q, None, steps, tuple(normalize(X)[1]), steps, tuple(normalize(Y)[1]))


def test_composed_maps_go_through_the_middle_language() -> None:
    X, Y, Z = rows(40, 5, 1) + 0.5, rows(40, 5, 2), rows(40, 5, 3) - 0.5
    first, second = _orthogonal_map(orthogonal(5, 1), X, Y), _orthogonal_map(orthogonal(5, 2, -1), Y, Z)
    joined = first.compose(second)
    np.testing.assert_allclose(joined.apply(X), first.apply(X) @ second.source_matrix, atol=1e-12)
    np.testing.assert_allclose(joined.apply_target(Z), second.apply_target(Z))
    assert joined.determinant_sign() == -1


def test_maps_that_see_the_middle_language_differently_are_not_composed() -> None:
    X, Y = rows(40, 5, 1), rows(40, 5, 2)
    first = _orthogonal_map(orthogonal(5, 1), X, Y)
    with pytest.raises(MapError, match="differently"):
        first.compose(_orthogonal_map(orthogonal(5, 2), Y + 0.3, X))
    with pytest.raises(MapError, match="differently"):
        first.compose(Map(orthogonal(5, 2)))
    with pytest.raises(MapError, match="begins in 4"):
        first.compose(Map(orthogonal(4, 2)))
    with pytest.raises(MapError, match="orthogonality error"):
        first.compose(Map(2 * np.eye(5)))


def test_the_inverse_of_an_orthogonal_map_takes_back() -> None:
    X, Y = rows(40, 5, 1) + 1, rows(40, 5, 2)
    found = _orthogonal_map(orthogonal(5, 1), X, Y)
    identity = found.compose(found.inverse())
    np.testing.assert_allclose(identity.source_matrix, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(identity.apply(X), identity.apply_target(X), atol=1e-12)


@pytest.mark.parametrize("with_target", [True, False])
def test_the_inverse_of_any_other_map_changes_the_sides(with_target: bool) -> None:
    found = _full_map() if with_target else Map(rows(6, 4), None, (), (), ("unit",), ())
    X, Y, back = rows(5, 6, 7), rows(5, 4, 8), found.inverse()
    np.testing.assert_allclose(back.apply(Y), found.apply_target(Y), atol=1e-12)
    np.testing.assert_allclose(back.apply_target(X), found.apply(X), atol=1e-12)


def test_orthogonality_and_determinant() -> None:
    assert Map(orthogonal(50, 1)).orthogonality_error() < 1e-13
    assert Map(orthogonal(6, 1)[:, :3]).orthogonality_error() < 1e-13
    assert Map(np.eye(2), 3 * np.eye(2)).orthogonality_error() == 8
    assert [Map(orthogonal(7, 1, sign)).determinant_sign() for sign in (1, -1)] == [1, -1]
    with pytest.raises(MapError, match="no determinant"):
        Map(rows(3, 2)).determinant_sign()


# ---- the geodesic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 7, 20])
def test_two_half_ways_are_the_way(d: int) -> None:
    found = Map(orthogonal(d, 4))
    half = found.geodesic(0.5).source_matrix
    np.testing.assert_allclose(half @ half, found.source_matrix, atol=1e-10)
    third = found.geodesic(1 / 3).source_matrix
    np.testing.assert_allclose(third @ third @ third, found.source_matrix, atol=1e-10)


def test_the_geodesic_is_the_power_of_the_matrix_logarithm() -> None:
    A = rows(9, 9)
    A = (A - A.T) * 0.3
    np.testing.assert_allclose(Map(expm(A)).geodesic(0.3).source_matrix, expm(0.3 * A), atol=1e-10)


def test_the_distance_to_the_identity_grows_along_the_path() -> None:
    found = Map(orthogonal(20, 5), None, ("center",), (np.ones(20),), ("center",), (np.zeros(20),))
    path = [found.geodesic(a) for a in (0.0, 0.25, 0.5, 0.75, 1.0)]
    distances = [distance(point.source_matrix, np.eye(20)) for point in path]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert all(point.orthogonality_error() < 1e-12 for point in path)
    assert all(point.source_means[0].tolist() == [1.0] * 20 for point in path)
    np.testing.assert_array_equal(path[-1].source_matrix, found.source_matrix)


def test_half_turns_are_walked_too() -> None:
    Q = orthogonal(6, 1)
    W = Q @ np.diag([-1.0, -1, -1, -1, 1, 1]) @ Q.T
    half = Map(W).geodesic(0.5)
    np.testing.assert_allclose(half.source_matrix @ half.source_matrix, W, atol=1e-10)
    assert half.determinant_sign() == 1


@pytest.mark.parametrize("d", [6, 7])
def test_a_reflection_turns_its_planes_and_flips_its_axis_half_way(d: int) -> None:
    W = orthogonal(d, 3, -1)
    values, vectors = np.linalg.eig(W)
    axis = np.real(vectors[:, np.argmin(np.abs(values + 1))])
    found = Map(W)
    for a, kept in ((0.2, 1), (0.49, 1), (0.5, -1), (0.8, -1)):
        point = found.geodesic(a)
        assert point.orthogonality_error() < 1e-12
        assert point.determinant_sign() == kept
        np.testing.assert_allclose(axis @ point.source_matrix, kept * axis, atol=1e-9)
    np.testing.assert_allclose(found.geodesic(1e-9).source_matrix, np.eye(d), atol=1e-8)
    np.testing.assert_allclose(found.geodesic(1 - 1e-9).source_matrix, W, atol=1e-8)


def test_only_orthogonal_maps_have_a_path() -> None:
    with pytest.raises(MapError, match="method='procrustes'"):
        _full_map().geodesic(0.5)
    with pytest.raises(MapError, match="0 to 1"):
        Map(np.eye(2)).geodesic(1.5)
