"""Composes mails as MIME messages."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from html import escape, unescape
from typing import Any

import nh3
from attrs import frozen

from directus_tx.errors import InvalidPayload

TAGS = frozenset("b i a p br hr button h1 h2 h3 h4 h5 table thead tbody tfoot th tr td".split())
"""The tags that HTML of callers may have. Of their attributes only `href` of links remains."""

MAX_ADDRESS = 254
"""The maximum length of an address."""

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}\s]{1,200})\s*\}\}")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BREAK = re.compile(r"<(?:br|/p|/h[1-5]|/tr|/table|hr)\b[^>]*>", re.IGNORECASE)
_POLICY = SMTP.clone(cte_type="7bit", max_line_length=78)


@frozen
class Mailbox:
    """An e-mail address with the name of its owner, or without one."""

    email: str
    name: str = ""

    @property
    def address(self) -> Address:
        """The mailbox as a header has it. A domain with other letters than ASCII is encoded as DNS has it."""
        local, _, domain = self.email.rpartition("@")
        return Address(_CONTROL.sub(" ", self.name).strip(), local, _ascii_domain(domain))

    @property
    def addr_spec(self) -> str:
        """The address as SMTP has it."""
        return self.address.addr_spec


@frozen
class Mail:
    """A mail. `html` is None for a mail of plain text only. `automatic`: no person has written it, so programs should not answer it."""

    to: Sequence[Mailbox]
    subject: str
    text: str
    html: str | None = None
    sender: Mailbox | None = None
    reply_to: Mailbox | None = None
    automatic: bool = False


def mailbox(email: str, name: str = "") -> Mailbox:
    """Returns a mailbox. Raises InvalidPayload if the address is not valid, or has letters before the @ that need SMTPUTF8, or quotes."""
    found = Mailbox(email.strip(), name)
    try:
        local, _, domain = found.addr_spec.rpartition("@")
    except (ValueError, IndexError):
        local, domain = "", ""
    if len(found.email) > MAX_ADDRESS or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise InvalidPayload(f'"{email[:100]}" is not an e-mail address that mail can be sent to.')
    return found


def _ascii_domain(domain: str) -> str:
    return domain if domain.isascii() else domain.encode("idna").decode()


def encoded(mail: Mail, sender: Mailbox, now: datetime) -> bytes:
    """Returns a mail as a MIME message in ASCII, with CRLF at the ends of lines. *sender* is used if the mail has no sender."""
    message = EmailMessage(policy=_POLICY)
    author = mail.sender or sender
    message["From"] = author.address
    if mail.reply_to is not None:
        message["Reply-To"] = mail.reply_to.address
    message["To"] = tuple(each.address for each in mail.to)
    message["Subject"] = _CONTROL.sub(" ", mail.subject).strip()
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=author.address.domain or "localhost")
    if mail.automatic:
        message["Auto-Submitted"] = "auto-generated"
    message.set_content(_lines(mail.text))
    if mail.html is not None:
        message.add_alternative(_lines(mail.html), subtype="html")
    return message.as_bytes()


def _lines(text: str) -> str:
    """Returns a text whose lines end with a line feed, without other control characters and halves of surrogate pairs."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return text.encode("utf-8", "replace").decode()


def filled(text: str, data: Mapping[str, Any], *, html: bool) -> str:
    """Returns a text of a caller with its placeholders {{a.b}} replaced by the values of *data*, by nothing if there is no such value. HTML
    is reduced to `TAGS`."""
    if not html:
        return _PLACEHOLDER.sub(lambda found: _value(data, found[1]), text)
    written = _PLACEHOLDER.sub(lambda found: escape(_value(data, found[1])), _cleaned(text))
    # A value may have become a part of an attribute.
    return _cleaned(written)


def _cleaned(html: str) -> str:
    return nh3.clean(html, tags=set(TAGS), attributes={"a": {"href"}}, url_schemes={"http", "https", "mailto"}, link_rel=None)


def _value(data: Mapping[str, Any], path: str) -> str:
    found: Any = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return "" if found is None or isinstance(found, (Mapping, list)) else str(found)


def as_text(html: str) -> str:
    """Returns the text of HTML, for mail programs that show no HTML."""
    return unescape(nh3.clean(_BREAK.sub(lambda found: "\n" + found[0], html), tags=set())).strip()
