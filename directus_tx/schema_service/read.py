"""Shows the collections and fields that are visible to the caller."""

from collections.abc import Sequence

from directus_tx.access import Access, Grant, access_of
from directus_tx.access.refusals import no_field
from directus_tx.context import Context
from directus_tx.errors import FieldNotFound, HiddenField, ItemNotFound, UnknownField
from directus_tx.items import Result, chosen_meta
from directus_tx.query import Query
from directus_tx.schema.datatypes import DATATYPES
from directus_tx.schema.model import ROW_ATTRIBUTES, Collection, Field, Snapshot
from directus_tx.schema.system import CATALOGUE
from directus_tx.schema_service.indexes import NOTHING, Details, field_index_answer, index_answer, read_details
from directus_tx.schema_service.payloads import COLLECTION_ATTRIBUTES, COLLECTIONS, COLUMN_ATTRIBUTES, FIELDS, Item


def collection_answer(
    schema: Snapshot, collection: Collection, *, access: Access | None = None, admin: bool = False, details: Details = NOTHING
) -> Item:
    """Returns a collection as the API shows it. With *access*, includes the visible fields by name. *admin*: includes its indexes, which
    only administrators see, with their *details*."""
    shown: Item = {name: getattr(collection, name) for name in (*COLLECTION_ATTRIBUTES, "search_index")}
    if admin and collection.indexes:
        shown["indexes"] = [index_answer(index, details) for index in collection.indexes]
    if access is None:
        return shown
    hidden = access.grant(COLLECTIONS).hidden
    fields = _visible(access.grant(collection.collection)) if access.grant(FIELDS).read else []
    holder = collection if admin else None
    shown["fields"] = {field.field: _without(field_answer(field, holder, details), access.grant(FIELDS)) for field in fields}
    return {name: value for name, value in shown.items() if name not in hidden}


def _visible(grant: Grant) -> list[Field]:
    """Returns the visible fields of a collection."""
    return [field for field in grant.collection.fields.values() if field.field not in grant.concealed]


def _without(item: Item, grant: Grant) -> Item:
    """Returns the item without attributes hidden from the caller."""
    return {name: value for name, value in item.items() if name not in grant.hidden} if grant.hidden else item


def field_answer(field: Field, collection: Collection | None = None, details: Details = NOTHING) -> Item:
    """Returns a field as the API shows it, with length and default as text. *collection*: that of the field, if the caller is an
    administrator, who sees whether the field is indexed; *details* are those of its indexes."""
    shown: Item = {"collection": field.collection, "field": field.field, "id": field.id}
    for name in (*COLUMN_ATTRIBUTES, *ROW_ATTRIBUTES):
        shown[name] = getattr(field, name)
    if DATATYPES.get(field.datatype or "TEXT", DATATYPES["TEXT"]).maximum is None:
        del shown["signed"]
    indexes = [] if collection is None else collection.indexes_of(field.field)
    if indexes:
        shown["index"] = field_index_answer(indexes, details)
    return shown


async def read_collections(ctx: Context, query: Query, names: Sequence[str] | None = None) -> Result:
    """Returns collections: those with the names, except system collections; or all, user collections first. Callers who are not
    administrators see the collections whose items they may read."""
    access = access_of(ctx)
    access.require_read(COLLECTIONS)
    schema = ctx.schema
    if names is not None:
        found = [schema.collections[name] for name in names if name in schema.collections and not name.startswith("directus_")]
    else:
        found = sorted(schema.collections.values(), key=lambda c: (c.system, not c.has_row, c.collection))
    found = [collection for collection in found if access.grant(collection.collection).read]
    users = sum(1 for each in schema.collections.values() if not each.system and access.grant(each.collection).read)
    admin = ctx.accountability.admin
    details = await read_details(ctx, found, definitions=names is not None) if admin else NOTHING
    items = [collection_answer(schema, each, access=access, admin=admin, details=details) for each in found]
    return _listed(query, COLLECTIONS, items, one=names is not None and len(names) == 1, total=users)


