"""What a meta-evaluation found, as plain data: tables, JSON, Markdown, and a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import MetricError

if TYPE_CHECKING:
    from fascicle.objects import Block, Section

    from .correlation import Correlation

__all__ = ["Ablation", "Comparison", "MetaReport", "MetricRow"]


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric on one subset."""

    metric: str
    subset: str
    n: int
    """Rows with a human score and a score of this metric."""
    documents: int
    systems: int
    pearson: Correlation
    pearson_interval: tuple[float, float] | None
    """95 %, percentile bootstrap over documents."""
    spearman: Correlation
    """Residuals first, then ranks: FRANK's."""
    spearman_interval: tuple[float, float] | None
    spearman_rank_first: Correlation
    """The other definition."""
    raw_pearson: Correlation
    raw_spearman: Correlation
    kendall: Correlation
    """Of the residuals."""
    auc: float | None
    """Area under the ROC curve, where the human scores have two values; systems are not partialled out."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two metrics on the rows that both score."""

    subset: str
    first: str
    second: str
    n: int
    r_first: float
    """Partial Pearson on the common rows."""
    r_second: float
    t: float
    df: int
    p: float
    """Two-sided, Williams."""
    p_holm: float
    """Adjusted for all pairs of the subset."""
    difference_interval: tuple[float, float] | None
    """Of r_first - r_second, resampled by document; None where it was not resampled or does not exist."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One metric, with one type of error taken for correct."""

    metric: str
    subset: str
    error: str
    n: int
    changed: int
    """Rows whose human score the flip changes."""
    r: float
    """Partial Pearson with the human score."""
    r_flipped: float
    delta: float
    """r - r_flipped, as in FRANK: positive where the metric owes correlation to seeing these errors."""
    delta_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class MetaReport:
    """What was found, and on what."""

    rows: Sequence[MetricRow]
    comparisons: Sequence[Comparison]
    ablations: Sequence[Ablation]
    seed: int
    resamples: int
    control: str
    source: Mapping[str, Any] = field(default_factory=dict)
    """Path, SHA-256 and fields of the file."""
    notes: Sequence[str] = ()

    @property
    def subsets(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(row.subset for row in self.rows))

    @property
    def metrics(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(row.metric for row in self.rows))

    def row(self, metric: str, subset: str = "all") -> MetricRow:
        """One line of the table.

        Raises:
            MetricError: no such line.
        """
        for row in self.rows:
            if (row.metric, row.subset) == (metric, subset):
                return row
        raise MetricError(f"no row of {metric!r} on {subset!r}; metrics: {self.metrics}; subsets: {self.subsets}.")

    def to_json(self) -> str:
        """Everything; numbers that do not exist are null."""
        return json.dumps(_plain(asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def markdown(self) -> str:
        """The table of correlations."""
        from .meta_page import markdown

        return markdown(self)

    def blocks(self) -> list[Block]:
        """Tables and figures of a report."""
        from .meta_page import blocks

        return blocks(self)

    def section(self) -> Section:
        """The blocks as one part of a run's page."""
        from fascicle.objects import Section

        return Section(title="Metrics against human scores", blocks=self.blocks(), plugin="faithsum")

    def html(self, title: str = "Metrics against human scores") -> str:
        """A page of its own: one file, no scripts, nothing loaded from outside."""
        from .meta_page import page

        return page(self, title)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
