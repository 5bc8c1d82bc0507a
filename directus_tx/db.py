"""The database: pools with a shared bound, sessions, transactions, and what PostgreSQL's errors mean to a client.

The one module that sees the driver. It is built on txpostgres' connections; the pool is our own, because theirs neither recovers
from a lost backend nor bounds its queue. SQL is built of the composables re-exported here, and nothing else.
"""

import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg2
from psycopg2 import extensions
from psycopg2.sql import SQL, Composable, Composed, Literal, Placeholder
from psycopg2.sql import Identifier as _Identifier
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from txpostgres import txpostgres

from directus_tx.errors import ApiError, Conflict, InvalidPayload, InvalidRequest, NotUnique, ServiceUnavailable

__all__ = [
    "SQL",
    "Composable",
    "Composed",
    "ConnectionBudget",
    "Database",
    "Identifier",
    "Literal",
    "Parameters",
    "Placeholder",
    "Session",
    "Statement",
    "connected",
]

log = Logger()
T = TypeVar("T")
Row = tuple[Any, ...]
Parameters = Mapping[str, Any]
"""libpq's keywords: host, port, user, password, dbname."""

CHANNEL = "directus"
CONNECT_TIMEOUT = 3.0
TOO_LONG = "The database took too long (database.statement_timeout)."
DOWN_FOR = 1.0
REFUSED_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
ATTEMPTS = 4
RETRIED = frozenset({"40001", "40P01"})


class Identifier(_Identifier):
    """A quoted name, in which a percent sign is not taken for a placeholder. It needs no connection to be written."""

    def as_string(self, context: Any) -> str:
        return ".".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in self.strings)


class Statement:
    """SQL whose text is made once: what a cached plan holds."""

    __slots__ = ("composable", "text")

    def __init__(self, composable: Composable) -> None:
        self.composable = composable
        self.text: str | None = None


def _as_bytes(value: Any, cursor: Any) -> bytes | None:
    found = psycopg2.BINARY(value, cursor)
    return None if found is None else bytes(found)


_OIDS_AS_TEXT = (114, 3802, 1082, 1083, 1114, 1184, 1266, 2950)
"""json, jsonb, date, time, timestamp, timestamptz, timetz, uuid: as PostgreSQL writes them."""

_CASTERS = (
    extensions.new_type(_OIDS_AS_TEXT, "DIRECTUS_TEXT", extensions.UNICODE),
    extensions.new_type(extensions.DECIMAL.values, "DIRECTUS_FLOAT", extensions.FLOAT),
    extensions.new_type(psycopg2.BINARY.values, "DIRECTUS_BYTES", _as_bytes),
)


class _Immediately:
    """Hands notifications over at once; txpostgres would leave them to a later turn of the reactor, after the result."""

    @staticmethod
    def cooperate(work: Any) -> None:
        for _ in work:
            pass


class Connection(txpostgres.Connection):  # type: ignore[misc]
    """A connection of a pool. `idle_since` is the reactor's time at which it was given back."""

    idle_since = 0.0

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__(reactor, cooperator=_Immediately)

    def continuePolling(self, swallowErrors: bool = False) -> None:
        # A connection that dies while it is idle has nobody to tell; the pool finds it closed.
        super().continuePolling(swallowErrors=True)

    async def run(self, statement: Statement | Composable | str, parameters: Any = ()) -> list[Row]:
        """The rows of one statement; none for a statement without a result. Raises psycopg2.Error, and ServiceUnavailable where the
        statement took too long."""
        raw = self._connection
        if isinstance(statement, Statement):
            text = statement.text
            if text is None:
                text = statement.text = statement.composable.as_string(raw)
        else:
            text = statement if isinstance(statement, str) else statement.as_string(raw)
        cursor = self.cursor()
        try:
            # Without parameters psycopg2 would leave a doubled percent sign doubled.
            await (cursor.execute(text, parameters) if parameters else cursor.execute(text.replace("%%", "%")))
        except defer.CancelledError:
            # What txpostgres makes of PostgreSQL's own QueryCanceled.
            raise ServiceUnavailable(TOO_LONG, headers={"Retry-After": "1"}) from None
        inner = cursor._cursor
        return inner.fetchall() if inner.description is not None else []  # type: ignore[no-any-return]

    def hand_over_notifications(self) -> None:
        """Delivers what a COMMIT has notified ourselves of."""
        self._connection.poll()
        self.checkForNotifies()


