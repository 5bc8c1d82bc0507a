"""Creates, changes and deletes collections and fields. Each change writes the table and the rows that describe it in one transaction.

`items` writes the rows of directus_collections and directus_fields with their history; `schema.ddl` builds the DDL.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import asdict

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.db.sql import SQL, Composable, Identifier
from directus_tx.errors import (
    AlterForbidden,
    ApiError,
    BadRequest,
    CollectionExists,
    CreateForbidden,
    DeleteForbidden,
    FieldExists,
    FieldNotAltered,
    FieldNotFound,
    InternalError,
    InvalidPayload,
    InvalidRequest,
    Notice,
    NotUnique,
    ServiceUnavailable,
    SystemCollection,
    UnmanagedCollection,
    UpdateForbidden,
)
from directus_tx.items import Writer, in_transaction
from directus_tx.items.history import chunks, values
from directus_tx.items.service import Items
from directus_tx.query import WriteOptions
from directus_tx.schema import ddl
from directus_tx.schema.datatypes import searched
from directus_tx.schema.introspect import read_fingerprint, read_snapshot
from directus_tx.schema.model import ALIAS_TYPES, PARTITIONED, ROW_ATTRIBUTES, TABLE, Collection, Field, Relation, Snapshot
from directus_tx.schema_service.payloads import (
    COLLECTION_ATTRIBUTES,
    COLLECTIONS,
    COLUMN_ATTRIBUTES,
    FIELDS,
    Item,
    built_in,
    changed_field,
    check_collection,
    check_collection_name,
    check_once,
    check_together,
    new_field,
    only,
)
from directus_tx.schema_service.read import collection_answer, field_answer

DEPENDENT_OBJECTS_STILL_EXIST = "2BP01"

# --- collections


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
    fields = [new_field(name, each, present.fields if present is not None else {}) for each in wanted]
    check_together(fields, present)

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        columns = [] if present is None else [f for f in fields if f.has_column and f.field not in present.columns]
        if columns:
            await _lock(ctx, {name: ()})
        elif present is not None:
            await _lock_for_index(ctx, present, payload)
        row = {n: payload[n] for n in COLLECTION_ATTRIBUTES if n in payload} | {"managed": True}
        if payload.get("managed") is False:
            row["managed"] = False
        if present is None:
            # Rows of a collection of this name whose table another program has dropped.
            await _forget_collection(ctx, writer, name)
            await _execute(ctx, ddl.create_table(name, fields))
        for field in columns:
            await _execute(ctx, ddl.add_column(field))
        if present is not None and present.has_row:
            await writer.update(COLLECTIONS, [(name, {n: v for n, v in row.items() if n != "collection"})])
        else:
            await writer.create(COLLECTIONS, [row])
        await _declare_collection(ctx, name, payload)
        known = {f.field for f in present.fields.values() if f.id is not None} if present else set()
        pairs = [(f, each) for f, each in zip(fields, wanted, strict=True) if f.field not in known]
        await _create_rows(writer, pairs)
        schema = await _reread(ctx)
        await _index_searches(ctx, present, schema.collections[name])
        return collection_answer(schema, schema.collections[name])

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

    async def work(writer: Writer) -> tuple[Item, tuple[Notice, ...]]:
        ctx = writer.ctx
        if not await _lock_for_fields(ctx, present, fields):
            await _lock_for_index(ctx, present, payload)
        row = {n: payload[n] for n in COLLECTION_ATTRIBUTES if n in payload and n != "collection"}
        if present.has_row:
            await writer.update(COLLECTIONS, [(name, row)])
        else:
            await writer.create(COLLECTIONS, [{"collection": name, **row}])
        await _declare_collection(ctx, name, payload)
        notices: tuple[Notice, ...] = ()
        for each in fields:
            old = _named_field(present, each)
            if old is not None:
                notices += await _change(ctx, writer, old, each)
            else:
                await _add(ctx, writer, present, each)
        schema = await _reread(ctx)
        await _index_searches(ctx, present, schema.collections[name])
        return collection_answer(schema, schema.collections[name]), notices

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def _declare_collection(ctx: Context, name: str, payload: Mapping[str, Any]) -> None:
    """Stores search_index, which is not an attribute of directus_collections in Directus 8."""
    if payload.get("search_index") is not None:
        sql = "UPDATE directus_collections SET search_index = %s WHERE collection = %s"
        await ctx.db.query(sql, (payload["search_index"], name))


async def _index_searches(ctx: Context, old: Collection | None, new: Collection) -> None:
    """Creates or drops the trigram indexes if `search_index` has changed. Raises InvalidRequest if the database server cannot create
    them."""
    if new.search_index == (old is not None and old.search_index):
        return
    if not new.search_index:
        names = await ctx.db.query(ddl.SEARCH_INDEXES_OF, (new.collection,))
        await _execute(ctx, [ddl.drop_index(new.collection, name) for (name,) in names])
        return
    found = await ctx.db.query(ddl.TRIGRAMS)
    if not any(installed or allowed for installed, allowed in found):
        raise InvalidRequest(
            '"search_index" needs the extension pg_trgm, which this PostgreSQL does not have, or may not be installed.'
        )
    if not any(installed for installed, _ in found):
        await ctx.db.query("CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public")
    # Creating an index on a large table may take longer than statement_timeout.
    await ctx.db.lift_time_limit()
    await _execute(ctx, [ddl.search_index(field) for field in new.columns.values() if searched(field)])


async def delete_collection(service: Items, ctx: Context, name: str, options: WriteOptions) -> None:
    """Drops the table of a collection and deletes its fields, permissions, presets, and relations of which it is the many side."""
    access_of(ctx).require_schema(delete=True)
    if name.startswith("directus_"):
        raise AlterForbidden("System collections cannot be deleted.")
    access_of(ctx).grant(name)

    async def work(writer: Writer) -> None:
        ctx = writer.ctx
        await _lock(ctx, {name: None})
        await _drop_collection(ctx, writer, name)
        await _touch(ctx)

    await in_transaction(service, ctx, options, work, changes_schema=True)


async def _drop_collection(ctx: Context, writer: Writer, name: str) -> None:
    await _forget_collection(ctx, writer, name)
    await _drop(ctx, ddl.drop_table(name), name)


async def _drop(ctx: Context, statement: Composable, collection: str, field: str | None = None) -> None:
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


def _needed(collection: str, field: str | None, dependents: Iterable[tuple[str, str]]) -> InvalidRequest:
    what = f'"{collection}"' if field is None else f'The field "{field}" of "{collection}"'
    named = ", ".join(" ".join(each) for each in dependents)
    return InvalidRequest(f"{what} cannot be deleted, because this depends on it: {named}.")


async def _forget_collection(ctx: Context, writer: Writer, name: str) -> None:
    """Deletes the rows that describe or refer to a collection."""
    for table, column in (
        (FIELDS, "collection"),
        ("directus_permissions", "collection"),
        ("directus_collection_presets", "collection"),
        ("directus_relations", "collection_many"),
    ):
        await _delete_where(ctx, writer, table, {column: name})
    if await ctx.db.query("SELECT 1 FROM directus_collections WHERE collection = %s", (name,)):
        await writer.delete(COLLECTIONS, [name])


# --- fields


async def create_field(service: Items, ctx: Context, collection: str, payload: Mapping[str, Any], options: WriteOptions) -> Item:
    """Adds a field to a collection. System collections can have additional fields, too."""
    if not ctx.accountability.admin:
        raise CreateForbidden("Only administrators may add fields.")
    present = access_of(ctx).grant(collection).collection

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        await _lock_for_fields(ctx, present, [payload])
        field = await _add(ctx, writer, present, payload)
        schema = await _reread(ctx)
        return field_answer(schema.collections[collection].fields[field.field])

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
        only(payload, ("id", "collection", "field", *ROW_ATTRIBUTES, *COLUMN_ATTRIBUTES))
        if name not in present.fields:
            raise FieldNotFound(f'"{collection}" has no field "{name}".')

    async def work(writer: Writer) -> tuple[list[Item], tuple[Notice, ...]]:
        ctx = writer.ctx
        await _lock_for_fields(ctx, present, [{**payload, "field": name} for name, payload in changes])
        notices: tuple[Notice, ...] = ()
        for name, payload in changes:
            notices += await _change(ctx, writer, present.fields[name], payload)
        schema = await _reread(ctx)
        return [field_answer(schema.collections[collection].fields[name]) for name, _ in changes], notices

    return await in_transaction(service, ctx, options, work, changes_schema=True)


async def delete_field(
    service: Items, ctx: Context, collection: str, name: str, options: WriteOptions, *, delete_junction: bool = False
) -> None:
    """Deletes a field, its column, its relations, and for a status field the permissions by status."""
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

    async def work(writer: Writer) -> None:
        ctx = writer.ctx
        altered: dict[str, Iterable[str] | None] = {collection: [name]} if field.has_column else {}
        if delete_junction:
            altered |= dict.fromkeys(_junctions(ctx.schema, field))
        if altered:
            await _lock(ctx, altered)
        await _delete_where(ctx, writer, FIELDS, {"collection": collection, "field": name})
        if field.has_column:
            await _drop(ctx, ddl.drop_column(field), field.collection, field.field)
        await _forget_relations(ctx, writer, field, delete_junction=delete_junction)
        if field.type == "status":
            rows = await ctx.db.query(
                "SELECT id FROM directus_permissions WHERE collection = %s AND status IS NOT NULL", (collection,)
            )
            await writer.delete("directus_permissions", [row[0] for row in rows])
        await _touch(ctx)

    await in_transaction(service, ctx, options, work, changes_schema=True)


async def _forget_relations(ctx: Context, writer: Writer, field: Field, *, delete_junction: bool) -> None:
    """Deletes or changes the relations of a deleted field, and the alias field of the other side."""
    place = (field.collection, field.field)
    for relation in ctx.schema.relations:
        if relation.id is None:
            continue
        if (relation.collection_many, relation.field_many) == place:
            await writer.delete("directus_relations", [relation.id])
            one = ctx.schema.collections.get(relation.collection_one or "")
            alias = one.fields.get(relation.field_one or "") if one else None
            if alias is not None and not alias.has_column:
                await _delete_where(ctx, writer, FIELDS, {"collection": alias.collection, "field": alias.field})
        elif (relation.collection_one, relation.field_one) == place:
            if relation.junction_field is None:
                await writer.update("directus_relations", [(relation.id, {"field_one": None})])
                continue
            junction = relation.collection_many
            if delete_junction and junction in ctx.schema.collections:
                await _drop_collection(ctx, writer, junction)
            else:
                both = [r.id for r in ctx.schema.relations if r.id is not None and _in_junction(r, relation)]
                await writer.delete("directus_relations", both)


def _junctions(schema: Snapshot, field: Field) -> list[str]:
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
    return relation.collection_many == first.collection_many and relation.field_many in (
        first.field_many,
        first.junction_field,
    )


async def _add(ctx: Context, writer: Writer, collection: Collection, payload: Mapping[str, Any]) -> Field:
    """Adds a field to an existing collection."""
    field = new_field(collection.collection, payload)
    if field.field in collection.fields:
        raise FieldExists(f'"{collection.collection}" has a field "{field.field}" already.')
    if field.primary_key or field.auto_increment:
        raise InvalidPayload("A collection has one key, which it is made with.")
    check_once([*collection.fields.values(), field])
    # The row of a field of this name whose column another program has dropped.
    await _delete_where(ctx, writer, FIELDS, {"collection": field.collection, "field": field.field})
    if field.has_column:
        await _execute(ctx, ddl.add_column(field, search=collection.search_index))
    await _create_rows(writer, [(field, payload)])
    return field


async def _change(ctx: Context, writer: Writer, old: Field, payload: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Changes a field's column and row. Returns a notice if the column is changed."""
    only(payload, ("id", "collection", "field", *ROW_ATTRIBUTES, *COLUMN_ATTRIBUTES))
    new = changed_field(old, payload)
    collection = ctx.schema.collections[old.collection]
    check_once([new if field is old else field for field in collection.fields.values()])
    await _change_column(ctx, old, new)
    row = {name: payload[name] for name in ROW_ATTRIBUTES if name in payload}
    if old.id is None:
        await _create_rows(writer, [(new, {"type": new.type} | dict(payload))])
    else:
        await writer.update(FIELDS, [(old.id, row)])
        await _declare(ctx, [new])
    return _alterations(old, new)


