"""/:project/specs: the OpenAPI document."""

from directus_tx.access import access_of
from directus_tx.http import encode, endpoints, openapi
from directus_tx.http.answers import JSON, Answer, Text
from directus_tx.http.endpoints.system import ADDRESSES
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()


@routes.get("/<project>/specs/oas", Caller.PUBLIC, Operation("This document", ANY, media_type="application/json"))
async def describe(call: Call) -> Answer:
    """Returns the OpenAPI document of the collections and routes that the caller may use, without an envelope."""
    access, project, scoped = access_of(call.ctx), call.ctx.project, call.ctx.accountability.scope is not None

    def make() -> bytes:
        systems = {address.path: address.collection for address in ADDRESSES}
        custom = [route for route in call.services.custom if route.is_in(call.project)]
        return encode.encoded(openapi.document(access, project, [*endpoints.all_routes(), *custom], systems))

    # Making it takes milliseconds for a few collections, and anyone may ask for it.
    found = (
        call.ctx.schema.plans.get(access.key, "openapi", make, len)
        if scoped
        else call.ctx.schema.kept(("openapi", access.key), make)
    )
    servers = encode.encoded({"servers": [{"url": f"{call.base}/{project}"}]})
    return Text((servers[:-1] + b"," + found[1:]).decode(), JSON)
