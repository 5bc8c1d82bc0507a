"""E-mail addresses that mail can be sent to and from."""

import re

MAX_ADDRESS = 254
"""The maximum length of an address."""

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def in_ascii(address: str) -> str:
    """Returns an address as SMTP has it: a domain with other letters than ASCII is encoded as DNS has it. Raises ValueError if it is not an
    address, has letters before the @ that need SMTPUTF8, or quotes, or contains `=?`, which begins an encoded word in headers."""
    local, at, domain = address.rpartition("@")
    if len(address) > MAX_ADDRESS:
        # Encoding a domain of many labels takes long.
        raise ValueError("not an e-mail address that mail can be sent to")
    if not domain.isascii():
        domain = domain.encode("idna").decode()
    found = f"{local}@{domain}"
    if not at or len(found) > MAX_ADDRESS or "=?" in local or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise ValueError("not an e-mail address that mail can be sent to")
    return found


def is_mailable(address: str) -> bool:
    """Whether mail can be sent to an address."""
    try:
        in_ascii(address)
    except ValueError:
        return False
    return True
