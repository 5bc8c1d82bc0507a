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
from directus_tx.schema.types import in_history

CHUNK = 500
"""Rows a statement: a batch of thousands neither makes one giant statement nor thousands of small ones."""


@frozen
class Record:
    """A row of the activity: one thing done to one item. `data` is the item's row afterwards and `delta` what was sent, for a
    revision; without `data` there is none. `parent` is the item through which it was written."""

    action: str
    collection: str
    item: str
    data: Mapping[str, Any] | None = None
    delta: Mapping[str, Any] | None = None
    parent: Parent | None = None
    by: int | None = None
    """The user who did it, where that is not the caller."""


def record_of(event: Event) -> Record:
    """What the history keeps of an event: of a deletion no revision; of a reverted item its row twice, as clients expect."""
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
    """A row in the form that revisions keep: numbers as text; booleans, json and arrays decoded."""
    return {name: in_history(field, row[name]) for name, field in collection.columns.items()}


def logged(collection: Collection, values: Mapping[str, Any]) -> Item:
    """The values without those that the history must not hold: passwords, hashes, tokens."""
    secret = SECRETS.get(collection.collection, frozenset())
    if collection.collection == "directus_users":
        secret |= ACCOUNT_SECRETS
    fields = collection.fields
    return {n: v for n, v in values.items() if n not in secret and not (n in fields and fields[n].type == "hash")}


async def record(ctx: Context, records: Sequence[Record], comment: str | None = None) -> list[int]:
    """Writes activity rows, in the order of *records*, and a revision for each that has data. Gives the ids of the activity."""
    ids: list[int] = []
    who = ctx.accountability
    for chunk in chunks(records):
        rows: list[Any] = []
        for each in chunk:
            # Records are shown to whom they name: not with the address of another user who did it.
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
    """The rows in pieces of at most CHUNK."""
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def values(rows: int, columns: int) -> SQL:
    """The placeholders of that many rows."""
    row = f"({', '.join(['%s'] * columns)})"
    return SQL(", ".join([row] * rows))


def _printable(text: str, length: int) -> str:
    return text.replace("\x00", "")[:length]


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
