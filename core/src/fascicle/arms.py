"""Runs sorted into arms: what differs only by the seed is one arm, and an arm is called by what sets it apart.

An arm's name holds the chosen options that differ (`training=loradrop`) and, among arms of one option, the keys that differ
(`threshold=0.9`). Keys that only one option has say nothing new and are left out.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ResultError
from .hookspecs import VERBS

if TYPE_CHECKING:
    from .results import Result

__all__ = ["Arm", "Run", "Selector", "arms_of", "flatten", "show_value", "split_value"]

_NOT_COMPARED = frozenset({"seed", "run", "name", "description", "vars", "report", "experiment"})
_MISSING = "(not set)"


@dataclass(eq=False)
class Run:
    """A result with its folder and the configuration that can set it apart: dotted key to value."""

    folder: Path
    result: Result
    leaves: dict[str, Any] = field(init=False)
    arm: Arm | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        config = {k: v for k, v in self.result.config.items() if k not in _NOT_COMPARED and not k.startswith("_")}
        self.leaves = flatten(config)
        for group, option in self.result.choices.items():
            if group in VERBS and group not in config:
                self.leaves[group] = option

    def get(self, key: str) -> Any:
        """The chosen option of a group, or the value of a dotted key; `(not set)` where the run has neither."""
        if key in VERBS and key in self.result.choices:
            return self.result.choices[key]
        return self.leaves.get(key, _MISSING)

    def has(self, key: str) -> bool:
        """Whether the run has that group or key."""
        return key in self.leaves or (key in VERBS and key in self.result.choices)

    @property
    def seed(self) -> int:
        return self.result.seed


@dataclass(eq=False)
class Arm:
    """Runs that differ only by the seed, in the order of their seeds."""

    name: str
    parts: dict[str, str]
    """Short key to shown value: the pieces of the name."""
    runs: list[Run]
    split: tuple[str, ...] = ()
    """Values of the `split_by` keys: which table the arm stands in."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value; lists are values.

    >>> flatten({"training": {"rank": 8, "on": ["q", "v"]}})
    {'training.rank': 8, 'training.on': ['q', 'v']}
    """
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def show_value(value: Any, width: int = 40) -> str:
    """A value as a person would type it, shortened in the middle.

    >>> show_value(0.9), show_value(True), show_value(["q", "v"]), show_value(None)
    ('0.9', 'true', '[q,v]', 'null')
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, float):
        text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    elif isinstance(value, list | tuple):
        text = "[" + ",".join(show_value(item) for item in value) + "]"
    else:
        text = json.dumps(value)
    if len(text) > width:
        text = f"{text[: width // 2]}…{text[-(width - width // 2 - 1) :]}"
    return text


def split_value(run: Run, split_by: Sequence[str]) -> tuple[str, ...]:
    """The values of the `split_by` keys, as shown."""
    return tuple(show_value(run.get(key)) for key in split_by)


def arms_of(runs: Sequence[Run], split_by: Sequence[str] = ()) -> list[Arm]:
    """Sort runs into arms and name them; arms of different tables share a name when they are the same method.

    Arms come in the order of their first run; runs in the order of their seeds.
    """
    derived = _seed_derived(runs)
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps({k: v for k, v in run.leaves.items() if k not in derived}, sort_keys=True)
        grouped.setdefault(key, []).append(run)
    cells: dict[tuple[str, ...], list[list[Run]]] = {}
    for members in grouped.values():
        cells.setdefault(split_value(members[0], split_by), []).append(sorted(members, key=lambda run: run.seed))
    groups, leaves = _telling_keys(cells, split_by, derived)
    short = _short_keys([*groups, *dict.fromkeys(key for _, key in leaves)])
    arms: list[Arm] = []
    for split, cell in cells.items():
        taken: dict[str, int] = {}
        for members in cell:
            parts = _parts(members[0], groups, leaves, short)
            name = " ".join(f"{key}={value}" for key, value in parts.items())
            name = name or members[0].result.label or members[0].result.name or "run"
            taken[name] = taken.get(name, 0) + 1
            if taken[name] > 1:  # values that look alike once shortened
                name = f"{name} ({taken[name]})"
            arm = Arm(name=name, parts=parts, runs=members, split=split)
            for run in members:
                run.arm = arm
            arms.append(arm)
    return arms


def _seed_derived(runs: Sequence[Run]) -> set[str]:
    """Keys that repeat the seed in every run (`data.seed: ${seed}`)."""
    if len({run.seed for run in runs}) < 2:
        return set()
    keys = {key for run in runs for key in run.leaves}
    return {
        key
        for key in keys
        if all(type(run.leaves[key]) is int and run.leaves[key] == run.seed for run in runs if key in run.leaves)
        and len({run.seed for run in runs if key in run.leaves}) > 1
    }


Telling = tuple[list[str], list[tuple[tuple[str, str] | None, str]]]


def _telling_keys(
    cells: Mapping[tuple[str, ...], list[list[Run]]], split_by: Sequence[str], derived: set[str]
) -> Telling:
    """Groups whose option differs inside a table; and (the option it depends on, key) of the keys that differ."""
    groups: dict[str, None] = {}
    leaves: dict[tuple[tuple[str, str] | None, str], None] = {}
    for cell in cells.values():
        heads = [members[0] for members in cell]
        for group in VERBS:
            options = {head.result.choices.get(group) for head in heads}
            if len(options) > 1 and None not in options and group not in split_by and _differ(heads, group, derived):
                groups[group] = None
    for cell in cells.values():
        heads = [members[0] for members in cell]
        for key in dict.fromkeys(key for head in heads for key in head.leaves if key not in derived):
            if any(key == split or key.startswith(f"{split}.") for split in split_by):
                continue
            group = key.split(".")[0]
            if group not in groups:
                if len({_canonical(head.get(key)) for head in heads}) > 1:
                    leaves[None, key] = None
                continue
            for option in dict.fromkeys(head.result.choices[group] for head in heads):
                same = [head for head in heads if head.result.choices[group] == option]
                if len({_canonical(head.get(key)) for head in same}) > 1:
                    leaves[(group, option), key] = None
    return [group for group in VERBS if group in groups], list(leaves)


