"""Sessions: the sign-ins of users, in directus_user_sessions, until they expire or are ended.

A session belongs to a cookie, which identifies the user, or to a JWT. The table holds SHA-256 hashes of cookies and JWTs: both have too
many possible values to be guessed from their hashes. A JWT names its session in the claim `sid`, and so do the JWTs that are made of it
by `refresh`; it identifies the user until it expires, but it can be refreshed only as long as the session lasts. A JWT ends earlier when
the security stamp of its user changes: with the password, unless its session has changed it, and when the user gets another status than
active.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve
from twisted.logger import Logger

from directus_tx.accounts import tokens
from directus_tx.accounts.tokens import Bearer, KeyRing
from directus_tx.context import COOKIE, JWT, Context, Credential
from directus_tx.db.session import Session
from directus_tx.errors import (
    ApiError,
    ExpiredToken,
    InactiveUser,
    InvalidToken,
    ReadOnlyDatabase,
    StandbyDatabase,
    UpdateForbidden,
)
from directus_tx.schema.model import Snapshot
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.sealed import USER_TOKEN

log = Logger()
UNWRITABLE = (ReadOnlyDatabase, StandbyDatabase, UpdateForbidden)
"""The errors if sessions cannot be stored. The last one is raised if the database role of the server lacks a privilege."""

DEFAULT_TTL = 20
MAX_TTL = 10 * 366 * 24 * 60
"""The longest lifetime of a JWT in minutes: ten years."""

UNLIMITED = timedelta(days=10 * 365)
"""The lifetime of a cookie where the setting auto_sign_out has no limit, and the longest one."""

PARTS = 100
"""The expiry of a session is written when it is to be moved by at least this part of the lifetime, so that few requests write."""

_BYTES = 32
_COOKIE = re.compile(r"[\w-]{43}", re.ASCII)
"""Matches cookies as `_new_secret` makes them."""

_NEXT = """
SELECT nextval(pg_get_serial_sequence('directus_user_sessions', 'id')), coalesce(token, '') = '', security_stamp
FROM directus_users WHERE id = %s"""
_INSERT = """
INSERT INTO directus_user_sessions (id, "user", token_type, token, ip_address, user_agent, created_on, token_expired_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
_FIND = """
SELECT u.id, u.role, s.id, coalesce(u."2fa_secret", '') <> '', extract(epoch FROM s.token_expired_at)::bigint
FROM directus_user_sessions AS s JOIN directus_users AS u ON u.id = s."user" AND u.status = 'active'
WHERE s.token = %s AND s.token_type = %s AND s.token_expired_at > %s"""
_LIST = """
SELECT id, "user", token_type, ip_address, user_agent, created_on, token_expired_at FROM directus_user_sessions
WHERE "user" = %s AND token_expired_at > %s ORDER BY id"""
_LIST_ALL = """
SELECT id, "user", token_type, ip_address, user_agent, created_on, token_expired_at FROM directus_user_sessions
WHERE token_expired_at > %s ORDER BY id"""
_PROLONG = """
UPDATE directus_user_sessions SET token_expired_at = greatest(token_expired_at, %s)
WHERE id = %s AND "user" = %s AND token_type = %s RETURNING id"""
_LASTS = """
SELECT id FROM directus_user_sessions WHERE id = %s AND "user" = %s AND token_type = %s"""
_STAMP = """
SELECT status, security_stamp, security_stamp = %s OR coalesce(stamp_session = %s, FALSE) FROM directus_users WHERE id = %s"""
_NEW_STAMP = """
UPDATE directus_users SET security_stamp = DEFAULT, stamp_session = %s WHERE id = ANY(%s)"""
SHOWN = ("id", "user", "token_type", "ip_address", "user_agent", "created_on", "token_expired_at")


def lifetime(schema: Snapshot) -> timedelta:
    """Returns how long a cookie lives without being used: the minutes of the setting auto_sign_out. UNLIMITED if it is 0, empty or not a
    number."""
    minutes = whole_number(schema.setting("auto_sign_out").strip())
    return timedelta(minutes=minutes) if minutes and minutes < UNLIMITED / timedelta(minutes=1) else UNLIMITED


def token_ttl(schema: Snapshot) -> int:
    """Returns the minutes of the setting auth_token_ttl, or the default if it is not a number."""
    found = whole_number(schema.setting("auth_token_ttl").strip(), signed=True)
    return DEFAULT_TTL if found is None else max(min(found, MAX_TTL), -MAX_TTL)


async def start(ctx: Context, project: KeyRing, user: int, *, cookie: bool) -> str:
    """Stores a session of a user who has just signed in, and returns its cookie or its JWT. A user who signs in with a cookie and has no
    static token is given one, as clients expect. *ctx* is in a transaction. Raises InactiveUser if the user has been deleted."""
    rows = await ctx.db.query(_NEXT, (user,))
    if not rows:
        raise InactiveUser
    ((id, lacks_token, stamp),) = rows
    if cookie:
        token, ends = _new_secret(), ctx.now + lifetime(ctx.schema)
        if lacks_token:
            secret = _new_secret()
            sql = "UPDATE directus_users SET token = %s, token_fingerprint = %s WHERE id = %s"
            await ctx.db.query(sql, (USER_TOKEN.sealed(ctx.keys, secret), USER_TOKEN.mark(ctx.keys, secret), user))
    else:
        ttl = token_ttl(ctx.schema)
        token, ends = tokens.issue(project, user, ttl, ctx.now, id, stamp=stamp), ctx.now + timedelta(minutes=ttl)
    who = ctx.accountability
    row = (id, user, COOKIE if cookie else JWT, _hash(token), who.ip, who.user_agent, ctx.now, ends)
    await ctx.db.query_at_commit(_INSERT, row)
    return token


async def identify(project: KeyRing, session: Session, cookie: str, schema: Snapshot, now: datetime) -> Bearer | None:
    """Returns the active user that a cookie belongs to, or None. *now* is an aware datetime.

    Moves the expiry of the session: it ends when the cookie has not been used for `lifetime`. Bearers are cached as those of tokens are.
    """
    if not _COOKIE.fullmatch(cookie):
        return None
    key = (COOKIE, cookie)
    seconds = now.timestamp()
    version = project.accounts_version
    known = project.accounts.get(key)
    if known is None or known[1] <= seconds:
        # Another process may have moved the expiry that is cached here.
        rows = await session.query(_FIND, (_hash(cookie), COOKIE, now))
        if not rows:
            project.accounts.pop(key, None)
            return None
        ((*values, ends),) = rows
        known = (_lasting(Bearer(*values), ends), ends)
        tokens.remember(project, version, key, *known)
    bearer: Bearer = known[0]
    lasts = lifetime(schema).total_seconds()
    if abs(seconds + lasts - known[1]) * PARTS >= lasts and not (schema.read_only or session.database.read_only):
        # Requests that are made meanwhile need not write it as well.
        moved = _lasting(bearer, seconds + lasts)
        tokens.remember(project, version, key, moved, seconds + lasts)
        try:
            ended = not await _moved(session, bearer, now + timedelta(seconds=lasts))
        except ApiError as error:
            log.warn("the expiry of session {session} is not written: {error}", session=bearer.session, error=error.message)
            tokens.remember(project, version, key, *known)
            return bearer
        if ended:
            project.accounts.pop(key, None)
            return None
        return moved
    return bearer


def _lasting(bearer: Bearer, ends: float) -> Bearer:
    """Returns the bearer of a cookie whose session ends at a time in seconds since 1970."""
    return evolve(bearer, credential=Credential(COOKIE, bearer.session, ends))


async def _moved(session: Session, bearer: Bearer, ends: datetime) -> bool:
    """Moves the expiry of a session. Returns False if the session has been ended."""
    # A database session of its own, because the request itself has not committed anything.
    own = Session(session.database, caller=bearer.user)
    sql = "UPDATE directus_user_sessions SET token_expired_at = %s WHERE id = %s RETURNING id"
    return bool(await own.transaction(lambda own: own.query(sql, (ends, bearer.session))))


async def find(ctx: Context, token: str, kind: str) -> Bearer | None:
    """Returns the user whose session a cookie or JWT belongs to, as *kind* says, or None. A static token has no session, and neither has a
    JWT that was refreshed."""
    rows = await ctx.db.query(_FIND, (_hash(token), kind, ctx.now))
    return Bearer(*rows[0][:-1]) if rows else None


async def read(ctx: Context, user: int) -> list[dict[str, Any]]:
    """Returns the sessions of a user that have not expired, without their tokens, in the order of their ids."""
    return [dict(zip(SHOWN, row, strict=True)) for row in await ctx.db.query(_LIST, (user, ctx.now))]


async def read_all(ctx: Context) -> list[dict[str, Any]]:
    """Returns the sessions of all users as `read` does."""
    return [dict(zip(SHOWN, row, strict=True)) for row in await ctx.db.query(_LIST_ALL, (ctx.now,))]


async def revoke(ctx: Context, session: int) -> bool:
    """Ends a session of any user. Returns whether there was one."""
    sql = "DELETE FROM directus_user_sessions WHERE id = %s RETURNING id"
    return bool(await ctx.transaction(lambda ctx: ctx.db.query(sql, (session,))))


async def refresh(ctx: Context, project: KeyRing, token: str) -> str:
    """Returns a new JWT for the user of a JWT, in the same session.

    Raises InvalidToken, also if the session has been ended, ExpiredToken, and InactiveUser. A JWT without a session, which was issued where
    the database could only be read, is given one as soon as it can be written.
    """
    claims = tokens.read(project, token, ctx.now)
    rows = await ctx.db.query(_STAMP, (claims["stamp"], claims["sid"], claims["id"]))
    if not rows:
        raise InvalidToken
    ((status, stamp, valid),) = rows
    if status != "active":
        raise InactiveUser
    if not valid:
        raise InvalidToken("The account of the token has changed since: sign in again.")
    user, id, ttl = claims["id"], claims["sid"], token_ttl(ctx.schema)
    if id is None:
        try:
            return await ctx.transaction(lambda ctx: start(ctx, project, user, cookie=False))
        except UNWRITABLE:
            return tokens.issue(project, user, ttl, ctx.now, stamp=stamp)
    ends = ctx.now + timedelta(minutes=ttl)

    async def work(ctx: Context) -> list[Any]:
        return await ctx.db.query(_PROLONG, (ends, id, user, JWT))

    try:
        lasts = await ctx.transaction(work)
    except UNWRITABLE:
        lasts = await ctx.db.query(_LASTS, (id, user, JWT))
    if not lasts:
        raise InvalidToken("The session of the token has been ended.")
    return tokens.issue(project, user, ttl, ctx.now, id, stamp=stamp)


async def issue_without(ctx: Context, project: KeyRing, user: int, ttl: int) -> str:
    """Returns a JWT of a user that is valid for *ttl* minutes and has no session. Raises InactiveUser if the user has been deleted."""
    rows = await ctx.db.query("SELECT security_stamp FROM directus_users WHERE id = %s", (user,))
    if not rows:
        raise InactiveUser
    return tokens.issue(project, user, ttl, ctx.now, stamp=rows[0][0])


async def end(ctx: Context, user: int, session: int) -> None:
    """Ends a session of a user, if it exists."""
    sql = 'DELETE FROM directus_user_sessions WHERE id = %s AND "user" = %s'
    await ctx.transaction(lambda ctx: ctx.db.query(sql, (session, user)))


async def end_all(ctx: Context, users: Iterable[int], *, but: int | None = None) -> None:
    """Ends the sessions of users, except the session *but*."""
    sql = 'DELETE FROM directus_user_sessions WHERE "user" = ANY(%s) AND id IS DISTINCT FROM %s'
    await ctx.transaction(lambda ctx: ctx.db.query(sql, (list(users), but)))


async def sign_out(ctx: Context, users: Iterable[int], *, but: int | None = None) -> None:
    """Ends the sessions of users, except the session *but*, and makes their JWTs invalid, except those of that session. *ctx* is in a
    transaction."""
    signed_out = list(users)
    await end_all(ctx, signed_out, but=but)
    await ctx.db.query(_NEW_STAMP, (but, signed_out))


async def end_own(ctx: Context, project: KeyRing, token: str) -> None:
    """Ends the session of a JWT, if it is valid and has one. A static token has none."""
    try:
        claims = tokens.read(project, token, ctx.now)
    except (InvalidToken, ExpiredToken):
        return
    if claims["sid"] is not None:
        await end(ctx, claims["id"], claims["sid"])


async def remove_expired(session: Session, now: datetime, limit: int) -> int:
    """Removes up to *limit* sessions that have expired, and returns their number. Several processes can do this at the same time."""
    sql = """
        DELETE FROM directus_user_sessions WHERE id IN (
            SELECT id FROM directus_user_sessions WHERE token_expired_at <= %s ORDER BY token_expired_at LIMIT %s
            FOR UPDATE SKIP LOCKED
        ) RETURNING id"""
    return len(await session.transaction(lambda session: session.query(sql, (now, limit))))


def _new_secret() -> str:
    return secrets.token_urlsafe(_BYTES)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
