"""The accounts of providers that belong to users, in directus_user_identities."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from directus_tx.context import Context
from directus_tx.db.session import Session

SHOWN = ("id", "user", "provider", "issuer", "subject", "created_on", "last_used_on")
_FIND = """
SELECT u.id, u.status, u.role, coalesce(u."2fa_secret", '') <> ''
FROM directus_user_identities AS i JOIN directus_users AS u ON u.id = i."user"
WHERE i.provider = %s AND i.issuer = %s AND i.subject = %s"""
_USE = "UPDATE directus_user_identities SET last_used_on = %s WHERE provider = %s AND issuer = %s AND subject = %s"
# Two letters can have the same lower case, such as K and the Kelvin sign. Addresses that differ in one are those of different people.
_BY_EMAIL = """
SELECT id, status, role, coalesce("2fa_secret", '') <> '' FROM directus_users
WHERE lower(email) = lower(%(email)s) AND (email = %(email)s OR (octet_length(email) = length(email) AND %(ascii)s))"""
_LINK = """
INSERT INTO directus_user_identities ("user", provider, issuer, subject, created_on, last_used_on)
VALUES (%s, %s, %s, %s, %s, %s) RETURNING id"""
_LIST = """
SELECT id, "user", provider, issuer, subject, created_on, last_used_on FROM directus_user_identities
WHERE %(user)s::bigint IS NULL OR "user" = %(user)s ORDER BY id"""


@frozen
class Key:
    """What identifies an account: the name of the provider in the project file, its issuer, and the subject."""

    provider: str
    issuer: str
    subject: str

    @property
    def values(self) -> tuple[str, str, str]:
        """The values of its columns."""
        return self.provider, self.issuer, self.subject


@frozen
class Account:
    """A user: id, status and role, and whether the user has activated two-factor authentication."""

    id: int
    status: str
    role: int | None
    two_factor: bool = False


async def user_of(session: Session, key: Key, now: datetime) -> Account | None:
    """Returns the user that an account belongs to, or None, and notes when the account was used. *session* is in a transaction."""
    rows = await session.query(_FIND, key.values)
    if not rows:
        return None
    await session.query(_USE, (now, *key.values))
    return Account(*rows[0])


async def user_with(session: Session, email: str) -> Account | None:
    """Returns the user with an e-mail address, without regard to case, or None."""
    rows = await session.query(_BY_EMAIL, {"email": email, "ascii": email.isascii()})
    return Account(*rows[0]) if rows else None


async def link(ctx: Context, key: Key, user: int) -> int:
    """Makes an account belong to a user. Returns the id of the row. Raises NotUnique if it belongs to one already. *ctx* is in a
    transaction."""
    ((id,),) = await ctx.db.query(_LINK, (user, *key.values, ctx.now, ctx.now))
    return int(id)


async def read(ctx: Context, user: int | None = None) -> Sequence[dict[str, Any]]:
    """Returns the accounts of all users, or of one, with the columns SHOWN, in the order of their ids."""
    return [dict(zip(SHOWN, row, strict=True)) for row in await ctx.db.query(_LIST, {"user": user})]


async def remove(ctx: Context, id: int) -> bool:
    """Removes an account from its user. Returns whether there was one with this id."""
    sql = "DELETE FROM directus_user_identities WHERE id = %s RETURNING id"
    return bool(await ctx.transaction(lambda ctx: ctx.db.query(sql, (id,))))
