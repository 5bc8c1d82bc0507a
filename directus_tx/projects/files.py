"""The project files: projects/KEY.toml in the data directory, or projects/private.KEY.toml for projects that lists do not
show."""

import contextlib
import os
import pathlib
import re
import secrets
import stat
import time
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import tomli_w
from attrs import asdict, field, fields, frozen
from twisted.logger import Logger

from directus_tx import private_files
from directus_tx.context import ALL_PLUGINS, EnabledPlugins
from directus_tx.db.connection import PUBLIC
from directus_tx.errors import ProjectExists, ServiceUnavailable

log = Logger()

KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,39}")
RESERVED = frozenset(
    {"admin", "custom", "extensions", "health", "interfaces", "layouts", "modules", "server", "types", "uploads"}
)
PRIVATE = "private."


_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")


def check_system_schema(name: object) -> str:
    """Returns the name of a schema for system tables. Raises ValueError, whose message follows the name of the setting."""
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name) or name.startswith("pg_") or name == "information_schema":
        raise ValueError(
            "must consist of at most 40 lower-case letters, digits and underscores, must not begin with a digit or pg_,"
            " and must not be information_schema"
        )
    return name


@frozen
class ProjectDatabase:
    """The location of a project's database. On the database server of the configuration, None stands for its configured values;
    on another database server, user and password must be given. `owned`: this program created the database and may drop it. `schemas` are
    those beside public whose tables are collections, too; None stands for the configured ones. `system_schema` is the schema of the system
    tables."""

    name: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    owned: bool = False
    schemas: tuple[str, ...] | None = None
    system_schema: str = PUBLIC


@frozen
class ProjectConfig:
    """The contents of a project file. `former_secret_keys` are those before `secret_key`, the newest first, which are still valid. The
    tables mail, storage, cache, cors and auth are as given when the project was created. `plugins` are those that are enabled."""

    key: str
    private: bool
    database: ProjectDatabase
    secret_key: str = field(repr=False)
    public_key: str
    mail_from: str = ""
    mail: Mapping[str, Any] = field(factory=dict, repr=False)
    storage: Mapping[str, Any] = field(factory=dict, repr=False)
    cache: Mapping[str, Any] = field(factory=dict)
    cors: Mapping[str, Any] = field(factory=dict)
    auth: Mapping[str, Any] = field(factory=dict, repr=False)
    former_secret_keys: tuple[str, ...] = field(default=(), repr=False)
    plugins: EnabledPlugins = ALL_PLUGINS

    @property
    def file_name(self) -> str:
        """The name of the project file."""
        return f"{PRIVATE if self.private else ''}{self.key}.toml"


class BrokenProjectFile(Exception):
    """Raised if a project file cannot be used; the message says why."""


def new_keys() -> dict[str, Any]:
    """Returns the keys of a new project: `secret_key` signs its tokens, `public_key` is the claim `key` of them."""
    return {"secret_key": secrets.token_urlsafe(32), "public_key": secrets.token_hex(8)}


