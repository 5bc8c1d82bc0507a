"""Tokens of users beside the static one, in directus_user_tokens: each has a name, can expire, and can be limited to reading and to some
collections.

A token is random and has too many possible values to be guessed, so the table holds its SHA-256, and the token is shown once.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import orjson
from attrs import frozen
from twisted.logger import Logger

from directus_tx.access import access_of
from directus_tx.context import Context, Scope
from directus_tx.db.session import Session
from directus_tx.errors import (
    ApiError,
    InactiveUser,
    InvalidRequest,
    NotUnique,
    ReadOnlyDatabase,
    StandbyDatabase,
    UpdateForbidden,
)

log = Logger()
PREFIX = "directus_"
"""The beginning of all tokens, by which programs that look for secrets in files find them."""

_TOKEN = re.compile(PREFIX + r"[\w-]{43}", re.ASCII)
_BYTES = 32
MAX_NAME = 100
MAX_TOKENS = 100
"""The maximum number of tokens of a user."""

MAX_COLLECTIONS = 100
"""The maximum number of collections that a token can be limited to."""

MAX_LIFETIME = timedelta(days=100 * 365)
USE_INTERVAL = timedelta(minutes=1)
"""The time after which the last use of a token is written again."""

SHOWN = ("id", "name", "read_only", "collections", "created_on", "expires_on", "last_used_on")

_FIND = """
SELECT t.id, u.id, u.role, coalesce(u."2fa_secret", '') <> '', t.read_only, t.collections, extract(epoch FROM t.expires_on)::bigint,
       t.last_used_on IS NULL OR t.last_used_on <= %s
