"""Creates the parts of a server and connects them."""

import gc
import pathlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import evolve
from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx import __version__
from directus_tx.backend import OPENING_INTERVAL, Backend
from directus_tx.config import Settings
from directus_tx.context import current_time
from directus_tx.db.connection import pause
from directus_tx.embedded import EmbeddedError, Interrupted, Supervisor
from directus_tx.errors import ServiceUnavailable
from directus_tx.extensions import ExtensionError
from directus_tx.files.intake import Intake
from directus_tx.files.removal import FileRemoval
from directus_tx.files.thumbnails import Thumbnails
from directus_tx.health import Health
from directus_tx.http.app import App
from directus_tx.http.channel import Phase
from directus_tx.http.listening import listen
from directus_tx.http.routes import Services
from directus_tx.jobs.delivery import Deliverer
from directus_tx.jobs.failed_attempts import failed_attempts_job
from directus_tx.jobs.indexes import IndexBuilder
from directus_tx.jobs.outbox import outbox_job
from directus_tx.jobs.presigned import presigned_job
from directus_tx.jobs.retention import retention_job
from directus_tx.jobs.runner import Job, JobRunner
from directus_tx.jobs.sessions import sessions_job
from directus_tx.jobs.uploads import uploads_job
from directus_tx.mail.delivery import MailKind
from directus_tx.outbox.kinds import Kind
from directus_tx.outgoing.client import Client
from directus_tx.plugins.manager import Plugins
from directus_tx.process import Process, StartError
from directus_tx.projects.demo import announcement, create_demo
from directus_tx.webhooks.delivery import WebhookKind
from directus_tx.workers import Worker

log = Logger()

LAST_BYTES = 3.0
"""Seconds that clients have to receive answers that have been made when the server stops. Most fit into the buffers of the sockets."""


class ServerBackend(Backend):
    """The parts that only a server has: what receives files, thumbnails, the extensions of the admin app, the kinds of messages."""

    def __init__(self, settings: Settings, reactor: Any, plugins: Plugins | None = None) -> None:
        super().__init__(settings, reactor, plugins)
        # Files may be larger, and take longer, than other answers.
        limits = evolve(settings.outgoing, total_timeout=settings.files.import_timeout)
        self.imports = Client(reactor, limits, max_answer=settings.files.max_size)
        self.intake = Intake(reactor, settings.files, self.imports)
        self.thumbnails = Thumbnails(reactor, settings.files, self.data_dir)
        self.extensions = self.registered.extensions
        kinds: tuple[Kind, ...] = (WebhookKind(self.outgoing), MailKind(self.mailer), FileRemoval())
        self.kinds: dict[str, Kind] = {each.name: each for each in (*kinds, *self.registered.kinds)}

    def prepare(self) -> None:
        super().prepare()
        self.intake.start()

    def find_extensions(self) -> None:
        """Finds the extensions of the admin app that the operator has. Raises StartError."""
        directory = self.settings.server.extensions
        if directory:
            try:
                self.extensions.add(pathlib.Path(directory))
            except ExtensionError as error:
                raise StartError(f"server.extensions: {error}") from error

    async def close(self) -> None:
        await self.imports.close()
        await self.thumbnails.stop()
        await super().close()
        self.intake.stop()