class ProjectFiles:
    """The project files of a data directory. *lacking* returns the attributes that the database of a file requires but does not
    have."""

    def __init__(self, directory: pathlib.Path, lacking: Callable[[ProjectDatabase], list[str]]) -> None:
        self.directory = directory
        self.lacking = lacking
        private_files.create_directory(directory)
        self._read: dict[str, tuple[tuple[int, int, int], ProjectConfig]] = {}

    def keys(self, *, private: bool = False) -> list[str]:
        """Returns the keys of the projects, sorted; private ones only with *private*."""
        names = sorted(path.name.removesuffix(".toml") for path in self.directory.glob("*.toml"))
        public = [name for name in names if not name.startswith(PRIVATE)]
        return sorted(name.removeprefix(PRIVATE) for name in names) if private else public

    def get(self, key: str) -> ProjectConfig | None:
        """Returns the project with a key, or None. A changed file is read again; checking that is cheap enough for every request.

        Raises BrokenProjectFile.
        """
        if not KEY.fullmatch(key):
            return None
        for private in (False, True):
            path = self._path(key, private)
            try:
                found = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BrokenProjectFile(f"{path}: {error.strerror}") from error
            if not stat.S_ISREG(found.st_mode):
                raise BrokenProjectFile(f"{path}: not a regular file")
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            read = self._read.get(path)
            if read is None or read[0] != stamp:
                config = read_file(path)
                lacking = self.lacking(config.database)
                if lacking:
                    names = " and ".join(f"database.{name}" for name in lacking)
                    raise BrokenProjectFile(f"{path}: a database that is not on the configured database server requires {names}")
                self._read[path] = read = (stamp, config)
            return read[1]
        if not self.directory.is_dir():
            raise BrokenProjectFile(f"the directory {self.directory} is missing")
        return None

    def check_writable(self, key: str) -> None:
        """Raises ServiceUnavailable if the file of a new project could not be written."""
        path = f"{self.directory}/{key}.{secrets.token_hex(4)}.new"
        try:
            with open(path, "xb"):
                os.unlink(path)
        except OSError as error:
            raise _not_changed(key, "written", error) from error

    def add(self, config: ProjectConfig) -> None:
        """Writes the file of a new project, completely or not at all, readable by its owner only. Raises ProjectExists, and
        ServiceUnavailable if the file cannot be written."""
        try:
            self._write(config)
        except OSError as error:
            raise _not_changed(config.key, "written", error) from error

    def _write(self, config: ProjectConfig) -> None:
        if self.get(config.key) is not None:
            raise ProjectExists
        try:
            private_files.create(self.directory / config.file_name, text_of(config).encode())
        except FileExistsError:
            raise ProjectExists from None

    def change(self, config: ProjectConfig, change: Callable[[ProjectConfig], ProjectConfig]) -> ProjectConfig:
        """Replaces the file of a project by what *change* makes of it, completely or not at all, one change at a time. Returns that. Raises
        ServiceUnavailable if the file cannot be written, BrokenProjectFile if it cannot be read."""
        path = self.directory / config.file_name
        try:
            with private_files.locked(self.directory):
                changed = change(read_file(str(path)))
                private_files.replace(path, text_of(changed).encode())
        except OSError as error:
            raise _not_changed(config.key, "written", error) from error
        return changed

    def age(self, config: ProjectConfig) -> float:
        """Returns the seconds since the file of a project was written. Raises ServiceUnavailable if it cannot be read."""
        try:
            return time.time() - os.stat(self.directory / config.file_name).st_mtime
        except OSError as error:
            raise _not_changed(config.key, "read", error) from error

    def remove(self, config: ProjectConfig) -> None:
        """Removes the file of a project, if it exists. Raises ServiceUnavailable if it cannot be removed."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(config.key, config.private))
        except OSError as error:
            raise _not_changed(config.key, "removed", error) from error

    def _path(self, key: str, private: bool) -> str:
        return f"{self.directory}/{PRIVATE if private else ''}{key}.toml"


def _not_changed(key: str, what: str, error: OSError) -> ServiceUnavailable:
    log.error("project {project}: its file cannot be {what}: {error}", project=key, what=what, error=error)
    return ServiceUnavailable(f"The file of the project cannot be {what}: {error.strerror}.", headers={"Retry-After": "5"})


_TEXTS = ("secret_key", "public_key", "mail_from")
_REQUIRED = ("secret_key", "public_key")
_TABLES = ("mail", "storage", "cache", "cors", "auth")


def _as_table(config: ProjectConfig) -> dict[str, Any]:
    table = asdict(config)
    del table["key"], table["private"]
    if table["database"]["system_schema"] == PUBLIC:
        # Versions of the server before this setting refuse a file that has it.
        del table["database"]["system_schema"]
    if config.plugins == ALL_PLUGINS:
        del table["plugins"]
    cleaned: dict[str, Any] = _without_nulls({name: value for name, value in table.items() if value not in ("", {}, ())})
    return cleaned


def _without_nulls(value: Any) -> Any:
    """Returns the value without nulls, which TOML cannot express."""
    if isinstance(value, dict):
        return {str(key): _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(each) for each in value if each is not None]
    return value


def read_file(path: str) -> ProjectConfig:
    """Returns the contents of a project file. Raises BrokenProjectFile, also for what is not a
    regular file: opening or reading a pipe or a device would block the server."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BrokenProjectFile(f"{path}: not a regular file")
            return parse_file(os.path.basename(path), file.read())
    except (OSError, ValueError) as error:
        raise BrokenProjectFile(f"{path}: {error}") from error


