"""Declares indexes, and drops them, in a change of the schema; shows them with the progress of those that are being built.

On a small table an index is created in the transaction of the change. On others only its declaration is stored, and
`jobs.indexes` builds it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from attrs import evolve

from directus_tx.context import Context
from directus_tx.db.connection import PUBLIC
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest, NotUnique
from directus_tx.schema.ddl import table_name
from directus_tx.schema.model import BUILDING, FAILED, OF_COLLECTION, OF_FIELD, READY, Collection, Index, Snapshot
from directus_tx.schema_service.definitions import (
    check_indexable,
    creation,
    dropping,
    duplicates,
    field_indexes,
    not_unique,
    wanted_index,
)
from directus_tx.schema_service.payloads import MAX_NAME, Item

SMALL = 4 * 2**20
"""The size in bytes of a table, without its indexes and long values, up to which an index is created in the transaction of the change. That
takes up to about a tenth of a second, and nobody can write to the table meanwhile."""

EMPTY_COPY = "directus_empty_copy"
"""The name of the temporary table on which the definition of an index is tried. Collections cannot have it."""

Flags = Mapping[str, bool]
"""What the payloads of fields say about `index`, by field."""


# --- locks


async def lock_mode(ctx: Context, present: Collection, flags: Flags, wanted: list[Index] | None) -> str | None:
    """Returns the mode in which a change of the indexes of an existing table locks it, None if it does not. Cancels the building of
    indexes that the change drops."""
    declared = [index for index in present.indexes if index.declared]
    going = [index for index in declared if index.origin == OF_FIELD and flags.get(index.field) is False]
    coming = any(flag and not present.indexes_of(name) for name, flag in flags.items())
    failed = [index for name, flag in flags.items() if flag for index in present.indexes_of(name) if index.state == FAILED]
    if wanted is not None:
        own = [index for index in declared if index.origin == OF_COLLECTION]
        kept = {index.name for index in own if any(_is_meant(each, index) for each in wanted)}
        going += [index for index in own if index.name not in kept]
        coming = coming or any(not any(_is_meant(each, index) for index in own) for each in wanted)
        failed += [index for index in own if index.state == FAILED]
    going += [index for index in failed if index.present]
    if not (going or coming or failed):
        return None
    check_indexable(present)
    if going:
        await stop_building(ctx, going)
        return "ACCESS EXCLUSIVE"
    return "SHARE" if await is_small(ctx, present.collection) else None


def _is_meant(wanted: Index, present: Index) -> bool:
    """Whether a declared index is the one that a payload describes."""
    return wanted.same_as(present) and wanted.name in ("", present.name)


async def stop_building(ctx: Context, indexes: Iterable[Index]) -> None:
    """Cancels the building of indexes, whichever process does it. Otherwise their table could not be locked before it has ended."""
    names = [index.name for index in indexes if index.state == BUILDING]
    if names:
        await ctx.db.query(
            "SELECT pg_cancel_backend(p.pid) FROM pg_stat_progress_create_index p JOIN pg_class x ON x.oid = p.index_relid"
            " WHERE p.datname = current_database() AND x.relname = ANY (%s) AND x.relnamespace = 'public'::regnamespace",
            (names,),
        )


async def is_small(ctx: Context, collection: str) -> bool:
    """Whether an index of a table is created in the transaction of the change."""
    ((size,),) = await ctx.db.query("SELECT pg_relation_size(quote_ident(%s)::regclass)", (collection,))
    return int(size) <= SMALL


# --- declaring


def flags_of(payloads: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Returns what the payloads of fields say about `index`, by field. Raises InvalidRequest."""
    found: dict[str, bool] = {}
    for payload in payloads:
        name = payload.get("field")
        flag = wanted_index(payload, name) if isinstance(name, str) else None
        if isinstance(name, str) and flag is not None:
            found[name] = flag
    return found


def altered_fields(present: Collection, schema: Snapshot) -> list[str]:
    """Returns the fields of a collection whose column has another type, or that are unique now or no longer are, than in *present*."""
    fields = schema.collections[present.collection].fields
    return [
        name
        for name, old in present.fields.items()
        if name in fields and (old.column_type, old.unique) != (fields[name].column_type, fields[name].unique)
    ]


