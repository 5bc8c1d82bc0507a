"""Takes the bytes of a file into a storage: hashes them on the way and finds out what they are."""

import hashlib
from collections.abc import Sequence
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.config import FileSettings
from directus_tx.errors import ApiError, InvalidRequest, PayloadTooLarge
from directus_tx.files import content as contents
from directus_tx.files import names
from directus_tx.files import quota as quotas
from directus_tx.files.contents import Content
from directus_tx.files.fairness import NOBODY, AdmissionLimit, Owner
from directus_tx.files.pictures import NO_PICTURE, Picture
from directus_tx.outgoing.client import Client
from directus_tx.threads import Threads

log = Logger()

HEAD = 64 * 1024
"""The number of bytes at the beginning of a file that are kept in memory while it is stored."""

DESCRIBED_AT_ONCE = 2
"""The number of pictures that are looked into at the same time."""


class Intake:
    """Stores contents of files, at most files.max_uploads at once. *client* requests those that are given by their URLs. The threads run
    from `start` to `stop`."""

    def __init__(self, reactor: Any, settings: FileSettings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self._admitted = AdmissionLimit()
        self._threads = Threads(
            reactor, "pictures", "Too many pictures are being looked into; try again shortly.", threads=DESCRIBED_AT_ONCE
        )
        self._describing = defer.DeferredSemaphore(DESCRIBED_AT_ONCE)

    def start(self) -> None:
        self._threads.start()

    def stop(self) -> None:
        self._threads.stop()

    @property
    def running(self) -> int:
        """The number of contents that are being received."""
        return len(self._admitted)

    def begin(
        self, storage: Any, name: str, allowed: Sequence[str], quota: int = 0, room: int | None = None, *, owner: Owner = NOBODY
    ) -> "Receiving":
        """Returns a content that is to be received. *name* is that of the file, whose extension counts where the content does not tell its
        type; *allowed* are the media types of the setting file_mimetype_whitelist; *room* is the number of bytes that the *quota* of the
        project leaves, None if it has none. Raises ServiceUnavailable if too many are being received, in all or for the *owner*."""
        self.enter(owner)
        try:
            return Receiving(self, storage, name, allowed, quota, room, owner)
        except BaseException:
            self.leave(owner)
            raise

    def enter(self, owner: Owner) -> None:
        """Call this before a content is received, and `leave` afterwards. Raises ServiceUnavailable if too many are being received."""
        what = f"The server receives {self.running} files already (files.max_uploads)"
        self._admitted.enter(self.settings.max_uploads, *owner, what)

    def leave(self, owner: Owner) -> None:
        self._admitted.leave(*owner)

    async def describe(self, storage: Any, name: str, size: int, head: bytes) -> Picture:
        """Returns what a stored content tells if it is a picture."""
        if contents.content_type(head, names.UNKNOWN) not in contents.RASTER:
            return NO_PICTURE
        found: Picture = await self._describing.run(
            lambda: defer.Deferred.fromCoroutine(self._described(storage, name, size, head))
        )
        return found

    async def _described(self, storage: Any, name: str, size: int, head: bytes) -> Picture:
        if size > len(head):
            pieces = [piece async for piece in storage.read(name, 0, contents.DESCRIBED)]
            head = b"".join(pieces)
        found = await self._threads.run(contents.describe, head)
        place = contents.directory_of(head)
        if found.width is not None or place is None or place >= size:
            return found
        directory = b"".join([piece async for piece in storage.read(name, place, place + contents.DIRECTORY)])
        return await self._threads.run(contents.describe_directory, head, directory)


class Receiving:
    """A content that is being received. Call `write` for its bytes, in order, and then `finish`; or `abort`, which leaves nothing."""

    def __init__(
        self,
        intake: Intake,
        storage: Any,
        name: str,
        allowed: Sequence[str],
        quota: int = 0,
        room: int | None = None,
        owner: Owner = NOBODY,
    ) -> None:
        self.intake = intake
        self.owner = owner
        self.storage = storage
        self.allowed = allowed
        self.stored_name = names.storage_name()
        self.size = 0
        self._quota, self._room = quota, room
        self._declared = names.media_type(name)
        self._head = bytearray()
        self._judged = not allowed
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._upload: Any = storage.begin(self.stored_name)
        self._content: Content | None = None
        self._stored = self._ended = False

    async def write(self, data: bytes) -> None:
        """Appends bytes. Returns when the storage can take more. Raises PayloadTooLarge, InvalidRequest if the type of the content is not
        allowed, and the errors of the storage."""
        self.size += len(data)
        most = self.intake.settings.max_size
        if self.size > most:
            raise PayloadTooLarge(f"A file may have up to {most} bytes (files.max_size).")
        if self._room is not None and self.size > self._room:
            raise quotas.exceeded(self._quota)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
            if not self._judged and len(self._head) >= contents.SNIFFED:
                self._judge()
        self._md5.update(data)
        self._sha256.update(data)
        await self._upload.write(data)

    async def finish(self) -> Content:
        """Stores the content and returns it, each time the same. Raises InvalidRequest if it is empty or its type is not allowed, and the
        errors of the storage."""
        if self._content is not None:
            return self._content
        if not self.size:
            raise InvalidRequest("The file is empty.")
        self._judge()
        await self._upload.finish()
        self._stored = True
        head = bytes(self._head)
        picture = await self.intake.describe(self.storage, self.stored_name, self.size, head)
        md5, sha256 = self._md5.hexdigest(), self._sha256.hexdigest()
        self._content = Content(self.stored_name, self.size, md5, sha256, contents.charset(head), picture)
        return self._content

    async def abort(self) -> None:
        """Deletes what has been stored. Call it also after `finish` if the file is not written. Raises nothing."""
        self.end()
        try:
            if self._stored:
                await self.storage.delete(self.stored_name)
            else:
                await self._upload.abort()
        except Exception as error:
            message = error.message if isinstance(error, ApiError) else str(error)
            log.warn("the content {name} cannot be deleted: {error}", name=self.stored_name, error=message)

    def end(self) -> None:
        """Call this when the content belongs to a file."""
        if not self._ended:
            self._ended = True
            self.intake.leave(self.owner)

    def _judge(self) -> None:
        self._judged = True
        check_type(bytes(self._head), self._declared, self.allowed)


def check_type(head: bytes, declared: str, allowed: Sequence[str]) -> None:
    """Raises InvalidRequest if the content that begins with *head* has a type that is not allowed."""
    kind = contents.content_type(head, declared)
    if not contents.is_allowed(kind, allowed):
        raise InvalidRequest(f'Files with the type of this content, "{kind}", are not allowed (setting file_mimetype_whitelist).')
