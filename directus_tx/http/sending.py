"""Sends large bodies in pieces, no faster than the client receives them.

Bytes that a slow client has not received yet are kept in a temporary file, so that reading from the database, which holds a connection
and a transaction, does not wait for the client.
"""

from collections import deque
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from directus_tx.errors import ClientGone
from directus_tx.http.spool import Spool, SpoolFull

log = Logger()

PIECE = 64 * 1024
"""Maximum number of bytes that are passed to the connection in one call."""

IN_MEMORY = 256 * 1024
"""Maximum number of bytes that are kept in memory for each answer. Further bytes are kept in files."""


SEGMENT = 64 * 2**20
"""Size in bytes from which a new file is started. A file is deleted when all of it has been sent."""


class _Segment:
    """A temporary file that is written once and read once."""

    def __init__(self, spool: Spool) -> None:
        self.file = spool.open_file()
        self.read = 0

    @property
    def written(self) -> int:
        return self.file.size

    def append(self, data: memoryview) -> None:
        """Raises SpoolFull, or OSError if the disk is full."""
        self.file.write(data)

    def pop(self, size: int) -> bytes:
        self.file.seek(self.read)
        found = self.file.read(min(size, self.written - self.read))
        self.read += len(found)
        return found

    def close(self) -> None:
        self.file.close()


class Backlog:
    """The bytes of an answer that are not sent yet, in order: the first in memory, the rest in files."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._memory: deque[memoryview] = deque()
        self._in_memory = 0
        self._segments: deque[_Segment] = deque()

    def __bool__(self) -> bool:
        return bool(self._memory or self._segments)

    def put(self, view: memoryview) -> bool:
        """Adds bytes if there is room for them. Returns whether it did. An empty backlog always has room."""
        if not view:
            return True
        if not self or (not self._segments and self._in_memory + len(view) <= IN_MEMORY):
            self._memory.append(view)
            self._in_memory += len(view)
            return True
        try:
            if not self._segments or self._segments[-1].written >= SEGMENT:
                self._segments.append(_Segment(self.spool))
            self._segments[-1].append(view)
        except (SpoolFull, OSError) as error:
            if isinstance(error, OSError):
                log.warn("cannot write an answer to a temporary file: {error}", error=str(error))
            if self._segments and not self._segments[-1].written:
                self._segments.pop().close()
            return False
        return True

    def pop(self) -> bytes:
        """Returns and removes the next bytes, at most PIECE. Returns b"" if the backlog is empty."""
        if self._memory:
            first = self._memory[0]
            piece = bytes(first[:PIECE])
            if len(first) > PIECE:
                self._memory[0] = first[PIECE:]
            else:
                self._memory.popleft()
            self._in_memory -= len(piece)
            return piece
        if not self._segments:
            return b""
        segment = self._segments[0]
        piece = segment.pop(PIECE)
        if segment.read == segment.written:
            self._drop()
        return piece

    def close(self) -> None:
        """Drops all bytes and deletes the files."""
        self._memory.clear()
        self._in_memory = 0
        while self._segments:
            self._drop()

    def _drop(self) -> None:
        self._segments.popleft().close()


@implementer(IPushProducer)
class Sender:
    """Sends the body of one answer. `gone` is True when the connection is closed."""

    def __init__(self, request: Any, spool: Spool) -> None:
        self.request = request
        self.backlog = Backlog(spool)
        self.gone = False
        self._registered = self._paused = False
        self._moved: defer.Deferred[None] | None = None
        request.notifyFinish().addErrback(self._lost)

    def begin(self) -> None:
        """Starts sending. Call this when the headers are set, before `write`. Raises ClientGone."""
        if self.gone:
            raise ClientGone
        self.request.registerProducer(self, True)
        self._registered = True

    async def write(self, data: bytes) -> None:
        """Sends bytes, or keeps them until the client can receive them. Waits only if there is no room. Raises ClientGone."""
        whole = memoryview(data)
        for start in range(0, len(whole), PIECE):
            while not self.gone and not self.backlog.put(whole[start : start + PIECE]):
                await self._wait()
            if self.gone:
                raise ClientGone
            self._hand_over()

    async def finish(self) -> None:
        """Waits until all bytes are passed to the connection. Raises ClientGone."""
        while self.backlog and not self.gone:
            await self._wait()
        if self.gone:
            raise ClientGone

    def close(self) -> None:
        """Drops bytes that have not been sent. Always call this at the end."""
        self.backlog.close()
        if self._registered and getattr(self.request, "channel", None) is not None:
            self._registered = False
            self.request.unregisterProducer()

    def _hand_over(self) -> None:
        while not self._paused and not self.gone and (piece := self.backlog.pop()):
            self.request.write(piece)

    def _wait(self) -> "defer.Deferred[None]":
        self._moved = defer.Deferred()
        return self._moved

    def _wake(self) -> None:
        waiting, self._moved = self._moved, None
        if waiting is not None:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._hand_over()
        self._wake()

    def stopProducing(self) -> None:
        self._lost()

    def _lost(self, _: Any = None) -> None:
        self.gone = True
        self._wake()
