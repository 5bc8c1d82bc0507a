"""Looking into the outbox: which messages it has, what became of them, delivering them again, and removing them."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.db.connection import Connection
from directus_tx.db.session import Session

STATES = ("pending", "delivered", "dead", "held")
"""The states of messages: waiting or being delivered; delivered; not to be tried again; not deliverable with the present settings."""

MOST_COUNTED = 100_000
"""The number up to which messages are counted, so that a backlog does not make counting slow."""

Record = Mapping[str, Any]
"""A message without its payload, or an attempt. Times are aware."""

_COLUMNS = ("id", "message_id", "kind", "destination", "subject", "state", "created_on", "next_attempt", "ended_on", "error")
_ATTEMPT_COLUMNS = ("started_on", "duration", "outcome", "status", "answer", "error")
_ABOUT = ("event", "collection", "item")
"""Properties of payloads that say what a message is about."""

_CHOSEN = """
WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s)) AND (%(subject)s::text IS NULL OR subject = %(subject)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s) AND (%(state)s::text IS NULL OR state = %(state)s)"""


def _chosen(ids: Sequence[int] | None, subject: str | None, kind: str | None, state: str | None) -> dict[str, Any]:
    return {"ids": None if ids is None else list(ids), "subject": subject, "kind": kind, "state": state}


async def read(
    session: Session,
    *,
    ids: Sequence[int] | None = None,
    subject: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[Record]:
    """Returns messages, the newest first, each with `attempts`, the oldest first, and with the properties of its payload that say what it
    is about, None if it has none. A parameter that is None matches all."""
    columns = ", ".join(f"m.{name}" for name in _COLUMNS)
    about = ", ".join(f"m.payload::json ->> '{name}'" for name in _ABOUT)
    rows = await session.query(
        f"SELECT {columns}, {about} FROM (SELECT * FROM directus_outbox {_CHOSEN} ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s) AS m"
        " ORDER BY m.id DESC",
        _chosen(ids, subject, kind, state) | {"limit": limit, "offset": offset},
    )
    attempts = await _attempts(session, [row[0] for row in rows])
    return [dict(zip((*_COLUMNS, *_ABOUT), row, strict=True)) | {"attempts": attempts.get(row[0], [])} for row in rows]


async def _attempts(session: Session, messages: Sequence[int]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    if messages:
        rows = await session.query(
            f"SELECT message, {', '.join(_ATTEMPT_COLUMNS)} FROM directus_outbox_attempts WHERE message = ANY(%s) ORDER BY id",
            (list(messages),),
        )
        for message, *values in rows:
            found.setdefault(message, []).append(dict(zip(_ATTEMPT_COLUMNS, values, strict=True)))
    return found


async def retry(
    session: Session,
    *,
    ids: Sequence[int] | None = None,
    subject: str | None = None,
    kind: str | None = None,
    state: str | None = None,
) -> int:
    """Makes messages due now, whatever their state is, with all attempts before them, and returns their number. Messages that are being
    delivered, and those whose payload was erased, are left as they are."""

    return await _changed(
        session,
        "WITH due AS (UPDATE directus_outbox"
        " SET state = 'pending', next_attempt = clock_timestamp(), attempts = 0, ended_on = NULL, error = NULL"
        f" {_CHOSEN} AND claim IS NULL AND payload IS NOT NULL RETURNING id)"
        " SELECT count(*), directus_wake_outbox() FROM due",
        _chosen(ids, subject, kind, state),
    )


async def hold(connection: Connection, why: str) -> int:
    """Holds the messages of a database that nobody uses yet and that wait or were being delivered when it was copied, and returns their
    number. *why* is their error. Does nothing in a database of a version without an outbox."""
    ((has_outbox,),) = await connection.query("SELECT to_regclass('directus_outbox') IS NOT NULL")
    if not has_outbox:
        return 0
    held = await connection.query(
        "UPDATE directus_outbox SET state = 'held', error = %s, claim = NULL, claimed_until = NULL, next_attempt = NULL,"
        " ended_on = statement_timestamp() WHERE state = 'pending' RETURNING id",
        (why,),
    )
    return len(held)


async def drop(
    session: Session,
    *,
    ids: Sequence[int] | None = None,
    subject: str | None = None,
    kind: str | None = None,
    state: str | None = None,
) -> int:
    """Removes messages with their attempts, and returns their number. Messages that are being delivered are left as they are."""

    return await _changed(
        session,
        f"WITH gone AS (DELETE FROM directus_outbox {_CHOSEN} AND claim IS NULL RETURNING id) SELECT count(*) FROM gone",
        _chosen(ids, subject, kind, state),
    )


async def _changed(session: Session, statement: str, parameters: Mapping[str, Any]) -> int:
    """Runs a statement in a transaction and returns the number in the first column of its only row."""

    async def work(session: Session) -> int:
        (row,) = await session.query(statement, parameters)
        return int(row[0])

    return await session.transaction(work)


REMOVE_DELIVERED = """
WITH gone AS (
    DELETE FROM directus_outbox WHERE id = ANY(ARRAY(
        SELECT id FROM directus_outbox WHERE state = 'delivered' AND ended_on < statement_timestamp() - make_interval(secs => %(seconds)s)
        ORDER BY ended_on LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING id
)
SELECT count(*) FROM gone"""


async def remove_delivered(session: Session, days: float, limit: int) -> int:
    """Removes up to *limit* messages that were delivered more than *days* ago, with their attempts, and returns their number. Times are
    those of the database's clock."""

    return await _changed(session, REMOVE_DELIVERED, {"seconds": days * 86400.0, "limit": limit})


# Each part has an index that holds only what is counted.
COUNT = """
SELECT (SELECT count(*) FROM (SELECT FROM directus_outbox WHERE state = 'pending' AND claim IS NULL LIMIT %(most)s) AS found)
       + (SELECT count(*) FROM directus_outbox WHERE claim IS NOT NULL),
       (SELECT count(*) FROM (SELECT FROM directus_outbox WHERE state = 'held' LIMIT %(most)s) AS found),
       (SELECT count(*) FROM (SELECT FROM directus_outbox WHERE state = 'dead' LIMIT %(most)s) AS found),
       (SELECT error FROM directus_outbox WHERE state = 'held' ORDER BY id DESC LIMIT 1)"""


@frozen
class Counts:
    """The numbers of messages that have not been delivered, in each state, and the error of the newest one that is held."""

    pending: int
    held: int
    dead: int
    held_because: str | None


async def count(session: Session, most: int = MOST_COUNTED) -> Counts:
    """Counts the messages that have not been delivered. Each state is counted up to *most*."""
    ((pending, held, dead, reason),) = await session.query(COUNT, {"most": most})
    return Counts(min(pending, most), held, dead, reason)
