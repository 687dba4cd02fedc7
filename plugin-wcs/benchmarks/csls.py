"""What exact CSLS costs beside the bare matrix product, and what the lazy one costs beside the full one.

All variants run interleaved on the same vectors, in CPU time of the process; the ratios of medians are what carries over to other
machines. The vectors are made up, two noisy views of words in clusters of many sizes, or read from two files.

    OMP_NUM_THREADS=1 python benchmarks/csls.py --n 20000 --repeats 3
    python benchmarks/csls.py --vectors fr.npy --target en.npy
    python benchmarks/csls.py --memory --n 200000

| line | what |
|---|---|
| product | all n x n products in tiles, kept nowhere |
| hubness | `mean_knn`: r_S of all targets; aim: at most 1.15 products |
| both | `mean_knn_both`: r_S and r_T from one product |
| full | `retrieve`: CSLS of the queries |
| lazy | the same, `mode="lazy"`; aim: at most 0.35 of full |
| induce | `induce`: mutual CSLS neighbours of all words: two products at least |

`--memory` runs one full retrieval in a process of its own and prints how far its peak lies above what the vectors take.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from fascicle_wcs.hubness import mean_knn_both
from fascicle_wcs.retrieval import induce, mean_knn, retrieve
from fascicle_wcs.search import MEMORY, products, tile_shape, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable


def made_up(n: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of n words in two languages: clusters in clusters, a falling spectrum, one common direction; half translate."""
    rng = np.random.default_rng(seed)

    def normal(rows: int) -> np.ndarray:
        return rng.standard_normal((rows, dim), np.float32) * np.arange(1, dim + 1, dtype=np.float32) ** -0.25

    topics, senses = normal(max(1, n // 500)), normal(max(1, n // 20))
    senses += topics[rng.zipf(1.3, len(senses)) % len(topics)]
    words = senses[rng.zipf(1.2, n + n // 2) % len(senses)] + normal(n + n // 2) + 0.3
    source, target = (rows + 0.6 * normal(n) for rows in (words[:n], words[-n:]))
    return unit_rows(source, "source"), unit_rows(rng.permutation(target), "target")


def bare_product(X: np.ndarray, Y: np.ndarray) -> None:
    """What no exact search can do without."""
    rows, width = tile_shape(len(Y), len(X), MEMORY)
    buffer = np.empty(rows * width, np.float32)
    for start in range(0, len(Y), rows):
        for left in range(0, len(X), width):
            products(Y[start : start + rows], X[left : left + width], buffer)


def interleaved(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, one after the other in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            before = time.process_time()
            run()
            seconds[name].append(time.process_time() - before)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def compare(X: np.ndarray, Y: np.ndarray, queries: int, knn: int, k: int, repeats: int) -> None:
    """Prints the table."""
    rows = np.sort(np.random.default_rng(1).choice(len(X), min(queries, len(X)), replace=False))
    stats: dict[str, int] = {}
    found: dict[str, np.ndarray] = {}

    def ask(mode: str) -> None:
        found[mode] = retrieve(X, Y, rows, k=k, knn=knn, mode=mode, backend="numpy", normalized=True, stats=stats)[0]

    seconds = interleaved(
        {
            "product": lambda: bare_product(X, Y),
            "hubness": lambda: mean_knn(Y, X, knn, backend="numpy", normalized=True),
            "both": lambda: mean_knn_both(X, Y, knn),
            "induce": lambda: induce(X, Y, knn=knn, normalized=True),
            "full": lambda: ask("full"),
            "lazy": lambda: ask("lazy"),
        },
        repeats,
    )
    print(f"{len(X)} x {len(Y)}, {X.shape[1]} numbers, {len(rows)} queries, k={k}, knn={knn}, {repeats} repeats\n")
    print("| variant | CPU s | of product | of full |\n|---|---|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {taken:.2f} | {taken / seconds['product']:.2f} | {taken / seconds['full']:.2f} |")
    same = int((found["full"] == found["lazy"]).all(axis=1).sum())
    print(
        f"\nlazy worked out {stats['evaluated']} of {stats['targets']} hubness terms; {same} of {len(rows)} queries as full"
    )


def peak(n: int, dim: int, queries: int) -> None:
    """Prints the peak memory of one retrieval above that of the vectors alone; in this process."""
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((n, dim), np.float32) for _ in range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    retrieve(X, Y, np.arange(min(queries, n)), backend="numpy")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{n} x {n}, {dim} numbers: vectors {2 * 4 * n * dim / 2**20:.0f} MiB; peak {(after - before) / 2**10:.0f} MiB above"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=90_000, help="words on each side of made-up vectors")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1500)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--knn", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--vectors", help="npy file of source vectors, mapped into the target space")
    parser.add_argument("--target", help="npy file of target vectors")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.memory and args.here:
        peak(args.n, args.dim, args.queries)
    elif args.memory:
        shape = ["--n", str(args.n), "--dim", str(args.dim), "--queries", str(args.queries)]
        return subprocess.run([sys.executable, __file__, "--memory", "--here", *shape], check=False).returncode
    else:
        if args.vectors and args.target:
            X, Y = (unit_rows(np.load(path, allow_pickle=False), path) for path in (args.vectors, args.target))
        else:
            X, Y = made_up(args.n, args.dim)
        compare(X, Y, args.queries, args.knn, args.k, args.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
