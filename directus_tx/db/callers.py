"""Queues that are fair between callers: whoever has the least in use is served first."""

from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Caller = Hashable
"""Identifies who makes a request, such as the id of a user or the address of a client. None is the server itself."""


def most_for_one(capacity: int) -> int:
    """Returns how many of *capacity* places one caller may have: all but a fifth, which is left for others; at least 1."""
    return max(capacity - max(capacity // 5, 1), 1)


class CallerQueue(Generic[T]):
    """What callers wait for, first in first out for each caller. Those of the server itself have no limit and come first."""

    def __init__(self) -> None:
        self._size = 0
        self._queues: dict[Caller, dict[T, None]] = {}
        """Callers with the same number of places in use are served in turns: in this order, the last one served at the end."""

    def __len__(self) -> int:
        return self._size

    def __contains__(self, waiter: Any) -> bool:
        return any(waiter in queue for queue in self._queues.values())

    def count(self, caller: Caller) -> int:
        """Returns how many waiters a caller has."""
        return len(self._queues.get(caller, ()))

    def add(self, caller: Caller, waiter: T) -> None:
        self._queues.setdefault(caller, {})[waiter] = None
        self._size += 1

    def remove(self, caller: Caller, waiter: T) -> None:
        """Removes a waiter, if it is still waiting."""
        queue = self._queues.get(caller)
        if queue is not None and waiter in queue:
            self._take(caller, queue, waiter)

    def pop(self, used: Mapping[Caller, int], most: int) -> tuple[Caller, T] | None:
        """Removes the waiter that is served next and returns it with its caller. *used* says how many places each caller has in
        use. Returns None if every waiting caller has *most* of them or more."""
        found: Caller = None
        least = most
        for caller in self._queues:
            places = 0 if caller is None else used.get(caller, 0)
            if places < least or caller is None:
                found, least = caller, places
                if not places:
                    break
        if least >= most:
            return None
        queue = self._queues[found]
        waiter = next(iter(queue))
        self._take(found, queue, waiter)
        if queue:
            self._queues[found] = self._queues.pop(found)
        return found, waiter

    def servable(self, used: Mapping[Caller, int], most: int, enough: int) -> int:
        """Returns how many waiters could be served if there were places for all. Stops counting at *enough*."""
        number = 0
        for caller, queue in self._queues.items():
            number += len(queue) if caller is None else max(min(len(queue), most - used.get(caller, 0)), 0)
            if number >= enough:
                break
        return number

    def clear(self) -> list[T]:
        """Removes all waiters and returns them."""
        found = [waiter for queue in self._queues.values() for waiter in queue]
        self._queues.clear()
        self._size = 0
        return found

    def _take(self, caller: Caller, queue: dict[T, None], waiter: T) -> None:
        del queue[waiter]
        self._size -= 1
        if not queue:
            del self._queues[caller]
