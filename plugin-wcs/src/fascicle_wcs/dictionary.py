"""Bilingual dictionaries: the pairs that a map is fitted on, and the answers that count as right.

Source: the paper takes MUSE's dictionaries; their split by source word is Conneau et al. 2018's. The other formats and every check
are our choice. A word may have several translations; an answer is right if it is any of them.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import DictionaryError
from .packedfiles import READ_ERRORS, opened
from .spelling import speller

if TYPE_CHECKING:
    import numpy as np

    from .spelling import NormalForm
    from .vectors import Vectors

__all__ = [
    "Columns",
    "Coverage",
    "Dictionary",
    "Overlap",
    "check_overlap",
    "drop_overlap",
    "most_frequent",
    "overlap",
    "read_dictionary",
]

log = logging.getLogger("fascicle.wcs")

Pair = tuple[str, str]
Columns = Literal["auto", "source-target", "target-source"] | tuple[int | str, int | str]
"""Where the (source, target) words stand: in two columns in this order, or in columns by number from 0 or by name in line 1."""

_SOURCE_NAMES = {"source", "src", "source_word", "word"}
_TARGET_NAMES = {"target", "tgt", "trg", "target_word", "translation"}


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a test dictionary shares with the training dictionary."""

    sources: int
    """Source words of the test that are trained on."""
    pairs: int
    """Whole pairs of the test that are trained on."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a dictionary has vectors.

    >>> print(Coverage(sources=4, sources_found=3, targets=5, targets_found=5, pairs=6, pairs_found=3))
    3 of 4 source words, 5 of 5 target words, 3 of 6 pairs have vectors
    """

    sources: int
    sources_found: int
    targets: int
    targets_found: int
    pairs: int
    pairs_found: int
    """Pairs with both vectors."""

    def __str__(self) -> str:
        return (
            f"{self.sources_found} of {self.sources} source words, {self.targets_found} of {self.targets} target words, "
            f"{self.pairs_found} of {self.pairs} pairs have vectors"
        )


