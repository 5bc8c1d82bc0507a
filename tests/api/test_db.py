"""The pools against a real server: backends that are killed, deadlocks, a shared budget, a server that goes and comes back."""

import itertools
import os
import pathlib
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Server
from twisted.internet.threads import deferToThread
from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogPublisher

from directus_tx.db.budget import ConnectionBudget
from directus_tx.db.connection import connected, open_connection
from directus_tx.db.pool import Database
from directus_tx.db.session import RunAgain, Session
from directus_tx.db.sql import SQL, Identifier, Literal
from directus_tx.errors import (
    ClientGone,
    CollectionExists,
    Conflict,
    InternalError,
    InvalidRequest,
    NotUnique,
    ServiceUnavailable,
)
from tests.conftest import Client
from tests.daemon import embedded

Make = Callable[..., Database]


@pytest_twisted.async_yield_fixture
async def make(postgres: dict[str, Any]) -> Any:
    """Makes pools on the server of the run, or on another; they are closed in the end."""
    made: list[Database] = []

    def make(budget: ConnectionBudget | None = None, server: Any = postgres, **options: Any) -> Database:
        parameters = {**server, "application_name": f"test_{secrets.token_hex(6)}"}
        made.append(Database(reactor, budget or ConnectionBudget(reactor, 20), parameters, **options))
        return made[-1]

    yield make
    for database in made:
        await database.close()
        database.budget.stop()


def pause(seconds: float) -> "defer.Deferred[None]":
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


def start(work: Awaitable[Any]) -> Any:
    return defer.ensureDeferred(work)  # type: ignore[arg-type]


