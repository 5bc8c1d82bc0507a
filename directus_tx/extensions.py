"""The extensions of the admin app: interfaces, layouts and modules, each a directory with a meta.json and the files that the app loads.

They are found in directories that have the directories interfaces, layouts and modules, as public/extensions/custom of Directus 8 had: that
of the operator (server.extensions), and those of plugins.
"""

import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

KINDS = ("interfaces", "layouts", "modules")
META = "meta.json"
MAX_META = 2**20
"""The maximum size of a meta.json, in bytes."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TEXTS = ("name", "version", "icon")
_OBJECTS = ("options", "recommended", "translation")


class ExtensionError(Exception):
    """Directories of extensions cannot be used. `mistakes` has a line for each fault, which names the file."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@frozen
class Extension:
    """An extension: its `kind` (of KINDS), its `id`, which is the name of its `directory`, and the contents of its meta.json. `plugin` is
    the name of the plugin that brings it, empty for those of the operator."""

    kind: str
    id: str
    directory: pathlib.Path
    meta: Mapping[str, Any]
    plugin: str = ""

    @property
    def path(self) -> str:
        """The path of its meta.json below the URL of the server. The app finds the other files beside it."""
        return f"extensions/custom/{self.kind}/{self.id}/{META}"

    def shown(self) -> dict[str, Any]:
        """Returns what lists of extensions show."""
        return {**self.meta, "id": self.id, "path": self.path}


class Extensions:
    """The extensions of a server, by kind and id."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Extension]] = {kind: {} for kind in KINDS}

    def __iter__(self) -> Iterator[Extension]:
        for kind in KINDS:
            yield from self._found[kind].values()

    def add(self, directory: pathlib.Path, plugin: str = "") -> None:
        """Adds the extensions of a directory, all or none. Raises ExtensionError if one of them cannot be used, or if there is one with the
        same kind and id already."""
        added = read_directory(directory, plugin)
        mistakes = []
        for each in added:
            other = self.get(each.kind, each.id)
            if other is not None:
                mistakes.append(f"{each.directory}: there is an extension with this name already, {other.directory}")
        if mistakes:
            raise ExtensionError(mistakes)
        for each in added:
            self._found[each.kind][each.id] = each

    def get(self, kind: str, id: str) -> Extension | None:
        """Returns an extension, None if there is none."""
        return self._found.get(kind, {}).get(id)

    def listed(self, kind: str, enabled: Callable[[str], bool]) -> list[dict[str, Any]]:
        """Returns what the list of a kind shows, sorted by id: the extensions of the operator, and those of the plugins that are
        *enabled*, which is called with their names."""
        found = self._found[kind]
        return [found[id].shown() for id in sorted(found) if not found[id].plugin or enabled(found[id].plugin)]


def read_directory(directory: pathlib.Path, plugin: str = "") -> list[Extension]:
    """Returns the extensions in a directory. Names that begin with a dot or an underscore, and files beside the directories of extensions,
    are ignored. Raises ExtensionError with all mistakes."""
    mistakes: list[str] = []
    found: list[Extension] = []
    if not any((directory / kind).is_dir() for kind in KINDS):
        raise ExtensionError([f"{directory}: there is no directory interfaces, layouts or modules in it"])
    for kind in KINDS:
        for path in _directories(directory / kind, mistakes):
            mistakes_before = len(mistakes)
            meta = _meta(kind, path, mistakes)
            if len(mistakes) == mistakes_before:
                found.append(Extension(kind, path.name, path, meta, plugin))
    if mistakes:
        raise ExtensionError(mistakes)
    return found


def _directories(parent: pathlib.Path, mistakes: list[str]) -> list[pathlib.Path]:
    if not parent.exists():
        return []
    try:
        names = sorted(os.listdir(parent))
    except OSError as error:
        mistakes.append(f"{parent}: {error.strerror}")
        return []
    return [parent / name for name in names if not name.startswith((".", "_")) and (parent / name).is_dir()]


def _meta(kind: str, directory: pathlib.Path, mistakes: list[str]) -> Mapping[str, Any]:
    """Returns the contents of a meta.json, and adds what is wrong with the extension to the mistakes."""
    if not _ID.fullmatch(directory.name):
        mistakes.append(f"{directory}: its name must consist of at most 100 letters, digits, dots, hyphens and underscores")
        return {}
    path = directory / META
    try:
        found = orjson.loads(_contents(path))
    except OSError as error:
        mistakes.append(f"{path}: {error.strerror or error}")
        return {}
    except ValueError as error:
        mistakes.append(f"{path}: {error}")
        return {}
    wrong = list(_faults(kind, found))
    try:
        if not any(each.endswith(".js") for each in os.listdir(directory)):
            mistakes.append(f"{directory}: there is no script (a file whose name ends with .js)")
    except OSError as error:
        mistakes.append(f"{directory}: {error.strerror}")
    mistakes += (f"{path}: {each}" for each in wrong)
    return found if isinstance(found, dict) else {}


def _contents(path: pathlib.Path) -> bytes:
    """Returns the contents of a regular file of at most MAX_META bytes. Opening a pipe or a device does not wait. Raises OSError and
    ValueError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > MAX_META:
            raise ValueError(f"larger than {MAX_META} bytes")
        return file.read(MAX_META)


def _faults(kind: str, meta: Any) -> Iterator[str]:
    """Yields what is wrong with the contents of a meta.json."""
    if not isinstance(meta, dict):
        yield "must be an object"
        return
    if not meta.get("name"):
        yield "name is missing"
    for name in _TEXTS:
        if not isinstance(meta.get(name, ""), str):
            yield f"{name} must be a text"
    for name in _OBJECTS:
        # PHP writes an empty object as a list.
        if not isinstance(meta.get(name), dict) and meta.get(name) not in (None, []):
            yield f"{name} must be an object"
    types = meta.get("types", [])
    if not isinstance(types, list) or not all(isinstance(each, str) for each in types):
        yield "types must be a list of texts"
    elif kind == "interfaces" and not types:
        yield "types is missing: the types of the fields that the interface is for"
