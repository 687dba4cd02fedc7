"""What the checker learns from: pairs of a source and a claim, and what of the source a claim is read with. Light: no torch.

Edited summaries, scientific abstracts with their summaries, files of entailment and paraphrase.

Our choice of sources and shares, after FactCC (Kryscinski et al. 2020) in the negatives.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .corruptions import any_corruption, entities
from .errors import MetricError
from .lexical import STOP_WORDS
from .summedits import document_key, edited_claims
from .text import normalize, sentences, tokens

if TYPE_CHECKING:
    from .summedits import EditedSummary

__all__ = [
    "Pair",
    "Paper",
    "corrupted",
    "paper_pairs",
    "read_pairs",
    "read_papers",
    "retrieve",
    "summedits_pairs",
    "without_documents",
]

TOP = 3
"""Source sentences that a claim is compared with."""


LEARNED_KINDS = ("entity", "entity", "number", "date", "pronoun", "negation", "antonym", "role", "word")
"""Without `modifier`, whose few phrases would be learned by heart."""


@dataclass(frozen=True)
class Pair:
    """A claim and whether the source supports it."""

    source: str
    claim: str
    supported: bool
    domain: str
    """Where the pair is from, e.g. `news`."""
    document: str
    """Key of the source ([`document_key`][fascicle_faithsum.summedits.document_key]): what is split and resampled by."""


@dataclass(frozen=True)
class Paper:
    """An abstract by sentence, with its one-sentence summaries."""

    sentences: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def source(self) -> str:
        """The abstract.

        >>> Paper(("A.", "B."), ("C.",)).source
        'A. B.'
        """
        return " ".join(self.sentences)


# ---- what a claim is compared with ---------------------------------------------------------------------------------------


def _stem(word: str) -> str:
    return word if word.isdigit() else word[:6]


@lru_cache(maxsize=512)
def _indexed(source: str) -> tuple[tuple[str, ...], tuple[frozenset[str], ...]]:
    found = tuple(sentences(source))
    return found, tuple(frozenset(_stem(w) for w in tokens(s)) for s in found)


def retrieve(source: str, claim: str, k: int = TOP) -> str:
    """The k source sentences that share most with the claim, in the order of the document.

    Shared word beginnings are weighed by how few of the document's own sentences have them, so a score depends on the one
    document only; a sentence is better the more it brings of what those taken lack, and of equals the earlier one is taken.

    Args:
        source: the document.
        claim: one sentence.
        k: sentences.

    >>> retrieve("Cats sleep. Dogs bark loudly. Birds sing. Dogs run.", "The dogs bark, the birds too.", k=2)
    'Dogs bark loudly. Birds sing.'
    """
    found, stems = _indexed(source)
    if len(found) <= k:
        return " ".join(found)
    have = Counter(s for stem in stems for s in stem)
    weight = {s: (0.1 if s in STOP_WORDS else 1.0) * math.log(1 + len(found) / n) for s, n in have.items()}
    wanted = {_stem(w) for w in tokens(claim)} & have.keys()
    missing = set(wanted)
    chosen: list[int] = []
    for _ in range(k):
        best = max(
            (i for i in range(len(found)) if i not in chosen),
            key=lambda i: (
                math.fsum(weight[s] for s in sorted(stems[i] & missing))
                + 0.3 * math.fsum(weight[s] for s in sorted(stems[i] & wanted)),
                -i,
            ),
        )
        chosen.append(best)
        missing -= stems[best]
    return " ".join(found[i] for i in sorted(chosen))


# ---- pairs ---------------------------------------------------------------------------------------------------------------


def summedits_pairs(rows: Iterable[EditedSummary]) -> list[Pair]:
    """A pair per sentence of the summaries, each (document, sentence) once."""
    seen: dict[tuple[str, str], Pair] = {}
    for row in rows:
        key = document_key(row.document)
        for claim, supported in edited_claims(row):
            seen.setdefault((key, claim), Pair(row.document, claim, supported, row.domain, key))
    return list(seen.values())


def paper_pairs(papers: Sequence[Paper], rng: random.Random, *, domain: str = "papers") -> list[Pair]:
    """Of each paper its summary, taken for supported, and a corruption of it; of every other one also a like paper's summary."""
    pool = [name for paper in papers for name in entities(paper.source)]
    pairs = []
    for i, paper in enumerate(papers):
        key = document_key(paper.source)
        target = normalize(rng.choice(paper.targets))
        pairs.append(Pair(paper.source, target, True, domain, key))
        changed = any_corruption(target, paper.source, rng, kinds=LEARNED_KINDS, pool=pool)
        if changed is not None:
            pairs.append(Pair(paper.source, changed.text, False, domain, key))
        if i % 2 and len(papers) > 1:
            others = rng.sample([p for p in papers if p is not paper], min(40, len(papers) - 1))
            have = set(tokens(paper.source)) - STOP_WORDS
            near = max(others, key=lambda p: len(have & set(tokens(p.targets[0]))))
            pairs.append(Pair(paper.source, normalize(near.targets[0]), False, domain, key))
    return pairs


