"""/:project/permissions: what the caller's own role may do, why somebody may do something, and roles as a document.

The rows themselves are read as every system collection is.
"""

from directus_tx.errors import InvalidRequest
from directus_tx.http.routes import Answer, Call, Routes
from directus_tx.system.permissions import explain, own_permissions
from directus_tx.system.roles import export_roles, import_roles

routes = Routes()
ME = "/<project>/permissions/me"


@routes.get(ME)
async def read_own(call: Call) -> Answer:
    return Answer(own_permissions(call.ctx))


@routes.get(ME + "/<collection>")
async def read_own_of_collection(call: Call) -> Answer:
    """One object where the collection has one permission, a list where it has several, one for each status."""
    found = own_permissions(call.ctx, call.path["collection"])
    return Answer(found[0] if len(found) == 1 else found)


@routes.get("/<project>/permissions/explain")
async def explain_permission(call: Call) -> Answer:
    collection, action = call.params.text("collection"), call.params.text("action")
    if not collection or not action:
        raise InvalidRequest('"collection" and "action" are needed.')
    return Answer(await explain(call.ctx, collection, action, call.params.text("item"), call.params.text("user") or None))


@routes.get("/<project>/permissions/export")
async def export_permissions(call: Call) -> Answer:
    return Answer(export_roles(call.ctx))


@routes.post("/<project>/permissions/import")
async def import_permissions(call: Call) -> Answer:
    """Takes what an export gives, with its envelope or without."""
    body = await call.item()
    document = body["data"] if isinstance(body.get("data"), dict) and "roles" not in body else body
    return Answer(await import_roles(call.items, call.ctx, document, call.options(), dry_run=call.params.text("dry_run") == "1"))
