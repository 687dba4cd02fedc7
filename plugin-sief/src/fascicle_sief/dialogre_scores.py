"""The official evaluation of DialogRE: F1, and F1c over the turns read so far.

Source: the rules of nlpdata/dialogre `bert/evaluate.py`, written afresh (F1c: Yu et al., ACL 2020).

A dialogue has several pairs of arguments (x, y); each pair has 36 probabilities, relation id 1 to 36 in columns 0 to 35. Id 37 says
"unanswerable": it is never scored, and an empty prediction stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import SiefError

__all__ = [
    "RELATIONS",
    "DialoguePair",
    "ceiling_f1c",
    "choose_t2",
    "dialogre_f1",
    "dialogre_f1c",
    "evaluable",
    "predicted_relations",
]

RELATIONS = (
    "per:positive_impression",
    "per:negative_impression",
    "per:acquaintance",
    "per:alumni",
    "per:boss",
    "per:subordinate",
    "per:client",
    "per:dates",
    "per:friends",
    "per:girl/boyfriend",
    "per:neighbor",
    "per:roommate",
    "per:children",
    "per:other_family",
    "per:parents",
    "per:siblings",
    "per:spouse",
    "per:place_of_residence",
    "per:place_of_birth",
    "per:visited_place",
    "per:origin",
    "per:employee_or_member_of",
    "per:schools_attended",
    "per:works",
    "per:age",
    "per:date_of_birth",
    "per:major",
    "per:place_of_work",
    "per:title",
    "per:alternate_names",
    "per:pet",
    "gpe:residents_of_place",
    "gpe:births_in_place",
    "gpe:visitors_of_place",
    "org:employees_or_members",
    "org:students",
)
"""Names in the order of their ids, 1 to 36."""

_T1 = 0.5
_T2_STEPS = range(51)


@dataclass(frozen=True, slots=True)
class DialoguePair:
    """One row of the official evaluation: a pair of arguments in its dialogue.

    >>> DialoguePair(("Speaker 1: Hi, Jo.",), "Speaker 1", "Jo", rids=(9, 37), triggers=("", "")).columns
    (8,)
    """

    turns: tuple[str, ...]
    """As they are written, speakers included."""
    x: str
    y: str
    rids: tuple[int, ...]
    """Gold relation ids, 1 to 37."""
    triggers: tuple[str, ...]
    """The words that show each relation; empty: none were marked."""
    title: str = ""
    """Of the document."""
    row: int = 0
    """Of the pair among the document's pairs."""

    def __post_init__(self) -> None:
        if len(self.rids) != len(self.triggers) or not all(1 <= rid <= len(RELATIONS) + 1 for rid in self.rids):
            raise SiefError(
                f"pair ({self.x!r}, {self.y!r}): expected relation ids from 1 to {len(RELATIONS) + 1} with a trigger each, "
                f"got {self.rids} and {len(self.triggers)} triggers"
            )

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns of the gold relations, without "unanswerable"."""
        return tuple(rid - 1 for rid in self.rids if rid <= len(RELATIONS))


def predicted_relations(scores: np.ndarray, t2: float) -> list[frozenset[int]]:
    """Columns that are predicted: all above 0.5; where there are none, the first of the highest if it is above T2.

    Args:
        scores: (N, 36) probabilities.
        t2: T2 of the official script, 0 to 0.5; see [`choose_t2`].

    Raises:
        SiefError: another shape, or a score that is not a number.

    Example:
        >>> scores = np.zeros((3, 36))
        >>> scores[0, [1, 4]], scores[1, [2, 3]] = [0.6, 0.7], 0.3
        >>> [sorted(columns) for columns in predicted_relations(scores, t2=0.2)]
        [[1, 4], [2], []]
    """
    if scores.ndim != 2 or scores.shape[1] != len(RELATIONS) or np.isnan(scores).any():
        raise SiefError(
            f"scores: expected (pairs, {len(RELATIONS)}) probabilities, got shape {scores.shape} "
            f"with {int(np.isnan(scores).sum())} values that are not numbers"
        )
    above, best = scores > _T1, scores.argmax(axis=1)
    return [
        frozenset(np.flatnonzero(row).tolist()) or (frozenset({int(j)}) if value > t2 else frozenset())
        for row, j, value in zip(above, best, scores.max(axis=1), strict=True)
    ]


def _prf(precision: float, recall: float) -> dict[str, float]:
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}


def _precision_recall(correct: int, predicted: int, gold: int) -> tuple[float, float]:
    """Where nothing is predicted the precision is 1; where there is no gold the recall is 0."""
    return (correct / predicted if predicted else 1.0), (correct / gold if gold else 0.0)


def _same_length(name: str, given: Sequence[object] | np.ndarray, pairs: Sequence[DialoguePair]) -> None:
    if len(given) != len(pairs):
        raise SiefError(f"{name}: expected one entry for each of the {len(pairs)} pairs, got {len(given)}")


def dialogre_f1(scores: np.ndarray, pairs: Sequence[DialoguePair], t2: float) -> dict[str, float]:
    """`f1`, `precision` and `recall` in [0, 1] over the relations of all pairs.

    Args:
        scores: (N, 36) probabilities.
        pairs: N of them.
        t2: see [`choose_t2`].

    Raises:
        SiefError: scores of another shape, or of other pairs.

    Example:
        >>> pair = DialoguePair(("Speaker 1: Hi, Jo.",), "Speaker 1", "Jo", rids=(9,), triggers=("",))
        >>> dialogre_f1(np.full((1, 36), 0.1), [pair], t2=0.1)
        {'f1': 0.0, 'precision': 1.0, 'recall': 0.0}
    """
    _same_length("scores", scores, pairs)
    predicted = predicted_relations(scores, t2)
    correct = sum(column in chosen for pair, chosen in zip(pairs, predicted, strict=True) for column in pair.columns)
    return _prf(*_precision_recall(correct, sum(map(len, predicted)), sum(len(pair.columns) for pair in pairs)))


def choose_t2(scores: np.ndarray, pairs: Sequence[DialoguePair]) -> float:
    """T2 among 0, 0.01, ..., 0.50 with the best F1, the lowest of equals; chosen on development pairs, kept for test and F1c.

    Args:
        scores: (N, 36) probabilities.
        pairs: N of them.

    Raises:
        SiefError: scores of another shape, or of other pairs.

    Example:
        >>> scores = np.zeros((2, 36))
        >>> scores[0, 8], scores[1, 8] = 0.3, 0.2
        >>> friends = DialoguePair(("Speaker 1: Hi, Jo.",), "Speaker 1", "Jo", rids=(9,), triggers=("",))
        >>> nothing = DialoguePair(("Speaker 1: Hi, Al.",), "Speaker 1", "Al", rids=(37,), triggers=("",))
        >>> choose_t2(scores, [friends, nothing])
        0.2
    """
    _same_length("scores", scores, pairs)
    chosen = predicted_relations(scores, t2=-1.0)
    correct = np.array(
        [len(columns & set(pair.columns)) for columns, pair in zip(chosen, pairs, strict=True)], dtype=int
    )
    predicted, highest = np.array([len(columns) for columns in chosen], dtype=int), scores.max(axis=1)
    gold = sum(len(pair.columns) for pair in pairs)

    def f1(t2: float) -> float:
        kept = highest > t2  # T2 <= 0.5: what has a score above 0.5 stays
        return _prf(*_precision_recall(int(correct[kept].sum()), int(predicted[kept].sum()), gold))["f1"]

    # max keeps the first of equal values, as the script's strict comparison does.
    return max((step / 100 for step in _T2_STEPS), key=f1)


# ---- F1c: what can be known after each turn ------------------------------------------------------------------------------


def evaluable(pair: DialoguePair) -> list[frozenset[int]]:
    """For each turn k, the columns that count once turns 1 to k are read.

    Both arguments must have occurred, and of a gold relation its trigger; a relation without a marked trigger waits for the last
    turn, where all count. To occur is to be part of one turn's lower-cased text, speaker included: "Speaker 1" occurs in
    "Speaker 10: Hi", as in the official script.

    >>> turns = ("Speaker 1: Hi.", "Speaker 2: Jo is my boss.", "Speaker 1: Oh.")
    >>> pair = DialoguePair(turns, "Speaker 1", "Jo", rids=(5, 9), triggers=("boss", ""))
    >>> [(len(columns), 4 in columns, 8 in columns) for columns in evaluable(pair)]
    [(0, False, False), (35, True, False), (36, True, True)]
    """
    x, y = pair.x.lower().strip(), pair.y.lower().strip()
    # A relation that stands twice in a row has the trigger of its last entry.
    triggers = {rid - 1: trigger.lower().strip() for rid, trigger in zip(pair.rids, pair.triggers, strict=True)}
    everything = frozenset(range(len(RELATIONS)))
    shown = set(everything - triggers.keys())
    seen_x = seen_y = False
    columns: list[frozenset[int]] = []
    for turn in map(str.lower, pair.turns[:-1]):
        seen_x, seen_y = seen_x or x in turn, seen_y or y in turn
        shown |= {r for r, trigger in triggers.items() if trigger and trigger in turn}
        columns.append(frozenset(shown & everything) if seen_x and seen_y else frozenset())
    return [*columns, everything]


def dialogre_f1c(prefix_scores: Sequence[np.ndarray], pairs: Sequence[DialoguePair], t2: float) -> dict[str, float]:
    """`f1c`, `precision_c` and `recall_c` in [0, 1]: precision and recall over the turns of a pair, averaged over pairs.

    After turn k only what is [`evaluable`] counts. `f1c` is the harmonic mean of the two averages. A pair without gold relations
    has recall 0, so that a perfect system stays below 1: see [`ceiling_f1c`].

    Args:
        prefix_scores: for each pair (turns, 36): the probabilities when the model reads turns 1 to k.
        pairs: as many.
        t2: the one of [`choose_t2`] on whole dialogues.

    Raises:
        SiefError: no pairs; scores of another shape, of other pairs or of other turns.

    Example:
        >>> turns = ("Speaker 1: Hi.", "Speaker 2: Jo is my boss.")
        >>> pair = DialoguePair(turns, "Speaker 2", "Jo", rids=(5,), triggers=("boss",))
        >>> scores = np.zeros((2, 36))
        >>> scores[1, 4] = 0.9
        >>> dialogre_f1c([scores], [pair], t2=0.4)
        {'f1c': 1.0, 'precision_c': 1.0, 'recall_c': 1.0}
    """
    _same_length("prefix_scores", prefix_scores, pairs)
    if not pairs:
        raise SiefError("F1c is an average over pairs, got none")
    values = []
    for pair, scores in zip(pairs, prefix_scores, strict=True):
        if len(scores) != len(pair.turns):
            raise SiefError(
                f"prefix_scores of pair ({pair.x!r}, {pair.y!r}) {pair.title}: expected {len(pair.turns)} rows, "
                f"one for each turn, got {len(scores)}"
            )
        values.append(_pair_precision_recall(predicted_relations(scores, t2), pair))
    precision, recall = (sum(column) / len(pairs) for column in zip(*values, strict=True))
    return {f"{name}c" if name == "f1" else f"{name}_c": value for name, value in _prf(precision, recall).items()}


def _pair_precision_recall(predicted: Sequence[frozenset[int]], pair: DialoguePair) -> tuple[float, float]:
    gold, known = frozenset(pair.columns), evaluable(pair)
    correct = sum(len(chosen & gold & counts) for chosen, counts in zip(predicted, known, strict=True))
    asked = sum(len(chosen & counts) for chosen, counts in zip(predicted, known, strict=True))
    return _precision_recall(correct, asked, sum(len(gold & counts) for counts in known))


def ceiling_f1c(pairs: Sequence[DialoguePair]) -> float:
    """The F1c of a perfect system: its precision is 1, its recall the share of pairs that have a relation.

    Raises:
        SiefError: no pairs.

    Example:
        >>> friends = DialoguePair(("Speaker 1: Hi, Jo.",), "Speaker 1", "Jo", rids=(9,), triggers=("",))
        >>> nothing = DialoguePair(("Speaker 1: Hi, Al.",), "Speaker 1", "Al", rids=(37,), triggers=("",))
        >>> round(ceiling_f1c([friends, nothing]), 4)
        0.6667
    """
    if not pairs:
        raise SiefError("F1c is an average over pairs, got none")
    return _prf(1.0, sum(bool(pair.columns) for pair in pairs) / len(pairs))["f1"]
