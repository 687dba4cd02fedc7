"""`fascicle wcs neighbours|map|translate`: look at word vectors, map one language's into another's, translate words by them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from .vectors import Vectors

__all__ = ["main"]

_FIRST = 200_000
"""Words read of each language, as MUSE and VecMap do."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status.

    Raises:
        FascicleError: a file or a map that cannot be used, or words without vectors.
    """
    parser = argparse.ArgumentParser(prog="fascicle wcs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_neighbours(commands)
    _add_map(commands)
    _add_translate(commands)
    options = parser.parse_args(list(arguments))
    run = {"neighbours": _neighbours, "map": _map, "translate": _translate}
    return run[options.command](options)


def _add_neighbours(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("neighbours", help="the words nearest to a word by cosine")
    parser.add_argument("vectors", type=Path, metavar="VECTORS", help="file or folder of word vectors")
    parser.add_argument("words", nargs="+", metavar="WORD")
    parser.add_argument("-k", type=_count, default=10, help="so many neighbours (10)")
    _add_reading(parser)


def _add_map(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from .dictionary import Columns

    parser = commands.add_parser("map", help="fit a map from one language's vectors to another's, by a dictionary")
    parser.add_argument("source", type=Path, metavar="SRC", help="vectors of the source language")
    parser.add_argument("target", type=Path, metavar="TGT", help="vectors of the target language")
    parser.add_argument("--dict", type=Path, required=True, metavar="FILE", help="source and target word a line")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the map is written")
    parser.add_argument("--columns", default="auto", choices=get_args(get_args(Columns)[0]), help="of the dictionary")
    parser.add_argument("--method", default="procrustes", choices=["procrustes", "vecmap", "rcsls"])
    parser.add_argument(
        "--pairs", type=_count, metavar="N", help="take the first N source words of the dictionary only"
    )
    _add_reading(parser)


def _add_translate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("translate", help="the target words nearest to source words, by a map")
    parser.add_argument("map", type=Path, metavar="MAP", help="what `fascicle wcs map` wrote")
    parser.add_argument("source", type=Path, metavar="SRC", help="vectors of the source language")
    parser.add_argument("target", type=Path, metavar="TGT", help="vectors of the target language")
    parser.add_argument("words", nargs="+", metavar="WORD")
    parser.add_argument("-k", type=_count, default=5, help="so many translations of each word (5)")
    parser.add_argument("--method", default="csls", choices=["csls", "nn", "invsoftmax"])
    _add_reading(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--first", type=_count, default=_FIRST, metavar="N", help=f"read the first N words ({_FIRST})")
    parser.add_argument("--lower", action="store_true", help="spell all words in lower case")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


# ---- the commands --------------------------------------------------------------------------------------------------------


def _neighbours(options: argparse.Namespace) -> int:
    vectors = _read(options.vectors, options)
    for word in _spelt(options):
        _say(word)
        for neighbour, cosine in vectors.neighbours(word, options.k):
            _say(f"  {cosine:7.4f}  {neighbour}")
    return 0


def _map(options: argparse.Namespace) -> int:
    from .dictionary import read_dictionary
    from .fits import fit

    dictionary = read_dictionary(options.dict, columns=options.columns, lower=options.lower)
    if options.pairs is not None:
        dictionary = dictionary.first(options.pairs)
    source, target = (_read(path, options) for path in (options.source, options.target))
    rows = dictionary.rows(source, target)
    found = fit(source.matrix, target.matrix, rows, method=options.method, reduce="pca")
    folder = found.save(options.out)
    _say(f"{dictionary.name}: {dictionary.coverage(source, target)}")
    _say(f"wrote {folder}: {options.method} on {len(rows)} pairs, {found.source_dim} to {found.dim} dimensions")
    return 0


def _translate(options: argparse.Namespace) -> int:
    import numpy as np

    from .errors import VectorError
    from .maps import Map
    from .retrieval import retrieve

    found = Map.load(options.map)
    source, target = (_read(path, options) for path in (options.source, options.target))
    words = _spelt(options)
    known = [word for word in words if word in source.index]
    if not known:
        raise VectorError(f"{options.source}: none of {', '.join(words)} has a vector; mind their case and accents")
    rows = np.array([source.index[word] for word in known], dtype=np.int64)
    answers, scores = retrieve(
        found.apply(source.matrix),
        found.apply_target(target.matrix),
        rows,
        k=options.k,
        method=options.method,
        mode="auto" if options.method == "csls" else "full",
    )
    of_word = {word: (answers[i], scores[i]) for i, word in enumerate(known)}
    for word in words:
        _say(word if word in of_word else f"{word}  (no vector)")
        for row, score in zip(*of_word.get(word, ((), ())), strict=True):
            _say(f"  {score:7.4f}  {target.words[row]}")
    return 0


def _read(path: Path, options: argparse.Namespace) -> Vectors:
    from .vectorfiles import read_vectors

    return read_vectors(path, first=options.first, lower=options.lower)


def _spelt(options: argparse.Namespace) -> list[str]:
    """The words that are asked for, spelt as those of the vectors are."""
    from .spelling import speller

    spell = speller(lower=options.lower)
    return list(dict.fromkeys(spell(word) for word in options.words))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
