"""Processes that decode pictures. A picture that makes a decoder crash, run forever or take all memory ends one of them, not the server.

A process is started when it is first needed, decodes one picture after the other, and is replaced after PICTURES of them, or when it has
ended. Its picture and its result are in unnamed temporary files, which it inherits: nothing is left of them, however the processes end.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import IO, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from directus_tx.config import FileSettings
from directus_tx.errors import ServiceUnavailable
from directus_tx.files.fairness import FairSemaphore, Permit
from directus_tx.files.resizing import NotResizable

log = Logger()
T = TypeVar("T")

PICTURES = 500
"""The number of pictures after which a process is replaced, because decoders may leak memory."""

PATIENCE = 6
"""How many times longer than its processor time an order may take, because other processes use the processors, too."""

STARTING = 30.0
"""Seconds that a process may take to start, beside that."""

PROGRAM = "from directus_tx.files.decoder import run; run()"
INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
"""The variables of the environment that a process inherits. The others may be secrets."""

PIECE = 2**16
_ANSWER = 10_000
"""The maximum number of bytes of an answer."""

_NO_ANSWER = "The process that decodes the picture has written what is no answer; try again later."
_ERRORS = 2000
"""The number of bytes at the end of what a process has written to standard error that are logged when it has crashed."""


class DecoderFailed(ServiceUnavailable):
    """A process that decodes pictures has been killed, or could not be started."""

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "10"})


class OrderFailed(NotResizable):
    """An order takes too much, or makes the process crash. That may depend on the size and the format that it asks for: the same picture
    may have smaller thumbnails."""


class DecoderCrashed(OrderFailed):
    """A process that decodes pictures has crashed or had no memory left, which may be the fault of an earlier picture."""


class Decoder(ProcessProtocol):
    """A process that decodes pictures. Raises OSError if it cannot be started. `alive` until it has ended or has been killed; `ended` fires
    when it has ended."""

    def __init__(self, reactor: Any, settings: FileSettings, program: str = PROGRAM) -> None:
        self.reactor = reactor
        self.settings = settings
        self.alive = True
        self.ended: Deferred[None] = Deferred()
        self.pictures = 0
        """The number of pictures that it has got."""
        self._ready = False
        self._received = b""
        self._errors = b""
        self._answer: Deferred[Mapping[str, Any]] | None = None
        self._reason = ""
        self._source: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._result: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._filled = 0
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        arguments = [sys.executable, "-c", program, str(os.getpid()), str(settings.thumbnail_memory)]
        descriptors = {0: "w", 1: "r", 2: "r", 3: self._source.fileno(), 4: self._result.fileno()}
        try:
            reactor.spawnProcess(self, sys.executable, arguments, env=environment, childFDs=descriptors)
        except BaseException:
            self._close()
            raise

    @property
    def pid(self) -> int | None:
        """The id of the process, None if it has ended."""
        found: int | None = getattr(self.transport, "pid", None)
        return found

    def fill(self, data: bytes) -> None:
        """Appends bytes to the picture. Raises OSError, and DecoderFailed if the process has ended."""
        self._check()
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._source.fileno(), rest, self._filled)
            self._filled += written
            rest = rest[written:]

    async def run(self, order: Mapping[str, Any]) -> int:
        """Makes the thumbnail that an order describes. Returns the number of bytes of the result. Raises the errors of `_ask`."""
        size: int = await self._ask({"work": "thumbnail", **order}, "size")
        return size

    async def read_details(self, pixels: int) -> Mapping[str, Any]:
        """Returns the metadata in the content, as `metadata.read_metadata` does. Raises the errors of `_ask`."""
        found: Mapping[str, Any] = await self._ask({"work": "details", "pixels": pixels}, "details")
        return found

    async def _ask(self, order: Mapping[str, Any], wanted: str) -> Any:
        """Gives the process an order. Returns the value of its answer with the name *wanted*.

        Raises NotResizable if the picture is at fault: the process refuses it, or, as OrderFailed, crashes or takes more memory or
        processor time than allowed; and DecoderFailed if the process was killed from outside, could not start, or has not had enough
        processor time. Kills the process if it is cancelled.
        """
        self._check()
        self.pictures += 1
        seconds = self.settings.thumbnail_seconds
        answer: Deferred[Mapping[str, Any]] = Deferred(lambda _: self.kill("The server is stopping."))
        self._answer = answer
        limit = seconds * PATIENCE + (0 if self._ready else STARTING)
        timer = self.reactor.callLater(
            limit,
            self.kill,
            f"The picture has not been decoded in {limit:g} seconds, because the server is busy; try again later.",
        )
        transport: Any = self.transport
        transport.write(json.dumps({**order, "seconds": seconds}).encode() + b"\n")
        try:
            found = await answer
        finally:
            self._answer = None
            if timer.active():
                timer.cancel()
        if "refused" in found:
            raise NotResizable(found["refused"])
        if "memory" in found:
            self.kill("It had no memory left.")
            raise DecoderCrashed(
                f"The picture takes more than {self.settings.thumbnail_memory} bytes of memory (files.thumbnail_memory)."
            )
        if wanted not in found:
            self.kill(_NO_ANSWER)
            raise DecoderFailed(_NO_ANSWER)
        return found[wanted]

    def result(self, size: int) -> Iterator[bytes]:
        """Yields the bytes of a result. Raises OSError, and DecoderFailed if the process has ended."""
        position = 0
        while position < size:
            self._check()
            piece = os.pread(self._result.fileno(), min(PIECE, size - position), position)
            if not piece:
                raise OSError("the result of a decoder is shorter than it says")
            position += len(piece)
            yield piece

    def _check(self) -> None:
        """Raises DecoderFailed if the files of the process are closed, because it has ended."""
        if not self.alive:
            raise DecoderFailed(self._reason or "A process that decodes pictures has ended; try again.")

    def empty(self) -> None:
        """Discards the picture and the result. Raises OSError."""
        self._filled = 0
        os.ftruncate(self._source.fileno(), 0)
        os.ftruncate(self._result.fileno(), 0)

    def kill(self, reason: str) -> None:
        """Ends the process. *reason* is what whoever waits for it is told."""
        if self.alive:
            self.alive = False
            self._reason = reason
            transport: Any = self.transport
            with suppress(ProcessExitedAlready):
                transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        self._received += data
        while b"\n" in self._received and self.alive:
            line, _, self._received = self._received.partition(b"\n")
            answer = _parsed(line)
            if answer is None:
                break
            if "ready" in answer:
                self._ready = True
            elif self._answer is not None and not self._answer.called:
                self._answer.callback(answer)
        else:
            if len(self._received) <= _ANSWER:
                return
        # A picture may have made it run anything.
        self.kill(_NO_ANSWER)

    def errReceived(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-_ERRORS:]

    def processEnded(self, reason: Any) -> None:
        error = self._error_of(reason.value)
        if self.alive and not self._reason:
            self._reason = str(error)
        self.alive = False
        self._close()
        if self._answer is not None and not self._answer.called:
            self._answer.errback(error)
        self.ended.callback(None)

    def _error_of(self, ended: Any) -> Exception:
        """Returns the error for the order that the process had when it ended."""
        number, status = ended.signal, ended.exitCode
        if not self.alive:
            return DecoderFailed(self._reason)
        told = {"status": status, "number": number, "errors": self._errors.decode(errors="replace").strip()}
        if not self._ready:
            log.error("a process that decodes pictures could not start (status {status}, signal {number}): {errors}", **told)
            return DecoderFailed("A process that decodes pictures could not start; see the server's log.")
        if number == signal.SIGPROF:
            return OrderFailed(
                f"The picture takes more than {self.settings.thumbnail_seconds:g} seconds of processor time"
                " (files.thumbnail_seconds)."
            )
        if number in (signal.SIGKILL, signal.SIGTERM):
            log.error("a process that decodes pictures was killed (signal {number}), perhaps for lack of memory", **told)
            return DecoderFailed("The process that decodes the picture was killed; try again later.")
        log.error("a process that decodes pictures has crashed (status {status}, signal {number}): {errors}", **told)
        return DecoderCrashed("The picture makes its decoder crash.")

    def _close(self) -> None:
        self._source.close()
        self._result.close()


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    """Returns what a process has answered, None if that is no answer."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    kinds = {"ready": bool, "memory": bool, "refused": str, "size": int, "details": dict}
    if not isinstance(found, dict) or len(found) != 1:
        return None
    return found if all(isinstance(value, kinds.get(name, ())) for name, value in found.items()) else None


