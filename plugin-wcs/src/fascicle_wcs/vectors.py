"""Words with their vectors: one vocabulary of a language, or the word states of one layer of a model.

Source: the embedding matrices X and Y of the paper's equation 1. How they are kept is our choice: float32, in frequency order, and
on disk as a plain matrix that is memory-mapped, so that a large vocabulary costs only what is used of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import VectorError

__all__ = ["Vectors"]

_MATRIX = "matrix.npy"
_WORDS = "words.json"
_CHUNK = 1 << 14
"""Rows looked at together: bounds the memory of a pass over a mapped matrix."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Unique words in frequency order and their vectors, one row each.

    A matrix of another number type becomes float32. Numbers are checked to be finite, but those of a memory-mapped matrix are
    not (that would read it all): `save` has checked them.

    Args:
        words: n different words, the most frequent first.
        matrix: (n, d) float32.
        name: what to call them in messages, e.g. the file.

    Raises:
        VectorError: a word stands twice, shapes do not fit, a number is not finite.

    >>> en = Vectors(("dog", "cat", "car"), np.array([[1.0, 0.0], [0.8, 0.6], [0.0, -1.0]]))
    >>> len(en), en.dim, en.index["cat"]
    (3, 2, 1)
    >>> en.row("cat").tolist() == np.array([0.8, 0.6], dtype="float32").tolist()
    True
    """

    words: tuple[str, ...]
    matrix: np.ndarray
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        matrix = np.asanyarray(self.matrix)
        if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.shape[0] != len(self.words):
            raise VectorError(
                f"{self._called}a matrix of shape {matrix.shape} for {len(self.words)} words; expected ({len(self.words)}, d)"
            )
        if matrix.dtype.kind not in "fiu":
            raise VectorError(f"{self._called}a matrix of {matrix.dtype}; expected real numbers")
        if matrix.dtype != np.float32:
            with np.errstate(over="ignore"):  # what overflows is reported below, with its word
                matrix = matrix.astype(np.float32)
        object.__setattr__(self, "matrix", matrix)
        if len(self.index) != len(self.words):
            word = next(w for row, w in enumerate(self.words) if self.index[w] != row)
            raise VectorError(f"{self._called}the word {word!r} stands twice; give every word one vector")
        if not isinstance(matrix, np.memmap):
            _check_finite(self)

    @property
    def _called(self) -> str:
        return f"{self.name}: " if self.name else ""

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"Vectors({self.name!r}, {len(self)} words, {self.dim} dimensions)"

    @property
    def dim(self) -> int:
        """Width d of a vector."""
        return int(self.matrix.shape[1])

    def row(self, word: str) -> np.ndarray:
        """The vector (d,) of a word.

        Raises:
            VectorError: the word has none.
        """
        if word not in self.index:
            raise VectorError(
                f"{self._called}no vector for {word!r} among {len(self)} words; mind its case and its accents"
            )
        return np.asarray(self.matrix[self.index[word]])

    def first(self, n: int) -> Vectors:
        """The n most frequent words; all if there are fewer. The matrix is shared, not copied.

        >>> Vectors(("a", "b"), np.eye(2)).first(1).words
        ('a',)
        """
        if n < 1:
            raise VectorError(f"first({n}): expected at least 1 word")
        return self if n >= len(self) else Vectors(self.words[:n], self.matrix[:n], self.name)

    def take(self, rows: Sequence[int] | np.ndarray) -> Vectors:
        """The words at these rows, in this order; a copy.

        Raises:
            VectorError: a row is outside, or stands twice.

        >>> Vectors(("a", "b", "c"), np.eye(3)).take([2, 0]).words
        ('c', 'a')
        """
        chosen = np.asarray(rows, dtype=np.int64)
        outside = chosen[(chosen < 0) | (chosen >= len(self))]
        if outside.size:
            raise VectorError(f"{self._called}row {outside[0]} of {len(self)}; expected 0 to {len(self) - 1}")
        return Vectors(tuple(self.words[row] for row in chosen), np.array(self.matrix[chosen]), self.name)

    def neighbours(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """The k words nearest to a word by cosine, best first, without the word itself. Zero vectors have cosine 0.

        Raises:
            VectorError: the word has no vector.

        >>> en = Vectors(("dog", "cat", "car"), np.array([[1.0, 0.0], [0.8, 0.6], [0.0, -1.0]]))
        >>> [(word, round(cosine, 2)) for word, cosine in en.neighbours("dog", 2)]
        [('cat', 0.8), ('car', 0.0)]
        """
        query = _unit(self.row(word)[None])[0]
        cosines = np.concatenate([_unit(self.matrix[i : i + _CHUNK]) @ query for i in range(0, len(self), _CHUNK)])
        cosines[self.index[word]] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(k, len(self) - 1)]
        return [(self.words[row], float(cosines[row])) for row in best]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `matrix.npy` and `words.json`, each whole or not at all; `open` notices files that do not belong together.

        Raises:
            VectorError: a number is not finite, or the folder cannot be written.
        """
        _check_finite(self)
        path = Path(folder)
        told = {"name": self.name, "dim": self.dim, "sample": _sample(self.matrix), "words": self.words}
        staged = {file: path / f".{file}.{uuid.uuid4().hex[:12]}.tmp" for file in (_MATRIX, _WORDS)}
        try:
            path.mkdir(parents=True, exist_ok=True)
            with staged[_MATRIX].open("xb") as matrix, staged[_WORDS].open("x", encoding="ascii") as words:
                np.save(matrix, self.matrix, allow_pickle=False)
                json.dump(told, words)
                for written in (matrix, words):
                    written.flush()
                    os.fsync(written.fileno())
            for file, temporary in staged.items():
                temporary.replace(path / file)
        except OSError as error:
            raise VectorError(f"{path}: cannot write the vectors: {error}") from error
        finally:
            for temporary in staged.values():
                temporary.unlink(missing_ok=True)
        return path

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Vectors:
        """What `save` wrote, memory-mapped and read-only.

        Raises:
            VectorError: the folder does not hold vectors, or its files are of different savings.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Vectors.open(Vectors(("a", "b"), np.eye(2), "toy").save(folder))
        Vectors('toy', 2 words, 2 dimensions)
        """
        path = Path(folder)
        try:
            told: dict[str, Any] = json.loads((path / _WORDS).read_text(encoding="ascii"))
            words, name, sample = tuple(told["words"]), str(told["name"]), told["sample"]
            # An empty file cannot be mapped.
            matrix = np.load(path / _MATRIX, mmap_mode="r" if words else None, allow_pickle=False)
        except OSError as error:
            raise VectorError(f"{path}: no saved vectors: {error}; expected {_MATRIX} and {_WORDS}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise VectorError(f"{path}: {_MATRIX} or {_WORDS} is broken ({error}); save the vectors again") from error
        if matrix.ndim != 2 or sample != _sample(matrix):
            raise VectorError(f"{path}: {_MATRIX} and {_WORDS} are not of the same saving; save the vectors again")
        return cls(words, matrix, name)


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows, subok=False), where=lengths > 0))


def _check_finite(vectors: Vectors) -> None:
    for start in range(0, len(vectors), _CHUNK):
        finite = np.isfinite(vectors.matrix[start : start + _CHUNK]).all(axis=1)
        if not finite.all():
            word = vectors.words[start + int(np.argmin(finite))]
            raise VectorError(f"{vectors._called}the vector of {word!r} has a number that is not finite in float32")


def _sample(matrix: np.ndarray) -> str:
    """Digest of the shape and of some rows: cheap, and enough to tell one saving from another."""
    rows = np.unique(np.linspace(0, max(len(matrix) - 1, 0), 32).astype(int))[: len(matrix)]
    digest = hashlib.sha256(repr(matrix.shape).encode())
    digest.update(np.ascontiguousarray(matrix[rows], dtype="<f4").tobytes())
    return digest.hexdigest()
