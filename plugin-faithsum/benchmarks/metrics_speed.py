"""Milliseconds per (source, summary) pair of each metric, on texts made from a seed: `python metrics_speed.py [--embedding]`.

Every source is scored with four summaries, as rated sets have them; the first pass counts, so tokenising is in it.
"""

from __future__ import annotations

import argparse
import random
import time

from fascicle_faithsum.metrics import LEXICAL, metric


def texts(pairs: int, seed: int) -> tuple[list[str], list[str]]:
    """Sources of 30 sentences of 20 words, summaries of 3 sentences cut from them with one word in five changed."""
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(4000)]
    sources, summaries = [], []
    for _ in range(pairs // 4):
        article = [[draw.choice(vocabulary) for _ in range(20)] for _ in range(30)]
        for _ in range(4):
            chosen = [
                [w if draw.random() < 0.8 else draw.choice(vocabulary) for w in s] for s in draw.sample(article, 3)
            ]
            sources.append(" ".join(" ".join(s).capitalize() + "." for s in article))
            summaries.append(" ".join(" ".join(s).capitalize() + "." for s in chosen))
    return sources, summaries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedding", action="store_true", help="also the metrics that need MiniLM, on 20 pairs")
    options = parser.parse_args()
    names = [*LEXICAL, "numbers", "entities", "negations"]
    for i, name in enumerate(names):  # other texts for each, so that none finds the analysis of the one before
        sources, summaries = texts(options.pairs, options.seed + 1000 * i)
        start = time.perf_counter()
        metric(name)(sources, summaries)
        print(f"{name:<24} {1e3 * (time.perf_counter() - start) / len(sources):8.2f} ms per pair")
    for name in ("embedding_precision", "embedding_sentence") if options.embedding else ():
        sources, summaries = texts(20, options.seed)
        metric(name)(["warm up"], ["warm up"])
        start = time.perf_counter()
        metric(name)(sources, summaries)
        print(f"{name:<24} {1e3 * (time.perf_counter() - start) / len(sources):8.2f} ms per pair")


if __name__ == "__main__":
    main()
