"""/:project/permissions: the permissions of the caller, explanations of permissions, and export and import of roles.

The routes of directus_permissions itself are in `system`.
"""

from directus_tx.errors import InvalidRequest, ReadForbidden, Unauthorized
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.system.permissions import explain, own_permissions
from directus_tx.system.roles import export_roles, import_roles

routes = Routes()
ME = "/<project>/permissions/me"


@routes.get(ME, Caller.PUBLIC)
async def read_own(call: Call) -> Answer:
    return Envelope(own_permissions(call.ctx))


@routes.get(ME + "/<collection>", Caller.PUBLIC)
async def read_own_of_collection(call: Call) -> Answer:
    """Returns an object if the collection has one permission, a list if it has several (one for each status)."""
    found = own_permissions(call.ctx, call.path["collection"])
    return Envelope(found[0] if len(found) == 1 else found)


@routes.get("/<project>/permissions/explain", Caller.ADMINISTRATOR, refusal=ReadForbidden, public_refusal=Unauthorized)
async def explain_permission(call: Call) -> Answer:
    collection, action = call.params.text("collection"), call.params.text("action")
    if not collection or not action:
        raise InvalidRequest('"collection" and "action" are required.')
    return Envelope(await explain(call.ctx, collection, action, call.params.text("item"), call.params.text("user") or None))


@routes.get("/<project>/permissions/export", Caller.ADMINISTRATOR, refusal=ReadForbidden, public_refusal=Unauthorized)
async def export_permissions(call: Call) -> Answer:
    return Envelope(export_roles(call.ctx))


@routes.post("/<project>/permissions/import", Caller.ADMINISTRATOR, refusal=ReadForbidden, public_refusal=Unauthorized)
async def import_permissions(call: Call) -> Answer:
    """Accepts the document of an export with or without its envelope."""
    body = await call.item()
    document = body["data"] if isinstance(body.get("data"), dict) and "roles" not in body else body
    return Envelope(
        await import_roles(call.items, call.ctx, document, call.options(), dry_run=call.params.text("dry_run") == "1")
    )
