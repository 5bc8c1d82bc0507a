"""The database session of a request: statements, and transactions that are run again after a deadlock or serialization
failure."""

import math
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import psycopg2
from twisted.internet import defer

from directus_tx.db.callers import Caller
from directus_tx.db.connection import Connection, Row, pause
from directus_tx.db.pool import Database
from directus_tx.db.sql import SQL, Composable, Identifier, Statement
from directus_tx.db.sqlstate import LOCK_NOT_AVAILABLE, RETRIED, api_error, is_lost
from directus_tx.errors import ApiError, ClientGone, Conflict, InternalError, ServiceUnavailable

T = TypeVar("T")
ATTEMPTS = 4
"""The maximum number of times that a transaction is run if it fails with a deadlock or serialization failure."""

LOCK_PAUSES = (0.2, 0.4, 0.8)
"""Seconds between the attempts of a schema change that finds a table in use, on average: each pause is random, so that two processes
do not meet again and again."""

NEXT_LOCK_TIMEOUT = 0.2
"""Seconds that a schema change waits for its second table and the following ones, while it holds locks. It gives up before
PostgreSQL looks for deadlocks (deadlock_timeout, by default 1 second), so the transactions that wait for it do not fail."""

COMMIT_UNKNOWN = (
    "The connection to the database was lost during COMMIT: it is not known whether the change was made."
    " Check before you repeat the request."
)

SCHEMA_LOCK = 0x6469726563747573
"""The key of the advisory lock of a transaction that changes the schema: one at a time in a database."""

BEGIN = "BEGIN; "
BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "


class RunAgain(Exception):
    """Raised in a transaction to roll it back and run it again, after *prepare* has been called with the session outside of the
    transaction. *error* is raised instead if the transaction has been run as often as it may be."""

    def __init__(self, error: ApiError, prepare: "Callable[[Session], Awaitable[None]] | None" = None) -> None:
        super().__init__(error)
        self.error = error
        self.prepare = prepare


REPEATING = (RunAgain, psycopg2.Error)
"""What is raised in a transaction to run it again. Code between the statement and `Session.transaction` must not catch it."""

ENDED = "The transaction has ended: its context can no longer be used."


class Usage:
    """The state that all sessions of a request share: who the `caller` is, the number of statements, whether changes are
    `committed` or may be, the connections that are `reading` for it, and the Deferreds for which it is `waiting` to read. `abandoned`: its
    client is gone."""

    __slots__ = ("abandoned", "caller", "committed", "reading", "statements", "waiting")

    def __init__(self, caller: Caller = None) -> None:
        self.caller = caller
        self.statements = 0
        self.committed = False
        self.abandoned = False
        self.reading: set[Connection] = set()
        self.waiting: set[defer.Deferred[Any]] = set()


