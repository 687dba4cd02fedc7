"""The best of several guided summaries by a metric, and what to do where even the best is doubtful."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import GuidanceError

if TYPE_CHECKING:
    from torch import Tensor

    from .metrics import Metric

__all__ = ["BELOW", "Candidate", "best", "judge", "repeat"]

BELOW = ("flag", "abstain", "extract")
"""What may happen to a summary under the threshold: kept with a flag, left out, or replaced by the guidance sentences."""


@dataclass(frozen=True)
class Candidate:
    """A summary that was written, with what speaks for it."""

    text: str
    log_likelihood: float
    """log p(y|x,z), summed over tokens."""
    score: float | None = None


def repeat(inputs: dict[str, Tensor], times: int) -> dict[str, Tensor]:
    """Each row `times` times, one after another: guidance is drawn per row of the encoder's input.

    >>> import torch
    >>> repeat({"input_ids": torch.tensor([[1], [2]])}, 2)["input_ids"].flatten().tolist()
    [1, 1, 2, 2]
    """
    if times < 1:
        raise GuidanceError(f"samples: got {times}, expected at least 1")
    return {name: value.repeat_interleave(times, 0) for name, value in inputs.items()}


def judge(candidates: Sequence[Candidate], source: str, metric: str | Metric | Any) -> list[Candidate]:
    """Candidates with the scores a metric gives them.

    Raises:
        MetricError: an unknown metric, or texts it cannot measure.
        GuidanceError: a metric that gives another number of scores.
    """
    from .metrics import metric as named

    scores = named(metric)([source] * len(candidates), [candidate.text for candidate in candidates])
    if len(scores) != len(candidates):
        raise GuidanceError(f"rerank: got {len(scores)} scores for {len(candidates)} summaries, expected one each")
    return [replace(candidate, score=float(score)) for candidate, score in zip(candidates, scores, strict=True)]


def best(candidates: Sequence[Candidate]) -> int:
    """Number of the candidate with the highest score; among equals the likelier, then the first.

    Without scores the likeliest is the best; a score that is not a number loses.

    >>> best([Candidate("a", -3.0, 0.5), Candidate("b", -2.0, 0.5), Candidate("c", -1.0, 0.4)])
    1
    """
    if not candidates:
        raise GuidanceError("candidates: got none, expected at least one summary")

    def key(number: int) -> tuple[float, float, int]:
        score, chance = candidates[number].score, candidates[number].log_likelihood
        low = float("-inf")
        return (
            low if score is None or math.isnan(score) else score,
            low if math.isnan(chance) else chance,
            -number,
        )

    return max(range(len(candidates)), key=key)
