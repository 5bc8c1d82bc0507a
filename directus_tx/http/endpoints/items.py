"""/:project/items/:collection: the items of collections, except system collections, and their revisions."""

from functools import partial
from urllib.parse import quote

from attrs import evolve

from directus_tx.access import access_of, refusals
from directus_tx.errors import CreateForbidden, InvalidPayload, InvalidRequest, ItemNotFound, SystemCollection, UpdateForbidden
from directus_tx.http.answers import Answer, Empty, ItemStream, Stream, Streamed
from directus_tx.http.operations import EITHER, ITEM, LIST, Items, Operation, Parameters, Shape
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items import Item, create_items, delete_items, long_list, read_items, revert_item, update_items, write_csv
from directus_tx.query import Condition, Query
from directus_tx.schema.numbers import whole_number

routes = Routes()
ITEMS = "/<project>/items/<collection>"
REVISIONS = "directus_revisions"

LISTING = Operation("List items", LIST, parameters=Parameters.QUERY)
READING = Operation("Read one or several items", EITHER, parameters=Parameters.FIELDS)
CREATING = Operation("Create one or several items", EITHER, EITHER, Parameters.FIELDS)
UPDATING = Operation("Change one item, or several in the same way", EITHER, ITEM, Parameters.FIELDS)
UPDATING_MANY = Operation("Change several items, each in its own way", LIST, LIST, Parameters.FIELDS)
DELETING = Operation("Delete one or several items")
LISTING_REVISIONS = Operation("List the revisions of an item", Items(Shape.LIST, REVISIONS), parameters=Parameters.QUERY)
READING_REVISION = Operation("Read a revision of an item", Items(Shape.ITEM, REVISIONS), parameters=Parameters.FIELDS)
REVERTING = Operation("Revert an item to a revision", ITEM, parameters=Parameters.FIELDS)


def _collection(call: Call) -> str:
    """Returns the name of the collection in the path. Raises SystemCollection for system collections, which have other endpoints."""
    name = call.path["collection"]
    if name.startswith("directus_"):
        raise SystemCollection(f'"{name}" is a system collection, which has other endpoints.')
    return name


async def payload_of(call: Call) -> Item | list[Item]:
    """Returns the body, which must be an item or a list of items. Raises InvalidPayload, InvalidRequest, and the errors of `Call.body`."""
    body = await call.body()
    if isinstance(body, list):
        if body and not isinstance(body[0], dict):
            raise InvalidPayload("The body must be an item or a list of items.")
        if not all(isinstance(each, dict) for each in body):
            raise InvalidRequest("Each member of the list must be an item.")
    return body


async def listing(call: Call, collection: str) -> Answer | Streamed:
    """Returns a list of items, or a file if the parameter `export` is set."""
    query = call.query()
    kind = call.params.text("export")
    if kind:
        if query.cursor is not None:
            raise InvalidRequest("An export has no cursor.")
        return _export(call, collection, query, kind)
    return call.listed(await read_items(call.items, call.ctx, collection, query))


def _export(call: Call, collection: str, query: Query, kind: str) -> Streamed:
    name = quote(f"{collection}.{kind}")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    if kind == "json":
        return ItemStream(long_list(call.items, call.ctx, collection, evolve(query, meta=None)).read, bare=True, headers=headers)
    if kind == "csv":
        raw = call.params.text("export_raw") in ("1", "true")
        return Stream(partial(write_csv, call.items, call.ctx, collection, query, raw=raw), "text/csv; charset=utf-8", headers)
    raise InvalidRequest("The parameter export must be csv or json.")


async def reading(call: Call, collection: str, ids: str) -> Answer | Streamed:
    return call.listed(await read_items(call.items, call.ctx, collection, call.query(), call.keys(ids)))


def may_update(call: Call, collection: str) -> bool:
    """Whether the caller may update or delete any items. Setting a status can delete an item. Raises CollectionNotFound."""
    grant = access_of(call.ctx).grant(collection)
    grant.check_possible("update")
    return grant.allows("update") or grant.allows("delete")


async def creating(call: Call, collection: str) -> Answer:
    grant = access_of(call.ctx).grant(collection)
    grant.check_possible("create")
    if not grant.allows("create"):
        raise CreateForbidden(f'You may not create items in "{collection}".')
    payload = await payload_of(call)
    return call.answer(await create_items(call.items, call.ctx, collection, payload, call.query(), call.options()))


