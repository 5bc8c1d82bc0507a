"""Files and directories on disk, and uploads that are collected in a temporary file.

All functions block: they are called in threads.
"""

import contextlib
import errno
import os
import pathlib
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from twisted.logger import Logger
from zope.interface import implementer

from directus_tx import private_files
from directus_tx.errors import ApiError, ServiceUnavailable, StorageFull
from directus_tx.files.storage.interfaces import PIECE, IUpload, Stored
from directus_tx.threads import Threads

T = TypeVar("T")
log = Logger()

BUFFER = 2 * PIECE
"""The bytes of an upload that are collected in memory and written at once."""

STALE = 24 * 3600.0
"""Seconds after which an upload that nothing was written to is the rest of a process that was killed."""

UPLOADS = ".uploads"
"""The directory of unfinished uploads, in the root."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@implementer(IUpload)
class SpooledUpload:
    """A file that is being stored, whose bytes are collected in a temporary file below *root*. They are written in *threads*; `_place`
    is called in a thread of *placing*. If a call is cancelled, its thread goes on until its work is done; that of `abort` waits for it."""

    def __init__(self, name: str, root: str, threads: Threads, placing: Threads) -> None:
        self.name = name
        self._root = root
        self._threads = threads
        self._placing = placing
        self._temporary = f"{root}/{UPLOADS}/{secrets.token_hex(16)}.part"
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._begun = False
        self._finishing = False
        self._finished = False
        # Used in threads, by the one that has the lock.
        self._lock = threading.Lock()
        self._descriptor = -1
        self._named = False
        self._ended = False

    async def write(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER:
            await self._flush()

    async def finish(self) -> Stored:
        await self._flush()
        self._finishing = True
        found: Stored = await self._placing.go_on(reporting, self._locked, self._placed)
        self._finished = True
        return found

    async def abort(self) -> None:
        if self._finished:
            return
        self._buffer = []
        # Where it waits for the work that has been cancelled, no other work should have to wait.
        threads = self._placing if self._finishing else self._threads
        try:
            await threads.go_on(self._discard)
        except ServiceUnavailable:
            # The threads have stopped: the process ends.
            self._discard()

    async def _flush(self) -> None:
        """Writes what is in the buffer. The first call of an upload is refused if the threads have too much work."""
        data, self._buffer, self._buffered = self._buffer, [], 0
        run = self._threads.go_on if self._begun else self._threads.run
        await run(reporting, self._locked, lambda: self._append(data))
        self._begun = True

    # in threads

    def _place(self) -> Stored:
        """Gives the file its name, durably, and sets `_named` as soon as it may have it."""
        raise NotImplementedError

    def _unplace(self) -> None:
        """Removes the file that has the name. Raises OSError, ServiceUnavailable."""
        raise NotImplementedError

    def _locked(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._ended:
                raise ServiceUnavailable("The upload has failed or has been aborted.")
            try:
                return work()
            except BaseException:
                # Bytes are missing.
                self._end()
                raise

    def _append(self, data: list[bytes]) -> None:
        if self._descriptor < 0:
            provide_directory(os.path.dirname(self._temporary))
            self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            private_files.give_to_owner(pathlib.Path(self._temporary))
        rest = memoryview(b"".join(data) if len(data) != 1 else data[0])
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _sync(self) -> None:
        os.fsync(self._descriptor)

    def _placed(self) -> Stored:
        found = self._place()
        self._end()
        return found

    def _discard(self) -> None:
        with self._lock:
            try:
                if self._named:
                    self._unplace()
            except (OSError, ApiError) as error:
                log.error("an upload that was aborted cannot be removed: {error}", error=error)
            finally:
                self._end()

    def _end(self) -> None:
        """Closes the temporary file, and removes it if it has not become the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            try:
                remove(self._temporary)
            except OSError as error:
                log.error("{path}: {error}", path=self._temporary, error=error)
        self._ended = True


def reporting(work: Callable[..., T], *arguments: Any) -> T:
    """Returns what *work* returns. Raises StorageFull or ServiceUnavailable, which name no path, for an OSError, which is logged."""
    try:
        return work(*arguments)
    except ApiError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("There is no room for the file.") from error
        log.error("the storage of files cannot be used: {error}", error=error)
        raise ServiceUnavailable("The storage of files cannot be used; see the server's log.") from error


def version_of(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def of_status(name: str, status: os.stat_result) -> Stored:
    modified = datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC)
    return Stored(name, status.st_size, modified, version_of(status))


def stored(name: str, path: str) -> Stored | None:
    """Returns a file, None if there is no regular file."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return of_status(name, status) if stat.S_ISREG(status.st_mode) else None


def is_file(path: str) -> bool:
    return stored("", path) is not None


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        os.unlink(path)


def provide_directory(path: str) -> None:
    """Creates a directory and those above it, durably, for their owner only."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path) or "."
    provide_directory(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    private_files.give_to_owner(pathlib.Path(path))
    sync_directory(above)


def sync_directory(path: str) -> None:
    """Makes the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entries(path: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as found:
            yield from found
    except (FileNotFoundError, NotADirectoryError):
        return


def remove_stale(root: str) -> int:
    """Removes what processes that were killed have not finished. Returns the number of uploads."""
    number = 0
    before = time.time() - STALE
    for entry in entries(f"{root}/{UPLOADS}"):
        if entry.stat(follow_symlinks=False).st_mtime < before:
            remove(entry.path)
            number += 1
    return number
