"""Signed addresses at which anybody can read the content of a file, or one thumbnail of it, until they expire.

The signature is an HMAC over everything that the address shows and over the private hash of the file. The address does not contain the
hash, and is no longer valid when the file gets another one. It names the credential that it was made with, and shows what may be read with
that, as long as it is valid. Nothing is stored.
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
    `thumbnail` ask for, as a download with the name `download` unless that is empty. `by` is the reference to the credential of the user
    who has made it."""

    file: int
    expires: int
    by: str
    thumbnail: Mapping[str, str] = Factory(dict)
    download: str = ""

    def _text(self, private_hash: str, mark: str) -> str:
        """The text that is signed. As JSON it is another one for other values."""
        shown = sorted(self.thumbnail.items())
        return orjson.dumps([self.file, self.expires, self.by, shown, self.download, private_hash, mark]).decode()

    def signature(self, keys: Keys, private_hash: str, mark: str) -> str:
        """Returns the signature with the current key of the project: 64 hexadecimal digits. It is the same each time, so browsers can keep
        what is at the address. *private_hash* is that of the file, *mark* that of the credential (`Holder`)."""
        return keys.fingerprint(PURPOSE, self._text(private_hash, mark))

    def has_signature(self, keys: Keys, private_hash: str, mark: str, signature: str) -> bool:
        """Whether a signature was made with the current key or a former one. How long that takes does not depend on the signature."""
        right = keys.fingerprints(PURPOSE, self._text(private_hash, mark))
        given = signature.encode("utf-8", "surrogatepass")
        same = [hmac.compare_digest(each.encode(), given) for each in right]
        return any(same)