async def updating(call: Call, collection: str, ids: str, *, whole: bool = False) -> Answer:
    query = evolve(call.query(), fields=()) if whole else call.query()
    # The body is not read if the caller may not update any item: such a caller is refused for any body.
    payload = await payload_of(call) if may_update(call, collection) else {}
    if isinstance(payload, list):
        raise InvalidPayload("The body must be one object if the path contains keys.")
    keys = call.keys(ids)
    return call.answer(await update_items(call.items, call.ctx, collection, keys, payload, query, call.options()))


def check_updating_many(call: Call, collection: str) -> None:
    """Raises UpdateForbidden, or the error for items that the caller may not read, if the caller may not update any items."""
    if not may_update(call, collection):
        access = access_of(call.ctx)
        grant = access.grant(collection)
        forbidden = UpdateForbidden(f"You may not change items of {grant.title}.")
        raise forbidden if grant.read else refusals.unchangeable(grant, None, public=access.public, several=True)


async def updating_many(call: Call, collection: str) -> Answer:
    check_updating_many(call, collection)
    payload = await payload_of(call)
    if not isinstance(payload, list):
        raise ItemNotFound("The path does not contain a key, and the body is not a list of items.")
    return call.answer(await update_items(call.items, call.ctx, collection, None, payload, call.query(), call.options()))


async def deleting(call: Call, collection: str, ids: str) -> Answer:
    await delete_items(call.items, call.ctx, collection, call.keys(ids), call.options())
    return Empty()


async def revisions(call: Call, collection: str, key: str) -> Answer | Streamed:
    """Returns the revisions of an item. Filters of the caller on collection and item are ignored."""
    scope = (Condition(("collection",), "eq", collection), Condition(("item",), "eq", key))
    query = call.query()
    query = evolve(query, scope=scope, filter=tuple(c for c in query.filter if c.path not in (("collection",), ("item",))))
    return call.listed(await read_items(call.items, call.ctx, REVISIONS, query))


async def revision(call: Call, collection: str, key: str, offset: str) -> Answer | Streamed:
    """Returns one revision of an item. *offset* counts from the oldest, which is 0. Raises InvalidRequest, ItemNotFound."""
    number = whole_number(offset)
    if number is None:
        raise InvalidRequest("The offset of a revision must be a number.")
    scope = (Condition(("collection",), "eq", collection), Condition(("item",), "eq", key))
    query = evolve(call.query(), scope=scope, filter=(), sort=(), q=None, single=True, limit=1, page=None, offset=number)
    return call.listed(await read_items(call.items, call.ctx, REVISIONS, query))


@routes.get(ITEMS, Caller.PUBLIC, LISTING)
async def list_items(call: Call) -> Answer | Streamed:
    return await listing(call, _collection(call))


@routes.post(ITEMS, Caller.PUBLIC, CREATING, scoped=True)
async def create(call: Call) -> Answer:
    return await creating(call, _collection(call))


@routes.patch(ITEMS, Caller.PUBLIC, UPDATING_MANY, scoped=True)
async def update_many(call: Call) -> Answer:
    return await updating_many(call, _collection(call))


@routes.get(ITEMS + "/<ids>", Caller.PUBLIC, READING)
async def read(call: Call) -> Answer | Streamed:
    return await reading(call, _collection(call), call.path["ids"])


@routes.patch(ITEMS + "/<ids>", Caller.PUBLIC, UPDATING, scoped=True)
async def update(call: Call) -> Answer:
    return await updating(call, _collection(call), call.path["ids"])


@routes.delete(ITEMS + "/<ids>", Caller.PUBLIC, DELETING, scoped=True)
async def delete(call: Call) -> Answer:
    return await deleting(call, _collection(call), call.path["ids"])


@routes.get(ITEMS + "/<key>/revisions", Caller.PUBLIC, LISTING_REVISIONS)
async def list_revisions(call: Call) -> Answer | Streamed:
    return await revisions(call, call.path["collection"], call.path["key"])


@routes.get(ITEMS + "/<key>/revisions/<offset>", Caller.PUBLIC, READING_REVISION)
async def read_revision(call: Call) -> Answer | Streamed:
    return await revision(call, call.path["collection"], call.path["key"], call.path["offset"])


@routes.patch(ITEMS + "/<key>/revert/<revision>", Caller.PUBLIC, REVERTING, scoped=True)
async def revert(call: Call) -> Answer:
    key, revision = call.path["key"], call.path["revision"]
    return call.answer(await revert_item(call.items, call.ctx, _collection(call), key, revision, call.query(), call.options()))
