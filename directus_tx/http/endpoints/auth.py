"""/:project/auth: signing in. These routes ignore tokens."""

from directus_tx.accounts.sign_in import sign_in
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()


@routes.post("/<project>/auth/authenticate", Caller.ANONYMOUS)
async def authenticate(call: Call) -> Answer:
    return Envelope(await sign_in(call.ctx, call.project, call.services.hasher, await call.item()))
