"""Meta-evaluation: how well metrics agree with people, by FRANK's protocol (Pagnoni et al. 2021), on any rated summaries.

Per metric and subset: partial Pearson and Spearman (systems partialled out) with intervals by document, the raw ones beside
them, since those mostly tell good systems from bad; Williams' test between metrics; and an ablation of error types: how much
the correlation falls when one type of error is taken for correct, which says how much of it came from seeing that type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .correlation import bootstrap_correlations, correlate, draw_clusters, holm, interval, williams_test
from .errors import MetricError
from .frank import ERROR_GROUPS, ERROR_TYPES, FLIP, RatedSet
from .meta_report import Ablation, Comparison, MetaReport, MetricRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .correlation import Draws
    from .frank import RatedSummary

    Floats = NDArray[np.float64]

__all__ = ["Ablation", "Comparison", "MetaReport", "MetricRow", "meta_evaluate", "metric_scores"]

Scorer = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
Control = Literal["system", "system+dataset", "none"]

CONTROLS = ("system", "system+dataset", "none")
LEVEL = 0.95
_DISAGREE = 0.1


def metric_scores(
    rows: Sequence[RatedSummary], metrics: Mapping[str, str | Scorer | Sequence[float | None]] | Sequence[str | Scorer]
) -> dict[str, list[float | None]]:
    """Scores of every metric for every row.

    Args:
        rows: rated summaries.
        metrics: names, callables of (documents, summaries), or a mapping from name to a name, a callable or scores. A name is
            that of a score stored in the rows, or else of the plugin's registry. Rows whose document is blank are not asked.

    Raises:
        MetricError: an unknown name, text that is not there, or a metric that answers with something else than one score per
            row.

    >>> from fascicle_faithsum.frank import RatedSummary
    >>> row = RatedSummary(document="a b", summary="a", score=1.0, document_id="1", scores={"FactCC": 0.5})
    >>> metric_scores([row], ["FactCC"]), metric_scores([row], {"length": lambda d, s: [len(t) for t in s]})
    ({'FactCC': [0.5]}, {'length': [1.0]})
    """
    named: dict[str, Any] = {}
    if isinstance(metrics, Mapping):
        named.update(metrics)
    elif isinstance(metrics, str):
        raise MetricError(f"metrics: expected a list of names or callables, got the text {metrics!r}.")
    else:
        for item in metrics:
            name = (
                item if isinstance(item, str) else str(getattr(item, "name", None) or getattr(item, "__name__", item))
            )
            if name in named:
                raise MetricError(f"metrics: {name!r} twice; give a mapping with a name for each.")
            named[name] = item
    stored = {name for row in rows for name in row.scores}
    for name, item in named.items():
        if isinstance(item, str):
            named[name] = [row.scores.get(item) for row in rows] if item in stored else _registered(item, stored)
    return {name: _answers(name, item, rows) for name, item in named.items()}


def meta_evaluate(
    rated: RatedSet | Sequence[RatedSummary],
    metrics: Mapping[str, str | Scorer | Sequence[float | None]] | Sequence[str | Scorer],
    *,
    by: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    control: Control = "system",
) -> MetaReport:
    """Score metrics against human labels.

    Args:
        rated: rows, or what `read_rated` read.
        metrics: see `metric_scores`.
        by: `all` and names of data sets; None: all, and each data set where there are several.
        seed: of the bootstrap; the same seed draws the same documents for every metric.
        resamples: of documents; 0 for no intervals.
        control: what is partialled out. `system` is FRANK's (whose systems each belong to one data set); `system+dataset` where
            one system wrote for several data sets; `none` makes partial and raw the same.

    Raises:
        MetricError: no rated rows, a subset that is not there, an unknown option, or a metric that cannot score.

    >>> from fascicle_faithsum.frank import RatedSummary
    >>> rows = [
    ...     RatedSummary(document=str(i // 2), summary="", score=s, document_id=str(i // 2), system="ab"[i % 2])
    ...     for i, s in enumerate([0.1, 0.9, 0.4, 0.8, 0.3, 1.0, 0.6, 0.5])
    ... ]
    >>> report = meta_evaluate(rows, {"human": [row.score for row in rows]}, resamples=0)
    >>> round(report.row("human").pearson.value, 6)
    1.0
    """
    if control not in CONTROLS:
        raise MetricError(f"control: expected one of {', '.join(CONTROLS)}; got {control!r}.")
    if resamples < 0:
        raise MetricError(f"resamples: expected 0 or more, got {resamples}.")
    everything = list(rated.rows if isinstance(rated, RatedSet) else rated)
    rows = [row for row in everything if row.score is not None]
    if not rows:
        raise MetricError(f"rated: {len(everything)} rows, none with a human score.")
    subsets = _subsets(rows, by)
    if not metrics:
        raise MetricError("metrics: none given.")
    scores = metric_scores(
        rows,
        metrics
        if not isinstance(metrics, Mapping)
        else {name: _rated_only(name, item, everything) for name, item in metrics.items()},
    )
    table = {name: np.array([math.nan if v is None else v for v in values]) for name, values in scores.items()}
    lines: list[MetricRow] = []
    comparisons: list[Comparison] = []
    ablations: list[Ablation] = []
    for subset in subsets:
        chosen = [i for i, row in enumerate(rows) if subset in ("all", row.dataset)]
        part = _Part(
            subset,
            [rows[i] for i in chosen],
            {name: values[chosen] for name, values in table.items()},
            control,
            seed,
            resamples,
        )
        lines += part.lines()
        comparisons += part.comparisons()
        ablations += part.ablations()
    source: dict[str, Any] = {}
    if isinstance(rated, RatedSet):
        source = {
            "path": rated.path,
            "sha256": rated.sha256,
            "fields": dict(rated.fields),
            "published": list(rated.published),
        }
    source |= {"rows": len(everything), "rated": len(rows)}
    notes = list(_notes(rows, lines, control))
    return MetaReport(
        rows=lines,
        comparisons=comparisons,
        ablations=ablations,
        seed=seed,
        resamples=resamples,
        control=control,
        source=source,
        notes=notes,
    )


class _Part:
    """One subset: its rows, the scores on them, and the resamples that all its numbers share."""

    def __init__(
        self,
        name: str,
        rows: Sequence[RatedSummary],
        scores: Mapping[str, Floats],
        control: Control,
        seed: int,
        resamples: int,
    ) -> None:
        self.name, self.rows, self.scores = name, rows, scores
        self.human = np.array([row.score for row in rows], dtype=np.float64)
        self.groups: list[tuple[str, ...]] | None = None
        if control != "none":
            self.groups = [(row.system, row.dataset) if control == "system+dataset" else (row.system,) for row in rows]
        errors = [*ERROR_GROUPS, *ERROR_TYPES]
        flips = {error: [row.labels.get(FLIP + error) for row in rows] for error in errors}
        self.flips = {
            error: np.array([math.nan if v is None else v for v in values], dtype=np.float64)
            for error, values in flips.items()
            if any(v is not None for v in values)
        }
        self._draws = draw_clusters([row.document_id for row in rows], resamples, seed)
        self._cache: dict[bytes, tuple[list[str], Draws]] = {}

    def _resampled(self, metric: str) -> tuple[int, Draws]:
        """The draws of all metrics that score the same rows, and which of them is this one."""
        known = np.isfinite(self.scores[metric])
        key = known.tobytes()
        if key not in self._cache:
            names = [name for name, values in self.scores.items() if np.array_equal(np.isfinite(values), known)]
            whole = {error: values for error, values in self.flips.items() if np.isfinite(values[known]).all()}
            labels = np.stack([self.human, *whole.values()])
            metrics = np.stack([self.scores[name] for name in names])
            labels = np.where(known, labels, np.nan)
            self._cache[key] = (names, bootstrap_correlations(labels, metrics, self.groups, self._draws))
        names, draws = self._cache[key]
        return names.index(metric), draws

    def lines(self) -> Iterator[MetricRow]:
        for name, values in self.scores.items():
            known = np.isfinite(values)
            at, draws = self._resampled(name)
            kept = [row for row, k in zip(self.rows, known, strict=True) if k]
            yield MetricRow(
                metric=name,
                subset=self.name,
                n=len(kept),
                documents=len({row.document_id for row in kept}),
                systems=len({row.system for row in kept}),
                pearson=correlate(values, self.human, self.groups),
                pearson_interval=interval(draws.pearson[:, 0, at], LEVEL),
                spearman=correlate(values, self.human, self.groups, "spearman"),
                spearman_interval=interval(draws.spearman[:, at], LEVEL),
                spearman_rank_first=correlate(values, self.human, self.groups, "spearman", "rank_first"),
                raw_pearson=correlate(values, self.human),
                raw_spearman=correlate(values, self.human, method="spearman"),
                kendall=correlate(values, self.human, self.groups, "kendall"),
                auc=_auc(values[known], self.human[known]),
            )

    def comparisons(self) -> list[Comparison]:
        names = list(self.scores)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        tests = [williams_test(self.scores[a], self.scores[b], self.human, self.groups) for a, b in pairs]
        adjusted = holm([test.p for test in tests])
        found = []
        for (a, b), test, p_holm in zip(pairs, tests, adjusted, strict=True):
            both = np.isfinite(self.scores[a]) & np.isfinite(self.scores[b])
            r_first, r_second = (
                correlate(np.where(both, self.scores[name], np.nan), self.human, self.groups).value for name in (a, b)
            )
            found.append(
                Comparison(
                    subset=self.name,
                    first=a,
                    second=b,
                    n=int(both.sum()),
                    r_first=r_first,
                    r_second=r_second,
                    t=test.t,
                    df=test.df,
                    p=test.p,
                    p_holm=p_holm,
                    difference_interval=self._difference(a, b),
                    reason=test.reason,
                )
            )
        return found

    def _difference(self, a: str, b: str) -> tuple[float, float] | None:
        """Only for metrics that score the same rows: others have no common resample of the same pairs."""
        if not np.array_equal(np.isfinite(self.scores[a]), np.isfinite(self.scores[b])):
            return None
        (i, draws), (j, _) = self._resampled(a), self._resampled(b)
        return interval(draws.pearson[:, 0, i] - draws.pearson[:, 0, j], LEVEL)

    def ablations(self) -> Iterator[Ablation]:
        for name, values in self.scores.items():
            at, draws = self._resampled(name)
            resampled = [
                error for error, labels in self.flips.items() if np.isfinite(labels[np.isfinite(values)]).all()
            ]
            for error, flipped in self.flips.items():
                known = np.isfinite(values) & np.isfinite(flipped)
                masked = np.where(known, values, np.nan)
                r, r_flipped = (
                    correlate(masked, labels, self.groups).value
                    for labels in (self.human, np.where(known, flipped, 0.0))
                )
                deltas = None
                if error in resampled:
                    deltas = interval(draws.pearson[:, 0, at] - draws.pearson[:, 1 + resampled.index(error), at], LEVEL)
                yield Ablation(
                    metric=name,
                    subset=self.name,
                    error=error,
                    n=int(known.sum()),
                    changed=int((np.abs(self.human[known] - flipped[known]) > 1e-9).sum()),
                    r=r,
                    r_flipped=r_flipped,
                    delta=r - r_flipped,
                    delta_interval=deltas,
                )


def _registered(name: str, stored: set[str]) -> Scorer:
    from .metrics import METRICS, metric

    if name not in METRICS:
        has = f"Stored in the rows: {', '.join(sorted(stored)) or 'none'}. Registered: {', '.join(METRICS)}."
        raise MetricError(f"metrics: {name!r} is neither stored in the rows nor registered. {has}")
    return metric(name)


def _answers(name: str, item: Any, rows: Sequence[RatedSummary]) -> list[float | None]:
    if callable(item):
        for role in ("document", "summary"):
            if not any(getattr(row, role) for row in rows):
                raise MetricError(f"metric {name!r} reads the {role}, and the rows have none; name its field.")
        texts = [i for i, row in enumerate(rows) if row.document.strip()]
        answers = list(item([rows[i].document for i in texts], [rows[i].summary for i in texts]))
        if len(answers) != len(texts):
            raise MetricError(f"metric {name!r}: {len(answers)} scores for {len(texts)} rows; expected one per row.")
        scored: list[Any] = [None] * len(rows)
        for i, value in zip(texts, answers, strict=True):
            scored[i] = value
        item = scored
    if len(item) != len(rows):
        raise MetricError(f"metric {name!r}: {len(item)} scores for {len(rows)} rows; expected one per row.")
    found: list[float | None] = []
    for i, value in enumerate(item):
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError):
            raise MetricError(f"metric {name!r}: row {i + 1}: expected a number, got {value!r}.") from None
        if number is not None and math.isinf(number):
            raise MetricError(f"metric {name!r}: row {i + 1}: the score is infinite.")
        found.append(None if number is None or math.isnan(number) else number)
    return found


def _rated_only(name: str, item: Any, everything: Sequence[RatedSummary]) -> Any:
    """Scores given for all rows, of the rated rows."""
    if callable(item) or isinstance(item, str):
        return item
    if len(item) != len(everything):
        raise MetricError(f"metric {name!r}: {len(item)} scores for {len(everything)} rows; expected one per row.")
    return [value for value, row in zip(item, everything, strict=True) if row.score is not None]


def _subsets(rows: Sequence[RatedSummary], by: Sequence[str] | None) -> list[str]:
    names = list(dict.fromkeys(row.dataset for row in rows if row.dataset))
    if by is None:
        return ["all", *names] if len(names) > 1 else ["all"]
    for name in by:
        if name != "all" and name not in names:
            raise MetricError(
                f"by: no rated row of data set {name!r}; there are: {', '.join(names) or 'none'}, and all."
            )
    return list(dict.fromkeys(by))


def _auc(values: Floats, human: Floats) -> float | None:
    from scipy.stats import rankdata

    levels = np.unique(human)
    if len(levels) != 2:
        return None
    good = human == levels[1]
    above = float(rankdata(values)[good].sum()) - good.sum() * (good.sum() + 1) / 2
    return float(above / (good.sum() * (~good).sum()))


def _notes(rows: Sequence[RatedSummary], lines: Sequence[MetricRow], control: str) -> Iterator[str]:
    systems = {row.system for row in rows}
    if control != "none" and len(systems) == 1:
        yield "One system, or none named: there is nothing to partial out, so partial and raw correlations are the same."
    shared = {(row.system, row.dataset) for row in rows}
    if control == "system" and len(shared) > len(systems):
        yield "A system wrote for several data sets; `system+dataset` would partial out the data sets too."
    if len({row.document_id for row in rows}) == len(rows):
        yield "Every row is a document of its own, so intervals are by row."
    for line in lines:
        if abs(line.spearman.value - line.spearman_rank_first.value) > _DISAGREE:
            yield (
                f"{line.metric} on {line.subset}: the two definitions of partial Spearman differ, {line.spearman.value:.3f} and "
                f"{line.spearman_rank_first.value:.3f} (rank first). Scores that are mostly tied make residuals that tell the "
                "systems apart again; go by Pearson."
            )
        if line.pearson.reason:
            yield f"{line.metric} on {line.subset}: no partial correlation: {line.pearson.reason}."
