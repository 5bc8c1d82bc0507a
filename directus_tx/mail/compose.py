"""Composes mails as MIME messages."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from html import escape, unescape
from typing import Any

import nh3
from attrs import frozen

from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.mail.addresses import in_ascii, is_mailable

TAGS = frozenset("b i a p br hr button h1 h2 h3 h4 h5 table thead tbody tfoot th tr td".split())
"""The tags that HTML of callers may have. Of their attributes only `href` of links remains."""

MAX_NAME = 200
"""The maximum length of the name of a mailbox, in characters. Long names are slow to encode."""

MAX_TAGS = 10_000
"""The maximum number of tags in HTML of callers. The time that parsing it takes can grow with the square of their number."""

MAX_REFERENCES = 100_000
"""The maximum number of `&` in HTML of callers, likewise."""

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}\s]{1,200})\s*\}\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BREAK = re.compile(r"<(?:br|/p|/h[1-5]|/tr|/table|hr)\b[^>]*>", re.IGNORECASE)
_LINE = 76
"""The maximum length of a line with encoded words."""

_ATOMS = re.compile(r"[A-Za-z0-9 !#$%&'*+/=?^_`{|}~-]{0,60}")
"""The names that need no quotes."""

_ASCII = re.compile(r"[ -~]{0,60}")
_POLICY = SMTP.clone(cte_type="7bit", max_line_length=78, refold_source="none")


@frozen
class Mailbox:
    """An e-mail address with the name of its owner, or without one."""

    email: str
    name: str = ""

    @property
    def addr_spec(self) -> str:
        """The address as SMTP has it. Raises ValueError."""
        return in_ascii(self.email)


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
    """Returns a mailbox. Raises InvalidPayload if mail cannot be sent to the address, or the name is too long."""
    found = Mailbox(email.strip(), name)
    if not is_mailable(found.email):
        raise InvalidPayload(f'"{email[:100]}" is not an e-mail address that mail can be sent to.')
    if len(name) > MAX_NAME:
        raise InvalidPayload(f"The name of a recipient must have at most {MAX_NAME} characters.")
    return found


def encoded(mail: Mail, sender: Mailbox, now: datetime) -> bytes:
    """Returns a mail as a MIME message in ASCII, with CRLF at the ends of lines. *sender* is used if the mail has no sender."""
    message = EmailMessage(policy=_POLICY)
    author = mail.sender or sender
    # Raw, because texts of callers must not be parsed as parts of headers.
    message.set_raw("From", _as_header([author]))
    if mail.reply_to is not None:
        message.set_raw("Reply-To", _as_header([mail.reply_to]))
    message.set_raw("To", _as_header(mail.to))
    message.set_raw("Subject", _encoded_text(mail.subject, _ASCII))
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=author.addr_spec.rpartition("@")[2])
    if mail.automatic:
        message["Auto-Submitted"] = "auto-generated"
    message.set_content(_lines(mail.text))
    if mail.html is not None:
        message.add_alternative(_lines(mail.html), subtype="html")
    return message.as_bytes()


def _as_header(mailboxes: Sequence[Mailbox]) -> str:
    """Returns mailboxes as the value of a header."""
    found = []
    for each in mailboxes:
        name = _encoded_text(each.name, _ATOMS)
        # A name in encoded words may fill the line.
        blank = "\r\n " if "=?" in name else " "
        found.append(f"{name}{blank}<{each.addr_spec}>" if name else each.addr_spec)
    return ",\r\n ".join(found)


def _encoded_text(text: str, plain: re.Pattern[str]) -> str:
    """Returns a text for a header, in one line if *plain* matches it, otherwise as encoded words (RFC 2047).

    The email package would decode encoded words in the text, which may contain line breaks, and takes the quotes off long names: then a
    part of the text would be another header or address."""
    text = _CONTROL.sub(" ", text).strip().encode("utf-8", "replace").decode()
    if plain.fullmatch(text) and "=?" not in text:
        return text
    return Header(text, "utf-8", maxlinelen=_LINE, header_name="Reply-To").encode(linesep="\r\n")


def _lines(text: str) -> str:
    """Returns a text whose lines end with a line feed, without other control characters and halves of surrogate pairs."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return text.encode("utf-8", "replace").decode()


def filled(text: str, data: Mapping[str, Any], *, html: bool, most: int) -> str:
    """Returns a text of a caller with its placeholders {{a.b}} replaced by the values of *data*, by nothing if there is no such value. HTML
    is reduced to `TAGS`. Raises InvalidRequest if the result has more than *most* characters, or HTML more than MAX_TAGS tags or
    MAX_REFERENCES character references."""
    if html and text.count("<") > MAX_TAGS:
        raise InvalidRequest(f"The mail must have at most {MAX_TAGS} tags.")
    if html and text.count("&") > MAX_REFERENCES:
        raise InvalidRequest(f"The mail must have at most {MAX_REFERENCES} character references (&).")
    text = _cleaned(text) if html else text
    pieces, end, length = [], 0, 0
    for found in _PLACEHOLDER.finditer(text):
        value = _value(data, found[1])
        pieces += [text[end : found.start()], escape(value) if html else value]
        length += len(pieces[-1]) + len(pieces[-2])
        end = found.end()
        if length > most:
            break
    pieces.append(text[end:])
    if length + len(pieces[-1]) > most:
        raise InvalidRequest(f"The mail must have at most {most} characters with its placeholders replaced (mail.max_size).")
    written = "".join(pieces)
    # A value may have become a part of an attribute.
    return _cleaned(written) if html else written


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
