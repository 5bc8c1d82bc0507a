"""Sealed fields: fields of system collections whose values are stored encrypted with the secret key of the project.

Clients read and write the values themselves. `items` seals and unseals them; other statements use the functions of `Sealing`.
"""

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from directus_tx.sealing import Keys, is_sealed


@frozen
class Sealing:
    """How the values of a field are stored: sealed for the `purpose`, with their fingerprints in the column `fingerprint`, by which they
    are found and unique; None: they cannot be found. `length` is the maximum length of a value in characters.

    Empty texts are stored as they are. The column can also hold other values that are not sealed, which have no fingerprint: those that
    another program has written, or that could not be sealed yet because the database can only be read.
    """

    purpose: str
    fingerprint: str | None = None
    length: int = 255

    def sealed(self, keys: Keys, text: str | None) -> str | None:
        """Returns a value as it is stored."""
        return keys.seal(self.purpose, text) if text else text

    def mark(self, keys: Keys, text: str | None) -> str | None:
        """Returns the fingerprint that is stored with a value."""
        return keys.fingerprint(self.purpose, text) if text else None

    def marks(self, keys: Keys, texts: Sequence[str]) -> list[str]:
        """Returns all fingerprints that may be stored with one of several values."""
        return [mark for text in texts if text for mark in keys.fingerprints(self.purpose, text)]

    def unmarked(self, texts: Sequence[str]) -> list[str]:
        """Returns those of several values that may be stored as they are, without a fingerprint. What is stored sealed is no value."""
        return [text for text in texts if "\x00" not in text and not is_sealed(text)]

    def unsealed(self, keys: Keys, stored: str | None) -> str | None:
        """Returns the value that is stored. Raises ValueError if it was sealed with a key that the project does not have."""
        return keys.unseal(self.purpose, stored) if stored and is_sealed(stored) else stored

    def shown(self, keys: Keys | None) -> Callable[[str | None], str | None]:
        """Returns the function that converts stored values for responses. Values that cannot be unsealed are shown as None, and all are
        where *keys* is None."""

        def show(stored: str | None) -> str | None:
            try:
                return None if keys is None else self.unsealed(keys, stored)
            except ValueError:
                return None

        return show


USER_TOKEN = Sealing("user token", "token_fingerprint")
TWO_FACTOR_SECRET = Sealing("two-factor secret")

SEALED: Mapping[str, Mapping[str, Sealing]] = {
    "directus_users": {"token": USER_TOKEN, "2fa_secret": TWO_FACTOR_SECRET},
}
"""The sealed fields, by collection and name."""
