"""The interface of storages, which hold the bytes of files under names, and what they return and raise.

A name is a relative path of segments that are divided by "/", for example "originals/harbour.jpg". Upper and lower case are different. A
storage never changes a file in place: a new one takes its name, at once and with all its bytes.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from attrs import frozen
from zope.interface import Attribute, Interface

from directus_tx.errors import InvalidRequest, NotFound, ServiceUnavailable

PIECE = 2**16
"""The bytes of a piece in which a file is read; the last one of a file may be shorter."""

MAX_SEGMENT = 240
"""The maximum bytes of a segment of a name, in UTF-8. File systems allow 255."""

MAX_NAME = 900
"""The maximum bytes of a name, in UTF-8. S3 allows 1024, with the prefix of the project."""

_SEGMENT = re.compile(r"[\w^-][\w^.-]*")


@frozen
class Stored:
    """A file in a storage: its name, its size in bytes, and when it was stored, an aware datetime in UTC. `version` is a text of visible
    ASCII characters, which is another one when another file has taken the name."""

    name: str
    size: int
    modified: datetime
    version: str


@frozen
class UploadRequest:
    """A request by which anybody can store a file without the server: its method, its URL, and the headers that it must have."""

    method: str
    url: str
    headers: Mapping[str, str]


class FileNotStored(NotFound):
    """The storage has no file of this name."""


class FileReplaced(ServiceUnavailable):
    """Another file has taken the name since its version was asked for."""


class InvalidName(InvalidRequest):
    """A file cannot have this name."""


def is_name(text: str) -> bool:
    """Whether a file can have this name: segments of letters, digits and `_ - . ^` that do not begin with a dot."""
    segments = text.split("/")
    return (
        all(_SEGMENT.fullmatch(each) and len(each.encode()) <= MAX_SEGMENT for each in segments)
        and len(text.encode()) <= MAX_NAME
    )


def check_name(name: str) -> str:
    """Returns a name that a file can have. Raises InvalidName for others."""
    if not is_name(name):
        raise InvalidName("The name of the file has characters that cannot be stored, or is too long.")
    return name


class IUpload(Interface):
    """A file that is being stored. One method is called at a time: the caller awaits each. If a method raises or is cancelled, the file
    must be aborted."""

    async def write(data: bytes) -> None:
        """Appends bytes. Returns when the storage can take more. Raises StorageFull and ServiceUnavailable."""

    async def finish() -> Stored:
        """Makes the file durable and gives it its name, which it takes from another file that has it. Raises StorageFull and
        ServiceUnavailable."""

    async def abort() -> None:
        """Discards all that was written. Does nothing after `finish` has returned. Raises nothing."""


class IFileStorage(Interface):
    """A storage. All methods raise InvalidName for a name that is not valid, and ServiceUnavailable if the storage cannot be used."""

    adapter = Attribute("The name of the kind of storage, a text of at most 50 characters, which directus_files.storage has.")

    def begin(name: str) -> IUpload:
        """Returns an upload that will be the file of this name."""

    def read(name: str, start: int = 0, end: int | None = None, *, version: str | None = None) -> AsyncIterator[bytes]:
        """Returns an async generator of the bytes from *start* up to, but not including, *end*, or to the end of the file, in pieces of
        PIECE bytes. What is beyond the end of the file is left out. All pieces are from the same file, also if another one takes its
        name meanwhile. Closing the generator (`aclose`) releases what it uses.

        The first step raises FileNotStored, and FileReplaced if the file is not that of *version*.
        """

    async def describe(name: str) -> Stored | None:
        """Returns the file of this name, or None."""

    async def delete(name: str) -> None:
        """Deletes the file of this name, if there is one."""

    async def rename(name: str, new_name: str) -> None:
        """Gives a file another name, which it takes from another file that has it. Raises FileNotStored."""

    def list(prefix: str = "") -> AsyncIterator[Stored]:
        """Returns an async generator of the files whose names begin with a text, in any order. Files that are stored or deleted meanwhile
        may be missing."""

    async def signed_url(
        name: str,
        seconds: int,
        *,
        content_type: str | None = None,
        disposition: str | None = None,
    ) -> str | None:
        """Returns a URL at which anybody can read the file for some seconds; it need not exist. None if the storage has no such URLs. The
        headers Content-Type and Content-Disposition of the answer are as given."""

    async def close() -> None:
        """Releases what the storage uses. Nothing is called afterwards."""


class IDirectUploads(Interface):
    """What a storage also has to which clients can send files themselves."""

    max_direct_size = Attribute("The maximum size of such a file, in bytes.")

    async def signed_upload(
        name: str, seconds: int, size: int, content_type: str, sha256: str | None = None
    ) -> UploadRequest | None:
        """Returns a request that stores a file for some seconds, also several times. The file must have this size in bytes and, if it is
        given, this SHA-256 in hexadecimal digits. None if the storage has no such URLs with its present settings."""


@asynccontextmanager
async def uploading(storage: Any, name: str) -> AsyncIterator[Any]:
    """A context with an upload, which is aborted at the end of the context unless it has been finished."""
    upload = storage.begin(name)
    try:
        yield upload
    finally:
        await upload.abort()
