"""Writes the rows of directus_collections and directus_fields that describe collections and fields, and reads the changed schema."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from directus_tx.context import Context
from directus_tx.db.sql import SQL, Identifier
from directus_tx.items import Writer
from directus_tx.items.history import chunks, values
from directus_tx.schema.introspect import read_snapshot
from directus_tx.schema.model import ROW_ATTRIBUTES, Field, Snapshot
from directus_tx.schema_service.payloads import FIELDS


async def create_rows(writer: Writer, fields: Sequence[tuple[Field, Mapping[str, Any]]]) -> None:
    """Writes the rows of new fields and the declarations of their columns."""
    rows = [
        {"collection": field.collection, "field": field.field, "sort": 0, "width": "full", "locked": False}
        | {name: payload[name] for name in ROW_ATTRIBUTES if payload.get(name) is not None}
        for field, payload in fields
    ]
    if rows:
        await writer.create(FIELDS, rows)
        await declare(writer.ctx, [field for field, _ in fields])


async def declare(ctx: Context, fields: Sequence[Field]) -> None:
    """Stores the declared datatype, length and sign of columns."""
    for chunk in chunks(fields):
        # Columns that the server has not made keep the types that the database says.
        bound = [
            each
            for f in chunk
            for each in (f.collection, f.field, *((f.datatype, f.length) if f.declared else (None, None)), f.signed)
        ]
        sql = SQL(
            "UPDATE directus_fields AS t SET datatype = v.datatype, length = v.length, signed = v.signed"
            " FROM (VALUES {}) AS v(collection, field, datatype, length, signed) WHERE (t.collection, t.field) = (v.collection, v.field)"
        )
        await ctx.db.query(sql.format(values(len(chunk), 5)), bound)


async def delete_rows_where(ctx: Context, writer: Writer, table: str, wanted: Mapping[str, str]) -> None:
    """Deletes rows of a system collection by the values of columns, with their history."""
    condition = SQL(" AND ").join([SQL("{} = %s").format(Identifier(name)) for name in wanted])
    sql = SQL("SELECT id FROM {} WHERE {} ORDER BY id").format(Identifier(table), condition)
    keys = [row[0] for row in await ctx.db.query(sql, list(wanted.values()))]
    if keys:
        await writer.delete(table, keys)


async def touch(ctx: Context) -> None:
    """Increases the schema version, so that every process reads the schema again. PostgreSQL does not notify of DDL."""
    await ctx.db.query("SELECT directus_touch('schema')")


async def reread(ctx: Context) -> Snapshot:
    """Returns the schema as changed by this transaction."""
    await touch(ctx)
    return await read_snapshot(ctx.db, ctx.schema.schemas, ctx.schema.custom)


async def execute(ctx: Context, statements: Iterable[Any]) -> None:
    for statement in statements:
        await ctx.db.query(statement)
