"""Files on a local disk.

The file "originals/harbour.jpg" is in the directory originals/=3f of the root: files are spread over 256 directories, because some file
systems and most tools are slow with directories of very many files. The 3f comes from a hash of the name. The character "=" cannot be in
a name, so these directories are never mistaken for files. A file that is in `originals` itself, where Directus 8 keeps it, is found, too.

While a file is being stored, its bytes are in the directory .uploads of the root.
"""

import contextlib
import errno
import hashlib
import os
import pathlib
import secrets
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from twisted.logger import Logger
from zope.interface import implementer

from directus_tx import private_files
from directus_tx.errors import ApiError, ServiceUnavailable, StorageFull
from directus_tx.files.storage.interfaces import (
    PIECE,
    FileNotStored,
    FileReplaced,
    IFileStorage,
    IUpload,
    Stored,
    check_name,
)
from directus_tx.threads import Threads

T = TypeVar("T")
log = Logger()

BUFFER = 2 * PIECE
"""The bytes of an upload that are collected in memory and written at once."""

STALE = 24 * 3600.0
"""Seconds after which an upload that nothing was written to is the rest of a process that was killed."""

LISTED_AT_ONCE = 500
SHARD = "="
UPLOADS = ".uploads"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@implementer(IFileStorage)
class LocalStorage:
    """The files below a directory, which is created when the first file is stored. The work is done in *threads*."""

    adapter = "local"

    def __init__(self, root: pathlib.Path, threads: Threads) -> None:
        self.root = str(root)
        self.threads = threads

    def begin(self, name: str) -> "LocalUpload":
        return LocalUpload(self, check_name(name))

    async def read(
        self, name: str, start: int = 0, end: int | None = None, *, version: str | None = None
    ) -> AsyncIterator[bytes]:
        reader = _Reader(self._paths(name), start, end, version)
        try:
            piece = await self._run(reader.read)
            while piece:
                yield piece
                piece = await self._go_on(reader.read)
        finally:
            reader.close()

    async def describe(self, name: str) -> Stored | None:
        return await self._run(_described, name, self._paths(name))

    async def delete(self, name: str) -> None:
        await self._run(_delete, self._paths(name))

    async def rename(self, name: str, new_name: str) -> None:
        await self._run(self._rename, self._paths(name), self._paths(new_name))

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        files = self._walk(prefix)
        batch = await self._run(_next_batch, files)
        while batch:
            for each in batch:
                yield each
            batch = await self._go_on(_next_batch, files)

    async def signed_url(
        self, name: str, seconds: int, *, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        check_name(name)
        return None

    async def close(self) -> None:
        """Does nothing: the storage uses nothing of its own."""

    async def remove_stale_uploads(self) -> int:
        """Removes what processes that were killed have not finished. Returns the number of uploads."""
        return await self._run(_remove_stale, f"{self.root}/{UPLOADS}", time.time() - STALE)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self.threads.run(_reporting, work, *arguments)

    async def _go_on(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self.threads.go_on(_reporting, work, *arguments)

    def _paths(self, name: str) -> tuple[str, str]:
        """Returns the path of a file, and the one that it has in Directus 8. Raises InvalidName."""
        directory, slash, segment = check_name(name).rpartition("/")
        shard = hashlib.blake2b(segment.encode(), digest_size=1).hexdigest()
        return f"{self.root}/{directory}{slash}{SHARD}{shard}/{segment}", f"{self.root}/{name}"

    # in threads

    def _rename(self, paths: tuple[str, str], new_paths: tuple[str, str]) -> None:
        for path in paths:
            if not _is_file(path):
                continue
            if path != new_paths[0]:
                _provide_directory(self.root, os.path.dirname(new_paths[0]))
                try:
                    os.replace(path, new_paths[0])
                except FileNotFoundError:
                    continue
                _remove(new_paths[1])
                _sync_directory(os.path.dirname(new_paths[0]))
                _sync_directory(os.path.dirname(path))
            return
        raise FileNotStored

    def _walk(self, prefix: str) -> Iterator[Stored]:
        """Yields the files whose names begin with a text."""
        directories = [prefix.rpartition("/")[0]]
        if any(each in (".", "..") for each in directories[0].split("/")) or "\x00" in prefix:
            return
        while directories:
            directory = directories.pop()
            path = f"{self.root}/{directory}"
            start = f"{directory}/" if directory else ""
            for entry in _entries(path):
                if entry.name.startswith(SHARD):
                    yield from _files_in(entry.path, start, prefix)
                elif entry.name.startswith("."):
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    inner = f"{start}{entry.name}"
                    if f"{inner}/".startswith(prefix) or prefix.startswith(f"{inner}/"):
                        directories.append(inner)
                elif f"{start}{entry.name}".startswith(prefix) and (found := _stored(f"{start}{entry.name}", entry.path)):
                    yield found


@implementer(IUpload)
class LocalUpload:
    """A file that is being stored. If a call is cancelled, its thread goes on until its work is done; that of `abort` waits for it."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        self.name = name
        self._storage = storage
        self._paths = storage._paths(name)
        self._temporary = f"{storage.root}/{UPLOADS}/{secrets.token_hex(16)}.part"
        self._buffer: list[bytes] = []
        self._buffered = 0
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
            await self._do(self._append, self._taken())

    async def finish(self) -> Stored:
        stored = await self._do(self._place, self._taken())
        self._finished = True
        return stored

    async def abort(self) -> None:
        if self._finished:
            return
        self._buffer = []
        try:
            await self._storage.threads.go_on(self._discard)
        except ServiceUnavailable:
            # The threads have stopped: the process ends.
            self._discard()

    def _taken(self) -> list[bytes]:
        taken, self._buffer, self._buffered = self._buffer, [], 0
        return taken

    async def _do(self, work: Callable[[list[bytes]], T], data: list[bytes]) -> T:
        """Does *work* in a thread. The first of an upload is refused if the threads have too much work."""
        run = self._storage._run if self._descriptor < 0 else self._storage._go_on
        return await run(self._locked, work, data)

    # in threads

    def _locked(self, work: Callable[[list[bytes]], T], data: list[bytes]) -> T:
        with self._lock:
            if self._ended:
                raise ServiceUnavailable("The upload has been aborted.")
            return work(data)

    def _append(self, data: list[bytes]) -> None:
        if self._descriptor < 0:
            _provide_directory(self._storage.root, os.path.dirname(self._temporary))
            self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            private_files.give_to_owner(pathlib.Path(self._temporary))
        rest = memoryview(b"".join(data) if len(data) != 1 else data[0])
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _place(self, data: list[bytes]) -> Stored:
        self._append(data)
        os.fsync(self._descriptor)
        path, plain = self._paths
        _provide_directory(self._storage.root, os.path.dirname(path))
        os.replace(self._temporary, path)
        self._named = True
        _remove(plain)
        _sync_directory(os.path.dirname(path))
        found = _of_status(self.name, os.fstat(self._descriptor))
        self._end()
        return found

    def _discard(self) -> None:
        with self._lock:
            try:
                if self._descriptor >= 0 or self._named:
                    _remove(self._paths[0] if self._named else self._temporary)
            except OSError as error:
                log.error("{path}: {error}", path=self._temporary, error=error)
            finally:
                self._end()

    def _end(self) -> None:
        self._ended = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Reader:
    """Reads a range of the first of two files that exists. `read` is called in threads; `close` can be called meanwhile."""

    def __init__(self, paths: tuple[str, str], start: int, end: int | None, version: str | None) -> None:
        self._paths = paths
        self._position = max(start, 0)
        self._end = end
        self._version = version
        self._descriptor = -1
        self._closing = False
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """Returns the next piece, empty at the end. Raises FileNotStored, FileReplaced and OSError."""
        try:
            with self._lock:
                return b"" if self._closing else self._read()
        finally:
            self._close_if_idle()

    def _read(self) -> bytes:
        if self._descriptor < 0:
            self._open()
        size = PIECE if self._end is None else min(PIECE, self._end - self._position)
        if size <= 0:
            return b""
        piece = os.pread(self._descriptor, size, self._position)
        self._position += len(piece)
        return piece

    def _open(self) -> None:
        for path in self._paths:
            if not _is_file(path):
                continue
            try:
                # Without O_NONBLOCK, a pipe that has just taken the name would block the thread.
                self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if self._version not in (None, _version(os.fstat(self._descriptor))):
                raise FileReplaced("The file has been replaced; try again.")
            return
        raise FileNotStored

    def close(self) -> None:
        """Closes the file, or lets the thread that reads do so."""
        self._closing = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and self._lock.acquire(blocking=False):
            try:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                    self._descriptor = -1
            finally:
                self._lock.release()


def _reporting(work: Callable[..., T], *arguments: Any) -> T:
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


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _of_status(name: str, status: os.stat_result) -> Stored:
    modified = datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC)
    return Stored(name, status.st_size, modified, _version(status))


def _stored(name: str, path: str) -> Stored | None:
    """Returns a file, None if there is no regular file."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _of_status(name, status) if stat.S_ISREG(status.st_mode) else None


def _is_file(path: str) -> bool:
    return _stored("", path) is not None


def _described(name: str, paths: tuple[str, str]) -> Stored | None:
    return next((found for path in paths if (found := _stored(name, path)) is not None), None)


def _delete(paths: tuple[str, str]) -> None:
    for path in paths:
        if _is_file(path):
            _remove(path)
            _sync_directory(os.path.dirname(path))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        os.unlink(path)


def _provide_directory(root: str, path: str) -> None:
    """Creates a directory and those above it, durably, for their owner only."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above != path:
        _provide_directory(root, above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    private_files.give_to_owner(pathlib.Path(path))
    _sync_directory(above)


def _sync_directory(path: str) -> None:
    """Makes the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries(path: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _files_in(path: str, start: str, prefix: str) -> Iterator[Stored]:
    for entry in _entries(path):
        name = f"{start}{entry.name}"
        if name.startswith(prefix) and (found := _stored(name, entry.path)):
            yield found


def _next_batch(files: Iterator[Stored]) -> list[Stored]:
    return list(islice(files, LISTED_AT_ONCE))


def _remove_stale(path: str, before: float) -> int:
    number = 0
    for entry in _entries(path):
        if entry.stat(follow_symlinks=False).st_mtime < before:
            _remove(entry.path)
            number += 1
    return number
