"""Run folders for the tests of results and reports: small, with known numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fascicle.results import Result, write_result


def make_result(
    option: str = "hf_lora",
    seed: int = 1,
    *,
    metrics: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    task: str = "a",
    report: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Result:
    """A result as a run writes it; `option` of the group training, `options` its keys."""
    config: dict[str, Any] = {
        "data": {"provider": "hf", "kind": "hf_classification", "task": task},
        "training": {"provider": "hf", "kind": option, "rate": 0.001, **(options or {})},
        "seed": seed,
        "name": "demo",
    }
    if report:
        config["report"] = dict(report)
    metrics = dict(metrics or {"accuracy": 0.5})
    fields.setdefault("primary", next(iter(metrics)))
    fields.setdefault("higher_is_better", dict.fromkeys(metrics, True))
    fields.setdefault("finished", "2026-01-01T00:00:00+00:00")
    return Result(
        name=fields.pop("name", "demo"),
        label=fields.pop("label", f"{option}-{task}"),
        identity=fields.pop("identity", f"{option}-{sorted((options or {}).items())}-{task}-{seed}"),
        seed=seed,
        choices={"data": "hf_classification", "training": option},
        config=config,
        metrics=metrics,
        **fields,
    )


def write_runs(root: Path, values: Mapping[str, Sequence[float]], metric: str = "accuracy", **fields: Any) -> Path:
    """One folder per value: arm `name` or `name:key=value`, seeds 1, 2, ..."""
    for arm, numbers in values.items():
        option, _, key = arm.partition(":")
        options = dict([key.split("=")]) if key else {}
        for seed, number in enumerate(numbers, 1):
            result = make_result(option, seed, metrics={metric: number}, options=options, **fields)
            write_result(root / f"{arm.replace(':', '-')}-{fields.get('task', 'a')}-{seed}", result)
    return root