async def declare_indexes(
    ctx: Context,
    schema: Snapshot,
    name: str,
    *,
    flags: Flags,
    wanted: list[Index] | None = None,
    altered: Iterable[str] = (),
) -> bool:
    """Stores the declarations of a collection's indexes: *flags* of fields, and *wanted*, those of the collection (None: as they are).
    Creates and drops what follows from that, on small tables. *altered* are fields whose column has changed: their indexes are adapted.
    The locks of `lock_mode` are held. *schema* is the schema as this transaction has changed it. Returns whether anything was done.

    Raises InvalidRequest and InvalidPayload if an index does not fit the fields, or is unique and the items are not.
    """
    collection = schema.collections[name]
    declared = [index for index in collection.indexes if index.declared]
    asked = {field for field, flag in flags.items() if flag} | {
        field
        for field in altered
        if field in collection.fields and flags.get(field) is not False and collection.indexes_of(field)
    }
    target = [each for field in sorted(asked) for each in field_indexes(collection, collection.fields[field])]
    of_fields = set(flags) | asked
    scope = [index for index in declared if index.origin == OF_FIELD and index.field in of_fields]
    if wanted is not None:
        scope += [index for index in declared if index.origin == OF_COLLECTION]
        target += wanted
    kept: list[Index] = []
    new: list[Index] = []
    for each in target:
        same = next((index for index in scope if index.origin == each.origin and _is_meant(each, index)), None)
        if same is not None and same.state != FAILED:
            kept.append(same)
        else:
            # A declaration that is repeated after a failure is tried again.
            new.append(each if same is None or each.name else evolve(each, name=same.name))
    dropped = [index for index in scope if index not in kept]
    rebuilt = [
        index for index in declared if index not in dropped and not index.present and any(index.names(field) for field in altered)
    ]
    if not (new or dropped or rebuilt):
        return False
    check_indexable(collection)
    await _drop(ctx, collection, dropped)
    new = [await _store(ctx, collection, each) for each in new]
    small = await is_small(ctx, name)
    for index in (*new, *rebuilt):
        await (_create(ctx, schema, collection, index) if small else _check(ctx, schema, collection, index))
    return True


async def _drop(ctx: Context, collection: Collection, indexes: Iterable[Index]) -> None:
    indexes = list(indexes)
    for index in indexes:
        if index.present:
            await ctx.db.query(dropping(collection.collection, index.name))
    await ctx.db.query("DELETE FROM directus_indexes WHERE name = ANY (%s)", ([index.name for index in indexes],))


async def _store(ctx: Context, collection: Collection, index: Index) -> Index:
    """Stores a declaration. Returns it with its name."""
    name = index.name or await _free_name(ctx, collection, index)
    if index.name and await _is_taken(ctx, name):
        raise InvalidRequest(f'There is a table or an index "{name}" already.')
    sql = "INSERT INTO directus_indexes (collection, field, definition, name) VALUES (%s, %s, %s, %s)"
    await ctx.db.query(sql, (*_row(collection, index), name))
    return evolve(index, name=name, state=BUILDING, present=False, error=None)


def _row(collection: Collection, index: Index) -> tuple[str, str | None, str]:
    """Returns the columns of a declaration: the collection, the field and the definition."""
    definition = {"fields": index.fields, "unique": index.unique, "where": index.where}
    field = index.field if index.origin == OF_FIELD else None
    return collection.collection, field, orjson.dumps(definition).decode()


async def _free_name(ctx: Context, collection: Collection, index: Index) -> str:
    fields = index.fields[:1] if index.origin == OF_FIELD else index.fields
    names = [f"{name[1:]}_desc" if name.startswith("-") else name for name in fields]
    stem = "_".join([collection.collection, *names])
    number = 1
    while True:
        end = "_index" if number == 1 else f"_index{number}"
        name = stem.encode()[: MAX_NAME - len(end)].decode(errors="ignore") + end
        if not await _is_taken(ctx, name):
            return name
        number += 1


async def _is_taken(ctx: Context, name: str) -> bool:
    sql = (
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = %s AND n.nspname = ANY (%s)"
        " UNION ALL SELECT 1 FROM directus_indexes WHERE name = %s"
    )
    return bool(await ctx.db.query(sql, (name, [PUBLIC, ctx.db.database.system_schema], name)))


async def _create(ctx: Context, schema: Snapshot, collection: Collection, index: Index) -> None:
    """Creates an index in this transaction."""
    statement, parameters = creation(schema, collection, index)
    await ctx.db.query("SAVEPOINT indexed")
    try:
        await ctx.db.query(statement, parameters)
    except NotUnique as error:
        await ctx.db.query("ROLLBACK TO SAVEPOINT indexed")
        rows = await ctx.db.query(*duplicates(schema, collection, index))
        raise InvalidPayload(not_unique(collection, index, rows)) from error
    except ApiError as error:
        raise _refused(index, error) from error
    await ctx.db.query("RELEASE SAVEPOINT indexed")


async def _check(ctx: Context, schema: Snapshot, collection: Collection, index: Index) -> None:
    """Raises the errors of a definition that PostgreSQL does not allow, of an index that will be built later: creates it on an empty table
    with the same columns."""
    await ctx.db.query("SAVEPOINT checked")
    try:
        copy = SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(
            Identifier(EMPTY_COPY), table_name(collection.collection)
        )
        await ctx.db.query(copy)
        await ctx.db.query(*creation(schema, collection, index, on=EMPTY_COPY))
    except ApiError as error:
        said = error.diagnostics
        if said is None or said.sqlstate != "42501":
            raise _refused(index, error) from error
        # The role may not create temporary tables.
    await ctx.db.query("ROLLBACK TO SAVEPOINT checked")


def _refused(index: Index, error: ApiError) -> ApiError:
    """Returns the error of a definition that PostgreSQL refuses. Other errors, such as that the table is in use, stay as they are."""
    state = "" if error.diagnostics is None else error.diagnostics.sqlstate
    if state[:2] in ("0A", "22", "42", "54") and state != "42501":
        return InvalidRequest(f"The database does not allow the index on {', '.join(index.fields)}: {error.message}")
    return error


