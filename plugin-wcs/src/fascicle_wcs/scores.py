"""Scores of bilingual lexicon induction: P@k, MRR and coverage, with the choices that change them said in the result.

Source: the paper's metric is accuracy: a word is right if its first answer is any of its gold translations, which is P@1. P@5, P@10
and MRR are the field's. Words without a vector, case, and words that are spelt alike in both languages are our options; the paper
does not say how it treats them, and the last are 27 to 40 % of MUSE's test words between languages of Latin script.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .errors import DictionaryError, WcsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["UNRANKED", "BliScores", "Case", "FrequencyBin", "Oov", "evaluate", "of_rows"]

Oov = Literal["wrong", "drop"]
Case = Literal["keep", "fold"]

UNRANKED = "no rank"
"""The bin of words without a frequency rank."""


@dataclass(frozen=True)
class FrequencyBin:
    """P@1 of the scored words of one range of frequency ranks."""

    precision: float
    words: int


@dataclass(frozen=True)
class BliScores:
    """Scores in [0, 1] and what they are of. Where no word was left to score they are 0, and `words` is 0.

    >>> evaluate({"chien": ["cat", "dog"]}, {"chien": ["dog"]}).hits
    {'chien': 0.0}
    """

    precision: Mapping[int, float]
    """P@k by k: share of words with a gold translation among the first k answers."""
    mrr: float
    """Mean of 1 / rank of the first gold translation; 0 for a word without one, so that it depends on how many answers came."""
    coverage: float
    """Share of the asked words that could be answered."""
    words: int
    """Scored words, the denominator of P@k and MRR."""
    asked: int
    """Words of the dictionary, identical ones left out where asked for."""
    identical: int
    """Words with a gold translation spelt alike, in the whole dictionary."""
    oov: Oov
    case: Case
    exclude_identical: bool
    ranks: Mapping[str, int]
    """By scored word, in the dictionary's order: rank of its first gold translation from 1 on; 0: none was answered."""
    bins: Mapping[str, FrequencyBin]
    """By range of frequency ranks, e.g. `500-999`; empty where no ranks were given."""

    @property
    def hits(self) -> dict[str, float]:
        """1 or 0 for each scored word: whether its first answer is right. What paired comparisons need."""
        return self.hits_at(1)

    def hits_at(self, k: int) -> dict[str, float]:
        """1 or 0 for each scored word: whether one of its first k answers is right."""
        return {word: float(0 < rank <= k) for word, rank in self.ranks.items()}


def evaluate(
    predictions: Mapping[str, Sequence[str]],
    gold: Mapping[str, Sequence[str]],
    *,
    ks: Sequence[int] = (1, 5, 10),
    oov: Oov = "wrong",
    covered: Collection[str] | None = None,
    exclude_identical: bool = False,
    case: Case = "keep",
    ranks: Mapping[str, int] | None = None,
    bins: Sequence[int] = (0, 500, 1000, 5000, 20_000),
) -> BliScores:
    """Score ranked translations against a dictionary. A word is right if any of its gold translations is answered.

    Args:
        predictions: source word to target words, best first; words that the dictionary has not are ignored.
        gold: source word to its translations.
        ks: the k of P@k.
        oov: a word that is not covered counts as `wrong`, or is left out (`drop`): published numbers do either.
        covered: words that could be answered, e.g. that have a vector, as one of their translations has; None: those with
            predictions.
        exclude_identical: leave out the words with a gold translation spelt as the word: copying answers them.
        case: `keep` compares words as they are; `fold` ignores the difference of upper and lower case, in answers and in what is
            identical.
        ranks: frequency rank by source word, the most frequent is 0; None: no bins.
        bins: ranks at which bins begin, increasing.

    Raises:
        DictionaryError: no gold words, or one without translations.
        WcsError: a k below 1, an unknown policy, or bins that do not increase.

    Example:
        >>> gold = {"chien": ["dog", "hound"], "radio": ["radio"], "loup": ["wolf"]}
        >>> found = {"chien": ["cat", "hound"], "radio": ["radio"]}
        >>> scores = evaluate(found, gold, ks=(1, 2))
        >>> scores.precision[1] * 3, scores.precision[2] * 3, scores.mrr, round(scores.coverage, 2)
        (1.0, 2.0, 0.5, 0.67)
        >>> evaluate(found, gold, ks=(1,), oov="drop", exclude_identical=True).precision
        {1: 0.0}
    """
    _check(gold, ks, oov, case, bins)
    spell: Callable[[str], str] = str.casefold if case == "fold" else str
    alike = {word for word, targets in gold.items() if spell(word) in map(spell, targets)}
    asked = [word for word in gold if not (exclude_identical and word in alike)]
    known = {word for word in asked if (word in covered if covered is not None else predictions.get(word))}
    scored = [word for word in asked if oov == "wrong" or word in known]
    found = {word: _rank(predictions.get(word, ()), gold[word], spell) for word in scored}
    return BliScores(
        precision={k: _share(sum(0 < rank <= k for rank in found.values()), len(scored)) for k in ks},
        mrr=_share(sum(1 / rank for rank in found.values() if rank), len(scored)),
        coverage=_share(len(known), len(asked)),
        words=len(scored),
        asked=len(asked),
        identical=len(alike),
        oov=oov,
        case=case,
        exclude_identical=exclude_identical,
        ranks=found,
        bins={} if ranks is None else _bins(found, ranks, bins),
    )


