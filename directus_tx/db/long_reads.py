"""Limits the number of reads that hold a connection for a long time, so that connections are left for other requests."""

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import defer

from directus_tx.errors import ServiceUnavailable


class LongReads:
    """The long reads on one database server. They may hold half of the connections of each pool, and half of those of all pools
    together, but at least one. *connections* returns the number of connections that all pools together may have."""

    def __init__(self, reactor: Any, connections: Callable[[], int]) -> None:
        self.reactor = reactor
        self.connections = connections
        self.waiting: deque[tuple[Hashable, int, defer.Deferred[None]]] = deque()
        self._held: Counter[Hashable] = Counter()

    def _free(self, pool: Hashable, size: int) -> bool:
        return self._held[pool] < max(size // 2, 1) and self._held.total() < max(self.connections() // 2, 1)

    @asynccontextmanager
    async def place(self, pool: Hashable, size: int, *, queue_size: int, queue_timeout: float) -> AsyncIterator[None]:
        """A context in which a long read of a pool with *size* connections may run. Waits for other reads, in order. Raises
        ServiceUnavailable if *queue_size* reads wait, or after *queue_timeout* seconds."""
        if self._free(pool, size):
            self._held[pool] += 1
        else:
            await self._wait(pool, size, queue_size, queue_timeout)
        try:
            yield
        finally:
            self._held[pool] -= 1
            if not self._held[pool]:
                del self._held[pool]
            self._hand_on()

    async def _wait(self, pool: Hashable, size: int, queue_size: int, queue_timeout: float) -> None:
        refusal = ServiceUnavailable(
            "Too many long lists and exports are being read; try again shortly.", headers={"Retry-After": "5"}
        )
        if len(self.waiting) >= queue_size:
            raise refusal
        turn: defer.Deferred[None] = defer.Deferred()
        self.waiting.append((pool, size, turn))
        timer = self.reactor.callLater(queue_timeout, turn.cancel)
        try:
            await turn
        except defer.CancelledError:
            self.waiting = deque(each for each in self.waiting if each[2] is not turn)
            raise refusal from None
        finally:
            if timer.active():
                timer.cancel()

    def _hand_on(self) -> None:
        """Starts the reads that have waited longest, within the limits."""
        left: deque[tuple[Hashable, int, defer.Deferred[None]]] = deque()
        while self.waiting:
            pool, size, turn = self.waiting.popleft()
            if self._free(pool, size):
                self._held[pool] += 1
                turn.callback(None)
            else:
                left.append((pool, size, turn))
        self.waiting = left