class Session:
    """Runs the statements and transactions of a request. The pool is fair between callers: *caller* is who makes the request, None
    for the server itself.

    Outside a transaction, each statement acquires a connection from the pool, so that several can run concurrently. They must
    only read, because a statement whose connection is lost is run again.
    """

    __slots__ = (
        "_announced",
        "_begin",
        "_connection",
        "_ended",
        "_following",
        "_last",
        "_lock",
        "_outside",
        "_read_only",
        "_retried",
        "_usage",
        "database",
    )

    def __init__(
        self,
        database: Database,
        connection: Connection | None = None,
        usage: Usage | None = None,
        *,
        caller: Caller = None,
        read_only: bool = False,
        retried: frozenset[str] = RETRIED,
        outside: "Session | None" = None,
    ) -> None:
        self.database = database
        self._outside = outside
        self._ended = False
        self._following: list[Callable[[], Awaitable[None]]] = []
        self._connection = connection
        self._announced: tuple[str, ...] = ()
        self._begin = BEGIN_READ_ONLY if read_only else BEGIN
        """What the next statement of the transaction is sent with; empty after the first one."""
        self._last: tuple[Statement | Composable | str, Any] | None = None
        self._read_only = read_only
        self._retried = retried
        self._usage = usage if usage is not None else Usage(caller)
        self._lock = defer.DeferredLock() if connection is not None else None

    @property
    def statements(self) -> int:
        """The number of statements that the request has run, in transactions and outside of them."""
        return self._usage.statements

    @property
    def committed(self) -> bool:
        """Whether a transaction of the request has been committed that was not read-only, or may have been."""
        return self._usage.committed

    @property
    def in_transaction(self) -> bool:
        return self._connection is not None

    @property
    def caller(self) -> Caller:
        """Who makes the request: the id of a user or the address of a client. None is the server itself."""
        return self._usage.caller

    def set_caller(self, caller: Caller) -> None:
        """Sets who makes the request, when that is known."""
        self._usage.caller = caller

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
        database (`sqlstate.api_error`); in a transaction, errors after which it is run again are raised as psycopg2.Error.
        Outside of one, the statement is run again if the connection is lost, once, and after a deadlock, ATTEMPTS times in all.
        Raises ClientGone after `abandon`."""
        self._usage.statements += 1
        if self._connection is not None:
            return await self._query_within(self._connection, statement, parameters)
        try:
            return await self._query_once(statement, parameters)
        except psycopg2.Error as error:
            failure = error
        lost = 0
        for attempt in range(1, ATTEMPTS):
            lost += is_lost(failure)
            if lost == 2 or not (is_lost(failure) or failure.pgcode in RETRIED):
                break
            if failure.pgcode in RETRIED:
                await pause(self.database.reactor, _retry_pause(attempt))
            try:
                return await self._query_once(statement, parameters)
            except psycopg2.Error as error:
                failure = error
        raise _read_error(failure) from failure

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
        connection = self.database.take_idle(usage.caller)
        if connection is None:
            try:
                connection = await self.database.acquire(usage.waiting, usage.caller)
            except defer.CancelledError:
                raise ClientGone from None
        usage.reading.add(connection)
        return connection

    async def _query_within(self, connection: Connection, statement: Statement | Composable | str, parameters: Any) -> list[Row]:
        lock = self._lock
        assert lock is not None
        if lock.locked:
            await lock.acquire()
        else:
            # What `acquire` does, without a Deferred for each statement.
            lock.locked = True
        try:
            if self._ended:
                raise InternalError(ENDED)
            self._check_wanted()
            if self._last is not None:
                last, self._last = self._last, None
                await self._send(connection, *last)
            return await self._send(connection, statement, parameters)
        except psycopg2.Error as error:
            if error.pgcode in self._retried or (self._read_only and is_lost(error)):
                raise
            raise api_error(error, self.database.system_schema) from error
        except ApiError:
            self._check_wanted()
            raise
        finally:
            lock.release()

    async def _send(self, connection: Connection, statement: Statement | Composable | str, parameters: Any) -> list[Row]:
        """Runs a statement of the transaction. The first one begins it, in the same round trip."""
        begin, self._begin = self._begin, ""
        try:
            return await connection.run(statement, parameters, before=begin)
        except BaseException:
            # Neither what the driver refuses nor what PostgreSQL cannot parse begins a transaction.
            if connection.idle:
                self._begin = begin
            raise

    def announce(self, kind: str) -> None:
        """Calls `Database.on_change` with *kind* after the commit of the transaction, without waiting for PostgreSQL to notify."""
        if kind not in self._announced:
            self._announced += (kind,)

    def follow(self, work: "Callable[[], Awaitable[None]]") -> None:
        """Has *work* called after the commit of the transaction, without its connection. It must raise nothing."""
        assert self._connection is not None
        self._following.append(work)

    @property
    def outside(self) -> "Session":
        """The session that the transaction was begun with, which is in none; without a transaction the session itself."""
        return self._outside or self

    async def savepoint(self, work: "Callable[[], Awaitable[T]]") -> T:
        """Calls *work*, which is part of the transaction, and returns its result. If it raises, what it has done is undone, and the
        transaction can go on, unless it is to be run again. One such part at a time."""
        assert self._connection is not None
        following, announced = len(self._following), self._announced
        await self.query("SAVEPOINT part")
        try:
            result = await work()
        except REPEATING:
            raise
        except Exception:
            self._last = None
            del self._following[following:]
            self._announced = announced
            await self.query("ROLLBACK TO SAVEPOINT part")
            raise
        await self.query("RELEASE SAVEPOINT part")
        return result

    async def _end(self) -> None:
        """Waits for the statement that is running, which nobody else has waited for, and refuses further ones: the connection is that of
        another transaction soon."""
        lock = self._lock
        assert lock is not None
        if lock.locked:
            await lock.acquire()
            lock.release()
        self._ended = True

    async def query_at_commit(self, statement: Statement | Composable | str, parameters: Any = ()) -> None:
        """Runs a statement of a transaction whose rows are not needed, in one round trip with COMMIT and others of this kind, or before the
        next statement if there is one. So its errors are raised by the next statement, or by `transaction`: then they are those of
        `query`."""
        assert self._connection is not None
        if self._ended:
            raise InternalError(ENDED)
        self._usage.statements += 1
        last = statement, parameters
        self._last = last if self._last is None else (self._connection.joined(self._last, last), None)

    async def _commit(self, connection: Connection) -> None:
        """Commits, if the transaction has begun. If the connection is lost before the answer arrives, PostgreSQL may have committed or not:
        then the request counts as `committed`, so that nothing of it is run again, and ServiceUnavailable is raised."""
        last, self._last = self._last, None
        if last is None and self._begin:
            return
        begin, self._begin = self._begin, ""
        try:
            await connection.commit(*(last or ()), before=begin)
        except (psycopg2.Error, ServiceUnavailable) as error:
            if not self._read_only and (connection.closed or (isinstance(error, psycopg2.Error) and is_lost(error))):
                self._usage.committed = True
                raise ServiceUnavailable(COMMIT_UNKNOWN) from error
            raise
        self._usage.committed |= not self._read_only

    def _check_wanted(self) -> None:
        """Raises ClientGone if the transaction is read-only and the client is gone."""
        if self._read_only and self._usage.abandoned:
            raise ClientGone

    async def lift_time_limit(self) -> None:
        """Removes the time limit of statements in this transaction, for example to create an index on a large table."""
        assert self._connection is not None
        self._connection.timeout = math.inf
        await self.query("SET LOCAL statement_timeout = 0")

    async def lock_tables(self, names: Iterable[tuple[str, ...]], *, against: str = "ACCESS EXCLUSIVE") -> None:
        """Locks tables in a `schema_change`, before it has written anything. *names* are tables, or schemas and tables; *against* is
        the mode of the lock.

        The locks are taken in the order of the names. For the first one this waits for database.lock_timeout while holding no other;
        for the others NEXT_LOCK_TIMEOUT. If a table is in use for longer, the schema change is run again.
        """
        for place, name in enumerate(sorted(set(names))):
            if place == 1:
                await self.query(_lock_timeout(NEXT_LOCK_TIMEOUT))
            try:
                await self.query(SQL("LOCK TABLE {} IN {} MODE").format(Identifier(*name), SQL(against)))
            except psycopg2.Error as error:
                if error.pgcode != LOCK_NOT_AVAILABLE:
                    raise
                raise RunAgain(ServiceUnavailable(f'The table "{name[-1]}" is in use by others; try again.')) from error
        await self.query(_lock_timeout(self.database.lock_timeout))

    async def transaction(self, work: "Callable[[Session], Awaitable[T]]", *, read_only: bool = False) -> T:
        """Calls *work* with a session in a transaction and returns its result. The transaction is committed when *work* returns
        and rolled back when it raises. If this session is already in a transaction, *work* joins it. A *read_only* transaction
        sees one snapshot of the data.

        After a deadlock or serialization failure, or if *work* raises RunAgain, the transaction is run again, ATTEMPTS times in
        all. Then Conflict, for a read_only transaction ServiceUnavailable, or the error of RunAgain is raised. A read_only
        transaction whose connection is lost is run again once.
        """
        if self._connection is not None:
            return await work(self)
        pauses = [_retry_pause(attempt) for attempt in range(1, ATTEMPTS)]
        return await self._run(work, pauses, read_only=read_only)

    async def schema_change(self, work: "Callable[[Session], Awaitable[T]]", *, patient: bool = False) -> T:
        """Like `transaction`, for work that runs DDL: it waits for locks for database.lock_timeout only, because while it waits for a
        table, other requests for that table wait behind it. Then it is rolled back and run again after a pause, without locks and
        without a connection, len(LOCK_PAUSES) + 1 times in all. Then ServiceUnavailable is raised, which names the table if
        `lock_tables` has been called.

        One schema change runs at a time in a database. *patient*: wait for another one as long as a statement may take.
        """
        assert self._connection is None

        async def locked(session: Session) -> T:
            lock = f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"
            if patient:
                await session.query(lock)
            await session.query(_lock_timeout(self.database.lock_timeout))
            if not patient:
                try:
                    await session.query(lock)
                except psycopg2.Error as error:
                    if error.pgcode != LOCK_NOT_AVAILABLE:
                        raise
                    raise RunAgain(ServiceUnavailable("Another change of the schema is being made; try again.")) from error
            return await work(session)

        pauses = [seconds * random.uniform(0.5, 1.5) for seconds in LOCK_PAUSES]
        try:
            return await self._run(locked, pauses, retried=RETRIED | {LOCK_NOT_AVAILABLE})
        except Conflict as error:
            if error.diagnostics is None or error.diagnostics.sqlstate not in RETRIED:
                raise
            raise ServiceUnavailable("Others use the tables to be changed; try again.") from error.__cause__

    async def _run(
        self,
        work: "Callable[[Session], Awaitable[T]]",
        pauses: Iterable[float],
        *,
        read_only: bool = False,
        retried: frozenset[str] = RETRIED,
    ) -> T:
        """Runs a transaction, and runs it again after errors whose SQLSTATE is in *retried* and if RunAgain is raised, once after each
        of the *pauses*, in seconds."""
        left = list(pauses)
        may_be_lost = read_only
        while True:
            try:
                return await self._transaction_once(work, read_only, retried)
            except psycopg2.Error as error:
                if may_be_lost and is_lost(error):
                    may_be_lost = False
                    continue
                if error.pgcode not in retried or not left:
                    raise (_read_error(error) if read_only else api_error(error, self.database.system_schema)) from error
                await pause(self.database.reactor, left.pop(0))
            except RunAgain as again:
                if not left:
                    raise again.error from again.__cause__
                seconds = left.pop(0)
                if again.prepare is not None:
                    await again.prepare(self)
                else:
                    await pause(self.database.reactor, seconds)

    async def long_read(self, work: "Callable[[Session], Awaitable[T]]", repeatable: Callable[[], bool] = lambda: True) -> T:
        """Calls *work* with a session whose statements read one snapshot of the data, and returns its result. Waits until the
        number of long reads allows another one. After a deadlock, or if the connection is lost, *work* is run again while
        *repeatable* returns True, ATTEMPTS times in all: it must return False after *work* has passed on rows. Raises
        ServiceUnavailable."""
        usage = self._usage
        if usage.abandoned:
            raise ClientGone
        async with self.database.place_for_long_read(usage.caller, usage.waiting):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._transaction_once(work, read_only=True)
                except psycopg2.Error as error:
                    again = error.pgcode in RETRIED or is_lost(error)
                    if not again or attempt == ATTEMPTS or not repeatable():
                        raise _read_error(error) from error
                await pause(self.database.reactor, _retry_pause(attempt))
            raise AssertionError("unreachable")

    async def _transaction_once(
        self, work: "Callable[[Session], Awaitable[T]]", read_only: bool, retried: frozenset[str] = RETRIED
    ) -> T:
        connection = await self._acquired(read_only)
        broken = True
        try:
            session = Session(self.database, connection, self._usage, read_only=read_only, retried=retried, outside=self)
            try:
                result = await work(session)
                await session._end()
                await session._commit(connection)
            except BaseException:
                if not session._ended:
                    await session._end()
                broken = not (session._begin or await _rolled_back(connection))
                raise
            broken = False
            for kind in session._announced:
                self.database.on_change(kind, 0)
        finally:
            self._usage.reading.discard(connection)
            self.database.release(connection, broken=broken)
        for following in session._following:
            await following()
        return result

    async def _acquired(self, read_only: bool) -> Connection:
        """Acquires a connection for a transaction. If it is found lost, another one is acquired, once."""
        for _ in range(2):
            connection = await (
                self._acquired_for_reading() if read_only else self.database.acquire_for_writing(self._usage.caller)
            )
            # The first statement is not run again, so find out first whether PostgreSQL has closed the connection.
            connection.doRead()
            if not connection.closed:
                break
            self._usage.reading.discard(connection)
            self.database.release(connection, broken=True)
        return connection


def _lock_timeout(seconds: float) -> str:
    return f"SET LOCAL lock_timeout = {math.ceil(seconds * 1000)}"


def _retry_pause(attempt: int) -> float:
    """Returns the seconds to wait after an attempt, the first of which is 1."""
    return 0.005 * float(2**attempt)


def _read_error(error: psycopg2.Error) -> ApiError:
    """Returns the error of the API for a read. A read changes nothing, so a deadlock is no Conflict but ServiceUnavailable."""
    found = api_error(error)
    return ServiceUnavailable("Others are changing what is read; try again.") if isinstance(found, Conflict) else found


async def _rolled_back(connection: Connection) -> bool:
    """Rolls the transaction back. Returns whether the connection can be used again."""
    try:
        await connection.run("ROLLBACK")
    except (psycopg2.Error, ServiceUnavailable):
        return False
    return True