def sockets() -> int:
    """How many sockets this process has open; several descriptors of one count once."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return len({os.readlink(link) for link in links if os.path.lexists(link) and os.readlink(link).startswith("socket:")})


async def kill(database: Database) -> int:
    """Ends the backends of a pool, and waits until they are gone; says how many there were."""
    name = (database.parameters["application_name"],)
    async with connected(reactor, {**database.parameters, "application_name": "killer"}) as connection:
        found = [pid for (pid,) in await connection.run("SELECT pid FROM pg_stat_activity WHERE application_name = %s", name)]
        await connection.run("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (found,))
        # A process leaves pg_stat_activity before its connection is closed.
        while any(pathlib.Path(f"/proc/{pid}").exists() for pid in found):
            await pause(0.01)
    return len(found)


@asynccontextmanager
async def held(database: Database) -> AsyncIterator[str]:
    """A statement that is not answered before the block ends."""
    key = secrets.randbelow(2**31)
    async with connected(reactor, database.parameters) as connection:
        await connection.run("SELECT pg_advisory_lock(%s)", (key,))
        yield f"SELECT 1 FROM pg_advisory_lock_shared({key})"


async def table(database: Database, *rows: tuple[int, int]) -> str:
    """A new table of keys and numbers."""
    name = f"t_{secrets.token_hex(6)}"

    async def work(session: Session) -> None:
        await session.query(SQL("CREATE TABLE {} (k int PRIMARY KEY, n int NOT NULL)").format(Identifier(name)))
        for row in rows:
            await session.query(SQL("INSERT INTO {} VALUES (%s, %s)").format(Identifier(name)), row)

    await Session(database).transaction(work)
    return name


# --- backends that are killed


@pytest.mark.parametrize("noticed", [True, False])
@ensureDeferred
async def test_a_read_on_a_backend_that_was_killed_is_retried(make: Make, noticed: bool) -> None:
    pool = make()
    session = Session(pool)
    ((before,),) = await session.query("SELECT pg_backend_pid()")
    if noticed:
        assert await kill(pool) == 1
        await pause(0.05)
    else:
        async with connected(reactor, pool.parameters) as connection:
            # What is idle hears of nothing until the reactor turns.
            running = start(connection.run("SELECT pg_terminate_backend(%s)", (before,)))
            time.sleep(0.1)
            await running
    ((after,),) = await session.query("SELECT pg_backend_pid()")
    assert after != before
    assert (pool.size, pool.in_use, pool.budget.open) == (1, 0, 1)


@ensureDeferred
async def test_reads_whose_backends_are_killed_under_them_are_all_retried(make: Make) -> None:
    pool = make()
    running = [start(Session(pool).query("SELECT pg_sleep(0.4), %s::int", (n,))) for n in range(8)]
    await pause(0.2)
    assert await kill(pool) == 8
    assert [rows[0][1] for rows in await defer.gatherResults(running)] == list(range(8))
    assert (pool.in_use, pool.budget.open) == (0, pool.size)


@ensureDeferred
async def test_a_read_that_always_loses_its_backend_is_unavailable(make: Make) -> None:
    pool = make()
    session = Session(pool)
    with pytest.raises(ServiceUnavailable):
        await session.query("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)")
    assert (pool.size, pool.budget.open) == (0, 0)
    assert await session.query("SELECT 1") == [(1,)]


@ensureDeferred
async def test_a_transaction_whose_backend_is_killed_is_unavailable_and_leaves_nothing(make: Make) -> None:
    pool = make()
    name = await table(pool)
    insert = SQL("INSERT INTO {} VALUES (%s, 0)").format(Identifier(name))
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query(insert, (1,))
        assert await kill(pool) == 1
        await session.query(insert, (2,))

    with pytest.raises(ServiceUnavailable) as caught:
        await Session(pool).transaction(work)
    assert caught.value.headers == {"Retry-After": "1"}
    assert runs == 1, "what may have been committed must not be run again"
    assert await Session(pool).query(SQL("SELECT * FROM {}").format(Identifier(name))) == []
    assert (pool.in_use, pool.budget.open) == (0, pool.size)


@ensureDeferred
async def test_a_transaction_whose_backend_is_killed_before_the_commit_is_unavailable(make: Make) -> None:
    pool = make()
    name = await table(pool)

    async def work(session: Session) -> str:
        await session.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        await kill(pool)
        return "done"

    with pytest.raises(ServiceUnavailable):
        await Session(pool).transaction(work)
    assert await Session(pool).query(SQL("SELECT * FROM {}").format(Identifier(name))) == []


@ensureDeferred
async def test_a_transaction_begins_in_spite_of_a_backend_that_was_killed(make: Make) -> None:
    pool = make()
    await Session(pool).query("SELECT 1")
    await kill(pool)
    assert await Session(pool).transaction(lambda session: session.query("SELECT 2")) == [(2,)]


# --- deadlocks


@ensureDeferred
async def test_of_two_transactions_that_deadlock_both_succeed(make: Make) -> None:
    pool = make()
    name = await table(pool, (1, 0), (2, 0))
    update = SQL("UPDATE {} SET n = n + 1 WHERE k = %s").format(Identifier(name))
    both: list[defer.Deferred[None]] = []
    runs = 0

    def work(first: int, second: int) -> Any:
        async def run(session: Session) -> int:
            nonlocal runs
            runs += 1
            await session.query(update, (first,))
            if runs <= 2:
                # Neither goes on before both hold one row.
                both.append(defer.Deferred())
                if len(both) == 2:
                    for each in both:
                        reactor.callLater(0, each.callback, None)
                await both[-1]
            await session.query(update, (second,))
            return first

        return start(Session(pool).transaction(run))

    assert await defer.gatherResults([work(1, 2), work(2, 1)]) == [1, 2]
    assert runs == 3, "there was no deadlock"
    assert await Session(pool).query(SQL("SELECT n FROM {}").format(Identifier(name))) == [(2,), (2,)]


@ensureDeferred
async def test_a_transaction_that_always_loses_is_a_conflict_and_leaves_nothing(make: Make) -> None:
    pool = make()
    name = await table(pool)
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        await session.query("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    with pytest.raises(Conflict):
        await Session(pool).transaction(work)
    assert runs == 4
    assert await Session(pool).query(SQL("SELECT * FROM {}").format(Identifier(name))) == []


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@ensureDeferred
async def test_a_read_that_always_loses_is_unavailable_and_no_conflict(make: Make, sqlstate: str) -> None:
    pool = make()
    session = Session(pool)
    runs = 0
    lose = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query(lose)

    async def refused(read: Awaitable[Any]) -> int:
        before = pool.idle[-1].statements if pool.idle else 0
        with pytest.raises(ServiceUnavailable) as caught:
            await read
        assert caught.value.headers["Retry-After"]
        return pool.idle[-1].statements - before

    await session.query("SELECT 1")
    assert await refused(session.query(lose)) == 4
    for times, read in (
        (4, session.transaction(work, read_only=True)),
        (4, session.long_read(work)),
        (1, session.long_read(work, repeatable=lambda: False)),
    ):
        runs = 0
        await refused(read)
        assert runs == times


@ensureDeferred
async def test_a_read_in_a_transaction_whose_connection_is_lost_is_run_again_once(make: Make) -> None:
    pool = make()
    for lost, transaction in itertools.product((1, 2), ("transaction", "long read")):
        runs = 0

        async def work(session: Session, lost: int = lost) -> str:
            nonlocal runs
            runs += 1
            await session.query("SELECT pg_terminate_backend(pg_backend_pid())" if runs <= lost else "SELECT 1")
            return "read"

        session = Session(pool)
        read = session.transaction(work, read_only=True) if transaction == "transaction" else session.long_read(work)
        if lost == 1 or transaction == "long read":
            assert await read == "read"
        else:
            with pytest.raises(ServiceUnavailable):
                await read
        assert runs == (2 if transaction == "transaction" else lost + 1)


# --- changes of the schema


@pytest.fixture
def impatient(make: Make, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A pool in which changes of the schema wait for short times only."""
    monkeypatch.setattr("directus_tx.db.session.LOCK_PAUSES", (0.01, 0.02, 0.03))
    pool: Database = make(lock_timeout=0.05)
    return pool


@asynccontextmanager
async def in_use(database: Database, *tables: str) -> AsyncIterator[None]:
    """Others read tables in a transaction that does not end before the block."""
    async with connected(reactor, database.parameters) as connection:
        await connection.run("BEGIN")
        for name in tables:
            await connection.run(SQL("SELECT 1 FROM {}").format(Identifier(name)))
        yield


@ensureDeferred
async def test_a_schema_change_names_the_table_that_is_in_use_after_four_attempts(impatient: Database) -> None:
    names = sorted([await table(impatient), await table(impatient)])
    for used in names:
        runs = 0

        async def work(session: Session) -> None:
            nonlocal runs
            runs += 1
            await session.lock_tables([(name,) for name in reversed(names)])
            for name in names:
                await session.query(SQL("ALTER TABLE {} ADD COLUMN more int").format(Identifier(name)))

        async with in_use(impatient, used):
            with pytest.raises(ServiceUnavailable, match=f'"{used}" is in use') as caught:
                await Session(impatient).schema_change(work)
        assert caught.value.headers["Retry-After"]
        assert runs == 4
        assert (impatient.size, impatient.in_use) == (1, 0)
    await Session(impatient).schema_change(work)
    assert runs == 5
    for name in names:
        await Session(impatient).query(SQL("SELECT more FROM {}").format(Identifier(name)))


