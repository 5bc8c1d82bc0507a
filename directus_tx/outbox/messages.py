"""Messages, and writing them to the outbox."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

from directus_tx.context import Context
from directus_tx.db.pool import OUTBOX

CHUNK = 1000
CHUNK_SIZE = 4 * 2**20
"""The maximum number of messages of a statement, and the size of their payloads, in characters. A single payload can be larger."""


@frozen
class Message:
    """A message to be delivered.

    `kind` names the `Kind` that delivers it. `payload` is JSON and holds what the kind needs. `destination` is the receiver whose messages
    share a limit of concurrent deliveries, for example "https://example.com:443". `subject` is what the message belongs to, for
    example "webhook:3"; the deliveries of a subject can be listed. Messages to one destination with the same `sequence` are delivered in
    the order in which they were written, unless one has to be retried. `erased`: the payload is removed from the outbox after the delivery.
    """

    kind: str
    destination: str
    payload: Mapping[str, Any]
    subject: str = ""
    sequence: str = ""
    erased: bool = False


# The messages are one JSON document, because a driver and a parser that see a value for each column of each row take twice as long.
_INSERT = """
INSERT INTO directus_outbox (message_id, kind, destination, subject, sequence, payload, erased, created_on, next_attempt)
SELECT message_id, kind, destination, subject, sequence, payload, erased, %(now)s, clock_timestamp()
FROM json_to_recordset(%(messages)s) AS m(
    message_id uuid, kind text, destination text, subject text, sequence text, payload text, erased boolean
)"""


async def enqueue(ctx: Context, messages: Sequence[Message]) -> None:
    """Writes messages to the outbox, in order. *ctx* must be in a transaction; the messages are delivered after its commit. The last ones
    are sent with COMMIT."""
    assert ctx.db.in_transaction
    if not messages:
        return
    ctx.db.announce(OUTBOX)
    rows: list[dict[str, Any]] = []
    size = 0
    async for message in ctx.in_slices(messages):
        row = _row(message)
        if rows and (len(rows) == CHUNK or size + len(row["payload"]) > CHUNK_SIZE):
            await ctx.db.query(_INSERT, _parameters(ctx, rows))
            rows, size = [], 0
        rows.append(row)
        size += len(row["payload"])
    await ctx.db.query_at_commit(_INSERT, _parameters(ctx, rows))


def _parameters(ctx: Context, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"now": ctx.now, "messages": orjson.dumps(rows).decode()}


def _row(message: Message) -> dict[str, Any]:
    return {
        "message_id": str(uuid.uuid4()),
        "kind": message.kind,
        "destination": message.destination,
        "subject": message.subject,
        "sequence": message.sequence,
        "payload": orjson.dumps(message.payload, default=str).decode(),
        "erased": message.erased,
    }
