"""Mails to users whose account has been changed: the password, the e-mail address, or two-factor authentication.

They are written to the outbox in the transaction of the change, and go to the address of before it: whoever has got into an account cannot
keep its user from being told.
"""

import pathlib
from collections.abc import Callable, Sequence

from attrs import frozen
from twisted.logger import Logger

from directus_tx.accounts.mails import shown_time
from directus_tx.context import Context
from directus_tx.errors import InternalError
from directus_tx.items.changes import Event, Row
from directus_tx.mail import templates
from directus_tx.mail.addresses import is_mailable
from directus_tx.mail.compose import MAX_NAME, Mail, Mailbox
from directus_tx.mail.delivery import messages_of
from directus_tx.mail.templates import Rendered
from directus_tx.outbox.messages import Message
from directus_tx.schema.sealed import TWO_FACTOR_SECRET
from directus_tx.sealing import Keys

log = Logger()
USERS = "directus_users"
PASSWORD, EMAIL, TWO_FACTOR_OFF, TWO_FACTOR_REPLACED = "password", "email", "two_factor_off", "two_factor_replaced"
"""The changes that users are told of."""

TEMPLATE = "account-changed"
SUBJECT = "Your account on {} has been changed"


@frozen
class Sending:
    """How a project mails: the directories of its templates, and the address of the sender."""

    directories: Sequence[pathlib.Path]
    sender: str


class AccountNotices:
    """Makes the mails about events. *sending* returns how a project mails, by its key, or None if its users are not told."""

    def __init__(self, sending: Callable[[str], Sending | None]) -> None:
        self.sending = sending

    async def messages(self, ctx: Context, events: Sequence[Event]) -> list[Message]:
        """Returns the messages about the events of a request."""
        of_users = [event for event in events if event.collection.collection == USERS and event.before is not None]
        sending = self.sending(ctx.project) if of_users else None
        if sending is None:
            return []
        project = ctx.schema.setting("project_name") or ctx.project
        sender = Mailbox(sending.sender, ctx.schema.setting("project_name")[:MAX_NAME])
        # Requests that change many users say the same to most of them.
        rendered: dict[tuple[tuple[str, ...], str], Rendered] = {}
        found: list[Message] = []
        async for event in ctx.in_slices(of_users):
            before, after = event.before, event.after
            changes = () if before is None or after is None else changes_of(before, after, ctx.keys)
            if before is None or not changes or not is_mailable(before["email"]):
                continue
            zone = before["timezone"] or "UTC"
            shown = rendered.get((changes, zone))
            if shown is None:
                shown = rendered[changes, zone] = _rendered(ctx, sending, changes, zone)
            name = " ".join(each for each in (before["first_name"], before["last_name"]) if each)
            mail = Mail([Mailbox(before["email"], name)], SUBJECT.format(project), shown.text, shown.html, automatic=True)
            found += await messages_of(ctx, mail, sender)
        return found


def _rendered(ctx: Context, sending: Sending, changes: Sequence[str], zone: str) -> Rendered:
    """Returns the contents of a mail. If the template of the project is wrong, which must not keep anybody from changing the account, that
    of the server is used."""
    data = {"changes": changes, "time": shown_time(ctx.now, zone)}
    try:
        return templates.render(sending.directories, ctx, TEMPLATE, data)
    except InternalError as error:
        log.error("project {project}: the template {name}: {why}", project=ctx.project, name=TEMPLATE, why=error.__cause__)
        return templates.render((), ctx, TEMPLATE, data)


def changes_of(before: Row, after: Row, keys: Keys) -> tuple[str, ...]:
    """Returns the changes between two rows of a user of which the user is told: none if nobody could sign in before."""
    if before["status"] != "active":
        return ()
    changes = []
    if before["password"] and before["password"] != after["password"]:
        changes.append(PASSWORD)
    if before["email"].lower() != after["email"].lower():
        changes.append(EMAIL)
    if before["2fa_secret"] and before["2fa_secret"] != after["2fa_secret"]:
        if not after["2fa_secret"]:
            changes.append(TWO_FACTOR_OFF)
        elif _secret(before, keys) != _secret(after, keys):
            changes.append(TWO_FACTOR_REPLACED)
    return tuple(changes)


def _secret(row: Row, keys: Keys) -> str | None:
    """Returns the two-factor secret of a user, None if it cannot be decrypted."""
    try:
        return TWO_FACTOR_SECRET.unsealed(keys, row["2fa_secret"])
    except ValueError:
        return None
