"""The statements that write the rows of a collection, few for many of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.access import Access, Grant
from directus_tx.access.view import not_deleted
from directus_tx.compile.operators import comparison_type, key_among
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.db.session import RunAgain
from directus_tx.db.sql import SQL, TRUE, Clause, Composable, Identifier, all_of, column, constant
from directus_tx.errors import ItemChanged, ItemNotFound, NotUnique
from directus_tx.items import counters, values
from directus_tx.items.history import chunks
from directus_tx.items.read import Key, version_of
from directus_tx.schema.datatypes import family
from directus_tx.schema.ddl import type_name
from directus_tx.schema.model import Collection, Field
from directus_tx.schema.types import decoded, stored_as_text


@frozen
class Locked:
    """A row that is locked for writing: its values, and whether the levels of the caller allow to change or delete it as it is."""

    row: Item
    update: bool
    delete: bool
    version: str


async def insert_rows(ctx: Context, collection: Collection, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Key, Item]]:
    """Inserts rows, a few statements for all, and gives each one's key and stored values, in order. Rows with keys of their own go first:
    what the others count up to goes on after them."""
    key = collection.primary_key
    if not key.auto_increment:
        return await _insert(ctx, collection, rows)
    keyed = [place for place, row in enumerate(rows) if row.get(key.field, values.DEFAULT) is not values.DEFAULT]
    counted = sorted(set(range(len(rows))).difference(keyed))
    written: dict[int, tuple[Key, Item]] = {}
    if keyed:
        written |= zip(keyed, await _insert(ctx, collection, [rows[place] for place in keyed]), strict=True)
        await counters.count_on_after(ctx.db, collection, [written[place][0] for place in keyed])
    if counted:
        try:
            written |= zip(counted, await _insert(ctx, collection, [rows[place] for place in counted]), strict=True)
        except NotUnique as error:
            if counters.is_about_key(error, collection):
                raise RunAgain(error, lambda session: counters.skip_taken_keys(session, collection, len(counted))) from error
            raise
    return [written[place] for place in range(len(rows))]


async def _insert(ctx: Context, collection: Collection, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Key, Item]]:
    written: list[tuple[Key, Item]] = []
    for chunk in chunks(rows):
        names = list(dict.fromkeys(name for row in chunk for name in row)) or [collection.primary_key.field]
        lines = [
            "(" + ", ".join("%s" if n in row and row[n] is not values.DEFAULT else "DEFAULT" for n in names) + ")"
            for row in chunk
        ]
        bound = [row[n] for row in chunk for n in names if n in row and row[n] is not values.DEFAULT]
        sql = SQL("INSERT INTO {} AS t ({}) VALUES {} RETURNING {}").format(
            Identifier(collection.collection),
            SQL(", ").join([Identifier(n) for n in names]),
            SQL(", ".join(lines)),
            _returning(collection),
        )
        written += _stored_rows(collection, await ctx.db.query(sql, bound))
    return written


async def lock_rows(
    ctx: Context,
    access: Access,
    grant: Grant,
    keys: Sequence[Key],
    *,
    several: bool = False,
    deleted: bool = False,
    if_match: Callable[[str], bool] | None = None,
) -> dict[Key, Locked]:
    """The rows of these keys by key, locked until the transaction ends, in the order of their keys (two requests that want
    the same rows wait for each other instead of deadlocking). *deleted*: soft-deleted ones too. *if_match*: what
    says whether a row may have its version. Raises ItemNotFound where one is missing, or not for the caller to see; ItemChanged."""
    collection = grant.collection
    key = collection.primary_key
    names = list(collection.columns)
    alive = TRUE if deleted else not_deleted("t", collection)
    judged = [grant.condition(action, "t") for action in ("read", "update", "delete")]
    sql = SQL("SELECT {}, t.xmin, {} FROM {} AS t WHERE {} AND {} ORDER BY {} FOR UPDATE OF t").format(
        SQL(", ").join([column("t", name) for name in names]),
        SQL(", ").join([clause.sql for clause in judged]),
        Identifier(collection.collection),
        key_among("t", key),
        alive.sql,
        column("t", key.field),
    )
    asked = ctx.bind_values()
    bound = [value for clause in judged for value in clause.parameters(asked)]
    rows = await ctx.db.query(sql, [*bound, list(keys), *alive.parameters(asked)])
    found: dict[Key, Locked] = {}
    for row in rows:
        stored = dict(zip(names, row, strict=False))
        version, seen, update, delete = row[-4:]
        if not seen:
            raise access.unseen(collection.collection, several=several)
        if if_match is not None and not if_match(await _version(ctx, grant, stored[key.field], version)):
            raise ItemChanged
        found[stored[key.field]] = Locked(stored, bool(update), bool(delete), version)
    for wanted in keys:
        if wanted not in found:
            raise ItemNotFound(f'There is no such item in "{collection.collection}".')
    return found


async def _version(ctx: Context, grant: Grant, key: Key, written: str) -> str:
    """The version of a locked row, which the caller may read, as its reads tell it; *written* is the table's own."""
    collection = grant.collection
    if grant.whole:
        return version_of(collection, key, written)
    table = grant.table("t")
    sql = SQL("SELECT {} FROM {} WHERE {} = %s").format(grant.version("t"), table.sql, column("t", collection.primary_key.field))
    ((shown,),) = await ctx.db.query(sql, [*table.parameters(ctx.bind_values()), key])
    return version_of(collection, key, shown)