@ensureDeferred
async def test_a_schema_change_waits_briefly_for_statements_that_lock_tables_by_themselves(impatient: Database) -> None:
    name = await table(impatient)
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query(SQL("ALTER TABLE {} ADD COLUMN more int").format(Identifier(name)))

    async with in_use(impatient, name):
        with pytest.raises(ServiceUnavailable) as caught:
            await Session(impatient).schema_change(work)
    assert (runs, caught.value.diagnostics and caught.value.diagnostics.sqlstate) == (4, "55P03")


@ensureDeferred
async def test_schema_changes_are_made_one_after_the_other_and_do_not_deadlock(make: Make) -> None:
    pool = make(pool_size=5)
    names = [await table(pool) for _ in range(3)]
    running = 0

    async def change(number: int) -> None:
        async def work(session: Session) -> None:
            nonlocal running
            running += 1
            assert running == 1
            for name in names[number % 3 :] + names[: number % 3]:
                await session.lock_tables([(name,)])
                await session.query(SQL("ALTER TABLE {} ADD COLUMN {} int").format(Identifier(name), Identifier(f"c{number}")))
            running -= 1

        await Session(pool).schema_change(work)

    await defer.gatherResults([start(change(number)) for number in range(9)])
    for name in names:
        await Session(pool).query(SQL("SELECT c0, c8 FROM {}").format(Identifier(name)))


@ensureDeferred
async def test_a_schema_change_that_always_loses_is_unavailable(impatient: Database) -> None:
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$")

    with pytest.raises(ServiceUnavailable) as caught:
        await Session(impatient).schema_change(work)
    assert (runs, bool(caught.value.headers["Retry-After"])) == (4, True)


@ensureDeferred
async def test_a_table_that_others_create_at_the_same_time_exists_already(make: Make) -> None:
    pool = make()
    name = f"t_{secrets.token_hex(6)}"
    create = SQL("CREATE TABLE {} (k int)").format(Identifier(name))
    async with connected(reactor, pool.parameters) as connection:
        await connection.run("BEGIN")
        await connection.run(create)
        made = start(Session(pool).schema_change(lambda session: session.query(create)))
        while not await Session(pool).query("SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"):
            await pause(0.01)
        await connection.run("COMMIT")
    with pytest.raises(CollectionExists) as caught:
        await made
    assert caught.value.depends_on_schema


# --- statements that are sent together


