"""Thumbnails: each is made when it is first asked for, and kept in the storage of the project until its content is deleted.

The name of a thumbnail in the storage follows from the name of the content, its version and the size, so no database is asked for it. A
content never changes; a file that gets new content has new thumbnails.
"""

import hashlib
import tempfile
from collections import OrderedDict
from contextlib import aclosing
from typing import Any

from attrs import Factory, frozen, mutable
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.config import FileSettings
from directus_tx.errors import ApiError, InvalidPayload, ServiceUnavailable
from directus_tx.files.resizing import ENCODINGS, Encoding, NotResizable, check_pixels, resized
from directus_tx.files.storage.interfaces import FileNotStored, Stored, uploading
from directus_tx.schema.thumbnail_sizes import Size
from directus_tx.threads import Threads

log = Logger()

RECIPE = 1
"""Another number gives thumbnails other names, so that they are made anew. Increase it if the same size is to give another picture."""

PREFIX = "thumbnails/"

MEMORY = 2**20
"""The number of bytes of a picture that are held in memory; the rest of a larger one is in a temporary file."""

REMEMBERED = 1000
"""The number of contents of which no thumbnail can be made that are remembered, so that they are not decoded again."""


@frozen
class Thumbnail:
    """A thumbnail: the name of the content in the storage and its version, the name of the thumbnail, its size and its encoding. `tag` is
    another text if the bytes may be others; it consists of letters and digits."""

    source: str
    version: str
    name: str
    size: Size
    encoding: Encoding
    tag: str


@mutable
class _Making:
    """A thumbnail that is being made, and those who wait for it."""

    waiting: list[Deferred[Stored]] = Factory(list)
    work: Deferred[None] | None = None


