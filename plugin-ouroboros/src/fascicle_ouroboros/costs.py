"""What a forward over k new tokens costs: measured, not assumed to be a line (our choice, see `controller`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from .errors import OuroborosError

__all__ = ["CostModel", "Curve", "median"]


class Curve:
    """Seconds of a forward over 1, 2, ... tokens, and what follows from them.

    >>> curve = Curve([0.0, 1.0, 3.0, 2.0])
    >>> curve.cheapest, curve.least
    ([0, 1, 3, 3], 2.0)
    """

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        """At index k: of k tokens; 0 at index 0."""
        self.least = min(seconds[2:], default=math.inf)
        """The fewest seconds of two tokens or more."""

    @cached_property
    def cheapest(self) -> list[int]:
        """For each size, the size at least as large that costs least: what to pad to."""
        seconds, sizes = self.seconds, list(range(len(self.seconds)))
        for k in range(len(seconds) - 2, 0, -1):
            if seconds[sizes[k + 1]] < seconds[k]:
                sizes[k] = sizes[k + 1]
        return sizes


class CostModel:
    """Seconds of a forward over k new tokens with L tokens in the cache, interpolated between measurements.

    Args:
        seconds: `{(k, L): seconds}` for every pair of some sizes and some contexts; k = 1 must be among the sizes.

    >>> cost = CostModel({(1, 0): 0.07, (2, 0): 0.13, (6, 0): 0.12, (8, 0): 0.14})
    >>> round(cost.seconds(4, context=500), 3), round(cost.seconds(6, context=500), 3)
    (0.125, 0.12)
    """

    def __init__(self, seconds: Mapping[tuple[int, int], float]) -> None:
        self.measured = {(int(k), int(c)): float(s) for (k, c), s in seconds.items()}
        self.sizes = sorted({k for k, _ in self.measured})
        self.contexts = sorted({c for _, c in self.measured})
        missing = [(k, c) for k in self.sizes for c in self.contexts if (k, c) not in self.measured]
        if not self.sizes or self.sizes[0] != 1 or missing:
            raise OuroborosError(
                f"seconds: expected a time for every pair of sizes (with 1) and contexts, got sizes {self.sizes} and contexts "
                f"{self.contexts}; missing: {missing[:4] or 'size 1'}."
            )
        wrong = [pair for pair, s in self.measured.items() if not (math.isfinite(s) and s > 0)]
        if wrong:
            raise OuroborosError(f"seconds{list(wrong[0])}: expected a positive time, got {self.measured[wrong[0]]}.")
        self._measured_curves: dict[tuple[int, int], list[float]] = {}
        self._curves: dict[tuple[int, int], Curve] = {}
        self._plain: deque[float] = deque(maxlen=15)
        self.scale = 1.0
        """What one token costs, relative to what was measured for it."""
        self.spent = (0, 0.0)
        """Forwards and seconds that measuring took; none where it was remembered."""
        self._ratios: dict[int, deque[float]] = {}
        self._seen: dict[int, int] = {}
        self._rounds = 0
        self._factors = [1.0] * (self.sizes[-1] + 1)
        self._nearest = [min(self.sizes, key=lambda size: (abs(size - k), size)) for k in range(self.sizes[-1] + 1)]
        self._like = {
            size: [k for k, near in enumerate(self._nearest) if near == size and k > 1] for size in self.sizes
        }

    def seconds(self, k: int, context: int) -> float:
        """t(k, L), corrected by what was observed.

        >>> CostModel({(1, 0): 1.0, (4, 0): 1.6}).seconds(2, 0)
        1.2
        """
        return self._measured(k, context) * self.scale * self._factors[min(k, self.sizes[-1])]

    def curve(self, context: int, most: int) -> list[float]:
        """`[0, t(1, L), ..., t(most, L)]`; L to the nearest 32.

        >>> [round(t, 2) for t in CostModel({(1, 0): 1.0, (3, 0): 2.0}).curve(0, 4)]
        [0.0, 1.0, 1.5, 2.0, 2.5]
        """
        return [self.scale * t for t in self.unscaled(context, most).seconds]

    def unscaled(self, context: int, most: int) -> Curve:
        """The curve but for `scale`, which changes all the time; the curve's form does not, so that it is kept.

        >>> CostModel({(1, 0): 1.0, (2, 0): 3.0, (3, 0): 2.0}).unscaled(0, 3).cheapest
        [0, 1, 3, 3]
        """
        key = (context + 16) // 32, most
        curve = self._curves.get(key)
        if curve is None:
            measured = self._measured_curves.get(key)
            if measured is None:
                if len(self._measured_curves) > 256:
                    self._measured_curves.clear()
                    self._curves.clear()
                measured = [0.0, *(self._measured(k, 32 * key[0]) for k in range(1, most + 1))]
                self._measured_curves[key] = measured
            factors = self._factors
            factors = factors + factors[-1:] * (most + 1 - len(factors))
            curve = self._curves[key] = Curve([t * f for t, f in zip(measured, factors, strict=False)])
        return curve

    def observe(self, k: int, context: int, seconds: float) -> None:
        """Correct the model by one forward. A single slow one changes nothing: medians of the last ones count.

        One token's time scales the whole curve; another size's time corrects that size. What a size was corrected by is forgotten
        after 256 rounds without it, so that it gets another chance.

        >>> cost = CostModel({(1, 0): 1.0, (4, 0): 1.6})
        >>> for s in (2.0, 2.0, 90.0):
        ...     cost.observe(1, 0, s)
        >>> cost.seconds(1, 0), cost.seconds(4, 0)
        (2.0, 3.2)
        """
        self._rounds += 1
        if not 1 <= k <= self.sizes[-1] or not (math.isfinite(seconds) and seconds > 0):
            return
        if k == 1:
            self._plain.append(seconds / self._measured(1, context))
            few = 3 - len(self._plain)
            self.scale = median([*self._plain, *[self.scale] * few] if few > 0 else self._plain)
        else:
            size = self._nearest[k]
            ratios = self._ratios.setdefault(size, deque(maxlen=9))
            ratios.append(seconds / self._measured(k, context) / self.scale)
            self._seen[size] = self._rounds
            self._correct(size, median([*ratios, *[1.0] * (3 - len(ratios))]))
        if self._rounds % 32 == 0:
            for size in [size for size, last in self._seen.items() if self._rounds - last >= 256]:
                del self._seen[size], self._ratios[size]
                self._correct(size, 1.0)

    def _correct(self, size: int, factor: float) -> None:
        like = self._like[size]
        if like and self._factors[like[0]] != factor:
            for k in like:
                self._factors[k] = factor
            self._curves.clear()

    def _measured(self, k: int, context: int) -> float:
        """Interpolated in k and in L, never assumed to grow; beyond the measurements the last slope goes on, if it rises."""
        contexts = self.contexts
        i = min(max(bisect_right(contexts, context) - 1, 0), max(len(contexts) - 2, 0))
        low = self._at(k, contexts[i])
        if len(contexts) == 1:
            return low
        high = self._at(k, contexts[i + 1])
        share = (context - contexts[i]) / (contexts[i + 1] - contexts[i])
        if share > 1:
            return high + max(0.0, high - low) * (share - 1)
        return low + (high - low) * max(share, 0.0)

    def _at(self, k: int, context: int) -> float:
        sizes, t = self.sizes, self.measured
        exact = t.get((k, context))
        if exact is not None:
            return exact
        if len(sizes) == 1:
            return t[1, context] * max(k, 1)
        i = min(max(bisect_right(sizes, k) - 1, 0), len(sizes) - 2)
        a, b = sizes[i], sizes[i + 1]
        low, high = t[a, context], t[b, context]
        slope = (high - low) / (b - a)
        if k > b:
            return high + max(0.0, slope) * (k - b)
        return low + slope * (k - a)

    # ---- measuring and keeping ----

    @classmethod
    def calibrate(
        cls,
        measure: Callable[[int, int], float],
        sizes: Sequence[int] = (1, 2, 4, 6, 8, 16, 32),
        contexts: Sequence[int] = (256,),
        *,
        repeats: int = 3,
        budget: float = math.inf,
    ) -> CostModel:
        """Measure every size at every context; the least of `repeats` rounds over all of them.

        Args:
            measure: `measure(k, L)` runs one forward and returns its seconds.
            sizes: tokens fed. Name the small ones: that is where the curve is not a line.
            contexts: tokens in the cache.
            repeats: how often. Sizes are interleaved, so that a busy moment does not hit one of them alone.
            budget: seconds after which nothing is measured again; once it is done whatever that takes.

        >>> CostModel.calibrate(lambda k, L: 1.0 + 0.1 * k, sizes=(1, 2), contexts=(0,)).seconds(2, 0)
        1.2
        """
        begin = time.perf_counter()
        times: dict[tuple[int, int], list[float]] = {}
        forwards = 0
        for _ in range(max(1, repeats)):
            for pair in [(k, context) for context in contexts for k in sizes]:
                known = times.setdefault(pair, [])
                if not known or time.perf_counter() - begin + known[0] <= budget:
                    known.append(measure(*pair))
                    forwards += 1
        cost = cls({pair: min(seconds) for pair, seconds in times.items()})
        cost.spent = forwards, time.perf_counter() - begin
        return cost

    def to_json(self) -> str:
        """The measurements as JSON text.

        >>> CostModel.from_json(CostModel({(1, 0): 0.5}).to_json()).seconds(1, 0)
        0.5
        """
        rows = [[k, c, s] for (k, c), s in sorted(self.measured.items())]
        return json.dumps({"format": _COST_FORMAT, "version": 1, "seconds": rows})

    @classmethod
    def from_json(cls, text: str) -> CostModel:
        """Read what `to_json` wrote.

        Raises:
            OuroborosError: something else came.
        """
        try:
            data = json.loads(text)
            if data["format"] != _COST_FORMAT or data["version"] != 1:
                raise OuroborosError(f"costs: expected {_COST_FORMAT} 1, got {data['format']} {data['version']}.")
            return cls({(k, c): s for k, c, s in data["seconds"]})
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, OuroborosError):
                raise
            raise OuroborosError(f"costs: expected the JSON text of a cost model, got {text[:40]!r}.") from error

    @classmethod
    def cached(
        cls, model: str, make: Callable[[], CostModel], folder: str | os.PathLike[str] | None = None
    ) -> CostModel:
        """What was measured for `model` in this process, or on this host in an earlier one; else what `make` measures now.

        Each call gives an object of its own: what one engine observes does not correct another's.

        Args:
            model: what the times depend on beside the host: model, dtype, device, threads, versions.
            make: measures.
            folder: where the measurements are kept for other processes. None: in this process alone.

        >>> first = CostModel.cached("toy fp32", lambda: CostModel({(1, 0): 0.5}))
        >>> CostModel.cached("toy fp32", lambda: 1 / 0).seconds(1, 0)
        0.5
        """
        path = kept = None
        if folder is not None:
            host = f"{platform.node()} {platform.machine()} {platform.processor()} {os.cpu_count()}"
            name = hashlib.sha256(f"{host}\n{model}".encode()).hexdigest()[:20]
            path = Path(folder) / f"cost-{name}.json"
            with contextlib.suppress(OSError, UnicodeDecodeError, OuroborosError):
                kept = cls.from_json(path.read_text("utf-8"))
        cost = cls(_MEASURED[model]) if model in _MEASURED else kept or make()
        _MEASURED[model] = cost.measured
        if path is not None and kept is None:
            from fascicle.results import atomic_write_text

            atomic_write_text(path, cost.to_json())
        return cost


_MEASURED: dict[str, dict[tuple[int, int], float]] = {}
_COST_FORMAT = "fascicle-ouroboros/costs"


def median(values: Collection[float]) -> float:
    """The middle value, or the mean of the two in the middle.

    >>> median([3.0, 1.0, 2.0])
    2.0
    """
    ordered, n = sorted(values), len(values)
    return ordered[n // 2] if n % 2 else 0.5 * (ordered[n // 2 - 1] + ordered[n // 2])
