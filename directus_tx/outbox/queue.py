"""The queue of messages: claiming those that are due, and writing how their delivery ended.

All times are those of the database's clock, so processes with different clocks agree. A claim is a random value that is valid for a limited
time: if its process is killed, the message is due again when that time is over. Nothing holds a connection while messages are delivered.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome
from directus_tx.outbox.messages import Message

WINDOW = 200
"""The number of messages of one destination that a claim looks at. Messages behind them wait, for example if all of these belong to one
sequence, of which only the first can be delivered now."""

MAX_CLAIMED = 32 * 2**20
"""The maximum size of the payloads of one claim, in bytes. A single larger message is claimed alone."""

MAX_ANSWER = 1000
"""The maximum length of the answer and of the error that are kept of an attempt, in characters."""

LOST = "The process that was delivering the message ended."

# Without statistics of the table, which has none right after a burst, the planner takes most messages for claimed ones and reads the whole
# table. Index scans also mark entries of messages that have changed since, so that later scans pass over them; bitmap scans do not.
_BY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;"

# A loose scan: one index lookup for each destination that has messages to be delivered, however many these are.
_DESTINATIONS = """
destinations (destination) AS (
    (SELECT destination FROM directus_outbox WHERE state = 'pending' AND claim IS NULL ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (
        SELECT o.destination FROM directus_outbox AS o
        WHERE o.state = 'pending' AND o.claim IS NULL AND o.destination > d.destination ORDER BY o.destination LIMIT 1
    ) FROM destinations AS d WHERE d.destination IS NOT NULL
)"""

# Of each sequence, the first message that is due is a candidate, unless another one is being delivered. The statement locks only the
# candidates. If another process has locked one, the message behind it is not taken instead, so the order is kept.
_CLAIM = f"""{_BY_INDEX}
WITH RECURSIVE {_DESTINATIONS}, candidates AS (
    SELECT c.id, c.next_attempt, c.size
    FROM destinations AS d CROSS JOIN LATERAL (
        SELECT w.id, w.next_attempt, w.size
        FROM (
            SELECT o.id, o.next_attempt, o.sequence, octet_length(o.payload) AS size,
                   row_number() OVER (PARTITION BY o.sequence ORDER BY o.next_attempt, o.id) AS place
            FROM (
                SELECT id, next_attempt, sequence, payload FROM directus_outbox
                WHERE state = 'pending' AND claim IS NULL AND destination = d.destination
                  AND next_attempt <= statement_timestamp()
                ORDER BY next_attempt, id LIMIT {WINDOW}
            ) AS o
        ) AS w
        WHERE w.sequence = '' OR (
            w.place = 1 AND w.sequence <> ALL(ARRAY(SELECT sequence FROM directus_outbox WHERE claim IS NOT NULL))
        )
        ORDER BY w.next_attempt, w.id
        LIMIT greatest(coalesce((%(rooms)s::json ->> d.destination)::integer, %(room_of_each)s), 0)
    ) AS c
    WHERE d.destination <> ''
    ORDER BY c.next_attempt, c.id LIMIT %(room)s
), chosen AS MATERIALIZED (
    SELECT id FROM (
        SELECT id, sum(coalesce(size, 0)) OVER before AS sum, row_number() OVER before AS place FROM candidates
        WINDOW before AS (ORDER BY next_attempt, id)
    ) AS c WHERE sum <= {MAX_CLAIMED} OR place = 1
), locked AS MATERIALIZED (
    SELECT id FROM directus_outbox WHERE id = ANY(ARRAY(SELECT id FROM chosen)) AND state = 'pending' AND claim IS NULL
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE directus_outbox AS o
    SET claim = %(claim)s, attempts = attempts + 1,
        claimed_until = statement_timestamp()
            + make_interval(secs => coalesce((%(times)s::json ->> o.kind)::double precision, %(other_time)s))
    FROM locked WHERE o.id = locked.id
    RETURNING o.*
)
SELECT id, message_id::text, attempts, created_on, kind, destination, payload, subject, sequence, erased,
       (SELECT count(*) FROM candidates)
FROM claimed ORDER BY next_attempt, id"""

_SETTLE = f"""{_BY_INDEX}
WITH results AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(results)s) AS r(
        id bigint, claim uuid, state text, pause double precision, released boolean, since double precision, duration double precision,
        outcome text, status integer, answer text, error text
    )
), settled AS (
    UPDATE directus_outbox AS o
    SET claim = NULL, claimed_until = NULL, state = r.state, error = r.error,
        attempts = CASE WHEN r.released THEN attempts - 1 ELSE attempts END,
        next_attempt = CASE WHEN r.state = 'pending' THEN statement_timestamp() + make_interval(secs => r.pause) END,
        ended_on = CASE WHEN r.state <> 'pending' THEN statement_timestamp() END,
        payload = CASE WHEN o.erased AND r.state = 'delivered' THEN NULL ELSE o.payload END
    FROM results AS r WHERE o.id = r.id AND o.claim = r.claim
    RETURNING o.id
)
INSERT INTO directus_outbox_attempts (message, started_on, duration, outcome, status, answer, error)
SELECT r.id, statement_timestamp() - make_interval(secs => r.since), r.duration, r.outcome, r.status, r.answer, r.error
FROM results AS r JOIN settled USING (id) WHERE NOT r.released"""

# Claims that have run out. The message of the last attempt is dead.
_EXPIRE = f"""{_BY_INDEX}
UPDATE directus_outbox
SET claim = NULL, claimed_until = NULL, error = %(lost)s,
    state = CASE WHEN attempts >= %(most)s THEN 'dead' ELSE 'pending' END,
    next_attempt = CASE WHEN attempts >= %(most)s THEN NULL ELSE statement_timestamp() END,
    ended_on = CASE WHEN attempts >= %(most)s THEN statement_timestamp() END
