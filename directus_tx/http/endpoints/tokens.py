"""/:project/users/me/tokens: the tokens of the caller beside the static one."""

from datetime import timedelta

from directus_tx.accounts import user_tokens
from directus_tx.errors import InvalidRequest, ItemNotFound
from directus_tx.http.answers import Answer, Empty, Envelope
from directus_tx.http.operations import FLAG, INTEGER, TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number

routes = Routes()
PATH = "/<project>/users/me/tokens"
PRIVATE = {"Cache-Control": "no-store"}
NAMES = {"type": "array", "items": TEXT, "nullable": True, "description": "The collections that the token is for; null: all."}
TOKEN = record(
    id=INTEGER, name=TEXT, read_only=FLAG, collections=NAMES, created_on=TEXT, expires_on=TEXT, last_used_on=TEXT, token=TEXT
)
NEW = record(
    name=TEXT,
    read_only=FLAG,
    collections=NAMES,
    lifetime={"type": "integer", "description": "The days after which the token expires; null: never."},
)


@routes.get(PATH, Caller.SIGNED_IN, Operation("List the tokens of the caller", {"type": "array", "items": TOKEN}), scoped=False)
async def list_tokens(call: Call) -> Answer:
    return Envelope([token.shown for token in await user_tokens.read(call.ctx, _user(call))])


@routes.post(PATH, Caller.SIGNED_IN, Operation("Make a token, which is shown this once", TOKEN, NEW))
async def create_token(call: Call) -> Answer:
    payload, user = await call.item(), _user(call)
    unknown = payload.keys() - NEW["properties"].keys()
    if unknown:
        raise InvalidRequest(f'A token has no "{min(unknown)}".')
    days, read_only = payload.get("lifetime"), payload.get("read_only", False)
    if days is not None and (
        not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= user_tokens.MAX_LIFETIME.days
    ):
        raise InvalidRequest(f'"lifetime" must be a number of days from 1 to {user_tokens.MAX_LIFETIME.days}.')
    if not isinstance(read_only, bool):
        raise InvalidRequest('"read_only" must be true or false.')
    made, text = await user_tokens.create(
        call.ctx,
        user,
        payload.get("name"),
        expires_on=None if days is None else call.ctx.now + timedelta(days=days),
        read_only=read_only,
        collections=payload.get("collections"),
    )
    return Envelope(made.shown | {"token": text}, headers=PRIVATE)


@routes.delete(f"{PATH}/<key>", Caller.SIGNED_IN, Operation("Revoke a token"))
async def revoke_token(call: Call) -> Answer:
    number = whole_number(call.path["key"])
    if number is None or not await user_tokens.revoke(call.ctx, number, user=_user(call)):
        raise ItemNotFound("You have no such token.")
    return Empty()


def _user(call: Call) -> int:
    user = call.ctx.accountability.user
    assert user is not None, "the route is for users"
    return user
