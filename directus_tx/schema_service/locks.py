"""Locks the tables of a change of the schema, and checks that they are still as the request knows them."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, evolve

from directus_tx.context import Context
from directus_tx.errors import InvalidRequest, ServiceUnavailable
from directus_tx.schema import ddl
from directus_tx.schema.introspect import read_fingerprint, read_snapshot
from directus_tx.schema.model import ALIAS_TYPES, PARTITIONED, TABLE, Collection, Field, Index, Snapshot
from directus_tx.schema_service.columns import alters, refitted
from directus_tx.schema_service.indexes import Flags, lock_mode, stop_building
from directus_tx.schema_service.payloads import changed_field


async def lock_tables(ctx: Context, columns: Mapping[str, Iterable[str] | None], *, against: str = "ACCESS EXCLUSIVE") -> None:
    """Locks the tables of collections before anything is written, and checks that these collections are still as *ctx* has them.

    *columns* holds by collection the columns that are dropped or get another type, None for all of them. Tables with a foreign key on
    one of these columns, or to which it refers, are locked, too, because PostgreSQL locks them. Transactions that write items take the
    locks of tables in the order of their payloads, so there is no order in which a change of the schema could wait for one table while
    it holds another: see `Session.lock_tables`.

    Raises ServiceUnavailable, which depends on the schema, if another program or request has changed one of the collections.
    """
    for name in columns:
        present = ctx.schema.collections.get(name)
        if present is not None and (present.kind not in (TABLE, PARTITIONED) or present.schema is not None):
            what = present.kind if present.schema is None else f"{present.kind} in another schema than public"
            raise InvalidRequest(f'"{name}" is a {what}: its columns and indexes cannot be changed here.')
    tables: list[tuple[str, ...]] = [(collection,) for collection in columns]
    for collection, names in columns.items():
        bound = {"table": collection, "columns": None if names is None else list(names)}
        tables += [
            (table,) if namespace == "public" else (namespace, table)
            for namespace, table in await ctx.db.query(ddl.LINKED, bound)
        ]
    await ctx.db.lock_tables(tables, against=against)
    if await read_fingerprint(ctx.db, ctx.schema.schemas) == ctx.schema.fingerprint:
        return
    newest = await read_snapshot(ctx.db, ctx.schema.schemas, ctx.schema.custom)
    if newest.relations != ctx.schema.relations or any(
        _described(newest, each) != _described(ctx.schema, each) for each in columns
    ):
        changed = ServiceUnavailable("The schema has changed; try again.")
        changed.depends_on_schema = True
        raise changed


def _described(schema: Snapshot, name: str) -> Mapping[str, Any] | None:
    """Returns a collection with its fields as plain values; None if there is none. Without its indexes, which may be built and dropped at
    any time: changes read them again when they have the locks."""
    collection = schema.collections.get(name)
    if collection is None:
        return None
    declared = {index.name for index in collection.indexes if index.declared}
    constraints = {name: fields for name, fields in collection.constraints.items() if name not in declared}
    return asdict(evolve(collection, indexes=(), constraints=constraints))


async def lock_for_fields(ctx: Context, collection: Collection, payloads: Iterable[Mapping[str, Any]]) -> bool:
    """Locks the table of a collection if a payload adds or alters a column. Returns whether it is locked."""
    altered, dropped_or_retyped = False, []
    for payload in payloads:
        old = named_field(collection, payload)
        if old is None:
            altered |= payload.get("type") not in tuple(ALIAS_TYPES)
            continue
        new = changed_field(old, payload, custom=ctx.schema.custom)
        altered |= alters(old, new, search=collection.search_index)
        if refitted(old, new):
            dropped_or_retyped.append(old.field)
    if dropped_or_retyped:
        await stop_building(ctx, [each for each in collection.indexes if any(each.names(name) for name in dropped_or_retyped)])
    if altered:
        await lock_tables(ctx, {collection.collection: dropped_or_retyped})
    return altered


def named_field(collection: Collection, payload: Mapping[str, Any]) -> Field | None:
    """Returns the field of a collection that a payload names, if there is one."""
    name = payload.get("field")
    return collection.fields.get(name) if isinstance(name, str) else None


async def lock_for_indexes(
    ctx: Context, collection: Collection, payload: Mapping[str, Any], flags: Flags, wanted: list[Index] | None
) -> None:
    """Locks the table of a collection if its indexes change: against writes only, if none is dropped. *payload* is that of the collection,
    *flags* and *wanted* are as for `indexes.declare_indexes`."""
    modes = {await lock_mode(ctx, collection, flags, wanted)}
    search = payload.get("search_index")
    if search is not None and search != collection.search_index:
        modes.add("SHARE" if search else "ACCESS EXCLUSIVE")
    for mode in ("ACCESS EXCLUSIVE", "SHARE"):
        if mode in modes:
            await lock_tables(ctx, {collection.collection: ()}, against=mode)
            return