async def _open(reactor: Any, parameters: Parameters, statement_timeout: float | None = None) -> Connection:
    """An open connection. Raises ServiceUnavailable where there is none to be had."""
    options = "-c TimeZone=UTC -c DateStyle=ISO -c client_encoding=UTF8"
    if statement_timeout is not None:
        options += f" -c statement_timeout={int(statement_timeout * 1000)}"
    connection = Connection(reactor)
    opening = connection.connect(**{"application_name": "directus_tx", **parameters, "options": options})
    timer = reactor.callLater(CONNECT_TIMEOUT, connection.close)
    try:
        await opening
    except Exception as error:
        log.warn("cannot connect to database {dbname} at {host}: {error}", error=str(error).strip(), **_named(parameters))
        raise ServiceUnavailable("The database cannot be reached.", headers={"Retry-After": "1"}) from error
    finally:
        if timer.active():
            timer.cancel()
    for caster in _CASTERS:
        extensions.register_type(caster, connection._connection)
    return connection


def _named(parameters: Parameters) -> dict[str, Any]:
    return {"dbname": parameters.get("dbname"), "host": parameters.get("host", "localhost")}


@asynccontextmanager
async def connected(reactor: Any, parameters: Parameters) -> AsyncIterator[Connection]:
    """A connection of its own, outside of any pool, each statement committed by itself: for what cannot run in a transaction,
    such as CREATE DATABASE. Raises ServiceUnavailable."""
    connection = await _open(reactor, parameters)
    try:
        yield connection
    finally:
        connection.close()


class ConnectionBudget:
    """The bound on open connections that the pools of one database server share.

    Where it is reached, an idle connection of another pool makes room, the longest idle first; else pools wait, and the one with
    the fewest connections in use is served first.
    """

    def __init__(self, reactor: Any, limit: int, idle_timeout: float = 60.0) -> None:
        self.reactor = reactor
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.open = 0
        self.turn = 0
        self.databases: set[Database] = set()
        self._sweep: Any = None

    def take(self, database: "Database") -> bool:
        """Whether *database* may open a connection; then it is counted."""
        self.databases.add(database)
        if self.open >= self.limit:
            others = [d for d in self.databases if d.idle and d is not database]
            if not others:
                return False
            min(others, key=lambda d: d.idle[0].idle_since).give_up_idle()
        else:
            self.open += 1
        if self._sweep is None:
            self._sweep = self.reactor.callLater(self.idle_timeout / 2, self._close_idle)
        return True

    def give_back(self) -> None:
        """One connection less is open; a waiting pool may open one."""
        self.open -= 1
        waiting = [d for d in self.databases if d.wants]
        if waiting and self.open < self.limit:
            min(waiting, key=lambda d: (d.in_use, d.turn)).open_for_waiting()

    def wanted_elsewhere(self, database: "Database") -> bool:
        """Whether a connection given back to *database* should rather make room for another pool: for any that waits where nobody
        waits here, else for one that has fewer in use."""
        return self.open >= self.limit and any(
            d.wants and (not database.waiting or d.in_use < database.in_use) for d in self.databases if d is not database
        )

    def _close_idle(self) -> None:
        self._sweep = None
        before = self.reactor.seconds() - self.idle_timeout
        for database in list(self.databases):
            database.close_idle(sum(connection.idle_since <= before for connection in database.idle))
            if not database.size and not database.waiting:
                self.databases.discard(database)
        if self.open:
            self._sweep = self.reactor.callLater(self.idle_timeout / 2, self._close_idle)

    def stop(self) -> None:
        if self._sweep is not None and self._sweep.active():
            self._sweep.cancel()


