"""Whether the configured database server can be used yet. The server listens before it has started or reached the database server."""

from typing import Any

from twisted.internet import defer

from directus_tx.errors import ServiceUnavailable

PATIENCE = 5.0
"""Seconds that a request waits for the database server while the server starts."""

STARTING = "The server is starting."
UNREACHABLE = "The server is starting and cannot reach the database server yet."


class Availability:
    """Whether the configured database server is `ready`. If not, `reason` says why its use failed last, for the log and for
    administrators; it is empty while the first attempt is under way. `message` says it for everybody."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.ready = True
        self.reason = ""
        self.message = STARTING
        self._waiting: set[defer.Deferred[None]] = set()

    def begin(self) -> None:
        """Makes callers of `wait` wait until `finish` or `fail` is called."""
        self.ready, self.reason, self.message = False, "", STARTING

    def fail(self, reason: str, message: str = UNREACHABLE) -> None:
        """Makes waiting callers, and further ones until `finish` is called, fail with the message."""
        self.reason, self.message = reason, message
        for waiter in self._taken():
            waiter.errback(ServiceUnavailable(message))

    def finish(self) -> None:
        """Lets waiting callers continue. Further ones do not wait."""
        self.ready, self.reason = True, ""
        for waiter in self._taken():
            waiter.callback(None)

    async def wait(self) -> None:
        """Returns when the database server is ready. Raises ServiceUnavailable if it is not within PATIENCE seconds, and at once if it
        could not be used before."""
        if self.ready:
            return
        if self.reason:
            raise ServiceUnavailable(self.message)
        waiter: defer.Deferred[None] = defer.Deferred(self._waiting.discard)
        self._waiting.add(waiter)
        timer = self.reactor.callLater(PATIENCE, self._time_out, waiter)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()

    def _time_out(self, waiter: "defer.Deferred[None]") -> None:
        self._waiting.discard(waiter)
        waiter.errback(ServiceUnavailable(self.message))

    def _taken(self) -> "set[defer.Deferred[None]]":
        waiting, self._waiting = self._waiting, set()
        return waiting
