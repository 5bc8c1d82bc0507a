"""Signed addresses at which anybody can read the content of a file, or one thumbnail of it, until they expire.

The signature is an HMAC over everything that the address shows and over the private hash of the file. The address does not contain the
hash, and is no longer valid when the file gets another one. Nothing is stored.
"""

import hmac
from collections.abc import Mapping

import orjson
from attrs import Factory, frozen

from directus_tx.sealing import Keys

PURPOSE = "shared file"


@frozen
class Share:
    """What an address shows, until it `expires`, in seconds since 1970: the content of a file, or the thumbnail that the parameters
    `thumbnail` ask for, as a download with the name `download` unless that is empty."""

    file: int
    expires: int
    thumbnail: Mapping[str, str] = Factory(dict)
    download: str = ""

    def _text(self, private_hash: str) -> str:
        """The text that is signed. As JSON it is another one for other values."""
        return orjson.dumps([self.file, self.expires, sorted(self.thumbnail.items()), self.download, private_hash]).decode()

    def signature(self, keys: Keys, private_hash: str) -> str:
        """Returns the signature with the current key of the project: 64 hexadecimal digits. It is the same each time, so browsers can keep
        what is at the address. *private_hash* is that of the file."""
        return keys.fingerprint(PURPOSE, self._text(private_hash))

    def has_signature(self, keys: Keys, private_hash: str, signature: str) -> bool:
        """Whether a signature was made with the current key or a former one. How long that takes does not depend on the signature."""
        right = keys.fingerprints(PURPOSE, self._text(private_hash))
        given = signature.encode("utf-8", "surrogatepass")
        same = [hmac.compare_digest(each.encode(), given) for each in right]
        return any(same)
