"""Thumbnails: each is made when it is first asked for, and kept in the storage of the project until its content is deleted.

The name of a thumbnail in the storage follows from the name of the content, its version and the size, so no database is asked for it. A
content never changes; a file that gets new content has new thumbnails. The processes of a server that share a data directory make each
once.
"""

import fcntl
import hashlib
import os
import pathlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import aclosing, asynccontextmanager
from itertools import chain, repeat
from typing import Any

from attrs import Factory, frozen, mutable
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.config import FileSettings
from directus_tx.db.callers import Caller
from directus_tx.db.connection import pause
from directus_tx.errors import ApiError, InvalidPayload, ServiceUnavailable
from directus_tx.files.decoding import PROGRAM, Decoder, Decoders, OrderFailed
from directus_tx.files.details import Details
from directus_tx.files.encodings import Encoding, NotEncodable, choose
from directus_tx.files.fairness import AdmissionLimit, Permit
from directus_tx.files.focus import CENTRE, Focus
from directus_tx.files.resizing import NotResizable, check_pixels
from directus_tx.files.storage.interfaces import FileNotStored, Stored, uploading
from directus_tx.schema.thumbnail_sizes import CROP, Size

log = Logger()

RECIPE = 2
"""Another number gives thumbnails other names, so that they are made anew. Increase it if the same size is to give another picture."""

PREFIX = "thumbnails/"

LOCK = "thumbnails.lock"
"""The name of the file in the data directory by which the processes of a server agree who makes a thumbnail."""

LOCK_PAUSES = (0.02, 0.05, 0.1, 0.25)
"""Seconds between attempts to lock a thumbnail that another process makes. The last one is used for all further attempts."""

REMEMBERED = 1000
"""The number of contents, or contents and formats, of which no thumbnail can be made that are remembered, so that they are not decoded
again."""


@frozen
class Thumbnail:
    """A thumbnail: the name of the content in the storage and its version, the name of the thumbnail, its size, its encoding, and the point
    of the picture that is in its middle. `tag` is another text if the bytes may be others; it consists of letters and digits."""

    source: str
    version: str
    name: str
    size: Size
    encoding: Encoding
    focus: Focus
    tag: str


@frozen
class _Refusal:
    """Why no thumbnail can be made that has *pixels* pixels or more."""

    reason: str
    pixels: int = 0


@mutable
class _Making:
    """A thumbnail that is being made for a caller, its permit, and those who wait for it."""

    caller: Caller
    permit: Permit
    waiting: list[Deferred[Stored]] = Factory(list)
    work: Deferred[None] | None = None


def prefix_of(source: str) -> str:
    """Returns the beginning of the names of all thumbnails of a content. There are 256 directories, so that the storage lists few others
    when it looks for them, and has no directory for each content."""
    digest = digest_of(source)
    return f"{PREFIX}{digest[:2]}/{digest}-"


def digest_of(source: str) -> str:
    """Returns the part of the names of thumbnails that stands for their content: 32 hexadecimal digits."""
    return hashlib.sha256(source.encode()).hexdigest()[:32]


def digest_in(name: str) -> str | None:
    """Returns the digest in the name of a thumbnail. None if it is not the name of one."""
    found = _DIGEST.match(name)
    return None if found is None else found[1]


_DIGEST = re.compile(PREFIX + r"[0-9a-f]{2}/([0-9a-f]{32})-")


async def remove_thumbnails(storage: Any, source: str) -> None:
    """Deletes the thumbnails of a content, which has been deleted before."""
    names = [each.name async for each in storage.list(prefix_of(source))]
    for name in names:
        await storage.delete(name)


async def remove_crops(storage: Any, source: str, focus: Focus) -> None:
    """Deletes the crops of a content around another point than *focus*."""
    kept = f"{_place(focus)}-"
    crops = [(each.name, found[1]) async for each in storage.list(prefix_of(source)) if (found := _CROP.search(each.name))]
    for name, place in crops:
        if place != kept:
            await storage.delete(name)


def _place(focus: Focus) -> str:
    """Returns the part of the name of a thumbnail that tells the point around which it is cut. Empty for the middle."""
    return "" if focus == CENTRE else "-at-{}-{}".format(*(round(part * 1000) for part in focus))


_CROP = re.compile(r"-crop-\d+((?:-at-\d+-\d+)?-)")