class ApiService(Process):
    """A server. It listens first, and then starts or waits for the database; `health` says when it is ready. Stopping it waits for
    shutdown_delay, stops the jobs and stops listening, waits for running requests (at most shutdown_timeout seconds), and closes the
    backend. *now* returns the time of day. *worker*: the place of the process among several."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        demo: bool = False,
        now: Callable[[], datetime] = current_time,
        worker: Worker | None = None,
    ) -> None:
        super().__init__(settings, reactor, worker=None if worker is None else worker.number)
        self.demo = demo
        self.now = now
        self.worker = worker
        self.backend = ServerBackend(settings, reactor)
        self.backend.registered.start(self.backend, 0 if worker is None else worker.number)
        self.backend.projects.databases.delivers = True
        self.backend.projects.availability.begin()
        embedded = self.backend.embedded
        self.supervisor = None if embedded is None else Supervisor(reactor, embedded)
        self.health = Health(self.backend.projects, self.supervisor)
        services = Services(
            self.backend.projects,
            self.backend.items,
            self.backend.hasher,
            settings,
            now,
            self.health,
            sign_on=self.backend.sign_on,
            intake=self.backend.intake,
            thumbnails=self.backend.thumbnails,
            extensions=self.backend.extensions,
            custom=self.backend.registered.routes,
        )
        self.app = App(reactor, services)
        self._opening: defer.Deferred[None] | None = None
        self._ready = False
        self._ports: list[Any] = []

    def stop_once(self) -> None:
        self.health.stopping = True
        super().stop_once()

    async def start(self) -> None:
        """Listens, and opens the projects as soon as the database can be used. Raises StartError, EmbeddedError, ServiceUnavailable."""
        log.info("directus_tx {version} starts", version=__version__)
        self.backend.prepare()
        self.backend.find_extensions()
        self.reactor.callWhenRunning(self.backend.plugins.watchdog.start)
        await self._listen()
        self.backend.provide_token()
        if self.backend.new_super_admin_token:
            self._tell(f"super admin token  {self.backend.new_super_admin_token}   (shown this once)")
            log.info("the super admin token is stored in {file}", file=str(self.backend.projects.super_admin_token_file))
        self._opening = defer.Deferred.fromCoroutine(self.backend.open_when_possible())
        await self._opening
        if self.stopping:
            return
        if self.supervisor is not None:
            self.supervisor.startService()
        projects = self.backend.projects
        opening = Job("opening projects", OPENING_INTERVAL, projects.open_all, at_once=True)
        for job in (
            opening,
            retention_job(self.reactor, projects, self.settings.history, self.now),
            sessions_job(self.reactor, projects, self.settings.sessions, self.now),
            failed_attempts_job(self.reactor, projects, self.settings.rate_limits),
            outbox_job(self.reactor, projects, self.settings.outbox),
            uploads_job(self.reactor, projects, self.settings.files, self.now),
            presigned_job(self.reactor, projects, self.now),
        ):
            if job is not None:
                JobRunner(self.reactor, job).setServiceParent(self)
        IndexBuilder(self.reactor, projects).setServiceParent(self)
        Deliverer(self.reactor, projects, self.backend.kinds, self.settings.outbox).setServiceParent(self)
        for service in self.backend.registered.services:
            service.setServiceParent(self)
        if self.demo:
            await self._make_demo()
        self._ready = True
        log.info("the server is ready")
        await self.backend.plugins.tell("application_boot", None)
        # Objects that exist now live as long as the process. The garbage collector does not scan frozen ones, so its pauses are shorter.
        gc.collect()
        gc.freeze()

    async def _listen(self) -> None:
        """Listens on the configured addresses. Raises StartError."""
        worker = self.worker
        self._ports = await listen(self.reactor, self.app.site, self.settings, () if worker is None else worker.sockets)
        if worker is not None:
            worker.watch(self.reactor, self.stop_once)
        log.info("listening on {listen}", listen=", ".join(self.settings.server.listen))

    async def _make_demo(self) -> None:
        demo = await create_demo(self.backend.projects, self.backend.items)
        hosts = [str(port.getHost().port) for port in self._ports if hasattr(port.getHost(), "port")]
        self._tell(*announcement(demo, f"http://127.0.0.1:{hosts[0]}" if hosts else ", ".join(self.settings.server.listen)))

    def _is_expected(self, failure: Any) -> bool:
        return failure.check(defer.CancelledError, Interrupted, ServiceUnavailable) is not None

    def _cannot_start(self, failure: Any) -> bool:
        return failure.check(StartError, EmbeddedError) is not None

    def stopService(self) -> "defer.Deferred[None]":
        self.health.stopping = self.backend.stopping = True
        self.backend.projects.availability.fail("The server is stopping.", "The server is stopping.")
        if self._opening is not None:
            # A thread that starts the embedded database is interrupted when the backend is closed.
            self._opening.cancel()
        return super().stopService()

    async def _close_connections(self) -> None:
        """Closes the connections without a request, and waits until the answers that have been made are passed to the operating system. The
        reactor sends them in a later turn, which would not come if it stopped now."""
        connections = self.app.site.connections
        for channel in connections.each():
            if channel.phase is Phase.IDLE and not channel.closing:
                channel.loseConnection()
        until = self.reactor.seconds() + LAST_BYTES
        while any(channel.closing for channel in connections.each()) and self.reactor.seconds() < until:
            await pause(self.reactor, 0.005)

    async def _stop(self) -> None:
        if self._ready and self.settings.server.shutdown_delay:
            await pause(self.reactor, self.settings.server.shutdown_delay)
        await defer.maybeDeferred(MultiService.stopService, self)
        for port in self._ports:
            await defer.maybeDeferred(port.stopListening)
        self.app.closing = True
        until = self.reactor.seconds() + self.settings.server.shutdown_timeout
        while self.app.running and (left := until - self.reactor.seconds()) > 0:
            # Meanwhile further requests arrive on open connections.
            waiting = defer.DeferredList(list(self.app.running))
            waiting.addTimeout(left, self.reactor, onTimeoutCancel=lambda *_: None)
            await waiting
        await self._close_connections()
        if self.supervisor is not None:
            await defer.maybeDeferred(self.supervisor.stopService)
        await self.backend.close()
        log.info("the server has stopped")
