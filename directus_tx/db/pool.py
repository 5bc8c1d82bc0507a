"""Connection pools: one for each project's database, within a limit that the pools on one database server share (`budget`).

The pool of txpostgres is not used, because it neither recovers from a lost connection nor limits its queue. Closing a connection
is the only way to free its slot, whether it is closed by the pool, by its owner, or by `Connection` itself when it finds that the
other side is gone. All intervals are measured by the monotonic clock.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg2
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.db.budget import Ceiling, ConnectionBudget
from directus_tx.db.callers import Caller, CallerQueue, most_for_one
from directus_tx.db.cancelling import Canceller
from directus_tx.db.connection import (
    CONNECT_TIMEOUT,
    NO_ANSWER,
    PUBLIC,
    Connection,
    Parameters,
    Row,
    TooManyConnections,
    open_connection,
    statement_deadline,
)
from directus_tx.db.sqlstate import READ_ONLY, api_error, is_lost
from directus_tx.errors import ApiError, ServiceUnavailable, StandbyDatabase

log = Logger()
CHANNEL = "directus"
"""The channel on which the database notifies of new versions, as "kind:version"."""

MAX_DIGITS = 19
"""The maximum number of digits of a version, which is a bigint."""

TABLES = "tables"
"""The kind of notifications that tables have changed. The version is the number of the transaction."""

OUTBOX = "outbox"
"""The kind of changes that messages were written to the outbox. It has a channel of its own, on which one connection of the pool listens:
PostgreSQL wakes every connection that listens for each message."""

DOWN_FOR = 0.5
"""Seconds to wait after a failure to connect before the next attempt."""

LIFETIME = 600.0
"""Seconds after which a connection is replaced, so that a database server that replaces another one is noticed even if the old
one still answers."""

READ_ONLY_LIFETIME = 1.0
"""Seconds after which a connection is replaced that has refused to write."""

_INTRODUCTION = """
SELECT pg_backend_pid(),
       concat_ws(
           ' ', pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database()), pg_is_in_recovery()
       ),
       pg_is_in_recovery(),
       current_setting('default_transaction_read_only')::boolean,
       (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = '{}' AND c.relname = 'directus_versions'),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
            AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user))
