"""/:project/gql: GraphQL, and its schema."""

from attrs import evolve

from directus_tx.errors import InvalidRequest, MethodNotAllowed, UnusableBody
from directus_tx.graphql.requests import request_of
from directus_tx.http import pages
from directus_tx.http.answers import Answer, Document, Text
from directus_tx.http.operations import ANY, TEXT, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()
GQL = "/<project>/gql"
ATTEMPTS = 4
"""The maximum number of times that a request is answered while the schema changes."""

BODY = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "The document."},
        "variables": {"type": ["object", "null"], "additionalProperties": True},
        "operationName": {"type": ["string", "null"]},
        "extensions": {"type": ["object", "null"], "additionalProperties": True, "description": "persistedQuery: its hash."},
    },
}


@routes.post(GQL, Caller.PUBLIC, Operation("GraphQL", ANY, BODY, media_type="application/json"), scoped=True)
async def post(call: Call) -> Answer:
    """Answers a request of GraphQL. Errors are in the answer, whose status is 200."""
    service = call.services.graphql
    service.check_caller(call.ctx)
    try:
        if call.uploads:
            raise UnusableBody("The body must be JSON.")
        body = await call.payloads.read(call.request.content, "application/json", public=call.public)
        request = request_of(body)
    except (UnusableBody, InvalidRequest) as error:
        return Document({"errors": [{"message": error.message, "extensions": {"code": error.code}}]})
    options = evolve(call.options(), if_match=None)
    for _ in range(ATTEMPTS):
        found = await service.answer(call.ctx, call.items, request, options)
        if not found.doubtful or call.ctx.db.committed:
            break
        schema = await call.project.verified(call.ctx.schema)
        if schema is call.ctx.schema:
            break
        call.ctx = evolve(call.ctx, schema=schema)
    return Document(found.answer)


@routes.get(GQL, Caller.ANONYMOUS, Operation("The console of GraphQL, for browsers", TEXT, media_type="text/html"))
async def console(call: Call) -> Answer:
    """Returns the console. Raises MethodNotAllowed for callers who want no page."""
    accepted = (call.request.getHeader(b"accept") or b"").decode("latin-1")
    if call.services.settings.graphql.console == "off" or "text/html" not in accepted:
        raise MethodNotAllowed("GraphQL is asked by POST.", headers={"Allow": "POST", "Vary": "Accept"})
    page = pages.graphql_console()
    return Text(page.html, headers={"Content-Security-Policy": page.policy, "Vary": "Accept"})


@routes.get("/<project>/specs/graphql", Caller.PUBLIC, Operation("The schema of GraphQL", TEXT, media_type="text/plain"))
async def schema(call: Call) -> Answer:
    """Returns the schema of what the caller may see in the schema definition language."""
    service = call.services.graphql
    service.check_caller(call.ctx)
    service.check_introspection(call.ctx)
    return Text(await service.schema_text(call.ctx), "text/plain; charset=utf-8")
