"""The users that the accounts of providers belong to."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from directus_tx.accounts.sso import identities
from directus_tx.accounts.sso.identities import Account, Key
from directus_tx.accounts.sso.interfaces import Identity, Refusal, SignOnError
from directus_tx.accounts.sso.settings import PUBLIC_ROLE, ProviderSettings, Role
from directus_tx.context import ADMINISTRATOR, Accountability, Context
from directus_tx.errors import InactiveUser, NotUnique, SuspendedUser
from directus_tx.items import Writer, in_transaction
from directus_tx.items.service import Items
from directus_tx.query import WriteOptions
from directus_tx.schema.model import Snapshot
from directus_tx.schema.patterns import is_email

USERS = "directus_users"


async def account_of(service: Items, ctx: Context, settings: ProviderSettings, identity: Identity) -> Account:
    """Returns the active user that an account of a provider belongs to, after giving the user the role that the groups of the account
    decide. Links an account that is new to the user with its address, or makes a user for it, if the settings allow that.

    Raises Refusal if there is no user for the account or its groups have no role, SuspendedUser, InactiveUser, SignOnError if the settings
    name a role that does not exist, and LastAdministrator if the groups would take the role from the last administrator.
    """
    # The server itself writes: with all permissions, but as nobody.
    own = evolve(ctx, accountability=Accountability(None, ADMINISTRATOR, ctx.accountability.ip, ctx.accountability.user_agent))
    role = _role_of(ctx.schema, settings, identity)

    async def work(writer: Writer) -> Account:
        return await _found_or_made(writer, settings, identity, role)

    try:
        return await in_transaction(service, own, WriteOptions(), work)
    except NotUnique:
        # The same account, or one with the same address, has signed in for the first time meanwhile.
        try:
            return await in_transaction(service, own, WriteOptions(), work)
        except NotUnique:
            raise Refusal(f"the address of the account {identity.subject} is that of another user") from None


async def _found_or_made(writer: Writer, settings: ProviderSettings, identity: Identity, role: int | None) -> Account:
    ctx = writer.ctx
    key = Key(settings.name, identity.issuer, identity.subject)
    email = _address(settings, identity)
    user = await identities.user_of(ctx.db, key, ctx.now)
    if user is None:
        known = None
        if settings.link_by_email and email is not None:
            known = await identities.user_with(ctx.db, email)
        if known is not None:
            _check_linkable(settings, known)
            user = known
        elif settings.create_users and email is not None:
            user = await _made(writer, identity, email, role)
        else:
            seen = "no address that it has verified" if email is None else "a verified address"
            raise Refusal(f"the account {identity.subject}, with {seen}, belongs to no user, and may not be linked or become one")
        await identities.link(ctx, key, user.id)
    _check_active(user)
    if settings.group_roles and user.role != role:
        await writer.update(USERS, [(user.id, {"role": role})])
        user = evolve(user, role=role)
    return user


async def _made(writer: Writer, identity: Identity, email: str, role: int | None) -> Account:
    payload: dict[str, Any] = {"email": email, "status": "active", "role": role}
    payload |= {"first_name": identity.first_name, "last_name": identity.last_name}
    (id,) = await writer.create(USERS, [payload])
    assert isinstance(id, int)
    return Account(id, "active", role)


def _check_active(user: Account) -> None:
    if user.status == "suspended":
        raise SuspendedUser
    if user.status != "active":
        raise InactiveUser


def _check_linkable(settings: ProviderSettings, user: Account) -> None:
    if user.role == ADMINISTRATOR and not settings.link_administrators:
        raise Refusal(f"the address is that of an administrator, user {user.id}, and link_administrators is not set")


def _address(settings: ProviderSettings, identity: Identity) -> str | None:
    """Returns the verified address of an account, None if it has none. Raises Refusal if it is not in one of the allowed domains."""
    email = identity.email if identity.email is not None and is_email(identity.email) else None
    if settings.email_domains:
        domain = (email or "").rpartition("@")[2].lower()
        if domain not in {each.lower() for each in settings.email_domains}:
            raise Refusal(f"the account has no verified address in email_domains ({domain or 'none'})")
    return email


def _role_of(schema: Snapshot, settings: ProviderSettings, identity: Identity) -> int | None:
    """Returns the role that the groups of an account decide, or the configured one. The first entry of group_roles counts whose group the
    account has. Raises Refusal if no role fits, SignOnError if the role does not exist."""
    wanted: Role | None = settings.role
    if settings.group_roles:
        groups = identity.groups or frozenset()
        wanted = next((role for group, role in settings.group_roles.items() if group in groups), wanted)
        if wanted is None:
            raise Refusal("no group of the account has a role in group_roles")
    if wanted is None:
        return None
    found = _named(schema.roles, wanted)
    if found is None or found == PUBLIC_ROLE:
        raise SignOnError(f"the settings name the role {wanted!r}, which is not a role of users")
    return found


def _named(roles: Mapping[int, Mapping[str, Any]], wanted: Role) -> int | None:
    if isinstance(wanted, int):
        return wanted if wanted in roles else None
    return next((id for id, role in roles.items() if str(role["name"]).lower() == wanted.lower()), None)