class Database:
    """The pool of one project's database. Opens connections when they are needed, within the budget.

    `on_change(kind, version)` hears of each version that the database reports: when a connection opens, and by NOTIFY.
    """

    def __init__(
        self,
        reactor: Any,
        budget: ConnectionBudget,
        parameters: Parameters,
        *,
        on_change: Callable[[str, int], None] = lambda kind, version: None,
        pool_size: int = 10,
        queue_size: int = 1000,
        queue_timeout: float = 10.0,
        statement_timeout: float = 30.0,
    ) -> None:
        self.reactor = reactor
        self.budget = budget
        self.parameters = parameters
        self.on_change = on_change
        self.pool_size = pool_size
        self.queue_size = queue_size
        self.queue_timeout = queue_timeout
        self.statement_timeout = statement_timeout
        self.idle: deque[Connection] = deque()
        self.waiting: deque[defer.Deferred[Connection]] = deque()
        self.size = 0
        self.closed = False
        self._in_use: set[Connection] = set()
        self._down_until = 0.0
        self.turn = 0

    @property
    def down(self) -> bool:
        """Whether the database could not be reached a moment ago."""
        return bool(self.reactor.seconds() < self._down_until)

    @property
    def wants(self) -> bool:
        """Whether somebody waits here for whom a connection may be opened."""
        return bool(self.waiting) and self.size < self.pool_size and not self.down

    @property
    def in_use(self) -> int:
        return self.size - len(self.idle)

    def session(self) -> "Session":
        """A session: what one request talks to the database with."""
        return Session(self)

    async def acquire(self) -> Connection:
        """An open connection for the caller alone. Raises ServiceUnavailable where none is free in time."""
        while self.idle:
            connection = self.idle.pop()
            if not connection._connection.closed:
                self._in_use.add(connection)
                return connection
            self._forget()
        if self.closed:
            raise ServiceUnavailable("The project is closing.", headers={"Retry-After": "1"})
        if self.down and not self.size:
            raise ServiceUnavailable("The database cannot be reached.", headers={"Retry-After": "1"})
        if not self.waiting and self.size < self.pool_size and self.budget.take(self):
            return await self._open()
        if len(self.waiting) >= self.queue_size:
            raise ServiceUnavailable("Too many requests wait for the database.", headers={"Retry-After": "1"})
        waiter: defer.Deferred[Connection] = defer.Deferred(self.waiting.remove)
        self.waiting.append(waiter)
        self.budget.databases.add(self)
        timer = self.reactor.callLater(self.queue_timeout, waiter.cancel)
        try:
            return await waiter
        except defer.CancelledError:
            message = "No database connection became free in time (database.queue_timeout)."
            raise ServiceUnavailable(message, headers={"Retry-After": "1"}) from None
        finally:
            if timer.active():
                timer.cancel()

    def release(self, connection: Connection, *, broken: bool = False) -> None:
        """Gives a connection back; a broken one is closed."""
        self._in_use.discard(connection)
        if broken or self.closed or connection._connection.closed or self.budget.wanted_elsewhere(self):
            connection.close()
            self._forget()
        elif self.waiting:
            self._in_use.add(connection)
            self.waiting.popleft().callback(connection)
        else:
            connection.idle_since = self.reactor.seconds()
            self.idle.append(connection)

    def close_idle(self, number: int) -> None:
        """Closes the connections that have been idle longest."""
        for _ in range(min(number, len(self.idle))):
            self.idle.popleft().close()
            self._forget()

    def give_up_idle(self) -> None:
        """Closes the connection that has been idle longest, whose place another pool takes."""
        self.idle.popleft().close()
        self.size -= 1

    def open_for_waiting(self) -> None:
        """Opens a connection for whoever waits longest."""
        if not self.budget.take(self):
            return

        async def work() -> None:
            try:
                connection = await self._open()
            except ApiError:
                return
            if self.waiting:
                # Not by way of `release`, which might pass it on to the next pool unused, and that to the next.
                self.waiting.popleft().callback(connection)
            else:
                self.release(connection)

        defer.ensureDeferred(work()).addErrback(lambda failure: log.failure("opening a connection", failure))

    async def close(self) -> None:
        """Closes every connection, those in use as soon as they are given back."""
        self.closed = True
        while self.waiting:
            self.waiting.popleft().errback(ServiceUnavailable("The project is closing.", headers={"Retry-After": "1"}))
        self.close_idle(len(self.idle))
        self.budget.databases.discard(self)

    async def _open(self) -> Connection:
        """A new connection, already counted by the budget."""
        self.size += 1
        self.budget.turn += 1
        self.turn = self.budget.turn
        try:
            if self.down:
                raise ServiceUnavailable("The database cannot be reached.", headers={"Retry-After": "1"})
            try:
                connection = await self._open_patiently()
            except ServiceUnavailable:
                self._down_until = self.reactor.seconds() + DOWN_FOR
                raise
            connection.addNotifyObserver(self._notified)
            await connection.run(f"LISTEN {CHANNEL}")
            try:
                versions = await connection.run("SELECT kind, version FROM directus_versions")
            except psycopg2.errors.UndefinedTable:
                versions = []
        except BaseException as error:
            if self.size == 1 and isinstance(error, ServiceUnavailable):
                # Nobody will give one back.
                while self.waiting:
                    self.waiting.popleft().errback(ServiceUnavailable(error.message, headers=error.headers))
            self._forget()
            raise
        for kind, version in versions:
            self.on_change(kind, version)
        self._in_use.add(connection)
        return connection

    async def _open_patiently(self) -> Connection:
        """A new connection. A server that is there but refuses one is asked again for a moment: those that we have closed, to make
        room, take it a while to end."""
        for pause in REFUSED_PAUSES:
            try:
                return await _open(self.reactor, self.parameters, self.statement_timeout)
            except ServiceUnavailable as error:
                if not re.search(r"too many clients|connection slots", str(error.__cause__)):
                    raise
            await _pause(self.reactor, pause)
        return await _open(self.reactor, self.parameters, self.statement_timeout)

    def _notified(self, notify: Any) -> None:
        kind, _, version = notify.payload.partition(":")
        if notify.channel == CHANNEL and version.isdigit():
            self.on_change(kind, int(version))

    def _forget(self) -> None:
        self.size -= 1
        self.budget.give_back()


