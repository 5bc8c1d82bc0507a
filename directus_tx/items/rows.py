"""The statements that write rows, a few for many rows."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from attrs import frozen

from directus_tx.access import Access, Grant, access_of
from directus_tx.access.refusals import undeletable
from directus_tx.access.view import not_deleted
from directus_tx.compile.operators import base_column, comparison_type, key_among
from directus_tx.compile.plan import Item, keep_plan
from directus_tx.compile.statements import array
from directus_tx.context import Context
from directus_tx.db.session import RunAgain
from directus_tx.db.sql import SQL, TRUE, Clause, Composable, Identifier, all_of, column, constant
from directus_tx.errors import ApiError, InvalidRequest, ItemChanged, NotUnique
from directus_tx.items import counters, values
from directus_tx.items.changes import Key, Row
from directus_tx.items.history import chunks
from directus_tx.items.read import stored_key, version_of
from directus_tx.schema.datatypes import family
from directus_tx.schema.ddl import type_name
from directus_tx.schema.model import Collection, Field, Snapshot
from directus_tx.schema.showing import needs_exact_text
from directus_tx.schema.tables import PLAIN

MANY = 1000
"""Rows that are locked by one statement. More take a cursor, which locks them in the same order."""


@frozen
class Locked:
    """A row locked for writing: its values, and whether the caller's levels allow updating and deleting it as it is stored."""

    row: Row
    update: bool
    delete: bool


@frozen
class Written:
    """The rows that a statement has written, as stored then. `settled`: no trigger or rule that runs later, except at the commit, can have
    changed them since."""

    rows: list[Row]
    settled: bool


@frozen
class _Writing:
    """The text of an INSERT or UPDATE before and after its list of values, with the placeholders of a row."""

    before: str
    values: str
    after: str

    @property
    def weight(self) -> int:
        """The approximate size in bytes."""
        return 300 + len(self.before) + len(self.values) + len(self.after)

    def text(self, rows: int) -> str:
        """Returns the text for a number of rows."""
        return self.before + ", ".join([self.values] * rows) + self.after


@frozen
class _Locking:
    """A SELECT that locks rows by key: the binds of its conditions before and after the keys."""

    text: str
    before: Clause
    after: Clause


async def insert_rows(ctx: Context, collection: Collection, rows: Sequence[Mapping[str, Any]]) -> Written:
    """Inserts rows in a few statements and returns them as stored, in the same order. Rows with a key are inserted first, so that
    automatic keys follow them."""
    key = collection.primary_key
    if not key.auto_increment:
        return await _insert(ctx, collection, rows)
    keyed = [place for place, row in enumerate(rows) if row.get(key.field, values.DEFAULT) is not values.DEFAULT]
    counted = sorted(set(range(len(rows))).difference(keyed))
    written: dict[int, Row] = {}
    settled = True
    if keyed:
        found = await _insert(ctx, collection, [rows[place] for place in keyed])
        written |= zip(keyed, found.rows, strict=True)
        settled = found.settled
        await counters.count_on_after(ctx.db, collection, [written[place][key.field] for place in keyed])
    if counted:
        try:
            found = await _insert(ctx, collection, [rows[place] for place in counted])
        except NotUnique as error:
            if counters.is_about_key(error, collection):
                raise RunAgain(error, lambda session: counters.skip_taken_keys(session, collection, len(counted))) from error
            raise
        written |= zip(counted, found.rows, strict=True)
        settled = settled and found.settled
    return Written([written[place] for place in range(len(rows))], settled)


async def _insert(ctx: Context, collection: Collection, rows: Sequence[Mapping[str, Any]]) -> Written:
    written: list[Row] = []
    settled = True
    for chunk in chunks(rows):
        names = tuple(dict.fromkeys(name for row in chunk for name in row)) or (collection.primary_key.field,)
        given = [[row.get(name, values.DEFAULT) for name in names] for row in chunk]
        make = partial(_insertion, ctx.schema, collection, names)
        insert = keep_plan(access_of(ctx), ("insert", collection.collection, names), make)
        if any(value is values.DEFAULT for row in given for value in row):
            places = ["(" + ", ".join(["DEFAULT" if value is values.DEFAULT else "%s" for value in row]) + ")" for row in given]
            text = insert.before + ", ".join(places) + insert.after
        else:
            text = insert.text(len(given))
        bound = [value for row in given for value in row if value is not values.DEFAULT]
        lines = await ctx.db.query(text, bound)
        stored = _rows(collection, lines)
        if len(stored) < len(chunk) or any(row[collection.primary_key.field] is None for row in stored):
            raise InvalidRequest(f'A trigger of "{collection.collection}" has not stored the item, or has not returned its key.')
        written += stored
        settled = settled and lines[0][-1] is True
    return Written(written, settled)


