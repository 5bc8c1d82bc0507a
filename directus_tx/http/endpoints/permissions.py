"""/:project/permissions/me: what the caller's own role may do. The rows themselves are read as every system collection is."""

from directus_tx.http.routes import Answer, Call, Routes
from directus_tx.system.permissions import own_permissions

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
