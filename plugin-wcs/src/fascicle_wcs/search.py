"""The largest inner products of each row, exactly and in bounded memory: the one operation under all retrieval.

Our choice; the paper does not say how it retrieves. Two steps:

1. candidates: products come in tiles, no matrix of all of them is ever held. The k best of a tile are found through the maxima of
   short chunks of columns: the k chunks with the largest maxima hold k best scores, so that only those are looked at closely, and
   the search costs little more than the matrix product.
2. scores: a product inside a tile is rounded in a way that depends on its place there, so that two equal vectors may get unequal
   products. A few candidates more than asked for are therefore scored once more, in double precision and each pair on its own.
   What is returned depends neither on the backend nor on the size of tiles and batches, and equal scores are ranked by index.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import numpy as np

from .errors import VectorError, WcsError

__all__ = [
    "MARGIN",
    "MEMORY",
    "Backend",
    "candidates",
    "cosines",
    "products",
    "search",
    "tile_shape",
    "top_k",
    "unit_rows",
]

Backend = Literal["auto", "numpy", "torch", "faiss"]
MEMORY = 256 * 2**20
"""Bytes that the tiles of a search may take, beside the vectors themselves."""

MARGIN = 1e-5
"""More than single precision can be wrong by in a product of unit vectors."""

_WIDTH = 2**16  # columns of a tile: wide, as a search pays for its chunks per tile, and enough rows are left for BLAS
_SLAB = 2**20  # scores ranked at a time: about what a processor's cache holds
_LARGE = 10**9  # products from which on it pays to load torch just to look for a GPU


def unit_rows(matrix: np.ndarray, name: str, *, normalized: bool = False) -> np.ndarray:
    """`matrix` (n, d) as float32 rows of length 1; a zero row stays zero.

    Args:
        matrix: of any real type.
        name: of the argument, for errors.
        normalized: the rows have length 1 already; a contiguous float32 matrix is then not copied.

    Raises:
        VectorError: not two dimensions, no columns, or a number that is not finite.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]), "X").tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or not matrix.shape[1] or matrix.dtype.kind not in "fiu":
        raise VectorError(
            f"{name}: expected a real matrix (n, d) of vectors, got {matrix.dtype} of shape {matrix.shape}"
        )
    if normalized:
        with np.errstate(all="ignore"):
            _finite(matrix.sum(axis=1), name)  # what is not finite stays so in a sum
        return np.ascontiguousarray(matrix, dtype=np.float32)
    units = np.empty(matrix.shape, np.float32)
    step = max(1, _SLAB // matrix.shape[1])
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step].astype(np.float64)
        with np.errstate(all="ignore"):
            largest = np.abs(block).max(axis=1, keepdims=True)
            _finite(largest[:, 0], name, start)
            block /= np.where(largest > 0, largest, 1)  # squares of very large or small numbers leave float64's range
            lengths = np.linalg.norm(block, axis=1, keepdims=True)
        units[start : start + step] = block / np.where(lengths > 0, lengths, 1)
    return units