def corrupted(pairs: Iterable[Pair], rng: random.Random) -> list[Pair]:
    """A corruption of the claim of each supported pair that offers a place for one."""
    pairs = list(pairs)
    pool = [name for pair in pairs for name in entities(pair.source)]
    found = []
    for pair in pairs:
        changed = (
            any_corruption(pair.claim, pair.source, rng, kinds=LEARNED_KINDS, pool=pool) if pair.supported else None
        )
        if changed is not None:
            found.append(Pair(pair.source, changed.text, False, pair.domain, pair.document))
    return found


def without_documents(papers: Iterable[Paper], documents: Iterable[str]) -> list[Paper]:
    """The papers whose abstract is none of the documents: same words, or the one within the other.

    >>> without_documents(
    ...     [Paper(("We do A.", "It works."), ("A.",)), Paper(("We do B.",), ("B.",))], ["we do a. it works"]
    ... )
    [Paper(sentences=('We do B.',), targets=('B.',))]
    """
    known = sorted({" ".join(tokens(document)) for document in documents})
    left = []
    for paper in papers:
        text = " ".join(tokens(paper.source))
        if not any(text in other or other in text for other in known):
            left.append(paper)
    return left


# ---- files ---------------------------------------------------------------------------------------------------------------


def read_papers(path: str | os.PathLike[str]) -> list[Paper]:
    """SciTLDR's rows: JSON lines with `source` (list of sentences) and `target` (list of summaries).

    Raises:
        MetricError: a file that cannot be read, a line without these: file and line are named.
    """
    papers = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            row = json.loads(line)
            source, target = row["source"], row["target"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise MetricError(f"{path}:{number}: expected an object with source and target: {error!r}") from error
        for name, value in (("source", source), ("target", target)):
            if not isinstance(value, list) or not value or not all(isinstance(s, str) for s in value):
                raise MetricError(f"{path}:{number}: {name}: expected a list of sentences, got {value!r:.80}")
        papers.append(Paper(tuple(source), tuple(target)))
    return papers


LABELS = {"entailment": True, "not_entailment": False, "neutral": False, "contradiction": False, "1": True, "0": False}
COLUMNS = (("sentence1", "sentence2", "label"), ("#1 String", "#2 String", "Quality"), ("source", "claim", "label"))


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Pairs of a tab-separated file with a header: GLUE's RTE and MRPC, or columns `source`, `claim`, `label` (1 = supported).

    A paraphrase (MRPC) counts as supported; two sentences that are none as unsupported, which is rough. The name of the
    folder is the domain.

    Raises:
        MetricError: a file that cannot be read, unknown columns, a row with another number of fields or an unknown label;
            file and line are named.
    """
    rows = csv.reader(_text(path).lstrip("\ufeff").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(rows, [])
    names = next((names for names in COLUMNS if set(names) <= set(header)), None)
    if names is None:
        raise MetricError(f"{path}: expected a header with {' or '.join('/'.join(n) for n in COLUMNS)}, got {header}")
    pairs = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise MetricError(f"{path}:{number}: expected {len(header)} fields, got {len(row)}")
        source, claim, label = (row[header.index(name)] for name in names)
        if label not in LABELS or not source.strip() or not claim.strip():
            raise MetricError(f"{path}:{number}: expected two texts and a label of {', '.join(LABELS)}, got {label!r}")
        pairs.append(
            Pair(source, claim, LABELS[label], Path(path).parent.name.lower() or "pairs", document_key(source))
        )
    return pairs


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetricError(f"{path} cannot be read: {error}") from error


def domains(pairs: Collection[Pair]) -> dict[str, dict[str, int]]:
    """Pairs, supported pairs and documents by domain.

    >>> domains([Pair("A.", "B.", True, "news", "k")])
    {'news': {'pairs': 1, 'supported': 1, 'documents': 1}}
    """
    return {
        domain: {
            "pairs": len(inside),
            "supported": sum(p.supported for p in inside),
            "documents": len({p.document for p in inside}),
        }
        for domain in sorted({p.domain for p in pairs})
        for inside in [[p for p in pairs if p.domain == domain]]
    }