async def drop_indexes_of(ctx: Context, collection: Collection, field: str) -> None:
    """Drops the indexes with a column that gets another type. Their declarations stay, with the names that table and columns have now:
    another program may have renamed them since."""
    for index in collection.indexes:
        if index.declared and index.names(field):
            await ctx.db.query(dropping(collection.collection, index.name))
            sql = "UPDATE directus_indexes SET collection = %s, field = %s, definition = %s WHERE name = %s"
            await ctx.db.query(sql, (*_row(collection, index), index.name))


async def forget_indexes(ctx: Context, collection: str, *, field: str | None = None) -> None:
    """Deletes the declarations of the indexes of a collection that is dropped, or those with a field whose column is. PostgreSQL drops the
    indexes."""
    present = ctx.schema.collections.get(collection)
    names = [index.name for index in (present.indexes if present is not None else ()) if field is None or index.names(field)]
    await ctx.db.query("DELETE FROM directus_indexes WHERE name = ANY (%s)", (names,))
    await ctx.db.query(
        "DELETE FROM directus_indexes WHERE collection = %s AND (%s::text IS NULL OR field = %s)", (collection, field, field)
    )


# --- showing

_PROGRESS = """
SELECT x.relname, p.phase,
       CASE WHEN p.phase LIKE '%%loading tuples%%' THEN p.tuples_done ELSE p.blocks_done END,
       CASE WHEN p.phase LIKE '%%loading tuples%%' THEN p.tuples_total ELSE p.blocks_total END
FROM pg_stat_progress_create_index p JOIN pg_class x ON x.oid = p.index_relid WHERE p.datname = current_database()
"""

_PHASES: tuple[tuple[str, float, float], ...] = (
    ("building index: scanning table", 0.0, 0.5),
    ("building index: sorting", 0.5, 0.5),
    ("building index: loading", 0.5, 0.65),
    ("waiting for writers before validation", 0.65, 0.65),
    ("index validation: scanning index", 0.65, 0.7),
    ("index validation: sorting", 0.7, 0.7),
    ("index validation: scanning table", 0.7, 0.95),
    ("waiting for old snapshots", 0.95, 0.95),
    ("waiting for readers", 0.95, 0.95),
)
"""The phases of CREATE INDEX CONCURRENTLY, and the parts of the whole at their beginning and end, approximately. Others are at the
beginning."""

Details = Mapping[str, Item]
"""What is shown of indexes besides their declarations, by name."""


NOTHING: Details = {}


async def read_details(ctx: Context, collections: Iterable[Collection], *, definitions: bool = False) -> Details:
    """Returns the progress of the indexes of the collections that are being built. With *definitions*, also those of the indexes of other
    programs that are more than a list of fields: PostgreSQL waits for transactions that are changing the tables."""
    collections = list(collections)
    found: dict[str, Item] = {}
    if any(index.state == BUILDING for collection in collections for index in collection.indexes):
        for name, phase, done, total in await ctx.db.query(_PROGRESS):
            found[name] = {"progress": _progress(phase, done, total), "phase": phase}
    for collection in collections if definitions else ():
        names = [index.name for index in collection.indexes if not index.described]
        if names:
            sql = (
                "SELECT x.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
                " JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relname = %s AND x.relname = ANY (%s)"
            )
            schema = collection.schema_with(ctx.db.database.system_schema)
            rows = await ctx.db.query(sql, (schema, collection.table[-1], names))
            found |= {name: {"definition": definition} for name, definition in rows}
    return found


def _progress(phase: str, done: int, total: int) -> float:
    for name, start, end in _PHASES:
        if name in phase or phase.startswith(name):
            return round(start + (end - start) * (min(done / total, 1.0) if total else 0.0), 2)
    return 0.0


def index_answer(index: Index, details: Details) -> Item:
    """Returns an index as the API shows it, in `indexes` of a collection."""
    more = details.get(index.name, {})
    shown: Item = {"name": index.name, "fields": list(index.fields), "unique": index.unique, "where": index.where}
    if "definition" in more:
        shown["definition"] = more["definition"]
    return shown | {"origin": index.origin} | _state([index], details)


def field_index_answer(indexes: list[Index], details: Details) -> Item:
    """Returns the state of the indexes of a field, as the API shows it in `index`."""
    return _state(indexes, details)


def _state(indexes: list[Index], details: Details) -> Item:
    states = {index.state for index in indexes}
    state = next(each for each in (FAILED, BUILDING, READY) if each in states)
    shown: Item = {"state": state}
    if state == BUILDING:
        parts = [1.0 if index.state == READY else details.get(index.name, {}).get("progress", 0.0) for index in indexes]
        shown["progress"] = round(sum(parts) / len(parts), 2)
        phases = [more["phase"] for index in indexes if "phase" in (more := details.get(index.name, {}))]
        shown["phase"] = phases[0] if phases else "waiting"
    errors = [index.error for index in indexes if index.error is not None]
    return shown | ({"error": errors[0]} if errors else {})
