"""The formats of word vectors: word2vec text and GloVe, word2vec binary, fastText models, spaCy pipelines, a matrix with words.

Source: the formats as their projects write them; what to do with broken lines, twins and zero vectors is our choice. Each reader
hands its words to a `Reading`, which keeps the wanted ones and says when there are enough.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Literal

import numpy as np

from .errors import VectorError
from .vectors import Vectors

__all__ = ["FASTTEXT_MAGIC", "Reading", "read_fasttext", "read_matrix", "read_spacy", "read_text", "read_word2vec"]

log = logging.getLogger("fascicle.wcs")

FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")
"""How a fastText model begins."""

_BLOCK = 4096
"""Rows that are allocated together."""
_LOOK_AHEAD = 100
"""Lines that are looked at to find the width of a file without header."""
_LONGEST_WORD = 1 << 16
"""Bytes; more without a blank is no word but a broken file."""


class Reading:
    """What has been read of a file so far, and what is still wanted.

    Args:
        name: of the file, for messages.
        spell: gives each word its spelling; two words that are spelt the same are twins, the first counts.
        first: look at so many different words only.
        words: keep only these, already spelt.
        on_error: `raise`, or `skip` what is broken and count it.

    >>> reading = Reading("toy", str.lower, words={"dog"})
    >>> [reading.wants(word) for word in ("Cat", "Dog")]
    [None, 'dog']
    >>> reading.add("dog", [1.0, 2.0])
    >>> reading.done, reading.wants("DOG"), reading.twins
    (True, None, 1)
    """

    def __init__(
        self,
        name: str,
        spell: Callable[[str], str],
        *,
        first: int | None = None,
        words: Collection[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.name = name
        self.first = first
        self.wanted = None if words is None else frozenset(words)
        self.twins = 0
        self.zeros = 0
        self.broken_places: list[str] = []
        self._spell = spell
        self._skip = on_error == "skip"
        self._seen: set[str] = set()
        self._words: list[str] = []
        self._blocks: list[np.ndarray] = []

    @property
    def done(self) -> bool:
        """Nothing more is wanted of the file."""
        if self.first is not None and len(self._seen) >= self.first:
            return True
        return self.wanted is not None and len(self._words) >= len(self.wanted)

    def wants(self, raw: str) -> str | None:
        """The word as it is spelt, if its vector is wanted."""
        word = self._spell(raw)
        if word in self._seen:
            self.twins += 1
            return None
        if self.wanted is not None and word not in self.wanted:
            if self.first is not None:
                self._seen.add(word)
            return None
        return word

    def add(self, word: str, numbers: list[float] | np.ndarray) -> None:
        """Keep a wanted word and its vector.

        Raises:
            ValueError: a number is not finite.
        """
        with np.errstate(over="ignore"):
            vector = np.asarray(numbers, dtype=np.float32)
        if not np.isfinite(vector).all():
            raise ValueError("a number is not finite in float32")
        row = len(self._words) % _BLOCK
        if row == 0:
            self._blocks.append(np.empty((_BLOCK, len(vector)), np.float32))
        self._blocks[-1][row] = vector
        self._words.append(word)
        self._seen.add(word)
        self.zeros += not vector.any()

    def broken(self, place: str, what: str) -> None:
        """Note a part of the file that cannot be read.

        Raises:
            VectorError: unless such parts are skipped.
        """
        if not self._skip:
            raise VectorError(f"{self.name}: {place}: {what}; mend it, or read with on_error='skip'")
        self.broken_places.append(place)

    def vectors(self, name: str) -> Vectors:
        """What was kept; everything that was left out is logged with its count.

        Raises:
            VectorError: nothing was kept.
        """
        if self.broken_places:
            log.warning("%s: %d broken, skipped: %s", self.name, len(self.broken_places), _some(self.broken_places))
        if self.twins or self.zeros:
            log.info("%s: %d words again (the first counts), %d zero vectors", self.name, self.twins, self.zeros)
        if not self._words:
            sought = "" if self.wanted is None else f" of the {len(self.wanted)} that were asked for"
            raise VectorError(f"{self.name}: no words{sought}; expected at least one. Is it the right file?")
        if self.wanted is not None and len(self._words) < len(self.wanted):
            log.info("%s: %d of %d words have a vector", self.name, len(self._words), len(self.wanted))
        matrix = np.empty((len(self._words), self._blocks[0].shape[1]), np.float32)
        for start in range(0, len(matrix), _BLOCK):
            block = self._blocks.pop(0)  # freed as it is copied: the vectors are never there twice
            matrix[start : start + _BLOCK] = block[: len(matrix) - start]
        return Vectors(tuple(self._words), matrix, name)


def _some(places: list[str]) -> str:
    return ", ".join(places[:5]) + (", ..." if len(places) > 5 else "")


# ---- text ----------------------------------------------------------------------------------------------------------------


def read_text(reading: Reading, file: IO[bytes]) -> None:
    """Word2vec text, or GloVe's, which has no header: a word and d numbers a line, between blanks or tabs.

    A word may hold blanks: the last d fields are the numbers. Without a header d is what most of the first lines have.

    >>> import io
    >>> reading = Reading("toy.vec", str)
    >>> read_text(reading, io.BytesIO(b"2 3\\ndog 1 2 3\\nnew york 4 5 6\\n"))
    >>> reading.vectors("toy").words
    ('dog', 'new york')
    """
    head = list(islice(file, _LOOK_AHEAD))
    promised, dim = _header_or_width(reading.name, head)
    lines = 0
    for number, raw in enumerate(chain(head, file), 1):
        if number == 1 and promised is not None:
            continue
        if not raw.strip():
            continue
        lines += 1
        try:
            _text_line(reading, raw, dim, first=number == 1)
        except ValueError as error:
            reading.broken(f"line {number}", str(error))
        if reading.done:
            return
    if promised is not None and lines < promised:
        reading.broken("the end", f"{lines} words, but the header promises {promised}: the file may be cut off")


def _header_or_width(name: str, head: list[bytes]) -> tuple[int | None, int]:
    """(words promised by a header, width)."""
    widths = Counter(len(line.split()) - 1 for line in head if line.strip())
    if not widths:
        raise VectorError(f"{name}: the file is empty; expected a word and its numbers in each line")
    fields = head[0].removeprefix(b"\xef\xbb\xbf").split()
    body = Counter(len(line.split()) - 1 for line in head[1:] if line.strip())
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        promised, dim = map(int, fields)
        # Without header, vectors of one number look like headers all the way down.
        if not body or dim == 1 or body.most_common(1)[0][0] != 1:
            if dim < 1:
                raise VectorError(f"{name}: line 1: the header promises vectors of {dim} numbers; expected at least 1")
            return promised, dim
    dim = min(width for width, count in widths.items() if count == max(widths.values()))
    if dim < 1:
        raise VectorError(
            f"{name}: most of the first lines hold one field; expected a word and its numbers in each line"
        )
    return None, dim


def _text_line(reading: Reading, raw: bytes, dim: int, *, first: bool) -> None:
    line = raw.decode("utf-8-sig" if first else "utf-8").strip("\r\n").rstrip(" \t").replace("\t", " ")
    fields = line.rsplit(" ", dim)
    if "" in fields:  # more than one blank between two numbers
        fields = " ".join(filter(None, line.split(" "))).rsplit(" ", dim)
    word, numbers = fields[0], fields[1:]
    if not word or len(numbers) != dim:
        raise ValueError(f"expected a word and {dim} numbers, got {len(line.split())} fields: {_short(line)}")
    wanted = reading.wants(word.strip(" "))
    if wanted is None:
        return
    try:
        reading.add(wanted, list(map(float, numbers)))
    except ValueError as error:
        raise ValueError(f"expected a word and {dim} numbers, got {_short(line)}: {error}") from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 50 else text[:47] + "...")


# ---- binary --------------------------------------------------------------------------------------------------------------


def read_word2vec(reading: Reading, file: IO[bytes]) -> None:
    """Word2vec binary: a line `n d`, then n times a word, a blank and d little-endian float32.

    >>> import io
    >>> reading = Reading("toy.bin", str)
    >>> read_word2vec(reading, io.BytesIO(b"1 2\\ndog " + np.array([1, 2], "<f4").tobytes()))
    >>> reading.vectors("toy").row("dog").tolist()
    [1.0, 2.0]
    """
    header = file.readline(64).split()
    if len(header) != 2 or not all(field.isdigit() for field in header) or int(header[1]) < 1:
        raise VectorError(f"{reading.name}: it begins with {b' '.join(header)[:30]!r}; expected `words dimensions`")
    promised, dim = map(int, header)
    for number, (raw, numbers) in enumerate(_entries(reading.name, file, promised, 4 * dim), 1):
        try:
            wanted = reading.wants(raw.decode("utf-8"))
            if wanted is not None:
                reading.add(wanted, np.frombuffer(numbers, "<f4"))
        except ValueError as error:  # a UnicodeDecodeError is one
            reading.broken(f"word {number}", str(error))
        if reading.done:
            return


def _entries(name: str, file: IO[bytes], count: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    data = b""
    at = 0
    for number in range(1, count + 1):
        while True:
            blank = data.find(b" ", at)
            if 0 <= blank <= len(data) - size - 1:
                break
            more = file.read(1 << 20) if blank >= 0 or len(data) - at <= _LONGEST_WORD else b""
            if not more:
                raise VectorError(f"{name}: it breaks off in word {number} of {count}; is the file whole?")
            data, at = data[at:] + more, 0
        # Some writers end an entry with a line end, others do not.
        yield data[at:blank].lstrip(b"\n"), data[blank + 1 : blank + 1 + size]
        at = blank + 1 + size


def read_fasttext(reading: Reading, path: Path) -> None:
    """A fastText model, by `gensim` or `fasttext`. Words that were asked for get a vector from their character n-grams, too.

    Raises:
        VectorError: neither package is installed, or it cannot read the file.
    """
    vocabulary, vector = _fasttext_model(path)
    if reading.wanted is not None and reading.first is None:
        known = set(vocabulary)
        vocabulary = [w for w in vocabulary if reading.wants(w)] + sorted(reading.wanted - known)
    for word in vocabulary:
        wanted = reading.wants(word)
        if wanted is not None:
            try:
                reading.add(wanted, vector(word))
            except (KeyError, ValueError) as error:
                reading.broken(f"word {word!r}", str(error))
        if reading.done:
            return


def _fasttext_model(path: Path) -> tuple[list[str], Callable[[str], np.ndarray]]:
    try:
        if importlib.util.find_spec("gensim"):
            vectors = importlib.import_module("gensim.models.fasttext").load_facebook_vectors(str(path))
            return list(vectors.index_to_key), vectors.get_vector
        if importlib.util.find_spec("fasttext"):
            model = importlib.import_module("fasttext").load_model(str(path))
            return list(model.get_words(on_unicode_error="replace")), model.get_word_vector
    except (OSError, ValueError, EOFError, NotImplementedError) as error:
        raise VectorError(f"{path}: a fastText model that cannot be read: {error}") from error
    raise VectorError(f"{path}: a fastText model; to read it: pip install gensim. Its .vec file needs nothing")


# ---- matrices and pipelines ----------------------------------------------------------------------------------------------


def read_matrix(reading: Reading, path: Path) -> None:
    """An `.npy` matrix (n, d), memory-mapped, and beside it the n words, one a line, in NAME.txt, NAME.words or words.txt."""
    candidates = (path.with_suffix(".txt"), path.with_suffix(".words"), path.with_name("words.txt"))
    listed = next((file for file in candidates if file.is_file()), None)
    if listed is None:
        raise VectorError(f"{path}: no words beside it; expected one a line in {', '.join(c.name for c in candidates)}")
    try:
        words = listed.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:  # a UnicodeDecodeError is one
        raise VectorError(
            f"{path} or {listed.name}: {error}; expected a plain matrix and its words in UTF-8"
        ) from error
    if matrix.ndim != 2 or len(matrix) != len(words) or matrix.dtype.kind not in "fiu" or matrix.shape[1] < 1:
        raise VectorError(
            f"{path}: a matrix of {matrix.dtype} {matrix.shape}, but {listed.name} has {len(words)} words; "
            f"expected real numbers ({len(words)}, d)"
        )
    _rows(reading, words, matrix)


def read_spacy(reading: Reading, vocab: Path) -> None:
    """The `vocab` folder of a spaCy pipeline, by `spacy`. Words stand in the order of their rows; some share one.

    Raises:
        VectorError: spaCy is not installed, or there are no vectors of words.
    """
    if not importlib.util.find_spec("spacy"):
        raise VectorError(f"{vocab}: vectors of a spaCy pipeline; to read them: pip install spacy")
    try:
        read = importlib.import_module("spacy.vocab").Vocab().from_disk(vocab)
    except (OSError, ValueError, KeyError) as error:
        raise VectorError(f"{vocab}: spaCy cannot read it: {error}") from error
    if getattr(read.vectors, "mode", "default") != "default":
        raise VectorError(f"{vocab}: {read.vectors.mode} vectors have no word list; expected a pipeline with one")
    key2row = sorted(read.vectors.key2row.items(), key=lambda item: item[1])
    known = [(read.strings[key], row) for key, row in key2row if key in read.strings and row >= 0]
    if not known:
        raise VectorError(f"{vocab}: no vectors; `sm` pipelines have none, `md` and `lg` do")
    _rows(reading, [word for word, _ in known], read.vectors.data, [row for _, row in known])


def _rows(reading: Reading, words: list[str], matrix: np.ndarray, rows: list[int] | None = None) -> None:
    for number, (word, row) in enumerate(zip(words, range(len(words)) if rows is None else rows, strict=True), 1):
        try:
            wanted = reading.wants(word)
            if wanted is not None:
                reading.add(wanted, matrix[row])
        except ValueError as error:
            reading.broken(f"word {number}", str(error))
        if reading.done:
            return
