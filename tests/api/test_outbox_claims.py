"""Claiming takes a few index lookups, however many messages wait."""

import json
import uuid
from typing import Any

import pytest
import pytest_twisted

from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome
from directus_tx.outbox.messages import Message
from directus_tx.outbox.queue import NEXT_DUE, Result, claim, expire, settle
from tests.conftest import Client

DESTINATIONS = 50
BACKLOG = 100_000

FILL = f"""
INSERT INTO directus_outbox
    (message_id, kind, destination, subject, sequence, payload, erased, created_on, state, next_attempt, attempts, ended_on)
SELECT gen_random_uuid(), 'test', CASE WHEN n <= {BACKLOG} THEN 'hanging' ELSE 'receiver-' || n %% {DESTINATIONS} END, '', 's' || n %% 5000,
       '{{"n": 1}}', FALSE, now(), 'pending', now() - interval '1 hour' + n * interval '1 ms', 0, NULL
FROM generate_series(1, {BACKLOG} + {DESTINATIONS}) AS n"""


class Recorder:
    """Stands in for a session: records the statements, and finds nothing."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []

    async def query(self, statement: str, parameters: Any = ()) -> list[Any]:
        self.statements.append((statement, parameters))
        return []


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for each in plan.get("Plans", ()) for node in nodes(each))]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_backlog_of_a_receiver_does_not_make_claims_slow(client: Client, analyzed: bool) -> None:
    session = Session(client.backend.projects.get(client.project).database)
    await session.transaction(lambda inner: inner.query(FILL))
    if analyzed:
        await session.query("ANALYZE directus_outbox")
    for rooms, claimed in (({"hanging": 0}, DESTINATIONS), ({"hanging": 1}, DESTINATIONS + 1), ({}, DESTINATIONS + 8)):
        plans = await session.transaction(lambda inner, rooms=rooms: explain(inner, rooms))  # type: ignore[misc]
        assert plans[-2]["Actual Rows"] == claimed
        for plan in plans:
            used = [node for node in nodes(plan) if node.get("Relation Name")]
            assert {node["Node Type"] for node in used} <= {"Index Scan", "Index Only Scan", "ModifyTable", "LockRows"}, plan
            assert max(node["Actual Rows"] for node in used) <= 200, plan
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 5000, plan


async def explain(session: Session, rooms: dict[str, int]) -> list[dict[str, Any]]:
    """Returns the plans of the statements that a look into the outbox takes, for the messages that all cases find."""
    found = []
    recorder: Any = Recorder()
    await expire(recorder, 12)
    await claim(recorder, room=100, room_of_each=8, rooms=rooms, times={"test": 10.0}, other_time=5.0)
    message = Message("test", "hanging", {})
    delivery = Delivery(7, uuid.uuid4(), 1, current_time(), message)
    await settle(recorder, [Result(delivery, uuid.uuid4(), Attempt(Outcome.DELIVERED), 0.0, 0.1)] * 100, 1.0)
    for statement, parameters in [(NEXT_DUE, {"full": []}), *recorder.statements]:
        settings, _, query = statement.rpartition(";")
        ((plan,),) = await session.query(f"{settings};EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", parameters)
        found.append((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    await session.query("UPDATE directus_outbox SET claim = NULL, claimed_until = NULL, attempts = 0 WHERE claim IS NOT NULL")
    return found