async def _details(ctx: Context, collections: Sequence[Collection]) -> Details:
    return await read_details(ctx, collections) if ctx.accountability.admin else NOTHING


def _answer(ctx: Context, field: Field, grant: Grant, rows: Grant, details: Details) -> Item:
    """Returns a field as the caller sees it. *rows* is the grant on directus_fields."""
    return _without(field_answer(field, grant.collection if ctx.accountability.admin else None, details), rows)


async def read_fields(ctx: Context, query: Query, collection: str | None = None, names: Sequence[str] | None = None) -> Result:
    """Returns the visible fields of all collections or of one, optionally by name. For a single name, raises FieldNotFound if the
    field does not exist and HiddenField if it is hidden. Raises ReadForbidden."""
    access = access_of(ctx)
    rows = access.require_read(FIELDS)
    if collection is None:
        ordered = sorted(ctx.schema.collections.values(), key=lambda c: (c.system, c.collection))
        grants = [grant for each in ordered if (grant := access.grant(each.collection)).read]
        details = await _details(ctx, [grant.collection for grant in grants])
        items = [_answer(ctx, field, grant, rows, details) for grant in grants for field in _visible(grant)]
        _sort_all(items, query, rows)
        return _listed(query, FIELDS, items, one=False, total=len(items))
    grant = access.require_read(collection)
    visible = {field.field: field for field in _visible(grant)}
    details = await _details(ctx, [grant.collection])
    if names is None:
        items = [_answer(ctx, field, grant, rows, details) for field in visible.values()]
        return _listed(Query(meta=query.meta), FIELDS, items, one=False, total=len(items))
    items = [_answer(ctx, visible[name], grant, rows, details) for name in names if name in visible]
    if not items and len(names) == 1:
        if names[0] in grant.collection.fields:
            raise HiddenField(f'You may not ask about "{names[0]}".')
        raise no_field(grant, names[0], error=FieldNotFound)
    return _listed(Query(meta=query.meta), FIELDS, items, one=len(names) == 1, total=len(items))


def read_setting_fields(ctx: Context, query: Query) -> Result:
    """Returns the fields that describe settings."""
    access_of(ctx).require_read("directus_settings")
    items = [
        field_answer(Field("directus_settings", **{n: v for n, v in each.items() if n != "default_value"}))
        for each in CATALOGUE.setting_fields
    ]
    items += [field_answer(f) for f in ctx.schema.collections["directus_settings"].fields.values() if not f.has_column]
    _sort_all(items, query)
    return _listed(query, FIELDS, items, one=False, total=len(items))


def _sort_all(items: list[Item], query: Query, grant: Grant | None = None) -> None:
    """Sorts in place by the query. Raises UnknownField, or HiddenField for an attribute that *grant* hides."""
    for sort in reversed(query.sort):
        if grant is not None:
            grant.check_question(sort.field)
        if sort.field not in ("collection", "field", *COLUMN_ATTRIBUTES, *ROW_ATTRIBUTES, "id"):
            raise UnknownField(f'Fields have no attribute "{sort.field}" to sort by.')
        _sort(items, sort.field, sort.descending)


def _sort(items: list[Item], name: str, descending: bool) -> None:
    """Sorts in place, text without case, nulls last in both directions. Compares upper-case text so that "_" follows letters,
    as in MySQL."""
    there = [item for item in items if item[name] is not None]
    there.sort(key=lambda item: str(item[name]).upper() if not isinstance(item[name], int) else item[name], reverse=descending)
    items[:] = there + [item for item in items if item[name] is None]


def _listed(query: Query, collection: str, items: list[Item], *, one: bool, total: int) -> Result:
    """Returns a page of items that are in memory, or the first item. Raises ItemNotFound if a single item is requested and
    there is none."""
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
