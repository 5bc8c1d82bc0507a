"""A cache bounded by weight, in which what is asked for once pushes out nothing that is asked for again, and no owner what is another's.

It is S3-FIFO (Yang et al., 2023) for each owner: values that are new stand in a short queue, and those that have been asked for
again when they come to its end move on to a long one, as do those that come back soon after they have left. To look a value up is one
look into a dictionary and one assignment.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

V = TypeVar("V")
NEW = 0.25
"""The part of an owner's weight that new values take before others have to go."""

LARGEST = 1 / 16
"""The part of the whole that one value may take; a larger one is not kept."""


REMEMBERED = 4096
"""How many values are remembered to have left, by the hashes of their places."""

Place = tuple[Hashable, Hashable]
"""Owner and key."""


class _Entry:
    __slots__ = ("asked", "place", "value", "weight")

    def __init__(self, place: Place, value: Any, weight: int) -> None:
        self.place = place
        self.value = value
        self.weight = weight
        self.asked = False


class _Share:
    """What one owner has in the cache: the oldest first."""

    __slots__ = ("new", "new_weight", "proven", "weight")

    def __init__(self) -> None:
        self.new: deque[_Entry] = deque()
        self.proven: deque[_Entry] = deque()
        self.new_weight = 0
        self.weight = 0


class Cache(Generic[V]):
    """Values by owner and key. `weight` is the weight of all of them, which does not exceed `most`.

    Where there is not enough room the heaviest owner loses what it has asked for least lately.
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
        """The value of a key; the one that *make* gives where there is none. It is not None."""
        place = (owner, key)
        found = self._entries.get(place)
        if found is None:
            value = make()
            self._add(place, value, weigh(value))
            return value
        found.asked = True
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
        while self.weight > self.most:
            self._evict(max(self._shares, key=lambda owner: self._shares[owner].weight))

    def _evict(self, owner: Hashable) -> None:
        """Removes one value of an owner."""
        share = self._shares[owner]
        while True:
            new = bool(share.new) and (share.new_weight > share.weight * NEW or not share.proven)
            entry = (share.new if new else share.proven).popleft()
            if new:
                share.new_weight -= entry.weight
            if not entry.asked:
                break
            entry.asked = False
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
