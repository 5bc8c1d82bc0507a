"""Secrets in the database: encrypted, or found by a keyed hash, so that a copy of the database is not enough to use them.

The keys are derived from the secret key of the project and a *purpose*, a constant text for each use. What is sealed for one purpose cannot
be unsealed for another one.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from functools import lru_cache

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = "v1."
"""The beginning of sealed texts. It names the algorithm: AES-256-GCM with a random nonce of 96 bits, which precedes the ciphertext."""

_NONCE = 12
_SEALED = re.compile(r"v1\.[\w-]{38,}={0,2}", re.ASCII)
"""Matches sealed texts: in base64, a nonce, the ciphertext and a tag of 16 bytes."""


def seal(key: str, purpose: str, text: str) -> str:
    """Returns a text encrypted and authenticated with a project's secret key, as printable ASCII. Sealing a text twice gives different
    results."""
    nonce = os.urandom(_NONCE)
    sealed = nonce + _cipher(key, purpose).encrypt(nonce, text.encode("utf-8", "surrogatepass"), None)
    return _VERSION + base64.urlsafe_b64encode(sealed).decode()


def unseal(key: str, purpose: str, sealed: str) -> str:
    """Returns the text that `seal` was given. Raises ValueError if the key, the purpose or the sealed text is a different one."""
    if not is_sealed(sealed):
        raise ValueError("The text is not sealed.")
    try:
        data = base64.b64decode(sealed[len(_VERSION) :], b"-_", validate=True)
        return _cipher(key, purpose).decrypt(data[:_NONCE], data[_NONCE:], None).decode("utf-8", "surrogatepass")
    except (binascii.Error, InvalidTag, ValueError):
        raise ValueError("The text was sealed with another key or for another purpose, or was changed.") from None


def is_sealed(text: str) -> bool:
    """Whether a text has the form of a sealed one."""
    return _SEALED.fullmatch(text) is not None


def fingerprint(key: str, purpose: str, text: str) -> str:
    """Returns a keyed hash (HMAC-SHA256, 64 hexadecimal digits) of a text, by which a secret can be found that is not stored as it is."""
    derived = _derived(key, purpose + ":fingerprint")
    return hmac.new(derived, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


# A derived key takes 10 microseconds. Projects and purposes are few; the oldest keys are derived again.
@lru_cache(maxsize=1000)
def _derived(key: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(key.encode())


@lru_cache(maxsize=1000)
def _cipher(key: str, purpose: str) -> AESGCM:
    return AESGCM(_derived(key, purpose + ":seal"))


@frozen
class Keys:
    """The secret keys of a project: the `current` one seals, the `former` ones can still unseal."""

    current: str = field(repr=False)
    former: tuple[str, ...] = field(default=(), repr=False)

    def seal(self, purpose: str, text: str) -> str:
        """Returns a text sealed with the current key."""
        return seal(self.current, purpose, text)

    def unseal(self, purpose: str, sealed: str) -> str:
        """Returns a text that was sealed with one of the keys. Raises ValueError."""
        for key in self.all[:-1]:
            try:
                return unseal(key, purpose, sealed)
            except ValueError:
                continue
        return unseal(self.all[-1], purpose, sealed)

    def fingerprint(self, purpose: str, text: str) -> str:
        """Returns the fingerprint of a text with the current key."""
        return fingerprint(self.current, purpose, text)

    def fingerprints(self, purpose: str, text: str) -> list[str]:
        """Returns the fingerprints of a text with all keys: a stored one may have been made with a former key."""
        return [fingerprint(key, purpose, text) for key in self.all]

    @property
    def all(self) -> tuple[str, ...]:
        """The current key, and then the former ones."""
        return (self.current, *self.former)
