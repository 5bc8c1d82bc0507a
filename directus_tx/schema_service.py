"""Collections and fields: creates, changes and deletes them, table and rows together, each change in one transaction.

The rows of directus_collections and directus_fields are items like others, written by `items` with their history; the DDL beside
them is `schema.ddl`'s.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from directus_tx.access import NO_FIELDS, SECRETS, Grant, access_of
from directus_tx.context import Context
from directus_tx.db import SQL, Identifier
from directus_tx.errors import (
    AlterForbidden,
    CollectionExists,
    CreateForbidden,
    DeleteForbidden,
    FieldExists,
    FieldNotAltered,
    FieldNotFound,
    HiddenField,
    InvalidPayload,
    InvalidRequest,
    ItemNotFound,
    NotUnique,
    SystemCollection,
    UnknownField,
    UnmanagedCollection,
    UpdateForbidden,
)
from directus_tx.items import Result, Writer, chosen_meta, writing
from directus_tx.query import Query, WriteOptions
from directus_tx.schema import ddl
from directus_tx.schema.datatypes import DATATYPES, column_type, searched
from directus_tx.schema.introspect import read_snapshot
from directus_tx.schema.model import ALIAS_TYPES, ROW_ATTRIBUTES, Collection, Field, Relation, Snapshot
from directus_tx.schema.system import CATALOGUE

Item = dict[str, Any]
COLLECTIONS, FIELDS = "directus_collections", "directus_fields"

COLLECTION_ATTRIBUTES = ("collection", "managed", "hidden", "single", "icon", "note", "translation")
"""What the row of directus_collections says, to the API's own knowledge."""

COLUMN_ATTRIBUTES = ("datatype", "length", "signed", "unique", "primary_key", "auto_increment", "default_value")
"""What a field's column says."""

ONCE = frozenset({"owner", "user_updated", "status", "sort", "lang", "datetime_created", "datetime_updated"})
"""Types of which a collection has one field at most."""

MAX_NAME = 63
"""PostgreSQL cuts longer names without a word."""


# --- reading


def collection_answer(schema: Snapshot, collection: Collection, *, grant: Grant | None = None) -> Item:
    """A collection as the API shows it, with its fields by name as far as *grant* allows, if there is one."""
    shown = {name: getattr(collection, name) for name in (*COLLECTION_ATTRIBUTES, "search_index")}
    if grant is not None:
        shown["fields"] = {field.field: field_answer(field) for field in _visible(grant)}
    return shown


def _visible(grant: Grant) -> list[Field]:
    """The fields of a collection that the caller may know of."""
    hidden = NO_FIELDS if grant.admin else grant.hidden - SECRETS.get(grant.collection.collection, NO_FIELDS)
    return [field for field in grant.collection.fields.values() if field.field not in hidden]


def field_answer(field: Field) -> Item:
    """A field as the API shows it: the row's attributes and the column's, the length and the default as text."""
    shown: Item = {"collection": field.collection, "field": field.field, "id": field.id}
    for name in (*COLUMN_ATTRIBUTES, *ROW_ATTRIBUTES):
        shown[name] = getattr(field, name)
    if DATATYPES.get(field.datatype or "TEXT", DATATYPES["TEXT"]).maximum is None:
        del shown["signed"]
    return shown


def read_collections(ctx: Context, query: Query, names: Sequence[str] | None = None) -> Result:
    """Collections: those named (never system ones), or all of them, the user's before the system's; to others than administrators
    those whose items they may read."""
    access = access_of(ctx)
    access.require_read(COLLECTIONS)
    schema = ctx.schema
    if names is not None:
        found = [schema.collections[name] for name in names if name in schema.collections and not name.startswith("directus_")]
    else:
        found = sorted(schema.collections.values(), key=lambda c: (c.system, not c.has_row, c.collection))
    found = [collection for collection in found if access.grant(collection.collection).read]
    users = sum(1 for each in schema.collections.values() if not each.system and access.grant(each.collection).read)
    items = [collection_answer(schema, each, grant=access.grant(each.collection)) for each in found]
    return _listed(query, COLLECTIONS, items, one=names is not None and len(names) == 1, total=users)