class Session:
    """One request's way to the database. `statements` counts what it has run, transactions included.

    Outside a transaction each statement takes a connection of its own, so several may run side by side; they must only read, since
    one that loses its connection is run again.
    """

    __slots__ = ("_connection", "_counter", "_lock", "database")

    def __init__(self, database: Database, connection: Connection | None = None, counter: list[int] | None = None) -> None:
        self.database = database
        self._connection = connection
        self._counter = counter if counter is not None else [0]
        self._lock = defer.DeferredLock() if connection is not None else None

    @property
    def statements(self) -> int:
        return self._counter[0]

    @property
    def in_transaction(self) -> bool:
        return self._connection is not None

    async def query(self, statement: Statement | Composable | str, parameters: Any = ()) -> list[Row]:
        """The rows of one statement; none for one without a result.

        Raises the ApiError that an error of the database means to a client; others as they are.
        """
        self._counter[0] += 1
        if self._connection is not None:
            return await self._query_within(self._connection, statement, parameters)
        try:
            return await self._query_once(statement, parameters)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if error.pgcode is not None and not _is_lost(error):
                raise api_error(error) from error
        try:
            return await self._query_once(statement, parameters)
        except psycopg2.Error as error:
            raise api_error(error) from error

    async def _query_once(self, statement: Statement | Composable | str, parameters: Any) -> list[Row]:
        database = self.database
        connection = await database.acquire()
        broken = True
        try:
            rows = await connection.run(statement, parameters)
            broken = False
            return rows
        except ServiceUnavailable:
            broken = bool(connection._connection.closed)
            raise
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            broken = _is_lost(error) or bool(connection._connection.closed)
            raise
        except psycopg2.Error as error:
            broken = bool(connection._connection.closed)
            raise api_error(error) from error
        finally:
            database.release(connection, broken=broken)

    async def _query_within(self, connection: Connection, statement: Statement | Composable | str, parameters: Any) -> list[Row]:
        lock = self._lock
        assert lock is not None
        await lock.acquire()
        try:
            return await connection.run(statement, parameters)
        except psycopg2.Error as error:
            if error.pgcode in RETRIED:
                raise
            raise api_error(error) from error
        finally:
            lock.release()

    async def transaction(self, work: "Callable[[Session], Awaitable[T]]", *, begin: str = "BEGIN") -> T:
        """What *work* gives, called with a session whose statements are one transaction: committed when it returns, rolled back
        when it raises. Within a transaction already, *work* joins it. A transaction that loses against others (deadlock,
        serialization) is run again a few times; then it is a Conflict."""
        if self._connection is not None:
            return await work(self)
        for attempt in range(ATTEMPTS):
            try:
                return await self._transaction_once(work, begin)
            except psycopg2.Error as error:
                if error.pgcode not in RETRIED:
                    raise api_error(error) from error
                if attempt + 1 < ATTEMPTS:
                    await _pause(self.database.reactor, 0.01 * 2**attempt)
        raise Conflict(headers={"Retry-After": "1"})

    async def _transaction_once(self, work: "Callable[[Session], Awaitable[T]]", begin: str) -> T:
        connection = await self._begin(begin)
        broken = True
        try:
            try:
                result = await work(Session(self.database, connection, self._counter))
                await connection.run("COMMIT")
            except BaseException:
                broken = not await _rolled_back(connection)
                raise
            connection.hand_over_notifications()
            broken = False
            return result
        finally:
            self.database.release(connection, broken=broken)

    async def _begin(self, begin: str) -> Connection:
        """A connection on which a transaction has begun; one that turns out to be lost is replaced once."""
        for attempt in (1, 2):
            connection = await self.database.acquire()
            try:
                await connection.run(begin)
                return connection
            except BaseException as error:
                self.database.release(connection, broken=True)
                if attempt == 2 or not isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
                    raise
        raise AssertionError("unreachable")