@dataclass(frozen=True)
class Dictionary:
    """Pairs of a source and a target word, the source words in frequency order; no pair stands twice.

    Args:
        pairs: (source, target).
        name: what to call it in messages, e.g. the file.

    Raises:
        DictionaryError: a word is empty, or a pair stands twice.

    >>> fr_en = Dictionary((("chat", "cat"), ("les", "the"), ("chat", "chat")))
    >>> len(fr_en), fr_en.sources(), fr_en.gold()["chat"]
    (3, ('chat', 'les'), ('cat', 'chat'))
    """

    pairs: tuple[Pair, ...]
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple((source, target) for source, target in self.pairs))
        for number, pair in enumerate(self.pairs):
            if not all(pair):
                raise DictionaryError(f"{self._called}pair {number} is {pair}; expected two words")
        again, times = next(iter(Counter(self.pairs).most_common(1)), (None, 0))
        if times > 1:
            raise DictionaryError(f"{self._called}the pair {again} stands twice; give every pair once")

    @property
    def _called(self) -> str:
        return f"{self.name}: " if self.name else ""

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __repr__(self) -> str:
        return f"Dictionary({self.name!r}, {len(self)} pairs, {len(self._gold)} source words)"

    @cached_property
    def _gold(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for source, target in self.pairs:
            found.setdefault(source, []).append(target)
        return {source: tuple(targets) for source, targets in found.items()}

    def gold(self) -> dict[str, tuple[str, ...]]:
        """Each source word's translations, in order."""
        return dict(self._gold)

    def sources(self) -> tuple[str, ...]:
        """The source words, each once, in order."""
        return tuple(self._gold)

    def inverse(self) -> Dictionary:
        """The other direction, in the same order.

        >>> Dictionary((("chat", "cat"), ("les", "the"))).inverse().pairs
        (('cat', 'chat'), ('the', 'les'))
        """
        return Dictionary(tuple((target, source) for source, target in self.pairs), self.name)

    def first(self, n: int) -> Dictionary:
        """All pairs of the first n source words; the paper fits on 1000.

        >>> Dictionary((("a", "x"), ("b", "y"), ("a", "z"))).first(1).pairs
        (('a', 'x'), ('a', 'z'))
        """
        return self._of(set(self.sources()[: max(n, 0)]))

    def split(self, train: int = 5000, test: int = 1500) -> tuple[Dictionary, Dictionary]:
        """Pairs of the first `train` source words, and of the `test` source words after them, as MUSE splits.

        Raises:
            DictionaryError: nothing is left for one of the two.

        >>> train, test = Dictionary((("a", "x"), ("b", "y"), ("a", "z"))).split(1, 1)
        >>> train.pairs, test.pairs
        ((('a', 'x'), ('a', 'z')), (('b', 'y'),))
        """
        sources = self.sources()
        if train < 1 or test < 1 or len(sources) <= train:
            raise DictionaryError(
                f"{self._called}{len(sources)} source words cannot be split into {train} for training and {test} for the test; "
                f"choose two counts of at least 1 that together are at most {len(sources)}"
            )
        if len(sources) < train + test:
            log.warning(
                "%sonly %d source words are left for the test, not %d", self._called, len(sources) - train, test
            )
        return self._of(set(sources[:train])), self._of(set(sources[train : train + test]))

    def one_to_one(self) -> Dictionary:
        """Each word once on either side: a pair stays if neither of its words is in an earlier pair that stays.

        >>> Dictionary((("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"))).one_to_one().pairs
        (('a', 'x'), ('b', 'z'))
        """
        sources: set[str] = set()
        targets: set[str] = set()
        kept: list[Pair] = []
        for source, target in self.pairs:
            if source not in sources and target not in targets:
                sources.add(source)
                targets.add(target)
                kept.append((source, target))
        return Dictionary(tuple(kept), self.name)

    def first_targets(self) -> Dictionary:
        """Each source word with its first translation only; a target word may stand with several source words."""
        return Dictionary(tuple((source, targets[0]) for source, targets in self._gold.items()), self.name)

    def without_identical(self) -> Dictionary:
        """Without the source words that are a translation of themselves: they can be right without any map.

        >>> Dictionary((("chat", "cat"), ("chat", "chat"), ("les", "the"))).without_identical().pairs
        (('les', 'the'),)
        """
        return self._of({source for source, targets in self._gold.items() if source not in targets})

    def rows(self, source_vectors: Vectors, target_vectors: Vectors) -> np.ndarray:
        """Row numbers (k, 2) int64 of the pairs that have both vectors, in order; what has none is logged with counts.

        Raises:
            DictionaryError: no pair has both.

        >>> import numpy as np
        >>> from fascicle_wcs.vectors import Vectors
        >>> fr, en = Vectors(("les", "chat"), np.eye(2)), Vectors(("the", "dog", "cat"), np.eye(3))
        >>> Dictionary((("chat", "cat"), ("les", "the"), ("ours", "bear"))).rows(fr, en).tolist()
        [[1, 2], [0, 0]]
        """
        import numpy as np

        source, target = source_vectors.index, target_vectors.index
        rows = [(source[s], target[t]) for s, t in self.pairs if s in source and t in target]
        coverage = self.coverage(source_vectors, target_vectors)
        if not rows:
            raise DictionaryError(
                f"{self._called}{coverage}: {_some(self.sources())} against vectors of {_some(source_vectors.words)}; are the "
                "columns in the right order (columns='target-source'), is the case the same (lower=True)?"
            )
        if len(rows) < len(self):
            log.info("%s%s", self._called, coverage)
        return np.array(rows, dtype=np.int64)

    def coverage(self, source_vectors: Vectors, target_vectors: Vectors) -> Coverage:
        """How many of the words and pairs have vectors; words count once."""
        source, target = source_vectors.index, target_vectors.index
        targets = {t for _, t in self.pairs}
        return Coverage(
            sources=len(self._gold),
            sources_found=sum(s in source for s in self._gold),
            targets=len(targets),
            targets_found=sum(t in target for t in targets),
            pairs=len(self),
            pairs_found=sum(s in source and t in target for s, t in self.pairs),
        )

    def _of(self, sources: set[str]) -> Dictionary:
        return Dictionary(tuple(pair for pair in self.pairs if pair[0] in sources), self.name)


def _some(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:3])) + (", ..." if len(words) > 3 else "")


