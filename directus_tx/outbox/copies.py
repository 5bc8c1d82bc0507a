"""Messages with mostly the same payload: written as one row, which becomes a row for each of them when it is due.

So a write with many webhooks takes little longer than one with a single webhook. A process divides rows only if it has room for deliveries,
one process at a time, in the order in which the rows were written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from directus_tx.db.session import Session
from directus_tx.outbox.messages import Message

KIND = "copies"
NOWHERE = ""
"""The kind and the destination of rows that are to be divided. Nothing claims messages to this destination."""

DIVIDING_LOCK = 0x64697265_63747575
"""The key of the advisory lock of the process that divides rows."""

MOST = 20
"""The number of rows that are divided at once."""

_DIVIDE = """
WITH gone AS (
    DELETE FROM directus_outbox
    WHERE (SELECT pg_try_advisory_xact_lock(%(lock)s)) AND id = ANY(ARRAY(
        SELECT id FROM directus_outbox
        WHERE state = 'pending' AND claim IS NULL AND destination = %(nowhere)s AND kind = %(kind)s
          AND next_attempt <= statement_timestamp()
        ORDER BY next_attempt, id LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, payload::json AS payload, created_on, next_attempt
), made AS (
    INSERT INTO directus_outbox (message_id, kind, destination, subject, sequence, payload, erased, created_on, next_attempt)
    SELECT gen_random_uuid(), c.kind, c.destination, c.subject, c.sequence,
           left(c.own::text, -1) || ',' || substr((g.payload -> 'shared')::text, 2), FALSE, g.created_on, g.next_attempt
    FROM gone AS g CROSS JOIN LATERAL json_to_recordset(g.payload -> 'copies') AS c(
        kind text, destination text, subject text, sequence text, own json
    )
    ORDER BY g.next_attempt, g.id
    RETURNING 1
)
SELECT count(*) FROM made"""


@frozen
class Copy:
    """One of several messages. `own` are the properties that its payload has beside the shared ones; the other attributes are those of
    `Message`."""

    kind: str
    destination: str
    own: Mapping[str, Any]
    subject: str = ""
    sequence: str = ""


def together(shared: Mapping[str, Any], copies: Sequence[Copy]) -> Message:
    """Returns the message for several copies, whose payloads have the properties *shared*, of which there is at least one."""
    if len(copies) == 1:
        (one,) = copies
        return Message(one.kind, one.destination, {**one.own, **shared}, one.subject, one.sequence)
    return Message(KIND, NOWHERE, {"shared": shared, "copies": [asdict(each) for each in copies]})


async def divide(session: Session) -> int:
    """Makes messages of the oldest rows that are to be divided, and returns their number. 0 while another process does this."""
    parameters = {"lock": DIVIDING_LOCK, "nowhere": NOWHERE, "kind": KIND, "most": MOST}
    ((number,),) = await session.query(_DIVIDE, parameters)
    return int(number)
