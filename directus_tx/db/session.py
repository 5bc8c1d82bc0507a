"""The database session of a request: statements, and transactions that are run again after a deadlock or serialization
failure."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg2
from twisted.internet import defer

from directus_tx.db.connection import Connection, Row
from directus_tx.db.pool import Database, pause
from directus_tx.db.sql import Composable, Statement
from directus_tx.db.sqlstate import RETRIED, api_error, is_lost
from directus_tx.errors import ApiError, ClientGone, ServiceUnavailable

T = TypeVar("T")
ATTEMPTS = 4
"""The maximum number of times that a transaction is run if it fails with a deadlock or serialization failure."""

BEGIN = "BEGIN"
BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class RunAgain(Exception):
    """Raised in a transaction to roll it back and run it again, after *prepare* has been called with the session outside of the
    transaction. *error* is raised instead if the transaction has been run ATTEMPTS times."""

    def __init__(self, error: ApiError, prepare: "Callable[[Session], Awaitable[None]]") -> None:
        super().__init__(error)
        self.error = error
        self.prepare = prepare


class Usage:
    """The state that all sessions of a request share: the number of statements, whether changes are `committed`, the connections
    that are `reading` for it, and the Deferreds of connections for reading for which it is `waiting`. `abandoned`: its client is
    gone."""

    __slots__ = ("abandoned", "committed", "reading", "statements", "waiting")

    def __init__(self) -> None:
        self.statements = 0
        self.committed = False
        self.abandoned = False
        self.reading: set[Connection] = set()
        self.waiting: set[defer.Deferred[Connection]] = set()


class Session:
    """Runs the statements and transactions of a request.

    Outside a transaction, each statement acquires a connection from the pool, so that several can run concurrently. They must
    only read, because a statement whose connection is lost is run again.
    """

    __slots__ = ("_connection", "_lock", "_read_only", "_usage", "database")

    def __init__(
        self,
        database: Database,
        connection: Connection | None = None,
        usage: Usage | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.database = database
        self._connection = connection
        self._read_only = read_only
        self._usage = usage if usage is not None else Usage()
        self._lock = defer.DeferredLock() if connection is not None else None

    @property
    def statements(self) -> int:
        """The number of statements that the request has run, in transactions and outside of them."""
        return self._usage.statements

    @property
    def committed(self) -> bool:
        """Whether a transaction of the request has been committed that was not read-only."""
        return self._usage.committed

    @property
    def in_transaction(self) -> bool:
        return self._connection is not None

    def abandon(self) -> None:
        """Cancels the reads of the request, because its client is gone: running statements are cancelled in PostgreSQL, and later
        ones raise ClientGone. Transactions that are not read-only continue to their end."""
        usage = self._usage
        usage.abandoned = True
        for waiter in list(usage.waiting):
            waiter.cancel()
        for connection in usage.reading:
            self.database.cancel(connection)

    async def query(self, statement: Statement | Composable | str, parameters: Any = ()) -> list[Row]:
        """Runs a statement and returns its rows; an empty list if it has no result. Raises the ApiError for an error of the
        database (`sqlstate.api_error`); in a transaction, errors of `RETRIED` are raised as psycopg2.Error, so that `transaction`
        runs it again. Raises ClientGone after `abandon`."""
        self._usage.statements += 1
        if self._connection is not None:
            return await self._query_within(self._connection, statement, parameters)
        try:
            return await self._query_once(statement, parameters)
        except psycopg2.Error as error:
            if not (is_lost(error) or error.pgcode in RETRIED):
                raise api_error(error) from error
        try:
            return await self._query_once(statement, parameters)
        except psycopg2.Error as error:
            raise api_error(error) from error

    async def _query_once(self, statement: Statement | Composable | str, parameters: Any) -> list[Row]:
        usage = self._usage
        connection = await self._acquired_for_reading()
        broken = True
        try:
            rows = await connection.run(statement, parameters)
            broken = False
            return rows
        except psycopg2.Error as error:
            broken = is_lost(error) or connection.closed
            raise
        except ApiError as error:
            broken = connection.closed
            if usage.abandoned:
                raise ClientGone from error
            raise
        finally:
            usage.reading.discard(connection)
            self.database.release(connection, broken=broken)

    async def _acquired_for_reading(self) -> Connection:
        """Acquires a connection whose statements are cancelled by `abandon`. Raises ServiceUnavailable or ClientGone."""
        usage = self._usage
        if usage.abandoned:
            raise ClientGone
        connection = self.database.take_idle()
        if connection is None:
            try:
                connection = await self.database.acquire(usage.waiting)
            except defer.CancelledError:
                raise ClientGone from None
        usage.reading.add(connection)
        return connection

    async def _query_within(self, connection: Connection, statement: Statement | Composable | str, parameters: Any) -> list[Row]:
        lock = self._lock
        assert lock is not None
        await lock.acquire()
        try:
            self._check_wanted()
            return await connection.run(statement, parameters)
        except psycopg2.Error as error:
            if error.pgcode in RETRIED:
                raise
            raise api_error(error) from error
        except ApiError:
            self._check_wanted()
            raise
        finally:
            lock.release()

    def _check_wanted(self) -> None:
        """Raises ClientGone if the transaction is read-only and the client is gone."""
        if self._read_only and self._usage.abandoned:
            raise ClientGone

    async def lift_time_limit(self) -> None:
        """Removes the time limit of statements in this transaction, for example to create an index on a large table."""
        assert self._connection is not None
        self._connection.timeout = math.inf
        await self.query("SET LOCAL statement_timeout = 0")

    async def transaction(self, work: "Callable[[Session], Awaitable[T]]", *, read_only: bool = False) -> T:
        """Calls *work* with a session in a transaction and returns its result. The transaction is committed when *work* returns
        and rolled back when it raises. If this session is already in a transaction, *work* joins it. A *read_only* transaction
        sees one snapshot of the data.

        After a deadlock or serialization failure, or if *work* raises RunAgain, the transaction is run again, ATTEMPTS times in
        all. Then Conflict or the error of RunAgain is raised.
        """
        if self._connection is not None:
            return await work(self)
        failure: ApiError | None = None
        for attempt in range(ATTEMPTS):
            try:
                return await self._transaction_once(work, read_only)
            except psycopg2.Error as error:
                failure = api_error(error)
                if error.pgcode not in RETRIED:
                    raise failure from error
                if attempt + 1 < ATTEMPTS:
                    await pause(self.database.reactor, 0.01 * 2**attempt)
            except RunAgain as again:
                failure = again.error
                if attempt + 1 < ATTEMPTS:
                    await again.prepare(self)
        assert failure is not None
        raise failure

    async def long_read(self, work: "Callable[[Session], Awaitable[T]]") -> T:
        """Calls *work* with a session whose statements read one snapshot of the data, and returns its result. Waits until the
        number of long reads allows another one. *work* is not run again, because it may have passed on rows. Raises
        ServiceUnavailable."""
        async with self.database.place_for_long_read():
            try:
                return await self._transaction_once(work, read_only=True)
            except psycopg2.Error as error:
                raise api_error(error) from error

    async def _transaction_once(self, work: "Callable[[Session], Awaitable[T]]", read_only: bool) -> T:
        connection = await self._begin(read_only)
        broken = True
        try:
            try:
                result = await work(Session(self.database, connection, self._usage, read_only=read_only))
                await connection.commit()
            except BaseException:
                broken = not await _rolled_back(connection)
                raise
            self._usage.committed |= not read_only
            broken = False
            return result
        finally:
            self._usage.reading.discard(connection)
            self.database.release(connection, broken=broken)

    async def _begin(self, read_only: bool) -> Connection:
        """Acquires a connection and begins a transaction. If the connection is lost, another one is acquired, once."""
        for attempt in (1, 2):
            connection = await (self._acquired_for_reading() if read_only else self.database.acquire())
            try:
                await connection.run(BEGIN_READ_ONLY if read_only else BEGIN)
                return connection
            except BaseException as error:
                self._usage.reading.discard(connection)
                self.database.release(connection, broken=True)
                if attempt == 2 or not (isinstance(error, psycopg2.Error) and is_lost(error)):
                    raise
        raise AssertionError("unreachable")


async def _rolled_back(connection: Connection) -> bool:
    """Rolls the transaction back. Returns whether the connection can be used again."""
    try:
        await connection.run("ROLLBACK")
    except (psycopg2.Error, ServiceUnavailable):
        return False
    return True
