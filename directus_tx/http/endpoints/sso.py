"""/:project/auth/sso: single sign-on. A browser is sent to a provider and comes back to the callback with a code."""

from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from directus_tx.accounts import sessions
from directus_tx.accounts.sso import tokens
from directus_tx.accounts.sso.interfaces import Flow
from directus_tx.accounts.sso.redirects import with_parameters
from directus_tx.accounts.sso.service import Answer as ProviderAnswer
from directus_tx.accounts.sso.service import Provider, exchange, find_flow, open_session
from directus_tx.errors import ApiError, ClientGone, InternalError
from directus_tx.http.answers import Answer, Envelope, Redirect
from directus_tx.http.cookies import FLOWS
from directus_tx.http.endpoints.auth import MODE, PRIVATE
from directus_tx.http.operations import TEXT, Operation, record
from directus_tx.http.payload import size_of
from directus_tx.http.routes import Call, Caller, Routes

log = Logger()
routes = Routes()

LEAVING: Mapping[str, str] = {**PRIVATE, "Referrer-Policy": "no-referrer"}
"""Headers of redirects. The pages that follow must not see codes and tokens in the address before."""

LISTED = record(name=TEXT, icon={"type": ["string", "null"], "description": "The URL of a picture."})
REDIRECT = ("redirect_url", "The page to return to, of an origin in auth.redirect_origins of the project.")
TOKEN = record(token={**TEXT, "description": "A JWT; missing with the mode cookie."})


@routes.get(
    "/<project>/auth/sso", Caller.ANONYMOUS, Operation("List the providers of single sign-on", {"type": "array", "items": LISTED})
)
async def list_providers(call: Call) -> Answer:
    return Envelope(call.services.sign_on.shown(call.project))


@routes.post(
    "/<project>/auth/sso/access_token",
    Caller.ANONYMOUS,
    Operation("Exchange the request token of a sign-on", TOKEN, record(request_token=TEXT), query=(MODE,)),
    guarded=True,
)
async def exchange_request_token(call: Call) -> Answer:
    payload = await call.item() if size_of(call.request.content) else {}
    cookie = _is_cookie(call, payload)
    if cookie:
        call.services.cookies.check_origin(call.request, call.project)
    return _signed_in(call, await exchange(call.ctx, call.project, payload.get("request_token"), cookie=cookie), cookie=cookie)


@routes.get(
    "/<project>/auth/sso/<provider>", Caller.ANONYMOUS, Operation("Sign in with a provider", TEXT, query=(MODE, REDIRECT))
)
async def begin(call: Call) -> Answer:
    """Redirects to the page of the provider that asks the user to sign in."""
    sign_on, name = call.services.sign_on, call.path["provider"]
    provider = sign_on.provider(call.project, name)
    page = sign_on.check_redirect(call.project, call.params.text("redirect_url"), call.base)
    flow = tokens.new_flow(name, call.ctx.now, cookie=_is_cookie(call, {}), redirect_url=page)
    try:
        location = await sign_on.begin(call.ctx, provider, flow, _callback_of(call))
    except ApiError as error:
        return _returned(flow, error)
    _set_flows(call, [*_flows(call), flow])
    return Redirect(location, LEAVING)


@routes.get("/<project>/auth/sso/<provider>/callback", Caller.ANONYMOUS, Operation("Return from a provider", TOKEN), guarded=True)
async def return_from_provider(call: Call) -> Answer:
    """Signs the user in and redirects to the page where the sign-on began: with a session cookie, with a request token, or with the code of
    an error. Without such a page, answers as signing in with a password does."""
    provider = call.services.sign_on.provider(call.project, call.path["provider"])
    flow = find_flow(_flows(call), provider.settings.name, call.params.text("state"))
    try:
        user = await _user_of(call, provider, flow, {name: call.params.text(name) for name in ("code", "iss", "error")})
        if flow.redirect_url is not None and not flow.cookie:
            token = tokens.new_request_token(call.ctx.keys, user, call.ctx.now)
            return Redirect(with_parameters(flow.redirect_url, request_token=token), LEAVING)
        answer = _signed_in(call, await open_session(call.ctx, call.project, user, cookie=flow.cookie), cookie=flow.cookie)
        return answer if flow.redirect_url is None else Redirect(with_parameters(flow.redirect_url), LEAVING)
    except ClientGone:
        raise
    except ApiError as error:
        return _returned(flow, error)
    except Exception:
        log.failure("request {request_id}: a sign-on has failed", request_id=call.ctx.request_id)
        return _returned(flow, InternalError())


@routes.post(
    "/<project>/auth/sso/<provider>",
    Caller.ANONYMOUS,
    Operation("Exchange the code of a provider", TOKEN, record(code=TEXT, state=TEXT)),
    guarded=True,
)
async def exchange_code(call: Call) -> Answer:
    """Does what the callback does for a program that has received the answer of the provider instead of the browser."""
    provider = call.services.sign_on.provider(call.project, call.path["provider"])
    payload = await call.item() if size_of(call.request.content) else {}
    answer = {name: value if isinstance(value := payload.get(name), str) else None for name in ("code", "state", "iss", "error")}
    call.services.cookies.check_origin(call.request, call.project)
    flow = find_flow(_flows(call), provider.settings.name, answer["state"])
    user = await _user_of(call, provider, flow, answer)
    return _signed_in(call, await open_session(call.ctx, call.project, user, cookie=flow.cookie), cookie=flow.cookie)


async def _user_of(call: Call, provider: Provider, flow: Flow, answer: Mapping[str, str | None]) -> int:
    """Returns the user who has signed in at a provider. The flow is removed from the cookie."""
    _set_flows(call, [each for each in _flows(call) if each != flow])
    found = ProviderAnswer(flow.state, answer["code"], answer["iss"], answer["error"])
    return await call.services.sign_on.finish(call.ctx, provider, flow, found, _callback_of(call))


def _signed_in(call: Call, token: str, *, cookie: bool) -> Answer:
    """Returns the answer to a user who has signed in, with a JWT or a session cookie."""
    if not cookie:
        return Envelope({"token": token}, headers=PRIVATE)
    call.services.cookies.set(call.request, call.project, token, sessions.lifetime(call.ctx.schema))
    return Envelope({}, headers=PRIVATE)


def _returned(flow: Flow, error: ApiError) -> Answer:
    """Returns a redirect to the page where a sign-on began, with the code of an error and nothing else. Raises the error if there is no
    such page."""
    if flow.redirect_url is None:
        raise error
    return Redirect(with_parameters(flow.redirect_url, error="true", code=str(error.code)), LEAVING)


def _is_cookie(call: Call, payload: Mapping[str, Any]) -> bool:
    return (payload.get("mode") or call.params.text("mode")) == sessions.COOKIE


def _callback_of(call: Call) -> str:
    """Returns the URL that the provider redirects to."""
    return f"{call.base}/{call.project.key}/auth/sso/{call.path['provider']}/callback"


def _flows(call: Call) -> list[Flow]:
    cookie = call.services.cookies.read_own(call.request, call.project, FLOWS)
    return tokens.flows_in(call.ctx.keys, cookie, call.ctx.now)


def _set_flows(call: Call, flows: list[Flow]) -> None:
    """Sets the cookie with the flows of the browser, or removes it if there are none."""
    value = tokens.sealed_flows(call.ctx.keys, flows) if flows else ""
    call.services.cookies.set_own(call.request, call.project, FLOWS, value, tokens.FLOW_LIFETIME)
