"""Creates, changes and deletes fields. Each change writes the column and the row that describes it in one transaction.

`items` writes the rows with their history; `schema.ddl` builds the DDL.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.errors import (
    AlterForbidden,
    CreateForbidden,
    DeleteForbidden,
    FieldExists,
    FieldNotFound,
    InvalidPayload,
    Notice,
    SystemCollection,
    UpdateForbidden,
)
from directus_tx.items import Writer, in_transaction
from directus_tx.items.service import Items
from directus_tx.query import WriteOptions
from directus_tx.schema import ddl
from directus_tx.schema.model import ROW_ATTRIBUTES, Collection, Field
from directus_tx.schema_service.columns import alterations, change_column
from directus_tx.schema_service.deletion import drop, dropped_with, forget_relations, junctions
from directus_tx.schema_service.indexes import altered_fields, declare_indexes, flags_of, forget_indexes, stop_building
from directus_tx.schema_service.locks import lock_for_fields, lock_for_indexes, lock_tables
from directus_tx.schema_service.payloads import (
    FIELD_ATTRIBUTES,
    FIELDS,
    Item,
    built_in,
    changed_field,
    check_once,
    new_field,
    only,
)
from directus_tx.schema_service.read import field_answer
from directus_tx.schema_service.rows import create_rows, declare, delete_rows_where, execute, reread, touch


async def create_field(service: Items, ctx: Context, collection: str, payload: Mapping[str, Any], options: WriteOptions) -> Item:
    """Adds a field to a collection. System collections can have additional fields, too."""
    if not ctx.accountability.admin:
        raise CreateForbidden("Only administrators may add fields.")
    present = access_of(ctx).grant(collection).collection
    flags = flags_of([payload])

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        await lock_for_fields(ctx, present, [payload])
        field = await add_field(ctx, writer, present, payload)
        schema = await reread(ctx)
        if await declare_indexes(ctx, schema, collection, flags=flags):
            schema = await reread(ctx)
        writer.new_schema = schema
        return field_answer(schema.collections[collection].fields[field.field], schema.collections[collection])

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def update_fields(
    service: Items, ctx: Context, collection: str, changes: Sequence[tuple[str, Mapping[str, Any]]], options: WriteOptions
) -> tuple[list[Item], tuple[Notice, ...]]:
    """Changes fields and their columns, all or none, and keeps the data. Returns the fields, and notices of what was done to the
    columns. Raises FieldNotFound, FieldNotAltered."""
    if not ctx.accountability.admin:
        raise UpdateForbidden("Only administrators may change fields.")
    present = access_of(ctx).grant(collection).collection
    for name, payload in changes:
        if present.system and name in built_in(collection):
            raise SystemCollection("The fields of system collections cannot be changed.")
        only(payload, FIELD_ATTRIBUTES)
        if name not in present.fields:
            raise FieldNotFound(f'"{collection}" has no field "{name}".')
    named = [{**payload, "field": name} for name, payload in changes]
    flags = flags_of(named)

    async def work(writer: Writer) -> tuple[list[Item], tuple[Notice, ...]]:
        ctx = writer.ctx
        if not await lock_for_fields(ctx, present, named):
            await lock_for_indexes(ctx, present, {}, flags, None)
        notices: tuple[Notice, ...] = ()
        for name, payload in changes:
            notices += await change_field(ctx, writer, present.fields[name], payload)
        schema = await reread(ctx)
        if await declare_indexes(ctx, schema, collection, flags=flags, altered=altered_fields(present, schema)):
            schema = await reread(ctx)
        writer.new_schema = schema
        changed = schema.collections[collection]
        return [field_answer(changed.fields[name], changed) for name, _ in changes], notices

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def delete_field(
    service: Items, ctx: Context, collection: str, name: str, options: WriteOptions, *, delete_junction: bool = False
) -> tuple[Notice, ...]:
    """Deletes a field, its column, its relations, and for a status field the permissions by status. Returns a notice if indexes or
    constraints that concern other fields, too, have been deleted."""
    if not ctx.accountability.admin:
        raise DeleteForbidden("Only administrators may delete fields.")
    present = access_of(ctx).grant(collection).collection
    field = present.fields.get(name)
    if field is None:
        raise FieldNotFound(f'"{collection}" has no field "{name}".')
    if present.system and name in built_in(collection):
        raise AlterForbidden("The fields of system collections cannot be deleted.")
    if field.primary_key or (field.has_column and len(present.columns) == 1):
        raise InvalidPayload("A collection needs its key and at least one field.")

    async def work(writer: Writer) -> tuple[Notice, ...]:
        ctx = writer.ctx
        notices: tuple[Notice, ...] = ()
        altered: dict[str, Iterable[str] | None] = {collection: [name]} if field.has_column else {}
        if delete_junction:
            altered |= dict.fromkeys(junctions(ctx.schema, field))
        if field.has_column:
            await stop_building(ctx, [index for index in ctx.schema.collections[collection].indexes if index.names(name)])
        if altered:
            await lock_tables(ctx, altered)
        await writer.before("field_delete", collection=collection, field=name)
        await delete_rows_where(ctx, writer, FIELDS, {"collection": collection, "field": name})
        if field.has_column:
            notices = await dropped_with(ctx, field)
            await forget_indexes(ctx, collection, field=name)
            await drop(ctx, ddl.drop_column(field), field.collection, field.field)
        await forget_relations(ctx, writer, field, delete_junction=delete_junction)
        if field.type == "status":
            rows = await ctx.db.query(
                "SELECT id FROM directus_permissions WHERE collection = %s AND status IS NOT NULL", (collection,)
            )
            await writer.delete("directus_permissions", [row[0] for row in rows])
        await touch(ctx)
        writer.after("field_delete", collection=collection, field=name)
        return notices

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def add_field(ctx: Context, writer: Writer, collection: Collection, payload: Mapping[str, Any]) -> Field:
    """Adds a field to an existing collection."""
    field = new_field(collection.collection, payload, custom=ctx.schema.custom)
    if field.field in collection.fields:
        raise FieldExists(f'"{collection.collection}" has a field "{field.field}" already.')
    if field.primary_key or field.auto_increment:
        raise InvalidPayload("A collection has one key, which it is made with.")
    check_once([*collection.fields.values(), field])
    await writer.before("field_create", collection=field.collection, field=field.field, payload=payload)
    # The row of a field of this name whose column another program has dropped.
    await delete_rows_where(ctx, writer, FIELDS, {"collection": field.collection, "field": field.field})
    await forget_indexes(ctx, field.collection, field=field.field)
    if field.has_column:
        await execute(ctx, ddl.add_column(field, search=collection.search_index))
    await create_rows(writer, [(field, payload)])
    writer.after("field_create", collection=field.collection, field=field.field)
    return field


async def change_field(ctx: Context, writer: Writer, old: Field, payload: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Changes a field's column and row. Returns a notice if the column is changed."""
    only(payload, FIELD_ATTRIBUTES)
    new = changed_field(old, payload, custom=ctx.schema.custom)
    collection = ctx.schema.collections[old.collection]
    check_once([new if field is old else field for field in collection.fields.values()])
    await writer.before("field_update", collection=old.collection, field=old.field, payload=payload)
    await change_column(ctx, old, new)
    row = {name: payload[name] for name in ROW_ATTRIBUTES if name in payload}
    if old.id is None:
        # As long as it keeps its type, it stays as it was shown without a row: the interface of a foreign key, required by NOT NULL.
        kept = ("interface", "required") if new.type == old.type else ()
        shown = {"type": new.type} | {name: getattr(old, name) for name in kept}
        await create_rows(writer, [(new, shown | dict(payload))])
    else:
        await writer.update(FIELDS, [(old.id, row)])
        await declare(ctx, [new])
    writer.after("field_update", collection=old.collection, field=old.field)
    return alterations(old, new)
