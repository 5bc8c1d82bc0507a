"""Documents of providers that are kept in memory and read again when they are old."""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet import defer
from twisted.python.failure import Failure

from directus_tx.accounts.sso.interfaces import SignOnError

T = TypeVar("T")


class Document(Generic[T]):
    """A document that *read* returns. It is read when it is needed, and again after *lifetime* seconds. Concurrent callers share one
    reading and its result."""

    def __init__(self, reactor: Any, lifetime: float, read: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._reactor = reactor
        self._lifetime = lifetime
        self._read = read
        self._content: T | None = None
        self._read_at = self._begun_at = 0.0
        self._reading = False
        self._waiting: set[defer.Deferred[T]] = set()

    @property
    def content(self) -> T | None:
        """What was read last, None if nothing was."""
        return self._content

    async def get(self) -> T:
        """Returns the document. Raises SignOnError if it cannot be read."""
        if self._content is not None and self._reactor.seconds() < self._read_at + self._lifetime:
            return self._content
        return await self._again()

    async def renewed(self, pause: float) -> T:
        """Returns the document after reading it again, unless a reading has begun in the last *pause* seconds. Raises SignOnError if it
        cannot be read."""
        if self._content is not None and self._reactor.seconds() < self._begun_at + pause:
            return self._content
        return await self._again()

    async def _again(self) -> T:
        waiter: defer.Deferred[T] = defer.Deferred(self._waiting.discard)
        self._waiting.add(waiter)
        if not self._reading:
            self._reading = True
            self._begun_at = self._reactor.seconds()
            defer.Deferred.fromCoroutine(self._read()).addBoth(self._ended)
        return await waiter

    def _ended(self, result: Any) -> None:
        self._reading = False
        waiting, self._waiting = self._waiting, set()
        if not isinstance(result, Failure):
            self._content, self._read_at = result, self._reactor.seconds()
        for waiter in waiting:
            if not isinstance(result, Failure):
                waiter.callback(result)
            elif isinstance(result.value, SignOnError):
                # An exception of its own for each caller, because a traceback is added to it.
                waiter.errback(SignOnError(*result.value.args))
            else:
                waiter.errback(result)
