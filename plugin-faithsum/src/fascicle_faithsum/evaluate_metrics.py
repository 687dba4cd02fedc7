"""The metrics as objects of the library `evaluate` (extra `evaluate`), without its hub.

`evaluate.load` of a name asks the hub; [`load`] here does not, and gives the same kind of object: `compute`, `add`,
`add_batch`, and `evaluate.combine`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import datasets
import evaluate

from .metrics import METRICS, describe, metric, score

if TYPE_CHECKING:
    from .metrics import Metric

__all__ = ["FaithfulnessMetric", "load"]

CITATION = (
    "Reconstruction of induced guidance after Xu and Zhao (Findings of NAACL 2022); see the metric's description."
)


class FaithfulnessMetric(evaluate.Metric):  # type: ignore[misc]
    """One metric of this plugin as an `evaluate.Metric`; made by [`load`].

    Columns: `predictions` (summaries) and `sources`, and `references` where it was loaded with them.
    """

    def __init__(self, one: Metric, *, references: bool = False, **options: Any) -> None:
        self.one, self.with_references = one, references
        super().__init__(config_name=one.name, **options)

    def _info(self) -> evaluate.MetricInfo:
        columns = {"predictions": datasets.Value("string"), "sources": datasets.Value("string")}
        if self.with_references:
            columns["references"] = datasets.Value("string")
        told = describe(self.one.name) if self.one.name in METRICS else self.one.name
        return evaluate.MetricInfo(
            description=told,
            citation=CITATION,
            inputs_description="predictions: summaries; sources: the texts that were summarized",
            features=datasets.Features(columns),
        )

    def _compute(
        self, *, predictions: list[str], sources: list[str], references: list[str] | None = None
    ) -> dict[str, Any]:
        """Means by metric, and the score of each summary under `<name>_scores`."""
        found = score(sources, predictions, [self.one], references=references)
        result: dict[str, Any] = {name: math.fsum(values) / len(values) for name, values in found.items()}
        result[f"{self.one.name}_scores"] = found[self.one.name]
        return result


def load(name: str | Metric, *, references: bool = False, **options: Any) -> FaithfulnessMetric:
    """A metric by name (or a metric) as an `evaluate.Metric`. Works without a network.

    Args:
        name: see `metrics.METRICS`.
        references: expect reference summaries too, and give ROUGE beside the metric.
        options: of `evaluate.Metric`, such as keep_in_memory, cache_dir, experiment_id.

    Raises:
        MetricError: an unknown metric.

    Example:
        >>> found = load("coverage", keep_in_memory=True).compute(predictions=["The cat."], sources=["The cat sat."])
        >>> found["coverage"], found["coverage_scores"]
        (1.0, [1.0])
    """
    return FaithfulnessMetric(metric(name), references=references, **options)