def _finite(per_row: np.ndarray, name: str, start: int = 0) -> None:
    if not np.isfinite(per_row).all():
        row = start + int(np.flatnonzero(~np.isfinite(per_row))[0])
        raise VectorError(
            f"{name}: row {row} has a number that is not finite; leave that word out or read its file again"
        )


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions (n, k) of the k largest `scores` (n, m) of each row, in no order; 1 <= k <= m.

    >>> np.sort(top_k(np.array([[0.0, 2.0, 1.0, 2.0]]), 2))
    array([[1, 3]])
    """
    rows, width = scores.shape
    if k == 1:
        return np.asarray(scores.argmax(axis=1)[:, None])
    if k == width:
        return np.broadcast_to(np.arange(width), scores.shape)
    chunk = 64 if width < 2**14 else 128 if width < 2**16 else 256
    whole = width - width % chunk
    if whole < 4 * k * chunk:
        return np.asarray(np.argpartition(scores, width - k, axis=1)[:, width - k :])
    chunks = scores[:, :whole].reshape(rows, -1, chunk)
    best = np.argpartition(chunks.max(axis=2), chunks.shape[1] - k, axis=1)[:, -k:]
    inside = chunks[np.arange(rows)[:, None], best].reshape(rows, -1)
    found = top_k(np.concatenate([inside, scores[:, whole:]], axis=1), k)
    columns = np.take_along_axis(best, np.minimum(found // chunk, k - 1), axis=1) * chunk + found % chunk
    return np.asarray(np.where(found < k * chunk, columns, found - k * chunk + whole))


def cosines(A: np.ndarray, B: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Products (n, k), float64, of row i of A (n, d) with the rows `index[i]` of B; each depends on its two vectors alone.

    >>> cosines(np.eye(2), np.eye(2), np.array([[0, 1], [0, 1]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    result = np.empty(index.shape)
    step = max(1, _SLAB // (8 * max(1, index.shape[1]) * A.shape[1]))
    for start in range(0, len(A), step):
        at = slice(start, start + step)
        pairs = B[index[at]].astype(np.float64)  # (step, k, d)
        pairs *= A[at, None, :]
        # Not by BLAS, nor einsum: the order in which those add up may depend on the other pairs.
        pairs.sum(axis=2, out=result[at])
    return result


def search(
    A: np.ndarray,
    B: np.ndarray,
    k: int,
    *,
    scale: float = 1.0,
    offset: np.ndarray | None = None,
    backend: Backend = "auto",
    memory: int = MEMORY,
) -> tuple[np.ndarray, np.ndarray]:
    """For each row a of A the k rows b of B with the largest `scale * <a, b> - offset(b)`, largest first; ties by index.

    Args:
        A: (n, d) float32 unit rows; zero rows are fine.
        B: (m, d) float32 unit rows, at least one.
        k: at least 1; at most m are returned.
        scale: positive.
        offset: (m,) float32; without it 0.
        backend: `numpy`, `torch` or `faiss`, the latter two on a GPU where there is one. `auto`: torch for much work where it
            sees a GPU, else numpy, which is the fastest of the three on a CPU.
        memory: bytes for tiles of scores. faiss has a copy of B and tiles of its own.

    Returns:
        (n, k) int64 rows of B and their (n, k) float32 scores.

    Raises:
        WcsError: an unknown backend or one that is not installed, or a k or memory below 1.

    Example:
        >>> A = np.array([[1, 0]], dtype=np.float32)
        >>> B = np.array([[0.5, 0], [1, 0]], dtype=np.float32)
        >>> search(A, B, 1)[0].tolist(), search(A, B, 1, offset=np.array([0, 0.75], np.float32))[0].tolist()
        ([[1]], [[0]])
    """
    k = min(k, len(B))
    backend = _backend(backend, len(A) * len(B))
    offset = np.zeros(len(B), np.float32) if offset is None else offset
    index, scores = np.empty((len(A), k), np.int64), np.empty((len(A), k), np.float32)
    some = A.any(axis=1)
    if not some.all():  # all products of a zero row are 0, ties without end
        index[~some] = np.argsort(offset, kind="stable")[:k]
        scores[~some] = -offset[index[~some]]
    left, more = np.flatnonzero(some), min(k + 8, len(B))
    while len(left):
        unsure = []
        step = max(1, memory // (4 * A.shape[1] + 32 * more))
        for start in range(0, len(left), step):
            rows = left[start : start + step]
            a = A[rows]
            found = candidates(a, B, more, scale=scale, offset=offset, backend=backend, memory=memory)
            score = (scale * cosines(a, B, found) - offset[found]).astype(np.float32)
            order = np.lexsort((found, -score), axis=1)
            index[rows] = np.take_along_axis(found, order[:, :k], axis=1)
            score = np.take_along_axis(score, order, axis=1)
            scores[rows] = score[:, :k]
            unsure.append(rows[score[:, k - 1] - score[:, -1] <= MARGIN * max(1, scale)])
        # Where even the last candidate is all but tied, one that was not asked for could be as good.
        left, more = (np.concatenate(unsure) if more < len(B) else left[:0]), min(8 * more, len(B))
    return index, scores


def candidates(
    A: np.ndarray,
    B: np.ndarray,
    k: int,
    *,
    scale: float = 1.0,
    offset: np.ndarray | None = None,
    backend: Backend = "auto",
    memory: int = MEMORY,
) -> np.ndarray:
    """The rows of B that [`search`] finds, (n, k) int64, but in no order, and ties as single precision has them.

    >>> candidates(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1).tolist()
    [[0], [1]]
    """
    if k < 1 or memory < 1:
        raise WcsError(f"k and memory: expected at least 1, got k={k}, memory={memory}")
    k = min(k, len(B))
    backend = _backend(backend, len(A) * len(B))
    if not len(A):
        return np.empty((0, k), np.int64)
    if offset is not None and scale == 1 and not offset.any():
        offset = None
    if backend == "torch":
        return _torch(A, B, k, scale, offset, memory)
    if backend == "faiss":
        return _faiss(A, B, k, scale, offset, memory)
    return _numpy(A, B, k, scale, offset, memory)


def _backend(backend: Backend, work: int) -> Backend:
    """What `auto` stands for, given the number of products; any other is checked for being installed."""
    if backend == "auto":
        return "torch" if work >= _LARGE and _has_cuda() else "numpy"
    if backend not in ("numpy", "torch", "faiss"):
        raise WcsError(f"backend: got {backend!r}, expected 'auto', 'numpy', 'torch' or 'faiss'")
    if backend != "numpy" and importlib.util.find_spec(backend) is None:
        package = "faiss-cpu" if backend == "faiss" else backend
        raise WcsError(
            f"backend={backend!r} is not installed; run `pip install {package}`, or choose 'numpy' or 'auto'"
        )
    return backend


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def tile_shape(n: int, m: int, memory: int) -> tuple[int, int]:
    """(rows, columns) of a tile of n x m products, so that two tiles fit into `memory`; all are about as wide.

    >>> tile_shape(1000, 100, memory=8 * 100 * 50)
    (50, 100)
    """
    width = -(-m // -(-m // _WIDTH))
    return max(1, min(n, memory // (8 * width))), width


def products(a: np.ndarray, B: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """a (r, d) times B^T (d, c), in the memory of `buffer`: at least r c numbers.

    >>> products(np.eye(2), np.ones((1, 2)), np.empty(4)).tolist()
    [[1.0], [1.0]]
    """
    return np.matmul(a, B.T, out=buffer[: len(a) * len(B)].reshape(len(a), len(B)))


def _numpy(A: np.ndarray, B: np.ndarray, k: int, scale: float, offset: np.ndarray | None, memory: int) -> np.ndarray:
    rows, width = tile_shape(len(A), len(B), memory)
    buffer = np.empty(rows * width, np.float32)
    slab = max(1, _SLAB // width)
    index = np.empty((len(A), k), np.int64)
    for start in range(0, len(A), rows):
        a = A[start : start + rows]
        best = np.empty((len(a), 0), np.float32)  # scores of the best so far
        for left in range(0, len(B), width):
            tile = products(a, B[left : left + width], buffer)
            if offset is not None:
                part = offset[left : left + width]
            columns, values = [], []
            for top in range(0, len(a), slab):
                scores = tile[top : top + slab]
                if offset is not None:  # ranked while they are still in the cache
                    scores *= np.float32(scale)
                    scores -= part
                at = top_k(scores, min(k, scores.shape[1]))
                columns.append(at + left)
                values.append(np.take_along_axis(scores, at, axis=1))
            found = np.concatenate(columns)
            best = np.concatenate([best, np.concatenate(values)], axis=1)
            if left:
                found = np.concatenate([index[start : start + rows, : best.shape[1] - found.shape[1]], found], axis=1)
            at = top_k(best, min(k, best.shape[1]))
            best = np.take_along_axis(best, at, axis=1)
            index[start : start + rows, : best.shape[1]] = np.take_along_axis(found, at, axis=1)
    return index


def _torch(A: np.ndarray, B: np.ndarray, k: int, scale: float, offset: np.ndarray | None, memory: int) -> np.ndarray:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    targets = torch.from_numpy(B).to(device).T
    shift = None if offset is None else torch.from_numpy(offset).to(device)
    step = max(1, memory // (8 * len(B)))
    index = np.empty((len(A), k), np.int64)
    for start in range(0, len(A), step):
        scores = torch.from_numpy(A[start : start + step]).to(device) @ targets
        if shift is not None:
            scores.mul_(scale).sub_(shift)
        index[start : start + step] = scores.topk(k, dim=1, sorted=False).indices.cpu().numpy()
    return index


def _faiss(A: np.ndarray, B: np.ndarray, k: int, scale: float, offset: np.ndarray | None, memory: int) -> np.ndarray:
    """`scale <a, b> - offset(b)` is the inner product of (scale a, -1) and (b, offset(b))."""
    import faiss

    flat: Any = faiss.IndexFlatIP(B.shape[1] + (offset is not None))
    if faiss.get_num_gpus() > 0:
        flat = faiss.index_cpu_to_all_gpus(flat)
    flat.add(B if offset is None else np.hstack([B, offset[:, None]]))
    index = np.empty((len(A), k), np.int64)
    step = max(1, memory // (8 * A.shape[1]))
    for start in range(0, len(A), step):
        a = A[start : start + step]
        asked = a if offset is None else np.hstack([np.float32(scale) * a, np.full((len(a), 1), -1, np.float32)])
        index[start : start + step] = flat.search(asked, k)[1]
    return index