# ---- training and test ---------------------------------------------------------------------------------------------------


def overlap(train: Dictionary, test: Dictionary) -> Overlap:
    """Count what the test shares with the training.

    >>> overlap(Dictionary((("a", "x"), ("b", "y"))), Dictionary((("a", "x"), ("b", "z"))))
    Overlap(sources=2, pairs=1)
    """
    return Overlap(
        sources=len(set(train.sources()) & set(test.sources())), pairs=len(set(train.pairs) & set(test.pairs))
    )


def check_overlap(train: Dictionary, test: Dictionary) -> Overlap:
    """As `overlap`, with a warning in the log if anything is shared."""
    shared = overlap(train, test)
    if shared.sources:
        log.warning(
            "%d of %d source words and %d of %d pairs of the test are trained on; drop_overlap takes them out of the training",
            shared.sources,
            len(test.sources()),
            shared.pairs,
            len(test),
        )
    return shared


def drop_overlap(train: Dictionary, test: Dictionary) -> Dictionary:
    """The training dictionary without the test's source words.

    >>> drop_overlap(Dictionary((("a", "x"), ("b", "y"))), Dictionary((("a", "z"),))).pairs
    (('b', 'y'),)
    """
    return train._of(set(train.sources()) - set(test.sources()))


# ---- files ---------------------------------------------------------------------------------------------------------------


def read_dictionary(
    path: str | os.PathLike[str],
    *,
    columns: Columns = "auto",
    lower: bool = False,
    normalize_unicode: NormalForm | None = "NFC",
    on_error: Literal["raise", "skip"] = "raise",
) -> Dictionary:
    """Read a dictionary of MUSE, XLING or PanLex: a pair a line, between tabs or blanks, with or without header.

    A file with tabs is split at tabs only, so that its words may hold blanks. Blank lines are passed over, as are comments: lines
    that begin with `# `, or with `#` and hold no pair (`#the` is a word of MUSE's). Pairs that come again are left out and
    counted. The file may be packed (`.gz`, `.bz2`, `.xz`).

    Args:
        path: the file.
        columns: where the words stand, see `Columns`. `auto` goes by a header that names them (`source` and `target`, `src` and
            `tgt`, `word` and `translation`, ...), else the source words are first: without header no file tells its direction.
        lower: spell words in lower case, as MUSE does.
        normalize_unicode: Unicode's normal form for the words; None leaves them.
        on_error: a broken line raises, or is skipped, counted and logged.

    Raises:
        DictionaryError: the file is missing or malformed, with the line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "fr-en.tsv")
    ...     _ = path.write_text("chat\\tcat\\npomme de terre\\tpotato\\n", encoding="utf-8")
    ...     read_dictionary(path).pairs
    (('chat', 'cat'), ('pomme de terre', 'potato'))
    """
    file = Path(path)
    if on_error not in ("raise", "skip"):
        raise DictionaryError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    lines = _lines(file)
    layout = _layout(file, columns, list(lines.values()))
    spell = speller(lower=lower, normalize_unicode=normalize_unicode)
    pairs: list[Pair] = []
    broken: list[str] = []
    for number, line in list(lines.items())[layout.header :]:
        try:
            pair = _pair(layout, line)
        except ValueError as error:
            if on_error == "raise":
                raise DictionaryError(f"{file}: line {number}: {error}; mend it, or on_error='skip'") from error
            broken.append(str(number))
            continue
        if pair is not None:
            pairs.append((spell(pair[0]), spell(pair[1])))
    once = tuple(dict.fromkeys(pairs))
    if broken:
        log.warning("%s: %d broken lines, skipped: %s", file, len(broken), _some(broken))
    if len(once) < len(pairs):
        log.info("%s: %d pairs stand again and count once", file, len(pairs) - len(once))
    if not once:
        raise DictionaryError(f"{file}: no pairs; expected a source and a target word in each line")
    return Dictionary(once, file.name)


