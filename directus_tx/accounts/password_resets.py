"""Passwords that users have forgotten: a mail with a link, and a new password."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from attrs import evolve
from twisted.logger import Logger

from directus_tx.access.addresses import check_address
from directus_tx.accounts import links
from directus_tx.accounts.hashes import check_length
from directus_tx.accounts.links import RESET, Claimed
from directus_tx.accounts.mails import LinkMails, tried
from directus_tx.accounts.tokens import KeyRing
from directus_tx.config import AccountSettings
from directus_tx.context import Context
from directus_tx.errors import AddressUnknown, InvalidRequest, InvalidResetToken, InvalidToken, UsedResetToken
from directus_tx.items.service import Items
from directus_tx.items.write import Writer, in_transaction
from directus_tx.mail.addresses import is_mailable
from directus_tx.mail.compose import Mailbox
from directus_tx.query import WriteOptions

log = Logger()
USERS = "directus_users"
MAX_EMAIL = 128
# One row, with nulls if there is no such user, so that the statements after it are the same.
_FIND = f"""
SELECT u.id, u.status, u.email, concat_ws(' ', u.first_name, u.last_name), u.timezone
FROM (SELECT 1) AS one LEFT JOIN {USERS} AS u ON lower(u.email) = lower(%s)"""
_LOCK = f"SELECT FROM {USERS} WHERE id = %s AND email = %s AND status = 'active' FOR NO KEY UPDATE"


async def request_reset(
    ctx: Context, project: KeyRing, mails: LinkMails, settings: AccountSettings, payload: Mapping[str, Any]
) -> None:
    """Mails a user a link to choose a new password, by `email`. The link goes to `reset_url`, or to the page of the project. Several links
    can be used until one of them is.

    Raises InvalidRequest for an address that no mail can be sent to, and for a page that is not allowed; AddressUnknown if no active user
    has the address, unless the setting accounts.unknown_address says otherwise. A user who has been mailed as often as
    accounts.reset_mails_per_hour allows is not mailed again.
    """
    email, page = payload.get("email"), payload.get("reset_url")
    if not isinstance(email, str) or len(email) > MAX_EMAIL or not is_mailable(email):
        raise InvalidRequest('"email" must be an e-mail address that mail can be sent to.')
    if page is not None and not (isinstance(page, str) and mails.allows(page)):
        raise InvalidRequest('"reset_url" must be a page of an origin that is allowed (auth.redirect_origins of the project).')
    lasts = timedelta(minutes=settings.reset_minutes)

    async def work(ctx: Context) -> str:
        ((user, status, stored, name, zone),) = await ctx.db.query(_FIND, (email,))
        # The database compares addresses by rules of its own. The mail goes to the one that it holds, not to the one that was sent.
        mailable = status == "active" and is_mailable(stored)
        active = bool(await ctx.db.query(_LOCK, (user if mailable else None, stored)))
        if not active and settings.unknown_address == "refuse":
            raise AddressUnknown
        number = await links.number_since(ctx, RESET, user, ctx.now - timedelta(hours=1))
        mailed = active and number < settings.reset_mails_per_hour
        if active and not mailed:
            log.info(
                "project {project}: user {user} has got {number} mails in an hour", project=ctx.project, user=user, number=number
            )
        link = await links.make(ctx, project, RESET, user if mailed else None, lasts)
        sql = f"UPDATE {USERS} SET password_reset_token = %s WHERE id = %s"
        await ctx.db.query(sql, (link.receipt, user if mailed else None))
        to = Mailbox(stored if mailed else email, name or "")
        return await mails.queue(ctx, RESET, to, link, zone or "UTC", page=page, discarded=not mailed)

    subject = await ctx.transaction(work)
    if settings.unknown_address == "refuse":
        # Otherwise the duration would tell which addresses are known.
        await tried(ctx, [subject], settings.mail_wait)


async def reset_password(service: Items, ctx: Context, project: KeyRing, payload: Mapping[str, Any]) -> None:
    """Sets the `password` of the user that the `token` of a link belongs to, and ends all sessions and other links of the user. The
    password must match the setting password_policy; two-factor authentication stays as it is.

    Raises InvalidRequest; InvalidResetToken, ExpiredToken or UsedResetToken; and AddressNotAllowed if the role may not be used from the IP
    address of the caller. If the password is refused, the link can be used again.
    """
    token, password = payload.get("token"), payload.get("password")
    if not (isinstance(token, str) and token and isinstance(password, str) and password):
        raise InvalidRequest('"token" and "password" are required, both as text.')
    check_length(password)
    try:
        claimed = await links.claim(ctx, project, RESET, token, "active")
    except InvalidToken:
        raise InvalidResetToken from None
    if claimed is None:
        raise UsedResetToken
    check_address(ctx.schema, claimed.role, ctx.accountability.ip)

    async def work(writer: Writer) -> None:
        if not await links.use(writer.ctx, RESET, token, claimed, "active"):
            raise UsedResetToken
        await writer.update(USERS, [(claimed.user, {"password": password})])

    # As in Directus 8, the activity does not tell of it.
    await in_transaction(service, as_user(ctx, claimed), WriteOptions(activity_skip=True), work, trusted=True)


def as_user(ctx: Context, claimed: Claimed) -> Context:
    """Returns a context in which the user of a link acts."""
    return evolve(ctx, accountability=evolve(ctx.accountability, user=claimed.user, role=claimed.role))
