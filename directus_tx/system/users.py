"""Users: values of new users, who may change which fields, the last page, and the rule that a project keeps an active
administrator.

Passwords are hashed like every field of type hash.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from directus_tx.access import Grant, access_of
from directus_tx.access.grant import ACCOUNT_SECRETS
from directus_tx.accounts import attempts, links, sessions, two_factor, user_tokens
from directus_tx.context import ADMINISTRATOR, Context
from directus_tx.errors import (
    CreateForbidden,
    DeleteForbidden,
    InvalidOneTimePassword,
    InvalidPayload,
    InvalidRequest,
    ItemNotFound,
    LastAdministrator,
    Notice,
    ReadOnlyDatabase,
    StandbyDatabase,
    Unauthorized,
    UpdateForbidden,
)
from directus_tx.items.changes import Change, Event, Item, Key, Row
from directus_tx.items.history import Record
from directus_tx.items.read import Result, keys_of, read_back
from directus_tx.items.rules import NO_POLICIES, CollectionRules, Policy, Shown
from directus_tx.items.service import Items
from directus_tx.items.write import Writer, in_transaction
from directus_tx.query import Query, WriteOptions
from directus_tx.suggestions import suggestion
from directus_tx.system.references import check_references

USERS = "directus_users"
PAGE_LENGTH = 192
"""The maximum length of `last_page`."""

SIGN_IN_FIELDS = ACCOUNT_SECRETS | {"password", "email"}
"""The fields that decide who can sign in as a user. Only the user and administrators may change them."""

DISABLING = frozenset({"role", "status"})
"""The fields whose change can make an administrator inactive or take away the role."""

_NO_SECRET = f'"2fa_secret" must have at least {two_factor.MIN_SECRET} bytes in base32.'
RECEIPT = "password_reset_token"
SHOWN_EMPTY = ("2fa_secret", "password_reset_token")
"""Secrets that clients expect in a record with all fields. They are shown as null to callers who may not read them."""


class UserRules(CollectionRules):
    """The rules of directus_users."""

    administrator_written = frozenset({"external_id", "last_access_on", "last_page", "password_reset_token"})

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Gives new users an external id, by which other systems identify them. Raises InvalidRequest for an unknown status;
        UpdateForbidden if a caller who is not an administrator changes an administrator, or the sign-in fields of another user;
        and the errors of `check`."""
        async for change in ctx.in_slices(changes):
            status = change.value("status") if "status" in change.payload else None
            if status is not None and status not in change.collection.statuses:
                raise InvalidRequest(
                    f'"{status}" is not a valid status of a user{suggestion(str(status), change.collection.statuses)}'
                )
            secret = change.payload.get("2fa_secret")
            if secret and not (isinstance(secret, str) and two_factor.is_secret(secret)):
                raise InvalidRequest(_NO_SECRET)
            role = change.payload.get("role")
            if isinstance(role, dict) and role.get("id") is not None and not ctx.accountability.admin:
                # The caller must be able to read a role to link it by an object. Whether the role may be assigned is checked
                # first.
                named = change.parse(change.collection.fields["role"], role["id"])
                _check_role(ctx, access_of(ctx).grant(USERS), change, named)
            if change.stored is None:
                change.payload["external_id"] = change.payload.get("external_id") or str(uuid.uuid4())
            elif not ctx.accountability.admin:
                if change.stored["role"] == ADMINISTRATOR:
                    raise UpdateForbidden("Only administrators may change administrators.")
                if change.key != ctx.accountability.user and SIGN_IN_FIELDS & change.payload.keys():
                    raise UpdateForbidden("Only the user and administrators may change how a user signs in.")
        if any(
            change.stored and change.stored["role"] == ADMINISTRATOR and DISABLING & change.payload.keys() for change in changes
        ):
            await _lock_administrators(ctx)

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises CreateForbidden or UpdateForbidden if a caller who is not an administrator makes a user an administrator,
        changes their own role, or changes the role of another user without the update level `full`; and InvalidRequest
        for a role that does not exist."""
        async for change in ctx.in_slices(changes):
            if not grant.admin and "role" in change.row:
                _check_role(ctx, grant, change, change.row["role"])
        await check_references(ctx, changes)

    async def prepare_delete(self, ctx: Context, keys: Sequence[Key]) -> None:
        """Locks the administrators, so that two who delete each other at the same time do so one after the other."""
        if ctx.accountability.admin:
            await _lock_administrators(ctx)

    async def after(self, ctx: Context, events: Sequence[Event]) -> Sequence[Record]:
        """Signs out users whose password is changed, except the session that changes it, and users who are no longer active, whose tokens
        end, too. (What deleted users had is removed by the database.) Ends the links that were mailed to users whose account has changed
        since. Forgets the used one-time passwords of users who get a new secret. Returns a record by the user for each change of status.

        Raises DeleteForbidden if a caller who is not an administrator deletes an administrator, and LastAdministrator if no active
        administrator would be left."""
        records = []
        new_passwords = []
        inactive = []
        new_secrets = []
        outdated: dict[str, list[Key]] = {links.RESET: [], links.INVITATION: []}
        receipts = []
        lost = False
        async for event in ctx.in_slices(events):
            before, after = event.before, event.after
            if before is None:
                continue
            if before["role"] == ADMINISTRATOR:
                if after is None and not ctx.accountability.admin:
                    raise DeleteForbidden("Only administrators may delete administrators.")
                lost |= after is None or (after["role"], after["status"]) != (ADMINISTRATOR, "active")
            if after is not None and after["status"] != "active" and "status" in event.payload:
                inactive.append(event.key)
            elif after is not None and before["password"] != after["password"]:
                new_passwords.append(event.key)
            if after is not None and "2fa_secret" in event.payload:
                new_secrets.append(event.key)
            if after is not None:
                kinds = _outdated_links(before, after)
                for kind in kinds:
                    outdated[kind].append(event.key)
                if links.RESET in kinds and after[RECEIPT] is not None and before[RECEIPT] == after[RECEIPT]:
                    receipts.append(event.key)
            if after is not None and before["status"] != after["status"]:
                records.append(Record("status-update", USERS, str(event.key), by=event.key))
        if lost:
            await _keep_an_administrator(ctx)
        if new_passwords:
            await sessions.sign_out(ctx, new_passwords, but=ctx.accountability.session)
        if inactive:
            # Somebody who is suspended already, because of failed sign-ins, has kept the tokens.
            await sessions.sign_out(ctx, inactive)
            await user_tokens.end_all(ctx, inactive)
        if new_secrets:
            await attempts.forget_codes(ctx, new_secrets)
        for kind, users in outdated.items():
            if users:
                await links.end(ctx, kind, users)
        if receipts:
            await links.clear_receipts(ctx, receipts)
        return records

    def policies(self, ctx: Context) -> Mapping[str, Policy]:
        """Returns the policy of passwords: the setting `password_policy`."""
        policy = ctx.schema.setting("password_policy")
        return {"password": Policy(policy, "the setting password_policy")} if policy else NO_POLICIES

    def present(self, ctx: Context, query: Query, item: Item, shown_for: Shown) -> None:
        """Adds the attributes of `SHOWN_EMPTY` to records with all fields."""
        if not ctx.accountability.admin and (not query.fields or "*" in query.fields):
            for name in SHOWN_EMPTY:
                item.setdefault(name, None)


async def track_page(service: Items, ctx: Context, key: str, payload: Mapping[str, Any], query: Query) -> Result:
    """Stores the page that a user has opened, and the time; returns the user. No activity is recorded.

    Raises Unauthorized for the public, InvalidRequest if `last_page` is missing or not a text, InvalidPayload if it is too long,
    UpdateForbidden if the caller is neither the user nor an administrator, and ItemNotFound. Where the database can only be read,
    stores nothing and says so in the `messages`.
    """
    who = ctx.accountability
    if who.public:
        raise Unauthorized
    if "last_page" not in payload:
        raise InvalidRequest('"last_page" is required.')
    page = payload["last_page"]
    if not isinstance(page, (str, type(None))) or "\x00" in (page or ""):
        raise InvalidRequest('"last_page" must be a text.')
    if page is not None and len(page) > PAGE_LENGTH:
        raise InvalidPayload(f'"last_page" must have at most {PAGE_LENGTH} characters.')
    keys = keys_of(ctx.schema.collections[USERS], [key])
    if not who.admin and keys != [who.user]:
        raise UpdateForbidden("Only the user and administrators may change the last page of a user.")

    async def work(ctx: Context) -> Result:
        sql = f"UPDATE {USERS} SET last_page = %s, last_access_on = %s WHERE id = ANY(%s) RETURNING id"
        rows = await ctx.db.query(sql, (page, ctx.now, keys))
        if not rows:
            raise ItemNotFound("There is no such user.")
        return await read_back(service, ctx, USERS, query, [rows[0][0]], one=True)

    try:
        return await ctx.transaction(work)
    except (ReadOnlyDatabase, StandbyDatabase) as error:
        if not await ctx.db.query(f"SELECT FROM {USERS} WHERE id = ANY(%s)", (keys,)):
            raise ItemNotFound("There is no such user.") from error
        # The admin app stores each page that a user opens. In a project that can only be read, it is to open them all the same.
        shown = await read_back(service, ctx, USERS, query, keys, one=True)
        return evolve(shown, messages=(*shown.messages, Notice(error.code, f"The page is not stored: {error.message}")))


async def activate_two_factor(service: Items, ctx: Context, key: str, payload: Mapping[str, Any]) -> None:
    """Stores `2fa_secret` for a user, if `otp` is a one-time password that has been made with it. No permission is needed for oneself.

    Raises InvalidRequest, InvalidOneTimePassword; UpdateForbidden if the caller is neither the user nor an administrator; and ItemNotFound.
    """
    secret, code = payload.get("2fa_secret"), payload.get("otp")
    if not (isinstance(secret, str) and secret and isinstance(code, str) and code):
        raise InvalidRequest('"2fa_secret" and "otp" are required, both as text.')
    if not two_factor.is_secret(secret):
        raise InvalidRequest(_NO_SECRET)
    who, keys = ctx.accountability, keys_of(ctx.schema.collections[USERS], [key])
    if not who.admin and keys != [who.user]:
        raise UpdateForbidden("Only the user and administrators may activate two-factor authentication for a user.")
    step = two_factor.step_of(secret, code, ctx.now)
    if step is None:
        raise InvalidOneTimePassword
    if not keys:
        raise ItemNotFound("There is no such user.")

    async def work(writer: Writer) -> None:
        await writer.update(USERS, [(keys[0], {"2fa_secret": secret})])
        await attempts.admit(writer.ctx, keys[0], step)

    await in_transaction(service, ctx, WriteOptions(), work, trusted=True)


def _check_role(ctx: Context, grant: Grant, change: Change, role: Any) -> None:
    """Raises CreateForbidden or UpdateForbidden if a caller who is not an administrator may not assign the role to the user."""
    stored = change.stored
    if stored is not None and role == stored["role"]:
        return
    if role == ADMINISTRATOR:
        forbidden = CreateForbidden if stored is None else UpdateForbidden
        raise forbidden("Only administrators may assign the administrators' role.")
    if stored is None:
        return
    if stored["id"] == ctx.accountability.user:
        raise UpdateForbidden("You may not change your own role.")
    if grant.level(grant.of(stored["status"]), "update") != "full":
        raise UpdateForbidden("You may not change the roles of users.")


def _outdated_links(before: Row, after: Row) -> list[str]:
    """Returns the kinds of links that a change of a user makes invalid. An address that the user no longer has, or has never had, must not
    be enough to get into the account."""
    if before["email"] != after["email"] or before["status"] != after["status"]:
        return [links.RESET, links.INVITATION]
    return [links.RESET] if any(before[name] != after[name] for name in ("password", RECEIPT)) else []


async def _lock_administrators(ctx: Context) -> None:
    """Locks the administrators, so that two who disable each other at the same time do so one after the other."""
    await ctx.db.query(f"SELECT id FROM {USERS} WHERE role = %s ORDER BY id FOR UPDATE", (ADMINISTRATOR,))


async def _keep_an_administrator(ctx: Context) -> None:
    if not await ctx.db.query(f"SELECT 1 FROM {USERS} WHERE role = %s AND status = 'active' LIMIT 1", (ADMINISTRATOR,)):
        raise LastAdministrator