def _differ(heads: Sequence[Run], group: str, derived: set[str]) -> bool:
    """Whether the configuration under `group` differs, not only the name of the file it came from."""
    seen = set()
    for head in heads:
        below = {k: v for k, v in head.leaves.items() if k.split(".")[0] == group and k not in derived}
        seen.add(_canonical(below))
    return len(seen) > 1


def _parts(
    run: Run,
    groups: Sequence[str],
    leaves: Sequence[tuple[tuple[str, str] | None, str]],
    short: Mapping[str, str],
) -> dict[str, str]:
    parts = {short[group]: show_value(run.get(group)) for group in groups}
    for owner, key in leaves:
        if owner is None or run.result.choices.get(owner[0]) == owner[1]:
            parts[short[key]] = show_value(run.get(key))
    return parts


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each key's shortest tail that no other key shares.

    >>> _short_keys(["training", "training.threshold", "model.rank", "training.rank"])["training.threshold"]
    'threshold'
    """
    pieces = {key: key.split(".") for key in keys}
    short = {}
    for key, piece in pieces.items():
        for length in range(1, len(piece) + 1):
            tail = piece[-length:]
            if not any(other != key and pieces[other][-length:] == tail for other in keys):
                break
        short[key] = ".".join(tail)
    return short


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# ---- the baseline --------------------------------------------------------------------------------------------------------


class Selector:
    """Chooses runs by `key=value` (several: separated by spaces) and finds the counterpart of each other run.

    >>> from fascicle.results import Result
    >>> r = Run(Path("a"), Result(name="n", label="l", identity="i", seed=1, choices={"training": "hf_lora"}))
    >>> Selector("training=hf_lora", [r]).matches(r)
    True
    """

    def __init__(self, text: str, runs: Sequence[Run]) -> None:
        """Resolve the keys of `text` against `runs`.

        Raises:
            ResultError: not `key=value`; a key that no run has or that is ambiguous; a value that no run has.
        """
        self.text = text
        self.wanted: dict[str, str] = {}
        for word in text.split():
            key, sign, value = word.partition("=")
            if not sign or not key:
                raise ResultError(f"baseline: expected key=value, e.g. training=hf_lora; got {word!r}.")
            self.wanted[_resolve(key, runs)] = value
        if not self.wanted:
            raise ResultError("baseline: expected key=value, e.g. training=hf_lora; got nothing.")
        if not any(self.matches(run) for run in runs):
            for key, value in self.wanted.items():
                known = sorted({show_value(run.get(key)) for run in runs})
                if value not in known:
                    raise ResultError(
                        f"baseline: no run has {key}={value}; the runs have {key} in {{{', '.join(known)}}}."
                    )
            raise ResultError(f"baseline: no run has all of {text!r}; leave one of its keys out.")

    def matches(self, run: Run) -> bool:
        """Whether the run is one of the baseline's."""
        return all(show_value(run.get(key), width=10_000) == value for key, value in self.wanted.items())

    def _compared(self, key: str) -> bool:
        return any(key == wanted or key.startswith(f"{wanted}.") for wanted in self.wanted)

    def counterpart(self, run: Run, candidates: Iterable[Run]) -> Run | None:
        """The baseline run with the same seed and the same everything else; None where there is none.

        Raises:
            ResultError: more than one fits.
        """
        seeded = [other for other in candidates if self.matches(other) and other.seed == run.seed]
        fitting = [other for other in seeded if not self.differing(run, other)]
        if len(fitting) > 1:  # the baseline was swept as well: the keys of that sweep that the run has decide
            swept = {
                key
                for key in {key for other in fitting for key in other.leaves}
                if len({_canonical(other.get(key)) for other in fitting}) > 1 and key in run.leaves
            }
            fitting = [other for other in fitting if all(other.get(key) == run.get(key) for key in swept)] or fitting
        if len(fitting) > 1:
            names = "; ".join(other.arm.name if other.arm else str(other.folder) for other in fitting)
            raise ResultError(
                f"baseline: {self.text!r} fits {len(fitting)} runs of seed {run.seed} ({names}); add a key that tells them "
                "apart, e.g. --baseline 'training=hf_lora training.rank=8'."
            )
        return fitting[0] if fitting else None

    def differing(self, run: Run, other: Run) -> list[str]:
        """Keys beside the compared ones in which two runs of one seed differ."""
        keys = dict.fromkeys([*run.leaves, *other.leaves])
        return [key for key in keys if not self._compared(key) and run.get(key) != other.get(key)]


def _resolve(key: str, runs: Sequence[Run]) -> str:
    known = dict.fromkeys(key for run in runs for key in [*(g for g in VERBS if g in run.result.choices), *run.leaves])
    if key in known:
        return key
    tails = [name for name in known if name.endswith(f".{key}")]
    if len(tails) == 1:
        return tails[0]
    if tails:
        raise ResultError(f"baseline: {key!r} could be {' or '.join(tails)}; write the whole key.")
    close = difflib.get_close_matches(key, known, n=1) or [name for name in known if name.split(".")[-1] == key][:1]
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ResultError(f"baseline: no run has a key {key!r}.{hint} Known groups: {', '.join(VERBS)}.")
