"""The parts that the server and the `directus` command share."""

import contextlib
import math
import pathlib
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from directus_tx.accounts.notices import AccountNotices, Sending
from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.accounts.sso.service import SingleSignOn
from directus_tx.config import ConfigError, Settings, libpq_parameters
from directus_tx.db.addresses import SharedLookups
from directus_tx.db.connection import pause
from directus_tx.embedded import EmbeddedPostgres
from directus_tx.errors import ServiceUnavailable
from directus_tx.files.contents import KIND as FILE_REMOVAL
from directus_tx.items.service import Items
from directus_tx.mail.delivery import NO_SENDER, MailKind, server_of
from directus_tx.mail.smtp import Mailer
from directus_tx.outgoing.client import Client
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.process import StartError
from directus_tx.projects.registry import ProjectPlugins, Projects
from directus_tx.registered import Registered, collect
from directus_tx.system import RULES
from directus_tx.webhooks.before import BeforeWebhooks
from directus_tx.webhooks.delivery import WebhookKind
from directus_tx.webhooks.events import WebhookEvents

log = Logger()

KINDS = (WebhookKind.name, MailKind.name, FILE_REMOVAL)
"""The names of the server's own kinds of messages."""

CONNECT_PAUSES = (0.25, 0.5, 1.0)
"""Seconds between attempts to reach the database server at start. The last one is used for all further attempts."""

REMINDER = 30.0
"""Seconds after which the log says again that the database server cannot be reached."""

OPENING_INTERVAL = 15.0
"""Seconds after which a server tries again to open the projects that could not be opened."""


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


def use_shared_lookups(reactor: Any) -> None:
    """Makes a reactor look up addresses as `SharedLookups` does."""
    reactor.installNameResolver(SharedLookups(reactor))


class Backend:
    """The parts that the server and the `directus` command share: the database server, the projects, the password hasher, the plugins. Call
    `open` before use and `close` afterwards. *plugins* are used instead of those that are found. Raises StartError if the data directory or
    a plugin cannot be used."""

    def __init__(self, settings: Settings, reactor: Any, plugins: Plugins | None = None) -> None:
        self.settings = settings
        self.reactor = reactor
        self.plugins, self.registered = load_plugins(
            plugins or Plugins(reactor, settings.plugins), settings, find=plugins is None
        )
        self.data_dir = pathlib.Path(settings.server.data_dir)
        self.embedded = None if settings.database.url else EmbeddedPostgres(self.data_dir)
        self.hasher = PasswordHasher(reactor)
        self.outgoing = Client(reactor, settings.outgoing)
        asking = BeforeWebhooks(reactor, self.outgoing, settings.webhooks.before_timeout)
        publishers = (WebhookEvents(), AccountNotices(self._sending))
        self.items = Items(RULES, self.plugins, settings.limits, self.hasher, publishers=publishers, gates=(asking,))
        self.plugins.items = self.items
        self.sign_on = SingleSignOn(reactor, self.outgoing, self.items, self.registered.drivers)
        self.mailer = Mailer(reactor, settings.mail)
        parameters = self.embedded.parameters if self.embedded else libpq_parameters(settings.database.url)
        self.new_super_admin_token: str | None = None
        """The super admin token if `provide_token` has generated it, otherwise None."""
        self.stopping = False
        with _data_directory(self.data_dir):
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self.projects = Projects(
                reactor,
                self.data_dir,
                parameters,
                settings.database,
                self.hasher,
                settings.super_admin_token,
                settings.storage,
                self.registered.storages,
                ProjectPlugins(
                    self.registered.mail_templates,
                    self.registered.migrations,
                    self.registered.schemas,
                    self.plugins.enabled,
                    skip=settings.plugins.on_error == "skip",
                ),
            )
        self.registered.start(self)

    def _sending(self, key: str) -> Sending | None:
        """Returns how a project mails its users that their accounts have changed. None if it does not."""
        if self.settings.accounts.change_mails == "off":
            return None
        try:
            server = server_of(self.projects.get(key), self.settings.mail)
        except ValueError:
            # What is wrong with the mail server is told by the mails that somebody asks for.
            return None
        if server is None:
            return None
        most = self.settings.accounts.change_mails_per_hour
        return Sending(self.projects.mail_templates(key), server.sender or NO_SENDER, most)

    def prepare(self) -> None:
        """Starts threads."""
        self.hasher.start()

    def provide_token(self) -> None:
        """Generates the super admin token if there is none. The server does so when it starts; the `directus` command does not, because the
        server may have it in its environment, which the command does not see. Raises StartError if it cannot be stored."""
        with _data_directory(self.data_dir):
            self.new_super_admin_token = self.projects.provide_super_admin_token()

    async def start_database(self) -> None:
        """Starts the embedded PostgreSQL if it is used. Raises EmbeddedError."""
        if self.embedded is not None:
            await deferToThread(self.embedded.start)

    async def open(self) -> None:
        """Prepares, starts the embedded PostgreSQL if it is used, and connects to the database server. Raises EmbeddedError and
        ServiceUnavailable."""
        self.prepare()
        await self.start_database()
        await self.projects.databases.measure()

    async def open_when_possible(self) -> None:
        """Starts the embedded PostgreSQL if it is used, or waits until the database server can be reached. Raises EmbeddedError, and
        when it is cancelled because the server is `stopping`, any exception."""
        availability = self.projects.availability
        await self.start_database()
        told, told_at = "", -math.inf
        pauses = chain(CONNECT_PAUSES, repeat(CONNECT_PAUSES[-1]))
        while True:
            try:
                await self.projects.databases.measure()
                break
            except ServiceUnavailable as error:
                if self.stopping:
                    raise
                reason = str(error.__cause__ or error.message).strip()
            availability.fail(reason)
            now = self.reactor.seconds()
            if reason != told or now > told_at + REMINDER:
                told, told_at = reason, now
                log.error("the database server cannot be reached yet: {error}; the server tries again", error=reason)
            await pause(self.reactor, next(pauses))
        availability.finish()

    async def close(self) -> None:
        """Closes connections and stops threads and the embedded PostgreSQL."""
        self.plugins.watchdog.stop()
        await self.outgoing.close()
        self.mailer.close()
        await self.projects.close()
        self.hasher.stop()
        if self.embedded is not None:
            await deferToThread(self.embedded.stop)


def load_plugins(plugins: Plugins, settings: Settings, *, find: bool = True) -> tuple[Plugins, Registered]:
    """Loads plugins, if they are to be found. Returns them and what they register. Raises StartError."""
    try:
        if find:
            plugins.load()
        registered = collect(plugins, settings, KINDS)
    except PluginError as error:
        plugins.watchdog.stop()
        raise StartError(str(error)) from None
    except ConfigError as error:
        plugins.watchdog.stop()
        raise StartError("\n  ".join(["the configuration is invalid:", *error.mistakes])) from None
    if plugins.loaded:
        names = [f"{each.name} {each.version}".strip() for each in plugins.loaded.values()]
        log.info("plugins: {names}", names=", ".join(names))
    return plugins, registered


@contextlib.contextmanager
def _data_directory(directory: pathlib.Path) -> Iterator[None]:
    """A context that raises StartError for an OSError."""
    try:
        yield
    except OSError as error:
        raise StartError(
            f"the data directory {directory} cannot be used: {error.filename or directory}: {error.strerror}"
        ) from error
