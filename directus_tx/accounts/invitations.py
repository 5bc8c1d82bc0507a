"""Invitations: users who are made with the status `invited`, and accept by a link in a mail."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from attrs import evolve, frozen

from directus_tx.access import access_of
from directus_tx.access.addresses import check_address
from directus_tx.accounts import links
from directus_tx.accounts.hashes import check_length
from directus_tx.accounts.links import INVITATION
from directus_tx.accounts.mails import LinkMails, tried
from directus_tx.accounts.password_resets import MAX_EMAIL, USERS, as_user
from directus_tx.accounts.tokens import KeyRing
from directus_tx.config import Settings
from directus_tx.context import ADMINISTRATOR, Context
from directus_tx.errors import InvalidRequest, InvitationForbidden, InvitationNotFound, NotUnique
from directus_tx.items.read import Result, read_back
from directus_tx.items.service import Items
from directus_tx.items.write import Writer, in_transaction
from directus_tx.mail.addresses import is_mailable
from directus_tx.mail.compose import Mailbox
from directus_tx.query import Query, WriteOptions

SHOWN = ("id", "status", "role", "first_name", "last_name", "email", "timezone", "locale", "avatar", "company", "title", "theme")
"""What the answer to an acceptance shows of the user."""

_KNOWN = f"""
SELECT e.email, u.id, u.status, u.email, u.timezone
FROM unnest(%s::text[]) AS e(email) JOIN {USERS} AS u ON lower(u.email) = lower(e.email)"""
_LOCK = f"SELECT FROM {USERS} WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"


async def invite(
    service: Items, ctx: Context, project: KeyRing, mails: LinkMails, settings: Settings, payload: Mapping[str, Any]
) -> Result:
    """Invites the addresses in `email`, one or a list, and returns their users in this order. An address that has no user gets one with
    the status `invited` and the `role`, if one is given, and a mail. A user who is invited already gets another mail only if the link in
    the one before cannot be used any more; other users get none.

    The caller needs the permission to create users with this status, and may give the roles that creating a user allows. Raises
    InvitationForbidden, InvalidRequest, and the errors of `create_items`.
    """
    grant = access_of(ctx).grant(USERS)
    if grant.level(grant.of("invited"), "create") != "full":
        raise InvitationForbidden
    given = payload.get("email")
    addresses = _addresses(given if isinstance(given, list) else [given], settings.mail.max_recipients)
    attributes = {"status": "invited"} | {name: payload[name] for name in ("role",) if name in payload}
    lasts = timedelta(days=settings.accounts.invitation_days)

    async def work(writer: Writer) -> tuple[Result, list[str]]:
        ctx = writer.ctx
        known = await _known(ctx, addresses)
        new = [each for each in addresses if each not in known]
        made = dict(zip(new, await writer.create(USERS, [{"email": each, **attributes} for each in new]), strict=True))
        mailed = [_User(id, "invited", email) for email, id in made.items()] + await _without_link(ctx, known.values())
        subjects = []
        for user in mailed:
            link = await links.make(ctx, project, INVITATION, user.id, lasts)
            subjects.append(await mails.queue(ctx, INVITATION, Mailbox(user.email), link, user.zone))
        keys = dict.fromkeys(known[each].id if each in known else made[each] for each in addresses)
        # A user who exists already does not count as owned by the caller.
        shown = await read_back(service, ctx, USERS, Query(), list(keys), one=False, created=not known)
        return shown, subjects

    try:
        result, subjects = await in_transaction(service, ctx, WriteOptions(), work)
    except NotUnique:
        # Somebody else has made a user with one of the addresses meanwhile.
        result, subjects = await in_transaction(service, ctx, WriteOptions(), work)
    await tried(ctx, subjects, settings.accounts.mail_wait)
    return result


async def accept(service: Items, ctx: Context, project: KeyRing, token: str, payload: Mapping[str, Any]) -> Result:
    """Makes the user active that the token of an invitation belongs to, sets `password` if it is given, and returns the user.

    Raises InvalidToken, ExpiredToken; InvitationNotFound if the invitation has been accepted or the user is not invited any more;
    AddressNotAllowed if the role may not be used from the IP address of the caller; and InvalidRequest for a password that the setting
    password_policy does not allow. After that, the invitation can be accepted again.
    """
    password = payload.get("password")
    if not isinstance(password, (str, type(None))) or password == "":
        raise InvalidRequest('"password" must be a text that is not empty.')
    check_length(password or "")
    claimed = await links.claim(ctx, project, INVITATION, token, "invited")
    if claimed is None:
        raise InvitationNotFound
    check_address(ctx.schema, claimed.role, ctx.accountability.ip)
    changes = {"status": "active"} | ({} if password is None else {"password": password})

    async def work(writer: Writer) -> Result:
        if not await links.use(writer.ctx, INVITATION, token, claimed, "invited"):
            raise InvitationNotFound
        await writer.update(USERS, [(claimed.user, changes)])
        server = evolve(writer.ctx, accountability=evolve(writer.ctx.accountability, role=ADMINISTRATOR))
        return await read_back(service, server, USERS, Query(fields=SHOWN), [claimed.user], one=True)

    return await in_transaction(service, as_user(ctx, claimed), WriteOptions(), work, trusted=True)


@frozen
class _User:
    """A user who is invited or known: the id, status, address and time zone."""

    id: int
    status: str
    email: str
    zone: str = "UTC"


async def _known(ctx: Context, addresses: Sequence[str]) -> dict[str, _User]:
    """Returns the users who have some of the addresses, by address."""
    return {address: _User(*row) for address, *row in await ctx.db.query(_KNOWN, (list(addresses),))}


async def _without_link(ctx: Context, users: Iterable[_User]) -> list[_User]:
    """Returns those of the users who are invited, but have no link that can be used, and whom mail can be sent to. Locks them, so that two
    requests at once do not mail them twice."""
    waiting = {user.id: user for user in users if user.status == "invited" and is_mailable(user.email)}
    if not waiting:
        return []
    await ctx.db.query(_LOCK, (list(waiting),))
    held = await links.holders(ctx, INVITATION, waiting)
    return [user for id, user in waiting.items() if id not in held]


def _addresses(given: Sequence[Any], most: int) -> list[str]:
    """Returns the addresses, each once. Raises InvalidRequest."""
    if not given or len(given) > most:
        raise InvalidRequest(f'"email" must be an address, or a list of up to {most} addresses (mail.max_recipients).')
    found: dict[str, str] = {}
    for each in given:
        if not isinstance(each, str) or len(each) > MAX_EMAIL or not is_mailable(each):
            raise InvalidRequest('"email" must be an e-mail address that mail can be sent to, or a list of such.')
        found.setdefault(each.lower(), each)
    return list(found.values())
