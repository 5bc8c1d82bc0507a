"""What the calls of a hook of a plugin cost: their number and durations, in bounded memory."""

import math
from typing import Any

SMALLEST = 1e-6
"""Seconds. Shorter calls are counted as this long."""

STEP = 1.25
"""How much longer the calls of a bucket are than those of the one before."""

_LOG_STEP = math.log(STEP)
BUCKETS = 96
"""The last bucket holds all calls of more than about half an hour."""


class Costs:
    """The calls of one hook of one plugin. `failures` are those that raised an exception which is not an error of the API, or were
    cancelled after plugins.hook_timeout."""

    __slots__ = ("_buckets", "calls", "failures", "longest", "total")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.total = 0.0
        self.longest = 0.0
        self._buckets = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        """Counts a call."""
        self.calls += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        place = 0 if seconds <= SMALLEST else math.ceil(math.log(seconds / SMALLEST) / _LOG_STEP)
        self._buckets[min(place, BUCKETS - 1)] += 1

    def within(self, share: float) -> float:
        """Returns the seconds within which this share (0 to 1) of the calls ended, up to 25% too high; 0 if there are no calls."""
        left = math.ceil(self.calls * share)
        if not left:
            return 0.0
        for place, number in enumerate(self._buckets):
            left -= number
            if left <= 0:
                return min(SMALLEST * STEP**place, self.longest)
        return self.longest

    def shown(self) -> dict[str, Any]:
        """Returns the costs, durations in milliseconds."""
        mean = self.total / self.calls if self.calls else 0.0
        return {
            "calls": self.calls,
            "failures": self.failures,
            "mean_ms": round(mean * 1000, 3),
            "p99_ms": round(self.within(0.99) * 1000, 3),
            "max_ms": round(self.longest * 1000, 3),
        }
