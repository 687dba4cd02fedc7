"""Static word vectors from the wheel `wordllama`: a word is the mean of its tokens' vectors.

Source: WordLlama (MIT), a codebook trained from LLaMA-2's token embeddings. The paper does not use it; it gives two languages
vectors in one space without a large model. Only the wheel's data files are read, none of its code runs.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import VectorError
from .vectors import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["wordllama_vectors"]

log = logging.getLogger("fascicle.wcs")

_DIM = 256
"""Width of the wheel's codebook."""
_CHUNK = 4096
"""Words whose token vectors are in memory together."""


def wordllama_vectors(
    words: Sequence[str], *, folder: str | os.PathLike[str] | None = None, name: str = "wordllama"
) -> Vectors:
    """Vectors (n, 256) of any words, in their order; a word without tokens is left out and logged.

    Args:
        words: different words, of any language.
        folder: holds the codebook (`*.safetensors`) and the tokenizer (`*.json`), also in folders below; None finds the wheel.
        name: of the vectors.

    Raises:
        VectorError: the wheel is not installed, or the folder does not hold what is needed.
    """
    place = _installed() if folder is None else Path(folder)
    codebook, tokenizer = _codebook(place), _tokenizer(place)
    matrix = np.zeros((len(words), codebook.shape[1]), np.float32)
    lengths = np.zeros(len(words), np.int64)
    for start in range(0, len(words), _CHUNK):
        part = slice(start, start + _CHUNK)
        ids = [encoded.ids for encoded in tokenizer.encode_batch(list(words[part]), add_special_tokens=False)]
        lengths[part] = [len(of_word) for of_word in ids]
        matrix[part] = _sums(codebook, ids, place)
    known = lengths > 0
    if not known.all():
        log.info("%s: %d words have no tokens and are left out", name, np.count_nonzero(~known))
    kept = tuple(word for word, has_tokens in zip(words, known, strict=True) if has_tokens)
    return Vectors(kept, matrix[known] / lengths[known, None].astype(np.float32), name)


def _sums(codebook: np.ndarray, ids: list[list[int]], place: Path) -> np.ndarray:
    """Sum of each word's token vectors."""
    flat = np.fromiter(chain.from_iterable(ids), np.int64)
    if flat.size and flat.max() >= len(codebook):
        raise VectorError(
            f"{place}: token {flat.max()}, but the codebook has {len(codebook)} rows; they belong to two models"
        )
    word = np.repeat(np.arange(len(ids)), [len(of_word) for of_word in ids])
    sums = np.zeros((len(ids), codebook.shape[1]), np.float32)
    np.add.at(sums, word, codebook[flat])
    return sums


def _installed() -> Path:
    found = importlib.util.find_spec("wordllama")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise VectorError(
            "wordllama vectors: to have them: pip install --no-deps wordllama, or name a folder with its files"
        )
    return Path(places[0])


def _codebook(folder: Path) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    found: list[tuple[Path, str]] = []
    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as tensors:
                shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118 - no mapping
                found += [(file, key) for key, shape in shapes.items() if len(shape) == 2 and shape[1] == _DIM]
        except (OSError, SafetensorError) as error:
            raise VectorError(f"{file}: cannot be read: {error}") from error
    if len(found) != 1:
        raise VectorError(
            f"{folder}: {len(found)} tensors of {_DIM} columns in its *.safetensors; expected 1, the codebook"
        )
    file, key = found[0]
    with safe_open(file, framework="np") as tensors:
        return np.asarray(tensors.get_tensor(key), dtype=np.float32)


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise VectorError("wordllama vectors: to read their tokenizer: pip install tokenizers") from error
    # A tokenizer is told from other JSON files by what is in it.
    files = [file for file in sorted(folder.rglob("*.json")) if b'"vocab"' in file.read_bytes()]
    if len(files) != 1:
        raise VectorError(f"{folder}: {len(files)} *.json files with a vocabulary; expected 1, the tokenizer")
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(files[0]))
    except Exception as error:  # the library raises no class of its own
        raise VectorError(f"{files[0]}: not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
