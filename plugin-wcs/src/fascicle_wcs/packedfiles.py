"""Files that may be packed: `.gz`, `.bz2` and `.xz` at the end of a name are read and written through. Our choice."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal, cast

__all__ = ["READ_ERRORS", "inner_suffix", "opened"]

_PACKED: dict[str, Callable[..., object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What a missing, broken or cut-off file raises while it is read."""


def inner_suffix(path: Path) -> str:
    """The suffix that says the format.

    >>> inner_suffix(Path("en.vec.gz")), inner_suffix(Path("en.bin"))
    ('.vec', '.bin')
    """
    return path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix


def opened(path: Path, mode: Literal["rb", "xb"] = "rb", *, packing: str | None = None) -> IO[bytes]:
    """Open for reading, or for writing a new file; `packing` replaces the suffix of `path`."""
    opener = _PACKED.get(path.suffix if packing is None else packing)
    return cast("IO[bytes]", opener(path, mode) if opener else path.open(mode))
