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

from directus_tx.config import StorageSettings
from directus_tx.errors import InvalidRequest
from directus_tx.files.storage.adapters import SHIPPED, Adapters, StoragePlace, StorageThreads, adapter_of, check_table
from directus_tx.files.storage.disk import remove_stale
from directus_tx.threads import Threads

log = Logger()

THREADS = 8
"""The threads that read and write local disks, and as many that make requests to buckets."""

SENDING_THREADS = 4
"""The threads that send files to buckets. The parts that they send are in memory."""

QUEUE = 256
"""The maximum number of requests that wait for such a thread to begin. Those that have begun are not counted."""

REMOVED = ".removed-"


class Storages:
    """Opens the storages of the projects of a data directory, and holds the threads that they share, which run until `close`. *settings*
    are those of projects without their own; *adapters* are the kinds of storages by name."""

    def __init__(self, reactor: Any, data_dir: pathlib.Path, settings: StorageSettings, adapters: Adapters = SHIPPED) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.adapters = adapters
        busy = "Too many files are being read and written; try again shortly."
        self._local = Threads(reactor, "storage", busy, threads=THREADS, queue=QUEUE)
        self._requests = Threads(reactor, "buckets", busy, threads=THREADS, queue=QUEUE)
        self._sending = Threads(reactor, "sending", busy, threads=SENDING_THREADS, queue=QUEUE)
        self._all = (self._local, self._requests, self._sending)
        self._started = False

    def check(self, table: Mapping[str, Any]) -> None:
        """Raises InvalidRequest if a client of the API may not give a project this table `storage`."""
        try:
            check_table(table, self.settings, self.adapters)
        except ValueError as error:
            raise InvalidRequest(f'"storage" cannot be used: {error}.') from None

    def open(self, project: str, table: Mapping[str, Any]) -> Any:
        """Returns the storage of a project with this table `storage`, an IFileStorage. Raises ValueError, whose message says what is
        wrong with the table."""
        place = StoragePlace(project, table, self.settings, self.data_dir)
        adapter = adapter_of(self.adapters, place)
        settings = adapter.configure(place)
        self._start()
        storage = adapter.open(settings, StorageThreads(self._local, self._requests, self._sending))
        spool = adapter.spool(settings)
        if spool is not None:
            Deferred.fromCoroutine(self._clean(str(spool))).addErrback(_tell)
        return storage

    def quota(self, table: Mapping[str, Any]) -> int:
        """Returns the quota of a project with this table `storage`, in bytes; 0 if there is none. `open` says what is wrong with the
        table."""
        found = table.get("quota", self.settings.quota)
        return found if isinstance(found, int) else 0

    async def _clean(self, root: str) -> None:
        number = await self._local.go_on(remove_stale, root)
        if number:
            log.info("{root}: unfinished uploads removed: {number}", root=root, number=number)

    async def remove(self, project: str, table: Mapping[str, Any]) -> None:
        """Removes the files of a project that has been deleted, if they are in the directory that it has without settings. Others are
        kept. Raises ValueError, and OSError if they cannot be removed."""
        place = StoragePlace(project, table, self.settings, self.data_dir)
        adapter = adapter_of(self.adapters, place)
        root = adapter.owned(adapter.configure(place))
        if root is not None:
            self._start()
            await self._local.go_on(_remove, root)

    def close(self) -> None:
        """Stops the threads. Waits for the work that they do."""
        if self._started:
            for threads in self._all:
                threads.stop()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for threads in self._all:
                threads.start()


def _tell(failure: Failure) -> None:
    log.warn("unfinished uploads cannot be removed: {error}", error=failure.value)


def _remove(path: pathlib.Path) -> None:
    """Removes a directory with all that is in it, which loses its name at once, so that a new project can have it. Also removes what is
    left of others that processes have begun to remove before they were killed."""
    removed = path.with_name(f"{REMOVED}{secrets.token_hex(8)}")
    try:
        os.rename(path, removed)
    except FileNotFoundError:
        return
    shutil.rmtree(removed)
    for rest in path.parent.glob(f"{REMOVED}*"):
        shutil.rmtree(rest, ignore_errors=True)