async def _change_column(ctx: Context, old: Field, new: Field) -> None:
    if not old.has_column and not new.has_column:
        return
    if not old.has_column:
        await _execute(ctx, ddl.add_column(new, search=ctx.schema.collections[new.collection].search_index))
        return
    if not new.has_column:
        if old.primary_key:
            raise InvalidPayload("The key of a collection needs its column.")
        await _execute(ctx, [ddl.drop_column(old)])
        return
    # The index of a key of another item is only for columns that the server has made.
    indexed = _becomes_key(old, new)
    if new.required and not old.required and not new.auto_increment and await ctx.db.query(ddl.has_nulls(old)):
        raise FieldNotAltered(f'"{old.field}" cannot be required: some items have no value there.')
    unlike = old.column_type != new.column_type
    search = ctx.schema.collections[old.collection].search_index
    reindexed = unlike or old.unique != new.unique or (search and searched(old) != searched(new))
    try:
        if reindexed:
            keys = bool({old.type, new.type} & ddl.INDEXED_TYPES)
            found = await ctx.db.query(ddl.INDEXES_OF, {"table": old.collection, "column": old.field, "keys": keys})
            await _execute(ctx, [ddl.drop_index(old.collection, name, constraint) for name, constraint in found])
        if unlike:
            using = ddl.conversion(old, new)
            if using is None:
                raise FieldNotAltered(f'The values of "{old.field}" cannot become {new.datatype}.')
            ((count,),) = await ctx.db.query(ddl.count_losses(old, new, using))
            if count:
                rows = "1 row" if count == 1 else f"{count} rows"
                raise FieldNotAltered(
                    f'"{old.field}" cannot change from {old.domain or old.column_type} to {new.column_type}:'
                    f" a part of the value of {rows} would be lost."
                )
            await _execute(ctx, ddl.alter_type(old, new, using))
        if unlike or old.default_value != new.default_value:
            await _execute(ctx, [ddl.set_default(new)] if not new.auto_increment else [])
        if reindexed or indexed:
            await _execute(ctx, ddl.indexes(new, search=search and reindexed))
    except (NotUnique, InvalidPayload, InvalidRequest) as error:
        raise FieldNotAltered(f'The stored values of "{old.field}" do not allow this: {error.message}') from error
    except (BadRequest, InternalError) as error:
        # Views, partial indexes and triggers may depend on the column.
        if (
            error.diagnostics is None
            or error.diagnostics.sqlstate[:2] not in ("0A", "42")
            or error.diagnostics.sqlstate == "42501"
        ):
            raise
        raise FieldNotAltered(f'Other parts of the database need "{old.field}" as it is.') from error


