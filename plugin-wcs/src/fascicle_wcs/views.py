"""What a run's page shows: the clouds before and after the map, layers, the growth of a dictionary, neighbours of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.objects import Block, Section

from .normalization import normalize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .data import Bli
    from .maps import Map
    from .selflearning import SelfLearning
    from .vectors import Vectors

__all__ = ["clouds", "learning_section", "line_section", "map_section", "neighbour_section"]

SHOWN = 120
"""Pairs drawn in a cloud: more hide each other."""


def clouds(
    X: NDArray[Any], Y: NDArray[Any], source_words: Sequence[str], target_words: Sequence[str], title: str
) -> Block:
    """Source and target words on the two principal axes of the target words; X, Y are (n, d) of one width."""
    (unit_x, _), (unit_y, _) = normalize(X, ("unit",)), normalize(Y, ("unit",))
    mean = unit_y.mean(axis=0)
    axes = np.linalg.svd((unit_y - mean).astype(np.float64), full_matrices=False)[2][:2]
    series = {}
    for name, points, words in (("source", unit_x, source_words), ("target", unit_y, target_words)):
        plane = (points - mean) @ axes.T
        series[name] = {
            "x": [float(v) for v in plane[:, 0]],
            "y": [float(v) for v in plane[:, 1]],
            "text": list(words),
        }
    return Block(
        kind="scatter", title=title, data={"series": series, "x_label": "first axis", "y_label": "second axis"}
    )


def map_section(source: Vectors, target: Vectors, rows: NDArray[np.int64], found: Map, label: str) -> Section:
    """The clouds of test pairs before and after the map; before only where both sides have one width."""
    shown = rows[:SHOWN]
    x, y = np.asarray(source.matrix[shown[:, 0]]), np.asarray(target.matrix[shown[:, 1]])
    words = [source.words[i] for i in shown[:, 0]], [target.words[i] for i in shown[:, 1]]
    blocks = []
    if len(shown) > 2:
        if x.shape[1] == y.shape[1]:
            blocks.append(clouds(x, y, *words, title=f"Before the map, {label}"))
        blocks.append(clouds(found.apply(x), found.apply_target(y), *words, title=f"After the map, {label}"))
    text = (
        "Test pairs on the two principal axes of the target words. The plane is for the eye; what counts is retrieval."
    )
    return Section(title="The two clouds", blocks=[Block(kind="text", data={"text": text}), *blocks], plugin="wcs")


def learning_section(learning: SelfLearning, bli: Bli, source: Vectors, target: Vectors) -> Section:
    """Rounds of self-learning, and how many of the pairs it ended with stand in the dictionaries."""
    gold = {**bli.train.gold()}
    for word, answers in bli.test.gold().items():
        gold[word] = (*gold.get(word, ()), *answers)
    pairs = [(source.words[i], target.words[j]) for i, j in learning.pairs]
    known = [(s, t) for s, t in pairs if s in gold]
    right = sum(t in gold[s] for s, t in known)
    told = f"{len(pairs)} pairs at the end; of the {len(known)} whose source word stands in a dictionary, {right} are right. "
    told += f"{'Converged' if learning.converged else 'NOT CONVERGED'}: {learning.reason}."
    blocks = [Block(kind="text", data={"text": told})]
    keys = [k for k, v in (learning.history[0] if learning.history else {}).items() if k not in ("step", "iteration")]
    x = list(range(1, len(learning.history) + 1))
    for key in keys:
        series = {key: {"x": x, "y": [float(row[key]) for row in learning.history]}}
        blocks.append(Block(kind="lines", title=key, data={"series": series, "x_label": "round", "y_label": key}))
    return Section(title="Self-learning", blocks=blocks, plugin="wcs")


def line_section(
    title: str, x_label: str, x: Sequence[float], series: Mapping[str, Sequence[float]], y_label: str
) -> Section:
    """One line a series."""
    data = {
        "series": {name: {"x": list(x), "y": [float(v) for v in values]} for name, values in series.items()},
        "x_label": x_label,
        "y_label": y_label,
    }
    return Section(title=title, blocks=[Block(kind="lines", data=data)], plugin="wcs")


def neighbour_section(rows: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> Section:
    """Words, their nearest target words (best first) and what the dictionary has."""
    table = [[word, ", ".join(found), ", ".join(gold) or None] for word, found, gold in rows]
    data = {"columns": ["word", "nearest target words", "dictionary"], "rows": table}
    return Section(title="Nearest neighbours", blocks=[Block(kind="table", data=data)], plugin="wcs")