def read_fields(ctx: Context, query: Query, collection: str | None = None, names: Sequence[str] | None = None) -> Result:
    """Fields, as far as the caller may know of them: of all collections, of one, or of one by name. Raises FieldNotFound for a
    single name that is none, HiddenField for one that is hidden, ReadForbidden."""
    access = access_of(ctx)
    access.require_read(FIELDS)
    if collection is None:
        ordered = sorted(ctx.schema.collections.values(), key=lambda c: (c.system, c.collection))
        grants = [grant for each in ordered if (grant := access.grant(each.collection)).read]
        items = [field_answer(field) for grant in grants for field in _visible(grant)]
        _sort_all(items, query)
        return _listed(query, FIELDS, items, one=False, total=len(items))
    grant = access.require_read(collection)
    visible = {field.field: field for field in _visible(grant)}
    if names is None:
        items = [field_answer(field) for field in visible.values()]
        return _listed(Query(meta=query.meta), FIELDS, items, one=False, total=len(items))
    items = [field_answer(visible[name]) for name in names if name in visible]
    if not items and len(names) == 1:
        if names[0] in grant.collection.fields:
            raise HiddenField(f'You may not ask about "{names[0]}".')
        raise FieldNotFound(f'"{collection}" has no field "{names[0]}".')
    return _listed(Query(meta=query.meta), FIELDS, items, one=len(names) == 1, total=len(items))


def read_setting_fields(ctx: Context, query: Query) -> Result:
    """The fields that describe settings, by the settings' keys."""
    access_of(ctx).require_read("directus_settings")
    items = [
        field_answer(Field("directus_settings", **{n: v for n, v in each.items() if n != "default_value"}))
        for each in CATALOGUE.setting_fields
    ]
    items += [field_answer(f) for f in ctx.schema.collections["directus_settings"].fields.values() if not f.has_column]
    _sort_all(items, query)
    return _listed(query, FIELDS, items, one=False, total=len(items))


def _sort_all(items: list[Item], query: Query) -> None:
    """Sorts in place as a query asks. Raises UnknownField."""
    for sort in reversed(query.sort):
        if sort.field not in ("collection", "field", *COLUMN_ATTRIBUTES, *ROW_ATTRIBUTES, "id"):
            raise UnknownField(f'Fields have no attribute "{sort.field}" to sort by.')
        _sort(items, sort.field, sort.descending)


def _sort(items: list[Item], name: str, descending: bool) -> None:
    """Sorts in place, text without case, nulls last both ways. In capitals: so "_" comes after the letters, as in MySQL."""
    there = [item for item in items if item[name] is not None]
    there.sort(key=lambda item: str(item[name]).upper() if not isinstance(item[name], int) else item[name], reverse=descending)
    items[:] = there + [item for item in items if item[name] is None]


def _listed(query: Query, collection: str, items: list[Item], *, one: bool, total: int) -> Result:
    """A page of items that are in memory, or the first of them. Raises ItemNotFound where one is wanted and there is none."""
    start = max(query.offset or 0, 0)
    if query.limit is not None and query.limit >= 0:
        items = items[start : start + query.limit]
    elif query.limit is None:
        items = items[start:]
    kind = "item" if one or query.single else "collection"
    meta: Item = {"collection": collection, "type": kind}
    if one or query.single:
        if not items:
            raise ItemNotFound
        items = items[:1]
    else:
        meta |= {"result_count": len(items), "total_count": total}
    return Result(items[0] if one or query.single else items, chosen_meta(query, meta))


# --- collections


async def create_collection(ctx: Context, payload: Mapping[str, Any], options: WriteOptions) -> Item:
    """Creates a collection with its table, or takes over a table that is there and not managed.

    Raises InvalidRequest, InvalidPayload, CollectionExists and what its fields deserve.
    """
    access_of(ctx).require_schema()
    _check_collection(payload)
    name = payload.get("collection")
    if not isinstance(name, str) or not _is_name(name) or name.startswith("directus_"):
        raise InvalidRequest('"collection" needs a name with a letter or digit, and not "directus_...".')
    present = ctx.schema.collections.get(name)
    if present is not None and present.managed:
        raise CollectionExists(f'There is a collection "{name}" already.')
    wanted = payload.get("fields")
    if not isinstance(wanted, list) or not (wanted or present):
        raise InvalidRequest('"fields" needs a list of fields.')
    fields = [new_field(name, each) for each in wanted]
    _check_together(fields, present)

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        row = {n: payload[n] for n in COLLECTION_ATTRIBUTES if n in payload} | {"managed": True}
        if payload.get("managed") is False:
            row["managed"] = False
        if present is None:
            await _execute(ctx, ddl.create_table(name, fields))
        else:
            for field in fields:
                if field.has_column and field.field not in present.columns:
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

    return await writing(ctx, options, work, trusted=True)


