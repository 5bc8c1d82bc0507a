"""The mail server of a project: that of its project file, or that of the server's settings."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from directus_tx.config import MailSettings
from directus_tx.mail.addresses import is_mailable

NONE, STARTTLS, TLS = "none", "starttls", "tls"
"""Kinds of encryption: none unless the server offers STARTTLS, STARTTLS, or TLS from the beginning."""

_PORTS = {NONE: 25, STARTTLS: 587, TLS: 465}


@frozen
class MailServer:
    """The address of a mail server, and how to sign in. `sender` is the address that bounces go to, and the sender of mails that no user
    sends."""

    host: str
    port: int
    encryption: str = NONE
    username: str = ""
    password: str = field(default="", repr=False)
    sender: str = ""


def mail_server(table: Mapping[str, Any], sender: str, settings: MailSettings) -> MailServer | None:
    """Returns the mail server of a project with this table `mail` and this `mail_from`. None if neither the project nor the server has one.
    Raises ValueError, whose message says what is wrong."""
    for name, value in (("mail_from", sender), ("mail.sender", settings.sender)):
        if value and not is_mailable(value):
            raise ValueError(f"{name} is not an e-mail address")
    if table and table.get("transport") not in (None, "", "smtp"):
        raise ValueError("transport must be smtp")
    if table and table.get("host"):
        found = _of_table(table, sender or settings.sender)
    elif settings.host:
        port = settings.port or _PORTS[settings.encryption]
        found = MailServer(
            settings.host, port, settings.encryption, settings.username, settings.password, sender or settings.sender
        )
    else:
        return None
    if found.username and found.encryption == NONE and not _is_local(found.host):
        raise ValueError("a password must not be sent without encryption: set encryption to starttls or tls")
    return found


def check_table(table: Mapping[str, Any]) -> None:
    """Raises ValueError if the table `mail` of a project has values of a wrong kind. Properties that are not known are ignored, and another
    transport is an error only if a mail is to be sent: Directus 8 has both."""
    if table and table.get("host"):
        _of_table(table, "")


def _of_table(table: Mapping[str, Any], sender: str) -> MailServer:
    texts = {name: table.get(name) or "" for name in ("host", "username", "password", "encryption")}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"{wrong[0]} must be a text")
    port = table.get("port") or 0
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536:
        raise ValueError("port must be a number between 1 and 65535")
    encryption = texts["encryption"].lower()
    if encryption not in ("", NONE, STARTTLS, TLS, "ssl"):
        raise ValueError("encryption must be none, starttls, tls or ssl")
    # As in Directus 8, "ssl" encrypts from the beginning, and "tls" after STARTTLS.
    if encryption == "ssl" or (encryption == TLS and port == _PORTS[TLS]):
        encryption = TLS
    elif encryption == TLS:
        encryption = STARTTLS
    encryption = encryption or NONE
    return MailServer(texts["host"], port or _PORTS[encryption], encryption, texts["username"], texts["password"], sender)


def _is_local(host: str) -> bool:
    """Whether a host is this machine, by its address or the name localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
