"""/:project/auth: signing in and out, and sessions. Most of these routes are anonymous: a token or cookie says only which session is meant.
All answers are those to the public."""

from collections.abc import Mapping

from directus_tx.accounts import sessions, two_factor
from directus_tx.accounts.password_resets import request_reset, reset_password
from directus_tx.accounts.sign_in import SignIn, sign_in
from directus_tx.accounts.tokens import Bearer
from directus_tx.context import COOKIE, JWT, Context
from directus_tx.errors import ApiError, DeleteForbidden, InvalidRequest, OneTimePasswordRequired, TwoFactorRequired
from directus_tx.http.answers import Answer, Document, Empty, Envelope
from directus_tx.http.client import token_of
from directus_tx.http.endpoints.links import link_mails
from directus_tx.http.operations import FLAG, TEXT, Items, Operation, Shape, record
from directus_tx.http.payload import size_of
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number

routes = Routes()

PRIVATE: Mapping[str, str] = {"Cache-Control": "no-store"}
"""Headers of answers that hold a token or depend on the caller. On anonymous routes the app does not know who that is."""

ENDED = Document({"public": True}, PRIVATE)
"""The answer to callers who have ended sessions."""

MODE = ("mode", "jwt (the default): the answer has a token; cookie: it sets a session cookie.")
SIGN_IN = Operation(
    "Sign in with e-mail address and password",
    {
        "type": "object",
        "required": ["user"],
        "properties": {
            "token": {**TEXT, "description": "A JWT; missing with the mode cookie."},
            "user": Items(Shape.ITEM, "directus_users"),
        },
    },
    {
        "type": "object",
        "required": ["email", "password"],
        "properties": {
            "email": {"type": "string", "format": "email"},
            "password": {"type": "string", "format": "password"},
            "otp": {**TEXT, "description": "The one-time password of users who have activated two-factor authentication."},
            "mode": {"type": "string", "enum": ["jwt", "cookie"]},
        },
    },
    query=(MODE,),
)
REFRESH = Operation("Make a new token of one that has not expired", record(token=TEXT), record(token=TEXT))
REQUEST = Operation("Mail a link for a new password", payload=record(email=TEXT, reset_url=TEXT))
RESET = Operation("Set a new password with the token of a link", payload=record(token=TEXT, password=TEXT))
CHECK = Operation("Whether the caller has a session", record(authenticated=FLAG))
SESSIONS = Operation("List the sessions of the caller", Items(Shape.LIST, "directus_user_sessions"))


@routes.post("/<project>/auth/authenticate", Caller.ANONYMOUS, SIGN_IN, guarded=True)
async def authenticate(call: Call) -> Answer:
    payload = await call.item()
    await call.name_account(payload.get("email"))
    cookie = (payload.get("mode") or call.params.text("mode")) == COOKIE
    if cookie:
        call.services.cookies.check_origin(call.request, call.project)
    discreet = call.services.settings.accounts.unknown_address == "accept"
    sign_on, project, hasher = call.services.sign_on, call.project, call.services.hasher
    provider: str | None = None

    async def ask_providers(ctx: Context, email: str, password: str) -> int | None:
        nonlocal provider
        found = await sign_on.verify_password(project, ctx, email, password)
        if found is None:
            return None
        provider, account = found
        return account.id

    others = ask_providers if sign_on.checks_passwords(project) else None
    try:
        found = await sign_in(call.ctx, project, hasher, payload, cookie=cookie, discreet=discreet, others=others)
    except ApiError as error:
        email = payload.get("email")
        await tell_failure(call, error, email=email if isinstance(email, str) else None, provider=provider)
        raise
    await tell_success(call, found, provider)
    if cookie:
        call.services.cookies.set(call.request, call.project, found.token, sessions.lifetime(call.ctx.schema))
    data = {"user": found.user} if cookie else {"token": found.token, "user": found.user}
    return Envelope(data, headers=PRIVATE, error=TwoFactorRequired() if found.must_activate else None)


async def tell_success(call: Call, found: SignIn, provider: str | None = None) -> None:
    """Tells plugins that a user has signed in, with a password or through a provider."""
    if call.items.plugins.has(call.ctx, "auth_success"):
        await call.items.plugins.tell("auth_success", call.ctx, user=int(found.user["id"]), provider=provider)