async def update_collection(ctx: Context, name: str, payload: Mapping[str, Any], options: WriteOptions) -> Item:
    """Changes a collection's attributes, and the fields that come along. Its name stays."""
    access_of(ctx).require_schema()
    if name.startswith("directus_"):
        raise InvalidRequest("System collections cannot be changed.")
    if not payload:
        raise InvalidRequest("There is nothing to change.")
    _check_collection(payload)
    present = access_of(ctx).grant(name).collection
    if not present.managed and payload.get("managed") is not True:
        raise UnmanagedCollection(f'"{name}" is not managed.')
    fields = payload.get("fields", [])
    if not isinstance(fields, list) or not all(isinstance(each, dict) for each in fields):
        raise InvalidRequest('"fields" takes a list of fields.')

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        row = {n: payload[n] for n in COLLECTION_ATTRIBUTES if n in payload and n != "collection"}
        if present.has_row:
            await writer.update(COLLECTIONS, [(name, row)])
        else:
            await writer.create(COLLECTIONS, [{"collection": name, **row}])
        await _declare_collection(ctx, name, payload)
        for each in fields:
            if each.get("field") in present.fields:
                await _change(ctx, writer, present.fields[each["field"]], each)
            else:
                await _add(ctx, writer, present, each)
        schema = await _reread(ctx)
        await _index_searches(ctx, present, schema.collections[name])
        return collection_answer(schema, schema.collections[name])

    return await writing(ctx, options, work, trusted=True)


async def _declare_collection(ctx: Context, name: str, payload: Mapping[str, Any]) -> None:
    """Keeps what is declared of a collection beside the attributes of its row."""
    if payload.get("search_index") is not None:
        sql = "UPDATE directus_collections SET search_index = %s WHERE collection = %s"
        await ctx.db.query(sql, (payload["search_index"], name))


async def _index_searches(ctx: Context, old: Collection | None, new: Collection) -> None:
    """Makes or drops the indexes of trigrams where a collection's `search_index` has changed. Raises InvalidRequest where the
    database server cannot make them."""
    if new.search_index == (old is not None and old.search_index):
        return
    if not new.search_index:
        names = await ctx.db.query(ddl.SEARCH_INDEXES_OF, (new.collection,))
        await _execute(ctx, [ddl.drop_index(new.collection, name, None) for (name,) in names])
        return
    found = await ctx.db.query(ddl.TRIGRAMS)
    if not any(installed or allowed for installed, allowed in found):
        raise InvalidRequest('"search_index" needs the extension pg_trgm, which this PostgreSQL does not have, or not for us.')
    if not any(installed for installed, _ in found):
        await ctx.db.query("CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public")
    # A large table takes its time, which nobody else's statement may.
    await ctx.db.query("SET LOCAL statement_timeout = 0")
    await _execute(ctx, [ddl.search_index(field) for field in new.columns.values() if searched(field)])


async def delete_collection(ctx: Context, name: str, options: WriteOptions) -> None:
    """Drops a collection's table, with the rows that are about it: fields, permissions, presets, relations of its many side."""
    access_of(ctx).require_schema(delete=True)
    if name.startswith("directus_"):
        raise AlterForbidden("System collections cannot be deleted.")
    access_of(ctx).grant(name)

    async def work(writer: Writer) -> None:
        ctx = writer.ctx
        await _drop_collection(ctx, writer, name)
        await _touch(ctx)

    await writing(ctx, options, work, trusted=True)


async def _drop_collection(ctx: Context, writer: Writer, name: str) -> None:
    for table, column in (
        (FIELDS, "collection"),
        ("directus_permissions", "collection"),
        ("directus_collection_presets", "collection"),
        ("directus_relations", "collection_many"),
    ):
        await _delete_where(ctx, writer, table, {column: name})
    if ctx.schema.collections[name].has_row:
        await writer.delete(COLLECTIONS, [name])
    await _execute(ctx, [ddl.drop_table(name)])


# --- fields


async def create_field(ctx: Context, collection: str, payload: Mapping[str, Any], options: WriteOptions) -> Item:
    """Adds a field to a collection; to a system collection too, one of the project's own."""
    if not ctx.accountability.admin:
        raise CreateForbidden("Only administrators may add fields.")
    present = access_of(ctx).grant(collection).collection

    async def work(writer: Writer) -> Item:
        ctx = writer.ctx
        field = await _add(ctx, writer, present, payload)
        schema = await _reread(ctx)
        return field_answer(schema.collections[collection].fields[field.field])

    return await writing(ctx, options, work, trusted=True)


