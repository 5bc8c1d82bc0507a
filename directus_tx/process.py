"""What the processes of a server have in common: the log, the signals, and how they end if they cannot start."""

import atexit
import os
import signal
import sys
from abc import ABC, abstractmethod
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from directus_tx import logs
from directus_tx.config import Settings

log = Logger()

STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals that stop the server."""


class StartError(Exception):
    """The server cannot be started with this configuration; the message says why."""


class Process(MultiService, ABC):
    """A process as a service of twistd: writes the log, stops after SIGTERM and SIGINT with exit status 0, reopens the log file after
    SIGHUP. Subclasses implement `start`, which is called when the service starts, and `_stop`. *worker* is the number of the process among
    several, which the log shows."""

    def __init__(self, settings: Settings, reactor: Any, *, worker: int | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.reactor = reactor
        self.stopping = False
        self._started: defer.Deferred[None] | None = None
        server = settings.server
        try:
            self._observer = logs.observer(server.log_format, server.log_file, worker)
        except OSError as error:
            raise StartError(f"the file of the log, {server.log_file}, cannot be written: {error.strerror}") from error
        self._console = self._observer.lines
        json = server.log_format == "json"
        if server.log_file or json:
            # Programs read the JSON on standard output.
            to_standard_error = json and not server.log_file
            self._console = logs.LineWriter("", lambda number, reason: "", to_standard_error=to_standard_error)
        for lines in {self._observer.lines, self._console}:
            atexit.register(lines.finish)

    @abstractmethod
    async def start(self) -> None:
        """Starts the process. Raises StartError, and the exceptions of which `_cannot_start` is true."""

    @abstractmethod
    async def _stop(self) -> None:
        """Stops the process. Called when `start` has ended."""

    def setServiceParent(self, parent: Any) -> None:
        """Makes the application of twistd use our log observer. twistd looks for one before it starts logging."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        super().startService()
        self._observer.lines.start()
        self.reactor.addSystemEventTrigger("after", "shutdown", self._observer.lines.finish)
        self.reactor.addSystemEventTrigger("after", "shutdown", _ignore_signals)
        # After a turn of the reactor, because Twisted installs its signal handlers when the reactor starts running.
        self.reactor.callWhenRunning(self.reactor.callLater, 0, self._handle_signals)
        self._started = defer.Deferred.fromCoroutine(self.start())
        self._started.addErrback(self._start_failed)

    def _handle_signals(self) -> None:
        """Installs signal handlers. SIGTERM and SIGINT stop the server with exit status 0; with Twisted's handlers the process would be
        killed by the signal after the shutdown. Further signals change nothing: requests are answered until
        server.shutdown_timeout is over. SIGHUP reopens the log file. Project files need no signal: they are checked at each request."""

        def stop(*_: Any) -> None:
            self.reactor.callFromThread(self.stop_once)

        for number in STOPPING_SIGNALS:
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self.reopen_log))

    def stop_once(self) -> None:
        """Stops the server, unless it is already stopping."""
        if self.reactor.running and not self.stopping:
            self.stopping = True
            self.reactor.stop()

    def reopen_log(self) -> None:
        self._observer.lines.reopen()

    def stopService(self) -> "defer.Deferred[None]":
        self.stopping = True
        started = self._started or defer.succeed(None)
        return started.addBoth(lambda _: defer.Deferred.fromCoroutine(self._stop()))

    def _is_expected(self, failure: Any) -> bool:
        """Whether `start` has failed because the process is stopping."""
        return False

    def _cannot_start(self, failure: Any) -> bool:
        """Whether the message of an exception of `start` is all that there is to say about it."""
        return failure.check(StartError) is not None

    def _start_failed(self, failure: Any) -> None:
        """Logs why the server cannot start, and ends the process with status 1."""
        if self.stopping and self._is_expected(failure):
            return
        if self._cannot_start(failure):
            log.critical("the server cannot start: {error}", error=str(failure.value))
            if self.settings.server.log_file:
                sys.stderr.write(f"directus_tx: the server cannot start: {failure.value}\n")
        else:
            log.failure("the server cannot start", failure)
        self.fail()

    def fail(self) -> None:
        """Stops the process with status 1."""
        self.reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self.reactor.callWhenRunning(self.reactor.stop)

    def _tell(self, *lines: str) -> None:
        """Writes to the console, even if the log goes to a file: passwords and tokens must not be stored in the log."""
        self._console.start()
        self._console.write("\n" + "\n".join(lines) + "\n\n")


def _ignore_signals() -> None:
    """Ignores the signals that stop the server, when it has stopped. Python gives signals that have a handler their default effect before
    the process ends, so another one would end it with the status of a killed process."""
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
