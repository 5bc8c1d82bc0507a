"""Several processes that serve the same addresses, for machines with several cores.

The first process opens the listening sockets, starts the others, which are the servers, and replaces those that end. A worker inherits the
sockets. It also inherits a pipe that the first process holds open: when that ends for whatever reason, the worker stops.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen, mutable
from twisted.internet import defer
from twisted.internet.error import ConnectionDone, ProcessExitedAlready
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from zope.interface import implementer

from directus_tx.config import Settings
from directus_tx.http.listening import bind
from directus_tx.process import Process

log = Logger()

WORKER = "_DIRECTUS_WORKER"
"""The environment variable that makes a process a worker: its number, the number of workers, the descriptor of the pipe, and those of the
sockets."""

PAUSE, MAX_PAUSE = 0.5, 30.0
"""Seconds before a worker is replaced that ended at once, and the most, after it has ended at once several times."""

LASTING = 10.0
"""Seconds after which a worker has not ended at once."""


@frozen
class Worker:
    """The place of a process among the workers: its `number`, from 1, and `of` how many; `pipe` ends when the first process does;
    `sockets` are the listening sockets, in the order of server.listen. All are file descriptors."""

    number: int
    of: int
    pipe: int
    sockets: tuple[int, ...]

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> "Worker | None":
        """Returns the place of this process; None if it is not a worker."""
        text = environment.get(WORKER)
        if text is None:
            return None
        number, of, pipe, *sockets = map(int, text.split())
        return cls(number, of, pipe, tuple(sockets))

    @property
    def text(self) -> str:
        """The value of the environment variable."""
        return " ".join(map(str, (self.number, self.of, self.pipe, *self.sockets)))

    def share(self, settings: Settings) -> Settings:
        """Returns the settings with this worker's share of what is limited for the server as a whole. 0 means the same as before."""
        server, files, database = settings.server, settings.files, settings.database

        def part(number: int) -> int:
            return -(-number // self.of)

        return evolve(
            settings,
            server=evolve(
                server,
                max_connections=part(server.max_connections),
                spool_size=part(server.spool_size),
                body_spool_size=max(part(server.body_spool_size), server.max_body_size + 1),
            ),
            rate_limits=evolve(
                settings.rate_limits,
                requests_per_address=part(settings.rate_limits.requests_per_address),
                requests_per_user=part(settings.rate_limits.requests_per_user),
            ),
            files=evolve(files, thumbnail_processes=part(files.thumbnail_processes), max_thumbnails=part(files.max_thumbnails)),
            database=evolve(database, max_connections=part(database.max_connections)),
        )

    def watch(self, reactor: Any, stop: Callable[[], None]) -> None:
        """Calls *stop* when the first process has ended."""
        reactor.addReader(_Pipe(self.pipe, stop))


@implementer(IReadDescriptor)
class _Pipe:
    """The reading end of a pipe into which no process writes. Calls *ended* when its other end is closed."""

    def __init__(self, descriptor: int, ended: Callable[[], None]) -> None:
        self.descriptor = descriptor
        self.ended = ended

    def fileno(self) -> int:
        return self.descriptor

    def logPrefix(self) -> str:
        return "workers"

    def doRead(self) -> Exception:
        # The reactor removes a reader that returns an exception, and calls connectionLost.
        return ConnectionDone()

    def connectionLost(self, reason: Any) -> None:
        self.ended()


@mutable(eq=False)
class _Running(ProcessProtocol):
    """A worker that runs: its place, and when it was started."""

    workers: "Workers"
    number: int
    started: float
    ended: "defer.Deferred[None]" = field(factory=defer.Deferred)

    def processExited(self, reason: Any) -> None:
        self.workers.has_ended(self, reason.value)
        self.ended.callback(None)


class Workers(Process):
    """The first process. *options* are the options of twistd directus for the workers, *first* those for the first worker alone."""

    def __init__(self, settings: Settings, reactor: Any, options: Sequence[str], first: Sequence[str] = ()) -> None:
        super().__init__(settings, reactor)
        self.options = options
        self.first = first
        self.number = settings.server.processes
        self._sockets: list[int] = []
        self._running: dict[int, _Running] = {}
        self._fast_ends: dict[int, int] = {}
        self._any_ended = False
        self._pipe = (-1, -1)

    async def start(self) -> None:
        """Opens the sockets and starts the workers. Raises StartError."""
        self._sockets = await bind(self.reactor, self.settings)
        self._pipe = os.pipe()
        log.info("starting {number} processes", number=self.number)
        for number in range(1, self.number + 1):
            self._spawn(number)

    def _spawn(self, number: int) -> None:
        if self.stopping:
            return
        # Standard input, output and error, the pipe, and the sockets.
        inherited = dict(enumerate((0, 1, 2, self._pipe[0], *self._sockets)))
        worker = Worker(number, self.number, 3, tuple(range(4, len(inherited))))
        running = _Running(self, number, self.reactor.seconds())
        run = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "directus"]
        options = [*self.options, *(self.first if number == 1 else ())]
        self._running[number] = running
        self.reactor.spawnProcess(
            running, sys.executable, [*run, *options], env={**os.environ, WORKER: worker.text}, childFDs=inherited
        )

    def has_ended(self, running: _Running, reason: Any) -> None:
        """Replaces a worker that has ended, after a pause if it ended soon. If the first worker to end has not been able to start, the
        others would not be either, and the server stops."""
        number = running.number
        del self._running[number]
        if self.stopping:
            return
        lasted = self.reactor.seconds() - running.started
        status = f"signal {reason.signal}" if reason.signal else f"status {reason.exitCode}"
        if reason.exitCode == 1 and not self._any_ended and lasted < LASTING:
            log.critical("worker {number} cannot start; the server stops", number=number)
            self.fail()
            self.stopping = True
            return
        fast = self._fast_ends[number] = 0 if lasted >= LASTING else self._fast_ends.get(number, 0) + 1
        pause = min(PAUSE * 2 ** max(fast - 1, 0), MAX_PAUSE) if fast else 0.0
        self._any_ended = True
        log.error("worker {number} has ended with {status}; another one takes its place", number=number, status=status)
        self.reactor.callLater(pause, self._spawn, number)

    def reopen_log(self) -> None:
        super().reopen_log()
        self._signal("HUP")

    def _signal(self, name: str) -> None:
        for each in self._running.values():
            transport: Any = each.transport
            with contextlib.suppress(ProcessExitedAlready):
                transport.signalProcess(name)

    async def _stop(self) -> None:
        """Stops the workers. They accept connections until they stop listening themselves."""
        for each in self._sockets:
            os.close(each)
        running = list(self._running.values())
        self._signal("TERM")
        await defer.DeferredList([each.ended for each in running])
        log.info("all processes have stopped")
