"""The pools and their budget under random sequences of events, with connections and a clock of the test's own."""

from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from directus_tx.db import budget as budgets
from directus_tx.db import connection as connections
from directus_tx.db import pool as pools
from directus_tx.db.budget import ConnectionBudget
from directus_tx.db.callers import most_for_one
from directus_tx.db.connection import TooManyConnections
from directus_tx.db.pool import Database
from directus_tx.errors import ServiceUnavailable

QUEUE_TIMEOUT = 10.0
CALLERS = st.sampled_from([None, "a", "b", "c"])

ENDED = "ended"
OUTCOMES = (
    *([None] * 8),
    ENDED,
    lambda: ServiceUnavailable("down"),
    lambda: RuntimeError("unexpected"),
    lambda: TooManyConnections(database=False),
    lambda: TooManyConnections(database=True),
)
"""What becomes of an attempt to connect: a connection, one that PostgreSQL ends at once, or an error."""


class FakeConnection:
    """A connection whose statements are answered at once, and that the test loses or closes."""

    caller = None
    idle_since = 0.0
    running = False
    held = False
    released = False
    standby = False
    refused_to_write = False
    timeout = 0.0

    def __init__(self, server: "Server", *, ended: bool) -> None:
        self.server = server
        self.ended = ended
        self.closed = False
        self.opened = server.clock.seconds()
        self.versions: dict[str, int] = {}
        self.on_close: Any = lambda connection: None
        self.on_notify: Any = None

    def poll_again(self) -> None: ...

    async def run(self, statement: Any, parameters: Any = ()) -> list[Any]:
        if self.ended:
            self.close()
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        # Without the table of versions, nothing else is asked.
        return [(1, "epoch", False, False, None, self.server.database_limit)]

    def overdue(self, now: float) -> bool:
        return False

    def doRead(self) -> None: ...

    def close(self, error: Any = None) -> None:
        if not self.closed:
            self.closed = True
            self.server.open -= 1
            self.on_close(self)


