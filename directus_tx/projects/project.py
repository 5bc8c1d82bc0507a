"""A project that is in use: its file, its database, which is opened when it is needed, and a snapshot of its schema."""

import hmac
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from attrs import evolve
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.cache import Cache
from directus_tx.config import DatabaseSettings
from directus_tx.db.connection import holding
from directus_tx.db.pool import OUTBOX, TABLES, Database
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from directus_tx.errors import (
    ApiError,
    InternalError,
    ReadOnlyDatabase,
    ServiceUnavailable,
    StandbyDatabase,
    UpdateForbidden,
)
from directus_tx.files.storage.opening import Storages
from directus_tx.projects.availability import Availability
from directus_tx.projects.files import ProjectConfig
from directus_tx.projects.unsealed import seal_all
from directus_tx.schema import event_triggers
from directus_tx.schema.custom import NOTHING_CUSTOM
from directus_tx.schema.introspect import read_fingerprint, read_snapshot
from directus_tx.schema.migrations import NewerSchema, check_not_newer, is_outdated, migrate
from directus_tx.schema.model import Snapshot
from directus_tx.schema.plugin_migrations import PluginMigrations, PluginTablesFailed, migrate_plugin
from directus_tx.schema.statistics import Statistics
from directus_tx.sealing import Keys

log = Logger()
READ_ATTEMPTS = 4
"""The maximum number of times that a snapshot is read while other programs change the schema."""

MIGRATION_PATIENCE = 3.0
"""Seconds that a request waits while the project is being migrated."""

UNDOUBTED = 6
"""How much rarer the schema is compared with the database where event triggers notify of changes."""

REMEMBERED = 100
"""The number of transactions that have changed tables that are remembered."""


