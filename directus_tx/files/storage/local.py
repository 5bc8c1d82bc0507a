"""Files on a local disk.

The file "originals/harbour.jpg" is in the directory originals/=3f of the root: files are spread over 256 directories, because some file
systems and most tools are slow with directories of very many files. The 3f comes from a hash of the name. The character "=" cannot be in
a name, so these directories are never mistaken for files. A file that is in `originals` itself, where Directus 8 keeps it, is found, too.

While a file is being stored, its bytes are in the directory .uploads of the root.
"""

import hashlib
import os
import pathlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

from zope.interface import implementer

from directus_tx.files.storage.disk import (
    SpooledUpload,
    entries,
    is_file,
    provide_directory,
    remove,
    reporting,
    stored,
    sync_directory,
    version_of,
)
from directus_tx.files.storage.interfaces import (
    PIECE,
    FileNotStored,
    FileReplaced,
    IFileStorage,
    Stored,
    check_name,
    is_name,
)
from directus_tx.threads import Threads

T = TypeVar("T")

WINDOW = 4 * PIECE
"""The bytes that are read at once."""

LISTED_AT_ONCE = 500
SHARD = "="


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
            data = await self._run(reader.read)
            while data:
                for offset in range(0, len(data), PIECE):
                    yield data[offset : offset + PIECE]
                data = b"" if reader.complete else await self._go_on(reader.read)
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

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self.threads.run(reporting, work, *arguments)

    async def _go_on(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self.threads.go_on(reporting, work, *arguments)

    def _paths(self, name: str) -> tuple[str, str]:
        """Returns the path of a file, and the one that it has in Directus 8. Raises InvalidName."""
        directory, slash, segment = check_name(name).rpartition("/")
        shard = hashlib.blake2b(segment.encode(), digest_size=1).hexdigest()
        return f"{self.root}/{directory}{slash}{SHARD}{shard}/{segment}", f"{self.root}/{name}"

    # in threads

    def _rename(self, paths: tuple[str, str], new_paths: tuple[str, str]) -> None:
        for path in paths:
            if not is_file(path):
                continue
            if path != new_paths[0]:
                provide_directory(os.path.dirname(new_paths[0]))
                try:
                    os.replace(path, new_paths[0])
                except FileNotFoundError:
                    continue
                remove(new_paths[1])
                sync_directory(os.path.dirname(new_paths[0]))
                sync_directory(os.path.dirname(path))
            return
        raise FileNotStored

    def _walk(self, prefix: str) -> Iterator[Stored]:
        """Yields the files whose names begin with a text."""
        directories = [prefix.rpartition("/")[0]]
        if directories[0] and not is_name(directories[0]):
            return
        while directories:
            directory = directories.pop()
            path = f"{self.root}/{directory}"
            start = f"{directory}/" if directory else ""
            for entry in entries(path):
                if entry.name.startswith(SHARD):
                    yield from _files_in(entry.path, start, prefix)
                elif entry.name.startswith("."):
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    inner = f"{start}{entry.name}"
                    if f"{inner}/".startswith(prefix) or prefix.startswith(f"{inner}/"):
                        directories.append(inner)
                elif f"{start}{entry.name}".startswith(prefix) and (found := stored(f"{start}{entry.name}", entry.path)):
                    yield found


class LocalUpload(SpooledUpload):
    """A file that is being stored in a directory of the same file system."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        super().__init__(name, storage.root, storage.threads, storage.threads)
        self._paths = storage._paths(name)

    def _place(self) -> Stored:
        path, plain = self._paths
        self._sync()
        provide_directory(os.path.dirname(path))
        found = stored(self.name, self._temporary)
        os.replace(self._temporary, path)
        self._named = True
        remove(plain)
        sync_directory(os.path.dirname(path))
        assert found is not None
        return found

    def _unplace(self) -> None:
        remove(self._paths[0])


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
        """Returns the next bytes, none at the end. Raises FileNotStored, FileReplaced and OSError."""
        try:
            with self._lock:
                return b"" if self._closing else self._read()
        finally:
            self._close_if_idle()

    @property
    def complete(self) -> bool:
        """Whether all bytes of the range have been read, so that no thread has to find that out."""
        return self._end is not None and self._position >= self._end

    def _read(self) -> bytes:
        if self._descriptor < 0:
            self._open()
        size = WINDOW if self._end is None else min(WINDOW, self._end - self._position)
        if size <= 0:
            return b""
        data = os.pread(self._descriptor, size, self._position)
        self._position += len(data)
        return data

    def _open(self) -> None:
        for path in self._paths:
            if not is_file(path):
                continue
            try:
                # Without O_NONBLOCK, a pipe that has just taken the name would block the thread.
                self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if self._version not in (None, version_of(os.fstat(self._descriptor))):
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


def _described(name: str, paths: tuple[str, str]) -> Stored | None:
    return next((found for path in paths if (found := stored(name, path)) is not None), None)


def _delete(paths: tuple[str, str]) -> None:
    for path in paths:
        if is_file(path):
            remove(path)
            sync_directory(os.path.dirname(path))


def _files_in(path: str, start: str, prefix: str) -> Iterator[Stored]:
    for entry in entries(path):
        name = f"{start}{entry.name}"
        if name.startswith(prefix) and (found := stored(name, entry.path)):
            yield found


def _next_batch(files: Iterator[Stored]) -> list[Stored]:
    return list(islice((each for each in files if is_name(each.name)), LISTED_AT_ONCE))