async def _rolled_back(connection: Connection) -> bool:
    """Whether the connection can be used again after rolling back."""
    try:
        await connection.run("ROLLBACK")
    except psycopg2.Error:
        return False
    return True


def _pause(reactor: Any, seconds: float) -> "defer.Deferred[None]":
    pause: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, pause.callback, None)
    return pause


def _is_lost(error: psycopg2.Error) -> bool:
    """Whether an error means that the connection is gone, rather than that the statement failed."""
    code = error.pgcode
    return code is None or code.startswith("08") or code in ("57P01", "57P02", "57P03")


_STATES: Mapping[str, tuple[type[ApiError], str]] = {
    "23505": (NotUnique, "An item with this value exists already."),
    "23502": (InvalidRequest, "A value that must be there is missing."),
    "23503": (InvalidRequest, "A related item is missing, or others need this one."),
    "23514": (InvalidRequest, "A value is not among those allowed."),
    "22001": (InvalidPayload, "A value is longer than its field allows."),
    "22003": (InvalidPayload, "A number does not fit its field."),
    "22P02": (InvalidRequest, "A value is not of its field's kind."),
    "22007": (InvalidRequest, "A value is no date or time."),
    "22008": (InvalidRequest, "A value is no date or time."),
    "22P05": (InvalidRequest, "A text holds characters that cannot be stored."),
    "22021": (InvalidRequest, "A text holds characters that cannot be stored."),
    "53300": (ServiceUnavailable, "The database has no connection to spare."),
    "40001": (Conflict, "Others are changing the same items; try again."),
    "40P01": (Conflict, "Others are changing the same items; try again."),
}


def api_error(error: psycopg2.Error) -> Exception:
    """What an error of the database means to a client; the error itself where it is none of a client's making."""
    code = error.pgcode or ""
    if code in _STATES:
        kind, message = _STATES[code]
        headers = {"Retry-After": "1"} if kind.status == ServiceUnavailable.status else None
        column = error.diag.column_name
        return kind(f'{message[:-1]}: "{column}".' if column else message, headers=headers)
    if _is_lost(error) and isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        log.warn("database connection lost: {error}", error=str(error).strip())
        return ServiceUnavailable("The connection to the database was lost.", headers={"Retry-After": "1"})
    return error