class Project:
    """A project that is in use. `tag_key` is the key of its entity tags, `cursor_key` that of its cursors. `accounts` caches the bearers of
    tokens; when an account changes, it is emptied and `accounts_version` changes. *availability* is that of its database server, if it is
    the configured one. `error` is the error of the last attempt to open the project, None if it succeeded. `has_own_users`: the project
    has just been created on a database with system tables, so it has the users of these, and no administrator was created;
    `lost_secrets` is the number of their secrets that were encrypted with the key of another project. *storages* opens the storage of its
    files."""

    def __init__(
        self,
        config: ProjectConfig,
        database: Database,
        settings: DatabaseSettings,
        storages: Storages,
        availability: Availability | None = None,
    ) -> None:
        self.plugin_migrations: Sequence[PluginMigrations] = ()
        """The migrations of the plugins that are enabled in the project."""
        self.custom = NOTHING_CUSTOM
        """What plugins add to the schema of the project."""
        self.skips_plugins = False
        """Whether the project is opened also if the tables of a plugin cannot be migrated."""
        self.config = config
        self.key = config.key
        self.keys = Keys(config.secret_key, config.former_secret_keys)
        self.public_key = config.public_key
        self.tag_key = hmac.digest(config.secret_key.encode(), b"entity tags", "sha256")
        self.cursor_key = hmac.digest(config.secret_key.encode(), b"cursors", "sha256")
        self.database = database
        self.accounts: dict[Any, Any] = {}
        self.accounts_version = 0
        database.on_change = self._changed
        database.on_restore = self._restored
        self.on_outbox: Callable[[Project], None] = lambda project: None
        """Called when messages may be in the outbox."""
        self._snapshot: Snapshot | None = None
        self._version = 0
        self._restores = 0
        self._migrated = False
        self.error: BaseException | None = None
        self.has_own_users = False
        self.lost_secrets = 0
        self._availability = availability
        self._storages = storages
        self._storage: Any = None
        self._opening = False
        self._slow = False
        self._waiting: dict[defer.Deferred[None], bool] = {}
        self._schema_interval = settings.schema_interval
        self._event_trigger = settings.event_trigger
        self._doubted = False
        self._heard_of: deque[int] = deque(maxlen=REMEMBERED)
        own = config.database.schemas
        self._schemas = settings.schemas if own is None else own
        self._plan_cache_size = settings.plan_cache_size
        self._statistics = Statistics()
        self._verify_from = 0.0
        self._verifications = 0
        self._verified = 0
        self._building = defer.DeferredLock()

    @property
    def storage(self) -> Any:
        """The storage of the project's files, an IFileStorage. Raises ServiceUnavailable if its settings in the project file are wrong."""
        if self._storage is None:
            try:
                self._storage = self._storages.open(self.key, self.config.storage)
            except ValueError as error:
                log.error("project {project}: {error}", project=self.key, error=error)
                raise ServiceUnavailable(
                    "The storage of the project is not configured correctly; see the server's log."
                ) from error
        return self._storage

    @property
    def quota(self) -> int:
        """The maximum size of all files of the project together, in bytes. 0: there is no limit."""
        return self._storages.quota(self.config.storage)

    async def close(self) -> None:
        """Closes the database and the storage."""
        await self.database.close()
        storage, self._storage = self._storage, None
        if storage is not None:
            await storage.close()

    @property
    def may_lack_indexes(self) -> bool:
        """Whether the last snapshot has declared indexes that are to be built, or the schema has changed since it was read."""
        found = self._snapshot
        return found is not None and (bool(found.unbuilt) or found.version < self._version)

    def current(self) -> Snapshot | None:
        """Returns the snapshot if it is known to be the newest, otherwise None. It is known while a connection is open, because
        the database notifies the connection of changes."""
        found = self._snapshot
        if found is None or found.version < self._version or self._doubted or not self.database.listening:
            return None
        return found

    async def snapshot(self) -> Snapshot:
        """Returns the newest snapshot and reads it if necessary; concurrent callers share the work. If the project has not been opened,
        opens it.

        Raises ServiceUnavailable if the database cannot be reached, is newer than this program, or is still being migrated.
        """
        found = self.current()
        if found is not None:
            return found
        restores = self._restores
        try:
            return await self._newest()
        except ApiError:
            if restores == self._restores:
                raise
            # The connection that was used was the first to a database that has replaced the one before. Its system tables may be older
            # or missing.
            return await self._newest()

    async def _newest(self) -> Snapshot:
        if not self._migrated:
            await self.open()
        async with self._turn_to_read():
            found = self.current()
            if found is not None:
                # The caller before has read it.
                return found
            session = Session(self.database)
            seen = self._snapshot
            if seen is not None:
                # No connection was open that would have been notified of changes: ask the database.
                ((version,),) = await session.query("SELECT version FROM directus_versions WHERE kind = 'schema'")
                if (
                    seen is self._snapshot
                    and seen.version >= max(version, self._version)
                    and not await self._differs(session, seen)
                ):
                    return seen
            return await self._read(session)

    async def _differs(self, session: Session, seen: Snapshot) -> bool:
        """Whether tables are different from the snapshot, if an event trigger has told of a change of tables."""
        if not self._doubted:
            return False
        self._doubted = False
        try:
            fingerprint = await read_fingerprint(session, seen.schemas)
        except BaseException:
            self._doubted = True
            raise
        return fingerprint != seen.fingerprint or self._snapshot is not seen

    def _turn_to_read(self) -> AbstractAsyncContextManager[None]:
        """A context in which no other caller reads the schema. Raises ServiceUnavailable if that does not begin within queue_timeout, for
        example because a statement of the one before waits for a lock."""
        database = self.database
        message = "The schema of the project is still being read (database.queue_timeout)."
        return holding(database.reactor, self._building, database.queue_timeout, message)

    @property
    def state(self) -> str:
        """ "ready" if the project has been opened, "failing" if that or the last attempt to connect failed, otherwise "pending"."""
        if self.error is not None or self.database.failing:
            return "failing"
        return "ready" if self._migrated else "pending"

    async def open(self, *, until_migrated: bool = False) -> None:
        """Migrates older system tables, unless that has been done. Concurrent callers share the work, which continues if they do not
        wait for it. They wait for a migration up to MIGRATION_PATIENCE seconds, or *until_migrated*.

        Raises ServiceUnavailable if the database cannot be reached, is newer than this program, or is still being migrated.
        """
        if self._migrated:
            return
        if self._slow and not until_migrated:
            raise _migrating()
        waiter: defer.Deferred[None] = defer.Deferred(self._leave)
        self._waiting[waiter] = until_migrated
        if not self._opening:
            self._opening = True
            defer.Deferred.fromCoroutine(self._migrate()).addBoth(self._opened)
        await waiter

    def _leave(self, waiter: "defer.Deferred[None]") -> None:
        self._waiting.pop(waiter, None)

    async def _migrate(self) -> None:
        if self._availability is not None:
            await self._availability.wait()
        restores = self._restores
        session = Session(self.database)
        outdated = await is_outdated(session)
        timer = self.database.reactor.callLater(MIGRATION_PATIENCE, self._refuse_waiting)
        try:
            if outdated:
                await self._migrate_tables(session)
            await self._seal_secrets(session)
            for plugin in self.plugin_migrations:
                await self._migrate_plugin(session, plugin)
        finally:
            self._slow = False
            if timer.active():
                timer.cancel()
        await self._provide_event_triggers(session)
        self._migrated = restores == self._restores

    async def _migrate_tables(self, session: Session) -> None:
        log.info("project {project}: migrating the system tables", project=self.key)
        try:
            done = await migrate(session)
        except (ReadOnlyDatabase, StandbyDatabase, UpdateForbidden) as error:
            raise ServiceUnavailable(
                "The system tables are older than this version of the server, and the database does not allow it to migrate them."
            ) from error
        if done:
            log.info("project {project}: migrated to {version}", project=self.key, version=done[-1])

    async def _migrate_plugin(self, session: Session, plugin: PluginMigrations) -> None:
        """Runs the missing migrations of a plugin. Raises PluginTablesFailed if that fails, unless the project is to be opened without."""
        try:
            done = await migrate_plugin(session, plugin)
        except (ApiError, ValueError) as error:
            reason = without_values(error) if isinstance(error, ApiError) else str(error)
            text = "project {project}: the tables of the plugin {plugin} cannot be migrated: {error}"
            log.error(text, project=self.key, plugin=plugin.plugin, error=reason)
            if not self.skips_plugins:
                raise PluginTablesFailed from error
            return
        if done:
            text = "project {project}: the tables of the plugin {plugin} migrated to {version}"
            log.info(text, project=self.key, plugin=plugin.plugin, version=done[-1])

    async def _seal_secrets(self, session: Session) -> None:
        """Seals tokens and other secrets that are stored as they are. They can be used until that is done, so a failure is only logged."""
        try:
            number = await seal_all(session, self.keys)
        except ApiError as error:
            text = "project {project}: tokens and two-factor secrets that are not encrypted stay so: {error}"
            log.warn(text, project=self.key, error=without_values(error))
            return
        if number:
            log.info("project {project}: tokens and two-factor secrets encrypted: {number}", project=self.key, number=number)

    async def _provide_event_triggers(self, session: Session) -> None:
        """Creates the event triggers in the database, or drops them, as the setting event_trigger says. A failure is logged."""
        wanted, asked = self._event_trigger != "off", self._event_trigger == "on"
        if wanted and not (asked or self.config.database.owned):
            return
        try:
            if not await event_triggers.provide(session, wanted=wanted, asked=asked) and asked:
                log.warn("project {project}: the role of the server may not create event triggers", project=self.key)
        except ApiError as error:
            log.warn("project {project}: event triggers: {error}", project=self.key, error=without_values(error))

    @property
    def changes_noticed_by(self) -> str | None:
        """How changes of tables by other programs are noticed; None until the schema has been read."""
        if self._snapshot is None:
            return None
        if self._snapshot.notified:
            return "event trigger"
        return f"comparison every {self._schema_interval:g} s" if self._schema_interval else "requests that fail"

    @property
    def read_only(self) -> str | None:
        """Why the database can only be read, as far as that is known, as a sentence; None if it can be written."""
        if self._snapshot is not None and self._snapshot.read_only:
            return "The role of the server may not write the system tables."
        return self.database.read_only

    def _refuse_waiting(self) -> None:
        """Ends the waiting of callers that do not wait until the project is migrated, and refuses further ones."""
        self._slow = True
        for waiter in [waiter for waiter, until_migrated in self._waiting.items() if not until_migrated]:
            del self._waiting[waiter]
            waiter.errback(_migrating())

    def _opened(self, result: Any) -> None:
        """Tells the callers of `open` how it has ended."""
        error = result.value if isinstance(result, Failure) else None
        if error is not None and not isinstance(error, ApiError):
            log.failure("project {project} could not be opened", result, project=self.key)
        self.error = error
        self._opening = False
        waiting, self._waiting = self._waiting, {}
        if error is None:
            self.on_outbox(self)
        for waiter in waiting:
            if error is None:
                waiter.callback(None)
                continue
            # An exception of its own for each caller, because a traceback is added to it.
            copy = type(error)(error.message, headers=error.headers) if isinstance(error, ApiError) else InternalError()
            copy.__cause__ = error.__cause__ if isinstance(error, ApiError) else error
            waiter.errback(copy)

    async def verified(self, seen: Snapshot) -> Snapshot:
        """Asks the database and returns the newest snapshot, or *seen* itself if the schema has not changed. Unlike `snapshot`,
        this finds changes of tables by other programs, of which the database sends no notification.

        Raises ServiceUnavailable if the database cannot be reached.
        """
        self._verifications += 1
        mine = self._verifications
        newest = await self.snapshot()
        if newest is not seen:
            return newest
        async with self._turn_to_read():
            if self._snapshot is not None and (self._verified >= mine or self._snapshot is not seen):
                # Another verification, which began after this call, has answered it.
                return self._snapshot
            self._verified = self._verifications
            session = Session(self.database)
            if await read_fingerprint(session, seen.schemas) == seen.fingerprint and self._snapshot is seen:
                return seen
            log.info("project {project}: the schema has changed", project=self.key)
            return await self._read(session)

    def verify_in_time(self) -> None:
        """Starts to verify the snapshot in the background if it was last verified more than schema_interval ago, or
        UNDOUBTED times that if event triggers notify of changes."""
        now = time.monotonic()
        if now < self._verify_from or not self._schema_interval or self._snapshot is None:
            return
        self._verify_from = now + self._interval
        work = defer.ensureDeferred(self.verified(self._snapshot))
        work.addErrback(lambda failure: log.warn("project {project}: {error}", project=self.key, error=failure.value))

    @property
    def _interval(self) -> float:
        """The seconds from one comparison with the database to the next."""
        notified = self._snapshot is not None and self._snapshot.notified
        return self._schema_interval * (UNDOUBTED if notified else 1)

    async def _read(self, session: Session) -> Snapshot:
        """Reads the snapshot, which is as new as this call. If the schema changes meanwhile, the next request reads it again. The version
        in the database counts, even if it is lower than one that was notified before."""
        self._verify_from = time.monotonic() + self._interval
        while True:
            heard, restores = self._version, self._restores
            self._doubted = False
            try:
                await self._check_not_newer(session)
                read = await self._read_once(session)
                snapshot = evolve(read, plans=Cache(self._plan_cache_size), statistics=self._statistics)
            except BaseException:
                self._doubted = True
                raise
            if restores == self._restores:
                if heard == self._version:
                    self._version = snapshot.version
                if self._snapshot is not None and snapshot.fingerprint != self._snapshot.fingerprint:
                    self.database.renew()
                self._snapshot = snapshot
                return snapshot

    async def _check_not_newer(self, session: Session) -> None:
        """Raises NewerSchema if a newer version of the program has migrated the database since it was opened. The project is then opened
        again by the next request, which is refused as long as the database is newer."""
        try:
            await check_not_newer(session)
        except NewerSchema:
            self._migrated = False
            raise

    async def _read_once(self, session: Session) -> Snapshot:
        """Reads the snapshot. Reading fails if PostgreSQL finds a table dropped that it has found in its catalogue before."""
        failure: ApiError | None = None
        for _ in range(READ_ATTEMPTS):
            try:
                return await read_snapshot(session, self._schemas, self.custom)
            except ApiError as error:
                if not error.depends_on_schema:
                    raise
                failure = error
        raise ServiceUnavailable("The schema of the project is being changed; try again.") from failure

    def _restored(self) -> None:
        """Discards everything that is cached of the database, which may have been replaced by an older one."""
        self._snapshot = None
        self._version = 0
        self._restores += 1
        self._migrated = False
        self.accounts.clear()

    def _changed(self, kind: str, version: int) -> None:
        if kind == "schema":
            self._version = max(self._version, version)
        elif kind == TABLES:
            if version and version in self._heard_of:
                # Each connection is notified of each transaction.
                return
            self._heard_of.append(version)
            if self._snapshot is not None and self._snapshot.notified:
                self._doubted = True
        elif kind == OUTBOX:
            self.on_outbox(self)
        elif kind == "accounts" and version != self.accounts_version:
            self.accounts_version = version
            self.accounts.clear()


def lost(number: int) -> str:
    """Returns the message about secrets that were encrypted with the key of another project, and what to do."""
    return (
        f"tokens and other secrets that were encrypted with a key that the project does not have: {number}."
        " Add the secret_key of the project that has used the database to former_secret_keys in the project file, or set them anew"
    )


def _migrating() -> ServiceUnavailable:
    return ServiceUnavailable("The project's database is being migrated.")