def _insertion(schema: Snapshot, collection: Collection, names: Sequence[str]) -> _Writing:
    before = SQL("INSERT INTO {} AS t ({}) VALUES ").format(
        Identifier(*collection.table), SQL(", ").join([Identifier(name) for name in names])
    )
    return _Writing(_text(before), f"({', '.join(['%s'] * len(names))})", _text(_returning(schema, collection)))


def _returning(schema: Snapshot, collection: Collection) -> Composable:
    """Returns the clause that returns the stored rows, and whether they are settled. Unless the database notifies of changes of tables,
    PostgreSQL looks whether the table is plain, which takes as long as writing a row."""
    if schema.notified:
        settled: Composable = SQL("TRUE" if collection.plain else "FALSE")
    else:
        table = _text(Identifier(*collection.table)).replace("\\", "\\\\").replace("'", "''")
        settled = SQL(f"(SELECT {PLAIN} FROM pg_class AS c WHERE c.oid = {{}}::regclass)").format(SQL(f"E'{table}'"))
    return SQL(" RETURNING {}, {}").format(_stored_columns(collection), settled)


def _text(composable: Composable) -> str:
    return composable.as_string(None)  # type: ignore[arg-type] # names need no connection


async def lock_rows(
    ctx: Context,
    grant: Grant,
    keys: Sequence[Key],
    refusal: Callable[[Row | None], ApiError],
    *,
    deleted: bool = False,
    if_match: Callable[[str], bool] | None = None,
) -> dict[Key, Locked]:
    """Locks rows until the transaction ends and returns them by key. Rows are locked in the order of their keys, so that two requests for
    the same rows wait for each other instead of deadlocking.

    *deleted*: include soft-deleted rows. *if_match* returns whether a version is acceptable; if not, raises ItemChanged. *refusal*
    returns the error to raise if a row is missing (called with None) or the caller may not read it (called with the row).
    """
    collection = grant.collection
    key = collection.primary_key
    several = len(keys) != 1
    lock = grant.kept(("lock", deleted, several), lambda: _locking(grant, deleted=deleted, several=several))
    bound_values = ctx.bind_values()
    parameters = [*lock.before.parameters(bound_values), array(keys), *lock.after.parameters(bound_values)]
    names = tuple(collection.columns)
    found: dict[Key, Locked] = {}
    hidden: list[Row] = []
    async for line in _lines(ctx, lock.text, parameters, len(keys)):
        row = dict(zip(names, line, strict=False))
        version, seen, update, delete = line[-4:]
        if not seen:
            hidden.append(row)
            continue
        present = stored_key(collection, row[key.field])
        if if_match is not None and not if_match(await _version(ctx, grant, present, version)):
            raise ItemChanged
        found[present] = Locked(row, bool(update), bool(delete))
    if hidden or any(wanted not in found for wanted in keys):
        raise refusal(hidden[0] if hidden else None)
    return found


def _locking(grant: Grant, *, deleted: bool, several: bool) -> _Locking:
    collection = grant.collection
    key = collection.primary_key
    alive = TRUE if deleted else not_deleted("t", collection)
    judged = [grant.condition(action, "t") for action in ("read", "update", "delete")]
    columns = SQL(", ").join([clause.sql for clause in judged])
    sql = SQL("SELECT {}, {}, {} FROM {} AS t WHERE {} AND {}{}{}").format(
        _safe_columns(collection),
        column("t", "xmin") if collection.versioned else SQL("NULL"),
        columns,
        Identifier(*collection.table),
        key_among("t", key),
        alive.sql,
        SQL(" ORDER BY {}").format(column("t", key.field)) if several else SQL(""),
        SQL(" FOR UPDATE OF t" if collection.lockable else ""),
    )
    return _Locking(_text(sql), Clause(columns, tuple(bind for clause in judged for bind in clause.binds)), alive)


async def _lines(ctx: Context, text: str, parameters: Sequence[Any], number: int) -> AsyncIterator[tuple[Any, ...]]:
    """Yields the rows of a SELECT that are at most *number*: in one piece if they are few, otherwise with a cursor."""
    if number <= MANY:
        for line in await ctx.db.query(text, parameters):
            yield line
        return
    await ctx.db.query(f"DECLARE locked NO SCROLL CURSOR FOR {text}", parameters)
    while lines := await ctx.db.query(f"FETCH {MANY} FROM locked"):
        for line in lines:
            yield line
    await ctx.db.query("CLOSE locked")


