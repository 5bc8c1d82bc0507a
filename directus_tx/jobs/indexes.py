"""Builds declared indexes in the background, with CREATE INDEX CONCURRENTLY: items can be read and written meanwhile.

Each database has one builder at a time, whichever server process it is in. The builder has a connection of its own, outside of the pools,
which holds an advisory lock. If its process is killed, PostgreSQL ends the statement that it is running by itself, and then frees the lock.
An index that was not finished is invalid, and is dropped and built again.
"""

import math
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.db.connection import PUBLIC, Connection, connected
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from directus_tx.errors import ApiError, Conflict, InternalError, NotUnique, ServiceUnavailable
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects
from directus_tx.schema.model import Collection, Index, Snapshot
from directus_tx.schema_service.definitions import creation, dropping, duplicates, not_unique

log = Logger()

INTERVAL = 0.5
"""Seconds between two looks at the snapshots of the projects, which are in memory, for indexes to be built."""

RETRY, MOST_RETRY = 2.0, 60.0
"""Seconds after which the indexes of a project are tried again, if another process builds them, or building has been cancelled. After a
failure, the seconds double with each further one, up to the second number."""

MOST = 2
"""The number of databases in which a server process builds at the same time."""

STOP_TIMEOUT = 5.0
"""Seconds that cancelling a statement may take when the server stops."""

BUILDER_LOCK = 0x6469726563747574
"""The key of the advisory lock of the builder of a database."""

_NO_LIMITS = "SET statement_timeout = 0; SET lock_timeout = 0"


class IndexBuilder(Service):
    """A service that builds the declared indexes of the opened projects. Stopping it cancels the statements that build them."""

    def __init__(self, reactor: Any, projects: Projects) -> None:
        self.reactor = reactor
        self.projects = projects
        self._timer: Any = None
        self._running: dict[str, defer.Deferred[None]] = {}
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._look()

    def stopService(self) -> "defer.Deferred[Any]":
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        running = list(self._running.values())
        for each in running:
            each.cancel()
        return defer.DeferredList(running)

    def _look(self) -> None:
        """Starts to build the indexes of projects."""
        now = self.reactor.seconds()
        self._not_before = {key: time for key, time in self._not_before.items() if time > now}
        for key, project in self.projects.opened():
            if not project.may_lack_indexes:
                continue
            if len(self._running) < MOST and key not in self._running and key not in self._not_before:
                self._running[key] = work = defer.Deferred.fromCoroutine(self._build(key, project))
                work.addBoth(self._ended, key)
        self._timer = self.reactor.callLater(INTERVAL, self._look)

    def _ended(self, _: object, key: str) -> None:
        self._running.pop(key, None)

    async def _build(self, key: str, project: Project) -> None:
        seconds = RETRY
        try:
            if await build_indexes(project):
                seconds = 0.0
            self._failures.pop(key, None)
        except defer.CancelledError:
            return
        except Exception as error:
            if isinstance(error, ApiError):
                log.warn("project {key}: indexes cannot be built now: {error}", key=key, error=without_values(error))
            else:
                log.failure("building indexes of project {key}", key=key)
            self._failures[key] = failures = self._failures.get(key, 0) + 1
            seconds = min(RETRY * 2.0**failures, MOST_RETRY)
        if seconds:
            self._not_before[key] = self.reactor.seconds() + seconds


async def build_indexes(project: Project) -> bool:
    """Builds the declared indexes of a project, one after the other. Returns whether that is done: False if another process builds them, or
    building one has been cancelled. Raises ApiError if the database cannot be used."""
    if not (await project.snapshot()).unbuilt:
        return True
    database = project.database
    tried: set[str] = set()
    async with connected(database.reactor, database.parameters, math.inf) as connection:
        await connection.query(_NO_LIMITS)
        ((standby, free),) = await connection.query(f"SELECT pg_is_in_recovery(), pg_try_advisory_lock({BUILDER_LOCK})")
        if standby or not free:
            return False
        while True:
            snapshot = await project.snapshot()
            todo = next(((c, index) for c, index in snapshot.unbuilt if index.name not in tried), None)
            if todo is None:
                return True
            tried.add(todo[1].name)
            builder = Builder(project, connection, snapshot, *todo)
            try:
                if not await builder.build():
                    return False
            except defer.CancelledError:
                await builder.cancel()
                raise


