"""/:project/specs: the OpenAPI document."""

from directus_tx.access import access_of
from directus_tx.http import endpoints, openapi
from directus_tx.http.answers import Answer, Document
from directus_tx.http.endpoints.system import ADDRESSES
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()


@routes.get("/<project>/specs/oas", Caller.PUBLIC, Operation("This document", ANY, media_type="application/json"))
async def describe(call: Call) -> Answer:
    """Returns the OpenAPI document of the collections and routes that the caller may use, without an envelope."""
    systems = {address.path: address.collection for address in ADDRESSES}
    found = openapi.document(access_of(call.ctx), call.base, call.ctx.project, endpoints.all_routes(), systems)
    return Document(found)