async def _version(ctx: Context, grant: Grant, key: Key, written: str) -> str:
    """Returns the version of a locked row as the caller's reads return it. *written* is the row's xmin."""
    collection = grant.collection
    if grant.whole and collection.versioned:
        return version_of(collection, key, written)
    table = grant.table("t")
    sql = SQL("SELECT {} FROM {} WHERE {}").format(grant.version("t"), table.sql, key_among("t", collection.primary_key))
    ((shown,),) = await ctx.db.query(sql, [*table.parameters(ctx.bind_values()), [key]])
    return version_of(collection, key, shown)


async def update_rows(ctx: Context, collection: Collection, rows: Sequence[tuple[Key, Item]]) -> tuple[dict[Key, Row], bool]:
    """Updates rows in a few statements, each row with its own values of some columns. Returns the updated rows as stored, by key, and
    whether they are `Written.settled`."""
    key = collection.primary_key
    written: dict[Key, Row] = {}
    settled = True
    for chunk in chunks(rows):
        if len(chunk) == 1:
            lines = await _update_one(ctx, collection, *chunk[0])
        else:
            lines = await _update_several(ctx, collection, chunk)
        written.update((stored_key(collection, row[key.field]), row) for row in _rows(collection, lines))
        settled = settled and bool(lines) and lines[0][-1] is True
    return written, settled


async def _update_one(ctx: Context, collection: Collection, key: Key, row: Item) -> Sequence[tuple[Any, ...]]:
    """Updates a row and returns it."""
    names = tuple(row)
    make = partial(_update_of_one, ctx.schema, collection, names)
    update = keep_plan(access_of(ctx), ("update one", collection.collection, names), make)
    return await ctx.db.query(update.before, [*row.values(), key])


async def _update_several(ctx: Context, collection: Collection, rows: Sequence[tuple[Key, Item]]) -> Sequence[tuple[Any, ...]]:
    """Updates rows by one statement and returns them."""
    names = tuple(dict.fromkeys(chain.from_iterable(row for _, row in rows)))
    alike = sum(len(row) for _, row in rows) == len(names) * len(rows)
    flags = () if alike else tuple(name for name in names if any(name not in row for _, row in rows))
    make = partial(_update_of_several, ctx.schema, collection, names, flags)
    update = keep_plan(access_of(ctx), ("update", collection.collection, names, flags), make)
    bound: list[Any] = []
    for key, row in rows:
        bound += (key, *map(row.get, names), *map(row.__contains__, flags))
    return await ctx.db.query(update.text(len(rows)), bound)


def _update_of_one(schema: Snapshot, collection: Collection, names: Sequence[str]) -> _Writing:
    """Returns the UPDATE of some columns of one row. Its placeholders are the values and the key."""
    key = collection.primary_key
    places = [SQL("%s")] * len(names)
    sql = SQL("UPDATE {} AS t SET {} WHERE {} = %s::{}{}").format(
        Identifier(*collection.table),
        SQL(", ").join(_assignments(collection, names, places)),
        base_column("t", key),
        _assigned_type(key),
        _returning(schema, collection),
    )
    return _Writing(_text(sql), "", "")


def _update_of_several(schema: Snapshot, collection: Collection, names: Sequence[str], flags: Sequence[str]) -> _Writing:
    """Returns the UPDATE of some columns of rows. *flags* are those that only some rows set."""
    key = collection.primary_key
    places = [SQL(f"v.v{number}") for number in range(len(names))]
    before = SQL("UPDATE {} AS t SET {} FROM (VALUES ").format(
        Identifier(*collection.table), SQL(", ").join(_assignments(collection, names, places, flags))
    )
    after = SQL(") AS v({}) WHERE {} = v.key::{}{}").format(
        SQL(", ".join(["key", *(f"v{n}" for n in range(len(names))), *(f"s{n}" for n in range(len(flags)))])),
        base_column("t", key),
        _assigned_type(key),
        _returning(schema, collection),
    )
    return _Writing(_text(before), f"({', '.join(['%s'] * (1 + len(names) + len(flags)))})", _text(after))


