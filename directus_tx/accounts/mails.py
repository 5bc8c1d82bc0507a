"""Mails with links: for a new password, and invitations.

A link goes to a page that the server or the project file names, never to one that the header Host of a request names: whoever asks for a
new password of somebody else chooses that header.
"""

import pathlib
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen
from twisted.logger import Logger

from directus_tx.accounts.links import INVITATION, RESET, Link
from directus_tx.accounts.sso.redirects import origin_of
from directus_tx.context import Context
from directus_tx.db.connection import pause
from directus_tx.mail import templates
from directus_tx.mail.compose import Mail, Mailbox
from directus_tx.mail.delivery import queue

log = Logger()
MAX_PAGE = 1000
"""The maximum length of the URL of a page."""

_NAMES = {RESET: "reset_url", INVITATION: "invite_url"}
_TEMPLATES = {RESET: "password-reset", INVITATION: "user-invitation"}
_SUBJECTS = {RESET: "Choose a new password for {}", INVITATION: "Invitation to {}"}
_DISCARD = "DELETE FROM directus_outbox WHERE subject = %s AND subject <> ''"
# The attempt that is running counts already.
_UNTRIED = """
SELECT FROM directus_outbox
WHERE subject = ANY(%s) AND subject <> '' AND state = 'pending' AND (attempts = 0 OR claim IS NOT NULL) LIMIT 1"""
_PAUSES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5)
"""Seconds between two looks for mails that have not been tried; the last one is repeated."""


@frozen
class LinkMails:
    """How a project mails links: the directories of its templates, the sender, the URL of the page for each kind of link, and the origins
    of the pages that a caller may name instead, as `origin_of` returns them."""

    directories: Sequence[pathlib.Path]
    sender: Mailbox
    pages: Mapping[str, str]
    origins: Collection[str]

    def allows(self, url: str) -> bool:
        """Whether a caller may name a page."""
        try:
            return len(url) <= MAX_PAGE and origin_of(url) in self.origins
        except ValueError:
            return False

    async def queue(
        self, ctx: Context, kind: str, to: Mailbox, link: Link, zone: str, *, page: str | None = None, discarded: bool = False
    ) -> str:
        """Writes the mail with a link to the outbox. *ctx* is in a transaction. *zone* is the time zone in which the mail says until when
        the link can be used. *page* is the page if it is not that of the project. If *discarded*, runs the same statements, but nothing is
        sent. Returns the subject of the message."""
        if not page and self.pages[kind].startswith(("http://localhost", "https://localhost")):
            log.warn("project {project}: a mail has a link to localhost: set server.public_url", project=ctx.project)
        data = {"link": with_token(page or self.pages[kind], link.token), "expires": shown_time(link.expires, zone)}
        rendered = templates.render(self.directories, ctx, _TEMPLATES[kind], data)
        subject = _SUBJECTS[kind].format(ctx.schema.setting("project_name") or ctx.project)
        mail = Mail([to], subject, rendered.text, rendered.html, automatic=True)
        mark = f"{kind}:{uuid.uuid4()}"
        await queue(ctx, mail, self.sender, mark)
        await ctx.db.query_at_commit(_DISCARD, (mark if discarded else "",))
        return mark


def pages_of(auth: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Returns the pages that the table `auth` of a project file names, by kind of link, and a line for each that cannot be used."""
    pages, mistakes = {}, []
    for kind, name in _NAMES.items():
        url = auth.get(name)
        if url is None or url == "":
            continue
        try:
            if not isinstance(url, str):
                raise ValueError("must be a text")
            origin_of(url)
            pages[kind] = url
        except ValueError as error:
            mistakes.append(f"auth.{name} {error}")
    return pages, mistakes


async def tried(ctx: Context, subjects: Sequence[str], seconds: float) -> None:
    """Waits until the mail server has been asked to take mails, by the subjects of their messages, but for a number of seconds at most.
    *ctx* is not in a transaction."""
    reactor = ctx.db.database.reactor
    until = reactor.seconds() + seconds
    for each in chain(_PAUSES, repeat(_PAUSES[-1])):
        if reactor.seconds() + each > until or not await ctx.db.query(_UNTRIED, (list(subjects),)):
            return
        await pause(reactor, each)


def with_token(page: str, token: str) -> str:
    """Returns the URL of a page with a token as the last parameter: of the fragment, if there is one, because pages whose fragment is a
    path read it there."""
    base, hash, fragment = page.partition("#")
    last = fragment if hash else base
    return f"{page}{'&' if '?' in last else '?'}token={token}"


def shown_time(time: datetime, zone: str) -> str:
    """Returns a time for people, in a time zone. UTC, if there is no such zone."""
    try:
        local = time.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        local = time.astimezone(UTC)
    return f"{local:%Y-%m-%d %H:%M} {local.tzname()}"