class Decoders:
    """At most files.thumbnail_processes processes that decode pictures, from the first use until `stop`. `semaphore` decides who gets
    the next one that is free."""

    def __init__(self, reactor: Any, settings: FileSettings, program: str = PROGRAM) -> None:
        self.reactor = reactor
        self.settings = settings
        self.program = program
        self.semaphore = FairSemaphore(settings.thumbnail_processes)
        self._all: set[Decoder] = set()
        self._idle: list[Decoder] = []
        self._stopped = False

    @property
    def running(self) -> list[Decoder]:
        """The processes that have not ended."""
        return list(self._all)

    @asynccontextmanager
    async def lend(self, permit: Permit, *, fresh: bool = False) -> AsyncIterator[Decoder]:
        """A context with a process, for one picture. Waits until there is one for the *permit*. *fresh*: one that has had no other
        picture. Raises DecoderFailed, and OSError if none can be started."""
        async with permit:
            if self._stopped:
                raise DecoderFailed("The server is stopping.")
            if fresh and self._idle:
                self._idle.pop().kill("It is replaced.")
            decoder = self._start() if fresh else self._take()
            try:
                yield decoder
            finally:
                self._put_back(decoder)

    async def decode(self, permit: Permit, work: Callable[[Decoder], Awaitable[T]]) -> T:
        """Returns the result of *work*, which is called with a process when there is one for the *permit*. If the process crashes and has
        had other pictures before, *work* is called again with a fresh one, because an earlier picture may have broken it. Raises the
        errors of `lend` and of *work*."""
        try:
            async with self.lend(permit) as decoder:
                return await work(decoder)
        except DecoderCrashed:
            if decoder.pictures < 2:
                raise
        async with self.lend(permit, fresh=True) as decoder:
            return await work(decoder)

    def _take(self) -> Decoder:
        while self._idle:
            decoder = self._idle.pop()
            if decoder.alive:
                return decoder
        return self._start()

    def _start(self) -> Decoder:
        decoder = Decoder(self.reactor, self.settings, self.program)
        self._all.add(decoder)
        decoder.ended.addCallback(lambda _: self._all.discard(decoder))
        return decoder

    def _put_back(self, decoder: Decoder) -> None:
        if not decoder.alive:
            return
        try:
            decoder.empty()
        except OSError as error:
            log.error("a temporary file for thumbnails cannot be emptied: {error}", error=error)
            decoder.kill("Its files cannot be used.")
            return
        if decoder.pictures >= PICTURES or self._stopped:
            decoder.kill("It is replaced.")
        else:
            self._idle.append(decoder)

    async def stop(self) -> None:
        """Ends the processes, and waits until they have ended."""
        self._stopped = True
        ending = [self._ended(each) for each in self._all]
        for each in list(self._all):
            each.kill("The server is stopping.")
        await DeferredList(ending)

    def _ended(self, decoder: Decoder) -> "Deferred[None]":
        waiter: Deferred[None] = Deferred()
        decoder.ended.addCallback(lambda _: waiter.callback(None))
        return waiter
