"""References to the tokens and sessions of users. A reference contains no secret: it can be part of an address that was made with the token
or session, and says later whether that is still valid."""

import re
from datetime import datetime

from attrs import field, frozen

from directus_tx.accounts import tokens
from directus_tx.accounts.tokens import Bearer, KeyRing
from directus_tx.accounts.user_tokens import scope_of
from directus_tx.context import COOKIE, JWT, NAMED, STATIC, Credential
from directus_tx.db.session import Session
from directus_tx.schema.sealed import USER_TOKEN

CACHED = 60
"""How many seconds a holder is cached: a token or a session may expire."""

_REFERENCE = re.compile(rf"([1-9]\d{{0,17}})\.(?:({JWT}|{STATIC})|({COOKIE}|{NAMED})-([1-9]\d{{0,17}}))", re.ASCII)
_FIND = f"""
SELECT u.role, coalesce(u."2fa_secret", '') <> '', u.security_stamp, u.token, t.id IS NOT NULL, t.read_only, t.collections, s.id IS NOT NULL
FROM directus_users AS u
LEFT JOIN directus_user_tokens AS t ON t.id = %s AND t."user" = u.id AND (t.expires_on IS NULL OR t.expires_on > %s)
LEFT JOIN directus_user_sessions AS s
    ON s.id = %s AND s."user" = u.id AND s.token_type = '{COOKIE}' AND s.token_expired_at > %s
WHERE u.id = %s AND u.status = 'active'"""


@frozen
class Holder:
    """The user whom a credential identifies. `mark` is a text that changes when the user gets another credential of the same kind."""

    bearer: Bearer
    mark: str = field(repr=False)


def reference_of(user: int, credential: Credential) -> str:
    """Returns the reference to a credential of a user."""
    return f"{user}.{credential.kind}" + ("" if credential.id is None else f"-{credential.id}")


async def find_holder(project: KeyRing, session: Session, reference: str, now: datetime) -> Holder | None:
    """Returns the user of a reference if the credential is still valid, otherwise None. Whether a JWT has expired is not checked: a
    reference does not contain the time. *now* is an aware datetime. Holders are cached as bearers are."""
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        return None
    key = ("holder", reference)
    known = project.accounts.get(key)
    if known is not None and now.timestamp() < known[1]:
        cached: Holder = known[0]
        return cached
    version = project.accounts_version
    user, id = int(parts[1]), parts[4] and int(parts[4])
    kind = parts[2] or parts[3]
    values = (id if kind == NAMED else None, now, id if kind == COOKIE else None, now, user)
    rows = await session.query(_FIND, values)
    if not rows:
        return None
    found = _holder(project, user, kind, *rows[0])
    if found is not None:
        tokens.remember(project, version, key, found, now.timestamp() + CACHED)
    return found


def _holder(
    project: KeyRing,
    user: int,
    kind: str,
    role: int | None,
    two_factor: bool,
    stamp: int,
    token: str | None,
    has_token: bool,
    read_only: bool,
    collections: str | None,
    has_session: bool,
) -> Holder | None:
    if kind == JWT:
        return Holder(Bearer(user, role, None, two_factor), str(stamp))
    if kind == COOKIE:
        return Holder(Bearer(user, role, None, two_factor), "") if has_session else None
    if kind == NAMED:
        return Holder(Bearer(user, role, None, two_factor, scope_of(read_only, collections)), "") if has_token else None
    try:
        static = USER_TOKEN.unsealed(project.keys, token)
    except ValueError:
        return None
    return Holder(Bearer(user, role, None, two_factor), static) if static else None
