"""What a browser carries through a sign-on: its flows, sealed in a cookie, and the request token at the end. Both are valid for a short
time, once, and in one project, also if another one has the same secret key."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import asdict, frozen

from directus_tx.accounts.sso.interfaces import Flow
from directus_tx.context import Context, moment
from directus_tx.db.session import Session
from directus_tx.errors import InvalidRequestToken

FLOW_LIFETIME = 600
"""Seconds that a user has to sign in at the provider."""

MAX_FLOWS = 3
"""The number of flows of a browser at the same time."""

MAX_COOKIE = 3800
"""The maximum length of the cookie with the flows. Browsers refuse cookies of more than 4096 bytes, with their names and attributes."""

REQUEST_LIFETIME = 60
"""Seconds for which a request token is valid."""

CODE_LIFETIME = 300
"""The same if the user must enter a one-time password."""

MAX_TOKEN = 4096
_FLOWS, _REQUEST = "single sign-on flows", "single sign-on request token"


def new_flow(provider: str, now: datetime, *, cookie: bool, redirect_url: str | None) -> Flow:
    """Returns a flow that begins at *now*, an aware datetime."""
    return Flow(provider, int(now.timestamp()) + FLOW_LIFETIME, cookie, redirect_url)


def sealed_flows(ctx: Context, flows: Sequence[Flow]) -> str:
    """Returns the value of a cookie with the newest flows, sealed with the key of the project. The oldest ones are left out if it would be
    too long."""
    for first in range(max(len(flows) - MAX_FLOWS, 0), len(flows)):
        sealed = _sealed(ctx, _FLOWS, [asdict(flow) for flow in flows[first:]])
        if len(sealed) <= MAX_COOKIE:
            break
    return sealed


def flows_in(ctx: Context, cookie: str | None) -> list[Flow]:
    """Returns the flows in a cookie that have not expired. Empty if it was not sealed by this project."""
    if cookie is None or len(cookie) > MAX_TOKEN:
        return []
    try:
        flows = [Flow(**each) for each in _unsealed(ctx, _FLOWS, cookie)]
    except (ValueError, TypeError):
        # Another version of the server can write other properties.
        return []
    return [flow for flow in flows if flow.expires > ctx.now.timestamp()]


@frozen
class RequestToken:
    """What a request token says: which `user` has signed in, and until when it is valid, in seconds since 1970."""

    user: int
    expires: int
    id: str


def new_request_token(ctx: Context, user: int, *, two_factor: bool) -> str:
    """Returns a request token of a user who has just signed in, sealed with the key of the project. *two_factor*: the user must enter a
    one-time password."""
    lasts = CODE_LIFETIME if two_factor else REQUEST_LIFETIME
    found = RequestToken(user, int(ctx.now.timestamp()) + lasts, secrets.token_urlsafe(16))
    return _sealed(ctx, _REQUEST, asdict(found))


def read_request_token(ctx: Context, token: Any) -> RequestToken:
    """Returns what a request token says. Raises InvalidRequestToken, also if it has expired."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise InvalidRequestToken
    try:
        found = RequestToken(**_unsealed(ctx, _REQUEST, token))
    except (ValueError, TypeError):
        raise InvalidRequestToken from None
    if found.expires <= ctx.now.timestamp():
        raise InvalidRequestToken
    return found


def _sealed(ctx: Context, purpose: str, value: Any) -> str:
    return ctx.keys.seal(purpose, json.dumps([ctx.project, value]))


def _unsealed(ctx: Context, purpose: str, text: str) -> Any:
    """Returns what was sealed in this project. Raises ValueError or TypeError."""
    project, value = json.loads(ctx.keys.unseal(purpose, text))
    if project != ctx.project:
        raise ValueError("sealed in another project")
    return value


async def use(ctx: Context, token: str, expires: int) -> bool:
    """Marks a token as used until it expires. Returns False if it has been used before, also by another process at the same time. *ctx* is
    in a transaction."""
    sql = "INSERT INTO directus_used_tokens (token, expires_on) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING token"
    # Kept a little longer, because the clocks of servers differ.
    return bool(await ctx.db.query(sql, (_hash(token), moment(expires) + timedelta(minutes=10))))


async def is_used(ctx: Context, token: str) -> bool:
    """Whether a token has been marked as used."""
    return bool(await ctx.db.query("SELECT FROM directus_used_tokens WHERE token = %s", (_hash(token),)))


async def remove_expired(session: Session, now: datetime, limit: int) -> int:
    """Removes up to *limit* used tokens that have expired, and returns their number. Several processes can do this at the same time."""
    sql = """
        DELETE FROM directus_used_tokens WHERE token IN (
            SELECT token FROM directus_used_tokens WHERE expires_on <= %s ORDER BY expires_on LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING token"""
    return len(await session.transaction(lambda session: session.query(sql, (now, limit))))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
