"""/:project/auth/sso: single sign-on. A browser is sent to a provider and comes back to the callback with a code."""

from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from directus_tx.accounts import sessions
from directus_tx.accounts.sign_in import SignIn
from directus_tx.accounts.sso import tokens
from directus_tx.accounts.sso.interfaces import Flow
from directus_tx.accounts.sso.redirects import with_parameters
from directus_tx.accounts.sso.service import Answer as ProviderAnswer
from directus_tx.accounts.sso.service import Provider, exchange, find_flow
from directus_tx.context import COOKIE
from directus_tx.errors import ApiError, ClientGone, InternalError, OneTimePasswordRequired, TwoFactorRequired
from directus_tx.http.answers import Answer, Envelope, Redirect
from directus_tx.http.cookies import FLOWS
from directus_tx.http.endpoints.auth import MODE, PRIVATE, SIGN_IN, tell_failure, tell_success
from directus_tx.http.operations import TEXT, Operation, record
from directus_tx.http.payload import size_of
from directus_tx.http.routes import Call, Caller, Routes

log = Logger()
routes = Routes()

LEAVING: Mapping[str, str] = {**PRIVATE, "Referrer-Policy": "no-referrer"}
"""Headers of redirects. The pages that follow must not see codes and tokens in the address before."""

LISTED = record(name=TEXT, icon={"type": ["string", "null"], "description": "The URL of a picture."})
REDIRECT = ("redirect_url", "The page to return to, of an origin in auth.redirect_origins of the project.")
CODE = {**TEXT, "description": "The one-time password of users who have activated two-factor authentication."}
EXCHANGE = {
    "type": "object",
    "required": ["request_token"],
    "properties": {"request_token": TEXT, "otp": CODE, "mode": {"type": "string", "enum": ["jwt", "cookie"]}},
}


@routes.get(
    "/<project>/auth/sso", Caller.ANONYMOUS, Operation("List the providers of single sign-on", {"type": "array", "items": LISTED})
)
async def list_providers(call: Call) -> Answer:
    return Envelope(call.services.sign_on.shown(call.project))


@routes.post(
    "/<project>/auth/sso/access_token",
    Caller.ANONYMOUS,
    Operation("Exchange the request token of a sign-on", SIGN_IN.data, EXCHANGE, query=(MODE,)),
    guarded=True,
)
async def exchange_request_token(call: Call) -> Answer:
    payload = await call.item() if size_of(call.request.content) else {}
    cookie = _is_cookie(call, payload)
    if cookie:
        call.services.cookies.check_origin(call.request, call.project)
    token = tokens.read_request_token(call.ctx, payload.get("request_token"))
    # Only whoever has signed in at the provider can try one-time passwords, and for this user alone.
    await call.name_account(f"user {token.user}")
    return _signed_in(call, await _exchanged(call, token, payload.get("otp"), "", cookie=cookie), cookie=cookie)


@routes.get(
    "/<project>/auth/sso/<provider>",
    Caller.ANONYMOUS,
    Operation("Sign in with a provider", query=(MODE, REDIRECT), status=302),
)
async def begin(call: Call) -> Answer:
    """Redirects to the page of the provider that asks the user to sign in."""
    sign_on, name = call.services.sign_on, call.path["provider"]
    provider = sign_on.provider(call.project, name)
    page = sign_on.check_redirect(call.project, call.params.text("redirect_url"), (call.base, _base(call)))
    flow = tokens.new_flow(name, call.ctx.now, cookie=_is_cookie(call, {}), redirect_url=page)
    try:
        location = await sign_on.begin(call.ctx, provider, flow, _callback_of(call))
    except ApiError as error:
        return _returned(flow.redirect_url, error)
    _set_flows(call, [*_flows(call), flow])
    return Redirect(location, LEAVING)


@routes.get(
    "/<project>/auth/sso/<provider>/callback", Caller.ANONYMOUS, Operation("Return from a provider", SIGN_IN.data), guarded=True
)
async def return_from_provider(call: Call) -> Answer:
    """Signs the user in and redirects to the page where the sign-on began: with a session cookie, with a request token, or with the code of
    an error. Without such a page, answers as signing in with a password does."""
    provider = call.services.sign_on.provider(call.project, call.path["provider"])
    flow = find_flow(_flows(call), provider.settings.name, call.params.text("state"))
    try:
        answer = {name: call.params.text(name) for name in ("code", "iss", "error")}
        return await _finish(call, provider, flow, answer, flow.redirect_url)
    except ClientGone:
        raise
    except ApiError as error:
        return _returned(flow.redirect_url, error)
    except Exception:
        log.failure("request {request_id}: a sign-on has failed", request_id=call.ctx.request_id)
        return _returned(flow.redirect_url, InternalError())


