"""Creates the parts of a server and connects them."""

import atexit
import gc
import os
import pathlib
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from directus_tx import logs
from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.config import Settings, libpq_parameters
from directus_tx.context import current_time
from directus_tx.embedded import EmbeddedPostgres
from directus_tx.http.app import App
from directus_tx.http.listening import listen
from directus_tx.http.routes import Services
from directus_tx.items.service import Items
from directus_tx.jobs.retention import retention_job
from directus_tx.jobs.runner import JobRunner
from directus_tx.plugins.manager import Plugins
from directus_tx.projects.demo import announcement, create_demo
from directus_tx.projects.registry import Projects
from directus_tx.system import RULES

log = Logger()


def use_monotonic_clock(reactor: Any) -> None:
    """Makes `callLater` and `seconds` of a reactor follow the monotonic clock, for the whole process. Twisted's reactors follow the system
    clock: if it is set back by an hour, every timer is an hour late. Timers that are already scheduled keep the seconds that are left."""
    if reactor.seconds is time.monotonic:
        return
    scheduled = [(timer, max(timer.getTime() - reactor.seconds(), 0.0)) for timer in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for timer, left in scheduled:
        timer.seconds = time.monotonic
        timer.reset(left)


class Backend:
    """The parts that the server and the `directus` command share: the database server, the projects, the password hasher. Call `open`
    before use and `close` afterwards."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self.reactor = reactor
        self.data_dir = pathlib.Path(settings.server.data_dir)
        self.embedded = None if settings.database.url else EmbeddedPostgres(self.data_dir)
        self.hasher = PasswordHasher(reactor)
        self.plugins = Plugins()
        self.items = Items(RULES, self.plugins, settings.limits, self.hasher)
        parameters = self.embedded.parameters if self.embedded else libpq_parameters(settings.database.url)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.new_super_admin_token: str | None = None
        """The super admin token if `open` has generated it, otherwise None."""
        self.projects = Projects(reactor, self.data_dir, parameters, settings.database, self.hasher, settings.super_admin_token)

    async def open(self) -> None:
        """Starts the embedded PostgreSQL if it is used, and generates the super admin token if there is none."""
        names = self.plugins.find()
        if names:
            log.info("plugins: {names}", names=", ".join(names))
        self.hasher.start()
        if self.embedded is not None:
            await deferToThread(self.embedded.start)
        await self.projects.databases.measure()
        self.new_super_admin_token = self.projects.provide_super_admin_token()

    async def close(self) -> None:
        await self.projects.close()
        self.hasher.stop()
        if self.embedded is not None:
            await deferToThread(self.embedded.stop)


class ApiService(MultiService):
    """The server as a service of Twisted. Starting it opens the backend and listens. Stopping it stops the jobs and stops listening, waits
    for running requests (at most shutdown_timeout seconds), and closes the backend. *now* returns the time of day."""

    def __init__(
        self, settings: Settings, reactor: Any, *, demo: bool = False, now: Callable[[], datetime] = current_time
    ) -> None:
        super().__init__()
        self.settings = settings
        self.reactor = reactor
        self.demo = demo
        self.backend = Backend(settings, reactor)
        services = Services(self.backend.projects, self.backend.items, self.backend.hasher, settings, now)
        self.app = App(reactor, services)
        for job in (retention_job(reactor, self.backend.projects, settings.history, now),):
            if job is not None:
                JobRunner(reactor, job).setServiceParent(self)
        self._started: defer.Deferred[None] | None = None
        self._stopping = False
        self._ports: list[Any] = []
        self._observer = logs.observer(settings.server.log_format, settings.server.log_file)
        self._console = logs.LineWriter("", lambda number, reason: "") if settings.server.log_file else self._observer.lines
        for lines in {self._observer.lines, self._console}:
            atexit.register(lines.finish)

    def setServiceParent(self, parent: Any) -> None:
        """Makes the application of twistd use our log observer. twistd looks for one before it starts logging."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        super().startService()
        self._observer.lines.start()
        self.reactor.addSystemEventTrigger("after", "shutdown", self._observer.lines.finish)
        # After a turn of the reactor, because Twisted installs its signal handlers when the reactor starts running.
        self.reactor.callWhenRunning(self.reactor.callLater, 0, self._handle_signals)
        self._started = defer.Deferred.fromCoroutine(self._start())
        self._started.addErrback(self._start_failed)

    def _handle_signals(self) -> None:
        """Installs signal handlers. SIGTERM and SIGINT stop the server with exit status 0; with Twisted's handlers the process would be
        killed by the signal after the shutdown. SIGHUP reopens the log file. Project files need no signal: they are checked at each
        request."""

        def stop(*_: Any) -> None:
            self.reactor.callFromThread(self._stop_once)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self._observer.lines.reopen))

    def _stop_once(self) -> None:
        if self.reactor.running and not self._stopping:
            self._stopping = True
            self.reactor.stop()

    async def _start(self) -> None:
        await self.backend.open()
        if self.backend.new_super_admin_token:
            self._tell(f"super admin token  {self.backend.new_super_admin_token}   (shown this once)")
            log.info("the super admin token is stored in {file}", file=str(self.backend.projects.super_admin_token_file))
        await self.backend.projects.migrate_all()
        self._ports = await listen(self.reactor, self.app.site, self.settings)
        if self.demo:
            await self._make_demo()
        log.info("listening on {listen}", listen=", ".join(self.settings.server.listen))
        # Objects that exist now live as long as the process. The garbage collector does not scan frozen ones, so its pauses are shorter.
        gc.collect()
        gc.freeze()

    async def _make_demo(self) -> None:
        demo = await create_demo(self.backend.projects, self.backend.items)
        hosts = [str(port.getHost().port) for port in self._ports if hasattr(port.getHost(), "port")]
        self._tell(*announcement(demo, f"http://127.0.0.1:{hosts[0]}" if hosts else ", ".join(self.settings.server.listen)))

    def _start_failed(self, failure: Any) -> None:
        """Logs the failure and ends the process with status 1."""
        log.failure("the server cannot start", failure)
        self.reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self.reactor.callWhenRunning(self.reactor.stop)

    def stopService(self) -> "defer.Deferred[None]":
        started = self._started or defer.succeed(None)
        return started.addBoth(lambda _: defer.Deferred.fromCoroutine(self._stop()))

    async def _stop(self) -> None:
        await defer.maybeDeferred(super().stopService)
        for port in self._ports:
            await defer.maybeDeferred(port.stopListening)
        if self.app.running:
            waiting = defer.DeferredList(list(self.app.running))
            waiting.addTimeout(self.settings.server.shutdown_timeout, self.reactor, onTimeoutCancel=lambda *_: None)
            await waiting
        await self.backend.close()

    def _tell(self, *lines: str) -> None:
        """Writes to standard output, even if the log goes to a file: passwords and tokens must not be stored in the log."""
        self._console.start()
        self._console.write("\n" + "\n".join(lines) + "\n\n")
