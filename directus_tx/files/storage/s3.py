"""Files in a bucket of Amazon S3, or of another server that has its protocol.

An upload is collected in a temporary file and sent to the bucket when it is complete: so a slow client keeps no connection to the bucket
open, a part can be sent again, and an upload that is aborted has sent nothing. A file is read in windows, each with a request of its own,
so that here a slow client keeps no connection open either.
"""

import base64
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store
from twisted.logger import Logger
from zope.interface import implementer

from directus_tx.errors import ServiceUnavailable, StorageFull
from directus_tx.files.storage.disk import SpooledUpload, reporting
from directus_tx.files.storage.interfaces import (
    PIECE,
    FileNotStored,
    FileReplaced,
    IDirectUploads,
    IFileStorage,
    Stored,
    UploadRequest,
    check_name,
    is_name,
)
from directus_tx.files.storage.presigning import presigned_upload, presigned_url
from directus_tx.files.storage.settings import S3Settings
from directus_tx.threads import Threads

T = TypeVar("T")
log = Logger()

WINDOW = 16 * PIECE
"""The bytes that are read with one request."""

PART = 8 * 2**20
"""The least size of the parts of a large file, in bytes. S3 requires 5 MiB."""

MAX_PARTS = 9000
"""The maximum number of parts of a file. S3 allows 10000."""

PARTS_AT_ONCE = 3
ATTEMPTS = 3
PAUSE = 0.2
"""Seconds before a request is made again whose connection has broken."""

LISTED_AT_ONCE = 500
_CLIENT = {"timeout": "60s", "connect_timeout": "5s", "pool_idle_timeout": "30s"}
_RETRIES: Any = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}


