"""/types: the field types. The project is not in the path but in the bearer's JWT, a parameter or a header (`client.named_project`)."""

from directus_tx.errors import UserUnknown
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.datatypes import FIELD_TYPES

routes = Routes()


@routes.get(
    "/types",
    Caller.SIGNED_IN,
    Operation("List the field types", {"type": "array", "items": record(name=TEXT)}),
    refusal=UserUnknown,
)
async def list_types(call: Call) -> Answer:
    return Envelope([{"name": name} for name in (*FIELD_TYPES, *call.ctx.schema.custom.types)])
