"""Signing in with an e-mail address and a password, or as a user whom a provider of single sign-on has identified."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from attrs import evolve, frozen
from twisted.logger import Logger

from directus_tx.access.addresses import check_address
from directus_tx.accounts import attempts, hashes, sessions, tokens, two_factor
from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.context import Context
from directus_tx.errors import (
    ApiError,
    InactiveUser,
    InvalidCredentials,
    InvalidOneTimePassword,
    InvalidRequest,
    InvalidSignIn,
    OneTimePasswordRequired,
    ReadOnlyDatabase,
    SignOnFailed,
    StandbyDatabase,
    SuspendedUser,
    TooManyFailedSignIns,
    UpdateForbidden,
)
from directus_tx.items.history import Record, record
from directus_tx.rate_limits import network_of
from directus_tx.schema.parsing import MAX_HASHED
from directus_tx.schema.patterns import is_email
from directus_tx.schema.sealed import TWO_FACTOR_SECRET

log = Logger()
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


Others = Callable[[Context, str, str], Awaitable[int | None]]
"""Asks other services for the user with an e-mail address and a password. Returns the id, or None. Raises SignOnFailed if one could not be
asked."""


async def _nothing(ctx: Context) -> None:
    """Marks nothing as used."""


class _AccountChanged(Exception):
    """Raised if the credentials or the status of a user have changed since they were read. A sign-in at the same time can replace the
    hash."""


@frozen
class SignIn:
    """A successful sign-in. `token` is a JWT or the value of a session cookie. `user` has the attributes SHOWN; `id` and `role` are text,
    as clients expect. If `must_activate`, the role enforces two-factor authentication, and until the user has activated it, the token
    opens nothing else."""

    token: str
    user: Mapping[str, Any]
    must_activate: bool


async def sign_in(
    ctx: Context,
    project: tokens.KeyRing,
    hasher: PasswordHasher,
    payload: Mapping[str, Any],
    *,
    cookie: bool = False,
    discreet: bool = False,
    others: Others | None = None,
) -> SignIn:
    """Signs a user in with `email`, `password` and `otp`, the one-time password if the user has activated two-factor authentication. If
    the password is not that of the user in the project, *others* are asked whose it is. If *discreet*, a caller who does not know the
    password learns nothing of the account: not that the user has been invited, nor that the attempt has suspended the user. Then the error
    for that is InvalidCredentials.

    Raises InvalidSignIn, InvalidRequest, InvalidCredentials, SuspendedUser, TooManyFailedSignIns, InactiveUser, OneTimePasswordRequired or
    InvalidOneTimePassword; with *cookie* ReadOnlyDatabase, StandbyDatabase or UpdateForbidden if the session cannot be stored; and the
    errors of *others*.

    A wrong password or one-time password is recorded as an activity and counted (`attempts`). Refusing an unknown address runs the same
    statements and the same hashing as refusing a wrong password, and also uses up an id of the activity, so that neither the duration nor
    gaps in the ids reveal which addresses are known. Where the database can only be read, nothing is recorded or counted.
    """
    email, password, code = payload.get("email"), payload.get("password"), payload.get("otp")
    if not (isinstance(email, str) and isinstance(password, str) and password and _is_address(email)):
        raise InvalidSignIn
    if len(password) > MAX_HASHED:
        raise InvalidSignIn(f"A password must have at most {MAX_HASHED} characters.")
    if not isinstance(code, (str, type(None))):
        raise InvalidRequest('"otp" must be a text.')
    ((kinds, hashed, *values),) = await ctx.db.query(_FIND, (email,))
    user = dict(zip(SHOWN, values, strict=True))
    if user["email"] is not None and user["email"].lower() != email.lower():
        # The database takes more letters for the same: I with a dot for i. Attempts are counted by the address that was sent, so other
        # spellings would get around the limits.
        hashed, user = None, dict.fromkeys(SHOWN)
    caller = network_of(ctx.accountability.ip) or None
    verdict = await hasher.verify(password, hashed, (kinds or "").split(), caller=caller)
    if not verdict.valid and others is not None:
        try:
            id = await others(ctx, email, password)
        except SignOnFailed as error:
            # The password may be right. But those who guess passwords of the project must not go uncounted.
            raise await _refusal(ctx, user["id"] if hashed else None, error, active=user["status"] == "active") from None
        if id is not None:
            return await sign_in_identified(ctx, project, id, code, _nothing, cookie=cookie)
    if not verdict.valid and user["status"] == "invited" and not hashed and not discreet:
        # There is no password that could be right. Clients tell the user to accept the invitation first.
        raise InactiveUser
    if not verdict.valid:
        wrong = InvalidCredentials()
        refusal = await _refusal(ctx, user["id"], wrong, active=user["status"] == "active")
        raise wrong if discreet else refusal
    await _check_status(ctx, user)
    stored_secret = user["2fa_secret"]
    step = await _second_factor(ctx, user, code)

    async def check(ctx: Context) -> None:
        unchanged = f"""
            SELECT FROM {USERS} WHERE id = %s AND password = %s AND "2fa_secret" IS NOT DISTINCT FROM %s AND status = 'active' FOR SHARE"""
        # A password that is changed at the same time ends the sessions that are stored before; none may be stored for the former one after.
        if not await ctx.db.query(unchanged, (user["id"], hashed, stored_secret)):
            raise _AccountChanged
        if not await attempts.admit(ctx, user["id"], step):
            raise InvalidOneTimePassword("The one-time password has been used before.")

    try:
        found = await admit(ctx, project, user, check, cookie=cookie)
    except _AccountChanged:
        return await sign_in(ctx, project, hasher, payload, cookie=cookie, discreet=discreet, others=others)
    except InvalidOneTimePassword as replayed:
        raise await _refusal(ctx, user["id"], replayed) from None
    if verdict.outdated and not ctx.schema.read_only:
        await _replace_hash(ctx, user["id"], hashed, await hasher.rehash(password))
    return found


async def sign_in_identified(
    ctx: Context,
    project: tokens.KeyRing,
    id: int,
    code: str | None,
    use: Callable[[Context], Awaitable[None]],
    *,
    cookie: bool = False,
) -> SignIn:
    """Signs in the user with an id, whom a provider of single sign-on has identified. *code* is the one-time password, if the user has
    activated two-factor authentication. Calls *use* in a transaction of its own before the session is stored: it marks what identifies the
    user as used, or raises an exception if it has been used before.

    Raises the errors of *use*, and those of `sign_in` that are not about the password; AddressNotAllowed if the role may not be used from
    the IP address. An account that changes meanwhile is not signed in.
    """
    columns = ", ".join(f'"{name}"' for name in SHOWN)
    rows = await ctx.db.query(f"SELECT {columns} FROM {USERS} WHERE id = %s", (id,))
    if not rows:
        raise InactiveUser
    user = dict(zip(SHOWN, rows[0], strict=True))
    check_address(ctx.schema, user["role"], ctx.accountability.ip)
    await _check_status(ctx, user)
    unchanged = (id, user["role"], user["2fa_secret"])
    step = await _second_factor(ctx, user, code)
    await ctx.transaction(use)

    async def check(ctx: Context) -> None:
        sql = f"""
            SELECT FROM {USERS} WHERE id = %s AND role IS NOT DISTINCT FROM %s AND "2fa_secret" IS NOT DISTINCT FROM %s
            AND status = 'active' FOR SHARE"""
        if not await ctx.db.query(sql, unchanged):
            raise InactiveUser("The account has been changed; sign in again.")
        if not await attempts.admit(ctx, id, step):
            raise InvalidOneTimePassword("The one-time password has been used before.")

    try:
        return await admit(ctx, project, user, check, cookie=cookie)
    except InvalidOneTimePassword as replayed:
        raise await _refusal(ctx, id, replayed) from None


async def _check_status(ctx: Context, user: Mapping[str, Any]) -> None:
    """Raises SuspendedUser, TooManyFailedSignIns or InactiveUser if a user is not active."""
    if user["status"] == "suspended":
        raise TooManyFailedSignIns if await attempts.have_suspended(ctx, user["id"]) else SuspendedUser
    if user["status"] != "active":
        raise InactiveUser


async def _second_factor(ctx: Context, user: dict[str, Any], code: str | None) -> int | None:
    """Decrypts the two-factor secret of a user, and returns the time step of the one-time password *code*; None if the user has no secret.
    Raises OneTimePasswordRequired, InvalidOneTimePassword, and InactiveUser if the secret cannot be decrypted."""
    try:
        user["2fa_secret"] = TWO_FACTOR_SECRET.unsealed(ctx.keys, user["2fa_secret"])
    except ValueError:
        # Without the secret, the second factor cannot be checked.
        raise InactiveUser("The two-factor secret of the user cannot be decrypted: an administrator must set it anew.") from None
    if not user["2fa_secret"]:
        return None
    if not code:
        raise OneTimePasswordRequired
    step = two_factor.step_of(user["2fa_secret"], code, ctx.now)
    if step is None:
        raise await _refusal(ctx, user["id"], InvalidOneTimePassword())
    return step


async def admit(
    ctx: Context,
    project: tokens.KeyRing,
    user: Mapping[str, Any],
    check: Callable[[Context], Awaitable[None]],
    *,
    cookie: bool = False,
) -> SignIn:
    """Stores a session of a user who has been identified, with the attributes SHOWN, and an activity. Calls *check* in the transaction
    first, which raises an exception if the sign-in must not be completed.

    Where the database can only be read, a JWT is issued without a session, without a record and without *check*; with *cookie*, raises
    ReadOnlyDatabase, StandbyDatabase or UpdateForbidden.
    """
    records = [Record("authenticate", USERS, str(user["id"]))]

    async def work(ctx: Context) -> str:
        await check(ctx)
        await record(ctx, records)
        return await sessions.start(ctx, project, user["id"], cookie=cookie)

    try:
        token = await (_as_user(ctx, user["id"]).transaction(work) if cookie else _recorded(ctx, user["id"], work))
    except UpdateForbidden:
        if cookie:
            raise
        # The database role of the server may not write sessions.
        token = await _recorded(ctx, user["id"], lambda ctx: record(ctx, records))
    if token is None:
        token = await sessions.issue_without(ctx, project, user["id"], sessions.token_ttl(ctx.schema))
    role = user["role"]
    shown = {name: user[name] for name in SHOWN} | {"id": str(user["id"]), "role": None if role is None else str(role)}
    return SignIn(token, shown, not user["2fa_secret"] and two_factor.is_enforced(ctx.schema, role))


async def _refusal(ctx: Context, user: int | None, error: ApiError, *, active: bool = True) -> ApiError:
    """Records and counts a failed sign-in of a user, None if the address is unknown. Returns *error*, or TooManyFailedSignIns if the user
    is suspended because of it, who was *active*. If the database role of the server may not write the count, nothing is counted."""
    try:
        exceeded = await _recorded(ctx, user, lambda ctx: attempts.note_failure(ctx, user))
        if exceeded and active and user is not None and await _recorded(ctx, user, lambda ctx: attempts.suspend(ctx, user)):
            return TooManyFailedSignIns()
    except UpdateForbidden as forbidden:
        log.warn("a failed sign-in is not counted: {error}", error=forbidden.message)
    return error


async def _replace_hash(ctx: Context, user: int, hashed: str, newer: str) -> None:
    sql = f"UPDATE {USERS} SET password = %s WHERE id = %s AND password = %s"
    await _recorded(ctx, user, lambda ctx: ctx.db.query(sql, (newer, user, hashed)))


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
