"""Time-based one-time passwords (TOTP, RFC 6238) as the second factor: SHA-1, 6 digits, steps of 30 seconds."""

import base64
import binascii
from datetime import datetime

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

from directus_tx.accounts.tokens import Bearer
from directus_tx.schema.model import Snapshot

DIGITS = 6
STEP = 30
"""Seconds for which a one-time password is shown."""

MIN_SECRET = 10
"""The minimum length of a secret in bytes: that of the secrets that the server generates."""

DRIFT = 2
"""The number of steps that the clock of the user may be ahead or behind."""


def is_secret(text: str) -> bool:
    """Whether a text is a secret of an authenticator app: at least MIN_SECRET bytes in base32, in upper or lower case, with or without
    padding."""
    try:
        return len(_key(text)) >= MIN_SECRET
    except ValueError:
        return False


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Returns the number of the time step that a one-time password belongs to, or None if it is wrong. *now* is an aware datetime."""
    if not is_secret(secret):
        return None
    key = _key(secret)
    sent = code.encode("utf-8", "surrogatepass")
    hotp = HOTP(key, DIGITS, SHA1(), enforce_key_length=False)
    present = int(now.timestamp()) // STEP
    found = None
    for step in range(max(present - DRIFT, 0), present + DRIFT + 1):
        if bytes_eq(hotp.generate(step), sent):
            found = step
    return found


def is_missing(schema: Snapshot, bearer: Bearer) -> bool:
    """Whether the role of a user enforces two-factor authentication and the user has not activated it."""
    return not bearer.two_factor and is_enforced(schema, bearer.role)


def is_enforced(schema: Snapshot, role: int | None) -> bool:
    """Whether a role enforces two-factor authentication."""
    found = None if role is None else schema.roles.get(role)
    return found is not None and bool(found["enforce_2fa"])


def _key(secret: str) -> bytes:
    """Returns the bytes of a secret. Raises ValueError."""
    bare = secret.rstrip("=")
    try:
        return base64.b32decode(bare + "=" * (-len(bare) % 8), casefold=True)
    except binascii.Error as error:
        raise ValueError("not base32") from error