async def update_rows(ctx: Context, collection: Collection, rows: Sequence[tuple[Key, Item]]) -> dict[Key, Item]:
    """Updates rows, one statement for all that set the same columns, and gives their stored values by key."""
    key = collection.primary_key
    alike: dict[tuple[str, ...], list[tuple[Key, Item]]] = {}
    for each in rows:
        alike.setdefault(tuple(sorted(each[1])), []).append(each)
    data: dict[Key, Item] = {}
    for names, group in alike.items():
        for chunk in chunks(group):
            # A row that sets nothing is "set" to its own key: its stored values are wanted all the same.
            assignments = [
                SQL("{} = v.{}::{}").format(Identifier(n), Identifier(f"v{place}"), _assigned_type(collection.fields[n]))
                for place, n in enumerate(names)
            ] or [SQL("{0} = t.{0}").format(Identifier(key.field))]
            line = "(" + ", ".join(["%s"] * (len(names) + 1)) + ")"
            sql = SQL(
                "UPDATE {} AS t SET {} FROM (VALUES {}) AS v({}) WHERE t.{} = v.key::" + comparison_type(key) + " RETURNING {}"
            ).format(
                Identifier(collection.collection),
                SQL(", ").join(assignments),
                SQL(", ".join([line] * len(chunk))),
                SQL(", ").join([Identifier("key"), *(Identifier(f"v{place}") for place in range(len(names)))]),
                Identifier(key.field),
                _returning(collection),
            )
            bound = [value for item, row in chunk for value in (item, *(row[n] for n in names))]
            data.update(_stored_rows(collection, await ctx.db.query(sql, bound)))
    return data


def _assigned_type(field: Field) -> Composable:
    """What a value is cast to for its column: what compares with it and fits in more, or where nothing does, the column's own type."""
    return type_name(field) if family(field) == "other" else SQL(comparison_type(field))


async def delete_rows(ctx: Context, access: Access, grant: Grant, keys: Sequence[Key]) -> dict[Key, Any]:
    """Deletes the rows of these keys that the caller may delete, and gives the statuses of those that were there, by key. Raises what
    the caller deserves where one is there that may not be deleted."""
    collection = grant.collection
    status = collection.status_field
    allowed, asked = grant.condition("delete", "t"), ctx.bind_values()
    among = Clause(key_among("t", collection.primary_key), (constant(list(keys)),))
    where = all_of([among, allowed])
    delete = SQL("DELETE FROM {} AS t WHERE {} RETURNING {}, {}").format(
        Identifier(collection.collection),
        where.sql,
        column("t", collection.primary_key.field),
        SQL("NULL") if status is None else column("t", status.field),
    )
    gone: dict[Key, Any] = dict(await ctx.db.query(delete, where.parameters(asked)))
    if allowed is TRUE or len(gone) == len(set(keys)):
        return gone
    seen = grant.condition("read", "t")
    left = SQL("SELECT bool_and(coalesce({}, FALSE)) FROM {} AS t WHERE {}").format(
        seen.sql, Identifier(collection.collection), among.sql
    )
    ((all_seen,),) = await ctx.db.query(left, [*seen.parameters(asked), *among.parameters(asked)])
    if all_seen is not None:
        raise access.undeletable(collection.collection, seen=all_seen)
    return gone


async def stored_row(ctx: Context, collection: Collection, key: Key) -> Item:
    """The row of a key in the form of the history."""
    sql = SQL("SELECT {} FROM {} AS t WHERE {} = %s").format(
        _returning(collection), Identifier(collection.collection), column("t", collection.primary_key.field)
    )
    return _stored_rows(collection, await ctx.db.query(sql, (key,)))[0][1]


async def row_exists(ctx: Context, collection: Collection, key: Key, grant: Grant | None = None) -> bool:
    """Whether there is a row of a key; with *grant*, one that the caller may read."""
    table = Clause(SQL("{} AS t").format(Identifier(collection.collection))) if grant is None else grant.table("t")
    sql = SQL("SELECT 1 FROM {} WHERE {} = %s").format(table.sql, column("t", collection.primary_key.field))
    return bool(await ctx.db.query(sql, [*table.parameters(ctx.bind_values()), key]))


def _returning(collection: Collection) -> Any:
    """The key and then the stored form of every column."""
    columns = [
        SQL("{}::text" if stored_as_text(field) else "{}").format(column("t", field.field))
        for field in collection.columns.values()
    ]
    return SQL(", ").join([column("t", collection.primary_key.field), *columns])


def _stored_rows(collection: Collection, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Key, Item]]:
    fields = collection.columns.values()
    return [(row[0], {f.field: decoded(f, v) for f, v in zip(fields, row[1:], strict=True)}) for row in rows]
