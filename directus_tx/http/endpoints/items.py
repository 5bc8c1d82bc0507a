"""/:project/items/:collection: the items of the user's collections, and their revisions."""

from functools import partial
from urllib.parse import quote

from attrs import evolve

from directus_tx.access import access_of
from directus_tx.errors import CreateForbidden, InvalidPayload, InvalidRequest, ItemNotFound, SystemCollection, UpdateForbidden
from directus_tx.http import encode
from directus_tx.http.routes import EMPTY, Answer, Call, Routes
from directus_tx.items import Item, create_items, delete_items, read_items, revert_item, update_items, write_csv, write_json
from directus_tx.items.read import BATCH
from directus_tx.query import Condition, Query
from directus_tx.schema.numbers import whole_number

routes = Routes()
ITEMS = "/<project>/items/<collection>"
REVISIONS = "directus_revisions"


def _collection(call: Call) -> str:
    """The collection of the path. Raises SystemCollection for those that have endpoints of their own."""
    name = call.path["collection"]
    if name.startswith("directus_"):
        raise SystemCollection(f'"{name}" has endpoints of its own.')
    return name


async def payload_of(call: Call) -> Item | list[Item]:
    """The body as one item or a list of items. Raises what `Call.body` raises, InvalidPayload, InvalidRequest."""
    body = await call.body()
    if isinstance(body, list):
        if body and not isinstance(body[0], dict):
            raise InvalidPayload("The body takes items: objects of fields and values.")
        if not all(isinstance(each, dict) for each in body):
            raise InvalidRequest("Each member of the list must be an item.")
    return body


async def listing(call: Call, collection: str) -> Answer:
    """A list; as a download where `export` asks for one. One that may be long and has no end is written as it is read."""
    query = call.query()
    kind = call.params.text("export")
    if kind:
        return _export(call, collection, query, kind)
    endless = query.limit is not None and query.limit < 0 and not (query.single or query.meta or query.aggregate)
    if not endless:
        return call.answer(await read_items(call.items, call.ctx, collection, query))
    first = await read_items(call.items, call.ctx, collection, evolve(query, limit=BATCH + 1, offset=0, page=None))
    if len(first.data) <= BATCH:
        return call.answer(first)
    start = b'{"data":['
    if first.messages:
        start = b'{"messages":' + encode.encoded(encode.notices(first.messages)) + b',"data":['
    end = b'],"public":true}' if call.ctx.accountability.public else b"]}"
    return Answer(
        stream=lambda write: write_json(call.items, call.ctx, collection, query, write, start=start, end=end),
        headers={"Content-Type": "application/json"},
    )


def _export(call: Call, collection: str, query: Query, kind: str) -> Answer:
    types = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
    if kind not in types:
        raise InvalidRequest("An export is csv or json.")
    write = partial(write_csv, raw=call.params.text("export_raw") in ("1", "true")) if kind == "csv" else write_json
    name = quote(f"{collection}.{kind}")
    return Answer(
        stream=lambda sink: write(call.items, call.ctx, collection, query, sink),
        headers={"Content-Type": types[kind], "Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


async def reading(call: Call, collection: str, ids: str) -> Answer:
    return call.answer(await read_items(call.items, call.ctx, collection, call.query(), call.keys(ids)))


def _may_update(call: Call, collection: str) -> bool:
    """Whether the caller may change any item, or delete one, which a change of its status may do. Raises CollectionNotFound."""
    grant = access_of(call.ctx).grant(collection)
    return grant.allows("update") or grant.allows("delete")


async def creating(call: Call, collection: str) -> Answer:
    if not access_of(call.ctx).grant(collection).allows("create"):
        raise CreateForbidden(f'You may not create items in "{collection}".')
    payload = await payload_of(call)
    return call.answer(await create_items(call.items, call.ctx, collection, payload, call.query(), call.options()))


async def updating(call: Call, collection: str, ids: str, *, whole: bool = False) -> Answer:
    query = evolve(call.query(), fields=()) if whole else call.query()
    # Whoever may change no item is refused whatever the body holds: it is not read.
    payload = await payload_of(call) if _may_update(call, collection) else {}
    if isinstance(payload, list):
        raise InvalidPayload("The path names the items: the body takes one object for all of them.")
    keys = call.keys(ids)
    return call.answer(await update_items(call.items, call.ctx, collection, keys, payload, query, call.options()))


async def updating_many(call: Call, collection: str) -> Answer:
    if not _may_update(call, collection):
        access = access_of(call.ctx)
        grant = access.grant(collection)
        forbidden = UpdateForbidden(f'You may not change items of "{collection}".')
        raise forbidden if grant.read else access.unchangeable(grant, None, several=True)
    payload = await payload_of(call)
    if not isinstance(payload, list):
        raise ItemNotFound("The path names no item, and the body is no list of them.")
    return call.answer(await update_items(call.items, call.ctx, collection, None, payload, call.query(), call.options()))


async def deleting(call: Call, collection: str, ids: str) -> Answer:
    await delete_items(call.items, call.ctx, collection, call.keys(ids), call.options())
    return EMPTY


async def revisions(call: Call, collection: str, key: str) -> Answer:
    """The revisions of one item. What the client filters by collection and item is overruled."""
    scope = (Condition(("collection",), "eq", collection), Condition(("item",), "eq", key))
    query = call.query()
    query = evolve(query, scope=scope, filter=tuple(c for c in query.filter if c.path not in (("collection",), ("item",))))
    return call.answer(await read_items(call.items, call.ctx, REVISIONS, query))


async def revision(call: Call, collection: str, key: str, offset: str) -> Answer:
    """One revision of an item, counted from the oldest. Raises InvalidRequest, ItemNotFound."""
    number = whole_number(offset)
    if number is None:
        raise InvalidRequest("The offset of a revision is a number.")
    scope = (Condition(("collection",), "eq", collection), Condition(("item",), "eq", key))
    query = evolve(call.query(), scope=scope, filter=(), sort=(), q=None, single=True, limit=1, page=None, offset=number)
    return call.answer(await read_items(call.items, call.ctx, REVISIONS, query))


@routes.get(ITEMS)
async def list_items(call: Call) -> Answer:
    return await listing(call, _collection(call))


@routes.post(ITEMS)
async def create(call: Call) -> Answer:
    return await creating(call, _collection(call))


@routes.patch(ITEMS)
async def update_many(call: Call) -> Answer:
    return await updating_many(call, _collection(call))


@routes.get(ITEMS + "/<ids>")
async def read(call: Call) -> Answer:
    return await reading(call, _collection(call), call.path["ids"])


@routes.patch(ITEMS + "/<ids>")
async def update(call: Call) -> Answer:
    return await updating(call, _collection(call), call.path["ids"])


@routes.delete(ITEMS + "/<ids>")
async def delete(call: Call) -> Answer:
    return await deleting(call, _collection(call), call.path["ids"])


@routes.get(ITEMS + "/<key>/revisions")
async def list_revisions(call: Call) -> Answer:
    return await revisions(call, call.path["collection"], call.path["key"])


@routes.get(ITEMS + "/<key>/revisions/<offset>")
async def read_revision(call: Call) -> Answer:
    return await revision(call, call.path["collection"], call.path["key"], call.path["offset"])


@routes.patch(ITEMS + "/<key>/revert/<revision>")
async def revert(call: Call) -> Answer:
    key, revision = call.path["key"], call.path["revision"]
    return call.answer(await revert_item(call.items, call.ctx, _collection(call), key, revision, call.query(), call.options()))
