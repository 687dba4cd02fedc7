"""What only LoRA-drop can show: importance per layer and type, what is kept and shared, how stable the ranking is. Plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fascicle.objects import Block, Section

from .naming import layer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .energies import Energies
    from .options import LoraDrop
    from .plan import DropPlan
    from .stability import Stability
    from .uniform import UniformRank

__all__ = ["sections", "short_names"]

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def sections(
    plan: DropPlan,
    cfg: LoraDrop,
    energies: Sequence[Energies],
    stability: Stability | None = None,
    uniform: UniformRank | None = None,
) -> list[Section]:
    """The plugin's part of a run's page."""
    blocks = [_summary(plan, cfg, uniform), _heatmap(plan), _by_type(plan), _sweep(plan), _fates(plan)]
    if stability is not None:
        blocks += _stability(stability, energies)
    return [Section(title="LoRA-drop: where LoRA acts", blocks=blocks, plugin="loradrop")]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted name that no other shares.

    >>> short_names(["h.attention.out", "h.mlp.out", "h.query"])
    {'h.attention.out': 'attention.out', 'h.mlp.out': 'mlp.out', 'h.query': 'query'}
    """
    short = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-k:]) for k in range(1, len(parts) + 1)]
        shared = [sum(f".{other}".endswith(f".{end}") for other in names) for end in ends]
        short[name] = next((end for end, n in zip(ends, shared, strict=True) if n == 1), name)
    return short


def _summary(plan: DropPlan, cfg: LoraDrop, uniform: UniformRank | None) -> Block:
    (rule, value), *_ = plan.selection.items()
    text = (
        f"Selected by {rule} = {value:g}: {len(plan.keep)} of {len(plan.modules)} modules keep their own LoRA and carry "
        f"{100 * plan.kept_importance:.1f} % of the importance; the other {len(plan.low)} "
    )
    text += (
        "get none. "
        if cfg.share_by == "none"
        else f"share {len(plan.groups)} pairs, one per {'weight type and ' if plan.share_by == 'type' else ''}shape. "
    )
    text += f"Parameters: {plan.parameters_after:,} of {plan.parameters_before:,} ({100 * plan.fraction:.1f} %)."
    if plan.kind != "loradrop":
        text += f"\n\nThis is the control '{plan.kind}': the modules were not chosen by importance."
    if uniform is not None:
        text += (
            f"\n\nThis is the control 'uniform': no module is dropped, every rank is smaller (r = {uniform.rank}, "
            f"{len(uniform.rank_pattern)} modules r + 1), {uniform.parameters_exact:,} parameters. The plan below gave the size."
        )
    return Block(kind="text", data={"text": text})


def _heatmap(plan: DropPlan) -> Block:
    """Importance over layers (rows) and weight types (columns); kept modules are marked."""
    kept = set(plan.keep)
    types = list(dict.fromkeys(m.type for m in plan.modules))
    layers = list(dict.fromkeys(layer_of(m.name) for m in plan.modules))
    values: list[list[float | None]] = [[None] * len(types) for _ in layers]
    marked = []
    for m in plan.modules:
        row, column = layers.index(layer_of(m.name)), types.index(m.type)
        values[row][column] = (values[row][column] or 0.0) + 100 * m.importance
        if m.name in kept:
            marked.append([row, column])
    short = short_names([layer for layer in layers if layer])
    rows = [short.get(layer, "outside layers") for layer in layers]
    data = {
        "rows": rows,
        "columns": list(short_names(types).values()),
        "values": values,
        "marked": marked,
        "unit": "% of importance",
    }
    return Block(kind="heatmap", title="Importance of each module (marked: kept)", data=data)


def _by_type(plan: DropPlan) -> Block:
    types = list(dict.fromkeys(m.type for m in plan.modules))
    kept = set(plan.keep)
    own = [100 * sum(m.importance for m in plan.modules if m.type == t and m.name in kept) for t in types]
    low = [100 * sum(m.importance for m in plan.modules if m.type == t and m.name not in kept) for t in types]
    data = {"labels": list(short_names(types).values()), "series": {"kept": own, "low": low}, "unit": "% of importance"}
    return Block(kind="bars", title="Importance by weight type", data=data)


def _sweep(plan: DropPlan) -> Block:
    rows = [
        [
            f"{T:g}",
            len(p.keep),
            f"{100 * len(p.keep) / len(p.modules):.0f} %",
            p.parameters_after,
            f"{100 * p.fraction:.1f} %",
        ]
        for T, p in zip(THRESHOLDS, plan.sweep(THRESHOLDS), strict=True)
    ]
    return Block(
        kind="table",
        title="What other thresholds would keep",
        data={"columns": ["T", "modules kept", "of all", "parameters", "of LoRA's"], "rows": rows},
    )


def _fates(plan: DropPlan) -> Block:
    rows: list[list[Any]] = [
        [
            row["name"],
            row["type"],
            f"{100 * row['importance']:.2f}",
            f"{100 * row['cumulative']:.1f}",
            row["fate"],
            row["parameters"],
        ]
        for row in plan.table()
    ]
    columns = ["module", "type", "importance %", "cumulative %", "fate", "parameters"]
    caption = "A shared pair's parameters stand at its owner."
    return Block(kind="table", title="Every module", data={"columns": columns, "rows": rows, "caption": caption})


def _stability(stability: Stability, energies: Sequence[Energies]) -> list[Block]:
    n = len(energies)
    rows = [
        [f"{T:g}", " / ".join(map(str, stability.kept[T])), f"{stability.mean_jaccard(T):.2f}"]
        for T in stability.jaccard
    ]
    names = [f"probe {i + 1}" for i in range(n)]
    return [
        Block(
            kind="text",
            title="Stability of the ranking",
            data={
                "text": f"{n} probes; mean Spearman correlation of their importances {stability.mean_spearman:.3f}. The table "
                "shows how many modules each probe alone would keep and how much the sets agree (Jaccard)."
            },
        ),
        Block(kind="table", data={"columns": ["T", "kept by each probe", "mean Jaccard"], "rows": rows}),
        Block(
            kind="heatmap",
            title="Spearman correlation of importances",
            data={"rows": names, "columns": names, "values": np.asarray(stability.spearman).tolist()},
        ),
    ]
