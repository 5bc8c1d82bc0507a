"""/interfaces, /layouts and /modules: the extensions of the admin app, which it asks for when it starts. As for /types, the project is not
in the path (`client.named_project`). `extension_files` serves their files."""

from functools import partial

from directus_tx.errors import UserUnknown
from directus_tx.extensions import KINDS
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()


async def list_extensions(kind: str, call: Call) -> Answer:
    return Envelope(
        call.services.extensions.listed(kind, lambda plugin: call.services.items.plugins.enabled(plugin, call.project))
    )


for _kind in KINDS:
    _about = Operation(f"List the {_kind} that extend the admin app", {"type": "array", "items": ANY})
    routes.add("GET", f"/{_kind}", partial(list_extensions, _kind), Caller.SIGNED_IN, _about, refusal=UserUnknown)
