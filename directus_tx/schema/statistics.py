"""What the lists of a project are filtered and sorted by, and how long their statements take. No values are kept."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

MAX_LOOKUPS = 500
"""The number of lookups that are kept of a project."""

ROOM = 50
"""How many of them, those with the fewest statements, are removed at once to make room for others."""

MAX_PARTS = 16
"""The number of conditions and sort fields of a lookup. Queries with more are not counted, so that the memory is bounded."""


class Asked(NamedTuple):
    """A condition without its value: the dotted path, the operator, and "and" or "or", which joins it to those before."""

    field: str
    operator: str
    logical: str = "and"


class Lookup(NamedTuple):
    """How the rows of a list are found: the filter, the names of the sort fields, with "-" in front for descending order, and whether there
    is a search (`q`)."""

    collection: str
    filter: tuple[Asked, ...] = ()
    sort: tuple[str, ...] = ()
    search: bool = False


class Timing:
    """How often the statements of a lookup were run, and the seconds that they took: in `total`, and the `longest`. `kept`: the statistics
    contain it."""

    __slots__ = ("_statistics", "count", "kept", "longest", "lookup", "total")

    def __init__(self, lookup: Lookup, statistics: "Statistics") -> None:
        self.lookup = lookup
        self.count = 0
        self.total = self.longest = 0.0
        self.kept = False
        self._statistics = statistics

    def add(self, seconds: float) -> None:
        """Counts a statement."""
        self.count += 1
        self.total += seconds
        if seconds > self.longest:
            self.longest = seconds
        if not self.kept:
            self._statistics.keep(self)


class Statistics:
    """The timings of a project, at most MAX_LOOKUPS. A compiled read holds its timing, so counting a statement looks nothing up. A timing
    that was removed is kept again if it is used again."""

    def __init__(self) -> None:
        self._timings: dict[Lookup, Timing] = {}

    def __len__(self) -> int:
        return len(self._timings)

    def __iter__(self) -> Iterator[Timing]:
        return iter(list(self._timings.values()))

    def of(self, lookup: Lookup) -> Timing | None:
        """Returns the timing of a lookup. None if it says nothing about fields, or has more than MAX_PARTS parts."""
        if not (lookup.filter or lookup.sort or lookup.search) or len(lookup.filter) + len(lookup.sort) > MAX_PARTS:
            return None
        found = self._timings.get(lookup)
        if found is None:
            found = Timing(lookup, self)
            self.keep(found)
        return found

    def keep(self, timing: Timing) -> None:
        """Keeps a timing. If another one of the same lookup is kept, which another plan has begun, adds to that."""
        other = self._timings.get(timing.lookup)
        if other is not None:
            other.count += timing.count
            other.total += timing.total
            other.longest = max(other.longest, timing.longest)
            timing.count, timing.total, timing.longest = 0, 0.0, 0.0
            return
        if len(self._timings) >= MAX_LOOKUPS:
            for each in heapq.nsmallest(ROOM, self._timings.values(), key=lambda each: each.count):
                each.kept = False
                del self._timings[each.lookup]
        self._timings[timing.lookup] = timing
        timing.kept = True
