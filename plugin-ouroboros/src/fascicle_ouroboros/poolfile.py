"""The file of a phrase pool: safetensors with a JSON header, written whole or not at all (our choice).

    keys, key_lengths            int32   every key, least recently used first, one after the other
    bucket_sizes                 int32   phrases under each key
    phrases, phrase_lengths      int32   distinct phrases, one after the other
    phrase                       int32   which phrase, for each place in each bucket, oldest first
    source                       int32   index into the header's `sources`
    accepted, trials             float32 what the target did with it
    depths                       float32 (orders, 2, P): tokens judged and accepted by key length and depth

Nothing in it is executed when it is read. A file is refused unless format, version, checksum, tokenizer and namespace are right.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PoolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .pool import Bucket, Tokens

__all__ = ["FORMAT", "VERSION", "Contents", "read_pool", "write_pool"]

FORMAT = "fascicle-ouroboros/pool"
VERSION = 1
_HEADER = "fascicle"
_ARRAYS = {
    "keys": "int32",
    "key_lengths": "int32",
    "bucket_sizes": "int32",
    "phrases": "int32",
    "phrase_lengths": "int32",
    "phrase": "int32",
    "source": "int32",
    "accepted": "float32",
    "trials": "float32",
    "depths": "float32",
}
_OPTIONS = {"phrase_len": int, "orders": list, "per_key": int, "max_phrases": int, "namespace": str}


@dataclass(frozen=True)
class Contents:
    """What a file holds, checked."""

    options: dict[str, Any]
    """Arguments of `PhrasePool`."""
    table: list[tuple[Tokens, list[tuple[Tokens, tuple[str, float, float]]]]]
    """Each key with its phrases and their (source, accepted, trials)."""
    depths: dict[int, tuple[list[float], list[float]]]
    """Tokens judged and accepted by depth, for each key length."""


def write_pool(
    path: str | os.PathLike[str],
    fingerprint: str,
    options: Mapping[str, Any],
    table: Sequence[tuple[Tokens, Bucket]],
    depths: Mapping[int, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Write a pool's table; `path` holds the old file or the new one, whatever happens.

    Raises:
        PoolError: the file cannot be written.

    >>> import tempfile
    >>> from fascicle_ouroboros.pool import PhrasePool
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "pool.safetensors")
    ...     PhrasePool(phrase_len=2, orders=(1,)).save(path, "tokenizer 1")
    ...     read_pool(path, "tokenizer 1", "").options["phrase_len"]
    2
    """
    import numpy as np
    from safetensors.numpy import save

    from fascicle.errors import ResultError
    from fascicle.results import atomic_write_bytes

    if not isinstance(fingerprint, str) or not fingerprint:
        raise PoolError(f"fingerprint: expected the tokenizer's, a string that is not empty, got {fingerprint!r}.")
    places = [(tokens, fact) for _, bucket in table for tokens, fact in bucket.items()]
    numbers = {tokens: i for i, tokens in enumerate(dict.fromkeys(tokens for tokens, _ in places))}
    sources = sorted({fact[0] for _, fact in places})
    columns: dict[str, Any] = {
        "keys": [token for key, _ in table for token in key],
        "key_lengths": [len(key) for key, _ in table],
        "bucket_sizes": [len(bucket) for _, bucket in table],
        "phrases": [token for tokens in numbers for token in tokens],
        "phrase_lengths": [len(tokens) for tokens in numbers],
        "phrase": [numbers[tokens] for tokens, _ in places],
        "source": [sources.index(fact[0]) for _, fact in places],
        "accepted": [fact[1] for _, fact in places],
        "trials": [fact[2] for _, fact in places],
        "depths": [depths[o] for o in options["orders"]],
    }
    try:
        arrays = {name: np.asarray(columns[name], dtype=kind) for name, kind in _ARRAYS.items()}
    except OverflowError as error:
        raise PoolError(f"{path}: a token id does not fit into 32 bits: {error}.") from error
    header = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": fingerprint,
        "options": dict(options),
        "sources": sources,
    }
    header["checksum"] = _checksum(header, arrays)
    data = save(arrays, metadata={_HEADER: json.dumps(header)})
    try:
        atomic_write_bytes(path, data)
    except ResultError as error:
        reason = error.__cause__ or error
        raise PoolError(
            f"{os.fspath(path)}: the pool was not saved: {reason}. A previous file is untouched. Free some space or choose "
            "another path."
        ) from error