def text_of(config: ProjectConfig) -> str:
    """Returns the text of the project file."""
    return tomli_w.dumps(_as_table(config))


def parse_file(name: str, data: bytes) -> ProjectConfig:
    """Returns the contents of a project file with a name. Raises ValueError."""
    key = name.removesuffix(".toml").removeprefix(PRIVATE)
    if not KEY.fullmatch(key):
        raise ValueError(f'"{name}" is not the name of a project file')
    try:
        return _parsed(key, name.startswith(PRIVATE), tomllib.loads(data.decode()))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error


def _parsed(key: str, private: bool, table: dict[str, Any]) -> ProjectConfig:
    database = table.pop("database", {})
    if not isinstance(database, dict):
        raise ValueError("database must be a table")
    known = {each.name for each in fields(ProjectConfig)} - {"key", "private"}
    unknown = sorted(set(table) - known) + sorted(
        f"database.{name}" for name in set(database) - {each.name for each in fields(ProjectDatabase)}
    )
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}")
    if any(not isinstance(table.get(name, {}), dict) for name in _TABLES):
        raise ValueError(f"{', '.join(_TABLES)} must be tables")
    texts = [table[name] for name in _TEXTS if name in table]
    texts += [database.get(name, "") for name in ("name", "host", "user", "password")]
    if not all(isinstance(text, str) for text in texts) or not isinstance(database.get("port", 0), int):
        raise ValueError("names, keys and addresses must be texts, a port must be a number")
    # An empty key cannot sign tokens.
    missing = [name for name in _REQUIRED if not table.get(name)] + ([] if database.get("name") else ["database.name"])
    if missing:
        raise ValueError(f"missing settings: {', '.join(missing)}")
    if "plugins" in table:
        table["plugins"] = _plugins(table["plugins"])
    former = table.setdefault("former_secret_keys", [])
    if not isinstance(former, list) or not all(isinstance(each, str) and each for each in former):
        raise ValueError("former_secret_keys must be a list of keys")
    table["former_secret_keys"] = tuple(former)
    schemas = database.get("schemas")
    if schemas is not None:
        if not isinstance(schemas, list) or not all(isinstance(each, str) for each in schemas):
            raise ValueError("database.schemas must be a list of names")
        database["schemas"] = tuple(schemas)
    if "system_schema" in database:
        try:
            check_system_schema(database["system_schema"])
        except ValueError as error:
            raise ValueError(f"database.system_schema {error}") from None
        if database["system_schema"] in (database.get("schemas") or ()):
            raise ValueError("database.schemas must not have the schema of the system tables (database.system_schema)")
    return ProjectConfig(key=key, private=private, database=ProjectDatabase(**database), **table)


def _plugins(table: Any) -> EnabledPlugins:
    """Returns what the table plugins says. Raises ValueError."""
    if not isinstance(table, dict) or set(table) - {"enabled", "disabled"}:
        raise ValueError("plugins must be a table with enabled or disabled")
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in table.values()):
        raise ValueError("plugins.enabled and plugins.disabled must be lists of names")
    enabled = table.get("enabled")
    return EnabledPlugins(None if enabled is None else tuple(enabled), tuple(table.get("disabled", ())))
