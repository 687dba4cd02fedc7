"""Self-learning from few pairs or none, the verdict on it, seeds; and the planted languages it is tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fascicle_wcs.errors import MapError, VectorError
from fascicle_wcs.normalization import normalize
from fascicle_wcs.planted import planted_languages
from fascicle_wcs.selflearning import identical_seeds, numeral_seeds, self_learn, unsupervised_seeds

if TYPE_CHECKING:
    from fascicle_wcs.planted import Planted
    from fascicle_wcs.selflearning import SelfLearning


def learn(planted: Planted, seeds: int | None, **options: object) -> SelfLearning:
    chosen = np.random.default_rng(1).permutation(len(planted.pairs))[:seeds]
    pairs = None if seeds is None else planted.pairs[chosen]
    return self_learn(planted.source.matrix, planted.target.matrix, pairs, **options)  # type: ignore[arg-type]


def right(learnt: SelfLearning, planted: Planted) -> float:
    """Share of all words whose pair was learnt."""
    truth = set(map(tuple, planted.pairs.tolist()))
    return sum(tuple(pair) in truth for pair in learnt.pairs.tolist()) / len(truth)


def hits(learnt: SelfLearning, planted: Planted) -> float:
    """P@1 by cosine over all words."""
    X = normalize(learnt.map.apply(planted.source.matrix), ("unit",))[0]
    Y = normalize(learnt.map.apply_target(planted.target.matrix), ("unit",))[0]
    found = (X[planted.pairs[:, 0]] @ Y.T).argmax(axis=1)
    return float((found == planted.pairs[:, 1]).mean())


@pytest.fixture(scope="module")
def languages() -> Planted:
    return planted_languages(500, 32, noise=0.03, seed=3)


@pytest.mark.parametrize("determinant", [1, -1])
def test_a_few_seeds_become_the_whole_dictionary_in_a_few_rounds(determinant: int) -> None:
    planted = planted_languages(600, 32, noise=0.02, determinant=determinant)
    learnt = learn(planted, 25)
    assert right(learnt, planted) >= 0.995
    assert learnt.converged
    assert len(learnt.history) <= 10
    assert learnt.map.determinant_sign() == determinant


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "seeds"), [(0.02, 25), (0.05, 50), (0.02, None)])
def test_two_thousand_words_from_few_seeds(noise: float, seeds: int | None) -> None:
    planted = planted_languages(2000, 64, noise=noise)
    learnt = learn(planted, seeds)
    assert right(learnt, planted) >= 0.995
    assert learnt.converged
    assert len(learnt.history) <= 10


def test_without_seeds_the_vectors_alone_are_enough(languages: Planted) -> None:
    learnt = learn(languages, None)
    assert right(learnt, languages) >= 0.98
    assert learnt.converged


@pytest.mark.parametrize("method", ["vecmap", "rcsls"])
def test_the_chosen_method_is_fitted_once_at_the_end(languages: Planted, method: str) -> None:
    plain, learnt = learn(languages, 25), learn(languages, 25, method=method)
    assert learnt.map.meta["method"] == method
    np.testing.assert_array_equal(learnt.pairs, plain.pairs)
    assert learnt.history == plain.history
    assert hits(learnt, languages) > 0.98


def test_languages_that_have_nothing_in_common_are_flagged() -> None:
    one, other = planted_languages(250, 32, seed=1), planted_languages(250, 32, seed=2)
    for seeds in (None, one.pairs[:20]):
        learnt = self_learn(one.source.matrix, other.target.matrix, seeds, patience=3)
        assert not learnt.converged
        assert "from random pairs" in learnt.reason


def test_a_run_that_was_cut_short_is_flagged_and_tells(languages: Planted) -> None:
    learnt = learn(languages, 3, max_iter=1, keep_start=1.0)
    assert not learnt.converged
    assert learnt.reason.startswith("1 rounds were over")


def test_stochastic_induction_follows_only_where_plain_induction_leads_nowhere() -> None:
    one, other = planted_languages(200, 16, seed=1), planted_languages(200, 16, seed=2)
    learnt = self_learn(
        one.source.matrix, other.target.matrix, one.pairs[:10], patience=2, keep_start=0.3, keep_factor=1.5
    )
    keeps = [row["keep"] for row in learnt.history]
    plain = keeps.index(0.3)
    assert set(keeps[:plain]) == {1.0}
    assert sorted(keeps[plain:]) == keeps[plain:]
    assert sorted(set(keeps[plain:])) == pytest.approx([0.3, 0.45, 0.675, 1.0])


def test_the_history_has_a_row_for_each_round(languages: Planted) -> None:
    learnt = learn(languages, 25)
    assert all(sorted(row) == ["keep", "mutual", "objective", "pairs"] for row in learnt.history)
    assert learnt.history[-1]["objective"] > learnt.history[0]["objective"]
    assert learnt.history[-1]["mutual"] == pytest.approx(len(learnt.pairs) / 500)


def test_a_seed_repeats_a_run() -> None:
    one, other = planted_languages(200, 16, seed=1), planted_languages(200, 16, seed=2)
    runs = [
        self_learn(one.source.matrix, other.target.matrix, one.pairs[:10], patience=2, seed=seed) for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].map.source_matrix, runs[1].map.source_matrix)
    assert runs[0].history == runs[1].history
    assert runs[0].history != runs[2].history


def test_rare_words_stay_out_of_the_dictionary_but_are_mapped(languages: Planted) -> None:
    learnt = learn(languages, 100, cutoff=300)
    assert learnt.pairs.max() < 300
    assert hits(learnt, languages) > 0.98


def test_a_wider_side_is_reduced_on_the_way(languages: Planted) -> None:
    Y = np.hstack([languages.target.matrix, np.zeros((500, 8), dtype=np.float32)])
    learnt = self_learn(languages.source.matrix, Y, languages.pairs[:50], reduce="pca")
    assert right(learnt, languages) >= 0.98
    assert learnt.map.dim == 32
    with pytest.raises(MapError, match="reduce='pca'"):
        self_learn(languages.source.matrix, Y, languages.pairs[:50])


@pytest.mark.parametrize(
    "options",
    [
        {"cutoff": 0},
        {"knn": 0},
        {"patience": 0},
        {"max_iter": 0},
        {"keep_start": 0.0},
        {"keep_start": 1.5},
        {"keep_factor": 1.0},
    ],
)
def test_an_argument_outside_its_range_is_named(languages: Planted, options: dict[str, float]) -> None:
    with pytest.raises(MapError, match=next(iter(options))):
        learn(languages, 25, **options)


# ---- seeds ---------------------------------------------------------------------------------------------------------------


def test_unsupervised_seeds_are_far_better_than_chance(languages: Planted) -> None:
    seeds = unsupervised_seeds(languages.source.matrix, languages.target.matrix)
    truth = set(map(tuple, languages.pairs.tolist()))
    assert np.mean([tuple(pair) in truth for pair in seeds.tolist()]) > 0.1
    few = unsupervised_seeds(languages.source.matrix, languages.target.matrix, first=100)
    assert few.max() < 100


def test_unsupervised_seeds_do_not_care_how_a_language_is_turned(languages: Planted) -> None:
    turned = languages.source.matrix @ languages.rotation
    one = unsupervised_seeds(turned, languages.target.matrix)
    other = unsupervised_seeds(languages.source.matrix, languages.target.matrix)
    assert len(set(map(tuple, one.tolist())) & set(map(tuple, other.tolist()))) > 0.99 * len(one)


def test_identical_words_and_numerals() -> None:
    source, target = ["1990", "le", "photo", "²", "٣", "x"], ["x", "٣", "photo", "²", "the", "1990"]
    assert identical_seeds(source, target).tolist() == [[0, 5], [2, 2], [3, 3], [4, 1], [5, 0]]
    assert numeral_seeds(source, target).tolist() == [[0, 5]]
    assert identical_seeds(["a"], ["b"]).shape == (0, 2)


# ---- planted languages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("determinant", [1, -1])
def test_planted_languages_are_what_they_say(determinant: int) -> None:
    planted = planted_languages(500, 16, noise=0.05, seed=4, determinant=determinant)
    Q = planted.rotation
    np.testing.assert_allclose(Q.T @ Q, np.eye(16), atol=1e-12)
    assert round(float(np.linalg.det(Q))) == determinant
    assert np.abs(Q - Q.T).max() > 0.1
    noise = planted.target.matrix[planted.pairs[:, 1]] - planted.source.matrix[planted.pairs[:, 0]] @ Q
    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)
    assert float(np.linalg.norm(planted.source.matrix, axis=1).mean()) == pytest.approx(1, rel=1e-4)


def test_planted_words_are_pronounceable_and_of_one_language_only() -> None:
    planted = planted_languages(3000, 4)
    words = planted.source.words + planted.target.words
    assert len(set(words)) == 6000
    assert all(word.isalpha() and word.isascii() and set(word) & set("aeiouy") for word in words)


def test_a_planted_translation_is_about_as_frequent_but_not_in_the_same_place() -> None:
    planted = planted_languages(2000, 8)
    np.testing.assert_array_equal(planted.pairs[:, 0], np.arange(2000))
    np.testing.assert_array_equal(np.sort(planted.pairs[:, 1]), np.arange(2000))
    assert (planted.pairs[:, 0] != planted.pairs[:, 1]).mean() > 0.5
    assert np.corrcoef(planted.pairs.T)[0, 1] > 0.9
    assert planted.dictionary.pairs[7] == (planted.source.words[7], planted.target.words[planted.pairs[7, 1]])


def test_planted_vectors_are_not_spread_evenly() -> None:
    X = planted_languages(2000, 32, seed=5).source.matrix.astype(float)
    assert np.linalg.norm(X.mean(axis=0)) > 0.1
    spectrum = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    assert spectrum[0] > 3 * spectrum[-1]


def test_a_seed_repeats_the_languages() -> None:
    one, same, other = (planted_languages(60, 4, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.target.matrix, same.target.matrix)
    assert one.dictionary == same.dictionary
    assert one.source.words != other.source.words


@pytest.mark.parametrize("options", [{"n": 1}, {"dim": 1}, {"noise": -1.0}, {"clusters": 0}, {"determinant": 0}])
def test_sizes_of_planted_languages(options: dict[str, int]) -> None:
    with pytest.raises(VectorError, match=next(iter(options))):
        planted_languages(**{"n": 50, "dim": 4, **options})  # type: ignore[arg-type]
