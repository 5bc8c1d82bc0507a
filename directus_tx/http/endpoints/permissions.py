"""/:project/permissions: the permissions of the caller, explanations of permissions, and export and import of roles.

The routes of directus_permissions itself are in `system`.
"""

from directus_tx.errors import InvalidRequest, ReadForbidden, Unauthorized
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.system.permissions import explain, own_permissions
from directus_tx.system.roles import export_roles, import_roles

routes = Routes()
ME = "/<project>/permissions/me"
_PERMISSIONS = {"type": "array", "items": ANY}
EXPLAINING = Operation(
    "Explain why a user may do something or may not",
    ANY,
    query=(
        ("collection", "The collection."),
        ("action", "create, read, update, delete or comment."),
        ("item", "The key of an item."),
        ("user", "The id of a user. Default: the public."),
    ),
)
IMPORTING = Operation(
    "Change roles and permissions to match an export", ANY, ANY, query=(("dry_run", "1: show the changes without making them."),)
)


@routes.get(ME, Caller.PUBLIC, Operation("List the permissions of the caller", _PERMISSIONS))
async def read_own(call: Call) -> Answer:
    return Envelope(own_permissions(call.ctx))


@routes.get(ME + "/<collection>", Caller.PUBLIC, Operation("Read the permissions of the caller for a collection", ANY))
async def read_own_of_collection(call: Call) -> Answer:
    """Returns an object if the collection has one permission, a list if it has several (one for each status)."""
    found = own_permissions(call.ctx, call.path["collection"])
    return Envelope(found[0] if len(found) == 1 else found)


@routes.get(
    "/<project>/permissions/explain", Caller.ADMINISTRATOR, EXPLAINING, refusal=ReadForbidden, public_refusal=Unauthorized
)
async def explain_permission(call: Call) -> Answer:
    collection, action = call.params.text("collection"), call.params.text("action")
    if not collection or not action:
        raise InvalidRequest('"collection" and "action" are required.')
    return Envelope(await explain(call.ctx, collection, action, call.params.text("item"), call.params.text("user") or None))


@routes.get(
    "/<project>/permissions/export",
    Caller.ADMINISTRATOR,
    Operation("Export roles and permissions", ANY),
    refusal=ReadForbidden,
    public_refusal=Unauthorized,
)
async def export_permissions(call: Call) -> Answer:
    return Envelope(export_roles(call.ctx))


@routes.post("/<project>/permissions/import", Caller.ADMINISTRATOR, IMPORTING, refusal=ReadForbidden, public_refusal=Unauthorized)
async def import_permissions(call: Call) -> Answer:
    """Accepts the document of an export with or without its envelope."""
    body = await call.item()
    document = body["data"] if isinstance(body.get("data"), dict) and "roles" not in body else body
    return Envelope(
        await import_roles(call.items, call.ctx, document, call.options(), dry_run=call.params.text("dry_run") == "1")
    )
