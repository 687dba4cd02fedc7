"""Several languages in one space."""

from __future__ import annotations

import numpy as np
import pytest

from fascicle_wcs.errors import MapError
from fascicle_wcs.fits import fit
from fascicle_wcs.maps import Map
from fascicle_wcs.multilingual import cycle_error, fit_all, fit_jointly
from fascicle_wcs.planted import random_orthogonal

D = 8


def family(
    noise: float, k: int = 40, languages: int = 4
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray, dict]:
    """Languages that are noisy turns of one meaning space, the pivot being one of them; and the true maps to the pivot."""
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(k, D))
    turns = [random_orthogonal(D, rng, 1 if i % 2 else -1) for i in range(languages + 1)]
    pivot = meaning @ turns[0] + noise * rng.normal(size=meaning.shape)
    found, truth = {}, {}
    for i, Q in enumerate(turns[1:]):
        order = rng.permutation(k)
        X = (meaning @ Q)[order] + noise * rng.normal(size=meaning.shape)
        found[f"l{i}"] = X, np.stack([np.arange(k), order], axis=1)
        truth[f"l{i}"] = Q.T @ turns[0]
    return found, pivot, truth


def error(maps: dict[str, Map], truth: dict[str, np.ndarray]) -> float:
    return float(np.mean([np.linalg.norm(maps[name].source_matrix - truth[name]) for name in truth]))


@pytest.mark.parametrize("solve", [fit_all, fit_jointly])
def test_without_noise_every_language_reaches_the_pivot(solve) -> None:  # type: ignore[no-untyped-def]
    languages, pivot, truth = family(0.0)
    maps = solve(languages, pivot, normalize=())
    assert error(maps, truth) < 1e-9
    for name, (X, pairs) in languages.items():
        np.testing.assert_allclose(
            maps[name].apply(X)[pairs[:, 0]], maps[name].apply_target(pivot)[pairs[:, 1]], atol=1e-9
        )


def between(maps: dict[str, Map], truth: dict[str, np.ndarray]) -> float:
    """Mean error of the maps between two languages other than the pivot."""
    names = list(truth)
    return float(
        np.mean(
            [
                np.linalg.norm(maps[a].source_matrix @ maps[b].source_matrix.T - truth[a] @ truth[b].T)
                for a in names
                for b in names
                if a < b
            ]
        )
    )


def test_languages_that_decide_together_are_nearer_to_each_other() -> None:
    languages, pivot, truth = family(0.6, languages=6)
    each, together = fit_all(languages, pivot, normalize=()), fit_jointly(languages, pivot, normalize=())
    one, other = between(together, truth), between(each, truth)
    assert one < 0.9 * other


def test_with_one_language_joint_is_plain() -> None:
    languages, pivot, _ = family(0.4, languages=1)
    joint, plain = fit_jointly(languages, pivot)["l0"], fit_all(languages, pivot)["l0"]
    np.testing.assert_allclose(joint.source_matrix, plain.source_matrix, atol=1e-4)
    np.testing.assert_allclose(joint.apply_target(pivot), plain.apply_target(pivot))


def test_a_joint_map_is_orthogonal_and_normalises_as_it_was_fitted() -> None:
    languages, pivot, _ = family(0.4)
    for name, found in fit_jointly(languages, pivot).items():
        assert found.orthogonality_error() < 1e-12
        X, pairs = languages[name]
        plain = fit(X, pivot, pairs)
        np.testing.assert_array_equal(found.source_means[0], plain.source_means[0])
        assert found.meta["moved"] <= 1e-6


def test_languages_need_not_share_their_words_with_each_other() -> None:
    languages, pivot, truth = family(0.0)
    halved = {name: (X, pairs[i % 2 :: 2]) for i, (name, (X, pairs)) in enumerate(languages.items())}
    assert error(fit_jointly(halved, pivot, normalize=()), truth) < 1e-9


def test_an_error_names_its_language() -> None:
    languages, pivot, _ = family(0.0)
    languages["xx"] = languages["l0"][0], np.array([[0, 999]])
    for solve in (fit_all, fit_jointly):
        with pytest.raises(MapError, match="xx: pairs: the target rows"):
            solve(languages, pivot)  # type: ignore[operator]


def _turn(seed: int) -> Map:
    return Map(random_orthogonal(D, np.random.default_rng(seed)))


def test_maps_that_agree_close_every_cycle_in_whatever_direction_they_are_given() -> None:
    ab, bc = _turn(1), _turn(2)
    ca = ab.compose(bc).inverse()
    for maps in (
        {("a", "b"): ab, ("b", "c"): bc, ("c", "a"): ca},
        {("b", "a"): ab.inverse(), ("b", "c"): bc, ("a", "c"): ca.inverse()},
    ):
        assert cycle_error(maps) == {("a", "b", "c"): pytest.approx(0, abs=1e-12)}


def test_maps_that_have_nothing_in_common_are_off_by_the_square_root_of_two() -> None:
    rng = np.random.default_rng(0)
    maps = {edge: Map(random_orthogonal(200, rng)) for edge in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "a"))}
    errors = cycle_error(maps)
    assert list(errors) == [("a", "b"), ("a", "b", "c")]
    assert list(errors.values()) == pytest.approx([2**0.5] * 2, rel=0.03)


def test_an_open_cycle_has_no_error_and_other_maps_none_at_all() -> None:
    assert cycle_error({("a", "b"): _turn(1), ("b", "c"): _turn(2)}) == {}
    with pytest.raises(MapError, match="a to b has an orthogonality error"):
        cycle_error({("a", "b"): Map(2 * np.eye(3))})
    with pytest.raises(MapError, match="one width"):
        cycle_error({("a", "b"): Map(np.eye(3)), ("b", "a"): Map(np.eye(4))})
