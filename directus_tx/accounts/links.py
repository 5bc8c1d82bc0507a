"""Links that are mailed to users: to choose a new password, and to accept an invitation.

A link has a token, a JWT of a type of its own. It can be used once, until it expires. The database holds its SHA-256, so a copy of the
database is not enough to use it.
"""

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from attrs import field, frozen

from directus_tx.accounts import tokens
from directus_tx.accounts.tokens import KeyRing
from directus_tx.context import Context
from directus_tx.db.session import Session

RESET, INVITATION = "reset_password", "invitation"
"""The kinds of links, and the types of their tokens."""

KEPT = timedelta(days=1)
"""How long links are kept after they were made, at least: the new ones of a user are counted."""

_INSERT = """
INSERT INTO directus_user_links ("user", kind, token, created_on, expires_on) SELECT id, %s, %s, %s, %s FROM directus_users WHERE id = %s"""
_USE = """
UPDATE directus_user_links SET ended_on = %s
WHERE token = %s AND "user" = %s AND kind = %s AND ended_on IS NULL AND expires_on > %s RETURNING id"""
_OPEN = """
SELECT u.role FROM directus_user_links AS l JOIN directus_users AS u ON u.id = l."user" AND u.status = %s
WHERE l.token = %s AND l."user" = %s AND l.kind = %s AND l.ended_on IS NULL AND l.expires_on > %s"""
_HELD = """
SELECT DISTINCT "user" FROM directus_user_links WHERE "user" = ANY(%s) AND kind = %s AND ended_on IS NULL AND expires_on > %s"""
_REMOVE = """
DELETE FROM directus_user_links WHERE id IN (
    SELECT id FROM directus_user_links WHERE expires_on <= %s AND created_on <= %s ORDER BY expires_on LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING id"""


@frozen
class Link:
    """A link of a user, until it `expires`, an aware datetime."""

    token: str = field(repr=False)
    expires: datetime

    @property
    def receipt(self) -> str:
        """The token with a hash in place of its signature. It can be shown: it has the form of a JWT and is worth nothing."""
        head, _, _ = self.token.rpartition(".")
        return f"{head}.{base64.urlsafe_b64encode(hashlib.sha256(self.token.encode()).digest()).decode().rstrip('=')}"


@frozen
class Claimed:
    """What an open link says: the `user` and the `role` of the user, None if the user has no role."""

    user: int
    role: int | None


async def make(ctx: Context, project: KeyRing, kind: str, user: int | None, lasts: timedelta) -> Link:
    """Makes a link of a user for the time *lasts*. If *user* is None, runs the same statement, which stores nothing. *ctx* is in a
    transaction."""
    token = tokens.issue_once(project, kind, user or 0, lasts, ctx.now)
    expires = ctx.now + lasts
    await ctx.db.query(_INSERT, (kind, _hash(token), ctx.now, expires, user))
    return Link(token, expires)


async def number_since(ctx: Context, kind: str, user: int | None, since: datetime) -> int:
    """Returns the number of links of a user that were made after *since*."""
    sql = 'SELECT count(*) FROM directus_user_links WHERE "user" = %s AND kind = %s AND created_on > %s'
    ((number,),) = await ctx.db.query(sql, (user, kind, since))
    return int(number)


async def claim(ctx: Context, project: KeyRing, kind: str, token: str, status: str) -> Claimed | None:
    """Returns the user of a token that can be used, or None if it has been used, the account has changed since, or the user does not have
    the *status*. Raises InvalidToken and ExpiredToken."""
    user = tokens.read(project, token, ctx.now, kind)["id"]
    rows = await ctx.db.query(_OPEN, (status, _hash(token), user, kind, ctx.now))
    return Claimed(user, rows[0][0]) if rows else None


async def use(ctx: Context, kind: str, token: str, claimed: Claimed, status: str) -> bool:
    """Uses a token up. Returns False if that has happened since it was claimed, or the user has another role or status. *ctx* is in a
    transaction."""
    # The user is locked first, as writes of users do it, so that two transactions do not wait for each other.
    sql = "SELECT FROM directus_users WHERE id = %s AND role IS NOT DISTINCT FROM %s AND status = %s FOR NO KEY UPDATE"
    if not await ctx.db.query(sql, (claimed.user, claimed.role, status)):
        return False
    return bool(await ctx.db.query(_USE, (ctx.now, _hash(token), claimed.user, kind, ctx.now)))


async def holders(ctx: Context, kind: str, users: Iterable[int]) -> set[int]:
    """Returns those of the users who have a link that can be used."""
    return {user for (user,) in await ctx.db.query(_HELD, (list(users), kind, ctx.now))}


async def end(ctx: Context, kind: str, users: Iterable[int]) -> None:
    """Makes the links of users invalid. *ctx* is in a transaction."""
    sql = 'UPDATE directus_user_links SET ended_on = %s WHERE "user" = ANY(%s) AND kind = %s AND ended_on IS NULL'
    await ctx.db.query(sql, (ctx.now, list(users), kind))


async def clear_receipts(ctx: Context, users: Iterable[int]) -> None:
    """Removes the receipts of links for new passwords from users. *ctx* is in a transaction."""
    await ctx.db.query("UPDATE directus_users SET password_reset_token = NULL WHERE id = ANY(%s)", (list(users),))


async def remove_expired(session: Session, now: datetime, limit: int) -> int:
    """Removes up to *limit* links that have expired, and returns their number. Several processes can do this at the same time."""
    return len(await session.transaction(lambda session: session.query(_REMOVE, (now, now - KEPT, limit))))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
