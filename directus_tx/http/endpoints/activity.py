"""/:project/activity/comment: comments on items. The routes of the activity itself are in `system`."""

from directus_tx.errors import CreateForbidden
from directus_tx.http.answers import Answer, Empty
from directus_tx.http.operations import TEXT, Items, Operation, Parameters, Shape, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.system.activity import create_comment, delete_comment, update_comment

routes = Routes()
COMMENT = "/<project>/activity/comment"
ACTIVITY = Items(Shape.ITEM, "directus_activity")


@routes.post(
    COMMENT,
    Caller.SIGNED_IN,
    Operation("Comment on an item", ACTIVITY, record(collection=TEXT, item=TEXT, comment=TEXT), Parameters.FIELDS),
    scoped=True,
    refusal=CreateForbidden,
)
async def create(call: Call) -> Answer:
    return call.answer(await create_comment(call.items, call.ctx, await call.item(), call.query()))


@routes.patch(
    COMMENT + "/<key>",
    Caller.PUBLIC,
    Operation("Change a comment", ACTIVITY, record(comment=TEXT), Parameters.FIELDS),
    scoped=True,
)
async def update(call: Call) -> Answer:
    return call.answer(await update_comment(call.items, call.ctx, call.path["key"], await call.item(), call.query()))


@routes.delete(COMMENT + "/<key>", Caller.PUBLIC, Operation("Delete a comment"), scoped=True)
async def delete(call: Call) -> Answer:
    await delete_comment(call.ctx, call.path["key"])
    return Empty()
