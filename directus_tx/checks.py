"""Finds what would keep a server from starting or from working, without starting it.

`config` checks each setting by itself. This module checks the settings against the machine: addresses, files, programs. The server runs
`problems` before it starts; `directus config check` also runs `project_problems` and
`database_problems`.
"""

import ipaddress
import os
import pathlib
from collections.abc import Iterator

import psycopg2

from directus_tx.accounts.mails import pages_of
from directus_tx.accounts.sso.settings import Drivers, sign_on_settings
from directus_tx.config import Settings, libpq_parameters
from directus_tx.db.connection import CONNECT_TIMEOUT
from directus_tx.embedded import EmbeddedError, EmbeddedPostgres
from directus_tx.extensions import ExtensionError, read_directory
from directus_tx.files.storage.adapters import SHIPPED, Adapters, StoragePlace, adapter_of
from directus_tx.files.storage.settings import LocalSettings
from directus_tx.http.admin_app import INDEX
from directus_tx.http.listening import endpoint_of
from directus_tx.mail.server import mail_server
from directus_tx.projects.files import BrokenProjectFile, ProjectConfig, read_file
from directus_tx.suggestions import suggestion

ENDPOINTS = ("tcp", "tcp4", "tcp6", "unix", "ssl", "systemd", "haproxy", "fd")


def problems(settings: Settings) -> list[str]:
    """Returns a line for each problem, which names the setting. Creates and connects nothing."""
    server = settings.server
    found = [*_endpoints(settings), *_networks(server.trusted_proxies), *_data_directory(pathlib.Path(server.data_dir))]
    if server.admin_app and not (pathlib.Path(server.admin_app) / INDEX).is_file():
        found.append(f"server.admin_app: there is no file {pathlib.Path(server.admin_app) / INDEX}")
    if server.extensions:
        try:
            read_directory(pathlib.Path(server.extensions))
        except ExtensionError as error:
            found += (f"server.extensions: {each}" for each in error.mistakes)
    if not server.admin_app_policy.isprintable():
        found.append("server.admin_app_policy: must be one line of printable characters")
    if server.log_file:
        file = pathlib.Path(server.log_file)
        found += (
            _writable("server.log_file", file)
            if file.parent.exists()
            else [f"server.log_file: there is no directory {file.parent}"]
        )
    try:
        mail_server({}, "", settings.mail)
    except ValueError as error:
        found.append(f"mail: {error}")
    if not settings.database.url:
        try:
            EmbeddedPostgres(pathlib.Path(server.data_dir)).check()
        except EmbeddedError as error:
            found.append(f"the embedded database: {error}")
    return found


def project_problems(settings: Settings, adapters: Adapters = SHIPPED, drivers: Drivers | None = None) -> list[str]:
    """Returns a line for each project file that cannot be used, and for each mail server, storage and setting of accounts that cannot.
    The server starts all the same and serves the other projects. *adapters* are the kinds of storages by name, *drivers*
    the kinds of providers that plugins add."""
    found = []
    for path in sorted((pathlib.Path(settings.server.data_dir) / "projects").glob("*.toml")):
        try:
            config = read_file(str(path))
            storage = _storage(config, settings, adapters)
            mistakes = (*storage, *sign_on_settings(config.auth, drivers).mistakes, *pages_of(config.auth)[1])
            found += [f"{path}: {mistake}" for mistake in mistakes]
            mail_server(config.mail, config.mail_from, settings.mail)
        except BrokenProjectFile as error:
            found.append(str(error))
        except ValueError as error:
            found.append(f"{path}: mail: {error}")
    return found


def _storage(config: ProjectConfig, settings: Settings, adapters: Adapters) -> Iterator[str]:
    place = StoragePlace(config.key, config.storage, settings.storage, pathlib.Path(settings.server.data_dir))
    try:
        adapter = adapter_of(adapters, place)
        storage = adapter.configure(place)
        problem = adapter.problem(storage)
    except ValueError as error:
        problem, storage = str(error), None
    if problem is not None:
        yield problem
    if isinstance(storage, LocalSettings):
        yield from _writable("storage.root", storage.root / "file")


def database_problems(settings: Settings) -> list[str]:
    """Connects to the database server of database.url, and returns a line if that fails or if the role may not create databases. Blocks
    for some seconds at most."""
    if not settings.database.url:
        return []
    parameters = {"connect_timeout": int(CONNECT_TIMEOUT), **libpq_parameters(settings.database.url)}
    try:
        connection = psycopg2.connect(**parameters)
    except psycopg2.Error as error:
        return [f"database.url: {' '.join(str(error).split())}"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT rolname, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
            row = cursor.fetchone()
    finally:
        connection.close()
    if row is not None and not row[1]:
        return [
            f"database.url: the role {row[0]} may not create databases; projects need existing databases (db_name) or CREATEDB"
        ]
    return []


def _endpoints(settings: Settings) -> Iterator[str]:
    listen = settings.server.listen
    if not listen:
        yield "server.listen: names no address"
    for description in listen:
        if listen.count(description) > 1:
            yield f'server.listen: "{description}" is there twice'
            return
        kind = description.partition(":")[0]
        try:
            # Parsing needs no reactor.
            endpoint_of(None, description, settings.server.backlog)
        except Exception as error:
            # The parsers of the kinds of endpoints raise exceptions of many types.
            meant = suggestion(kind, ENDPOINTS)
            reason = f"there is no kind of endpoint {kind!r}{meant}" if kind not in ENDPOINTS else str(error)
            yield f'server.listen: "{description}" is not a Twisted endpoint: {reason}'


def _networks(trusted: tuple[str, ...]) -> Iterator[str]:
    for each in trusted:
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            yield f'server.trusted_proxies: "{each}" is not an IP address or network'


def _data_directory(directory: pathlib.Path) -> Iterator[str]:
    for path in (directory, directory / "projects"):
        if path.exists() and not path.is_dir():
            yield f"server.data_dir: {path} is not a directory"
            return
    yield from _writable("server.data_dir", directory / "projects" / "file")


def _writable(setting: str, path: pathlib.Path) -> Iterator[str]:
    """Yields a line if a file cannot be written, or created with the directories above it."""
    if path.is_dir():
        yield f"{setting}: {path} is a directory"
        return
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    needed = os.W_OK if existing == path else os.W_OK | os.X_OK
    if existing != path and not existing.is_dir():
        yield f"{setting}: {existing} is not a directory"
    elif not os.access(existing, needed):
        yield f"{setting}: {existing} cannot be written by the user who runs this"