@ensureDeferred
async def test_statements_at_commit_take_one_round_trip_together(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make()
    name = await table(pool)
    insert = SQL("INSERT INTO {} VALUES (%s, 0)").format(Identifier(name))
    for statements in range(4):

        async def work(session: Session, statements: int = statements) -> None:
            for number in range(statements):
                await session.query_at_commit(insert, (10 * statements + number,))

        session = Session(pool)
        started = (await pool.acquire()).statements
        pool.release(next(iter(pool.connections)))
        await session.transaction(work)
        (connection,) = pool.connections
        assert connection.statements - started == min(statements, 1)
        assert session.statements == statements
        assert session.committed == bool(statements)
    assert await session.query(SQL("SELECT k FROM {} ORDER BY k").format(Identifier(name))) == [
        (10,), (20,), (21,), (30,), (31,), (32,)
    ]  # fmt: skip


@ensureDeferred
async def test_a_statement_for_the_commit_runs_before_the_next_statement(make: Make) -> None:
    pool = make()
    name = await table(pool)

    async def work(session: Session) -> Any:
        await session.query_at_commit(SQL("INSERT INTO {} VALUES (1, 7)").format(Identifier(name)))
        return await session.query(SQL("UPDATE {} SET n = n + 1 RETURNING k, n").format(Identifier(name)))

    assert await Session(pool).transaction(work) == [(1, 8)]


@ensureDeferred
async def test_a_statement_that_fails_at_the_commit_leaves_nothing(make: Make) -> None:
    pool = make(statement_timeout=0.2)
    name = await table(pool, (1, 0))
    insert = SQL("INSERT INTO {} VALUES (%s, 0)").format(Identifier(name))
    broken = {
        "a duplicate": (insert, (1,), NotUnique),
        "an unknown name": ("SELECT nope", (), InternalError),
        "what cannot be parsed": ("SELEC", (), InternalError),
        "what cannot be sent": ("SELECT %s", ("\0",), InvalidRequest),
        "what takes too long": ("SELECT pg_sleep(30)", (), ServiceUnavailable),
        "what always loses": ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$", (), Conflict),
    }
    for first, (statement, parameters, error) in itertools.product((True, False), broken.values()):
        runs = 0

        async def work(session: Session, first: bool = first, last: Any = (statement, parameters)) -> None:
            nonlocal runs
            runs += 1
            if not first:
                await session.query(insert, (2,))
            await session.query_at_commit(*last)

        session = Session(pool)
        with pytest.raises(error):
            await session.transaction(work)
        assert runs == (4 if error is Conflict else 1)
        assert not session.committed
        assert await session.query(SQL("SELECT k FROM {}").format(Identifier(name))) == [(1,)]
        assert (pool.in_use, pool.size) == (0, 1)


@ensureDeferred
async def test_a_statement_that_is_sent_with_the_commit_is_not_run_again_if_the_connection_is_lost(make: Make) -> None:
    pool = make()
    name = await table(pool)
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        await session.query_at_commit("SELECT pg_terminate_backend(pg_backend_pid())")

    session = Session(pool)
    with pytest.raises(ServiceUnavailable, match="not known whether the change was made"):
        await session.transaction(work)
    assert (runs, session.committed) == (1, True)
    assert await session.query(SQL("SELECT k FROM {}").format(Identifier(name))) == []


@pytest.mark.parametrize("refused", ["SELEC", "SELECT '\0'"])
@ensureDeferred
async def test_statements_after_one_that_was_refused_are_in_the_transaction_all_the_same(make: Make, refused: str) -> None:
    """PostgreSQL parses the whole text before it begins the transaction, and the driver does not even send what has a NUL."""
    pool = make()
    name = await table(pool)

    async def work(session: Session) -> None:
        with pytest.raises((InternalError, InvalidRequest)):
            await session.query(refused)
        await session.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        await Session(pool).transaction(work)
    assert await Session(pool).query(SQL("SELECT k FROM {}").format(Identifier(name))) == []
    assert (pool.in_use, pool.size) == (0, 1)


# --- commits


@ensureDeferred
async def test_a_commit_without_an_answer_may_have_been_made_and_is_not_run_again(make: Make) -> None:
    """A trigger at the commit ends the backend."""
    pool = make()
    name = await table(pool)
    session = Session(pool)
    runs = 0

    async def end_at_commit(session: Session) -> None:
        await session.query(
            f"CREATE FUNCTION end_{name}() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
        )
        await session.query(
            f"CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON {name} DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW EXECUTE FUNCTION end_{name}()"
        )

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await session.query(SQL("INSERT INTO {} VALUES (1, 1)").format(Identifier(name)))

    await Session(pool).transaction(end_at_commit)
    with pytest.raises(ServiceUnavailable, match="not known whether the change was made"):
        await session.transaction(work)
    assert (runs, session.committed) == (1, True)
    assert await session.query(SQL("SELECT * FROM {}").format(Identifier(name))) == []
    assert (pool.size, pool.in_use, pool.budget.open) == (1, 0, 1)


@ensureDeferred
async def test_a_transaction_that_asks_to_be_run_again_is_rolled_back_first(make: Make) -> None:
    pool = make()
    name = await table(pool)
    insert = SQL("INSERT INTO {} VALUES (%s, 0)").format(Identifier(name))
    count = SQL("SELECT count(*) FROM {}").format(Identifier(name))
    refusal = InvalidRequest("often enough")
    prepared: list[int] = []

    async def prepare(session: Session) -> None:
        assert not session.in_transaction
        ((rows,),) = await session.query(count)
        prepared.append(rows)

    def work(times: int) -> Any:
        async def run(session: Session) -> str:
            await session.query(insert, (times,))
            if len(prepared) < times:
                raise RunAgain(refusal, prepare)
            return "done"

        return run

    session = Session(pool)
    assert await session.transaction(work(2)) == "done"
    assert prepared == [0, 0]
    assert session.committed
    assert await session.query(count) == [(1,)]
    session = Session(pool)
    prepared.clear()
    with pytest.raises(InvalidRequest, match="often enough"):
        await session.transaction(work(100))
    assert not session.committed
    assert await session.query(count) == [(1,)]
    assert (pool.in_use, pool.size) == (0, 1)


@ensureDeferred
async def test_a_transaction_that_went_on_after_a_failed_statement_is_no_success(make: Make) -> None:
    pool = make()
    name = await table(pool)

    async def work(session: Session) -> str:
        await session.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        with pytest.raises(InternalError):
            await session.query("SELECT nope")
        return "done"

    session = Session(pool)
    with pytest.raises(InternalError):
        await session.transaction(work)
    assert not session.committed
    assert await session.query(SQL("SELECT * FROM {}").format(Identifier(name))) == []


@ensureDeferred
async def test_a_statement_that_takes_too_long_is_unavailable_wherever_it_is_run(make: Make) -> None:
    pool = make(statement_timeout=0.2)

    async def slow(session: Session) -> None:
        await session.query("SELECT pg_sleep(30)")

    session = Session(pool)
    for work in (slow(session), session.transaction(slow), session.transaction(slow, read_only=True)):
        with pytest.raises(ServiceUnavailable, match="statement_timeout") as caught:
            await work
        assert caught.value.headers == {"Retry-After": "1"}
        assert await session.query("SELECT 1") == [(1,)]
    assert (pool.in_use, pool.budget.open) == (0, pool.size)


SLOW_COMMIT = """
CREATE FUNCTION pg_temp.wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END';
CREATE TEMPORARY TABLE slow (k int) ON COMMIT DROP;
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.wait();
INSERT INTO slow VALUES (1)
"""


@ensureDeferred
async def test_a_commit_that_is_cancelled_is_unavailable_and_commits_nothing(make: Make) -> None:
    pool = make()
    name = await table(pool)
    pids: list[int] = []

    async def work(session: Session) -> None:
        pids.extend((await session.query("SELECT pg_backend_pid()"))[0])
        await session.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        await session.query(SLOW_COMMIT)

    session = Session(pool)
    running = start(session.transaction(work))
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = ANY (%s) AND query = 'COMMIT' AND state = 'active'"
    async with connected(reactor, pool.parameters) as connection:
        while not await connection.run(cancel, (pids,)):
            await pause(0.01)
    with pytest.raises(ServiceUnavailable):
        await running
    assert not session.committed
    assert await session.query(SQL("SELECT * FROM {}").format(Identifier(name))) == []
    assert (pool.in_use, pool.budget.open) == (0, pool.size)


@ensureDeferred
async def test_a_read_only_transaction_sees_one_moment_and_commits_nothing(make: Make) -> None:
    pool = make()
    name = await table(pool, (1, 0))
    select = SQL("SELECT n FROM {}").format(Identifier(name))

    async def work(session: Session) -> list[Any]:
        before = await session.query(select)
        await Session(pool).query(SQL("UPDATE {} SET n = 1").format(Identifier(name)))
        return [before, await session.query(select)]

    session = Session(pool)
    assert await session.transaction(work, read_only=True) == [[(0,)], [(0,)]]
    assert not session.committed
    assert await session.query(select) == [(1,)]


# --- what a change tells


@ensureDeferred
async def test_a_change_has_been_told_when_its_transaction_returns(client: Client, make: Make) -> None:
    server = client.backend.projects.get(client.project).database.parameters
    heard: list[tuple[str, int]] = []
    elsewhere: list[tuple[str, int]] = []
    here = make(server=server, on_change=lambda *change: heard.append(change))
    there = make(server=server, on_change=lambda *change: elsewhere.append(change))
    await Session(there).query("SELECT 1")
    await Session(here).query("SELECT 1")
    before = dict(heard)["schema"]
    heard.clear(), elsewhere.clear()
    update = "UPDATE directus_settings SET value = 'x' WHERE key = 'project_name'"
    for number in range(1, 21):
        await Session(here).transaction(lambda session: session.query(update))
        assert heard[-1:] == [("schema", before + number)]
    await pause(0.1)
    assert elsewhere == heard


@ensureDeferred
async def test_a_statement_that_is_run_when_a_notification_arrives_gets_its_own_answer(make: Make) -> None:
    """The connection was idle when it was notified, so `on_notify` can run a statement on it."""
    parameters = make().parameters
    async with connected(reactor, parameters) as listening, connected(reactor, parameters) as other:
        await listening.run("LISTEN told")
        for _ in range(3):
            told: defer.Deferred[list[Any]] = defer.Deferred()
            listening.on_notify = lambda connection, notify, told=told: told.callback(
                [start(connection.run("SELECT generate_series(1, 3) FROM pg_sleep(0.05)"))]
            )
            await other.run("NOTIFY told")
            (running,) = await told.addTimeout(30, reactor)
            assert await running == [(1,), (2,), (3,)]


@ensureDeferred
async def test_a_change_that_is_rolled_back_is_told_to_nobody(client: Client, make: Make) -> None:
    heard: list[tuple[str, int]] = []
    server = client.backend.projects.get(client.project).database.parameters
    pool = make(server=server, on_change=lambda *change: heard.append(change))
    await Session(pool).query("SELECT 1")
    heard.clear()

    async def work(session: Session) -> None:
        await session.query("UPDATE directus_settings SET value = 'x'")
        raise LookupError

    with pytest.raises(LookupError):
        await Session(pool).transaction(work)
    await pause(0.1)
    assert heard == []


# --- the budget


@ensureDeferred
async def test_twenty_pools_share_five_connections_and_all_answer(make: Make) -> None:
    budget = ConnectionBudget(reactor, 5)
    pools = [make(budget, queue_timeout=20) for _ in range(20)]
    before, most, open_most = sockets(), 0, 0

    async def ask(pool: Database, number: int) -> int:
        nonlocal most, open_most
        ((answer,),) = await Session(pool).query("SELECT %s::int FROM pg_sleep(0.01)", (number,))
        most = max(most, sockets() - before)
        open_most = max(open_most, budget.open, sum(each.size for each in pools))
        return answer

    answers = await defer.gatherResults([start(ask(pool, n)) for n, pool in enumerate(pools * 5)], consumeErrors=True)
    assert answers == list(range(100))
    assert 1 <= most <= 5
    assert 1 <= open_most <= 5


@ensureDeferred
async def test_a_busy_pool_does_not_starve_another(make: Make) -> None:
    budget = ConnectionBudget(reactor, 4)
    busy, quiet = make(budget), make(budget)
    load = [start(Session(busy).query("SELECT pg_sleep(0.02)")) for _ in range(400)]
    await pause(0.1)
    for _ in range(5):
        await Session(quiet).query("SELECT 1")
    assert sum(not each.called for each in load) > 50, "the busy pool had nothing left to do"
    await defer.gatherResults(load, consumeErrors=True)


@ensureDeferred
async def test_pools_that_are_all_busy_all_get_their_share(make: Make) -> None:
    budget = ConnectionBudget(reactor, 3)
    pools = [make(budget) for _ in range(8)]
    answered = [0] * len(pools)
    until = time.monotonic() + 3

    async def ask(number: int) -> None:
        while time.monotonic() < until:
            await Session(pools[number]).query("SELECT pg_sleep(0.005)")
            answered[number] += 1

    await defer.gatherResults([start(ask(n)) for n in range(len(pools)) for _ in range(4)], consumeErrors=True)
    assert min(answered) * 5 > max(answered), answered


@ensureDeferred
async def test_a_pool_that_is_closed_gives_its_part_of_the_budget_back(make: Make) -> None:
    budget = ConnectionBudget(reactor, 2)
    first, second = make(budget), make(budget)
    running = [start(Session(first).query("SELECT pg_sleep(0.2)")) for _ in range(2)]
    waiting = start(Session(second).query("SELECT 1"))
    await pause(0.05)
    await first.close()
    assert await waiting == [(1,)]
    await defer.gatherResults(running)
    assert (first.size, budget.open) == (0, second.size)
    with pytest.raises(ServiceUnavailable):
        await Session(first).query("SELECT 1")


# --- the queue


@ensureDeferred
async def test_whoever_finds_the_queue_full_is_refused_at_once(make: Make) -> None:
    pool = make(pool_size=1, queue_size=3)
    async with held(pool) as statement:
        running = [start(Session(pool).query(statement)) for _ in range(4)]
        with pytest.raises(ServiceUnavailable) as caught:
            await Session(pool).query("SELECT 1")
        assert caught.value.headers == {"Retry-After": "1"}
        assert not any(each.called for each in running)
    await defer.gatherResults(running)
    assert await Session(pool).query("SELECT 1") == [(1,)]


@ensureDeferred
async def test_whoever_waits_longer_than_queue_timeout_is_refused_and_others_go_on(make: Make) -> None:
    pool = make(pool_size=1, queue_timeout=0.2)
    async with held(pool) as statement:
        running = start(Session(pool).query(statement))
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="queue_timeout"):
            await Session(pool).query("SELECT 1")
        assert time.monotonic() - started > 0.15
        assert not running.called
    await running
    assert await Session(pool).query("SELECT 1") == [(1,)]
    assert (len(pool.waiting), pool.in_use) == (0, 0)


