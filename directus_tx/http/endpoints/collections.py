"""/:project/collections: the collections of a project."""

from directus_tx import schema_service
from directus_tx.errors import AlterForbidden, Notice
from directus_tx.http.answers import Answer, Empty
from directus_tx.http.operations import ANY, FLAG, INDEXES, TEXT, Items, Operation, Shape
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items import Item, Result, chosen_meta

routes = Routes()
COLLECTIONS = "/<project>/collections"
_ONE, _ALL, _EITHER = (Items(shape, schema_service.COLLECTIONS) for shape in (Shape.ITEM, Shape.LIST, Shape.EITHER))
NEW = {
    "type": "object",
    "required": ["collection", "fields"],
    "properties": {"collection": TEXT, "fields": {"type": "array", "items": ANY}, "indexes": INDEXES, "search_index": FLAG},
}


def written(call: Call, collection: str, item: Item, notices: tuple[Notice, ...] = ()) -> Answer:
    """Returns the answer to a change of the schema, with the metadata that the query requests and notices of changed columns."""
    return call.answer(Result(item, chosen_meta(call.query(), {"collection": collection, "type": "item"}), notices))


@routes.get(COLLECTIONS, Caller.PUBLIC, Operation("List the collections", _ALL))
async def list_collections(call: Call) -> Answer:
    return call.answer(await schema_service.read_collections(call.ctx, call.query()))


@routes.get(COLLECTIONS + "/<names>", Caller.PUBLIC, Operation("Read one or several collections", _EITHER))
async def read_collections(call: Call) -> Answer:
    return call.answer(await schema_service.read_collections(call.ctx, call.query(), call.keys(call.path["names"])))


@routes.post(COLLECTIONS, Caller.ADMINISTRATOR, Operation("Create a collection with its fields", _ONE, NEW))
async def create_collection(call: Call) -> Answer:
    item = await schema_service.create_collection(call.items, call.ctx, await call.item(), call.options())
    return written(call, schema_service.COLLECTIONS, item)


@routes.patch(COLLECTIONS + "/<name>", Caller.ADMINISTRATOR, Operation("Change a collection", _ONE, _ONE))
async def update_collection(call: Call) -> Answer:
    changed = await schema_service.update_collection(
        call.items, call.ctx, call.path["name"], await call.item({"search_index": FLAG}), call.options()
    )
    return written(call, schema_service.COLLECTIONS, *changed)


@routes.delete(
    COLLECTIONS + "/<name>", Caller.ADMINISTRATOR, Operation("Delete a collection with its items"), refusal=AlterForbidden
)
async def delete_collection(call: Call) -> Answer:
    await schema_service.delete_collection(call.items, call.ctx, call.path["name"], call.options())
    return Empty()
