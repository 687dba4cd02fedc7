"""Word states on disk: one memory-mapped matrix that a killed run goes on filling.

Our choice; the paper does not say how states are kept. A folder holds `states.npy` and `progress.json`; the latter says whose
states they are and how many rows are done, and is written after those rows are safely on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fascicle.results import atomic_write_text

from .errors import StatesError

__all__ = ["WordStore"]

_MATRIX = "states.npy"
_PROGRESS = "progress.json"
_FORMAT = "fascicle-wcs states 1"


class WordStore:
    """A matrix in a folder, filled in an order that its user keeps to; rows that no `commit` followed are done again.

    One process at a time may write to a folder.

    Args:
        folder: made where it is missing.
        key: what the rows depend on, as JSON values: words, model, layers, and so on.
        shape: of the matrix, rows first.
        dtype: `float16` or `float32`; float16 halves the file and ends at 65504.

    Raises:
        StatesError: the folder holds other states (the message says what differs), is damaged, or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = WordStore(folder, {"model": "a"}, (2, 3))
    ...     store.put([1], np.ones((1, 3)))
    ...     store.commit(1)
    ...     WordStore(folder, {"model": "a"}, (2, 3)).done
    1
    """

    def __init__(
        self, folder: str | os.PathLike[str], key: Mapping[str, Any], shape: Sequence[int], dtype: str = "float32"
    ) -> None:
        if dtype not in ("float16", "float32"):
            raise StatesError(f"dtype: got {dtype!r}, expected 'float16' or 'float32'")
        self.folder = Path(folder)
        self.key: dict[str, Any] = json.loads(json.dumps({**key, "shape": list(shape), "dtype": dtype}))
        self.done = 0
        """Rows that are safe, counted in the order in which the user puts them."""
        progress = _read(self.folder / _PROGRESS)
        try:
            if progress is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._matrix = np.lib.format.open_memmap(
                    self.folder / _MATRIX, mode="w+", dtype=dtype, shape=tuple(shape)
                )
                self.commit(0)
            else:
                self._refuse_others(progress["key"])
                self.done = int(progress["done"])
                self._matrix = np.load(self.folder / _MATRIX, mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StatesError(
                f"{self.folder}: the states cannot be read or written ({error}); delete the folder if it is damaged"
            ) from error
        if self._matrix.shape != tuple(shape) or self._matrix.dtype != dtype or not 0 <= self.done <= shape[0]:
            raise StatesError(
                f"{self.folder}: {_MATRIX} has shape {self._matrix.shape} and type {self._matrix.dtype}, "
                f"{_PROGRESS} says {tuple(shape)}, {dtype} and {self.done} rows; delete the folder"
            )

    def put(self, rows: Sequence[int], values: np.ndarray) -> None:
        """Write rows (b, ...); they count once `commit` was called.

        Raises:
            StatesError: a number that is not finite in the store's type.
        """
        with np.errstate(over="ignore"):
            kept = np.asarray(values).astype(self._matrix.dtype)
        if not np.isfinite(kept).all():
            raise StatesError(
                f"{self.folder}: a state is not finite in {self._matrix.dtype}; expected dtype='float32' for states beyond 65504"
            )
        self._matrix[list(rows)] = kept

    def commit(self, done: int) -> None:
        """Bring all rows to the disk, then note that the first `done` of them are safe."""
        self._matrix.flush()
        told = {"format": _FORMAT, "done": done, "key": self.key}
        atomic_write_text(self.folder / _PROGRESS, json.dumps(told, indent=1, ensure_ascii=False))
        self.done = done

    def view(self) -> np.ndarray:
        """The matrix, memory-mapped and read-only."""
        loaded: np.ndarray = np.load(self.folder / _MATRIX, mmap_mode="r", allow_pickle=False)
        return loaded

    def _refuse_others(self, found: Mapping[str, Any]) -> None:
        differing = [name for name in {**self.key, **found} if self.key.get(name) != found.get(name)]
        if differing:
            told = "; ".join(f"{n}: {_short(found.get(n))} there, {_short(self.key.get(n))} asked" for n in differing)
            raise StatesError(f"{self.folder}: holds the states of something else ({told}); choose another folder")


def _read(path: Path) -> dict[str, Any] | None:
    """The progress, or None where there is none yet."""
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
        if progress["format"] != _FORMAT or not isinstance(progress["key"], dict):
            raise StatesError(f"{path}: got the format {progress['format']!r}, expected {_FORMAT!r}; delete the folder")
        int(progress["done"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StatesError(f"{path}: cannot be read ({error!r}); delete the folder") from error
    return dict(progress)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
