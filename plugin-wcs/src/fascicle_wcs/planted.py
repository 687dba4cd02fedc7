"""Two made-up languages of which the map is known, for quickstarts and tests. Our choice; the paper has no such data.

The geometry is that of real word vectors in what matters here: a spectrum that decays, clusters of related words of very unequal
sizes, a mean far from zero, lengths that depend on frequency. Without such structure no map could be found from the vectors alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import VectorError
from .vectors import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .dictionary import Dictionary

__all__ = ["Planted", "made_up_words", "planted_languages", "random_orthogonal"]

_SOUNDS = (
    ("b d f g k l m n p r s t v br dr gr kl pl st tr", "a e i o u ai ei ou"),
    ("b ch d h j k m n p qu r s sh t w x y z zh", "a e i o u y ia oa"),
)
"""Consonants and vowels of the two languages."""


@dataclass(frozen=True, eq=False)
class Planted:
    """Two languages, one the rotation of the other with noise, and the truth about them."""

    source: Vectors
    target: Vectors
    rotation: NDArray[np.float64]
    """Q (d, d): a target vector is the source vector's times Q, with noise; both as given, before any normalisation."""
    pairs: NDArray[np.int64]
    """(n, 2) rows that mean the same, in source order."""

    @property
    def dictionary(self) -> Dictionary:
        """Each source word with its translation, in source order."""
        from .dictionary import Dictionary

        return Dictionary(tuple((self.source.words[i], self.target.words[j]) for i, j in self.pairs), name="planted")


def planted_languages(
    n: int = 2000,
    dim: int = 64,
    *,
    noise: float = 0.02,
    seed: int = 0,
    clusters: int | None = None,
    determinant: int = 1,
) -> Planted:
    """n words of each language, the most frequent first, the frequencies of a word and its translation being alike, not equal.

    Args:
        n: words of each language.
        dim: width d.
        noise: standard deviation on each coordinate of a target vector, vectors having a mean length of 1. With d = 64 and n = 2000
            the vectors alone are enough for self-learning at .02 and at .05.
        seed: of everything.
        clusters: groups of related words; None is one for 20 words.
        determinant: of the rotation, 1 or -1.

    Raises:
        VectorError: a size outside its range.

    >>> planted = planted_languages(50, 8)
    >>> len(planted.source), planted.target.dim
    (50, 8)
    >>> [planted.target.words[j] for _, j in planted.pairs[:1]] == [planted.dictionary.pairs[0][1]]
    True
    """
    if n < 2 or dim < 2 or noise < 0 or determinant not in (1, -1) or (clusters is not None and clusters < 1):
        raise VectorError(
            f"planted_languages: got n={n}, dim={dim}, noise={noise}, clusters={clusters}, determinant={determinant}; expected "
            "n and dim of at least 2, no negative noise, at least 1 cluster, and a determinant of 1 or -1"
        )
    rng = np.random.default_rng(seed)
    X = _meanings(rng, n, dim, max(2, n // 20) if clusters is None else clusters)
    Q = random_orthogonal(dim, rng, determinant)
    order = np.argsort(
        np.log(np.arange(n) + 10) + rng.normal(0, 0.1, n), kind="stable"
    )  # target row j is source row order[j]
    Y = (X @ Q)[order] + rng.normal(0, noise, (n, dim))
    pairs = np.empty((n, 2), dtype=np.int64)
    pairs[order] = np.stack([order, np.arange(n)], axis=1)
    source, target = (made_up_words(n, language, rng) for language in (0, 1))
    return Planted(
        Vectors(source, X.astype(np.float32), "planted source"),
        Vectors(target, Y.astype(np.float32), "planted target"),
        Q,
        pairs,
    )


def random_orthogonal(d: int, rng: np.random.Generator, determinant: int = 1) -> NDArray[np.float64]:
    """A uniformly drawn orthogonal matrix (d, d) with this determinant; not symmetric, so that its transpose is another map.

    >>> Q = random_orthogonal(5, np.random.default_rng(0), -1)
    >>> bool(np.allclose(Q.T @ Q, np.eye(5))), round(float(np.linalg.det(Q)))
    (True, -1)
    """
    Q, R = np.linalg.qr(rng.normal(size=(d, d)))
    Q = Q * np.sign(np.diag(R))
    if np.sign(np.linalg.det(Q)) != determinant:
        Q[:, 0] *= -1
    return np.asarray(Q)


def made_up_words(n: int, language: int, rng: np.random.Generator) -> tuple[str, ...]:
    """n different words that can be pronounced, short ones first. No word is of both languages (0 and 1).

    >>> words = made_up_words(100, 0, np.random.default_rng(0))
    >>> len(set(words)), set(words) & set(made_up_words(100, 1, np.random.default_rng(0)))
    (100, set())
    """
    consonants, vowels = (np.array(sounds.split()) for sounds in _SOUNDS[language])
    ending = "n" if language == 0 else ""  # one language ends in a consonant, the other in a vowel
    words: dict[str, None] = {}
    syllables = 2
    while len(words) < n:
        onsets, nuclei = rng.choice(consonants, (n, syllables)), rng.choice(vowels, (n, syllables))
        for c, v in zip(onsets, nuclei, strict=True):
            if len(words) < min(n, n * (syllables - 1) // 2 + 1):
                words.setdefault("".join(np.char.add(c, v)) + ending)
        syllables += 1
    return tuple(words)


def _meanings(rng: np.random.Generator, n: int, dim: int, clusters: int) -> NDArray[np.float64]:
    """(n, dim) vectors of mean length 1."""
    scale = 1 / np.sqrt(np.arange(dim) + 1.0)  # spectrum of a power law
    basis = random_orthogonal(dim, rng)
    sizes = 1 / (np.arange(clusters) + 1.0)
    cluster = rng.choice(clusters, n, p=sizes / sizes.sum())
    spread = rng.uniform(0.4, 1.1, clusters)
    centers = rng.standard_t(4, (clusters, dim))
    rows = (centers[cluster] + spread[cluster, None] * rng.standard_t(4, (n, dim))) * scale
    rows = rows @ basis + 0.3 * np.linalg.norm(scale) * basis[-1]
    rows *= (1 + 0.2 * np.linspace(1, -1, n))[:, None]
    return np.asarray(rows / np.linalg.norm(rows, axis=1).mean())
