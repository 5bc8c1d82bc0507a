"""Uploads that clients may interrupt and continue: takes the bytes of a request into the storage, and makes the file of all bytes.

The bytes are stored as parts of PART bytes at most, files of their own in the storage of the project. A part counts when it is durable and
in the table; so the offset that a client is told is never more than what survives a crash, on any storage, and every process of a server
can continue an upload. When all bytes are there, the parts are read into the content of the file, which is hashed and looked into like that
of any other upload. The last part only counts together with the file: if the offset is the size, the file exists.

Buckets have multipart uploads of their own. They are not used for this: the library that makes the requests cannot continue one in
another process, and signing such requests here would not work with the credentials of a machine. Parts that are objects can be listed and
checked like all others.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from directus_tx.db.session import Session
from directus_tx.errors import ApiError, ClientGone, InvalidRequest, PayloadTooLarge, ServiceUnavailable, WrongChecksum
from directus_tx.files import content as contents
from directus_tx.files import names, uploads
from directus_tx.files.fairness import NOBODY, Owner
from directus_tx.files.intake import Intake, check_type
from directus_tx.files.storage.interfaces import FileNotStored
from directus_tx.files.uploads import Part, Upload
from directus_tx.outgoing.bodies import Take

log = Logger()

PART = 8 * 2**20
"""The maximum number of bytes of a part, and so of those that a client has to send again after a crash. Buckets take as many with one
request."""

_PASSING = (408, 409, 423, 429)
"""The statuses of errors, beside those from 500 on, after which a client may try again to have the file made."""


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Addition:
    """The bytes that a request adds to an upload, from its offset on. *size* is that of the upload, None if it is unknown. *name* and
    *allowed* are those of `Intake.begin`, *limit* is the quota of the project. With a *checksum*, a hash and its expected digest, all bytes
    of the request are taken, or none. *location* is the URL of the upload if the request has created it. *session* is not the one of the
    endpoint: what is written here is no part of what the request commits."""

    def __init__(
        self,
        intake: Intake,
        storage: Any,
        session: Session,
        upload: Upload,
        writer: str,
        size: int | None,
        *,
        name: str,
        allowed: Sequence[str],
        limit: int,
        expires_on: datetime,
        checksum: tuple[Hash, bytes] | None = None,
        location: str | None = None,
        owner: Owner = NOBODY,
    ) -> None:
        self.intake = intake
        self.owner = owner
        self.storage = storage
        self.session = session
        self.upload = upload
        self.writer = writer
        self.size = size
        self.name = name
        self.allowed = allowed
        self.limit = limit
        self.expires_on = expires_on
        self.checksum = checksum
        self.location = location
        self.offset = upload.offset
        """The number of bytes of the upload that count, and of those behind them that `last` has."""
        self.last: Part | None = None
        """The part with the last bytes, which is durable, but not in the table."""
        self.failure: ApiError | None = None
        """The error because of which the upload cannot be completed, by whatever request."""
        self._received = self._held = False
        self._head = bytearray()
        self._judged = not allowed or upload.offset > 0
        self._writing: Any = None
        self._writing_name = ""
        self._start = upload.offset
        self._position = upload.offset

    @property
    def complete(self) -> bool:
        """Whether all bytes of the upload are there."""
        return self.offset == self.size

    async def receive(self, read: Callable[[], Awaitable[bytes]]) -> None:
        """Takes the bytes that *read* returns, b"" at their end. Later calls do nothing. Raises ClientGone, after what has arrived has been
        kept; PayloadTooLarge, WrongChecksum, InvalidRequest if the type of the content is not allowed; the errors of the storage; and those
        of `uploads.add_part`."""
        if self._received:
            return
        self._received = True
        self.intake.enter(self.owner)
        try:
            await self._receive(read)
        except InvalidRequest as error:
            self.failure = error
            raise
        finally:
            self.intake.leave(self.owner)
            await self._discard()

    async def _receive(self, read: Callable[[], Awaitable[bytes]]) -> None:
        try:
            while data := await read():
                await self._take(data)
        except ClientGone:
            if self.checksum is None and self._position != self.size:
                await self._end_part()
            raise
        if self.checksum is not None and self.checksum[0].digest() != self.checksum[1]:
            raise WrongChecksum
        await self._end_part()

    async def _take(self, data: bytes) -> None:
        most = self.intake.settings.max_size if self.size is None else self.size
        if self._position + len(data) > most:
            if self.size is None:
                raise PayloadTooLarge(f"A file may have up to {most} bytes (files.max_size).")
            raise PayloadTooLarge(f"The upload has {most} bytes (Upload-Length); the request has more.")
        if self.checksum is not None:
            self.checksum[0].update(data)
        self._look_at(data)
        while data:
            left = len(data) if self.checksum is not None else PART - (self._position - self._start)
            piece, data = data[:left], data[left:]
            if self._writing is None:
                self._writing_name = uploads.part_name(self.upload.id)
                self._writing = self.storage.begin(self._writing_name)
            await self._writing.write(piece)
            self._position += len(piece)
            if self.checksum is None and self._position - self._start == PART:
                await self._end_part()

    def _look_at(self, data: bytes) -> None:
        """Refuses a content whose type is not allowed as soon as its first bytes tell."""
        if self._judged:
            return
        self._head += data
        if len(self._head) >= contents.SNIFFED:
            self._judged = True
            check_type(bytes(self._head), names.media_type(self.name), self.allowed)

    async def _end_part(self) -> None:
        """Makes the bytes of the present part durable, and has them count, unless they are the last ones of the upload."""
        if self._writing is None:
            return
        await self._writing.finish()
        self._writing = None
        part = Part(self._start, self._position - self._start, self._writing_name)
        if part.end == self.size:
            self.last = part
        else:
            try:
                await uploads.add_part(self.session, self.upload.id, self.writer, part, self.expires_on, self.limit)
            except ServiceUnavailable:
                # Nobody knows whether it counts. If not, it is deleted with the upload.
                raise
            except ApiError:
                await self._delete(part.name)
                raise
        self._start = self.offset = part.end

    async def _discard(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing.abort()

    async def _delete(self, name: str) -> None:
        try:
            await self.storage.delete(name)
        except ApiError as error:
            log.warn("a part of an upload cannot be deleted: {error}", error=error.message)

    async def send(self, take: Take) -> None:
        """Passes all bytes of the upload to *take*, in pieces. Raises the errors of the storage and of *take*, and InvalidRequest if a part
        is missing."""
        parts = [*await uploads.parts_of(self.session, self.upload.id), *([self.last] if self.last is not None else [])]
        position = 0
        for part in parts:
            if part.start != position:
                break
            try:
                async with contextlib.aclosing(self.storage.read(part.name, 0, part.size)) as pieces:
                    async for piece in pieces:
                        await take(piece)
                        position += len(piece)
            except FileNotStored:
                break
            if position != part.end:
                break
        if position != self.size:
            raise InvalidRequest("The storage has lost a part of the upload.")

    @contextlib.asynccontextmanager
    async def completing(self, reactor: Any) -> AsyncIterator[None]:
        """A context in which the file is made, by this request alone."""
        if self.failure is not None:
            raise self.failure
        await uploads.hold(self.session, self.upload.id, self.writer)
        self._held = True
        renewing = LoopingCall(lambda: Deferred.fromCoroutine(self._renew()))
        renewing.clock = reactor
        renewing.start(uploads.HOLD / 4, now=False)
        try:
            yield
        except ApiError as error:
            if error.status < 500 and error.status not in _PASSING:
                self.failure = error
            raise
        finally:
            renewing.stop()

    async def _renew(self) -> None:
        # If another request has become the writer, the transaction that writes the file fails.
        with _logged("an upload cannot be locked"):
            await uploads.hold(self.session, self.upload.id, self.writer)

    async def finish(self) -> None:
        """Deletes the parts, after the file has been written. Raises nothing."""
        with _logged("the parts of an upload cannot be removed"):
            await uploads.remove_parts(self.session, self.storage, self.upload.id)

    async def abandon(self, *, kept: bool) -> None:
        """Call this when the request has failed. After a `failure` the upload is removed, because no later request could complete it; also
        one that the request has created, because the client does not know it. Otherwise the part that does not count is deleted, unless
        it is to be *kept* because nobody knows whether the file has been written. Raises nothing."""
        if self.failure is not None or self.location is not None:
            with _logged("an upload that was refused cannot be removed"):
                await uploads.end(self.session, self.storage, self.upload.id)
            return
        if self.last is not None and not kept:
            await self._delete(self.last.name)
        if self._held:
            with _logged("an upload cannot be unlocked"):
                await uploads.release(self.session, self.upload.id, self.writer)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """A context whose ApiError is logged. The job that removes expired uploads tries again."""
    try:
        yield
    except ApiError as error:
        log.warn("{what}: {error}", what=what, error=error.message)
