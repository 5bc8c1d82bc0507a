"""Mails to users whose account has been changed: the password, the e-mail address, or two-factor authentication.

They are written to the outbox in the transaction of the change, and go to the address of before it: whoever has got into an account cannot
keep its user from being told. A user is told of the first changes in an hour: users may change their own address, so that the mails could
otherwise be sent to anybody, as often as somebody likes.
"""

import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from attrs import frozen
from twisted.logger import Logger

from directus_tx.accounts.mails import shown_time
from directus_tx.context import Context
from directus_tx.errors import InternalError
from directus_tx.items.changes import Event, Key, Row
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
_COUNT = """
SELECT subject, count(*) FROM directus_outbox WHERE subject = ANY(%s) AND subject <> '' AND created_on > %s GROUP BY subject"""


@frozen
class Sending:
    """How a project mails: the directories of its templates, the address of the sender, and `most`, how many of these mails a user gets in
    an hour."""

    directories: Sequence[pathlib.Path]
    sender: str
    most: int


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
        changed: list[tuple[Key, Row, tuple[str, ...]]] = []
        async for event in ctx.in_slices(of_users):
            before, after = event.before, event.after
            changes = () if before is None or after is None else changes_of(before, after, ctx.keys)
            if before is not None and changes and is_mailable(before["email"]):
                changed.append((event.key, before, changes))
        numbers = await _numbers(ctx, [key for key, _, _ in changed]) if changed else Counter()
        async for key, before, changes in ctx.in_slices(changed):
            subject = _subject(key)
            numbers[subject] += 1
            if numbers[subject] > sending.most:
                log.info(
                    "project {project}: user {user} has got {number} mails about changes in an hour and is not mailed again",
                    project=ctx.project,
                    user=key,
                    number=sending.most,
                )
                continue
            zone = before["timezone"] or "UTC"
            shown = rendered.get((changes, zone))
            if shown is None:
                shown = rendered[changes, zone] = _rendered(ctx, sending, changes, zone)
            name = " ".join(each for each in (before["first_name"], before["last_name"]) if each)
            mail = Mail([Mailbox(before["email"], name)], SUBJECT.format(project), shown.text, shown.html, automatic=True)
            found += await messages_of(ctx, mail, sender, subject)
        return found


async def _numbers(ctx: Context, users: Iterable[Key]) -> Counter[str]:
    """Returns how many mails about changes each user has got in the last hour, by subject. The rows of the users are locked, so that no
    other transaction writes such mails for them."""
    subjects = [_subject(user) for user in dict.fromkeys(users)]
    return Counter(dict(await ctx.db.query(_COUNT, (subjects, ctx.now - timedelta(hours=1)))))


def _subject(user: Key) -> str:
    """Returns the subject of the messages to a user in the outbox."""
    return f"account:{user}"


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
