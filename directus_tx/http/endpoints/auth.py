"""/:project/auth: signing in. These routes ignore tokens."""

from directus_tx.accounts.sign_in import sign_in
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import TEXT, Items, Operation, Shape, record
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()


SIGN_IN = Operation(
    "Sign in with e-mail address and password",
    record(token=TEXT, user=Items(Shape.ITEM, "directus_users")),
    record(email={"type": "string", "format": "email"}, password={"type": "string", "format": "password"}),
)


@routes.post("/<project>/auth/authenticate", Caller.ANONYMOUS, SIGN_IN)
async def authenticate(call: Call) -> Answer:
    return Envelope(await sign_in(call.ctx, call.project, call.services.hasher, await call.item()))