async def tell_failure(call: Call, error: ApiError, *, email: str | None = None, provider: str | None = None) -> None:
    """Tells plugins that an attempt to sign in has failed. Errors of the server are no failed attempts, nor is the question for a one-time
    password."""
    failed = error.status < 500 and not isinstance(error, OneTimePasswordRequired)
    if failed and call.items.plugins.has(call.ctx, "auth_fail"):
        await call.items.plugins.tell("auth_fail", call.ctx, email=email, provider=provider, code=error.code)


@routes.post("/<project>/auth/refresh", Caller.ANONYMOUS, REFRESH)
async def refresh(call: Call) -> Answer:
    payload = await call.item() if size_of(call.request.content) else {}
    token = payload.get("token")
    if token is None or token == "":
        raise InvalidRequest('"token" is required.')
    return Envelope({"token": await sessions.refresh(call.ctx, call.project, str(token))}, headers=PRIVATE)


@routes.post("/<project>/auth/password/request", Caller.ANONYMOUS, REQUEST, guarded=True)
async def request_password(call: Call) -> Answer:
    await request_reset(call.ctx, call.project, link_mails(call), call.services.settings.accounts, await call.item())
    return Empty(PRIVATE)


@routes.post("/<project>/auth/password/reset", Caller.ANONYMOUS, RESET, guarded=True)
async def reset(call: Call) -> Answer:
    await reset_password(call.items, call.ctx, call.project, await call.item())
    return Empty(PRIVATE)


@routes.get("/<project>/auth/check", Caller.ANONYMOUS, CHECK)
async def check(call: Call) -> Answer:
    return Envelope({"authenticated": await _with_session(call) is not None}, headers=PRIVATE)


@routes.get("/<project>/auth/sessions", Caller.ANONYMOUS, SESSIONS)
async def list_sessions(call: Call) -> Answer:
    bearer = await _with_session(call)
    if bearer is None or two_factor.is_missing(call.ctx.schema, bearer):
        return Empty(PRIVATE)
    return Envelope(await sessions.read(call.ctx, bearer.user), headers=PRIVATE)


@routes.post("/<project>/auth/logout", Caller.ANONYMOUS, Operation("End the session of the caller"))
async def log_out(call: Call) -> Answer:
    token, cookies = token_of(call.request, call.params), call.services.cookies
    if token is not None:
        await sessions.end_own(call.ctx, call.project, token)
    elif (cookie := cookies.read(call.request, call.project)) is not None:
        bearer = await sessions.find(call.ctx, cookie, COOKIE)
        if bearer is not None and bearer.session is not None:
            await sessions.end(call.ctx, bearer.user, bearer.session)
        cookies.clear(call.request, call.project)
    return Empty(PRIVATE)


@routes.post("/<project>/auth/logout/<user>", Caller.SIGNED_IN, Operation("End all sessions of a user"))
async def log_out_user(call: Call) -> Answer:
    user = _own_user(call)
    await sessions.end_all(call.ctx, [user])
    if user == call.ctx.accountability.user:
        _forget_cookie(call)
    return ENDED


@routes.post("/<project>/auth/logout/<user>/<session>", Caller.SIGNED_IN, Operation("End a session of a user"))
async def log_out_session(call: Call) -> Answer:
    user, session = _own_user(call), whole_number(call.path["session"])
    if session is not None:
        await sessions.end(call.ctx, user, session)
        if session == call.ctx.accountability.session:
            _forget_cookie(call)
    return ENDED


def _forget_cookie(call: Call) -> None:
    """Removes the session cookie of a caller that it identifies."""
    if token_of(call.request, call.params) is None:
        call.services.cookies.clear(call.request, call.project)


async def _with_session(call: Call) -> Bearer | None:
    """Returns the caller, if a session belongs to the token or cookie of the request. Sets the cookie again, or removes it if it has no
    session."""
    token = token_of(call.request, call.params)
    if token is not None:
        return await sessions.find(call.ctx, token, JWT)
    cookies = call.services.cookies
    cookie = cookies.read(call.request, call.project)
    if cookie is None:
        return None
    bearer = await sessions.identify(call.project, call.ctx.db, cookie, call.ctx.schema, call.ctx.now)
    if bearer is None:
        cookies.clear(call.request, call.project)
    else:
        cookies.set(call.request, call.project, cookie, sessions.lifetime(call.ctx.schema))
    return bearer


def _own_user(call: Call) -> int:
    """Returns the user in the path. Raises DeleteForbidden if the caller is neither the user nor an administrator."""
    user, who = whole_number(call.path["user"]), call.ctx.accountability
    if user is None or not (who.user == user or who.admin):
        raise DeleteForbidden("Only the user and administrators may end the sessions of a user.")
    return user
