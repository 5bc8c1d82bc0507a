"""Activity and revisions: what was done to which item, by whom, and what the item looked like afterwards."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import evolve, frozen

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


@frozen
class RevisionForm:
    """How revisions show the rows of a collection: the names of the columns, and the functions that convert the values of some of them."""

    names: Mapping[str, None]
    casts: tuple[tuple[str, Callable[[Any], Any]], ...]

    def row(self, row: Row) -> Item:
        """Returns a stored row."""
        found = {name: row[name] for name in self.names}
        for name, cast in self.casts:
            found[name] = cast(found[name])
        return found


def revision_form(collection: Collection, *, whole: bool = False) -> RevisionForm:
    """Returns the form of the revisions of a collection: numbers are text; booleans, json and arrays are decoded. Passwords, hashes and
    tokens are left out unless *whole*."""
    names = collection.columns if whole else logged(collection, collection.columns)
    casts = [(name, in_history(field)) for name, field in names.items()]
    return RevisionForm(dict.fromkeys(names), tuple((name, cast) for name, cast in casts if cast is not None))


def record_of(event: Event, form: RevisionForm, created_as: str = "create") -> Record:
    """Returns the record of an event. *form* is that of its collection, *created_as* the name of a creation. A deletion has no revision;
    the revision of a revert has the row as data and as delta."""
    name, key = event.collection.collection, str(event.key)
    if event.after is None:
        return Record(event.action, name, key)
    data = form.row(event.after)
    if event.action == "revert":
        return Record(event.action, name, key, data, data, event.parent)
    action = created_as if event.action == "create" else event.action
    return Record(action, name, key, data, {n: v for n, v in event.payload.items() if n in form.names}, event.parent)


@frozen
class Extra:
    """What the revision of an item has in addition to its fields, under a `name`: `data` is all that is stored, `delta` what of it has been
    changed."""

    name: str
    data: Mapping[str, Any]
    delta: Mapping[str, Any]


def with_extras(records: Sequence[Record], extras: Mapping[tuple[str, Any], Extra]) -> Sequence[Record]:
    """Returns records with the *extras* of some items, by collection and key."""
    if not extras:
        return records
    found = {(collection, str(key)): each for (collection, key), each in extras.items()}

    def whole(each: Record) -> Record:
        more = found.get((each.collection, each.item))
        if more is None or each.data is None:
            return each
        delta = each.delta or {}
        return evolve(each, data={**each.data, more.name: more.data}, delta={**delta, more.name: more.delta})

    return [whole(each) for each in records]


def logged(collection: Collection, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the values without passwords, hashes and tokens."""
    secret = SECRETS.get(collection.collection, frozenset()) | collection.hashes
    if collection.collection == "directus_users":
        secret |= ACCOUNT_SECRETS
    return {n: v for n, v in values.items() if n not in secret} if secret else values


_ACTIVITY = """
INSERT INTO directus_activity (action, action_by, action_on, ip, user_agent, collection, item, comment)
VALUES (%(action)s, %(by)s, %(on)s, %(ip)s, %(user_agent)s, %(collection)s, %(item)s, %(comment)s)"""

# The two statements are sent together. PostgreSQL plans them faster than one statement with two INSERTs.
_ACTIVITY_AND_REVISION = f"""{_ACTIVITY};
INSERT INTO directus_revisions (activity, collection, item, data, delta, parent_collection, parent_item, parent_changed)
VALUES (currval(pg_get_serial_sequence('directus_activity', 'id')), %(collection)s, %(item)s, %(data)s, %(delta)s,
        %(parent_collection)s, %(parent_item)s, %(parent_changed)s)"""

# The records are one JSON document, because a driver and a parser that see a value for each column of each row take twice as long.
_MANY = """
WITH records AS MATERIALIZED (
    SELECT nextval((SELECT pg_get_serial_sequence('directus_activity', 'id'))) AS activity, r.*
    FROM json_to_recordset(%(records)s) AS r(
        action text, by bigint, other boolean, collection text, item text, data text, delta text,
        parent_collection text, parent_item text, parent_changed boolean
    )
), written AS (
    INSERT INTO directus_activity (id, action, action_by, action_on, ip, user_agent, collection, item, comment)
    SELECT activity, action, by, %(on)s, CASE WHEN other THEN '' ELSE %(ip)s END, CASE WHEN other THEN '' ELSE %(user_agent)s END,
           collection, item, %(comment)s
    FROM records
)
INSERT INTO directus_revisions (activity, collection, item, data, delta, parent_collection, parent_item, parent_changed)
SELECT activity, collection, item, data, delta, parent_collection, parent_item, parent_changed FROM records WHERE data IS NOT NULL"""


async def record(ctx: Context, records: Sequence[Record], comment: str | None = None) -> None:
    """Writes an activity row for each record, in order, and a revision for each record with data. The last ones are sent with COMMIT."""
    last = None
    for chunk in chunks(records):
        if last is not None:
            await ctx.db.query(*last)
        last = _statement(ctx, chunk, comment)
    if last is not None:
        await ctx.db.query_at_commit(*last)


async def record_activity(ctx: Context, one: Record, comment: str | None = None) -> int:
    """Writes an activity row, without a revision. Returns its id."""
    ((found,),) = await ctx.db.query(f"{_ACTIVITY} RETURNING id", _of_request(ctx, comment) | _columns(ctx, one))
    return int(found)


def _statement(ctx: Context, records: Sequence[Record], comment: str | None) -> tuple[str, Item]:
    """Returns the statement that writes records, and its parameters."""
    shared = _of_request(ctx, comment)
    if len(records) > 1:
        return _MANY, shared | {"records": _json([_columns(ctx, each) for each in records])}
    parameters = shared | _columns(ctx, records[0])
    if parameters["other"]:
        parameters["ip"] = parameters["user_agent"] = ""
    return _ACTIVITY if records[0].data is None else _ACTIVITY_AND_REVISION, parameters


def _of_request(ctx: Context, comment: str | None) -> Item:
    """Returns the columns that are the same in all records of a request."""
    who = ctx.accountability
    return {"on": ctx.now, "ip": _printable(who.ip, 50), "user_agent": _printable(who.user_agent, 255), "comment": comment}


def _columns(ctx: Context, each: Record) -> Item:
    """Returns the columns of a record."""
    user = ctx.accountability.user
    parent_collection, parent_item = each.parent or (None, None)
    return {
        "action": each.action,
        "by": each.by or user or 0,
        # The user named in a record can read it, and must not see the address of another user who performed the action.
        "other": each.by is not None and user not in (None, each.by),
        "collection": each.collection,
        "item": each.item,
        "data": None if each.data is None else _json(each.data),
        "delta": None if each.data is None else _json(each.delta or []),
        "parent_collection": parent_collection,
        "parent_item": parent_item,
        "parent_changed": each.parent is not None,
    }


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
