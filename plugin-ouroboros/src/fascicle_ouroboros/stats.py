"""What happened while a text was written: tokens by source and depth, passes, time.

τ = emitted tokens / forwards of the target        the paper's block efficiency
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PARTS", "Stats"]

PARTS = ("draft", "target", "pool", "walk", "kv")
"""Where the time goes: the draft model, the target, pool and tree, choosing tokens, caches."""
MOST_TIMED = 4096


@dataclass
class Stats:
    """Counters of one text, or of several after `merge`.

    >>> stats = Stats()
    >>> stats.add_round(fed=4, tokens=[(7, "prompt"), (8, "target")], proposed=["prompt"] * 3, accepted=["prompt"])
    >>> stats.tau, stats.target_tokens_fed, stats.by_source
    (2.0, 4, {'prompt': {'proposed': 3, 'accepted': 1}})
    """

    rounds: int = 0
    drafted_rounds: int = 0
    """Rounds whose pass verified drafted tokens; the others were plain steps."""
    target_forwards: int = 0
    draft_forwards: int = 0
    target_tokens_fed: int = 0
    draft_tokens_fed: int = 0
    emitted: int = 0
    calibration_forwards: int = 0
    """Forwards that measured what forwards cost, before this text; not among the others."""
    calibration_seconds: float = 0.0
    accepted_by_depth: list[int] = field(default_factory=list)
    """At index d - 1: rounds that accepted at least d drafted tokens."""
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)
    """Drafted tokens `proposed` and `accepted`, by where they came from: `draft` or a source of the pool."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    mode: str = ""
    """How the target verified: `tree`, `chain` or `plain`."""
    timed: list[tuple[float, float]] = field(default_factory=list)
    """(predicted, measured) seconds of the last rounds that somebody predicted."""
    tokens: list[tuple[int, str]] = field(default_factory=list)
    """Each token written, and who foretold it; `target`: nobody."""

    @property
    def tau(self) -> float:
        """τ, tokens per forward of the target; 1 before anything was written, as in plain decoding.

        >>> Stats(emitted=6, target_forwards=4).tau
        1.5
        """
        return self.emitted / self.target_forwards if self.target_forwards else 1.0

    @property
    def accepted(self) -> int:
        """Drafted tokens that the target chose itself.

        >>> Stats(by_source={"draft": {"proposed": 5, "accepted": 3}}).accepted
        3
        """
        return sum(counts["accepted"] for counts in self.by_source.values())

    @property
    def proposed(self) -> int:
        """Drafted tokens that the target verified.

        >>> Stats(by_source={"draft": {"proposed": 5, "accepted": 3}}).proposed
        5
        """
        return sum(counts["proposed"] for counts in self.by_source.values())

    @property
    def prediction_error(self) -> float | None:
        """Mean of |predicted - measured| / measured over the timed rounds; None where none was predicted.

        >>> Stats(timed=[(1.0, 2.0), (3.0, 2.0)]).prediction_error
        0.5
        """
        errors = [abs(p - m) / m for p, m in self.timed if m > 0]
        return sum(errors) / len(errors) if errors else None

    def add_round(
        self,
        *,
        fed: int,
        tokens: Sequence[tuple[int, str]],
        proposed: Iterable[str],
        accepted: Sequence[str],
        predicted: float | None = None,
        measured: float | None = None,
    ) -> None:
        """Count one pass of the target.

        Args:
            fed: tokens that it was fed.
            tokens: what was written, each with its source; `target` for the token that no draft foretold.
            proposed: source of every drafted token that it verified.
            accepted: source of each that it chose itself, nearest first.
            predicted, measured: seconds of the round, where somebody predicted them.
        """
        self.rounds += 1
        self.target_forwards += 1
        self.target_tokens_fed += fed
        self.emitted += len(tokens)
        self.tokens += tokens
        drafted = False
        for source in proposed:
            self._of(source)["proposed"] += 1
            drafted = True
        self.drafted_rounds += drafted
        for source in accepted:
            self._of(source)["accepted"] += 1
        depth = self.accepted_by_depth
        depth += [0] * (len(accepted) - len(depth))
        for d in range(len(accepted)):
            depth[d] += 1
        if predicted and measured:
            self.timed.append((predicted, measured))
            del self.timed[:-MOST_TIMED]

    def _of(self, source: str) -> dict[str, int]:
        counts = self.by_source.get(source)
        if counts is None:
            counts = self.by_source[source] = {"proposed": 0, "accepted": 0}
        return counts

    def merge(self, *others: Stats) -> Stats:
        """The sum of this and others, as a new object.

        >>> Stats(rounds=1, mode="tree").merge(Stats(rounds=2, mode="tree"), Stats(mode="plain")).mode
        'plain, tree'
        """
        total = Stats()
        for one in (self, *others):
            for name in (
                "rounds",
                "drafted_rounds",
                "target_forwards",
                "draft_forwards",
                "target_tokens_fed",
                "draft_tokens_fed",
                "emitted",
                "calibration_forwards",
                "calibration_seconds",
            ):
                setattr(total, name, getattr(total, name) + getattr(one, name))
            longer = max(len(total.accepted_by_depth), len(one.accepted_by_depth))
            total.accepted_by_depth = [
                sum(counts[d] for counts in (total.accepted_by_depth, one.accepted_by_depth) if d < len(counts))
                for d in range(longer)
            ]
            for source, counts in one.by_source.items():
                mine = total._of(source)
                mine["proposed"] += counts["proposed"]
                mine["accepted"] += counts["accepted"]
            for part, seconds in one.seconds.items():
                total.seconds[part] = total.seconds.get(part, 0.0) + seconds
            total.timed += one.timed
            total.tokens += one.tokens
        del total.timed[:-MOST_TIMED]
        total.mode = ", ".join(sorted({one.mode for one in (self, *others) if one.mode}))
        return total

    def to_dict(self) -> dict[str, Any]:
        """The counters as plain data for JSON; without the tokens.

        >>> Stats(emitted=3, target_forwards=2).to_dict()["tau"]
        1.5
        """
        return {
            "mode": self.mode,
            "tau": self.tau,
            "rounds": self.rounds,
            "drafted_rounds": self.drafted_rounds,
            "target_forwards": self.target_forwards,
            "draft_forwards": self.draft_forwards,
            "target_tokens_fed": self.target_tokens_fed,
            "draft_tokens_fed": self.draft_tokens_fed,
            "emitted": self.emitted,
            "calibration_forwards": self.calibration_forwards,
            "calibration_seconds": self.calibration_seconds,
            "proposed": self.proposed,
            "accepted": self.accepted,
            "accepted_by_depth": list(self.accepted_by_depth),
            "by_source": {source: dict(counts) for source, counts in sorted(self.by_source.items())},
            "seconds": dict(self.seconds),
            "prediction_error": self.prediction_error,
        }
