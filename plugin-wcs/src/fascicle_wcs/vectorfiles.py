"""Word vectors from files and to files.

Source: our choice; the paper compares with fastText vectors and does not say how they are read. No more is read than is asked for.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import VectorError
from .packedfiles import READ_ERRORS, inner_suffix, opened
from .spelling import speller
from .vectorformats import FASTTEXT_MAGIC, Reading, read_fasttext, read_matrix, read_spacy, read_text, read_word2vec
from .vectors import Vectors

if TYPE_CHECKING:
    from .spelling import NormalForm

__all__ = ["read_vectors", "write_vectors"]

_PICKLES = {".kv", ".model", ".pkl", ".pickle", ".pt", ".pth"}


def read_vectors(
    path: str | os.PathLike[str],
    *,
    first: int | None = None,
    words: Iterable[str] | None = None,
    lower: bool = False,
    normalize_unicode: NormalForm | None = "NFC",
    on_error: Literal["raise", "skip"] = "raise",
) -> Vectors:
    """Read vectors, in the order of the file.

    By name: `.bin` is word2vec binary or a fastText model, `.npy` a matrix with its words beside it, a folder what
    `Vectors.save` wrote (it stays memory-mapped) or a spaCy pipeline; everything else is text of word2vec or GloVe.
    `.gz`, `.bz2` and `.xz` behind a name are unpacked.

    Args:
        path: the file or folder.
        first: look at the first so many different words only.
        words: keep only these; reading ends when all are found. A fastText model gives unknown words a vector, too.
        lower: spell words, and `words`, in lower case. Of words that are then spelt the same the first counts.
        normalize_unicode: Unicode's normal form for the words; None leaves them.
        on_error: what cannot be read raises, or is skipped, counted and logged.

    Raises:
        VectorError: the file is missing or malformed, with the line; or a package is missing that reads it.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_vectors(Path(folder, "toy.vec.gz"), Vectors(("Dog", "new york", "dog"), np.eye(3)))
    ...     print(read_vectors(path, lower=True).words)
    ...     print(read_vectors(path, words=["new york"]).matrix)
    ('dog', 'new york')
    [[0. 1. 0.]]
    """
    place = Path(path)
    if first is not None and first < 1:
        raise VectorError(f"first: expected at least 1 word, or None for all; got {first}")
    if on_error not in ("raise", "skip"):
        raise VectorError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    spell = speller(lower=lower, normalize_unicode=normalize_unicode)
    wanted = None if words is None else {spell(word) for word in words}
    if wanted is not None and not wanted:
        raise VectorError(f"{place}: words is empty; expected the words to look for, or None for all")
    if (place / "words.json").is_file():
        saved = Vectors.open(place)
        if wanted is None and all(spell(word) == word for word in saved.words):
            return saved if first is None else saved.first(first)
    reading = Reading(str(place), spell, first=first, words=wanted, on_error=on_error)
    try:
        _read(reading, place)
    except READ_ERRORS as error:
        raise VectorError(f"{place}: cannot be read: {error or type(error).__name__}; is the file whole?") from error
    return reading.vectors(place.name)


def _read(reading: Reading, path: Path) -> None:
    if path.is_dir():
        _read_folder(reading, path)
        return
    suffix = inner_suffix(path)
    if suffix in _PICKLES:
        raise VectorError(f"{path}: {suffix} files are programs as much as data; export word2vec text and read that")
    if suffix == ".npy":
        read_matrix(reading, path)
    elif suffix != ".bin":
        with opened(path) as file:
            read_text(reading, file)
    elif path.suffix == ".bin" and _begins(path) == FASTTEXT_MAGIC:
        read_fasttext(reading, path)
    else:
        with opened(path) as file:
            read_word2vec(reading, file)


def _read_folder(reading: Reading, path: Path) -> None:
    if (path / "words.json").is_file():
        saved = Vectors.open(path)
        for word, row in zip(saved.words, saved.matrix, strict=True):
            wanted = reading.wants(word)
            if wanted is not None:
                reading.add(wanted, row)
            if reading.done:
                return
        return
    # A pipeline, its package with the version in between, or its `vocab` folder.
    found = [path, *sorted(path.glob("vocab")), *sorted(path.glob("*/vocab"))]
    vocab = next((folder for folder in found if (folder / "vectors").exists() and (folder / "key2row").exists()), None)
    if vocab is None:
        raise VectorError(
            f"{path}: no vectors; expected words.json and matrix.npy, or a spaCy pipeline with vocab/vectors"
        )
    read_spacy(reading, vocab)


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(FASTTEXT_MAGIC))


def write_vectors(path: str | os.PathLike[str], vectors: Vectors) -> Path:
    """Write word2vec text, whole or not at all; `.gz`, `.bz2` and `.xz` pack it. Numbers come back exactly as they were.

    Raises:
        VectorError: a word that the format cannot hold, a name that says another format, or the file cannot be written.
    """
    target = Path(path)
    suffix = inner_suffix(target)
    if suffix in {".bin", ".npy", *_PICKLES}:
        raise VectorError(f"{target}: this writes text; name the file .vec, or use Vectors.save for a matrix")
    for row, word in enumerate(vectors.words):
        if not word or word != word.strip(" \r") or "\n" in word or "\t" in word or "  " in word:
            raise VectorError(
                f"{target}: word {row}, {word!r}, is empty or has blanks that the text format cannot hold"
            )
    staged = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    line = "%s" + " %.9g" * vectors.dim + "\n"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened(staged, "xb", packing=target.suffix) as file:
            file.write(f"{len(vectors)} {vectors.dim}\n".encode())
            for word, numbers in zip(vectors.words, vectors.matrix, strict=True):
                file.write((line % (word, *numbers.tolist())).encode())
        staged.replace(target)
    except (OSError, UnicodeEncodeError) as error:
        raise VectorError(f"{target}: cannot write the vectors: {error}") from error
    finally:
        staged.unlink(missing_ok=True)
    return target
