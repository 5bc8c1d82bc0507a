"""/:project/fields: the fields of collections."""

from typing import Any

from directus_tx import schema_service
from directus_tx.access import access_of
from directus_tx.errors import (
    CreateForbidden,
    DeleteForbidden,
    InvalidPayload,
    InvalidRequest,
    Notice,
    SystemCollection,
    UpdateForbidden,
)
from directus_tx.http.answers import Answer, Empty, Envelope
from directus_tx.http.endpoints.collections import written
from directus_tx.http.endpoints.items import payload_of
from directus_tx.http.operations import FLAG, Items, Operation, Shape
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items import Result, chosen_meta

routes = Routes()
FIELDS = "/<project>/fields"
FLAGS = dict.fromkeys(("unique", "primary_key", "auto_increment", "signed", "index"), FLAG)
"""The attributes of fields that are true or false and are no columns of directus_fields."""

_ONE, _ALL, _EITHER = (Items(shape, schema_service.FIELDS) for shape in (Shape.ITEM, Shape.LIST, Shape.EITHER))


@routes.get(FIELDS, Caller.PUBLIC, Operation("List the fields of all collections", _ALL))
async def list_all_fields(call: Call) -> Answer:
    return call.answer(await schema_service.read_fields(call.ctx, call.query()))


@routes.get(FIELDS + "/<collection>", Caller.PUBLIC, Operation("List the fields of a collection", _ALL))
async def list_fields(call: Call) -> Answer:
    return call.answer(await schema_service.read_fields(call.ctx, call.query(), call.path["collection"]))


@routes.get(FIELDS + "/<collection>/<names>", Caller.PUBLIC, Operation("Read one or several fields", _EITHER))
async def read_fields(call: Call) -> Answer:
    names = call.keys(call.path["names"])
    return call.answer(await schema_service.read_fields(call.ctx, call.query(), call.path["collection"], names))


@routes.post(FIELDS + "/<collection>", Caller.ADMINISTRATOR, Operation("Create a field", _ONE, _ONE), refusal=CreateForbidden)
async def create_field(call: Call) -> Answer:
    item = await schema_service.create_field(
        call.items, call.ctx, call.path["collection"], await call.item(FLAGS), call.options()
    )
    return written(call, schema_service.FIELDS, item)


@routes.patch(
    FIELDS + "/<collection>",
    Caller.ADMINISTRATOR,
    Operation("Change several fields, each in its own way", _ALL, _ALL),
    refusal=UpdateForbidden,
)
async def update_fields(call: Call) -> Answer:
    """Updates several fields with a payload for each."""
    _refuse_system(call)
    payload = await payload_of(call)
    if not isinstance(payload, list):
        raise InvalidPayload("The body must be a list of fields.")
    changes = []
    for each in payload:
        name = each.get("field")
        if not isinstance(name, str) or not name:
            raise InvalidRequest('Each member of the list must have the name of its field ("field").')
        changes.append((name, each))
    return _many(
        call, *await schema_service.update_fields(call.items, call.ctx, call.path["collection"], changes, call.options())
    )


@routes.patch(
    FIELDS + "/<collection>/<names>",
    Caller.ADMINISTRATOR,
    Operation("Change one field, or several in the same way", _EITHER, _ONE),
    refusal=UpdateForbidden,
)
async def update_field(call: Call) -> Answer:
    """Updates one field, or several fields with the same payload."""
    names = call.keys(call.path["names"])
    if len(names) > 1:
        _refuse_system(call)
    payload = await call.item(FLAGS)
    changes = [(name, payload) for name in names]
    items, notices = await schema_service.update_fields(call.items, call.ctx, call.path["collection"], changes, call.options())
    return _many(call, items, notices) if len(names) > 1 else written(call, schema_service.FIELDS, items[0], notices)


@routes.delete(
    FIELDS + "/<collection>/<name>",
    Caller.ADMINISTRATOR,
    Operation(
        "Delete a field with its values",
        query=(("delete_junction", "1: also delete the junction collection of a many-to-many relation."),),
    ),
    refusal=DeleteForbidden,
)
async def delete_field(call: Call) -> Answer:
    junction = call.params.text("delete_junction") in ("1", "true")
    notices = await schema_service.delete_field(
        call.items, call.ctx, call.path["collection"], call.path["name"], call.options(), delete_junction=junction
    )
    # Clients expect 204. Only where there is something to say the answer has a body.
    return Envelope(None, messages=notices) if notices else Empty()


def _refuse_system(call: Call) -> None:
    collection = call.path["collection"]
    access_of(call.ctx).grant(collection)
    if collection.startswith("directus_"):
        raise SystemCollection("Only one field of a system collection can be changed at a time.")


def _many(call: Call, items: list[dict[str, Any]], notices: tuple[Notice, ...]) -> Answer:
    meta = {"collection": schema_service.FIELDS, "type": "collection", "result_count": len(items)}
    return call.answer(Result(items, chosen_meta(call.query(), meta), notices))
