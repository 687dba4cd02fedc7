"""The JSON form of a plan, `lora_drop.json` (our choice, the paper does not say).

Groups and sizes follow from the other fields; they are written out for readers, and checked when read, so that a text
that was edited by hand in one place only is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .errors import PlanError
from .module import PlanModule
from .plan import DropPlan

__all__ = ["FORMAT", "VERSION", "dump", "load"]

FORMAT = "fascicle-loradrop/plan"
VERSION = 1

_PLAN: dict[str, type | tuple[type, ...]] = {
    "scope": str,
    "normalize": str,
    "share_by": str,
    "floor": int,
    "kind": str,
    "seed": (int, type(None)),
    "adapter": str,
    "fingerprint": str,
    "tokens": str,
    "probes": int,
}
_MODULE: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "type": str,
    "d_in": int,
    "d_out": int,
    "r": int,
    "scaling": (int, float),
    "bias": bool,
    "device": str,
    "g": (int, float),
    "importance": (int, float),
}


def dump(plan: DropPlan) -> str:
    """`plan` as JSON text, one line a module."""
    out: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    out |= {name: getattr(plan, name) for name in _PLAN}
    out["selection"] = dict(plan.selection)
    out["keep"] = list(plan.keep)
    out["groups"] = {owner: list(members) for owner, members in plan.groups.items()}
    out["parameters"] = {"before": plan.parameters_before, "after": plan.parameters_after}
    rows = [json.dumps({name: getattr(m, name) for name in _MODULE}) for m in plan.modules]
    head = json.dumps(out, indent=2)
    return head[:-2] + ',\n  "modules": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n"


def load(text: str) -> DropPlan:
    """Read and check what `dump` wrote."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(f"a plan must be JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise PlanError(f"format must be {FORMAT!r}, got {found!r}")
    if data.get("version") != VERSION:
        raise PlanError(f"version must be {VERSION}, got {data.get('version')!r}; was it written by a newer release?")
    derived = {"format", "version", "selection", "keep", "groups", "parameters", "modules"}
    _fields("plan", data, set(_PLAN) | derived)
    values = {name: _typed(name, data[name], kind) for name, kind in _PLAN.items()}
    modules = tuple(_module(i, row) for i, row in enumerate(_list("modules", data["modules"])))
    plan = DropPlan(
        modules=modules,
        keep=tuple(_typed("keep", name, str) for name in _list("keep", data["keep"])),
        selection=_selection(data["selection"]),
        **values,
    )
    _derived("groups", data["groups"], {owner: list(members) for owner, members in plan.groups.items()})
    _derived("parameters", data["parameters"], {"before": plan.parameters_before, "after": plan.parameters_after})
    return plan


def _module(index: int, row: Any) -> PlanModule:
    where = f"modules[{index}]"
    if not isinstance(row, dict):
        raise PlanError(f"{where} must be an object, got {type(row).__name__}")
    _fields(where, row, {field.name for field in fields(PlanModule)})
    values = {name: _typed(f"{where}.{name}", row[name], kind) for name, kind in _MODULE.items()}
    for name in ("d_in", "d_out", "r"):
        if values[name] < 1:
            raise PlanError(f"{where}.{name} must be positive, got {values[name]}")
    for name in ("g", "importance", "scaling"):
        if not math.isfinite(values[name]) or (name != "scaling" and values[name] < 0):
            raise PlanError(f"{where}.{name} must be finite and not negative, got {values[name]}")
        values[name] = float(values[name])
    return PlanModule(**values)


def _selection(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping) or len(value) != 1 or set(value) - {"threshold", "keep", "budget"}:
        raise PlanError(f"selection must be one of threshold, keep and budget with its value, got {value!r}")
    return {name: _typed(f"selection.{name}", number, (int, float)) for name, number in value.items()}


def _fields(where: str, data: Mapping[str, Any], wanted: set[str]) -> None:
    if set(data) != wanted:
        missing, unknown = sorted(wanted - set(data)), sorted(set(data) - wanted)
        raise PlanError(f"{where} has missing fields {missing} or unknown fields {unknown}")


def _typed(where: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise PlanError(f"{where} must be {' or '.join(k.__name__ for k in kinds)}, got {value!r}")
    return value


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise PlanError(f"{where} must be a list with at least one entry, got {value!r}")
    return value


def _derived(where: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise PlanError(
            f"{where} does not follow from modules, keep and share_by: got {found!r}, expected {expected!r}"
        )