WHERE id = ANY(ARRAY(
    SELECT id FROM directus_outbox WHERE claim IS NOT NULL AND claimed_until < statement_timestamp()
    FOR UPDATE SKIP LOCKED
))"""

NEXT_DUE = f"""
WITH RECURSIVE {_DESTINATIONS}
SELECT extract(epoch FROM least(
    (SELECT min(first.next_attempt) FROM destinations AS d CROSS JOIN LATERAL (
        SELECT o.next_attempt FROM directus_outbox AS o
        WHERE o.state = 'pending' AND o.claim IS NULL AND o.destination = d.destination
        ORDER BY o.next_attempt LIMIT 1
    ) AS first WHERE d.destination <> ALL(%(full)s)),
    (SELECT min(claimed_until) FROM directus_outbox WHERE claim IS NOT NULL)
) - statement_timestamp())::double precision"""
"""Returns the seconds until a message is due or a claim runs out, negative if that has been so for a while, or NULL if there is none.
Messages to the destinations in *full* do not count."""


@frozen
class Result:
    """The result of a delivery: the `attempt`, None if it was broken off because the server stops. `started` and `ended` are seconds of the
    monotonic clock. `pause`: seconds until the next attempt, None if there is none."""

    delivery: Delivery
    claim: uuid.UUID
    attempt: Attempt | None
    started: float
    ended: float
    pause: float | None = None

    @property
    def state(self) -> str:
        """The state of the message after the delivery."""
        if self.attempt is None or self.pause is not None:
            return "pending"
        return "dead" if self.attempt.outcome is Outcome.RETRY else self.attempt.outcome.value


@frozen
class Claimed:
    """The messages that were claimed. `complete`: no other process was claiming the same ones at the same time."""

    claim: uuid.UUID
    deliveries: Sequence[Delivery]
    complete: bool


async def claim(
    session: Session, *, room: int, room_of_each: int, rooms: Mapping[str, int], times: Mapping[str, float], other_time: float
) -> Claimed:
    """Claims messages that are due: at most *room*, and of each destination at most what *rooms* says, otherwise *room_of_each*. The
    claim of a message is valid for the seconds that *times* says for its kind, otherwise for *other_time*."""
    claim = uuid.uuid4()
    rows = await session.query(
        _CLAIM,
        {
            "room": room,
            "room_of_each": room_of_each,
            "rooms": orjson.dumps(rooms).decode(),
            "times": orjson.dumps(times).decode(),
            "other_time": other_time,
            "claim": str(claim),
        },
    )
    deliveries = [
        Delivery(
            id,
            uuid.UUID(message_id),
            attempts,
            created_on,
            Message(kind, destination, orjson.loads(payload or "{}"), subject, sequence, erased),
        )
        for id, message_id, attempts, created_on, kind, destination, payload, subject, sequence, erased, _ in rows
    ]
    return Claimed(claim, deliveries, complete=not rows or len(rows) == rows[0][-1])


async def settle(session: Session, results: Iterable[Result], now: float) -> None:
    """Writes results. *now* is the present time of the monotonic clock. Results whose claim has run out change nothing."""
    rows = [_row(result, now) for result in results]
    if rows:
        await session.query(_SETTLE, {"results": orjson.dumps(rows).decode()})


def _row(result: Result, now: float) -> dict[str, Any]:
    attempt = result.attempt
    return {
        "id": result.delivery.id,
        "claim": str(result.claim),
        "state": result.state,
        "pause": result.pause or 0.0,
        "released": attempt is None,
        "since": now - result.started,
        "duration": result.ended - result.started,
        "outcome": attempt and attempt.outcome.value,
        "status": attempt and attempt.status,
        "answer": attempt and _printable(attempt.answer),
        "error": attempt and (_printable(attempt.error) or None),
    }


def _printable(text: str) -> str:
    return text[:MAX_ANSWER].replace("\x00", "").encode("utf-8", "replace").decode()


async def expire(session: Session, most: int) -> None:
    """Makes messages due again whose claims have run out. Those that have had *most* attempts are dead."""
    await session.query(_EXPIRE, {"lost": LOST, "most": most})