FROM directus_user_tokens AS t JOIN directus_users AS u ON u.id = t."user" AND u.status = 'active'
WHERE t.token = %s AND (t.expires_on IS NULL OR t.expires_on > %s)"""
_USE = """
UPDATE directus_user_tokens SET last_used_on = %s WHERE id = %s AND (last_used_on IS NULL OR last_used_on <= %s)"""
_LIST = """
SELECT id, "user", name, read_only, collections, created_on, expires_on, last_used_on FROM directus_user_tokens
WHERE (%s::bigint IS NULL OR "user" = %s) AND (expires_on IS NULL OR expires_on > %s) ORDER BY id"""
_INSERT = """
INSERT INTO directus_user_tokens ("user", name, token, read_only, collections, created_on, expires_on)
VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id, created_on, expires_on"""
_REMOVE = """
DELETE FROM directus_user_tokens WHERE id IN (
    SELECT id FROM directus_user_tokens WHERE expires_on <= %s ORDER BY expires_on LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING id"""


@frozen
class UserToken:
    """A token as it is stored, without its text. `user` is its user, `scope` what it is limited to, None if it is not. Times are texts in
    UTC."""

    id: int
    user: int
    name: str
    scope: Scope | None
    created_on: str
    expires_on: str | None
    last_used_on: str | None

    @property
    def shown(self) -> dict[str, Any]:
        """The token as responses show it."""
        scope = self.scope or Scope()
        collections = None if scope.collections is None else sorted(scope.collections)
        values = (self.id, self.name, scope.read_only, collections, self.created_on, self.expires_on, self.last_used_on)
        return dict(zip(SHOWN, values, strict=True))


@frozen
class Found:
    """A token that is valid, and its user: the id of the token; the id and role of the user, and whether the user has activated two-factor
    authentication; what the token is limited to, when it expires in seconds since 1970, and whether its use is to be written."""

    token: int
    user: int
    role: int | None
    two_factor: bool
    scope: Scope | None
    expires: int | None
    unwritten: bool


def is_token(text: str) -> bool:
    """Whether a text has the form of such a token."""
    return text.startswith(PREFIX) and _TOKEN.fullmatch(text) is not None


async def find(session: Session, text: str, now: datetime) -> Found | None:
    """Returns the user of a token, or None. *now* is an aware datetime."""
    rows = await session.query(_FIND, (now - USE_INTERVAL, _hash(text), now))
    if not rows:
        return None
    ((token, user, role, two_factor, read_only, collections, expires, unwritten),) = rows
    return Found(token, user, role, two_factor, scope_of(read_only, collections), expires, unwritten)


async def note_use(session: Session, token: int, now: datetime) -> None:
    """Writes when a token was used last, if that is longer than USE_INTERVAL before *now*. Failures are logged, unless the database
    can only be read."""
    # A database session of its own, because the request itself has not committed anything.
    own = Session(session.database)
    try:
        await own.transaction(lambda own: own.query(_USE, (now, token, now - USE_INTERVAL)))
    except (ReadOnlyDatabase, StandbyDatabase, UpdateForbidden):
        pass
    except ApiError as error:
        log.warn("the last use of token {token} is not written: {error}", token=token, error=error.message)


async def read(ctx: Context, user: int | None = None) -> list[UserToken]:
    """Returns the tokens of a user, or of all users, that have not expired, in the order of their ids."""
    rows = await ctx.db.query(_LIST, (user, user, ctx.now))
    return [UserToken(id, user, name, scope_of(only, named), *times) for id, user, name, only, named, *times in rows]


async def create(
    ctx: Context,
    user: int,
    name: object,
    *,
    expires_on: datetime | None = None,
    read_only: bool = False,
    collections: object = None,
) -> tuple[UserToken, str]:
    """Makes a token of a user and returns it, and its text, which is not stored. *name* is to tell the tokens of a user apart. The token is
    valid until *expires_on*, an aware datetime, None for ever. *read_only* and *collections*, a list of names, limit what it may be used
    for (`Scope`).

    Raises InvalidRequest for a name, time or list that is not valid or a collection that the caller may not read, InactiveUser if the user
    does not exist or is not active, and NotUnique if the user has a token of that name.
    """
    if not isinstance(name, str) or not name.strip() or "\x00" in name or len(name) > MAX_NAME:
        raise InvalidRequest(f'"name" must be a text of at most {MAX_NAME} characters that is not empty.')
    if expires_on is not None and not ctx.now < expires_on < ctx.now + MAX_LIFETIME:
        raise InvalidRequest(f"A token must expire in the future, within {MAX_LIFETIME.days // 365} years.")
    scope = Scope(read_only, None if collections is None else _checked(ctx, collections))
    text = PREFIX + secrets.token_urlsafe(_BYTES)

    async def work(ctx: Context) -> UserToken:
        if not await ctx.db.query("SELECT FROM directus_users WHERE id = %s AND status = 'active' FOR UPDATE", (user,)):
            raise InactiveUser
        await ctx.db.query('DELETE FROM directus_user_tokens WHERE "user" = %s AND expires_on <= %s', (user, ctx.now))
        names = [each for (each,) in await ctx.db.query('SELECT name FROM directus_user_tokens WHERE "user" = %s', (user,))]
        if len(names) >= MAX_TOKENS:
            raise InvalidRequest(f"A user may have up to {MAX_TOKENS} tokens.")
        if name.strip().lower() in {each.lower() for each in names}:
            raise NotUnique("The user has a token of this name.")
        named = None if scope.collections is None else orjson.dumps(sorted(scope.collections)).decode()
        row = (user, name.strip(), _hash(text), read_only, named, ctx.now, expires_on)
        ((id, created, expires),) = await ctx.db.query(_INSERT, row)
        return UserToken(id, user, name.strip(), scope if scope else None, created, expires, None)

    made = await ctx.transaction(work)
    log.info("project {project}: user {user} has the new token {token}", project=ctx.project, user=user, token=made.id)
    return made, text


async def revoke(ctx: Context, token: int, *, user: int | None = None) -> bool:
    """Ends a token, of any user or of *user*. Returns whether there was one."""
    sql = 'DELETE FROM directus_user_tokens WHERE id = %s AND (%s::bigint IS NULL OR "user" = %s) RETURNING id'
    gone = bool(await ctx.transaction(lambda ctx: ctx.db.query(sql, (token, user, user))))
    if gone:
        log.info("project {project}: token {token} is revoked", project=ctx.project, token=token)
    return gone


async def end_all(ctx: Context, users: Iterable[int]) -> None:
    """Ends all tokens of users. *ctx* is in a transaction."""
    await ctx.db.query('DELETE FROM directus_user_tokens WHERE "user" = ANY(%s)', (list(users),))


async def remove_expired(session: Session, now: datetime, limit: int) -> int:
    """Removes up to *limit* tokens that have expired, and returns their number. Several processes can do this at the same time."""
    return len(await session.transaction(lambda session: session.query(_REMOVE, (now, limit))))


def _checked(ctx: Context, collections: object) -> frozenset[str]:
    """Returns the names of collections in a list. Raises InvalidRequest if one does not exist or the caller may not read it."""
    if not isinstance(collections, list) or not collections or not all(isinstance(each, str) for each in collections):
        raise InvalidRequest('"collections" must be a list of names that is not empty.')
    if len(collections) > MAX_COLLECTIONS:
        raise InvalidRequest(f"A token can be limited to up to {MAX_COLLECTIONS} collections.")
    access = access_of(ctx)
    for name in collections:
        if name not in ctx.schema.collections or not access.grant(name).read:
            raise InvalidRequest(f'There is no collection "{name}" that you may read.')
    return frozenset(collections)


def scope_of(read_only: bool, collections: str | None) -> Scope | None:
    """Returns what a token is limited to, None if it is not."""
    found = Scope(read_only, None if collections is None else frozenset(orjson.loads(collections)))
    return found if found else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
