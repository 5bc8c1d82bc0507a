"""Kinds of storages: how each is configured and opened. Plugins can add some."""

import os
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from directus_tx.config import StorageSettings
from directus_tx.files.storage.local import LocalStorage
from directus_tx.files.storage.settings import LOCAL, S3, LocalSettings, S3Settings, local_settings, s3_settings, text_of
from directus_tx.threads import Threads


@frozen
class StoragePlace:
    """What the storage of a project is configured with: the key of the project, the table `storage` of its project file, the section
    [storage] of the server, and the data directory of the server."""

    project: str
    table: Mapping[str, Any]
    server: StorageSettings
    data_dir: pathlib.Path

    def text(self, name: str) -> str:
        """Returns a text of the table `storage`, empty if it is missing. Raises ValueError if it is not a text."""
        return text_of(self.table, name)


@frozen
class StorageThreads:
    """The threads of a server in which storages do what blocks: `local` reads and writes disks, `requests` makes requests to other
    servers, `sending` sends files to them, with large pieces in memory. `run` of each calls a function."""

    local: Threads
    requests: Threads
    sending: Threads


class StorageAdapter(ABC):
    """A kind of storage."""

    operators: tuple[str, ...] = ("endpoint", "ca_file")
    """Settings of the table `storage` that clients of the API may not choose, because the server connects to any address or reads any file
    with them."""

    @abstractmethod
    def configure(self, place: StoragePlace) -> Any:
        """Returns the settings of the storage of a project, in a form that `open` takes. Opens nothing. Raises ValueError, whose message
        says what is wrong."""

    @abstractmethod
    def open(self, settings: Any, threads: StorageThreads) -> Any:
        """Returns the storage with these settings, an IFileStorage. Raises ValueError if it cannot be opened."""

    def check(self, place: StoragePlace) -> None:
        """Raises ValueError if a client of the API may not give a project this table `storage`: it must not choose directories beside those
        of the storages, or the hosts that the server connects to."""
        given = [name for name in self.operators if place.table.get(name)]
        if os.path.isabs(place.text("root")):
            given.append("root with an absolute path")
        if given:
            raise ValueError(f"storage.{given[0]} can be set in the project file only")
        self.configure(place)

    def problem(self, settings: Any) -> str | None:
        """Returns what keeps a storage with these settings from working on this machine, or None. For `directus config check`."""
        return None

    def spool(self, settings: Any) -> pathlib.Path | None:
        """Returns the directory of this machine with the files that the storage has not completed, or None. Those that are left over are
        removed from its directory .uploads when the storage is opened."""
        return None

    def owned(self, settings: Any) -> pathlib.Path | None:
        """Returns the directory that is removed with the project, or None."""
        return None


class LocalAdapter(StorageAdapter):
    """Storages on a local disk."""

    def configure(self, place: StoragePlace) -> LocalSettings:
        return local_settings(place.project, place.table, place.server, place.data_dir)

    def open(self, settings: LocalSettings, threads: StorageThreads) -> LocalStorage:
        return LocalStorage(settings.root, threads.local)

    def spool(self, settings: LocalSettings) -> pathlib.Path:
        return settings.root

    def owned(self, settings: LocalSettings) -> pathlib.Path | None:
        return settings.root if settings.owned else None


class S3Adapter(StorageAdapter):
    """Storages in buckets of Amazon S3, or of another server with its protocol."""

    def configure(self, place: StoragePlace) -> S3Settings:
        return s3_settings(place.project, place.table, place.server, place.data_dir)

    def open(self, settings: S3Settings, threads: StorageThreads) -> Any:
        return s3_module().S3Storage(settings, threads.requests, threads.sending, threads.local)

    def problem(self, settings: S3Settings) -> str | None:
        try:
            s3_module()
        except ValueError as error:
            return str(error)
        return None

    def spool(self, settings: S3Settings) -> pathlib.Path:
        return settings.spool

    owned = spool


def s3_module() -> Any:
    """Returns the module `s3`. Raises ValueError if the library that it needs is not installed."""
    try:
        from directus_tx.files.storage import s3
    except ModuleNotFoundError as error:
        raise ValueError(f"storage.adapter: s3 needs the package {error.name}: pip install directus-tx[s3]") from error
    return s3


Adapters = Mapping[str, StorageAdapter]
"""Kinds of storages by the names with which settings and directus_files.storage name them."""

SHIPPED: Adapters = {LOCAL: LocalAdapter(), S3: S3Adapter()}


def adapter_of(adapters: Adapters, place: StoragePlace) -> StorageAdapter:
    """Returns the adapter of the storage of a project. Raises ValueError if there is none of its name, or the quota is not a number."""
    found = adapters.get(place.text("adapter") or place.server.adapter)
    if found is None:
        raise ValueError(f"storage.adapter must be {' or '.join(adapters)}")
    quota = place.table.get("quota", 0)
    if not isinstance(quota, int) or isinstance(quota, bool) or quota < 0:
        raise ValueError("storage.quota must be a number of bytes")
    return found


def storage_settings(
    project: str, table: Mapping[str, Any], server: StorageSettings, data_dir: pathlib.Path, adapters: Adapters = SHIPPED
) -> Any:
    """Returns the settings of the storage of a project with this table `storage`, in the form of its adapter. Raises ValueError, whose
    message says what is wrong."""
    place = StoragePlace(project, table, server, data_dir)
    return adapter_of(adapters, place).configure(place)


def check_table(table: Mapping[str, Any], server: StorageSettings, adapters: Adapters = SHIPPED) -> None:
    """Raises ValueError if a client of the API may not give a project this table `storage`."""
    place = StoragePlace("project", table, server, pathlib.Path())
    adapter_of(adapters, place).check(place)