class Locks:
    """Locks on names that processes of a server share by the file at *path*. If a process ends, the system releases its locks. A process
    must have one object for a file, and ask for a name once at a time: its own locks do not exclude each other."""

    def __init__(self, reactor: Any, path: pathlib.Path) -> None:
        self.reactor = reactor
        self.path = path
        self._descriptor = -1

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """A context with the lock on a name. Waits for other processes. Without locks if the file cannot be used: then two processes may do
        the same work, which harms nothing."""
        position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
        pauses = chain(LOCK_PAUSES, repeat(LOCK_PAUSES[-1]))
        while not self._lock(position):
            await pause(self.reactor, next(pauses))
        try:
            yield
        finally:
            if self._descriptor >= 0:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, position)

    def _lock(self, position: int) -> bool:
        """Tries to lock one byte of the file, which need not exist. Returns whether the caller may go on."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
        except (BlockingIOError, PermissionError):
            return self._descriptor < 0
        except OSError as error:
            log.warn(
                "{path} cannot be locked, so several processes may make the same thumbnail: {error}", path=self.path, error=error
            )
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Thumbnails:
    """Makes thumbnails in processes, which run from the first thumbnail to `stop`. *directory* is the data directory."""

    def __init__(self, reactor: Any, settings: FileSettings, directory: pathlib.Path, program: str = PROGRAM) -> None:
        self.reactor = reactor
        self.settings = settings
        self.made = 0
        """The number of thumbnails that have been made."""
        self.decoders = Decoders(reactor, settings, program)
        self.details = Details(settings, self.decoders)
        self._locks = Locks(reactor, directory / LOCK)
        self._making: dict[tuple[str, str], _Making] = {}
        self._admitted = AdmissionLimit()
        self._refusals: OrderedDict[Hashable, _Refusal] = OrderedDict()
        self._stopped = False

    async def stop(self) -> None:
        """Gives up what is being made, and waits until the processes have ended."""
        self._stopped = True
        works = [making.work for making in self._making.values() if making.work is not None]
        for work in works:
            work.cancel()
        await DeferredList(works)
        await self.decoders.stop()
        self._locks.close()

    def plan(
        self,
        source: str,
        version: str,
        media_type: str,
        size: Size,
        width: int | None = None,
        height: int | None = None,
        *,
        focus: Focus = CENTRE,
        accept: str = "",
    ) -> Thumbnail:
        """Returns the thumbnail with a size of a content. *source* is the name of the content in the storage, *version* a text that is
        another one for other bytes, *media_type* that of the file, *width* and *height* the size of the picture in pixels if it is known,
        *focus* the focal point, and *accept* the header Accept of the client. Raises InvalidPayload if there are no thumbnails of such
        files, the size is too large or the picture has too many pixels."""
        most = self.settings.max_thumbnail_side
        if max(size.width, size.height) > most:
            raise InvalidPayload(f"A thumbnail may be up to {most} pixels wide and high (files.max_thumbnail_side).")
        try:
            encoding = choose(media_type, size.format, accept)
            check_pixels(width, height, self.settings.max_pixels)
        except (NotEncodable, NotResizable) as error:
            raise InvalidPayload(str(error)) from None
        point = focus if size.fit == CROP else CENTRE
        shape = f"{size.width}x{size.height}-{size.fit}-{size.quality}{_place(point)}"
        tag = hashlib.sha256(f"{RECIPE} {version} {shape} {encoding.name}".encode()).hexdigest()[:32]
        name = f"{prefix_of(source)}{shape}-{tag[:12]}{encoding.extension}"
        return Thumbnail(source, version, name, size, encoding, point, tag)

    async def provide(self, project: str, storage: Any, thumbnail: Thumbnail, caller: Caller = None) -> Stored:
        """Returns a thumbnail in the storage of a project, which is made for *caller* if there is none. Whoever asks meanwhile waits for
        the same.

        Raises InvalidPayload if none can be made of the content, ServiceUnavailable if too many are being made or it takes too long,
        FileNotStored if there is no content, and the errors of the storage.
        """
        found: Stored | None = await storage.describe(thumbnail.name)
        if found is not None:
            return found
        for refused in self._keys(project, thumbnail):
            refusal = self._refusals.get(refused)
            if refusal is not None and _pixels(thumbnail) >= refusal.pixels:
                raise InvalidPayload(refusal.reason)
        key = (project, thumbnail.name)
        making = self._making.get(key)
        if making is None:
            making = self._begin(key, caller)
            waiter = self._waiter(making)
            making.work = Deferred.fromCoroutine(self._work(key, making, storage, thumbnail))
        else:
            making.permit.join(project, caller)
            waiter = self._waiter(making)
        return await waiter

    def _begin(self, key: tuple[str, str], caller: Caller) -> _Making:
        if self._stopped:
            raise ServiceUnavailable("The server is stopping.")
        project = key[0]
        what = f"The server makes {len(self._admitted)} thumbnails already (files.max_thumbnails)"
        self._admitted.enter(self.settings.max_thumbnails, project, caller, what)
        making = self._making[key] = _Making(caller, self.decoders.semaphore.ask(project, caller))
        return making

    def _waiter(self, making: _Making) -> "Deferred[Stored]":
        """Returns a Deferred that fires when the thumbnail has been made. If it is cancelled, the thumbnail is made nevertheless."""
        waiter: Deferred[Stored] = Deferred()
        making.waiting.append(waiter)
        limit = self.settings.thumbnail_timeout
        return waiter.addTimeout(limit, self.reactor, lambda failure, _: _too_slow(failure, limit))

    async def _work(self, key: tuple[str, str], making: _Making, storage: Any, thumbnail: Thumbnail) -> None:
        """Makes a thumbnail and tells those who wait for it."""
        result: Stored | Failure
        try:
            async with self._locks.hold(" ".join(key)):
                # Another process may have made it meanwhile.
                result = await storage.describe(thumbnail.name) or await self._make(key[0], making.permit, storage, thumbnail)
        except CancelledError:
            result = _failure(ServiceUnavailable("The server is stopping."))
        except NotResizable as error:
            self._remember(key[0], thumbnail, error)
            result = _failure(InvalidPayload(str(error)))
        except Exception as error:
            result = _failure(error)
            if not isinstance(error, ApiError):
                log.failure("the thumbnail {name} cannot be made", failure=result, name=thumbnail.name)
        del self._making[key]
        self._admitted.leave(key[0], making.caller)
        for waiter in making.waiting:
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)

    def _keys(self, project: str, thumbnail: Thumbnail) -> tuple[Hashable, Hashable]:
        """Returns the keys of the refusals of all thumbnails of a content, and of those in a format."""
        content = project, thumbnail.source, thumbnail.version
        return content, (*content, thumbnail.encoding.name)

    def _remember(self, project: str, thumbnail: Thumbnail, error: NotResizable) -> None:
        """Remembers why no thumbnail can be made of a content. If that may depend on the size and the format, which anybody may choose, it
        holds for those in this format that are not much smaller: whoever asks for too large ones keeps nobody from smaller ones, and
        cannot have the server try all sizes."""
        content, in_format = self._keys(project, thumbnail)
        if isinstance(error, OrderFailed):
            key, refusal = in_format, _Refusal(str(error), _pixels(thumbnail) // 2)
        else:
            key, refusal = content, _Refusal(str(error))
        former = self._refusals.get(key)
        if former is None or refusal.pixels < former.pixels:
            self._refusals[key] = refusal
        while len(self._refusals) > REMEMBERED:
            self._refusals.popitem(last=False)

    async def _make(self, project: str, permit: Permit, storage: Any, thumbnail: Thumbnail) -> Stored:

        async def work(decoder: Decoder) -> Stored:
            size = await self._resized(decoder, storage, thumbnail)
            async with uploading(storage, thumbnail.name) as upload:
                for piece in decoder.result(size):
                    await upload.write(piece)
                found: Stored = await upload.finish()
                return found

        try:
            stored = await self.decoders.decode(permit, work)
        except OSError as error:
            log.error("a process or a temporary file for a thumbnail cannot be used: {error}", error=error)
            raise ServiceUnavailable("The thumbnail cannot be made now; see the server's log.") from None
        self.made += 1
        log.info("the thumbnail {name} of the project {project} has been made", name=thumbnail.name, project=project)
        # The content is deleted before its thumbnails are. So either this finds it missing, or the thumbnail is found by who deletes it.
        if await storage.describe(thumbnail.source) is None:
            await storage.delete(thumbnail.name)
            raise FileNotStored("The content of the file is missing.")
        return stored

    async def _resized(self, decoder: Decoder, storage: Any, thumbnail: Thumbnail) -> int:
        """Makes a thumbnail. Returns the number of its bytes, which the process has. Raises NotResizable."""
        most, size = self.settings.max_picture_size, thumbnail.size
        length = 0
        async with aclosing(storage.read(thumbnail.source, 0, most + 1)) as pieces:
            async for piece in pieces:
                decoder.fill(piece)
                length += len(piece)
        if length > most:
            raise NotResizable(f"The picture has more than {most} bytes (files.max_picture_size).")
        order = {
            "width": size.width,
            "height": size.height,
            "fit": size.fit,
            "quality": size.quality,
            "encoding": thumbnail.encoding.name,
            "focus": thumbnail.focus,
            "pixels": self.settings.max_pixels,
        }
        return await decoder.run(order)


def _pixels(thumbnail: Thumbnail) -> int:
    return thumbnail.size.width * thumbnail.size.height


def _failure(error: Exception) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]


def _too_slow(failure: Any, seconds: float) -> Any:
    """Raises ServiceUnavailable for a waiter whose time is over."""
    raise ServiceUnavailable(
        f"The thumbnail has not been made in {seconds:g} seconds (files.thumbnail_timeout); try again later.",
        headers={"Retry-After": "10"},
    )