async def _create_rows(writer: Writer, fields: Sequence[tuple[Field, Mapping[str, Any]]]) -> None:
    """Writes the rows of new fields and the declarations of their columns."""
    rows = [
        {"collection": field.collection, "field": field.field, "sort": 0, "width": "full", "locked": False}
        | {name: payload[name] for name in ROW_ATTRIBUTES if payload.get(name) is not None}
        for field, payload in fields
    ]
    if rows:
        await writer.create(FIELDS, rows)
        await _declare(writer.ctx, [field for field, _ in fields])


async def _declare(ctx: Context, fields: Sequence[Field]) -> None:
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


# --- locks


async def _lock(ctx: Context, columns: Mapping[str, Iterable[str] | None], *, against: str = "ACCESS EXCLUSIVE") -> None:
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
    newest = await read_snapshot(ctx.db, ctx.schema.schemas)
    if newest.relations != ctx.schema.relations or any(
        _described(newest, each) != _described(ctx.schema, each) for each in columns
    ):
        changed = ServiceUnavailable("The schema has changed; try again.")
        changed.depends_on_schema = True
        raise changed


def _described(schema: Snapshot, name: str) -> Mapping[str, Any] | None:
    """Returns a collection with its fields as plain values; None if there is none."""
    collection = schema.collections.get(name)
    return None if collection is None else asdict(collection)