def of_rows(
    indices: NDArray[np.int64], source_words: Sequence[str], target_words: Sequence[str]
) -> dict[str, list[str]]:
    """Predictions of retrieval.

    Args:
        indices: (q, k) rows of target words, best first; negative ones stand for nothing.
        source_words: the q words that were asked.
        target_words: all of them.

    Raises:
        WcsError: indices that do not fit the words.

    >>> import numpy as np
    >>> of_rows(np.array([[1, 0], [0, -1]]), ["chat", "chien"], ["dog", "cat"])
    {'chat': ['cat', 'dog'], 'chien': ['dog']}
    """
    if indices.ndim != 2 or len(indices) != len(source_words):
        raise WcsError(
            f"of_rows: got indices of shape {indices.shape} for {len(source_words)} source words; expected (q, k)"
        )
    if indices.size and int(indices.max()) >= len(target_words):
        raise WcsError(f"of_rows: got the row {int(indices.max())}, there are {len(target_words)} target words")
    rows: list[list[Any]] = indices.tolist()
    return {word: [target_words[i] for i in row if i >= 0] for word, row in zip(source_words, rows, strict=True)}


def _rank(answers: Sequence[str], targets: Sequence[str], spell: Callable[[str], str]) -> int:
    right = set(map(spell, targets))
    return next((rank for rank, answer in enumerate(answers, 1) if spell(answer) in right), 0)


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


def _bins(found: Mapping[str, int], ranks: Mapping[str, int], starts: Sequence[int]) -> dict[str, FrequencyBin]:
    """Only bins with words, the most frequent first."""
    hits: dict[int, list[bool]] = {}
    for word, rank in found.items():
        index = bisect.bisect_right(starts, ranks[word]) - 1 if word in ranks else len(starts)
        hits.setdefault(index, []).append(rank == 1)
    return {_bin_name(index, starts): FrequencyBin(sum(of) / len(of), len(of)) for index, of in sorted(hits.items())}


def _bin_name(index: int, starts: Sequence[int]) -> str:
    if index == len(starts):
        return UNRANKED
    if index < 0:
        return f"below {starts[0]}"
    return f"{starts[index]}-{starts[index + 1] - 1}" if index + 1 < len(starts) else f"{starts[index]} and more"


def _check(gold: Mapping[str, Sequence[str]], ks: Sequence[int], oov: str, case: str, bins: Sequence[int]) -> None:
    if not gold:
        raise DictionaryError("gold: no words to score; is the test dictionary empty?")
    for word, targets in gold.items():
        if isinstance(targets, str) or not targets:
            raise DictionaryError(
                f"gold: {word!r} has the translations {targets!r}, expected a sequence of one word or more"
            )
    if not ks or min(ks) < 1:
        raise WcsError(f"ks: got {tuple(ks)}, expected numbers of at least 1")
    if oov not in ("wrong", "drop"):
        raise WcsError(f"oov: got {oov!r}, expected 'wrong' or 'drop'")
    if case not in ("keep", "fold"):
        raise WcsError(f"case: got {case!r}, expected 'keep' or 'fold'")
    if not bins or any(b <= a for a, b in itertools.pairwise(bins)):
        raise WcsError(f"bins: got {tuple(bins)}, expected increasing ranks")
