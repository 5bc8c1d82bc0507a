"""Signing in with an e-mail address and a password."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from directus_tx.accounts import tokens
from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.context import Context
from directus_tx.errors import InactiveUser, InvalidCredentials, InvalidSignIn, SuspendedUser
from directus_tx.items.history import Record, record
from directus_tx.schema.patterns import matches

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


async def sign_in(ctx: Context, project: tokens.KeyRing, hasher: PasswordHasher, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a sign-in: `token`, a JWT, and `user`, whose `id` and `role` are text here, as clients expect.

    Raises InvalidSignIn, InvalidCredentials, InactiveUser. Leaves an activity, also where the password is wrong.
    """
    email, password = payload.get("email"), payload.get("password")
    if not (isinstance(email, str) and isinstance(password, str) and password and matches("$email", email)):
        raise InvalidSignIn
    listed = ", ".join(f'"{name}"' for name in SHOWN)
    rows = await ctx.db.query(f"SELECT password, {listed} FROM {USERS} WHERE lower(email) = lower(%s)", (email,))
    hashed = rows[0][0] if rows else None
    verdict = await hasher.verify(password, hashed)
    if not rows:
        raise InvalidCredentials
    user = dict(zip(SHOWN, rows[0][1:], strict=True))
    if not verdict.valid:
        await _note(ctx, user["id"], "invalid-credentials")
        raise InvalidCredentials
    if user["status"] == "suspended":
        raise SuspendedUser
    if user["status"] != "active":
        raise InactiveUser
    if verdict.outdated:
        newer = await hasher.hash(password)
        await ctx.transaction(
            lambda ctx: ctx.db.query(
                f"UPDATE {USERS} SET password = %s WHERE id = %s AND password = %s", (newer, user["id"], hashed)
            )
        )
    await _note(ctx, user["id"], "authenticate")
    ttl = int(ctx.schema.setting("auth_token_ttl") or 20)
    token = tokens.issue(project, user["id"], ttl, ctx.now)
    role = user["role"]
    return {"token": token, "user": user | {"id": str(user["id"]), "role": None if role is None else str(role)}}


async def _note(ctx: Context, user: int, action: str) -> None:
    """Leaves an activity of the user who signs in, or tries to."""
    as_user = evolve(ctx, accountability=evolve(ctx.accountability, user=user))
    await as_user.transaction(lambda ctx: record(ctx, [Record(action, USERS, str(user))]))