def _alters(old: Field, new: Field, *, search: bool) -> bool:
    """Whether `_change_column` changes the table. *search*: the collection has trigram indexes."""
    if not (old.has_column and new.has_column):
        return old.has_column or new.has_column
    return (
        old.column_type != new.column_type
        or old.unique != new.unique
        or old.default_value != new.default_value
        or (search and searched(old) != searched(new))
        or _becomes_key(old, new)
    )


def _becomes_key(old: Field, new: Field) -> bool:
    """Whether a column that the server has made gets the index of a key of another item."""
    return new.declared and not new.unique and new.type in ddl.INDEXED_TYPES and old.type not in ddl.INDEXED_TYPES


def _alterations(old: Field, new: Field) -> tuple[Notice, ...]:
    """Returns a notice of what a change of a field does to its column; none if it does nothing."""
    before, after = old.domain or old.column_type, new.column_type
    if not (old.has_column and new.has_column):
        if old.has_column == new.has_column:
            return ()
        done = [f"the column was dropped; its type was {before}" if old.has_column else f"a column of type {after} was added"]
    else:
        done = []
        if old.column_type != new.column_type:
            done.append(f"the type of the column was changed from {before} to {after}")
        if old.default_value != new.default_value:
            shown = ["none" if each.default_value is None else f'"{each.default_value}"' for each in (old, new)]
            done.append(f"the default was changed from {shown[0]} to {shown[1]}")
        if old.unique != new.unique:
            done.append("the column was made unique" if new.unique else "the column is no longer unique")
    if not done:
        return ()
    return (Notice(FieldNotAltered.code, f"{old.collection}.{old.field}: {', '.join(done)}.", (old.field,)),)


