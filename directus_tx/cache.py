"""A cache bounded by weight. Values used once do not evict values used repeatedly, and one owner does not evict the values of another.

Each owner has an S3-FIFO cache (Yang et al., 2023): new values enter a short queue. Values that were used again by the time they reach its
end move to a long queue, and so do values that are requested again soon after eviction. A lookup is one dictionary access and one
assignment.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

V = TypeVar("V")
NEW = 0.25
"""The share of an owner's weight for new values."""

LARGEST = 1 / 16
"""The largest share of the cache that one value can take. Larger values are not cached."""


ROOM = 1 / 16
"""The share of a full cache that is emptied at once."""

REMEMBERED = 4096
"""How many evicted values are remembered, by the hashes of their keys."""

Place = tuple[Hashable, Hashable]
"""Owner and key."""


class _Entry:
    __slots__ = ("place", "used", "value", "weight")

    def __init__(self, place: Place, value: Any, weight: int) -> None:
        self.place = place
        self.value = value
        self.weight = weight
        self.used = False


class _Share:
    """The values of one owner, oldest first."""

    __slots__ = ("new", "new_weight", "proven", "weight")

    def __init__(self) -> None:
        self.new: deque[_Entry] = deque()
        self.proven: deque[_Entry] = deque()
        self.new_weight = 0
        self.weight = 0


class Cache(Generic[V]):
    """Values by owner and key. `weight`, the total weight, does not exceed `most`.

    When the cache is full, values of the owners with the greatest weight are evicted.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.weight = 0
        self._entries: dict[Place, _Entry] = {}
        self._shares: dict[Hashable, _Share] = {}
        self._left: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, owner: Hashable, key: Hashable, make: Callable[[], V], weigh: Callable[[V], int]) -> V:
        """Returns the value of a key. If there is none, calls *make*, which must not return None."""
        place = (owner, key)
        found = self._entries.get(place)
        if found is None:
            value = make()
            self._add(place, value, weigh(value))
            return value
        found.used = True
        return found.value  # type: ignore[no-any-return]

    def find(self, owner: Hashable, key: Hashable) -> V | None:
        """Returns the value of a key, None if there is none."""
        found = self._entries.get((owner, key))
        if found is None:
            return None
        found.used = True
        return found.value  # type: ignore[no-any-return]

    def _add(self, place: Place, value: V, weight: int) -> None:
        if weight > self.most * LARGEST or place in self._entries:
            return
        share = self._shares.setdefault(place[0], _Share())
        entry = self._entries[place] = _Entry(place, value, weight)
        if self._left.pop(hash(place), ...) is None:
            share.proven.append(entry)
        else:
            share.new.append(entry)
            share.new_weight += weight
        share.weight += weight
        self.weight += weight
        if self.weight > self.most:
            self._make_room()

    def _make_room(self) -> None:
        """Removes values of the heaviest owners. There may be many owners, so they are compared once for many values."""
        heaviest = [(-share.weight, number, owner) for number, (owner, share) in enumerate(self._shares.items())]
        heapq.heapify(heaviest)
        while self.weight > self.most * (1 - ROOM):
            _, number, owner = heaviest[0]
            self._evict(owner)
            share = self._shares.get(owner)
            if share is None:
                heapq.heappop(heaviest)
            else:
                heapq.heapreplace(heaviest, (-share.weight, number, owner))

    def _evict(self, owner: Hashable) -> None:
        """Removes one value of an owner."""
        share = self._shares[owner]
        while True:
            new = bool(share.new) and (share.new_weight > share.weight * NEW or not share.proven)
            entry = (share.new if new else share.proven).popleft()
            if new:
                share.new_weight -= entry.weight
            if not entry.used:
                break
            entry.used = False
            share.proven.append(entry)
        del self._entries[entry.place]
        if new:
            self._left[hash(entry.place)] = None
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)
        share.weight -= entry.weight
        self.weight -= entry.weight
        if not share.weight:
            del self._shares[owner]
