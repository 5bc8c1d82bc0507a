"""The settings of storages: the table `storage` of a project file."""

import pathlib
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from directus_tx.files.storage.interfaces import InvalidName, check_name

LOCAL = "local"
ADAPTERS = (LOCAL,)
"""The kinds of storages."""


@frozen
class LocalSettings:
    """A storage on a local disk: its directory. `owned`: it is the directory that the project has without settings."""

    root: pathlib.Path
    owned: bool


def storage_settings(project: str, table: Mapping[str, Any], directory: pathlib.Path) -> LocalSettings:
    """Returns the settings in a table `storage` of a project. *directory* is that of the storages of all projects. Other properties of the
    table are ignored: project files of Directus 8 have them. Raises ValueError, whose message says what is wrong."""
    adapter = _text(table, "adapter") or LOCAL
    if adapter not in ADAPTERS:
        raise ValueError(f"storage.adapter must be {' or '.join(ADAPTERS)}")
    root = _text(table, "root")
    if not root:
        return LocalSettings(directory / project, owned=True)
    if not pathlib.PurePath(root).is_absolute():
        try:
            check_name(root)
        except InvalidName:
            raise ValueError(
                "storage.root must be an absolute path, or the name of a directory in the directory storage"
            ) from None
    return LocalSettings(directory / root, owned=False)


def check_table(table: Mapping[str, Any]) -> None:
    """Raises ValueError if a client of the API may not give a project this table `storage`: it must not choose directories beside those of
    the storages."""
    root = storage_settings("project", table, pathlib.Path()).root
    if root.is_absolute():
        raise ValueError("storage.root must not be an absolute path here; set it in the project file")


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError(f"storage.{name} must be a text")
    return value