def prefix_of(source: str) -> str:
    """Returns the beginning of the names of all thumbnails of a content. There are 256 directories, so that the storage lists few others
    when it looks for them, and has no directory for each content."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:32]
    return f"{PREFIX}{digest[:2]}/{digest}-"


async def remove_thumbnails(storage: Any, source: str) -> None:
    """Deletes the thumbnails of a content, which has been deleted before."""
    names = [each.name async for each in storage.list(prefix_of(source))]
    for name in names:
        await storage.delete(name)


class Thumbnails:
    """Makes thumbnails in threads, which run from `start` to `stop`."""

    def __init__(self, reactor: Any, settings: FileSettings) -> None:
        self.reactor = reactor
        self.settings = settings
        self.made = 0
        """The number of thumbnails that have been made."""
        self._threads = Threads(reactor, "thumbnails", "Too many thumbnails are being made.", threads=settings.thumbnail_threads)
        self._turns = DeferredSemaphore(settings.thumbnail_threads)
        self._making: dict[tuple[str, str], _Making] = {}
        self._unusable: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._stopped = False

    def start(self) -> None:
        self._threads.start()

    async def stop(self) -> None:
        """Gives up what is being made, and waits for the threads."""
        self._stopped = True
        works = [making.work for making in self._making.values() if making.work is not None]
        for work in works:
            work.cancel()
        await DeferredList(works)
        self._threads.stop()

    def plan(
        self, source: str, version: str, media_type: str, size: Size, width: int | None = None, height: int | None = None
    ) -> Thumbnail:
        """Returns the thumbnail with a size of a content. *source* is the name of the content in the storage, *version* a text that is
        another one for other bytes, *media_type* that of the file, *width* and *height* the size of the picture in pixels if it is known.
        Raises InvalidPayload if there are no thumbnails of such files, the size is too large or the picture has too many pixels."""
        encoding = ENCODINGS.get(media_type)
        if encoding is None:
            raise InvalidPayload(f'No thumbnails are made of files of the type "{media_type}".')
        most = self.settings.max_thumbnail_side
        if max(size.width, size.height) > most:
            raise InvalidPayload(f"A thumbnail may be up to {most} pixels wide and high (files.max_thumbnail_side).")
        try:
            check_pixels(width, height, self.settings.max_pixels)
        except NotResizable as error:
            raise InvalidPayload(str(error)) from None
        shape = f"{size.width}x{size.height}-{size.fit}-{size.quality}"
        tag = hashlib.sha256(f"{RECIPE} {version} {shape} {encoding.name}".encode()).hexdigest()[:32]
        return Thumbnail(source, version, f"{prefix_of(source)}{shape}-{tag[:12]}{encoding.extension}", size, encoding, tag)

    async def provide(self, project: str, storage: Any, thumbnail: Thumbnail) -> Stored:
        """Returns a thumbnail in the storage of a project, which is made if there is none. Whoever asks meanwhile waits for the same.

        Raises InvalidPayload if none can be made of the content, ServiceUnavailable if too many are being made or it takes too long,
        FileNotStored if there is no content, and the errors of the storage.
        """
        found: Stored | None = await storage.describe(thumbnail.name)
        if found is not None:
            return found
        unusable = self._unusable.get((project, thumbnail.source, thumbnail.version))
        if unusable is not None:
            raise InvalidPayload(unusable)
        key = (project, thumbnail.name)
        making = self._making.get(key)
        if making is None:
            making = self._begin(key)
            waiter = self._waiter(making)
            making.work = Deferred.fromCoroutine(self._work(key, making, storage, thumbnail))
        else:
            waiter = self._waiter(making)
        return await waiter

    def _begin(self, key: tuple[str, str]) -> _Making:
        if self._stopped:
            raise ServiceUnavailable("The server is stopping.")
        if len(self._making) >= self.settings.max_thumbnails:
            raise ServiceUnavailable(
                f"The server makes {len(self._making)} thumbnails already (files.max_thumbnails); try again shortly.",
                headers={"Retry-After": "5"},
            )
        making = self._making[key] = _Making()
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
            async with self._turns:
                result = await self._make(key[0], storage, thumbnail)
        except CancelledError:
            result = _failure(ServiceUnavailable("The server is stopping."))
        except Exception as error:
            result = _failure(error)
            if not isinstance(error, ApiError):
                log.failure("the thumbnail {name} cannot be made", failure=result, name=thumbnail.name)
        del self._making[key]
        for waiter in making.waiting:
            if waiter.called:
                continue
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)

    async def _make(self, project: str, storage: Any, thumbnail: Thumbnail) -> Stored:
        data = await self._resized(project, storage, thumbnail)
        async with uploading(storage, thumbnail.name) as upload:
            await upload.write(data)
            stored: Stored = await upload.finish()
        self.made += 1
        # The content is deleted before its thumbnails are. So either this finds it missing, or the thumbnail is found by who deletes it.
        if await storage.describe(thumbnail.source) is None:
            await storage.delete(thumbnail.name)
            raise FileNotStored("The content of the file is missing.")
        return stored

    async def _resized(self, project: str, storage: Any, thumbnail: Thumbnail) -> bytes:
        most = self.settings.max_picture_size
        with tempfile.SpooledTemporaryFile(MEMORY) as source:
            try:
                async with aclosing(storage.read(thumbnail.source, 0, most + 1)) as pieces:
                    async for piece in pieces:
                        source.write(piece)
                if source.tell() > most:
                    raise NotResizable(f"The picture has more than {most} bytes (files.max_picture_size).")
                source.seek(0)
                return await self._threads.run(resized, source, thumbnail.size, thumbnail.encoding, self.settings.max_pixels)
            except NotResizable as error:
                self._unusable[project, thumbnail.source, thumbnail.version] = str(error)
                while len(self._unusable) > REMEMBERED:
                    self._unusable.popitem(last=False)
                raise InvalidPayload(str(error)) from None
            except OSError as error:
                log.error("a temporary file for a thumbnail cannot be used: {error}", error=error)
                raise ServiceUnavailable("The thumbnail cannot be made now; see the server's log.") from None


def _failure(error: Exception) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]


def _too_slow(failure: Any, seconds: float) -> Any:
    """Raises ServiceUnavailable for a waiter whose time is over."""
    raise ServiceUnavailable(
        f"The thumbnail has not been made in {seconds:g} seconds (files.thumbnail_timeout); try again later.",
        headers={"Retry-After": "10"},
    )
