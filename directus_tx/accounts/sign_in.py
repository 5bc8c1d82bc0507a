"""Signing in with an e-mail address and a password."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from attrs import evolve

from directus_tx.accounts import hashes, sessions, tokens
from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.context import Context
from directus_tx.errors import (
    InactiveUser,
    InvalidCredentials,
    InvalidSignIn,
    ReadOnlyDatabase,
    StandbyDatabase,
    SuspendedUser,
    UpdateForbidden,
)
from directus_tx.items.history import Record, record, record_activity
from directus_tx.schema.parsing import MAX_HASHED
from directus_tx.schema.patterns import is_email
from directus_tx.schema.sealed import TWO_FACTOR_SECRET

T = TypeVar("T")
SHOWN = [
    "id",
    "status",
    "role",
    "first_name",
    "last_name",
    "email",
    "timezone",
    "locale",
    "locale_options",
    "avatar",
    "company",
    "title",
    "external_id",
    "theme",
    "2fa_secret",
    "password_reset_token",
]
USERS = "directus_users"
MAX_EMAIL = 128
# Returns one row: the kinds of the hashes of all users, found by a loose scan of their index, and the user, or nulls if there is
# none. The kinds are one text, because arrays are not read as lists.
_FIND = f"""
WITH RECURSIVE kinds (kind) AS (
    (SELECT min(substring(password from '{hashes.KIND}')) FROM {USERS})
    UNION ALL
    SELECT (
        SELECT min(substring(password from '{hashes.KIND}')) FROM {USERS} WHERE substring(password from '{hashes.KIND}') > kind
    ) FROM kinds WHERE kind IS NOT NULL
)
SELECT (SELECT string_agg(kind, ' ') FROM kinds), u.password, {", ".join(f'u."{name}"' for name in SHOWN)}
FROM (SELECT 1) AS one LEFT JOIN {USERS} AS u ON lower(u.email) = lower(%s)
"""


class _AccountChanged(Exception):
    """Raised if the password or the status of a user has changed since they were read. A sign-in at the same time can replace the hash."""


async def sign_in(
    ctx: Context, project: tokens.KeyRing, hasher: PasswordHasher, payload: Mapping[str, Any], *, cookie: bool = False
) -> dict[str, Any]:
    """Signs a user in and returns `token` and `user`, whose `id` and `role` are text, as clients expect. The token is a JWT, or with
    *cookie* the value of a session cookie. The session is stored.

    Raises InvalidSignIn, InvalidCredentials, SuspendedUser or InactiveUser; with *cookie* ReadOnlyDatabase, StandbyDatabase or
    UpdateForbidden if the session cannot be stored. A wrong password is recorded as an activity. Refusing an unknown address runs the
    same statements and the same hashing as refusing a wrong password, and also uses up an id of the activity, so that neither the
    duration nor gaps in the ids reveal which addresses are known. Where the database can only be read, nothing is recorded, and a JWT has
    no session.
    """
    email, password = payload.get("email"), payload.get("password")
    if not (isinstance(email, str) and isinstance(password, str) and password and _is_address(email)):
        raise InvalidSignIn
    if len(password) > MAX_HASHED:
        raise InvalidSignIn(f"A password must have at most {MAX_HASHED} characters.")
    ((kinds, hashed, *values),) = await ctx.db.query(_FIND, (email,))
    user = dict(zip(SHOWN, values, strict=True))
    verdict = await hasher.verify(password, hashed, (kinds or "").split())
    if not verdict.valid and user["status"] == "invited" and not hashed:
        # There is no password that could be right. Clients tell the user to accept the invitation first.
        raise InactiveUser
    if not verdict.valid:
        await _note_refusal(ctx, user["id"])
        raise InvalidCredentials
    if user["status"] == "suspended":
        raise SuspendedUser
    if user["status"] != "active":
        raise InactiveUser
    try:
        user["2fa_secret"] = TWO_FACTOR_SECRET.unsealed(ctx.keys, user["2fa_secret"])
    except ValueError:
        # Without the secret, the second factor cannot be checked.
        raise InactiveUser("The two-factor secret of the user cannot be decrypted: an administrator must set it anew.") from None

    records = [Record("authenticate", USERS, str(user["id"]))]

    async def work(ctx: Context) -> str:
        # A password that is changed at the same time ends the sessions that are stored before; none may be stored for the former one after.
        unchanged = f"SELECT FROM {USERS} WHERE id = %s AND password = %s AND status = 'active' FOR SHARE"
        if not await ctx.db.query(unchanged, (user["id"], hashed)):
            raise _AccountChanged
        await record(ctx, records)
        return await sessions.start(ctx, project, user["id"], cookie=cookie)

    try:
        token = await (_as_user(ctx, user["id"]).transaction(work) if cookie else _recorded(ctx, user["id"], work))
    except _AccountChanged:
        return await sign_in(ctx, project, hasher, payload, cookie=cookie)
    except UpdateForbidden:
        if cookie:
            raise
        # The database role of the server may not write sessions.
        token = await _recorded(ctx, user["id"], lambda ctx: record(ctx, records))
    if token is None:
        token = tokens.issue(project, user["id"], sessions.token_ttl(ctx.schema), ctx.now)
    elif verdict.outdated:
        newer = await hasher.rehash(password)
        await ctx.transaction(
            lambda ctx: ctx.db.query(
                f"UPDATE {USERS} SET password = %s WHERE id = %s AND password = %s", (newer, user["id"], hashed)
            )
        )
    role = user["role"]
    return {"token": token, "user": user | {"id": str(user["id"]), "role": None if role is None else str(role)}}


async def _note_refusal(ctx: Context, user: int | None) -> None:
    """Writes an activity of the user whose password was wrong. If the address is unknown (*user* is None), the activity is
    written and deleted in one transaction."""

    async def work(ctx: Context) -> None:
        number = await record_activity(ctx, Record("invalid-credentials", USERS, str(user or 0)))
        await ctx.db.query_at_commit("DELETE FROM directus_activity WHERE id = %s", (number if user is None else None,))

    await _recorded(ctx, user, work)


async def _recorded(ctx: Context, user: int | None, work: Callable[[Context], Awaitable[T]]) -> T | None:
    """Calls *work*, which writes activity of a user, in a transaction, and returns its result. Returns None if the database can only be
    read: there, users sign in without a record."""
    try:
        return await _as_user(ctx, user).transaction(work)
    except (ReadOnlyDatabase, StandbyDatabase):
        return None


def _as_user(ctx: Context, user: int | None) -> Context:
    return evolve(ctx, accountability=evolve(ctx.accountability, user=user))


def _is_address(email: str) -> bool:
    return len(email) <= MAX_EMAIL and "\x00" not in email and is_email(email)
