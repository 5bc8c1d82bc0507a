"""Limits the number of reads that hold a connection for a long time, so that connections are left for other requests."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen
from twisted.internet import defer

from directus_tx.db.callers import Caller, most_for_one
from directus_tx.errors import ClientGone, ServiceUnavailable


@frozen(eq=False)
class _Read:
    """A long read of a pool with *size* connections, made by a caller."""

    pool: Hashable
    size: int
    caller: Caller


class LongReads:
    """The long reads on one database server. They may hold half of the connections of each pool, and half of those of all pools
    together, but at least one. One caller can hold all but a fifth of those of a pool. *connections* returns the number of
    connections that all pools together may have."""

    def __init__(self, reactor: Any, connections: Callable[[], int]) -> None:
        self.reactor = reactor
        self.connections = connections
        self.waiting: dict[_Read, defer.Deferred[None]] = {}
        self._held: Counter[Hashable] = Counter()
        self._used: Counter[Hashable] = Counter()

    def _free(self, read: _Read) -> bool:
        places = max(read.size // 2, 1)
        return (
            self._held[read.pool] < places
            and self._held.total() < max(self.connections() // 2, 1)
            and (read.caller is None or self._used[read.pool, read.caller] < most_for_one(places))
        )

    @asynccontextmanager
    async def place(
        self,
        pool: Hashable,
        size: int,
        *,
        queue_size: int,
        queue_timeout: float,
        caller: Caller = None,
        waiting: "set[defer.Deferred[Any]] | None" = None,
    ) -> AsyncIterator[None]:
        """A context in which a long read of a pool with *size* connections may run. Waits for other reads: the caller with the fewest
        is served first. Meanwhile, a Deferred is in *waiting* and can be cancelled.

        Raises ServiceUnavailable if *queue_size* reads wait, or four fifths of so many for *caller*, or after *queue_timeout* seconds,
        and ClientGone if the Deferred is cancelled.
        """
        read = _Read(pool, size, caller)
        if self._free(read):
            self._count(read)
        else:
            await self._wait(read, queue_size, queue_timeout, set() if waiting is None else waiting)
        try:
            yield
        finally:
            self._end(read)

    def _count(self, read: _Read) -> None:
        self._held[read.pool] += 1
        self._used[read.pool, read.caller] += 1

    def _end(self, read: _Read) -> None:
        self._held[read.pool] -= 1
        self._used[read.pool, read.caller] -= 1
        # Only those with places are kept.
        self._held, self._used = +self._held, +self._used
        self._hand_on()

    async def _wait(self, read: _Read, queue_size: int, queue_timeout: float, waiting: "set[defer.Deferred[Any]]") -> None:
        own = 0 if read.caller is None else sum(each.pool is read.pool and each.caller == read.caller for each in self.waiting)
        if len(self.waiting) >= queue_size or own >= most_for_one(queue_size):
            raise _refusal()
        turn: defer.Deferred[None] = defer.Deferred(lambda _: self._withdraw(read))
        self.waiting[read] = turn
        waiting.add(turn)
        timer = self.reactor.callLater(queue_timeout, self._time_out, read)
        try:
            await turn
        except defer.CancelledError:
            raise ClientGone from None
        finally:
            waiting.discard(turn)
            if timer.active():
                timer.cancel()

    def _withdraw(self, read: _Read) -> None:
        self.waiting.pop(read, None)

    def _time_out(self, read: _Read) -> None:
        self.waiting.pop(read).errback(_refusal())

    def _hand_on(self) -> None:
        """Starts waiting reads within the limits, first those of the caller with the fewest, in the order in which they came."""
        while free := [read for read in self.waiting if self._free(read)]:
            read = min(free, key=lambda each: 0 if each.caller is None else self._used[each.pool, each.caller])
            turn = self.waiting.pop(read)
            self._count(read)
            turn.callback(None)


def _refusal() -> ServiceUnavailable:
    return ServiceUnavailable("Too many long lists and exports are being read; try again shortly.", headers={"Retry-After": "5"})