async def update_fields(
    ctx: Context, collection: str, changes: Sequence[tuple[str, Mapping[str, Any]]], options: WriteOptions
) -> list[Item]:
    """Changes fields, all or none: row and column, the data kept. Raises FieldNotFound, FieldNotAltered."""
    if not ctx.accountability.admin:
        raise UpdateForbidden("Only administrators may change fields.")
    present = access_of(ctx).grant(collection).collection
    for name, payload in changes:
        if present.system and name in _built_in(collection):
            raise SystemCollection("The fields of system collections cannot be changed.")
        _only(payload, ("id", "collection", "field", *ROW_ATTRIBUTES, *COLUMN_ATTRIBUTES))
        if name not in present.fields:
            raise FieldNotFound(f'"{collection}" has no field "{name}".')

    async def work(writer: Writer) -> list[Item]:
        ctx = writer.ctx
        for name, payload in changes:
            await _change(ctx, writer, present.fields[name], payload)
        schema = await _reread(ctx)
        return [field_answer(schema.collections[collection].fields[name]) for name, _ in changes]

    return await writing(ctx, options, work, trusted=True)


async def delete_field(ctx: Context, collection: str, name: str, options: WriteOptions, *, delete_junction: bool = False) -> None:
    """Deletes a field with its column, and what it means to relations and permissions."""
    if not ctx.accountability.admin:
        raise DeleteForbidden("Only administrators may delete fields.")
    present = access_of(ctx).grant(collection).collection
    field = present.fields.get(name)
    if field is None:
        raise FieldNotFound(f'"{collection}" has no field "{name}".')
    if present.system and name in _built_in(collection):
        raise AlterForbidden("The fields of system collections cannot be deleted.")
    if field.primary_key or (field.has_column and len(present.columns) == 1):
        raise InvalidPayload("A collection needs its key and at least one field.")

    async def work(writer: Writer) -> None:
        ctx = writer.ctx
        await _delete_where(ctx, writer, FIELDS, {"collection": collection, "field": name})
        if field.has_column:
            await _execute(ctx, [ddl.drop_column(field)])
        await _forget_relations(ctx, writer, field, delete_junction=delete_junction)
        if field.type == "status":
            rows = await ctx.db.query(
                "SELECT id FROM directus_permissions WHERE collection = %s AND status IS NOT NULL", (collection,)
            )
            await writer.delete("directus_permissions", [row[0] for row in rows])
        await _touch(ctx)

    await writing(ctx, options, work, trusted=True)


async def _forget_relations(ctx: Context, writer: Writer, field: Field, *, delete_junction: bool) -> None:
    """Removes or changes the relation rows that a deleted field takes part in, and the alias on their other side."""
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


def _in_junction(relation: Relation, first: Relation) -> bool:
    return relation.collection_many == first.collection_many and relation.field_many in (
        first.field_many,
        first.junction_field,
    )


async def _add(ctx: Context, writer: Writer, collection: Collection, payload: Mapping[str, Any]) -> Field:
    """Adds a field to a collection that is there."""
    field = new_field(collection.collection, payload)
    if field.field in collection.fields:
        raise FieldExists(f'"{collection.collection}" has a field "{field.field}" already.')
    if field.primary_key or field.auto_increment:
        raise InvalidPayload("A collection has one key, which it is made with.")
    _check_once([*collection.fields.values(), field])
    if field.has_column:
        await _execute(ctx, ddl.add_column(field, search=collection.search_index))
    await _create_rows(writer, [(field, payload)])
    return field


