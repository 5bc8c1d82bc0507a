"""A request's session with the database: statements, and transactions that are run again when they lose against others."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg2
from twisted.internet import defer

from directus_tx.db.connection import Connection, Row
from directus_tx.db.pool import Database, pause
from directus_tx.db.sql import Composable, Statement
from directus_tx.db.sqlstate import RETRIED, api_error, is_lost
from directus_tx.errors import Conflict, ServiceUnavailable

T = TypeVar("T")
ATTEMPTS = 4
"""How often a transaction that loses against others is run."""


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
            if error.pgcode is not None and not is_lost(error):
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
            broken = is_lost(error) or bool(connection._connection.closed)
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
                    await pause(self.database.reactor, 0.01 * 2**attempt)
        raise Conflict(headers={"Retry-After": "1"})

    async def long_read(self, work: "Callable[[Session], Awaitable[T]]") -> T:
        """What *work* gives, called with a session whose statements read what is committed at one moment. It may take long: it waits for
        a place among such reads, and as it may have passed on what it has read, it is not run again. Raises ServiceUnavailable."""
        async with self.database.place_for_long_read():
            try:
                return await self._transaction_once(work, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            except psycopg2.Error as error:
                if error.pgcode in RETRIED:
                    raise Conflict(headers={"Retry-After": "1"}) from error
                raise api_error(error) from error

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