@implementer(IFileStorage, IDirectUploads)
class S3Storage:
    """The objects in a bucket whose keys begin with a prefix. Requests are made in *threads*, files are sent in threads of *sending*, and
    uploads are collected on disk in threads of *spooling*. Raises ValueError if the settings cannot be used."""

    adapter = "s3"
    max_direct_size = 5 * 2**30

    def __init__(self, settings: S3Settings, threads: Threads, sending: Threads, spooling: Threads) -> None:
        self.settings = settings
        self.threads = threads
        self.sending = sending
        self.spooling = spooling
        client: Any = dict(_CLIENT)
        if settings.ca:
            client["root_certificate"] = settings.ca
        if settings.endpoint.startswith("http://"):
            client["allow_http"] = True
        more: dict[str, Any] = {}
        if settings.key:
            more |= {"access_key_id": settings.key, "secret_access_key": settings.secret}
        if settings.endpoint:
            more["endpoint"] = settings.base if settings.virtual else settings.endpoint.rstrip("/")
        try:
            self.store = S3Store(
                settings.bucket,
                prefix=settings.prefix,
                region=settings.region,
                virtual_hosted_style_request=settings.virtual,
                # Not all servers have the request that deletes several objects.
                disable_bulk_delete=True,
                client_options=client,
                retry_config=_RETRIES,
                **more,
            )
        except BaseError as error:
            raise ValueError(f"storage: {_first_line(error)}") from error

    def begin(self, name: str) -> "S3Upload":
        return S3Upload(self, check_name(name))

    async def read(
        self, name: str, start: int = 0, end: int | None = None, *, version: str | None = None
    ) -> AsyncIterator[bytes]:
        check_name(name)
        position = max(start, 0)
        tag = None if version is None else f'"{version}"'
        run: Callable[..., Any] = self.threads.run
        while True:
            stop = position + WINDOW if end is None else min(position + WINDOW, end)
            data, size, tag = await run(_reporting, self._window, name, position, stop, tag)
            for offset in range(0, len(data), PIECE):
                yield data[offset : offset + PIECE]
            position += len(data)
            if not data or position >= (size if end is None else min(size, end)):
                return
            run = self.threads.go_on

    async def describe(self, name: str) -> Stored | None:
        check_name(name)
        try:
            return await self.threads.run(_reporting, self._head, name)
        except FileNotStored:
            return None

    async def delete(self, name: str) -> None:
        await self.threads.run(_reporting, self._delete, check_name(name))

    async def rename(self, name: str, new_name: str) -> None:
        await self.threads.run(_reporting, self._rename, check_name(name), check_name(new_name))

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        directory = prefix.rpartition("/")[0]
        if directory and not is_name(directory):
            return
        files = self._listed(directory, prefix)
        batch = await self.threads.run(_reporting, _next_batch, files)
        while batch is not None:
            for each in batch:
                yield each
            batch = await self.threads.go_on(_reporting, _next_batch, files)

    async def signed_url(
        self, name: str, seconds: int, *, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        """As the interface says. None if the credentials are not in the settings."""
        check_name(name)
        if not self.settings.key:
            return None
        headers = {"response-content-type": content_type, "response-content-disposition": disposition}
        given = {header: value for header, value in headers.items() if value is not None}
        return presigned_url(self.settings, f"{self.settings.prefix}/{name}", datetime.now(UTC), seconds, given)

    async def signed_upload(
        self, name: str, seconds: int, size: int, content_type: str, sha256: str | None = None
    ) -> UploadRequest | None:
        """As the interface says. None if the credentials are not in the settings."""
        check_name(name)
        if not self.settings.key:
            return None
        headers = {"content-type": content_type}
        if sha256 is not None:
            headers["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        signed = headers | {"content-length": str(size)}
        key = f"{self.settings.prefix}/{name}"
        # Browsers set Content-Length themselves, and do not let pages do so.
        return UploadRequest("PUT", presigned_upload(self.settings, key, datetime.now(UTC), seconds, signed), headers)

    async def close(self) -> None:
        """Does nothing: idle connections are closed in time."""

    # in threads

    def _head(self, name: str) -> Stored:
        return _stored(name, _tried(obstore.head, self.store, name))

    def _window(self, name: str, start: int, stop: int, tag: str | None) -> tuple[bytes, int, str | None]:
        """Returns bytes of a file, its size, and its entity tag. Raises FileReplaced if that is not *tag*, unless it is None."""
        if start < stop:
            options: Any = {"range": (start, stop)} | ({} if tag is None else {"if_match": tag})
            try:
                return _tried(_got, self.store, name, options)
            except BaseError as error:
                if _status(error) != 416:
                    raise
        # The range is empty, or behind the end of the file.
        meta = _tried(obstore.head, self.store, name)
        if tag is not None and meta["e_tag"] != tag:
            raise FileReplaced("The file has been replaced; try again.")
        return b"", meta["size"], meta["e_tag"]

    def _delete(self, name: str) -> None:
        try:
            _tried(obstore.delete, self.store, name)
        except FileNotFoundError:
            pass

    def _rename(self, name: str, new_name: str) -> None:
        _tried(obstore.head, self.store, name)
        if name != new_name:
            _tried(obstore.copy, self.store, name, new_name)
            self._delete(name)

    def _listed(self, directory: str, prefix: str) -> "Iterator[Sequence[Stored]]":
        for batch in obstore.list(self.store, prefix=directory or None, chunk_size=LISTED_AT_ONCE):
            found = [(each["path"], each) for each in batch]
            yield [_stored(name, each) for name, each in found if name.startswith(prefix) and is_name(name)]


class S3Upload(SpooledUpload):
    """A file that is being stored in a bucket."""

    def __init__(self, storage: S3Storage, name: str) -> None:
        super().__init__(name, str(storage.settings.spool), storage.spooling, storage.sending)
        self._storage = storage

    def _place(self) -> Stored:
        return _reporting(self._send)

    def _send(self) -> Stored:
        size = os.fstat(self._descriptor).st_size
        part = max(PART, size // MAX_PARTS + 1)
        store = self._storage.store

        def put() -> Any:
            with open(self._temporary, "rb") as file:
                return obstore.put(
                    store, self.name, file, use_multipart=size > part, chunk_size=part, max_concurrency=PARTS_AT_ONCE
                )

        try:
            sent = _tried(put)
        except FileNotFoundError as error:
            # There is no bucket.
            raise ServiceUnavailable("The storage of files cannot be used; see the server's log.") from _told(error)
        self._named = True
        meta = _tried(obstore.head, store, self.name)
        return _stored(self.name, meta | {"e_tag": sent["e_tag"] or meta["e_tag"]})

    def _unplace(self) -> None:
        _reporting(self._storage._delete, self.name)


def _got(store: S3Store, name: str, options: Any) -> tuple[bytes, int, str | None]:
    found = obstore.get(store, name, options=options)
    return bytes(found.bytes()), found.meta["size"], found.meta["e_tag"]


def _tried(request: Callable[..., T], *arguments: Any) -> T:
    """Returns what *request* returns, and makes it again if the connection breaks. `obstore` makes requests again that have been answered
    with a status of 500 or more, but not all whose connection breaks. None that are made here do harm if they are made twice."""
    for left in reversed(range(ATTEMPTS)):
        try:
            return request(*arguments)
        except BaseError as error:
            if not left or not _is_broken_connection(error):
                raise
            time.sleep(PAUSE)
    raise AssertionError


def _is_broken_connection(error: BaseError) -> bool:
    text = _first_line(error)
    return "HTTP error: " in text and " retries, max_retries: " not in text


def _stored(name: str, meta: Any) -> Stored:
    modified: datetime = meta["last_modified"].astimezone(UTC).replace(microsecond=0)
    tag = meta["e_tag"]
    return Stored(name, meta["size"], modified, tag.strip('"') if tag else f"{int(modified.timestamp()):x}-{meta['size']:x}")


def _next_batch(files: Iterator[Sequence[Stored]]) -> Sequence[Stored] | None:
    return next(files, None)


def _reporting(work: Callable[..., T], *arguments: Any) -> T:
    """Returns what *work* returns. Raises the errors of the interface for those of `obstore`, which are logged and name no address."""
    try:
        found: T = reporting(_mapped, work, *arguments)
        return found
    except BaseError as error:
        if _status(error) == 507:
            raise StorageFull("There is no room for the file.") from error
        raise ServiceUnavailable("The storage of files cannot be used; see the server's log.") from _told(error)


def _mapped(work: Callable[..., T], *arguments: Any) -> T:
    try:
        return work(*arguments)
    except FileNotFoundError as error:
        raise FileNotStored from error
    except PreconditionError as error:
        raise FileReplaced("The file has been replaced; try again.") from error


def _told(error: Exception) -> Exception:
    log.error("the storage of files cannot be used: {error}", error=_first_line(error))
    return error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:500]


def _status(error: BaseError) -> int:
    """Returns the HTTP status in the message of an error, 0 if it has none."""
    status = str(error).partition("non-2xx status code: ")[2][:3]
    return int(status) if status.isdigit() else 0
