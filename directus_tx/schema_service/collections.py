"""Creates, changes and deletes collections. Each change writes the table and the rows that describe it in one transaction.

`items` writes the rows with their history; `schema.ddl` builds the DDL.
"""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.errors import AlterForbidden, CollectionExists, InvalidRequest, Notice, UnmanagedCollection
from directus_tx.items import Writer, in_transaction
from directus_tx.items.service import Items
from directus_tx.query import WriteOptions
from directus_tx.schema import ddl
from directus_tx.schema_service.columns import index_searches
from directus_tx.schema_service.definitions import wanted_indexes
from directus_tx.schema_service.deletion import drop_collection, forget_collection
from directus_tx.schema_service.fields import add_field, change_field
from directus_tx.schema_service.indexes import altered_fields, declare_indexes, flags_of, stop_building
from directus_tx.schema_service.locks import lock_for_fields, lock_for_indexes, lock_tables, named_field
from directus_tx.schema_service.payloads import (
    COLLECTION_ATTRIBUTES,
    COLLECTIONS,
    Item,
    check_collection,
    check_collection_name,
    check_together,
    new_field,
)
from directus_tx.schema_service.read import collection_answer
from directus_tx.schema_service.rows import create_rows, execute, reread, touch


async def create_collection(service: Items, ctx: Context, payload: Mapping[str, Any], options: WriteOptions) -> Item:
    """Creates a collection and its table, or manages an existing table.

    Raises InvalidRequest, InvalidPayload, CollectionExists and the errors of `payloads.new_field`.
    """
    access_of(ctx).require_schema()
    check_collection(payload)
    wanted_name = payload.get("collection")
    present = ctx.schema.collections.get(wanted_name) if isinstance(wanted_name, str) else None
    # An existing table can be managed whatever its name.
    name = present.collection if present is not None and not present.system else check_collection_name(wanted_name)
    if present is not None and present.managed:
        raise CollectionExists(f'There is a collection "{name}" already.')
    wanted = payload.get("fields")
    if not isinstance(wanted, list) or not (wanted or present):
        raise InvalidRequest('"fields" needs a list of fields.')
    known = present.fields if present is not None else {}
    fields = [new_field(name, each, known, custom=ctx.schema.custom) for each in wanted]
    check_together(fields, present)
    flags, indexes = flags_of(wanted), wanted_indexes(payload)

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        columns = [] if present is None else [f for f in fields if f.has_column and f.field not in present.columns]
        if columns:
            await lock_tables(ctx, {name: ()})
        elif present is not None:
            await lock_for_indexes(ctx, present, payload, flags, indexes)
        await writer.before("collection_create", collection=name, payload=payload)
        row = {n: payload[n] for n in COLLECTION_ATTRIBUTES if n in payload} | {"managed": True}
        if payload.get("managed") is False:
            row["managed"] = False
        if present is None:
            # Rows of a collection of this name whose table another program has dropped.
            await forget_collection(ctx, writer, name)
            await execute(ctx, ddl.create_table(name, fields))
        for field in columns:
            await execute(ctx, ddl.add_column(field))
        if present is not None and present.has_row:
            await writer.update(COLLECTIONS, [(name, {n: v for n, v in row.items() if n != "collection"})])
        else:
            await writer.create(COLLECTIONS, [row])
        await _declare_collection(ctx, name, payload)
        known = {f.field for f in present.fields.values() if f.id is not None} if present else set()
        pairs = [(f, each) for f, each in zip(fields, wanted, strict=True) if f.field not in known]
        await create_rows(writer, pairs)
        schema = await reread(ctx)
        await index_searches(ctx, present, schema.collections[name])
        if await declare_indexes(ctx, schema, name, flags=flags, wanted=indexes):
            schema = await reread(ctx)
        writer.new_schema = schema
        writer.after("collection_create", collection=name)
        return collection_answer(schema, schema.collections[name], admin=True)

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def update_collection(
    service: Items, ctx: Context, name: str, payload: Mapping[str, Any], options: WriteOptions
) -> tuple[Item, tuple[Notice, ...]]:
    """Changes the attributes of a collection, and the fields in the payload. The name cannot be changed. Returns the collection, and
    notices of what was done to its columns."""
    access_of(ctx).require_schema()
    if name.startswith("directus_"):
        raise InvalidRequest("System collections cannot be changed.")
    if not payload:
        raise InvalidRequest("There is nothing to change.")
    check_collection(payload)
    present = access_of(ctx).grant(name).collection
    if not present.managed and payload.get("managed") is not True:
        raise UnmanagedCollection(f'"{name}" is not managed.')
    fields = payload.get("fields", [])
    if not isinstance(fields, list) or not all(isinstance(each, dict) for each in fields):
        raise InvalidRequest('"fields" takes a list of fields.')
    flags, indexes = flags_of(fields), wanted_indexes(payload)

    async def work(writer: Writer) -> tuple[Item, tuple[Notice, ...]]:
        ctx = writer.ctx
        if not await lock_for_fields(ctx, present, fields):
            await lock_for_indexes(ctx, present, payload, flags, indexes)
        await writer.before("collection_update", collection=name, payload=payload)
        row = {n: payload[n] for n in COLLECTION_ATTRIBUTES if n in payload and n != "collection"}
        if present.has_row:
            await writer.update(COLLECTIONS, [(name, row)])
        else:
            await writer.create(COLLECTIONS, [{"collection": name, **row}])
        await _declare_collection(ctx, name, payload)
        notices: tuple[Notice, ...] = ()
        for each in fields:
            old = named_field(present, each)
            if old is not None:
                notices += await change_field(ctx, writer, old, each)
            else:
                await add_field(ctx, writer, present, each)
        schema = await reread(ctx)
        await index_searches(ctx, present, schema.collections[name])
        if await declare_indexes(ctx, schema, name, flags=flags, wanted=indexes, altered=altered_fields(present, schema)):
            schema = await reread(ctx)
        writer.new_schema = schema
        writer.after("collection_update", collection=name)
        return collection_answer(schema, schema.collections[name], admin=True), notices

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def _declare_collection(ctx: Context, name: str, payload: Mapping[str, Any]) -> None:
    """Stores search_index, which is not an attribute of directus_collections in Directus 8."""
    if payload.get("search_index") is not None:
        sql = "UPDATE directus_collections SET search_index = %s WHERE collection = %s"
        await ctx.db.query(sql, (payload["search_index"], name))


async def delete_collection(service: Items, ctx: Context, name: str, options: WriteOptions) -> None:
    """Drops the table of a collection and deletes its fields, permissions, presets, and relations of which it is the many side."""
    access_of(ctx).require_schema(delete=True)
    if name.startswith("directus_"):
        raise AlterForbidden("System collections cannot be deleted.")
    access_of(ctx).grant(name)

    async def work(writer: Writer) -> None:
        ctx = writer.ctx
        await stop_building(ctx, ctx.schema.collections[name].indexes)
        await lock_tables(ctx, {name: None})
        await writer.before("collection_delete", collection=name)
        await drop_collection(ctx, writer, name)
        await touch(ctx)
        writer.after("collection_delete", collection=name)

    await in_transaction(service, ctx, options, work, changes_schema=True)