class Builder:
    """Builds one index on a connection that holds the lock. *collection* and *index* are of the *snapshot*."""

    def __init__(
        self, project: Project, connection: Connection, snapshot: Snapshot, collection: Collection, index: Index
    ) -> None:
        self.project = project
        self.connection = connection
        self.snapshot = snapshot
        self.collection = collection
        self.index = index
        self.pid = 0

    async def build(self) -> bool:
        """Builds the index, or stores why that has failed. Returns False if it should be tried again soon, and raises ApiError if it
        should be tried again later."""
        names = {"project": self.project.key, "index": self.index.name, "collection": self.collection.collection}
        ((self.pid,),) = await self.connection.query("SELECT pg_backend_pid()")
        rows = await self.connection.query("SELECT failed FROM directus_indexes WHERE name = %s", (self.index.name,))
        if rows != [(False,)]:
            # The declaration has been changed since the snapshot was read.
            return True
        valid = await self._is_valid()
        if valid is False:
            await self.connection.query(dropping(self.collection.collection, self.index.name, concurrently=True))
        if not valid:
            log.info("project {project}: building the index {index} of {collection}", **names)
            try:
                await self.connection.query(*creation(self.snapshot, self.collection, self.index, concurrently=True))
            except ApiError as error:
                if self.connection.closed:
                    raise
                return await self._failed(error)
            log.info("project {project}: the index {index} of {collection} is built", **names)
        await self._note("UPDATE directus_indexes SET error = NULL WHERE name = %s", (self.index.name,))
        return True

    async def _is_valid(self) -> bool | None:
        """Whether the index is valid; None if there is none."""
        rows = await self.connection.query(
            "SELECT i.indisvalid AND i.indisready FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
            " JOIN pg_namespace n ON n.oid = x.relnamespace WHERE x.relname = %s AND n.nspname = ANY (%s)",
            (self.index.name, [PUBLIC, self.project.database.system_schema]),
        )
        return rows[0][0] if rows else None

    async def _failed(self, error: ApiError) -> bool:
        """Drops what is left of an index that could not be built, and stores the reason. Returns False if it has been cancelled or the
        schema has changed. Raises the error if the index can be built later, as the items are."""
        log.warn(
            "project {project}: the index {index} of {collection} could not be built: {error}",
            project=self.project.key,
            index=self.index.name,
            collection=self.collection.collection,
            error=without_values(error),
        )
        await self.connection.query(dropping(self.collection.collection, self.index.name, concurrently=True))
        if isinstance(error, (ServiceUnavailable, Conflict)):
            await self._note("UPDATE directus_indexes SET error = %s WHERE name = %s", (error.message, self.index.name))
            if error.diagnostics is None:
                return False
            raise error
        if await self._is_outdated():
            return False
        if isinstance(error, NotUnique):
            rows = await self.connection.query(*duplicates(self.snapshot, self.collection, self.index))
            message = not_unique(self.collection, self.index, rows)
        else:
            message = without_values(error) if isinstance(error, InternalError) else error.message
        await self._note("UPDATE directus_indexes SET failed = TRUE, error = %s WHERE name = %s", (message, self.index.name))
        return True

    async def _is_outdated(self) -> bool:
        """Whether the schema has been changed since the snapshot was read: the index may fit its field as that is now."""
        ((version,),) = await self.connection.query("SELECT version FROM directus_versions WHERE kind = 'schema'")
        return bool(version > self.snapshot.version)

    async def _note(self, update: str, parameters: tuple[str, ...]) -> None:
        """Changes the declaration, and makes every server process read it. This one has been notified when it returns, which is so for
        connections of the pool only."""

        async def work(session: Session) -> None:
            await session.query(update, parameters)
            await session.query("SELECT directus_touch('schema')")

        await Session(self.project.database).transaction(work)

    async def cancel(self) -> None:
        """Cancels the statement that is running. Closing the connection would not: PostgreSQL would not notice before it had built the
        index."""
        database = self.project.database
        try:
            async with connected(database.reactor, database.parameters, STOP_TIMEOUT) as other:
                await other.query("SELECT pg_cancel_backend(%s)", (self.pid,))
        except ApiError as error:
            log.warn("cannot cancel the building of an index: {error}", error=without_values(error))
