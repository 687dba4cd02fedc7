"""How much CPU time our own Python takes in a round: what is not a forward pass.

A pool of 100,000 phrases is filled; then a text is written round by round as the engine does it: look phrases up, plan, merge
them into a trie, make the mask, take up what was written, tell how the phrases fared. Process CPU time without that of asking for
it, no model. Prints one JSON object; exits with 1 where a bound is passed.

    python benchmarks/round_overhead.py --phrases 100000 --rounds 4000

Text: `--text FILE`, split into words and signs; without it, an artificial one in which words follow each other as in prose (each
word has few successors) and passages return.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fascicle_ouroboros.controller import Controller
from fascicle_ouroboros.costs import CostModel
from fascicle_ouroboros.pool import PhrasePool
from fascicle_ouroboros.tree import ROOT, DraftTree

MEDIAN, P99 = 150.0, 500.0
"""Bounds in µs."""
CPU = {1: 1.0, 2: 1.88, 3: 2.48, 4: 1.86, 6: 1.69, 8: 1.89, 12: 2.57, 16: 2.55, 24: 2.74, 32: 2.55}
"""Relative times of a forward over k tokens, measured on two cores: what the controller plans with here."""
PARTS = ("lookup", "plan", "tree", "mask", "feed", "record", "correct", "observe")


def artificial(n: int, seed: int = 0) -> list[int]:
    """A text of n tokens with the statistics that matter here: skewed words, few successors, returning passages."""
    rng = random.Random(seed)
    successors: dict[int, list[int]] = {}
    text = [0]
    while len(text) < n:
        if len(text) > 500 and rng.random() < 0.02:
            i = rng.randrange(len(text) - 30)
            text += text[i : i + rng.randint(5, 25)]
            continue
        options = successors.setdefault(text[-1], [])
        if not options or rng.random() < 0.35:
            options.append(min(49_000, int(rng.paretovariate(0.6))))
        text.append(rng.choice(options))
    return text[:n]


def words(path: str) -> list[int]:
    """A file's words and signs as numbers."""
    vocabulary: dict[str, int] = {}
    pieces = re.findall(r"\s?\w{1,7}|[^\w\s]|\n", Path(path).read_text("utf-8"))
    return [vocabulary.setdefault(piece, len(vocabulary)) for piece in pieces]


def fill(pool: PhrasePool, text: list[int], phrases: int) -> int:
    """Feed `text` piece by piece until the pool holds `phrases`; how many tokens that took."""
    at = 0
    while len(pool) < phrases and at < len(text):
        pool.feed(text[at : at + 500], 0, "prompt")
        at += 500
    return at


def measure(
    pool: PhrasePool, text: list[int], rounds: int, phrases: int, nodes: int
) -> tuple[list[float], dict[str, list[float]]]:
    """Seconds of whole rounds, and of each part in rounds between them: asking for the time so often takes time itself."""
    cost = CostModel({(k, 0): 0.07 * c for k, c in CPU.items()})
    controller = Controller(cost, phrases=phrases, nodes=nodes)
    whole: list[float] = []
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    clock, rng = time.process_time, random.Random(0)
    asking = statistics.median(-clock() + clock() for _ in range(1000))
    at = 50
    seq = text[:at]  # grows in place, as the engine's does: a copy would sweep the processor's caches
    pool.feed(seq, 0, "prompt")
    for i in range(2 * rounds):
        ask: Callable[[], float] = clock if i % 2 else _no_time
        noise = 0.07 * rng.uniform(0.9, 1.2)
        begin = clock()
        proposals = pool.lookup(seq[-3:], phrases)
        t1 = ask()
        plan = controller.plan(proposals, 10**6, at)
        t2 = ask()
        # The tree is made in full in every round, whatever the plan: the bound is for rounds that draft.
        tree = DraftTree()
        placed = [(p, tree.extend(ROOT, p.tokens, p.source, nodes=nodes)) for p in proposals]
        t3 = ask()
        tree.visible(256, 1)
        t4 = clock()

        node, emitted = ROOT, 1  # the walk stands for the target
        path = set()
        while (below := tree.child(node, text[at + emitted - 1])) is not None:
            node, emitted = below, emitted + 1
            path.add(node)
        seq += text[at : at + emitted]
        answers = [_said(p.tokens, way, path) for p, way in placed]
        seconds = noise * CPU[min(CPU, key=lambda k: abs(k - 1 - plan.nodes))]

        t5 = clock()
        pool.feed(seq, at, "output")
        t6 = ask()
        for phrase, way in placed:
            if way:
                pool.record(phrase, len(way), sum(node in path for node in way))
        t7 = ask()
        for said in answers:
            if said:
                pool.correct(seq[at - 3 : at], said, "corrected")
        t8 = ask()
        controller.observe(plan, fed=1 + plan.nodes, emitted=emitted, seconds=seconds, tokens=seq[at:])
        end = clock()
        at += emitted
        if i % 2:
            spans = (t1 - begin, t2 - t1, t3 - t2, t4 - t3, t6 - t5, t7 - t6, t8 - t7, end - t8)
            for part, span in zip(PARTS, spans, strict=True):
                times[part].append(max(0.0, span - asking))
        else:
            whole.append(t4 - begin + end - t5 - 2 * asking)
    return whole, times


def _no_time() -> float:
    return 0.0


def _said(tokens: Sequence[int], way: list[int], path: set[int]) -> list[int]:
    """What the target says behind each token of a phrase where it refused some; the engine leaves out single tokens as well."""
    if len(way) < 2 or all(node in path for node in way):
        return []
    kept = sum(node in path for node in way)
    return [*tokens[:kept], *(token + 1 for token in tokens[kept : len(way)])]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phrases", type=int, default=100_000, help="phrases in the pool")
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--proposals", type=int, default=3, help="phrases a round (K)")
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--text", help="a text file; without it an artificial text")
    args = parser.parse_args()
    torch.set_num_threads(1)

    text = words(args.text) if args.text else artificial(3 * args.phrases + 24 * args.rounds)
    pool = PhrasePool(max_phrases=args.phrases)
    begin = time.process_time()
    at = fill(pool, text, args.phrases)
    filling = time.process_time() - begin
    rest = text[at:] + text
    with torch.no_grad():  # as the engine has it
        rounds, times = measure(pool, rest, args.rounds, args.proposals, args.nodes)
    warm = args.rounds // 10
    whole = sorted(1e6 * seconds for seconds in rounds[warm:])
    median, p99 = statistics.median(whole), whole[int(0.99 * len(whole))]
    report = {
        "phrases": len(pool),
        "rounds": len(whole),
        "median_us": round(median, 1),
        "p99_us": round(p99, 1),
        "bounds_us": {"median": MEDIAN, "p99": P99},
        "within": median <= MEDIAN and p99 <= P99,
        "median_us_by_part": {part: round(1e6 * statistics.median(s[warm:]), 1) for part, s in times.items()},
        "fill_us_per_token": round(1e6 * filling / max(1, at), 2),
        "dict_get_ns": round(1e9 * min(_dict_get() for _ in range(5)), 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2))
    return 0 if report["within"] else 1


def _dict_get() -> float:
    """Seconds of one look into a dict: how fast this machine is at the moment."""
    table, key = {(1, 2, 3): 0}, (1, 2, 3)
    begin = time.process_time()
    for _ in range(100_000):
        table.get(key)
    return (time.process_time() - begin) / 100_000


if __name__ == "__main__":
    sys.exit(main())