async def _change(ctx: Context, writer: Writer, old: Field, payload: Mapping[str, Any]) -> None:
    """Changes a field's column and row."""
    _only(payload, ("id", "collection", "field", *ROW_ATTRIBUTES, *COLUMN_ATTRIBUTES))
    new = changed_field(old, payload)
    collection = ctx.schema.collections[old.collection]
    _check_once([new if field is old else field for field in collection.fields.values()])
    await _change_column(ctx, old, new)
    row = {name: payload[name] for name in ROW_ATTRIBUTES if name in payload}
    if old.id is None:
        await _create_rows(writer, [(new, {"type": new.type} | dict(payload))])
        return
    await writer.update(FIELDS, [(old.id, row)])
    await _declare(ctx, [new])


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
    if new.required and not old.required and not new.auto_increment and await ctx.db.query(ddl.has_nulls(old)):
        raise FieldNotAltered(f'"{old.field}" cannot be required: some items have no value there.')
    unlike = old.column_type != new.column_type
    search = ctx.schema.collections[old.collection].search_index
    reindexed = unlike or old.unique != new.unique or (search and searched(old) != searched(new))
    try:
        if reindexed:
            await _drop_indexes(ctx, old)
        if unlike:
            using = ddl.conversion(old, new)
            if using is None:
                raise FieldNotAltered(f'The values of "{old.field}" cannot become {new.datatype}.')
            losing = ddl.loss(old, new)
            if losing is not None and await ctx.db.query(losing):
                raise FieldNotAltered(f'Some values of "{old.field}" would lose a part as {new.datatype}.')
            await _execute(ctx, ddl.alter_type(old, new, using))
        if unlike or old.default_value != new.default_value:
            await _execute(ctx, [ddl.set_default(new)] if not new.auto_increment else [])
        if reindexed or (new.type in ddl.INDEXED_TYPES and old.type not in ddl.INDEXED_TYPES and not new.unique):
            await _execute(ctx, ddl.indexes(new, search=search and reindexed))
    except (NotUnique, InvalidPayload, InvalidRequest) as error:
        raise FieldNotAltered(f'The stored values of "{old.field}" do not allow this: {error.message}') from error


async def _drop_indexes(ctx: Context, field: Field) -> None:
    """Drops the indexes on a field's column alone, those of the key excepted."""
    rows = await ctx.db.query(ddl.INDEXES_OF, (field.collection, *[field.field] * 4))
    await _execute(ctx, [ddl.drop_index(field.collection, name, constraint) for name, constraint, _ in rows])


async def _create_rows(writer: Writer, fields: Sequence[tuple[Field, Mapping[str, Any]]]) -> None:
    """Writes the rows of new fields, and what is declared of their columns."""
    rows = [
        {"collection": field.collection, "field": field.field, "sort": 0, "width": "full", "locked": False}
        | {name: payload[name] for name in ROW_ATTRIBUTES if payload.get(name) is not None}
        for field, payload in fields
    ]
    if rows:
        await writer.create(FIELDS, rows)
        await _declare(writer.ctx, [field for field, _ in fields])


async def _declare(ctx: Context, fields: Iterable[Field]) -> None:
    """Keeps how columns were declared: datatype, length and sign."""
    for field in fields:
        await ctx.db.query(
            "UPDATE directus_fields SET datatype = %s, length = %s, signed = %s WHERE collection = %s AND field = %s",
            (field.datatype, field.length, field.signed, field.collection, field.field),
        )


# --- payloads


def new_field(collection: str, payload: Any) -> Field:
    """The field that a payload describes. Raises InvalidRequest, InvalidPayload, UnknownType, LengthRequired, LengthForbidden."""
    if not isinstance(payload, dict):
        raise InvalidPayload("A field is an object of attributes.")
    name = payload.get("field")
    if not isinstance(name, str) or not _is_name(name):
        raise InvalidRequest('"field" needs a name with a letter or digit.')
    if not isinstance(payload.get("type"), str) or not payload["type"]:
        raise InvalidRequest(f'"{name}" needs a type.')
    _only(payload, ("id", "collection", "field", *ROW_ATTRIBUTES, *COLUMN_ATTRIBUTES))
    return _declared(Field(collection, name, payload["type"]), payload)


def changed_field(old: Field, payload: Mapping[str, Any]) -> Field:
    """The field as a payload changes it. A length goes with its datatype: another datatype starts without one."""
    payload = dict(payload)
    datatype = payload.get("datatype")
    if isinstance(datatype, str) and "length" not in payload and datatype.upper() != old.datatype:
        payload["length"] = None
    if payload.get("type") is None:
        payload.pop("type", None)
    elif not isinstance(payload["type"], str):
        raise InvalidRequest(f'"{old.field}" needs a type.')
    if old.primary_key and payload.get("primary_key") is False:
        raise InvalidPayload("A collection needs its key.")
    payload.pop("primary_key", None)
    payload.pop("auto_increment", None)
    declared = any(
        payload.get(name, ...) != getattr(old, name) for name in ("type", "datatype", "length", "signed") if name in payload
    )
    if not declared:
        # What is not touched stays as it is, be it a column that nobody declared.
        return _declared(old, payload, keep=old.column_type)
    return _declared(evolve(old, type=payload.get("type", old.type)), payload)


