"""Tokens: issues and reads JWTs, and finds the user that a JWT or a static token belongs to."""

import secrets
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeGuard

import jwt
from attrs import frozen

from directus_tx.accounts import user_tokens
from directus_tx.context import JWT, NAMED, STATIC, Credential, Scope
from directus_tx.db.session import Session
from directus_tx.errors import ExpiredToken, InvalidToken
from directus_tx.schema.sealed import USER_TOKEN
from directus_tx.sealing import Keys

ALGORITHM = "HS256"
MAX_KNOWN = 10_000
MAX_TOKEN = 255
"""The maximum length of a static token."""

MAX_ID = 2**63 - 1
_SELECT = """SELECT id, role, coalesce("2fa_secret", '') <> '' FROM directus_users"""
# Another program may have given a user the token of another one, as it is: that of the first one counts.
_BY_TOKEN = f"""
{_SELECT} WHERE (token_fingerprint = ANY(%s) OR (token_fingerprint IS NULL AND token = ANY(%s))) AND status = 'active'
ORDER BY token_fingerprint IS NULL LIMIT 1"""
_BY_JWT = f"{_SELECT} WHERE id = %s AND status = 'active' AND (security_stamp = %s OR stamp_session = %s)"
_JWT = "eyJ"
"""The beginning of a JWT: `{"` in base64."""


@frozen
class Bearer:
    """The user that a token belongs to: id and role. `session` is the id of the session that the token belongs to, if it has one.
    `two_factor`: the user has activated two-factor authentication. `scope` is what the token is limited to, None if it is not.
    `credential` says what kind of token it is."""

    user: int
    role: int | None
    session: int | None = None
    two_factor: bool = False
    scope: Scope | None = None
    credential: Credential | None = None


class KeyRing(Protocol):
    """The attributes of a project that tokens use. `accounts` caches bearers; whenever it is emptied, `accounts_version`
    changes."""

    key: str
    keys: Keys
    public_key: str
    accounts: dict[Any, Any]
    accounts_version: int


def issue(project: KeyRing, user: int, ttl: int, now: datetime, session: int | None = None, *, stamp: int = 0) -> str:
    """Returns a JWT for *user* that is valid for *ttl* minutes from *now*, an aware datetime, as long as the user has the security stamp
    *stamp*. *session* is the id of its session, None if it has none."""
    claims: dict[str, Any] = {
        "id": user,
        "exp": int(now.timestamp()) + ttl * 60,
        "ttl": ttl,
        "type": "auth",
        "key": project.public_key,
        "project": project.key,
    }
    if session is not None:
        claims["sid"] = session
    if stamp:
        claims["stamp"] = stamp
    return jwt.encode(claims, project.keys.current, ALGORITHM)


def issue_once(project: KeyRing, type: str, user: int, lasts: timedelta, now: datetime) -> str:
    """Returns a JWT of a type of its own, which does not open the API, for *user* and the time *lasts* from *now*, an aware datetime. No
    two are equal."""
    claims = {
        "id": user,
        "exp": int((now + lasts).timestamp()),
        "ttl": int(lasts / timedelta(minutes=1)),
        "type": type,
        "key": project.public_key,
        "project": project.key,
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(claims, project.keys.current, ALGORITHM)


def read(project: KeyRing, token: str, now: datetime, type: str = "auth") -> dict[str, Any]:
    """Returns the claims of a JWT of this project and type. `id` and `exp` (seconds since 1970) are integers; so are `sid`, the id of the
    session, or None, and `stamp`, the security stamp that its user must have.

    Raises ExpiredToken or InvalidToken.
    """
    claims = _verified(project.keys, token)
    if claims.get("type") != type or claims.get("project") != project.key:
        raise InvalidToken
    id, expires = claims.get("id"), claims.get("exp")
    if not _is_whole(id) or not 0 < id <= MAX_ID or not _is_whole(expires):
        raise InvalidToken
    if claims.setdefault("sid", None) is not None and not _is_whole(claims["sid"]):
        raise InvalidToken
    if not _is_whole(claims.setdefault("stamp", 0)):
        raise InvalidToken
    if expires <= now.timestamp():
        raise ExpiredToken
    return claims


def _verified(keys: Keys, token: str) -> dict[str, Any]:
    """Returns the claims of a JWT that is signed with one of the keys. Raises InvalidToken."""
    for key in keys.all:
        try:
            # `exp` is compared by the caller, with the time of the request instead of the system clock.
            claims: dict[str, Any] = jwt.decode(token, key, [ALGORITHM], options={"verify_exp": False})
            return claims
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, RecursionError):
            break
    raise InvalidToken


def is_jwt(token: str) -> bool:
    """Whether a token has the form of a JWT. Otherwise it can only be a static token."""
    return token.startswith(_JWT) and token.count(".") == 2


def can_be_guessed(token: str) -> bool:
    """Whether a token is a static one, which people may have chosen. JWTs are signed, and other tokens of users are random."""
    return not is_jwt(token) and not user_tokens.is_token(token)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def project_of(token: str) -> str | None:
    """Returns the project that a JWT names, without verifying it: the key for verification belongs to that project."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    project = claims.get("project")
    return project if isinstance(project, str) else None


async def identify(project: KeyRing, session: Session, token: str, now: datetime) -> Bearer | None:
    """Returns the active user that a JWT, a static token or another token of a user belongs to, or None. *now* is an aware datetime.

    Bearers are cached: only unknown ones cost a statement. The cache is emptied when an account changes.
    """
    known = project.accounts.get(token)
    if known is not None:
        bearer: Bearer
        bearer, expires = known
        if expires is None or now.timestamp() < expires:
            return bearer
        if not user_tokens.is_token(token):
            return None
    version = project.accounts_version
    if user_tokens.is_token(token):
        found = await user_tokens.find(session, token, now)
        if found is not None:
            credential = Credential(NAMED, found.token, found.expires)
            bearer = Bearer(found.user, found.role, None, found.two_factor, found.scope, credential)
            # Looked up again when its use is to be written again.
            until = now.timestamp() + user_tokens.USE_INTERVAL.total_seconds()
            remember(project, version, token, bearer, until if found.expires is None else min(until, found.expires))
            if found.unwritten:
                await user_tokens.note_use(session, found.token, now)
            return bearer
        project.accounts.pop(token, None)
    expires = opened = None
    if is_jwt(token):
        try:
            claims = read(project, token, now)
        except (ExpiredToken, InvalidToken):
            return None
        expires, opened = claims["exp"], claims["sid"]
        rows = await session.query(_BY_JWT, (claims["id"], claims["stamp"], opened))
    elif "\x00" in token or len(token) > MAX_TOKEN:
        return None
    else:
        rows = await session.query(_BY_TOKEN, (USER_TOKEN.marks(project.keys, [token]), USER_TOKEN.unmarked([token])))
    if not rows:
        return None
    ((user, role, two_factor),) = rows
    credential = Credential(STATIC) if expires is None else Credential(JWT, None, expires)
    bearer = Bearer(user, role, opened, two_factor, None, credential)
    remember(project, version, token, bearer, expires)
    return bearer


def remember(project: KeyRing, version: int, key: Any, bearer: Any, expires: float | None) -> None:
    """Caches a bearer until *expires* in seconds since 1970, None for ever, unless an account has changed since `accounts_version` was
    *version*."""
    if project.accounts_version == version:
        while len(project.accounts) >= MAX_KNOWN:
            del project.accounts[next(iter(project.accounts))]
        project.accounts[key] = (bearer, expires)
