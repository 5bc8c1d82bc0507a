"""A request's session with the database: statements, and transactions that are run again after a deadlock or a conflict."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg2
from twisted.internet import defer

from directus_tx.db.connection import Connection, Row
from directus_tx.db.pool import Database, pause
from directus_tx.db.sql import Composable, Statement
from directus_tx.db.sqlstate import RETRIED, api_error, is_lost
from directus_tx.errors import ApiError, ServiceUnavailable

T = TypeVar("T")
ATTEMPTS = 4
"""How often a transaction is run that fails by a deadlock or a conflict with others."""

BEGIN = "BEGIN"
BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class RunAgain(Exception):
    """Raised within a transaction to have it rolled back and run again, after *prepare* has been called with the session outside of it.
    *error* is raised where the transaction has been run ATTEMPTS times."""

    def __init__(self, error: ApiError, prepare: "Callable[[Session], Awaitable[None]]") -> None:
        super().__init__(error)
        self.error = error
        self.prepare = prepare


class Usage:
    """What a request has done in its session: how many statements, and whether any of its changes are committed."""

    __slots__ = ("committed", "statements")

    def __init__(self) -> None:
        self.statements = 0
        self.committed = False


class Session:
    """One request's way to the database.

    Outside a transaction each statement takes a connection from the pool, so several may run side by side. They must only read, since a
    statement whose connection is lost is run again.
    """

    __slots__ = ("_connection", "_lock", "_usage", "database")

    def __init__(self, database: Database, connection: Connection | None = None, usage: Usage | None = None) -> None:
        self.database = database
        self._connection = connection
        self._usage = usage if usage is not None else Usage()
        self._lock = defer.DeferredLock() if connection is not None else None

    @property
    def statements(self) -> int:
        """How many statements the request has run, those of transactions included."""
        return self._usage.statements

    @property
    def committed(self) -> bool:
        """Whether a transaction of the request that may have changed something is committed."""
        return self._usage.committed

    @property
    def in_transaction(self) -> bool:
        return self._connection is not None

    async def query(self, statement: Statement | Composable | str, parameters: Any = ()) -> list[Row]:
        """The rows of one statement; none for one without a result. Raises the ApiError that an error of the database means; within a
        transaction psycopg2.Error for one that has the transaction run again."""
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
        connection = await self.database.acquire()
        broken = True
        try:
            rows = await connection.run(statement, parameters)
            broken = False
            return rows
        except psycopg2.Error as error:
            broken = is_lost(error) or connection.closed
            raise
        except ApiError:
            broken = connection.closed
            raise
        finally:
            self.database.release(connection, broken=broken)

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

    async def lift_time_limit(self) -> None:
        """Lets the statements of this transaction take any time, as those may that make an index of a large table."""
        assert self._connection is not None
        self._connection.timeout = math.inf
        await self.query("SET LOCAL statement_timeout = 0")

    async def transaction(self, work: "Callable[[Session], Awaitable[T]]", *, read_only: bool = False) -> T:
        """What *work* gives, called with a session whose statements are one transaction: committed when it returns, rolled back
        when it raises. Within a transaction already, *work* joins it. One that is *read_only* sees the data of one moment.

        After a deadlock or a serialization failure, or where *work* raises RunAgain, the transaction is run again, ATTEMPTS times in all;
        then Conflict or the error of RunAgain is raised.
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
        """What *work* gives, called with a session whose statements read what is committed at one moment. It may take long: it waits for
        a place among such reads, and as it may have passed on what it has read, it is not run again. Raises ServiceUnavailable."""
        async with self.database.place_for_long_read():
            try:
                return await self._transaction_once(work, read_only=True)
            except psycopg2.Error as error:
                raise api_error(error) from error

    async def _transaction_once(self, work: "Callable[[Session], Awaitable[T]]", read_only: bool) -> T:
        connection = await self._begin(BEGIN_READ_ONLY if read_only else BEGIN)
        broken = True
        try:
            try:
                result = await work(Session(self.database, connection, self._usage))
                await connection.commit()
            except BaseException:
                broken = not await _rolled_back(connection)
                raise
            self._usage.committed |= not read_only
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
                if attempt == 2 or not (isinstance(error, psycopg2.Error) and is_lost(error)):
                    raise
        raise AssertionError("unreachable")


async def _rolled_back(connection: Connection) -> bool:
    """Whether the connection can be used again after rolling back."""
    try:
        await connection.run("ROLLBACK")
    except (psycopg2.Error, ServiceUnavailable):
        return False
    return True
