"""Failed sign-ins, which suspend a user if there are too many, and used one-time passwords, in directus_user_sign_ins.

A trigger restarts the count when the user gets another status than suspended.
"""

from collections.abc import Sequence

from directus_tx.accounts import sessions
from directus_tx.context import ADMINISTRATOR, Context
from directus_tx.items.history import Record, record_activity
from directus_tx.schema.model import Snapshot
from directus_tx.schema.numbers import whole_number

USERS = "directus_users"
_COUNT = f"""
INSERT INTO directus_user_sign_ins ("user", failures) SELECT id, 1 FROM {USERS} WHERE id = %s
ON CONFLICT ("user") DO UPDATE SET failures = least(directus_user_sign_ins.failures + 1, 1000000) RETURNING failures"""
_ADMIT = f"""
INSERT INTO directus_user_sign_ins AS s ("user", failures, code_step) SELECT id, 0, %(step)s::bigint FROM {USERS} WHERE id = %(user)s
ON CONFLICT ("user") DO UPDATE SET failures = 0, code_step = coalesce(excluded.code_step, s.code_step)
WHERE excluded.code_step IS NULL OR s.code_step IS NULL OR excluded.code_step > s.code_step RETURNING "user"
"""
# An attacker must not be able to suspend the last active administrator.
_SUSPEND = f"""
WITH suspended AS (
UPDATE {USERS} AS u SET status = 'suspended' FROM directus_user_sign_ins AS s
WHERE u.id = %(user)s AND s."user" = u.id AND s.failures > %(allowed)s AND u.status = 'active' AND (
    u.role IS DISTINCT FROM {ADMINISTRATOR}
    OR EXISTS (SELECT FROM {USERS} WHERE role = {ADMINISTRATOR} AND status = 'active' AND id <> u.id)
) RETURNING u.id),
locked AS (UPDATE directus_user_sign_ins SET locked = TRUE WHERE "user" IN (SELECT id FROM suspended))
SELECT id FROM suspended"""


def allowed(schema: Snapshot) -> int | None:
    """Returns the number of failed sign-ins that are tolerated: the setting login_attempts_allowed. None if it is 0, empty or not a
    number: then all are."""
    return whole_number(schema.setting("login_attempts_allowed").strip()) or None


async def note_failure(ctx: Context, user: int | None) -> bool:
    """Writes an activity of a user whose password or one-time password was wrong, and counts it. Returns whether that is one more than is
    tolerated. *ctx* is in a transaction. If the address is unknown (*user* is None), the same statements leave nothing: the activity is
    written and deleted."""
    number = await record_activity(ctx, Record("invalid-credentials", USERS, str(user or 0)))
    most = allowed(ctx.schema)
    counted = [] if most is None else await ctx.db.query(_COUNT, (user,))
    await ctx.db.query_at_commit("DELETE FROM directus_activity WHERE id = %s", (number if user is None else None,))
    return bool(counted) and most is not None and counted[0][0] > most


async def suspend(ctx: Context, user: int) -> bool:
    """Suspends an active user after too many failed sign-ins, and ends the sessions of the user. Returns False if the user has signed in or
    is not active any more, or is the last active administrator. *ctx* is in a transaction. As clients expect, there is no activity of the
    suspension: those of the failed sign-ins tell of it."""
    await ctx.db.query(f"SELECT FROM {USERS} WHERE role = %s ORDER BY id FOR UPDATE", (ADMINISTRATOR,))
    if not await ctx.db.query(_SUSPEND, {"user": user, "allowed": allowed(ctx.schema)}):
        return False
    await sessions.end_all(ctx, [user])
    return True


async def have_suspended(ctx: Context, user: int) -> bool:
    """Whether a suspended user has failed to sign in more often than is tolerated."""
    rows = await ctx.db.query('SELECT failures FROM directus_user_sign_ins WHERE "user" = %s', (user,))
    most = allowed(ctx.schema)
    return most is not None and bool(rows) and rows[0][0] > most


async def forget_codes(ctx: Context, users: Sequence[int]) -> None:
    """Forgets the last one-time passwords of users who get other secrets. *ctx* is in a transaction."""
    await ctx.db.query('UPDATE directus_user_sign_ins SET code_step = NULL WHERE "user" = ANY(%s)', (list(users),))


async def admit(ctx: Context, user: int, step: int | None = None) -> bool:
    """Restarts the count of failed sign-ins of a user who signs in, and notes the time step of the one-time password, if there is one.
    Returns False if this one or a later one has been used before. *ctx* is in a transaction."""
    return bool(await ctx.db.query(_ADMIT, {"user": user, "step": step}))
