"""Opens the storages of projects."""

import os
import pathlib
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.files.storage.local import LocalStorage
from directus_tx.files.storage.settings import storage_settings
from directus_tx.threads import Threads

log = Logger()

THREADS = 8
"""The threads that read and write local disks."""

QUEUE = 256
"""The maximum number of requests that wait for such a thread to begin. Those that have begun are not counted."""

REMOVED = ".removed-"


class Storages:
    """Opens the storages of the projects of a data directory, and holds the threads that they share, which run until `close`."""

    def __init__(self, reactor: Any, data_dir: pathlib.Path) -> None:
        self.directory = data_dir / "storage"
        self._local = Threads(
            reactor, "storage", "Too many files are being read and written; try again shortly.", threads=THREADS, queue=QUEUE
        )
        self._started = False

    def open(self, project: str, table: Mapping[str, Any]) -> LocalStorage:
        """Returns the storage of a project with this table `storage`, an IFileStorage. Raises ValueError, whose message says what is
        wrong with the table."""
        settings = storage_settings(project, table, self.directory)
        storage = LocalStorage(settings.root, self._threads())
        Deferred.fromCoroutine(self._clean(storage)).addErrback(_tell)
        return storage

    async def _clean(self, storage: LocalStorage) -> None:
        number = await storage.remove_stale_uploads()
        if number:
            log.info("{root}: unfinished uploads removed: {number}", root=storage.root, number=number)

    async def remove(self, project: str, table: Mapping[str, Any]) -> None:
        """Removes the files of a project that has been deleted, if they are in the directory that it has without settings. Others are
        kept. Raises ValueError, and OSError if they cannot be removed."""
        settings = storage_settings(project, table, self.directory)
        if settings.owned:
            await self._threads().go_on(_remove, settings.root)

    def close(self) -> None:
        """Stops the threads. Waits for the work that they do."""
        if self._started:
            self._local.stop()

    def _threads(self) -> Threads:
        if not self._started:
            self._local.start()
            self._started = True
        return self._local


def _tell(failure: Failure) -> None:
    log.warn("unfinished uploads cannot be removed: {error}", error=failure.value)


def _remove(path: pathlib.Path) -> None:
    """Removes a directory with all that is in it. It loses its name at once, so that a new project can have it."""
    removed = path.with_name(f"{REMOVED}{secrets.token_hex(8)}")
    try:
        os.rename(path, removed)
    except FileNotFoundError:
        return
    shutil.rmtree(removed)
