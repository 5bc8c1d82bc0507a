"""Activity and revisions: what was done to which item, by whom, and what the item looked like afterwards."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

from directus_tx.access.grant import ACCOUNT_SECRETS, SECRETS
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.db.sql import SQL
from directus_tx.items.changes import Event, Parent, Row
from directus_tx.schema.model import Collection
from directus_tx.schema.showing import in_history

CHUNK = 500
"""Rows for each statement of a batch."""


@frozen
class Record:
    """A record of the activity: one action on one item. `data` is the row of the item after it and `delta` the payload, for the
    revision; without `data` there is no revision. `parent` is the item whose one-to-many field the item was written through."""

    action: str
    collection: str
    item: str
    data: Mapping[str, Any] | None = None
    delta: Mapping[str, Any] | None = None
    parent: Parent | None = None
    by: int | None = None
    """The user who performed the action, if it is not the caller."""


def record_of(event: Event) -> Record:
    """Returns the record of an event. A deletion has no revision; the revision of a revert has the row as data and as delta."""
    collection = event.collection
    name, key = collection.collection, str(event.key)
    if event.after is None:
        return Record(event.action, name, key)
    data = logged(collection, history_row(collection, event.after))
    if event.action == "revert":
        return Record(event.action, name, key, data, data, event.parent)
    delta = {n: v for n, v in event.payload.items() if n in collection.columns}
    return Record(event.action, name, key, data, logged(collection, delta), event.parent)


def history_row(collection: Collection, row: Row) -> Item:
    """Returns a row in the form of revisions: numbers as text; booleans, json and arrays decoded."""
    return {name: in_history(field, row[name]) for name, field in collection.columns.items()}


def logged(collection: Collection, values: Mapping[str, Any]) -> Item:
    """Returns the values without passwords, hashes and tokens."""
    secret = SECRETS.get(collection.collection, frozenset())
    if collection.collection == "directus_users":
        secret |= ACCOUNT_SECRETS
    fields = collection.fields
    return {n: v for n, v in values.items() if n not in secret and not (n in fields and fields[n].type == "hash")}


async def record(ctx: Context, records: Sequence[Record], comment: str | None = None) -> list[int]:
    """Writes an activity row for each record, in order, and a revision for each record with data. Returns the ids of the activity rows."""
    ids: list[int] = []
    who = ctx.accountability
    for chunk in chunks(records):
        rows: list[Any] = []
        for each in chunk:
            # The user named in a record can read it, and must not see the address of another user who performed the action.
            other = each.by is not None and who.user not in (None, each.by)
            rows += [
                each.action,
                each.by or who.user or 0,
                ctx.now,
                "" if other else _printable(who.ip, 50),
                "" if other else _printable(who.user_agent, 255),
                each.collection,
                each.item,
                comment,
            ]
        written = await ctx.db.query(
            SQL(
                "INSERT INTO directus_activity (action, action_by, action_on, ip, user_agent, collection, item, comment)"
                " VALUES {} RETURNING id"
            ).format(values(len(chunk), 8)),
            rows,
        )
        ids += [row[0] for row in written]
        revised = [(activity, each) for (activity,), each in zip(written, chunk, strict=True) if each.data is not None]
        if not revised:
            continue
        rows = []
        for activity, each in revised:
            parent_collection, parent_item = each.parent or (None, None)
            rows += [activity, each.collection, each.item, _json(each.data), _json(each.delta or [])]
            rows += [parent_collection, parent_item, each.parent is not None]
        await ctx.db.query(
            SQL(
                "INSERT INTO directus_revisions"
                " (activity, collection, item, data, delta, parent_collection, parent_item, parent_changed) VALUES {}"
            ).format(values(len(revised), 8)),
            rows,
        )
    return ids


def chunks(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Yields the rows in pieces of at most CHUNK."""
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def values(rows: int, columns: int) -> SQL:
    """Returns the placeholders of a VALUES list."""
    row = f"({', '.join(['%s'] * columns)})"
    return SQL(", ".join([row] * rows))


def _printable(text: str, length: int) -> str:
    return text.replace("\x00", "")[:length]


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