@dataclass(frozen=True, slots=True)
class _Layout:
    source: int
    target: int
    header: bool
    separator: str | None
    """None: blanks."""
    exact: bool
    """There are no other columns."""


def _lines(file: Path) -> dict[int, str]:
    """Lines that are neither blank nor plainly comments, by their number from 1."""
    try:
        with opened(file) as stream:
            raw = stream.read()
    except READ_ERRORS as error:
        raise DictionaryError(f"{file}: cannot be read: {error or type(error).__name__}") from error
    lines: dict[int, str] = {}
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise DictionaryError(f"{file}: line {number}: not UTF-8 ({error}); convert the file") from error
        if text.strip() and not text.startswith("# "):
            lines[number] = text
    return lines


def _layout(file: Path, columns: Columns, lines: list[str]) -> _Layout:
    separator = "\t" if any("\t" in line for line in lines) else None
    names = [name.strip() for name in lines[0].split(separator)] if lines else []
    if isinstance(columns, tuple) and len(columns) == 2:
        source, target = (_place(file, column, names) for column in columns)
        if source == target:
            raise DictionaryError(f"columns: source and target are the same column, {columns!r}")
        return _Layout(source, target, any(isinstance(column, str) for column in columns), separator, exact=False)
    if columns not in ("auto", "source-target", "target-source"):
        raise DictionaryError(
            f"columns: expected 'auto', 'source-target', 'target-source' or two columns, got {columns!r}"
        )
    sources, targets = (
        [place for place, name in enumerate(names) if name.lower() in known] for known in (_SOURCE_NAMES, _TARGET_NAMES)
    )
    if columns == "auto" and len(sources) == len(targets) == 1:
        return _Layout(sources[0], targets[0], header=True, separator=separator, exact=False)
    source = int(columns == "target-source")
    return _Layout(source, 1 - source, header=False, separator=separator, exact=True)


def _place(file: Path, column: int | str, names: list[str]) -> int:
    if isinstance(column, int):
        if column < 0:
            raise DictionaryError(f"columns: expected a name, or a number from 0, got {column}")
        return column
    if names.count(column) != 1:
        raise DictionaryError(
            f"{file}: {names.count(column)} columns are named {column!r} in the first line; there are {', '.join(names)}"
        )
    return names.index(column)


def _pair(layout: _Layout, line: str) -> Pair | None:
    """The pair of a line; None of a comment."""
    fields = [part.strip() for part in line.split(layout.separator)]
    shown = repr(line if len(line) <= 60 else line[:57] + "...")
    needed = max(layout.source, layout.target) + 1
    if line.startswith("#") and len(fields) < needed:
        return None
    if layout.separator is None and (len(fields) < needed or (layout.exact and len(fields) > needed)):
        raise ValueError(
            f"expected two words with a blank between them, got {shown}; words that hold blanks need a tab"
        )
    if layout.exact and len(fields) > needed:
        raise ValueError(f"expected two words, got {len(fields)} columns: {shown}; say which, e.g. columns=(0, 1)")
    if len(fields) < needed or not (fields[layout.source] and fields[layout.target]):
        raise ValueError(f"expected a source and a target word with a tab between them, got {shown}")
    return fields[layout.source], fields[layout.target]


# ---- frequent words ------------------------------------------------------------------------------------------------------


def most_frequent(language: str, n: int) -> tuple[str, ...]:
    """The n most frequent words of a language, from the package `wordfreq`: source words for dictionary augmentation.

    Args:
        language: ISO code, e.g. `fr`.
        n: how many; fewer if its list is shorter.

    Raises:
        DictionaryError: the package is not installed, or does not know the language.
    """
    try:
        import wordfreq
    except ImportError as error:
        raise DictionaryError(f"frequent words of {language!r}: to have them: pip install wordfreq") from error
    try:
        words = wordfreq.top_n_list(language, n)
    except LookupError as error:
        raise DictionaryError(
            f"wordfreq knows no language {language!r}; it knows {', '.join(sorted(wordfreq.available_languages()))}"
        ) from error
    spell = speller()
    return tuple(dict.fromkeys(spell(word) for word in words))
