"""The bodies of answers: collected up to a size, or passed on in pieces."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Protocol
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from directus_tx.outgoing.failures import Unreachable

Take = Callable[[bytes], Awaitable[None]]
"""Takes a piece of a body."""


class CollectedBody(Protocol):
    """Collects a body up to a size. `whole` fires with the body and whether there was more."""

    def __init__(self, reactor: Any, read_timeout: float, most: int) -> None:
        self.most = most
        self.whole: defer.Deferred[tuple[bytes, bool]] = defer.Deferred(lambda _: self._abort())
        self._received = bytearray()
        self._timer = reactor.callLater(read_timeout, self._late)
        self._read_timeout = read_timeout

    def dataReceived(self, data: bytes) -> None:
        if self._timer.active():
            self._timer.reset(self._read_timeout)
        self._received += data[: self.most + 1 - len(self._received)]
        if len(self._received) > self.most:
            self._end(truncated=True)
            self._abort()

    def connectionLost(self, reason: Any = None) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self._end()
        elif not self.whole.called:
            self._stop_timer()
            self.whole.errback(reason)

    def _end(self, *, truncated: bool = False) -> None:
        self._stop_timer()
        if not self.whole.called:
            self.whole.callback((bytes(self._received[: self.most]), truncated))

    def _late(self) -> None:
        if not self.whole.called:
            self.whole.errback(Unreachable(f"The answer was interrupted for {self._read_timeout:g} seconds."))
        self._abort()

    def _stop_timer(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def _abort(self) -> None:
        self._stop_timer()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


class NotTaken(Exception):
    """What took the pieces of a body has raised *reason*."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class PassedBody(Protocol):
    """Passes a body on in pieces, and receives no faster than they are taken. `whole` fires when all of them have been taken."""

    def __init__(self, reactor: Any, read_timeout: float, most: int, take: Take) -> None:
        self.reactor = reactor
        self.most = most
        self.take = take
        self.whole: defer.Deferred[None] = defer.Deferred(lambda _: self._abort())
        self._read_timeout = read_timeout
        self._timer: Any = reactor.callLater(read_timeout, self._late)
        self._pieces: list[bytes] = []
        self._received = 0
        self._work: defer.Deferred[None] | None = None
        self._ended = False

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.most:
            self._fail(Unreachable(f"The answer has more than {self.most} bytes."))
            return
        self._pieces.append(data)
        if self._work is None and not self.whole.called:
            self._stop_timer()
            transport: Any = self.transport
            transport.pauseProducing()
            work = self._work = defer.Deferred.fromCoroutine(self._pass_on())
            work.addCallbacks(self._passed, lambda failure: self._fail(NotTaken(failure.value)))

    async def _pass_on(self) -> None:
        while self._pieces:
            await self.take(self._pieces.pop(0))

    def _passed(self, _: Any) -> None:
        self._work = None
        if self.whole.called:
            return
        if self._ended:
            self.whole.callback(None)
            return
        self._timer = self.reactor.callLater(self._read_timeout, self._late)
        transport: Any = self.transport
        transport.resumeProducing()

    def connectionLost(self, reason: Any = None) -> None:
        self._stop_timer()
        if self.whole.called:
            return
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._fail(reason)
            return
        self._ended = True
        if self._work is None:
            self.whole.callback(None)

    def _fail(self, reason: Any) -> None:
        if not self.whole.called:
            self.whole.errback(reason)
        self._abort()

    def _late(self) -> None:
        self._fail(Unreachable(f"The answer was interrupted for {self._read_timeout:g} seconds."))

    def _stop_timer(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def _abort(self) -> None:
        self._stop_timer()
        if self._work is not None:
            self._work.cancel()
        transport: Any = self.transport
        if transport is not None and not self._ended:
            transport.loseConnection()