@ensureDeferred
async def test_thousands_who_wait_and_fail_at_once_do_not_exhaust_the_stack(make: Make) -> None:
    pool = make(pool_size=1, queue_size=5000)
    running = start(Session(pool).query("SELECT pg_sleep(0.1)"))
    waiting = [start(Session(pool).query("SELECT %s", ("\0",))) for _ in range(3000)]
    results = await defer.DeferredList([running, *waiting], consumeErrors=True)
    assert [ok for ok, _ in results] == [True] + [False] * 3000
    assert all(failure.check(InvalidRequest) for ok, failure in results if not ok)
    assert (pool.size, pool.in_use) == (1, 0)


# --- clients that go away


@ensureDeferred
async def test_of_many_sessions_those_that_are_abandoned_end_and_no_others_are_hit(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("directus_tx.db.cancelling.CANCEL_AFTER", 0)
    pool = make(pool_size=4, queue_timeout=60)
    draw = random.Random(7)

    async def read(session: Session, number: int) -> int:
        for _ in range(3):
            ((found,),) = await session.query("SELECT %s::int FROM pg_sleep(%s)", (number, draw.random() / 50))
        return found

    async def read_at_one_moment(session: Session, number: int) -> int:
        return await session.long_read(lambda inner: read(inner, number))

    sessions = [Session(pool) for _ in range(300)]
    running = [start((read_at_one_moment if n % 3 else read)(session, n)) for n, session in enumerate(sessions)]
    gone = set()
    while not all(each.called for each in running):
        await pause(0.01)
        for number in draw.sample(range(300), 3):
            if not running[number].called and number % 2:
                sessions[number].abandon()
                gone.add(number)
    results = await defer.DeferredList(running, consumeErrors=True)
    assert len(gone) > 20
    assert [found for n, (_, found) in enumerate(results) if n not in gone] == [n for n in range(300) if n not in gone]
    assert all(failure.check(ClientGone) for n, (ok, failure) in enumerate(results) if n in gone and not ok)
    await settled(pool)


@ensureDeferred
async def test_an_abandoned_statement_is_cancelled_and_its_connection_goes_on(make: Make) -> None:
    pool = make(pool_size=1)
    ((before,),) = await Session(pool).query("SELECT pg_backend_pid()")
    session, waiting = Session(pool), Session(pool)
    running, queued = start(session.query("SELECT pg_sleep(60)")), start(waiting.query("SELECT 1"))
    session.abandon(), waiting.abandon()
    for each in (running, queued, start(session.query("SELECT 1"))):
        with pytest.raises(ClientGone):
            await each
    assert await Session(pool).query("SELECT pg_backend_pid()") == [(before,)]
    await settled(pool)


@ensureDeferred
async def test_an_abandoned_transaction_that_writes_comes_to_its_end(make: Make) -> None:
    pool = make()
    name = await table(pool)
    session = Session(pool)

    async def work(inner: Session) -> None:
        await inner.query(SQL("INSERT INTO {} VALUES (1, 0)").format(Identifier(name)))
        session.abandon()
        await inner.query("SELECT pg_sleep(0.3)")
        await inner.query(SQL("INSERT INTO {} VALUES (2, 0)").format(Identifier(name)))

    await session.transaction(work)
    assert session.committed
    assert await Session(pool).query(SQL("SELECT k FROM {}").format(Identifier(name))) == [(1,), (2,)]


@ensureDeferred
async def test_where_a_statement_cannot_be_cancelled_its_connection_is_closed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make()
    session = Session(pool)
    running = start(session.query("SELECT pg_sleep(60)"))
    await pause(0.3)
    monkeypatch.setitem(pool.parameters, "dbname", "no_such_database")
    session.abandon()
    with pytest.raises(ClientGone):
        await running
    assert (pool.size, pool.budget.open) == (0, 0)


async def settled(pool: Database) -> None:
    """Returns when no connection of a pool is in use; it may be held for a moment after its statement was cancelled."""
    until = time.monotonic() + 30
    while pool.in_use or pool.waiting:
        assert time.monotonic() < until
        await pause(0.01)
    assert pool.size == len(pool.idle) == pool.budget.open


# --- time limits


@ensureDeferred
async def test_a_statement_that_takes_too_long_is_unavailable_and_its_connection_goes_on(make: Make) -> None:
    pool = make(statement_timeout=0.2)
    ((before,),) = await Session(pool).query("SELECT pg_backend_pid()")
    with pytest.raises(ServiceUnavailable, match="statement_timeout") as caught:
        await Session(pool).query("SELECT pg_sleep(5)")
    assert caught.value.headers == {"Retry-After": "1"}
    assert await Session(pool).query("SELECT pg_backend_pid()") == [(before,)]


@ensureDeferred
async def test_a_transaction_without_time_limit_gives_it_back_with_the_connection(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("directus_tx.db.connection.GRACE", 0.1)
    pool = make(pool_size=1, statement_timeout=0.2)

    async def work(session: Session) -> list[Any]:
        await session.lift_time_limit()
        # Longer than the connection's own time limit is looked after.
        return await session.query("SELECT 1 FROM pg_sleep(2.5)")

    assert await Session(pool).transaction(work) == [(1,)]
    with pytest.raises(ServiceUnavailable, match="statement_timeout"):
        await Session(pool).query("SELECT pg_sleep(5)")


@ensureDeferred
async def test_a_connection_without_an_answer_in_time_is_closed_with_the_idle_ones(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("directus_tx.db.connection.GRACE", 0.1)
    pool = make(statement_timeout=0.2)

    async def work(session: Session) -> list[Any]:
        # PostgreSQL does not know that it should end this, as where the network has lost its word.
        await session.query("SET LOCAL statement_timeout = 0")
        return await session.query("SELECT pg_sleep(5)")

    await defer.gatherResults([start(Session(pool).query("SELECT pg_sleep(0.05)")) for _ in range(3)])
    assert (pool.size, pool.in_use) == (3, 0)
    with pytest.raises(ServiceUnavailable, match="did not answer") as caught:
        await Session(pool).transaction(work)
    assert caught.value.headers == {"Retry-After": "1"}
    assert (pool.size, pool.budget.open, len(pool.idle)) == (0, 0, 0)
    assert await Session(pool).query("SELECT 1") == [(1,)]


# --- a database that is down


@ensureDeferred
async def test_a_database_that_goes_down_is_unavailable_at_once_and_works_when_it_is_back(
    make: Make, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waited for a connection would wait for longer than the test has.
    for module in ("connection", "pool"):
        monkeypatch.setattr(f"directus_tx.db.{module}.CONNECT_TIMEOUT", 600.0)
    server = embedded(tmp_path, "-c fsync=off")
    await deferToThread(server.start)
    try:
        pool = make(server=server.parameters, queue_timeout=600.0)
        queries = [start(Session(pool).query("SELECT 1")) for _ in range(4)]
        assert await defer.gatherResults(queries) == [[(1,)]] * 4
        await deferToThread(server.stop)
        for _ in range(3):
            started = time.monotonic()
            for work in (Session(pool).query("SELECT 1"), Session(pool).transaction(lambda session: session.query("SELECT 1"))):
                with pytest.raises(ServiceUnavailable):
                    await work
            assert time.monotonic() - started < 60
            await pause(0.4)
        assert (pool.size, pool.budget.open, len(pool.waiting)) == (0, 0, 0)
        await deferToThread(server.start)
        await pause(1.1)
        assert await Session(pool).query("SELECT 1") == [(1,)]
    finally:
        await deferToThread(server.stop)


@ensureDeferred
async def test_a_database_that_is_not_there_leaves_nobody_waiting(make: Make, postgres: dict[str, Any]) -> None:
    budget = ConnectionBudget(reactor, 3)
    down, up = make(budget, server={**postgres, "dbname": "no_such_database"}), make(budget)
    started = time.monotonic()
    asked = [start(Session(pool).query("SELECT 1")) for _ in range(20) for pool in (down, up)]
    results = await defer.DeferredList(asked, consumeErrors=True)
    assert time.monotonic() - started < 2
    assert [ok for ok, _ in results] == [False, True] * 20
    assert all(failure.check(ServiceUnavailable) for ok, failure in results if not ok)
    await pause(0)
    assert (down.size, budget.open) == (0, up.size)


class _Ending(Protocol):
    """A server that declines SSLRequest, and ends the connection after it has sent *answer* to the startup message."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def dataReceived(self, data: bytes) -> None:
        if data[4:8] == b"\x04\xd2\x16\x2f":
            self.transport.write(b"N")
            return
        self.transport.write(self.answer)
        self.transport.loseConnection()


@pytest.mark.parametrize("answer", [b"", b"R", b"R\0\0\0\x08\0\0\0\0", b"E\0\0\0\x05\0", b"nonsense"])
@ensureDeferred
async def test_connections_that_are_lost_while_they_are_opened_leave_nothing_with_the_reactor(answer: bytes) -> None:
    class Factory(ServerFactory):
        def buildProtocol(self, address: Any) -> Protocol:
            return _Ending(answer)

    critical: list[Any] = []
    observer = FilteringLogObserver(critical.append, [LogLevelFilterPredicate(LogLevel.error)])
    globalLogPublisher.addObserver(observer)
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    before = set(reactor.getReaders()) | set(reactor.getWriters())
    try:
        parameters = {"host": "127.0.0.1", "port": port.getHost().port, "user": "nobody", "dbname": "nothing"}
        asked = [start(open_connection(reactor, parameters)) for _ in range(20)]
        results = await defer.DeferredList(asked, consumeErrors=True)
        assert all(not ok and failure.check(ServiceUnavailable) for ok, failure in results)
        await pause(0.05)
        left = (set(reactor.getReaders()) | set(reactor.getWriters())) - before
        assert not [each for each in left if not isinstance(each, Server)]
    finally:
        globalLogPublisher.removeObserver(observer)
        await defer.maybeDeferred(port.stopListening)
    assert critical == []


# --- session settings


@ensureDeferred
async def test_statements_are_not_compiled_by_postgresql(make: Make) -> None:
    """Compiling the statement that reads the types of the columns takes a thousand times as long as running it."""
    assert await Session(make()).query("SHOW jit") == [("off",)]


# --- percent signs


@pytest.mark.parametrize("name", ["a%b", "%s", "%(x)s", "100%", "%%", 'q"%d"'])
@ensureDeferred
async def test_a_percent_sign_in_a_name_or_literal_is_one_with_and_without_parameters(make: Make, name: str) -> None:
    pool = make()
    column = Identifier(name)

    async def work(session: Session) -> None:
        await session.query(SQL("CREATE TEMPORARY TABLE {0} ({0} text) ON COMMIT DROP").format(column))
        await session.query(SQL("INSERT INTO {0} ({0}) VALUES (%s)").format(column), (name,))
        ((found,),) = await session.query("SELECT relname FROM pg_class WHERE relname = %s AND relpersistence = 't'", (name,))
        assert found == name
        assert await session.query(SQL("SELECT {0} FROM {0}").format(column)) == [(name,)]
        assert await session.query(SQL("SELECT {0} FROM {0} WHERE {0} = %s").format(column), (name,)) == [(name,)]
        assert await session.query(SQL("SELECT {0} FROM {0} WHERE {0} = %(v)s").format(column), {"v": name}) == [(name,)]
        assert await session.query(SQL("SELECT {}").format(Literal(name))) == [(name,)]
        assert await session.query(SQL("SELECT {}, %s").format(Literal(name)), (name,)) == [(name, name)]

    await Session(pool).transaction(work)


# --- characters that PostgreSQL does not store


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "a\udfffb"])
@ensureDeferred
async def test_what_cannot_be_stored_is_refused_wherever_it_stands(make: Make, text: str) -> None:
    session = Session(make())
    for statement, parameters in (
        ("SELECT %s", (text,)),
        ("SELECT %s::text[]", ([text],)),
        ("SELECT %(v)s", {"v": text}),
        (SQL("SELECT {}").format(Literal(text)), ()),
        (SQL("SELECT 1 AS {}").format(Identifier(text)), ()),
    ):
        with pytest.raises(InvalidRequest):
            await session.query(statement, parameters)
        with pytest.raises(InvalidRequest):
            await session.transaction(lambda session: session.query(statement, parameters))  # noqa: B023
    assert await session.query("SELECT 1") == [(1,)]
    assert (session.database.in_use, session.database.size) == (0, 1)


@pytest.mark.parametrize("turns", range(5))
@ensureDeferred
async def test_an_attempt_to_connect_that_is_cancelled_ends_at_once_and_leaves_no_descriptor(
    postgres: dict[str, Any], turns: int
) -> None:
    """To a server that does not answer, and to one that does, whose answer may come in between."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for parameters in ({**postgres, "host": "127.0.0.1", "port": silent.getsockname()[1]}, postgres):
            before = len(os.listdir("/proc/self/fd"))
            opening = defer.Deferred.fromCoroutine(open_connection(reactor, parameters))
            for _ in range(turns):
                await deferLater(reactor, 0, lambda: None)
            opening.cancel()
            try:
                (await opening).close()
            except (ServiceUnavailable, defer.CancelledError):
                pass
            await deferLater(reactor, 0, lambda: None)
            assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [10, 2000, 3000, 20_000_000])
@ensureDeferred
async def test_statements_of_any_size_are_sent(make: Make, size: int) -> None:
    database = make()
    for _ in range(2):
        ((found,),) = await Session(database).query("SELECT length(%s)", ("x" * size,))
        assert found == size


@ensureDeferred
async def test_what_is_left_of_a_statement_is_sent_later(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement of any size may not fit into the buffer of the socket, whose size is the operating system's."""
    monkeypatch.setattr("directus_tx.db.connection.SENT_AT_ONCE", 2**30)
    database = make()
    await Session(database).query("SELECT 1")
    running = start(Session(database).query("SELECT length(%s)", ("x" * 20_000_000,)))
    await pause(0.2)
    assert not running.called
    database.close_overdue(time.monotonic())
    ((found,),) = await running
    assert found == 20_000_000
