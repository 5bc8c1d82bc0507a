"""Tokens: the JWTs that signing in gives, and who the bearer of a token is."""

from datetime import datetime, timedelta
from typing import Any, Protocol

import jwt
from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.errors import ExpiredToken, InvalidToken

ALGORITHM = "HS256"
MAX_KNOWN = 10_000


@frozen
class Bearer:
    """Whom a token names: the user's id and role."""

    user: int
    role: int | None


class KeyRing(Protocol):
    """What tokens need of a project. `accounts` may be emptied at any time, and `accounts_version` then differs."""

    key: str
    secret_key: str
    public_key: str
    accounts: dict[Any, Any]
    accounts_version: int


def issue(project: KeyRing, user: int, ttl: int, now: datetime) -> str:
    """A JWT that lets *user* in for *ttl* minutes."""
    claims = {
        "id": user,
        "exp": now + timedelta(minutes=ttl),
        "ttl": ttl,
        "type": "auth",
        "key": project.public_key,
        "project": project.key,
    }
    return jwt.encode(claims, project.secret_key, ALGORITHM)


def read(project: KeyRing, token: str, type: str = "auth") -> dict[str, Any]:
    """The claims of a JWT of this project and type. Raises ExpiredToken, InvalidToken."""
    try:
        claims: dict[str, Any] = jwt.decode(token, project.secret_key, [ALGORITHM], options={"require": ["exp"]})
    except jwt.ExpiredSignatureError:
        raise ExpiredToken from None
    except jwt.InvalidTokenError:
        raise InvalidToken from None
    if claims.get("type") != type or claims.get("project") != project.key or not isinstance(claims.get("id"), int):
        raise InvalidToken
    return claims


def project_of(token: str) -> str | None:
    """The project that a JWT says it belongs to, unverified: where to look for the key that verifies it."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    project = claims.get("project")
    return project if isinstance(project, str) else None


async def identify(project: KeyRing, session: Session, token: str, now: datetime) -> Bearer | None:
    """Who the bearer of a token is: an active user of the project, by JWT or static token; None for any other token.

    Known bearers cost no statement; what is known of them is forgotten when an account changes.
    """
    known = project.accounts.get(token)
    if known is not None:
        bearer, expires = known
        return bearer if expires is None or now.timestamp() < expires else None
    version = project.accounts_version
    expires = None
    if token.count(".") == 2:
        try:
            claims = read(project, token)
        except (ExpiredToken, InvalidToken):
            return None
        expires = claims["exp"]
        rows = await session.query("SELECT id, role FROM directus_users WHERE id = %s AND status = 'active'", (claims["id"],))
    elif "\x00" in token:
        return None
    else:
        rows = await session.query("SELECT id, role FROM directus_users WHERE token = %s AND status = 'active'", (token,))
    if not rows:
        return None
    bearer = Bearer(*rows[0])
    if project.accounts_version == version:
        if len(project.accounts) >= MAX_KNOWN:
            project.accounts.clear()
        project.accounts[token] = (bearer, expires)
    return bearer