"""
_IS_STANDBY = "SELECT pg_is_in_recovery()"
_VERSIONS = "SELECT kind, version FROM directus_versions"


class Database:
    """The connection pool of a project's database. It opens connections when they are needed, within the budget.

    A connection that becomes free goes to the waiting caller with the fewest connections in use. One caller can use all but a fifth
    of the pool. Callers are anything hashable; None is the server itself, which has no such limit and comes first.

    *system_schema* is the schema of the system tables, a plain identifier; *parameters* set the search_path accordingly.

    `on_change(kind, version)` is called with each version that the database reports, when a connection opens and by NOTIFY. For the kind
    TABLES, the version is the number of the transaction that has changed tables, or 0 if any may have.
    `on_restore()` is called when data cached from the database may no longer be valid: the database server was restarted, another
    server answers, the database was replaced, or a version decreased. Restoring a backup or promoting a standby causes one of these.
    """

    def __init__(
        self,
        reactor: Any,
        budget: ConnectionBudget,
        parameters: Parameters,
        *,
        on_change: Callable[[str, int], None] = lambda kind, version: None,
        on_restore: Callable[[], None] = lambda: None,
        pool_size: int = 10,
        queue_size: int = 1000,
        queue_timeout: float = 10.0,
        statement_timeout: float = 30.0,
        lock_timeout: float = 1.0,
        system_schema: str = PUBLIC,
    ) -> None:
        self.system_schema = system_schema
        self._channel = CHANNEL if system_schema == PUBLIC else f"{CHANNEL}:{system_schema}"
        self._outbox_channel = f"{CHANNEL}-{OUTBOX}" + ("" if system_schema == PUBLIC else f":{system_schema}")
        self._outbox_listener: Connection | None = None
        self._introduction = _INTRODUCTION.format(system_schema)
        self._listening = "".join(f'LISTEN "{each}"; ' for each in dict.fromkeys((CHANNEL, self._channel))) + self._introduction
        self.reactor = reactor
        self.budget = budget
        self.parameters = parameters
        self.on_change = on_change
        self.on_restore = on_restore
        self.pool_size = pool_size
        self.queue_size = queue_size
        self.queue_timeout = queue_timeout
        self.statement_timeout = statement_timeout
        self.lock_timeout = lock_timeout
        self.connections: set[Connection] = set()
        self.idle: deque[Connection] = deque()
        self.waiting: CallerQueue[defer.Deferred[Connection]] = CallerQueue()
        self.opening = 0
        self.closed = False
        self.ceiling = Ceiling(reactor, self.open_for_waiting)
        self.capacity = self.most = 0
        self.turn = 0
        self._epoch = ""
        self._table: int | None = None
        self._versions: dict[str, int] = {}
        self._failing = False
        self._down_until = 0.0
        self._renewed = 0.0
        self._retry: Any = None
        self._serving = False
        self._canceller = Canceller(reactor, parameters, self.release)
        self._watching = False
        self._allowed: int | None = None
        self.resize()

    # the state

    @property
    def size(self) -> int:
        """The number of connections that are open or being opened."""
        return len(self.connections) + self.opening

    @property
    def in_use(self) -> int:
        """The number of connections that are open or being opened, and not idle."""
        return self.size - len(self.idle)

    @property
    def listening(self) -> bool:
        """Whether a connection is open, so that the pool is notified of changes."""
        return bool(self.connections)

    @property
    def read_only(self) -> str | None:
        """Why the database can only be read, as far as the connections tell, as a sentence; None if it can be written."""
        newest = max(self.connections, key=lambda connection: connection.opened, default=None)
        if newest is None:
            return None
        if newest.standby:
            return "The database server is a standby."
        return (
            "The setting default_transaction_read_only of the database is on."
            if newest.read_only or newest.refused_to_write
            else None
        )

    @property
    def down(self) -> bool:
        """Whether the last attempt to connect failed less than DOWN_FOR seconds ago."""
        return time.monotonic() < self._down_until

    @property
    def failing(self) -> bool:
        """Whether the last attempt to connect failed and no connection is open."""
        return self._failing and not self.connections

    @property
    def wants(self) -> bool:
        """Whether a connection should be opened for a waiting caller. After a failure to connect, only one connection at a time
        is opened until one succeeds."""
        return (
            len(self.waiting) > self.opening
            and self.size < min(self.capacity, self.ceiling.allowed)
            and not self.ceiling.pausing
            and not self.closed
            and not self.down
            and not (self._failing and self.opening)
            and self.waiting.servable(self._used(), self.most, self.opening + 1) > self.opening
        )

    def resize(self) -> None:
        """Computes how many connections the pool may have, its `capacity`, and how many of them one caller may use, `most`: from the
        settings, the budget and the limit of the database."""
        capacity = min(self.pool_size, self.budget.limit)
        if self._allowed is not None:
            capacity = min(capacity, self._allowed // self.budget.processes)
        self.capacity = max(capacity, 1)
        self.most = most_for_one(self.capacity)
        self.close_excess()
        self._serve()

    def _used(self) -> dict[Caller, int]:
        """Returns the number of connections that each caller uses."""
        used: dict[Caller, int] = {}
        for connection in self.connections:
            if connection.caller is not None:
                used[connection.caller] = used.get(connection.caller, 0) + 1
        return used

    # taking and giving back

    def take_idle(self, caller: Caller = None) -> Connection | None:
        """Returns an idle connection for exclusive use, or None if none is idle or *caller* must wait."""
        idle = self.idle
        if not idle or (self._serving and self.waiting):
            return None
        if caller is not None and len(self.connections) - len(idle) >= self.most and self._used().get(caller, 0) >= self.most:
            return None
        connection = idle.pop()
        connection.caller = caller
        return connection

    async def acquire(self, waiting: "set[defer.Deferred[Any]] | None" = None, caller: Caller = None) -> Connection:
        """Returns a connection for exclusive use. While the caller waits, its Deferred is in *waiting* and can be cancelled.
        Raises ServiceUnavailable if no connection becomes free in time, CancelledError if the Deferred is cancelled."""
        connection = self.take_idle(caller)
        if connection is not None:
            return connection
        if self.closed:
            raise ServiceUnavailable("The project is closing.")
        if self.down and not self.size:
            raise _unreachable()
        if len(self.waiting) - self.opening >= self.queue_size or (
            caller is not None and self.waiting.count(caller) - self.opening >= most_for_one(self.queue_size)
        ):
            raise ServiceUnavailable("Too many requests are waiting for the database (database.queue_size).")
        waiter: defer.Deferred[Connection] = defer.Deferred(lambda waiter: self.waiting.remove(caller, waiter))
        self.waiting.add(caller, waiter)
        self.budget.databases.add(self)
        self.open_for_waiting()
        if waiter.called:
            return await waiter
        timer = self.reactor.callLater(self.queue_timeout, self._time_out, caller, waiter)
        if waiting is not None:
            waiting.add(waiter)
        try:
            return await waiter
        finally:
            if waiting is not None:
                waiting.discard(waiter)
            if timer.active():
                timer.cancel()

    async def acquire_for_writing(self, caller: Caller = None) -> Connection:
        """Returns a connection as `acquire` does, but not to a standby. Raises StandbyDatabase if the server is one."""
        while True:
            connection = await self.acquire(caller=caller)
            if not connection.standby:
                return connection
            still = False
            try:
                still = await self._is_still_standby(connection)
            finally:
                self.release(connection, broken=not still)
            if still:
                raise StandbyDatabase

    async def _is_still_standby(self, connection: Connection) -> bool:
        """Whether the server of a connection to a standby has not been promoted. If it has, closes the idle connections, because none of
        them listens. Raises ServiceUnavailable."""
        try:
            ((still,),) = await connection.run(_IS_STANDBY)
        except psycopg2.Error as error:
            raise api_error(error) from error
        if not still:
            log.info("database {dbname} was promoted", dbname=self.parameters.get("dbname"))
            self.close_idle(len(self.idle))
        return bool(still)

    def watch_standby(self) -> None:
        """Reads the versions from a standby, which does not notify of changes, and finds out whether it was promoted."""
        if self._watching or self.closed or not any(connection.standby for connection in self.connections):
            return
        self._watching = True
        defer.ensureDeferred(self._watch_standby()).addErrback(lambda failure: log.failure("watching a standby", failure))

    async def _watch_standby(self) -> None:
        try:
            connection = await self.acquire()
        except ServiceUnavailable:
            # The next attempt follows in SWEEP_INTERVAL.
            self._watching = False
            return
        idle_since, still = max(connection.idle_since, connection.opened), False
        try:
            still = not connection.standby or await self._is_still_standby(connection)
            if still and connection.table:
                versions: dict[str, int] = dict(await connection.run(_VERSIONS))
                if any(version < self._versions.get(kind, 0) for kind, version in versions.items()):
                    self._restored(connection)
                for kind, version in versions.items():
                    self._heard(kind, version)
        except (ApiError, psycopg2.Error) as error:
            still = False
            log.warn("cannot watch a standby: {error}", error=error)
        finally:
            self._watching = False
            self.release(connection, broken=not still)
            # Watching is no use of the connection.
            connection.idle_since = idle_since

    async def ask(self, statement: str, parameters: Any = ()) -> Row:
        """Runs a statement of the server itself and returns its only row. The connection that is used counts as idle for as long as
        before. Raises the ApiError for an error of the database."""
        connection = await self.acquire()
        idle_since = connection.idle_since
        broken = True
        try:
            (row,) = await connection.run(statement, parameters)
            broken = False
            return row
        except psycopg2.Error as error:
            raise api_error(error) from error
        finally:
            self.release(connection, broken=broken)
            if connection in self.idle:
                connection.idle_since = idle_since

    def place_for_long_read(
        self, caller: Caller = None, waiting: "set[defer.Deferred[Any]] | None" = None
    ) -> AbstractAsyncContextManager[None]:
        """A context in which a long read may run. While the caller waits, its Deferred is in *waiting* and can be cancelled. Raises
        ServiceUnavailable if it cannot start in time, ClientGone if the Deferred is cancelled."""
        return self.budget.long_reads.place(
            self,
            self.capacity,
            queue_size=self.queue_size,
            queue_timeout=self.queue_timeout,
            caller=caller,
            waiting=waiting,
        )

    def _time_out(self, caller: Caller, waiter: "defer.Deferred[Connection]") -> None:
        self.waiting.remove(caller, waiter)
        waiter.errback(ServiceUnavailable("No database connection became free in time (database.queue_timeout)."))

    def release(self, connection: Connection, *, broken: bool = False) -> None:
        """Releases a connection. It is closed if it is broken or a statement is still running on it."""
        if connection.closed or broken or connection.running:
            connection.close()
            for each in list(self.idle):
                # Find other connections that were lost for the same reason, so that a retry does not acquire one of them.
                each.doRead()
        elif connection.held:
            connection.released = True
        elif (
            self.closed
            or connection.epoch != self._epoch
            or time.monotonic() > connection.opened + LIFETIME
            or connection.opened <= self._renewed
            or (connection.refused_to_write and time.monotonic() > connection.opened + READ_ONLY_LIFETIME)
            or len(self.connections) > self.capacity
            or self.budget.open > self.budget.limit
            or self.budget.wanted_elsewhere(self)
        ):
            connection.close()
        else:
            connection.timeout = statement_deadline(self.statement_timeout)
            self._offer(connection)

    def _offer(self, connection: Connection) -> None:
        """Makes a connection idle and serves waiting callers."""
        connection.idle_since = time.monotonic()
        connection.caller = None
        self.idle.append(connection)
        self._serve()

    def _serve(self) -> None:
        """Passes idle connections to waiting callers."""
        if self._serving:
            # A caller served by the loop below has released a connection at once: the loop continues, so that the stack does not grow.
            return
        self._serving = True
        try:
            while self.idle and self.waiting:
                found = self.waiting.pop(self._used(), self.most)
                if found is None:
                    break
                connection = self.idle.pop()
                connection.caller = found[0]
                found[1].callback(connection)
        finally:
            self._serving = False

    def close_idle(self, number: int) -> None:
        """Closes the *number* of connections that have been idle longest."""
        for connection in list(self.idle)[:number]:
            connection.close()

    def close_excess(self) -> None:
        """Closes idle connections above the capacity. Those in use are closed when they are released."""
        self.close_idle(max(self.size - self.capacity, 0))

    def close_overdue(self, now: float) -> None:
        """Closes the connections whose statements are overdue at *now*. PostgreSQL would have ended these statements if it could
        be reached, so the idle connections are closed as well. Polls the others, in case a statement was not sent at once."""
        for connection in list(self.connections):
            connection.poll_again()
        overdue = [connection for connection in self.connections if connection.overdue(now)]
        if overdue:
            log.warn("database {dbname} did not answer in time: connections are closed", dbname=self.parameters.get("dbname"))
            self.close_idle(len(self.idle))
        for connection in overdue:
            connection.close(ServiceUnavailable(NO_ANSWER))

    def renew(self) -> None:
        """Replaces the connections: idle ones are closed, those in use when they are released. To be called when tables have changed,
        because functions in PL/pgSQL keep the types of columns as long as the connection is open, and fail if they differ."""
        self._renewed = time.monotonic()
        self.close_idle(len(self.idle))

    async def close(self) -> None:
        """Closes all connections; connections in use are closed when they are released."""
        self.closed = True
        self._fail_waiting(ServiceUnavailable("The project is closing."))
        self.close_idle(len(self.idle))
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self.ceiling.stop()

    def _closed(self, connection: Connection) -> None:
        """Removes a closed connection and frees its slot."""
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        try:
            self.budget.give_back()
        finally:
            if self.down and not self.size:
                self._fail_waiting(_unreachable())
            # The caller that used it may use another one instead.
            self._serve()

    def _fail_waiting(self, error: ServiceUnavailable) -> None:
        for waiter in self.waiting.clear():
            # Each caller gets its own copy, because a raised error collects a traceback.
            copy = ServiceUnavailable(error.message)
            copy.__cause__ = error.__cause__
            waiter.errback(copy)

    # opening

    def open_for_waiting(self) -> None:
        """Opens connections for waiting callers, within the limits."""
        while self.wants and self.budget.take(self):
            self.open()

    def open(self) -> None:
        """Opens a connection, for which the budget has been asked."""
        self.opening += 1
        self.budget.turn += 1
        self.turn = self.budget.turn
        defer.ensureDeferred(self._open())

    async def _open(self) -> None:
        """Opens a connection, which is already counted, for the caller that is served next."""
        try:
            connection = await self._introduced()
        except TooManyConnections as error:
            self.opening -= 1
            self.budget.refused(self, error)
            return
        except ServiceUnavailable as error:
            self._not_opened(error)
            return
        except BaseException:
            log.failure("opening a connection")
            self._not_opened(_unreachable())
            return
        if connection is None or connection.closed:
            self._not_opened(_unreachable())
            return
        self.opening -= 1
        self._failing, self._down_until = False, 0.0
        self.connections.add(connection)
        connection.on_close = self._closed
        if self.closed:
            connection.close()
            return
        try:
            self._note(connection)
        except Exception:
            log.failure("a new connection to database {dbname}", dbname=self.parameters.get("dbname"))
            connection.close()
            return
        self.resize()
        # `release` might close it unused for another pool, and that pool do the same, without end.
        self._offer(connection)
        self.budget.opened(self)

    def _not_opened(self, error: ServiceUnavailable) -> None:
        """Frees the slot of a connection that could not be opened. If the pool has no other connection, waiting callers fail with
        *error*; otherwise another attempt is made later."""
        self._down_until = time.monotonic() + DOWN_FOR
        self.opening -= 1
        self._failing = True
        self.budget.give_back()
        if not self.size:
            self._fail_waiting(error)
        elif not self.closed and (self._retry is None or not self._retry.active()):
            self._retry = self.reactor.callLater(DOWN_FOR, self.open_for_waiting)

    async def _introduced(self) -> Connection | None:
        """Opens a connection that listens for notifications, and reads its `pid`, `epoch`, `table` and `versions`. If PostgreSQL
        ends the connection at once, another one is opened; returns None after three. Raises ServiceUnavailable."""
        for _ in range(3):
            connection = await open_connection(self.reactor, self.parameters, self.statement_timeout)
            connection.timeout = statement_deadline(self.statement_timeout)
            connection.on_notify = self._notified
            timer = self.reactor.callLater(CONNECT_TIMEOUT, connection.close, ServiceUnavailable(NO_ANSWER))
            try:
                await self._introduce(connection)
                connection.versions |= dict(await connection.run(_VERSIONS)) if connection.table else {}
                return connection
            except psycopg2.Error as error:
                connection.close()
                if not is_lost(error):
                    name = self.parameters.get("dbname")
                    log.warn("cannot use database {dbname}: {error}", dbname=name, error=str(error).strip())
                    raise _unreachable() from error
            except BaseException:
                connection.close()
                raise
            finally:
                if timer.active():
                    timer.cancel()
        return None

    async def _introduce(self, connection: Connection) -> None:
        """Makes a connection listen, unless the server is a standby, on which PostgreSQL allows neither LISTEN nor NOTIFY. Reads what
        identifies the connection."""
        listening = self._listening
        if self._outbox_listener is None or self._outbox_listener.closed:
            self._outbox_listener = connection
            listening = f'LISTEN "{self._outbox_channel}"; {listening}'
        try:
            rows = await connection.run(listening)
        except psycopg2.Error as error:
            if error.pgcode != READ_ONLY:
                raise
            rows = await connection.run(self._introduction)
            if not rows[0][2]:
                # The standby has been promoted meanwhile.
                rows = await connection.run(listening)
        ((connection.pid, connection.epoch, connection.standby, connection.read_only, connection.table, self._allowed),) = rows

    # what connections report

    def _note(self, connection: Connection) -> None:
        """Compares the epoch, table and versions of a new connection with the last known ones."""
        if (
            (self._epoch and connection.epoch != self._epoch)
            or (self._table and connection.table != self._table)
            or any(version < self._versions.get(kind, 0) for kind, version in connection.versions.items())
        ):
            self._restored(connection)
        self._epoch, self._table = connection.epoch, connection.table
        if len(self.connections) == 1:
            # Until now, no connection was open that would have been notified.
            self.on_change(TABLES, 0)
            self.on_change(OUTBOX, 0)
        for kind, version in connection.versions.items():
            self._heard(kind, version)

    def _notified(self, connection: Connection, notify: Any) -> None:
        # Any role of the database server can notify, of anything: PostgreSQL has no privilege for it.
        kind, _, text = notify.payload.partition(":")
        # Event triggers notify the projects of all schemas.
        wanted = (CHANNEL, self._channel) if kind == TABLES else (self._channel,)
        if notify.channel == self._outbox_channel:
            self.on_change(OUTBOX, 0)
            return
        if notify.channel not in wanted or len(text) > MAX_DIGITS or not text.isascii() or not text.isdigit():
            return
        version = int(text)
        if kind == TABLES:
            if connection in self.connections and connection.epoch == self._epoch:
                self.on_change(kind, version)
            return
        if connection not in self.connections:
            # The connection is still being opened.
            connection.versions[kind] = max(version, connection.versions.get(kind, 0))
            return
        if connection.epoch != self._epoch:
            return
        # Each connection is notified of versions in order; another connection may receive the same versions later.
        if version < connection.versions.get(kind, 0):
            self._restored(connection)
        connection.versions[kind] = version
        self._heard(kind, version)

    def _heard(self, kind: str, version: int) -> None:
        self._versions[kind] = max(version, self._versions.get(kind, 0))
        self.on_change(kind, version)

    def _restored(self, connection: Connection) -> None:
        """Discards the known versions and closes idle connections with another epoch: those to another server or the former
        database."""
        log.info("database {dbname} was restarted, restored or replaced", dbname=self.parameters.get("dbname"))
        self._versions.clear()
        for each in list(self.connections):
            each.versions.clear()
            if each.epoch != connection.epoch and each in self.idle:
                each.close()
        self.on_restore()

    def cancel(self, connection: Connection) -> None:
        """Cancels the running statement of a connection, as `Canceller.cancel` does."""
        self._canceller.cancel(connection)


def _unreachable() -> ServiceUnavailable:
    return ServiceUnavailable("The database cannot be reached.")
