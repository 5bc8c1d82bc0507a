"""The pool: lost connections, contention, fairness, and what a transaction promises."""

import time
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.db import SQL, ConnectionBudget, Database, Identifier, Session
from directus_tx.errors import ServiceUnavailable


def database(parameters: dict[str, Any], limit: int = 20, **options: Any) -> Database:
    return Database(reactor, ConnectionBudget(reactor, limit), parameters, **options)


async def finished(*databases: Database) -> None:
    for each in databases:
        await each.close()
        each.budget.stop()


async def killed(parameters: dict[str, Any], session: Session) -> None:
    """Ends every other backend of this user."""
    await session.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'directus_tx'"
        " AND datname = %s",
        (parameters["dbname"],),
    )


def pause(seconds: float) -> "defer.Deferred[None]":
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


@ensureDeferred
async def test_a_read_whose_connection_was_killed_is_run_again(postgres: dict[str, Any]) -> None:
    pool, killer = database(postgres), database(postgres)
    session = pool.session()
    ((before,),) = await session.query("SELECT pg_backend_pid()")
    await killed(postgres, killer.session())
    await pause(0.05)
    ((after,),) = await session.query("SELECT pg_backend_pid()")
    assert before != after
    running = defer.ensureDeferred(session.query("SELECT pg_sleep(0.3), 1"))
    await pause(0.1)
    await killed(postgres, killer.session())
    assert (await running)[0][1] == 1
    await finished(pool, killer)


@ensureDeferred
async def test_a_transaction_whose_connection_is_killed_leaves_nothing(postgres: dict[str, Any]) -> None:
    pool, killer = database(postgres), database(postgres)
    await pool.session().transaction(lambda s: s.query("CREATE TABLE IF NOT EXISTS half (n int); TRUNCATE half"))

    async def work(session: Session) -> None:
        await session.query("INSERT INTO half VALUES (1)")
        await killed(postgres, killer.session())
        await session.query("INSERT INTO half VALUES (2)")

    with pytest.raises(ServiceUnavailable):
        await pool.session().transaction(work)
    assert await pool.session().query("SELECT * FROM half") == []
    await finished(pool, killer)


@ensureDeferred
async def test_transactions_that_deadlock_both_succeed(postgres: dict[str, Any]) -> None:
    pool = database(postgres)
    await pool.session().transaction(
        lambda s: s.query(
            "DROP TABLE IF EXISTS pair; CREATE TABLE pair (k int PRIMARY KEY, n int); INSERT INTO pair VALUES (1,0),(2,0)"
        )
    )

    def work(order: tuple[int, int]) -> Any:
        async def run(session: Session) -> None:
            for key in order:
                await session.query("UPDATE pair SET n = n + 1 WHERE k = %s", (key,))
                await pause(0.2)

        return defer.ensureDeferred(pool.session().transaction(run))

    await defer.gatherResults([work((1, 2)), work((2, 1))])
    assert await pool.session().query("SELECT n FROM pair") == [(2,), (2,)]
    await finished(pool)


@ensureDeferred
async def test_a_transaction_hears_what_it_has_changed_before_it_answers(client: Any) -> None:
    project = client.backend.projects.get(client.project)
    before = await project.snapshot()
    await project.database.session().transaction(
        lambda s: s.query("UPDATE directus_settings SET value = 'heard' WHERE key = 'project_name'")
    )
    assert project.current() is None
    after = await project.snapshot()
    assert after.version > before.version
    assert after.setting("project_name") == "heard"


@ensureDeferred
async def test_many_pools_share_few_connections(postgres: dict[str, Any]) -> None:
    budget = ConnectionBudget(reactor, 5)
    pools = [Database(reactor, budget, postgres, pool_size=3) for _ in range(20)]
    most = 0

    async def ask(pool: Database) -> None:
        nonlocal most
        await pool.session().query("SELECT pg_sleep(0.01)")
        most = max(most, budget.open)

    await defer.gatherResults([defer.ensureDeferred(ask(pool)) for pool in pools * 5])
    assert 1 <= most <= 5
    assert sum(pool.size for pool in pools) == budget.open
    await finished(*pools)


@ensureDeferred
async def test_a_busy_pool_does_not_starve_another(postgres: dict[str, Any]) -> None:
    budget = ConnectionBudget(reactor, 4)
    busy, quiet = Database(reactor, budget, postgres), Database(reactor, budget, postgres)
    load = [defer.ensureDeferred(busy.session().query("SELECT pg_sleep(0.05)")) for _ in range(80)]
    await pause(0.1)
    started = time.monotonic()
    await quiet.session().query("SELECT 1")
    waited = time.monotonic() - started
    assert sum(not each.called for each in load) > 20, "the busy pool had nothing left to do"
    assert waited < 0.5
    await defer.gatherResults(load)
    await finished(busy, quiet)


@ensureDeferred
async def test_the_queue_has_an_end_and_a_patience(postgres: dict[str, Any]) -> None:
    pool = database(postgres, pool_size=1, queue_size=2, queue_timeout=0.2)
    running = defer.ensureDeferred(pool.session().query("SELECT pg_sleep(0.6)"))
    await pause(0.1)
    waiting = [defer.ensureDeferred(pool.session().query("SELECT 1")) for _ in range(2)]
    with pytest.raises(ServiceUnavailable, match="Too many"):
        await pool.session().query("SELECT 1")
    for each in waiting:
        with pytest.raises(ServiceUnavailable, match="queue_timeout"):
            await each
    await running
    assert await pool.session().query("SELECT 1") == [(1,)]
    await finished(pool)


@ensureDeferred
async def test_a_statement_that_takes_too_long_is_ended(postgres: dict[str, Any]) -> None:
    pool = database(postgres, statement_timeout=0.2)
    with pytest.raises(ServiceUnavailable, match="statement_timeout"):
        await pool.session().query("SELECT pg_sleep(5)")
    assert await pool.session().query("SELECT 1") == [(1,)]
    await finished(pool)


@ensureDeferred
async def test_a_database_that_is_down_is_said_to_be_at_once(postgres: dict[str, Any]) -> None:
    pool = database({**postgres, "host": "/nowhere"})
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            await pool.session().query("SELECT 1")
    assert time.monotonic() - started < 1
    assert pool.size == pool.budget.open == 0
    await finished(pool)


@ensureDeferred
async def test_percent_signs_in_names_are_names_with_and_without_parameters(postgres: dict[str, Any]) -> None:
    pool = database(postgres)
    name = 'a%b%s"c'
    select = SQL("SELECT {0} FROM (SELECT 1 AS {0}) AS t").format(Identifier(name))
    assert await pool.session().query(select) == [(1,)]
    where = SQL("SELECT {0} FROM (SELECT 1 AS {0}) AS t WHERE {0} = %s").format(Identifier(name))
    assert await pool.session().query(where, (1,)) == [(1,)]
    await finished(pool)