def _refitted(old: Field, new: Field) -> bool:
    """Whether the column is dropped or gets another type."""
    return old.has_column and (not new.has_column or old.column_type != new.column_type)


async def _lock_for_fields(ctx: Context, collection: Collection, payloads: Iterable[Mapping[str, Any]]) -> bool:
    """Locks the table of a collection if a payload adds or alters a column. Returns whether it is locked."""
    altered, refitted = False, []
    for payload in payloads:
        old = _named_field(collection, payload)
        if old is None:
            altered |= payload.get("type") not in tuple(ALIAS_TYPES)
            continue
        new = changed_field(old, payload)
        altered |= _alters(old, new, search=collection.search_index)
        if _refitted(old, new):
            refitted.append(old.field)
    if altered:
        await _lock(ctx, {collection.collection: refitted})
    return altered


def _named_field(collection: Collection, payload: Mapping[str, Any]) -> Field | None:
    """Returns the field of a collection that a payload names, if there is one."""
    name = payload.get("field")
    return collection.fields.get(name) if isinstance(name, str) else None


async def _lock_for_index(ctx: Context, collection: Collection, payload: Mapping[str, Any]) -> None:
    """Locks the table of a collection if the payload changes `search_index`: to create the indexes against writes only."""
    wanted = payload.get("search_index")
    if wanted is not None and wanted != collection.search_index:
        await _lock(ctx, {collection.collection: ()}, against="SHARE" if wanted else "ACCESS EXCLUSIVE")


# --- the database


async def _execute(ctx: Context, statements: Iterable[Any]) -> None:
    for statement in statements:
        await ctx.db.query(statement)


async def _delete_where(ctx: Context, writer: Writer, table: str, wanted: Mapping[str, str]) -> None:
    """Deletes rows of a system collection by the values of columns, with their history."""
    condition = SQL(" AND ").join([SQL("{} = %s").format(Identifier(name)) for name in wanted])
    sql = SQL("SELECT id FROM {} WHERE {} ORDER BY id").format(Identifier(table), condition)
    keys = [row[0] for row in await ctx.db.query(sql, list(wanted.values()))]
    if keys:
        await writer.delete(table, keys)


async def _touch(ctx: Context) -> None:
    """Increases the schema version, so that every process reads the schema again. PostgreSQL does not notify of DDL."""
    await ctx.db.query("SELECT directus_touch('schema')")


async def _reread(ctx: Context) -> Snapshot:
    """Returns the schema as changed by this transaction."""
    await _touch(ctx)
    return await read_snapshot(ctx.db, ctx.schema.schemas)
