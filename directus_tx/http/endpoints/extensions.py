"""/interfaces, /layouts and /modules: the extensions of the admin app, which it asks for when it starts. The server has none: the lists are
empty. As for /types, the project is not in the path (`client.named_project`)."""

from directus_tx.errors import UserUnknown
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()
KINDS = ("interfaces", "layouts", "modules")


async def list_extensions(call: Call) -> Answer:
    return Envelope([])


for _kind in KINDS:
    _about = Operation(f"List the {_kind} that extend the admin app", {"type": "array", "items": ANY})
    routes.add("GET", f"/{_kind}", list_extensions, Caller.SIGNED_IN, _about, refusal=UserUnknown)
