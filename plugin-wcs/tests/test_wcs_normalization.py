"""Normalisation of word vectors."""

from __future__ import annotations

import numpy as np
import pytest

from fascicle_wcs.errors import MapError
from fascicle_wcs.normalization import normalize


def _rows(n: int = 40, d: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 2.0, (n, d))


def test_steps_run_in_their_order() -> None:
    X = _rows()
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    centered = unit - unit.mean(axis=0)
    expected = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    rows, means = normalize(X)
    np.testing.assert_allclose(rows, expected, atol=1e-14)
    np.testing.assert_allclose(means, [unit.mean(axis=0)], atol=1e-14)


def test_no_step_changes_nothing_and_the_input_is_never_changed() -> None:
    X = _rows()
    before = X.copy()
    np.testing.assert_array_equal(normalize(X, ())[0], before)
    normalize(X)
    np.testing.assert_array_equal(X, before)


def test_new_words_are_normalised_with_the_means_of_the_fit() -> None:
    X = _rows()
    rows, means = normalize(X)
    np.testing.assert_allclose(normalize(X[3:5], mean=means)[0], rows[3:5], atol=1e-15)
    assert not np.allclose(normalize(X[3:5])[0], rows[3:5])


def test_a_word_without_a_vector_stays_zero_and_moves_no_mean() -> None:
    X = _rows()
    holes = np.insert(X, [0, 7], 0.0, axis=0)
    rows, means = normalize(holes)
    assert not rows[0].any()
    assert not rows[8].any()
    np.testing.assert_allclose(rows[rows.any(axis=1)], normalize(X)[0], atol=1e-14)
    np.testing.assert_allclose(means, normalize(X)[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_float_type_is_kept(dtype: type) -> None:
    rows, means = normalize(_rows().astype(dtype))
    assert rows.dtype == dtype
    assert means[0].dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(rows.astype(float), axis=1), 1, atol=2e-3)


def test_half_precision_states_with_massive_activations_do_not_overflow() -> None:
    X = _rows().astype(np.float16)
    X[0, 0] = 27_000
    rows, _ = normalize(X, ("unit",))
    assert np.isfinite(rows).all()
    assert rows[0, 0] == pytest.approx(1, abs=1e-3)


def test_an_unknown_step_names_the_known_ones() -> None:
    with pytest.raises(MapError, match=r"'whiten'.*unit, center"):
        normalize(_rows(), ("unit", "whiten"))
    with pytest.raises(MapError, match="sequence"):
        normalize(_rows(), "unit")


def test_means_must_fit() -> None:
    X = _rows()
    with pytest.raises(MapError, match="0 means for 1 center"):
        normalize(X, ("center",), [])
    with pytest.raises(MapError, match="width 6"):
        normalize(X, ("center",), [np.zeros(1)])
