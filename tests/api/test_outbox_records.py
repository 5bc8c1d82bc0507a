"""Messages are counted in /server/info, retried and dropped, and delivered ones are removed after a time."""

import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from directus_tx.config import OutboxSettings
from directus_tx.db.session import Session
from directus_tx.jobs.outbox import outbox_job, remove_old
from directus_tx.outbox import records
from tests.api.outbox import rows
from tests.conftest import SUPER_ADMIN_TOKEN, Client

FILL = """
INSERT INTO directus_outbox
    (message_id, kind, destination, subject, sequence, payload, erased, created_on, state, next_attempt, attempts, ended_on, error)
SELECT gen_random_uuid(), 'test', 'https://receiver-' || n %% 10, 'subject', '', '{"n": 1}', FALSE, now(), %(state)s,
       CASE %(state)s WHEN 'pending' THEN now() + %(age)s::interval END, 3,
       CASE %(state)s WHEN 'pending' THEN NULL ELSE now() - %(age)s::interval END, %(error)s
FROM generate_series(1, %(number)s) AS n"""


async def fill(client: Client, state: str, number: int, age: str = "1 hour", error: str | None = None) -> None:
    values = {"state": state, "number": number, "age": age, "error": error}
    await session_of(client).transaction(lambda session: session.query(FILL, values))


def session_of(client: Client) -> Session:
    return Session(client.backend.projects.get(client.project).database)


async def states(client: Client) -> dict[str, int]:
    return dict(await rows(client, "SELECT state, count(*) FROM directus_outbox GROUP BY state"))


async def outbox_of(client: Client) -> Any:
    # The project is in use.
    await client.get("~/users/me")
    info = await client.get(f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)
    return info.data["outboxes"][client.project]


@pytest_twisted.ensureDeferred
async def test_the_server_says_how_many_messages_were_not_delivered_and_why_some_are_held(client: Client) -> None:
    assert await outbox_of(client) == {"pending": 0, "held": 0, "dead": 0, "held_because": None}
    for state, number, error in (
        ("pending", 3, None),
        ("delivered", 5, None),
        ("dead", 2, "refused"),
        ("held", 1, "There is no mail server."),
    ):
        await fill(client, state, number, error=error)
    claimed = "UPDATE directus_outbox SET claim = gen_random_uuid(), claimed_until = now() + interval '1 h' WHERE id = 1"
    await session_of(client).transaction(lambda session: session.query(claimed))
    assert await outbox_of(client) == {"pending": 3, "held": 1, "dead": 2, "held_because": "There is no mail server."}
    assert (await client.get("/health", token=None)).status == 200


@pytest_twisted.ensureDeferred
async def test_messages_are_counted_up_to_a_limit(client: Client) -> None:
    for state in ("pending", "dead", "held"):
        await fill(client, state, 20)
    counts = await records.count(session_of(client), most=7)
    assert (counts.pending, counts.dead, counts.held) == (7, 7, 7)


@pytest.mark.parametrize("state", records.STATES)
@pytest_twisted.ensureDeferred
async def test_only_the_messages_that_are_meant_are_retried_or_dropped(client: Client, state: str) -> None:
    for each in records.STATES:
        await fill(client, each, 2, error="refused")
    session = session_of(client)
    changed = "attempts = 0 AND error IS NULL AND next_attempt <= clock_timestamp() AND ended_on IS NULL"
    assert await records.retry(session, state=state) == 2
    assert await rows(client, f"SELECT count(*) FROM directus_outbox WHERE state = 'pending' AND {changed}") == [(2,)]
    for other in records.STATES:
        if other != state and other != "pending":
            assert (await states(client))[other] == 2
            assert await records.drop(session, state=other) == 2
    assert set(await states(client)) == {"pending"}


@pytest_twisted.ensureDeferred
async def test_messages_that_are_being_delivered_and_erased_ones_are_left_as_they_are(client: Client) -> None:
    await fill(client, "dead", 3)
    session = session_of(client)
    for change in (
        "UPDATE directus_outbox SET state = 'pending', claim = gen_random_uuid(), claimed_until = now() + interval '1 h' WHERE id = 1",
        "UPDATE directus_outbox SET payload = NULL, state = 'delivered' WHERE id = 2",
    ):
        await session.transaction(lambda inner, change=change: inner.query(change))  # type: ignore[misc]
    before = await rows(client, "SELECT * FROM directus_outbox WHERE id < 3 ORDER BY id")
    assert await records.retry(session, ids=[1, 2, 3]) == 1
    assert await rows(client, "SELECT * FROM directus_outbox WHERE id < 3 ORDER BY id") == before
    assert await records.drop(session, ids=[1, 2, 3]) == 2
    assert await rows(client, "SELECT id FROM directus_outbox") == [(1,)]


@pytest_twisted.ensureDeferred
async def test_old_delivered_messages_are_removed_with_their_attempts_and_nothing_else(client: Client) -> None:
    await fill(client, "delivered", 2501, age="8 days")
    await fill(client, "delivered", 3, age="6 days")
    for state in ("pending", "dead", "held"):
        await fill(client, state, 4, age="400 days")
    attempt = (
        "INSERT INTO directus_outbox_attempts (message, started_on, duration, outcome)"
        " SELECT id, now(), 0.1, 'delivered' FROM directus_outbox WHERE state <> 'pending'"
    )
    await session_of(client).transaction(lambda session: session.query(attempt))
    projects = client.backend.projects
    await client.get("~/users/me")
    assert await remove_old(reactor, projects, 7.0) == {client.project: 2501}
    assert await states(client) == {"delivered": 3, "pending": 4, "dead": 4, "held": 4}
    assert await rows(client, "SELECT count(*) FROM directus_outbox_attempts") == [(11,)]
    assert await remove_old(reactor, projects, 7.0) == {client.project: 0}
    assert await remove_old(reactor, projects, 5.5) == {client.project: 3}


@pytest_twisted.ensureDeferred
async def test_delivered_messages_are_kept_if_the_setting_is_0(client: Client) -> None:
    assert outbox_job(reactor, client.backend.projects, OutboxSettings(retention_days=0.0)) is None
    assert outbox_job(reactor, client.backend.projects, OutboxSettings()) is not None


@pytest_twisted.ensureDeferred
async def test_counting_and_removing_use_indexes_that_hold_nothing_else(client: Client) -> None:
    await fill(client, "delivered", 20_000, age="1 day")
    for state in ("pending", "dead", "held"):
        await fill(client, state, 20, age="1 day")
    session = session_of(client)
    await session.query("ANALYZE directus_outbox")
    for statement, indexes in (
        (records.COUNT, {"due", "claimed", "kept"}),
        (records.REMOVE_DELIVERED, {"delivered", "pkey"}),
    ):
        found = await session.query(f"EXPLAIN {statement}", {"most": 100_000, "seconds": 7 * 86400.0, "limit": 1000})
        plan = "\n".join(row[0] for row in found)
        assert "Seq Scan" not in plan, plan
        assert set(re.findall(r"(?:using|Index Scan on) directus_outbox_(\w+)", plan)) == indexes, plan