def _assignments(
    collection: Collection, names: Sequence[str], places: Sequence[Composable], flagged: Sequence[str] = ()
) -> list[Composable]:
    """Returns the SET list. *places* are the values; s0, s1, ... say whether a row sets a column that only some rows set."""
    flags = {name: f"s{number}" for number, name in enumerate(name for name in names if name in flagged)}
    found: list[Composable] = []
    for name, place in zip(names, places, strict=True):
        value = SQL("{}::{}").format(place, _type_of(collection, name))
        if name in flags:
            value = SQL("CASE WHEN {} THEN {} ELSE {} END").format(SQL(f"v.{flags[name]}"), value, column("t", name))
        found.append(SQL("{} = {}").format(Identifier(name), value))
    # Without values, set a column to itself: the stored rows are needed all the same.
    kept = next((name for name, field in collection.columns.items() if not field.computed), collection.primary_key.field)
    return found or [SQL("{0} = t.{0}").format(Identifier(kept))]


def _type_of(collection: Collection, name: str) -> Composable:
    """Returns the type that a value of a column is cast to."""
    field = collection.fields.get(name)
    # Columns of fingerprints are no fields.
    return SQL("text") if field is None else _assigned_type(field)


def _assigned_type(field: Field) -> Composable:
    """Returns the type that a value is cast to: a wide type that compares with the column, otherwise the type of the column without its
    length, because a cast would cut values silently."""
    if field.native is not None:
        return SQL(field.native.name.replace("%", "%%"))
    return type_name(field) if family(field) == "other" else SQL(comparison_type(field))


async def delete_rows(ctx: Context, access: Access, grant: Grant, keys: Sequence[Key]) -> dict[Key, Row]:
    """Deletes rows and returns them by key. Raises an error if the caller may not delete one of them. Missing rows are ignored for
    administrators; for other callers they raise the same error as rows that the caller may not read."""
    collection = grant.collection
    key = collection.primary_key
    allowed, bound_values = grant.condition("delete", "t"), ctx.bind_values()
    where = all_of([_among(collection, keys), allowed])
    sql = SQL("DELETE FROM {} AS t WHERE {} RETURNING {}").format(
        Identifier(*collection.table), where.sql, _stored_columns(collection)
    )
    gone = {
        stored_key(collection, row[key.field]): row
        for row in _rows(collection, await ctx.db.query(sql, where.parameters(bound_values)))
    }
    left = [each for each in dict.fromkeys(keys) if each not in gone]
    if not left or grant.admin:
        return gone
    seen = grant.condition("read", "t")
    rest = _among(collection, left)
    sql = SQL("SELECT {}, {} FROM {} AS t WHERE {}").format(
        _safe_columns(collection), seen.sql, Identifier(*collection.table), rest.sql
    )
    lines = await ctx.db.query(sql, [*seen.parameters(bound_values), *rest.parameters(bound_values)])
    raise undeletable(
        grant,
        public=access.public,
        seen=sum(bool(line[-1]) for line in lines),
        hidden=[_row(collection, line) for line in lines if not line[-1]],
        missing=len(left) - len(lines),
    )


async def readable_keys(ctx: Context, grant: Grant, keys: Sequence[Key]) -> set[Key]:
    """Returns the keys whose rows the caller may read, soft-deleted rows included."""
    if not keys:
        return set()
    table, key = grant.table("t"), grant.collection.primary_key
    sql = SQL("SELECT {} FROM {} WHERE {}").format(column("t", key.field), table.sql, key_among("t", key))
    lines = await ctx.db.query(sql, [*table.parameters(ctx.bind_values()), list(keys)])
    return {stored_key(grant.collection, line[0]) for line in lines}


def _among(collection: Collection, keys: Sequence[Key]) -> Clause:
    """Returns the condition that a row has one of the keys."""
    return Clause(key_among("t", collection.primary_key), (constant(list(keys)),))


def _stored_columns(collection: Collection) -> Composable:
    """Returns the columns of the table t, in the form of a `Row`."""
    return SQL(", ").join([_stored_column(field) for field in collection.columns.values()])


def _safe_columns(collection: Collection) -> Composable:
    """Returns `_stored_columns` with NULL for virtual columns, whose expressions could fail on rows that the caller may not read."""
    return SQL(", ").join([SQL("NULL") if field.virtual else _stored_column(field) for field in collection.columns.values()])


def _stored_column(field: Field) -> Composable:
    return SQL("{}::text" if needs_exact_text(field) else "{}").format(column("t", field.field))


def _row(collection: Collection, line: tuple[Any, ...]) -> Row:
    return dict(zip(collection.columns, line, strict=False))


def _rows(collection: Collection, lines: Iterable[tuple[Any, ...]]) -> list[Row]:
    names = tuple(collection.columns)
    return [dict(zip(names, line, strict=False)) for line in lines]