def _declared(field: Field, payload: Mapping[str, Any], keep: str | None = None) -> Field:
    """The field with the attributes of its column that a payload gives, and the column's type."""
    datatype = payload.get("datatype", field.datatype)
    length = payload.get("length", field.length)
    signed = payload.get("signed", field.signed)
    if datatype is not None and not isinstance(datatype, str):
        raise InvalidRequest(f'The datatype of "{field.field}" is a name.')
    if isinstance(length, bool) or not isinstance(length, (str, int, type(None))):
        raise InvalidRequest(f'The length of "{field.field}" is a number, or two.')
    for name in ("unique", "primary_key", "auto_increment", "signed"):
        if payload.get(name) not in (None, True, False, 0, 1):
            raise InvalidRequest(f'"{name}" of "{field.field}" is true or false.')
    length = None if length in (None, "") else str(length)
    alias = field.type in ALIAS_TYPES
    default = payload.get("default_value", field.default_value)
    if isinstance(default, (dict, list)):
        raise InvalidRequest(f'The default of "{field.field}" is a plain value.')
    if isinstance(default, bool):
        default = "1" if default else "0"
    column = keep if keep is not None else column_type(field.type, datatype, length, bool(signed))
    primary_key = bool(payload.get("primary_key", field.primary_key))
    auto_increment = bool(payload.get("auto_increment", field.auto_increment))
    if auto_increment and column not in ("smallint", "integer", "bigint"):
        raise InvalidPayload(f'"{field.field}" is no integer: it cannot count by itself.')
    return evolve(
        field,
        datatype=None if alias else datatype and datatype.upper(),
        length=None if alias else length,
        signed=bool(signed),
        unique=bool(payload.get("unique", field.unique)) and not alias,
        primary_key=primary_key,
        auto_increment=auto_increment,
        default_value=None if default is None or alias else str(default),
        required=bool(payload.get("required", field.required)),
        column_type=column,
    )


def _check_together(fields: Sequence[Field], present: Collection | None) -> None:
    """What the fields of one new collection must be together."""
    names = [field.field for field in fields]
    if len(set(names)) < len(names):
        raise InvalidPayload("A field is there twice.")
    if present is None and sum(field.primary_key for field in fields) != 1:
        raise InvalidPayload("A collection needs one primary key.")
    if sum(field.auto_increment for field in fields) > 1:
        raise InvalidPayload("One field of a collection may count by itself.")
    _check_once(fields)


def _check_once(fields: Iterable[Field]) -> None:
    kinds = [field.type for field in fields if field.type in ONCE]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise InvalidRequest(f"A collection may have one field of type {', '.join(twice)}.")


def _check_collection(payload: Mapping[str, Any]) -> None:
    _only(payload, (*COLLECTION_ATTRIBUTES, "search_index", "fields"))
    if not isinstance(payload.get("search_index"), (bool, type(None))):
        raise InvalidRequest('"search_index" is true or false.')


def _only(payload: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(payload) - set(known))
    if unknown:
        raise InvalidPayload("There is no attribute " + ", ".join(f'"{name}"' for name in unknown) + ".")


def _is_name(name: str) -> bool:
    return bool(re.search(r"[0-9A-Za-z]", name)) and len(name.encode()) <= MAX_NAME and "\x00" not in name


def _built_in(collection: str) -> frozenset[str]:
    return frozenset(field["field"] for field in CATALOGUE.collections.get(collection, ()))


# --- the database


async def _execute(ctx: Context, statements: Iterable[Any]) -> None:
    for statement in statements:
        await ctx.db.query(statement)


async def _delete_where(ctx: Context, writer: Writer, table: str, wanted: Mapping[str, str]) -> None:
    """Deletes the rows of a system table whose columns have these values, as items, with their history."""
    condition = SQL(" AND ").join([SQL("{} = %s").format(Identifier(name)) for name in wanted])
    sql = SQL("SELECT id FROM {} WHERE {} ORDER BY id").format(Identifier(table), condition)
    keys = [row[0] for row in await ctx.db.query(sql, list(wanted.values()))]
    if keys:
        await writer.delete(table, keys)


async def _touch(ctx: Context) -> None:
    """Makes everybody read the schema anew: DDL by itself tells nobody."""
    await ctx.db.query("SELECT directus_touch('schema')")


async def _reread(ctx: Context) -> Snapshot:
    """The schema as this transaction has made it."""
    await _touch(ctx)
    return await read_snapshot(ctx.db)