def read_pool(path: str | os.PathLike[str], fingerprint: str, namespace: str) -> Contents:
    """Read and check what `write_pool` wrote.

    Args:
        path: the file.
        fingerprint: of the tokenizer in use.
        namespace: whose pool is expected.

    Raises:
        PoolError: says what came, what was expected and what to do.

    >>> read_pool("nowhere.safetensors", "tokenizer 1", "")
    Traceback (most recent call last):
    ...
    fascicle_ouroboros.errors.PoolError: nowhere.safetensors: no such file. Save a pool there first, or begin with an empty one.
    """
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise PoolError(f"{name}: no such file. Save a pool there first, or begin with an empty one.") from error
    except OSError as error:
        raise PoolError(f"{name}: cannot be read: {error.strerror or error}.") from error
    header, arrays = _open(name, data)
    _same(
        name,
        "tokenizer fingerprint",
        header.get("fingerprint"),
        fingerprint,
        "Load it with the tokenizer it was saved with",
    )
    _same(
        name,
        "namespace",
        header["options"]["namespace"],
        namespace,
        "Name the namespace (namespace=...) if it is yours",
    )
    try:
        return _contents(header, arrays)
    except (IndexError, ValueError, TypeError, KeyError) as error:
        raise _damaged(name, f"its tables do not fit together ({error})") from error


def _open(name: str, data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays of a file whose format, version and checksum are right."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        (size,) = struct.unpack_from("<Q", data)
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_HEADER])
        arrays = load(data)
    except (struct.error, ValueError, KeyError, TypeError, RecursionError, MemoryError, SafetensorError) as error:
        raise _damaged(name, f"no whole safetensors file of a pool ({type(error).__name__}: {error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _damaged(
            name, f"expected format {FORMAT!r}, got {header.get('format') if isinstance(header, dict) else header!r}"
        )
    if header.get("version") != VERSION:
        raise PoolError(
            f"{name}: version: expected {VERSION}, got {header.get('version')!r}. Use the release that wrote it, or begin a new "
            "pool."
        )
    kinds = {key: str(array.dtype) for key, array in arrays.items()}
    if kinds != _ARRAYS:
        raise _damaged(name, f"expected arrays {_ARRAYS}, got {kinds}")
    checksum = header.pop("checksum", None)
    came = _checksum(header, arrays)
    if checksum != came:
        raise _damaged(name, f"expected checksum {str(checksum)[:12]}, got {came[:12]}")
    options = header.get("options")
    if not isinstance(options, dict) or any(not isinstance(options.get(key), kind) for key, kind in _OPTIONS.items()):
        raise _damaged(name, f"expected options {', '.join(_OPTIONS)}, got {options!r}")
    return header, arrays


def _contents(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Contents:
    options = dict(header["options"])
    keys = _split(arrays["keys"], arrays["key_lengths"])
    phrases = _split(arrays["phrases"], arrays["phrase_lengths"])
    sources = header["sources"]
    places = [
        (phrases[i], (str(sources[s]), accepted, trials))
        for i, s, accepted, trials in zip(
            _indices(arrays["phrase"], len(phrases)),
            _indices(arrays["source"], len(sources)),
            arrays["accepted"].tolist(),
            arrays["trials"].tolist(),
            strict=True,
        )
    ]
    buckets = [places[a:b] for a, b in _spans(arrays["bucket_sizes"], len(places))]
    P = options["phrase_len"]
    depths = arrays["depths"].reshape(len(options["orders"]), 2, P).tolist()
    return Contents(
        options=options,
        table=list(zip(keys, buckets, strict=True)),
        depths={o: (reached, accepted) for o, (reached, accepted) in zip(options["orders"], depths, strict=True)},
    )


def _split(flat: NDArray[np.int32], lengths: NDArray[np.int32]) -> list[Tokens]:
    tokens = flat.tolist()
    return [tuple(tokens[a:b]) for a, b in _spans(lengths, len(tokens))]


def _spans(lengths: NDArray[np.int32], total: int) -> Iterable[tuple[int, int]]:
    """(begin, end) of consecutive pieces, which must be positive and add up."""
    import numpy as np

    if lengths.ndim != 1 or (lengths < 1).any() or int(lengths.sum(dtype=np.int64)) != total:
        raise ValueError(f"pieces do not add up to {total}")
    return pairwise([0, *np.cumsum(lengths, dtype=np.int64).tolist()])


def _indices(array: NDArray[np.int32], size: int) -> list[int]:
    if array.ndim != 1 or (array.size and not (int(array.min()) >= 0 and int(array.max()) < size)):
        raise ValueError(f"an index is outside 0 to {size - 1}")
    indices: list[int] = array.tolist()
    return indices


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """sha256 of the header and of every array with its shape."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _same(name: str, what: str, came: Any, expected: str, remedy: str) -> None:
    if came != expected:
        raise PoolError(f"{name}: {what}: expected {expected!r}, the file has {came!r}. {remedy}, or begin a new pool.")


def _damaged(name: str, reason: str) -> PoolError:
    return PoolError(f"{name}: not a whole pool: {reason}. Restore the file, or delete it and begin a new pool.")
