"""Drops tables and columns, and deletes the rows that describe or refer to them."""

from collections.abc import Iterable

from directus_tx.context import Context
from directus_tx.db.sql import Composable
from directus_tx.errors import ApiError, FieldNotAltered, InvalidRequest, Notice
from directus_tx.items import Writer
from directus_tx.schema import ddl
from directus_tx.schema.model import Field, Relation, Snapshot
from directus_tx.schema_service.indexes import forget_indexes
from directus_tx.schema_service.payloads import COLLECTIONS, FIELDS
from directus_tx.schema_service.rows import delete_rows_where

DEPENDENT_OBJECTS_STILL_EXIST = "2BP01"


async def drop_collection(ctx: Context, writer: Writer, name: str) -> None:
    await forget_collection(ctx, writer, name)
    await drop(ctx, ddl.drop_table(name), name)


async def drop(ctx: Context, statement: Composable, collection: str, field: str | None = None) -> None:
    """Drops a table, or one of its columns. Raises InvalidRequest, which names what depends on it."""
    bound = {"table": collection, "column": field}
    computed = await ctx.db.query(ddl.GENERATED_FROM, bound) if field is not None else ()
    if computed:
        raise _needed(collection, field, computed)
    await ctx.db.query("SAVEPOINT dropped")
    try:
        await ctx.db.query(statement)
    except ApiError as error:
        if error.diagnostics is None or error.diagnostics.sqlstate != DEPENDENT_OBJECTS_STILL_EXIST:
            raise
        await ctx.db.query("ROLLBACK TO SAVEPOINT dropped")
        found = await ctx.db.query(ddl.DEPENDENTS, bound)
        raise _needed(collection, field, found) if found else error from error
    await ctx.db.query("RELEASE SAVEPOINT dropped")


async def dropped_with(ctx: Context, field: Field) -> tuple[Notice, ...]:
    """Returns a notice of the indexes and constraints that PostgreSQL drops with a column although they concern other columns, too;
    none if there are none. Call it while the column exists."""
    collection = ctx.schema.collections[field.collection]
    # The indexes that the field itself declares have the key in them.
    own = {index.name for index in collection.indexes_of(field.field)}
    rows = await ctx.db.query(ddl.DROPPED_WITH, {"table": field.collection, "column": field.field})
    found = [row for row in rows if row[1] not in own]
    # Declared indexes that are still to be built.
    found += [
        ("index", each.name)
        for each in collection.indexes
        if each.names(field.field) and not each.present and each.name not in own
    ]
    if not found:
        return ()
    named = ", ".join(f'{kind} "{name}"' for kind, name in found)
    said = f"{field.collection}.{field.field}: this was deleted with the field, although it concerned other fields, too: {named}."
    return (Notice(FieldNotAltered.code, said, (field.field,)),)


def _needed(collection: str, field: str | None, dependents: Iterable[tuple[str, str]]) -> InvalidRequest:
    what = f'"{collection}"' if field is None else f'The field "{field}" of "{collection}"'
    named = ", ".join(" ".join(each) for each in dependents)
    return InvalidRequest(f"{what} cannot be deleted, because this depends on it: {named}.")


async def forget_collection(ctx: Context, writer: Writer, name: str) -> None:
    """Deletes the rows that describe or refer to a collection, and the one-to-many fields that list its items."""
    for relation in ctx.schema.relations:
        if relation.collection_many == name and relation.id is not None:
            await _delete_alias(ctx, writer, relation)
    for table, column in (
        (FIELDS, "collection"),
        ("directus_permissions", "collection"),
        ("directus_collection_presets", "collection"),
        ("directus_relations", "collection_many"),
    ):
        await delete_rows_where(ctx, writer, table, {column: name})
    await forget_indexes(ctx, name)
    if await ctx.db.query("SELECT 1 FROM directus_collections WHERE collection = %s", (name,)):
        await writer.delete(COLLECTIONS, [name])


async def _delete_alias(ctx: Context, writer: Writer, relation: Relation) -> None:
    """Deletes the one-to-many field of a relation."""
    one = ctx.schema.collections.get(relation.collection_one or "")
    alias = one.fields.get(relation.field_one or "") if one is not None and not one.system else None
    if alias is not None and not alias.has_column:
        await delete_rows_where(ctx, writer, FIELDS, {"collection": alias.collection, "field": alias.field})


async def forget_relations(ctx: Context, writer: Writer, field: Field, *, delete_junction: bool) -> None:
    """Deletes or changes the relations of a deleted field, and the alias field of the other side."""
    place = (field.collection, field.field)
    for relation in ctx.schema.relations:
        if relation.id is None:
            continue
        if (relation.collection_many, relation.field_many) == place:
            await writer.delete("directus_relations", [relation.id])
            await _delete_alias(ctx, writer, relation)
        elif (relation.collection_one, relation.field_one) == place:
            if relation.junction_field is None:
                await writer.update("directus_relations", [(relation.id, {"field_one": None})])
                continue
            junction = relation.collection_many
            if delete_junction and junction in ctx.schema.collections:
                await drop_collection(ctx, writer, junction)
            else:
                both = [r.id for r in ctx.schema.relations if r.id is not None and _in_junction(r, relation)]
                await writer.delete("directus_relations", both)


def junctions(schema: Snapshot, field: Field) -> list[str]:
    """Returns the collections that are the junction of a field."""
    return [
        relation.collection_many
        for relation in schema.relations
        if relation.junction_field is not None
        and (relation.collection_one, relation.field_one) == (field.collection, field.field)
        and relation.id is not None
        and relation.collection_many in schema.collections
    ]


def _in_junction(relation: Relation, first: Relation) -> bool:
    return relation.collection_many == first.collection_many and relation.field_many in (first.field_many, first.junction_field)