class Server:
    """A database server that answers attempts to connect when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.open = 0
        self.database_limit: int | None = None
        self.opening: list[Deferred[Any]] = []

    async def connect(self, reactor: Any, parameters: Any, timeout: float) -> FakeConnection:
        attempt: Deferred[Any] = Deferred()
        self.opening.append(attempt)
        outcome = await attempt
        if outcome not in (None, ENDED):
            raise outcome()
        self.open += 1
        return FakeConnection(self, ended=outcome is ENDED)

    def answer(self, number: int = 0, outcome: Any = None) -> None:
        """Answers an attempt to connect."""
        self.opening.pop(number % len(self.opening)).callback(outcome)


class Request:
    """A request that waits for a connection, then uses it until the test lets it end."""

    def __init__(self, database: Database, caller: Any) -> None:
        self.database = database
        self.caller = caller
        self.waiting: set[Deferred[Any]] = set()
        self.connection: Any = None
        self.refused = False
        self.work = Deferred.fromCoroutine(self._acquire())

    async def _acquire(self) -> None:
        try:
            self.connection = await self.database.acquire(self.waiting, self.caller)
        except (ServiceUnavailable, CancelledError):
            self.refused = True

    def release(self) -> None:
        connection, self.connection = self.connection, None
        self.database.release(connection)


class Pools(RuleBasedStateMachine):
    """Three pools of four connections that share a budget of six."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patch = pytest.MonkeyPatch()
        fake_time = SimpleNamespace(monotonic=self.clock.seconds)
        for module in (budgets, pools, connections):
            self.patch.setattr(module, "time", fake_time)
        self.server = Server(self.clock)
        self.patch.setattr(pools, "open_connection", self.server.connect)
        self.budget = ConnectionBudget(self.clock, 6, 5.0)
        self.databases = [
            Database(self.clock, self.budget, {}, pool_size=4, queue_size=20, queue_timeout=QUEUE_TIMEOUT) for _ in range(3)
        ]
        self.requests: list[Request] = []

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            self.patch.undo()

    def _using(self) -> list[Request]:
        return [each for each in self.requests if each.connection is not None]

    # events

    @rule(number=st.integers(0, 2), caller=CALLERS, times=st.integers(1, 2))
    def acquire(self, number: int, caller: Any, times: int) -> None:
        self.requests += [Request(self.databases[number], caller) for _ in range(times)]

    @rule(number=st.integers(0, 2), caller=CALLERS, other=CALLERS)
    def fill(self, number: int, caller: Any, other: Any) -> None:
        """One caller uses as much of a pool as it may and waits for more; another one has used the rest."""
        self.requests.append(Request(self.databases[number], other))
        self.requests += [Request(self.databases[number], caller) for _ in range(4)]
        last = self.requests[-5]
        self.connect_all()
        if last.connection is not None:
            last.release()

    @rule(number=st.integers(0, 99))
    def lose_in_use(self, number: int) -> None:
        using = [each for each in self._using() if not each.connection.closed]
        if using:
            using[number % len(using)].connection.close()

    @rule(number=st.integers(0, 99), times=st.integers(1, 8))
    def release(self, number: int, times: int) -> None:
        for _ in range(times):
            using = self._using()
            if using:
                using[number % len(using)].release()

    @rule(number=st.integers(0, 99), times=st.integers(1, 8))
    def go_on(self, number: int, times: int) -> None:
        """Requests end, and the database server answers all attempts to connect."""
        self.release(number, times)
        self.connect_all()

    @rule(number=st.integers(0, 99))
    def give_up(self, number: int) -> None:
        waiting = [each for each in self.requests if each.waiting]
        if waiting:
            for waiter in list(waiting[number % len(waiting)].waiting):
                waiter.cancel()

    @rule(number=st.integers(0, 99))
    def lose(self, number: int) -> None:
        found = [connection for database in self.databases for connection in database.connections]
        if found:
            found.sort(key=id)
            found[number % len(found)].close()

    @rule(number=st.integers(0, 99), outcome=st.sampled_from(OUTCOMES))
    def connect(self, number: int, outcome: Any) -> None:
        if self.server.opening:
            self.server.answer(number, outcome)

    @rule()
    def connect_all(self) -> None:
        for _ in range(len(self.server.opening)):
            self.server.answer()

    @rule(limit=st.sampled_from([None, None, 0, 1, 2, 5]))
    def limit_databases(self, limit: int | None) -> None:
        self.server.database_limit = limit

    @rule(limit=st.integers(1, 8), processes=st.integers(1, 3))
    def set_limit(self, limit: int, processes: int) -> None:
        self.budget.set_limit(limit, processes)

    @rule(seconds=st.sampled_from([0.02, 0.1, 0.5, 1.0, 3.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(number=st.integers(0, 99))
    def hold(self, number: int) -> None:
        """A statement is cancelled: its connection is released before it may be used again."""
        using = self._using()
        if using:
            connection = using[number % len(using)].connection
            connection.held = True
            using[number % len(using)].release()
            connection.held = False
            if connection.released:
                connection.released = False
                next(d for d in self.databases if connection in d.connections).release(connection)

    @rule(number=st.integers(0, 2))
    def replace_pool(self, number: int) -> None:
        """A project is closed, while its connections are used, and opened again."""
        Deferred.fromCoroutine(self.databases[number].close())
        self.databases.append(self.databases[number])
        self.databases[number] = Database(self.clock, self.budget, {}, pool_size=4, queue_size=20, queue_timeout=QUEUE_TIMEOUT)

    # what always holds

    @invariant()
    def every_slot_is_counted(self) -> None:
        assert self.budget.open == sum(database.size for database in self.databases)
        assert len(self.server.opening) == sum(database.opening for database in self.databases)
        assert self.server.open == sum(len(database.connections) for database in self.databases)

    @invariant()
    def no_more_than_the_limit_is_open_unless_in_use(self) -> None:
        in_use = sum(database.in_use for database in self.databases)
        assert self.budget.open <= max(self.budget.limit, in_use)
        for database in self.databases:
            # What is being opened counts when it is open: the capacity may be known only then.
            assert len(database.connections) <= max(database.capacity, len(database.connections) - len(database.idle))

    @invariant()
    def every_connection_is_idle_or_in_use(self) -> None:
        for database in self.databases:
            used = {id(each.connection) for each in self._using() if each.database is database and not each.connection.closed}
            assert used | {id(connection) for connection in database.idle} == {id(each) for each in database.connections}
            assert used.isdisjoint(id(connection) for connection in database.idle)

    @invariant()
    def nobody_waits_who_may_use_an_idle_connection(self) -> None:
        for database in self.databases:
            if database.idle:
                waiting = {each.caller for each in self.requests if each.database is database and each.waiting}
                used = database._used()
                assert all(caller is not None and used.get(caller, 0) >= database.most for caller in waiting)

    @invariant()
    def something_happens_while_requests_wait(self) -> None:
        for database in self.databases:
            used = database._used()
            servable = database.waiting.servable(used, database.most, 1)
            if servable and not database.size:
                # It waits for the budget: all of it is in use, or a timer tries again.
                busy = self.budget.open >= min(self.budget.limit, self.budget.ceiling.allowed)
                assert busy or self.budget.ceiling.pausing or database.ceiling.pausing

    def _end(self) -> None:
        """All requests end: nothing is left."""
        self.server.database_limit = None
        self.budget.set_limit(6)
        for _ in range(1000):
            if self.server.opening:
                self.server.answer()
            elif self._using():
                self._using()[0].release()
            elif any(each.waiting for each in self.requests):
                self.clock.advance(0.1)
            else:
                break
        assert all(each.refused or each.connection is None for each in self.requests)
        assert not any(database.waiting for database in self.databases)
        for database in self.databases:
            Deferred.fromCoroutine(database.close())
        assert (self.budget.open, self.server.open) == (0, 0)
        self.budget.stop()
        self.clock.advance(QUEUE_TIMEOUT)
        assert self.clock.getDelayedCalls() == []


Pools.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPools = Pools.TestCase


def test_the_server_of_these_tests_opens_connections() -> None:
    """Otherwise the pools have nothing to do, and all of the above holds."""
    pools = Pools()
    try:
        pools.acquire(0, None, 2)
        pools.connect_all()
        assert [each.connection is not None for each in pools.requests] == [True, True]
    finally:
        pools.teardown()


@pytest.mark.parametrize(("capacity", "most"), [(1, 1), (2, 1), (3, 2), (5, 4), (10, 8), (100, 80)])
def test_a_caller_leaves_a_fifth_to_others(capacity: int, most: int) -> None:
    assert most_for_one(capacity) == most
