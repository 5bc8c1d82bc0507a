"""The body of a request that is read while it is received."""

from collections import deque
from collections.abc import Callable

from twisted.internet import defer

from directus_tx.errors import ClientGone

AHEAD = 128 * 1024
"""The number of bytes that are received before they are read. Then receiving pauses."""


class BodyStream:
    """The bytes of a body, in pieces. *pause* stops (True) and resumes (False) receiving. `ended`: all of the body has been received."""

    def __init__(self, pause: Callable[[bool], None]) -> None:
        self.ended = False
        self._pause = pause
        self._paused = False
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._gone = self._dropped = False
        self._waiting: defer.Deferred[None] | None = None

    async def read(self) -> bytes:
        """Returns the next bytes, b"" at the end of the body. Raises ClientGone if the client has disconnected before."""
        while not (self._pieces or self.ended or self._gone):
            self._waiting = defer.Deferred()
            await self._waiting
        if self._gone:
            raise ClientGone
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._paused and self._size <= AHEAD // 2:
            self._paused = False
            self._pause(False)
        return piece

    def add(self, data: bytes) -> None:
        """Appends bytes that have been received."""
        if self._dropped:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > AHEAD and not self._paused and not self.ended:
            self._paused = True
            self._pause(True)
        self._wake()

    def end(self) -> None:
        """Call this when the whole body has been received."""
        self.ended = True
        self._wake()

    def fail(self) -> None:
        """Call this when the client has disconnected."""
        if not self.ended:
            self._gone = True
            self._pieces.clear()
        self._wake()

    def drop(self) -> None:
        """Discards what has been received and will be."""
        self._dropped = True
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._pause(False)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