@routes.post(
    "/<project>/auth/sso/<provider>",
    Caller.ANONYMOUS,
    Operation("Exchange the code of a provider", SIGN_IN.data, record(code=TEXT, state=TEXT)),
    guarded=True,
)
async def exchange_code(call: Call) -> Answer:
    """Does what the callback does for a program that has received the answer of the provider instead of the browser."""
    provider = call.services.sign_on.provider(call.project, call.path["provider"])
    payload = await call.item() if size_of(call.request.content) else {}
    answer = {name: value if isinstance(value := payload.get(name), str) else None for name in ("code", "state", "iss", "error")}
    call.services.cookies.check_origin(call.request, call.project)
    flow = find_flow(_flows(call), provider.settings.name, answer["state"])
    return await _finish(call, provider, flow, answer, None)


async def _finish(call: Call, provider: Provider, flow: Flow, answer: Mapping[str, str | None], page: str | None) -> Answer:
    """Signs in the user who has signed in at a provider, and redirects to a page, or answers with JSON if there is none. A user who must
    enter a one-time password gets a request token, for which the page asks with it. The flow is removed from the cookie."""
    ctx = call.ctx
    _set_flows(call, [each for each in _flows(call) if each != flow])
    found = ProviderAnswer(answer["code"], answer["iss"], answer["error"])
    try:
        account = await call.services.sign_on.finish(ctx, provider, flow, found, _callback_of(call))
    except ApiError as error:
        await tell_failure(call, error, provider=provider.settings.name)
        raise
    token = tokens.new_request_token(ctx, account.id, two_factor=account.two_factor)
    if page is not None and not flow.cookie:
        return Redirect(with_parameters(page, request_token=token), LEAVING)
    try:
        read = tokens.read_request_token(ctx, token)
        signed_in = await _exchanged(call, read, None, provider.settings.name, cookie=flow.cookie)
    except OneTimePasswordRequired as error:
        if page is None:
            return Envelope({"request_token": token}, headers=PRIVATE, error=error)
        return _returned(page, error, request_token=token)
    shown = _signed_in(call, signed_in, cookie=flow.cookie)
    if page is None:
        return shown
    return _returned(page, TwoFactorRequired()) if signed_in.must_activate else Redirect(with_parameters(page), LEAVING)


async def _exchanged(call: Call, token: tokens.RequestToken, code: Any, provider: str, *, cookie: bool) -> SignIn:
    """Signs in the user of a request token, and tells plugins how that has ended. Raises the errors of `exchange`."""
    try:
        found = await exchange(call.ctx, call.project, token, code, cookie=cookie)
    except ApiError as error:
        await tell_failure(call, error, provider=provider)
        raise
    await tell_success(call, found, provider)
    return found


def _signed_in(call: Call, found: SignIn, *, cookie: bool) -> Answer:
    """Returns the answer to a user who has signed in, with a JWT or a session cookie."""
    if cookie:
        call.services.cookies.set(call.request, call.project, found.token, sessions.lifetime(call.ctx.schema))
    data = {"user": found.user} if cookie else {"token": found.token, "user": found.user}
    return Envelope(data, headers=PRIVATE, error=TwoFactorRequired() if found.must_activate else None)


def _returned(page: str | None, error: ApiError, **more: str) -> Answer:
    """Returns a redirect to the page where a sign-on began, with the code of an error and nothing else of it. Raises the error if there is
    no such page."""
    if page is None:
        raise error
    return Redirect(with_parameters(page, error="true", code=str(error.code), **more), LEAVING)


def _is_cookie(call: Call, payload: Mapping[str, Any]) -> bool:
    return (payload.get("mode") or call.params.text("mode")) == COOKIE


def _callback_of(call: Call) -> str:
    """Returns the URL that the provider redirects to."""
    return f"{_base(call)}/{call.project.key}/auth/sso/{call.path['provider']}/callback"


def _base(call: Call) -> str:
    """Returns the URL of the server for clients."""
    return call.services.settings.server.public_url.rstrip("/") or call.base


def _flows(call: Call) -> list[Flow]:
    cookie = call.services.cookies.read_own(call.request, call.project, FLOWS)
    return tokens.flows_in(call.ctx, cookie)


def _set_flows(call: Call, flows: list[Flow]) -> None:
    """Sets the cookie with the flows of the browser, or removes it if there are none."""
    value = tokens.sealed_flows(call.ctx, flows) if flows else ""
    call.services.cookies.set_own(call.request, call.project, FLOWS, value, tokens.FLOW_LIFETIME)
