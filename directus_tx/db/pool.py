"""Pools of connections: one for each project's database, within a bound that the pools on one server share.

The pool is our own, because txpostgres' neither recovers from a lost connection nor bounds its queue.
"""

import re
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg2
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.db.connection import Connection, Parameters, open_connection
from directus_tx.db.long_reads import LongReads
from directus_tx.errors import ApiError, ServiceUnavailable

log = Logger()
CHANNEL = "directus"
"""The channel on which the database tells of new versions, as "kind:version"."""

DOWN_FOR = 1.0
"""Seconds for which a database that could not be reached is not tried again."""

REFUSED_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds to wait between the tries to connect to a server that is there and has no connection to spare."""


class ConnectionBudget:
    """The bound on open connections that the pools of one database server share.

    Where it is reached, the longest idle connection of another pool is closed first. If none is idle the pools wait, and the one with
    the fewest connections in use is served first.
    """

    def __init__(self, reactor: Any, limit: int, idle_timeout: float = 60.0) -> None:
        self.reactor = reactor
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.open = 0
        self.turn = 0
        self.databases: set[Database] = set()
        self.long_reads = LongReads(reactor, lambda: self.limit)
        self._sweep: Any = None

    def take(self, database: "Database") -> bool:
        """Whether *database* may open a connection. If so it is counted as open."""
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
        """Whether a connection that is given back to *database* is closed, so that another pool may open one: where no caller waits for
        *database*, for any pool that has waiting callers, else for one that has fewer connections in use."""
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
        """Stops the timer that closes idle connections."""
        if self._sweep is not None and self._sweep.active():
            self._sweep.cancel()


class Database:
    """The pool of one project's database. Opens connections when they are needed, within the budget.

    `on_change(kind, version)` is called with each version that the database reports: when a connection opens, and by NOTIFY.
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
        self._down_until = 0.0
        self.turn = 0

    @property
    def down(self) -> bool:
        """Whether the database could not be reached a moment ago."""
        return bool(self.reactor.seconds() < self._down_until)

    @property
    def wants(self) -> bool:
        """Whether a caller waits for whom a connection may be opened."""
        return bool(self.waiting) and self.size < self.pool_size and not self.down

    @property
    def in_use(self) -> int:
        """The number of connections that are open or being opened, and not idle."""
        return self.size - len(self.idle)

    async def acquire(self) -> Connection:
        """An open connection for the caller alone. Raises ServiceUnavailable where none is free in time."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
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

    def place_for_long_read(self) -> AbstractAsyncContextManager[None]:
        """A place among the reads that hold a connection for long. Raises ServiceUnavailable where none is free in time."""
        return self.budget.long_reads.place(self, self.pool_size, queue_size=self.queue_size, queue_timeout=self.queue_timeout)

    def release(self, connection: Connection, *, broken: bool = False) -> None:
        """Gives a connection back; a broken one is closed."""
        if broken or self.closed or connection.closed or self.budget.wanted_elsewhere(self):
            connection.close()
            self._forget()
        elif self.waiting:
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
        """Opens a connection for the caller that waits longest."""
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
                # No other connection is open that might be given to those who wait.
                while self.waiting:
                    self.waiting.popleft().errback(ServiceUnavailable(error.message, headers=error.headers))
            self._forget()
            raise
        for kind, version in versions:
            self.on_change(kind, version)
        return connection

    async def _open_patiently(self) -> Connection:
        """A new connection. A server that has none to spare is asked again for a moment: it takes a while to end those that were
        closed to make room."""
        for seconds in REFUSED_PAUSES:
            try:
                return await open_connection(self.reactor, self.parameters, self.statement_timeout)
            except ServiceUnavailable as error:
                if not re.search(r"too many clients|connection slots", str(error.__cause__)):
                    raise
            await pause(self.reactor, seconds)
        return await open_connection(self.reactor, self.parameters, self.statement_timeout)

    def _notified(self, notify: Any) -> None:
        kind, _, version = notify.payload.partition(":")
        if notify.channel == CHANNEL and version.isascii() and version.isdigit():
            self.on_change(kind, int(version))

    def _forget(self) -> None:
        self.size -= 1
        self.budget.give_back()


def pause(reactor: Any, seconds: float) -> "defer.Deferred[None]":
    """Fires after some seconds."""
    done: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done
