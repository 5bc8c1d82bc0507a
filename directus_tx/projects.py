"""The projects of one server: each a file, a database, a pool that opens when it is needed, and the snapshot of its schema."""

import hmac
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import psycopg2
from attrs import field, frozen
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.config import DatabaseSettings
from directus_tx.context import ADMINISTRATOR
from directus_tx.db import SQL, Connection, ConnectionBudget, Database, Identifier, Literal, Parameters, Session, connected
from directus_tx.errors import InvalidRequest, NotFound, ProjectExists, ServiceUnavailable, Unauthorized
from directus_tx.project_files import (
    KEY,
    RESERVED,
    BrokenProjectFile,
    ProjectConfig,
    ProjectDatabase,
    ProjectFiles,
    new_keys,
)
from directus_tx.schema.introspect import read_snapshot
from directus_tx.schema.migrations import LOCK, fingerprint, migrate
from directus_tx.schema.model import Snapshot
from directus_tx.schema.patterns import matches

log = Logger()
RESERVED_CONNECTIONS = 10
DEFAULT_CONNECTIONS = 80


class Project:
    """A project that is in use. `accounts` is what is known of the bearers of tokens; it is emptied, and `accounts_version` moves,
    when an account changes."""

    def __init__(self, config: ProjectConfig, database: Database) -> None:
        self.config = config
        self.key = config.key
        self.secret_key = config.secret_key
        self.public_key = config.public_key
        self.database = database
        self.accounts: dict[Any, Any] = {}
        self.accounts_version = 0
        database.on_change = self._changed
        self._snapshot: Snapshot | None = None
        self._version = 0
        self._migrated = False
        self._building = defer.DeferredLock()

    def current(self) -> Snapshot | None:
        """The snapshot, where it is known to be the newest: some connection is open and would have told of a newer one."""
        found = self._snapshot
        return found if found is not None and found.version >= self._version and self.database.size else None

    async def snapshot(self) -> Snapshot:
        """The newest snapshot, built if need be; those who ask at the same time share the work. Migrates older system tables.

        Raises ServiceUnavailable where the database cannot be reached, or is newer than this program.
        """
        found = self.current()
        if found is not None:
            return found
        await self._building.acquire()
        try:
            session = self.database.session()
            if not self._migrated:
                done = await migrate(session)
                if done:
                    log.info("project {project}: migrated to {version}", project=self.key, version=done[-1])
                self._migrated = True
            if self._snapshot is not None:
                # No connection has been open to tell of changes: ask.
                ((version,),) = await session.query("SELECT version FROM directus_versions WHERE kind = 'schema'")
                if self._snapshot.version >= max(version, self._version):
                    return self._snapshot
            while True:
                self._snapshot = await read_snapshot(session)
                if self._snapshot.version >= self._version:
                    return self._snapshot
        finally:
            self._building.release()

    def _changed(self, kind: str, version: int) -> None:
        if kind == "schema":
            self._version = max(self._version, version)
        elif kind == "accounts" and version != self.accounts_version:
            self.accounts_version = version
            self.accounts.clear()


@frozen
class NewProject:
    """What a project is made of, checked. `database` is None where the server makes one."""

    key: str
    user_email: str
    user_password: str = field(repr=False)
    super_admin_token: str = field(repr=False)
    user_token: str | None = field(default=None, repr=False)
    project_name: str = ""
    private: bool = False
    force: bool = False
    existing: bool = False
    database: ProjectDatabase | None = None
    tables: Mapping[str, Any] = field(factory=dict, repr=False)


_TEXTS = ("project_name", "user_token", "db_host", "db_name", "db_user", "db_password", "mail_from")
_FLAGS = ("private", "force", "existing")
_TABLES = ("mail", "storage", "cache", "cors", "auth")


def checked(attributes: Mapping[str, Any]) -> NewProject:
    """The attributes of POST /server/projects. Raises InvalidRequest, naming what is wrong."""
    for name in ("project", "user_email", "user_password", "super_admin_token"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise InvalidRequest(f'"{name}" is needed, as text.')
    for name in _TEXTS:
        if not isinstance(attributes.get(name), (str, type(None))):
            raise InvalidRequest(f'"{name}" takes text.')
    for name in _FLAGS:
        if not isinstance(attributes.get(name), (bool, type(None))):
            raise InvalidRequest(f'"{name}" is true or false.')
    for name in _TABLES:
        if not isinstance(attributes.get(name), (dict, type(None))):
            raise InvalidRequest(f'"{name}" takes an object.')
    key = attributes["project"]
    if not KEY.fullmatch(key) or key in RESERVED:
        raise InvalidRequest('"project" takes up to 40 letters, digits, dashes and underscores, and no reserved word.')
    if not matches("$email", attributes["user_email"]) or len(attributes["user_email"]) > 128:
        raise InvalidRequest('"user_email" is no e-mail address.')
    port = attributes.get("db_port")
    if isinstance(port, str) and port.isdigit():
        port = int(port)
    if not (port is None or (isinstance(port, int) and 0 < port < 65536)):
        raise InvalidRequest('"db_port" is no port.')
    database = None
    if attributes.get("db_name"):
        database = ProjectDatabase(
            attributes["db_name"],
            attributes.get("db_host"),
            port,
            attributes.get("db_user"),
            attributes.get("db_password"),
        )
    return NewProject(
        key=key,
        database=database,
        tables={name: attributes[name] for name in (*_TABLES, "mail_from") if attributes.get(name)},
        **{
            name: attributes[name]
            for name in ("user_email", "user_password", "user_token", "super_admin_token", "project_name", *_FLAGS)
            if attributes.get(name) is not None
        },
    )


class Projects:
    """All projects of a server. `server` is where databases are made unless a project has its own."""

    def __init__(
        self,
        reactor: Any,
        data_dir: pathlib.Path,
        server: Parameters,
        settings: DatabaseSettings,
        hasher: PasswordHasher,
        super_admin_token: str = "",
    ) -> None:
        self.reactor = reactor
        self.server = server
        self.settings = settings
        self.hasher = hasher
        self.files = ProjectFiles(data_dir / "projects")
        self._token_file = data_dir / "super_admin_token"
        self._token = super_admin_token
        self._open: dict[str, Project] = {}
        self._making: set[str] = set()
        self._budgets: dict[tuple[Any, Any], ConnectionBudget] = {}
        self._template = defer.DeferredLock()
        self._has_template = False

    # finding

    def get(self, key: str) -> Project:
        """The project of a key. Raises Unauthorized where there is none, as where nobody is told; ServiceUnavailable where its file
        is broken."""
        config = self._config(key)
        project = self._open.get(key)
        if project is not None and project.config is not config:
            defer.ensureDeferred(self._open.pop(key).database.close())
            project = None
        if config is None:
            raise Unauthorized("There is no such project.")
        if project is None:
            self._open[key] = project = Project(config, self._database(config.database))
        return project

    def _config(self, key: str) -> ProjectConfig | None:
        """What the file of a project says, or None where there is none. Raises ServiceUnavailable where it is broken."""
        try:
            return self.files.get(key)
        except BrokenProjectFile as error:
            log.error("project {key}: {error}", key=key, error=error)
            raise ServiceUnavailable("The project's configuration is broken; see the server's log.") from None

    def listed(self) -> list[str]:
        """The keys of the projects that are not private."""
        return self.files.keys()

    async def migrate_all(self) -> None:
        """Migrates the databases of all projects, one after the other; one that cannot be is logged, and left."""
        for key in self.files.keys(private=True):
            try:
                await self.get(key).snapshot()
            except Exception as error:
                log.error("project {key} cannot be opened: {error}", key=key, error=error)

    async def close(self) -> None:
        for project in self._open.values():
            await project.database.close()
        self._open.clear()
        for budget in self._budgets.values():
            budget.stop()

    # the super admin token

    def check_super_admin(self, token: object) -> None:
        """Raises InvalidRequest where there is no token, Unauthorized where it is the wrong one."""
        if not isinstance(token, str) or not token:
            raise InvalidRequest('"super_admin_token" is needed.')
        wanted = self.super_admin_token()
        if not wanted or not hmac.compare_digest(wanted.encode(), token.encode()):
            raise Unauthorized("The super admin token is wrong.")

    def super_admin_token(self) -> str:
        """The token as configured, or as the first project's creation has set it; empty before that."""
        if not self._token and self._token_file.exists():
            self._token = self._token_file.read_text(encoding="utf-8").strip()
        return self._token

    def _keep_super_admin_token(self, token: str) -> None:
        handle = os.open(self._token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(token)

    # creating and deleting

    async def create(self, new: NewProject) -> Project:
        """Makes a project: its database, unless it brings one, with the system tables and the first administrator, and its file. All
        of it or nothing.

        Raises Unauthorized, ProjectExists, ServiceUnavailable; InvalidRequest where its database cannot be used.
        """
        if self.super_admin_token():
            self.check_super_admin(new.super_admin_token)
        if new.key in self._making or self._config(new.key) is not None:
            raise ProjectExists
        self._making.add(new.key)
        try:
            config = await self._make(new)
        finally:
            self._making.discard(new.key)
        if not self.super_admin_token():
            self._keep_super_admin_token(new.super_admin_token)
        log.info("project {project} created", project=config.key)
        return self.get(config.key)

    async def _make(self, new: NewProject) -> ProjectConfig:
        hashed = await self.hasher.hash(new.user_password)
        place = new.database or await self._make_database(new.key)
        database = self._database(place)
        try:
            try:
                await self._install(database.session(), new, hashed)
            finally:
                await database.close()
            config = ProjectConfig(new.key, new.private, place, **(new_keys() | dict(new.tables)))
            self.files.add(config)
        except BaseException:
            if place.owned:
                await self._drop_database(place.name)
            raise
        return config

    async def _install(self, session: Session, new: NewProject, hashed: str) -> None:
        """Puts the system tables, the first administrator and the project's name into a database."""
        taken = (await session.query("SELECT to_regclass('directus_users') IS NOT NULL"))[0][0]
        if taken and new.database is not None and not (new.existing or new.force):
            raise InvalidRequest("The database holds a project already: say existing to take it over, or force to replace it.")
        if taken and new.force:
            await session.transaction(_drop_system_tables)
        await migrate(session)

        async def work(session: Session) -> None:
            await session.query("UPDATE directus_settings SET value = %s WHERE key = 'project_name'", (new.project_name,))
            await session.query(
                "INSERT INTO directus_users (status, role, first_name, last_name, email, password, token, locale)"
                " VALUES ('active', %s, 'Admin', 'User', %s, %s, %s, 'en-US')",
                (ADMINISTRATOR, new.user_email, hashed, new.user_token or None),
            )

        if not (taken and new.existing):
            await session.transaction(work)

    async def delete(self, key: str) -> None:
        """Removes a project. The database goes with it if the server made it; one that the project brought is left as it is.

        Raises NotFound.
        """
        config = self._config(key)
        if config is None:
            raise NotFound("There is no such project.")
        self.files.remove(config)
        project = self._open.pop(key, None)
        if project is not None:
            await project.database.close()
        if config.database.owned:
            await self._drop_database(config.database.name)
        log.info("project {project} deleted", project=key)

    # databases

    def _database(self, place: ProjectDatabase) -> Database:
        """The pool of a project's database."""
        own = {"host": place.host, "port": place.port, "user": place.user, "password": place.password}
        parameters = {**self.server, **{k: v for k, v in own.items() if v is not None}, "dbname": place.name}
        settings = self.settings
        return Database(
            self.reactor,
            self._budget(parameters),
            parameters,
            pool_size=settings.pool_size,
            queue_size=settings.queue_size,
            queue_timeout=settings.queue_timeout,
            statement_timeout=settings.statement_timeout,
        )

    def _budget(self, parameters: Parameters) -> ConnectionBudget:
        """The bound that the pools on one database server share."""
        where = (parameters.get("host"), parameters.get("port"))
        if where not in self._budgets:
            limit = self.settings.max_connections or DEFAULT_CONNECTIONS
            self._budgets[where] = ConnectionBudget(self.reactor, limit, self.settings.idle_timeout)
        return self._budgets[where]

    async def measure(self) -> None:
        """Learns how many connections the server allows, where the settings don't say how many to use."""
        if not self.settings.max_connections:
            async with connected(self.reactor, self.server) as connection:
                ((allowed,),) = await connection.run("SELECT current_setting('max_connections')::int")
            self._budget(self.server).limit = max(allowed - RESERVED_CONNECTIONS, 1)

    async def engine(self) -> str:
        """The database server's own name and version."""
        async with connected(self.reactor, self.server) as connection:
            ((version,),) = await connection.run("SELECT current_setting('server_version')")
        return f"PostgreSQL {version}"

    async def _make_database(self, key: str) -> ProjectDatabase:
        """Makes a database that has the system tables already: a copy of the template."""
        await self._template.acquire()
        try:
            if not self._has_template:
                await self._make_template()
                self._has_template = True
        finally:
            self._template.release()
        # The suffix keeps a new project apart from the database of a deleted one that could not be dropped.
        name = f"directus_{key}_{secrets.token_hex(3)}"
        async with connected(self.reactor, self.server) as connection:
            try:
                await connection.run(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template())))
            except psycopg2.errors.InvalidCatalogName:
                # Somebody has dropped the template since.
                await self._make_template()
                await connection.run(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template())))
            except psycopg2.errors.InsufficientPrivilege:
                raise InvalidRequest("The server may not make databases: give one as db_name.") from None
        return ProjectDatabase(name, owned=True)

    async def _make_template(self) -> None:
        """Makes the database that others are copied from, once for each set of migrations, however many servers want it."""
        async with connected(self.reactor, self.server) as connection:
            await connection.run("SELECT pg_advisory_lock(%s)", (LOCK,))
            if await connection.run("SELECT 1 FROM pg_database WHERE datname = %s", (template(),)):
                return
            unfinished = f"{template()}_new"
            await connection.run(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(unfinished)))
            try:
                await _create_utf8(connection, unfinished)
            except psycopg2.errors.InsufficientPrivilege:
                raise InvalidRequest("The server may not make databases: give one as db_name.") from None
            database = self._database(ProjectDatabase(unfinished))
            try:
                await migrate(database.session())
            finally:
                await database.close()
            rename = SQL("ALTER DATABASE {} RENAME TO {}")
            await connection.run(rename.format(Identifier(unfinished), Identifier(template())))

    async def _drop_database(self, name: str) -> None:
        try:
            async with connected(self.reactor, self.server) as connection:
                await connection.run(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        except (psycopg2.Error, ServiceUnavailable) as error:
            log.error("database {name} could not be dropped: {error}", name=name, error=error)


def template() -> str:
    """The name of the template database."""
    return f"directus_tx_template_{fingerprint()}"


async def _create_utf8(connection: Connection, name: str) -> None:
    """Makes an empty database whose text is UTF-8 and whose letters beyond ASCII have a lower case."""
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'"
    for locale in (" LC_COLLATE 'C' LC_CTYPE {}", ""):
        for ctype in ("C.UTF-8", "C.utf8", "en_US.UTF-8") if locale else ("",):
            try:
                await connection.run(SQL(create + locale).format(Identifier(name), Literal(ctype)))
                return
            except (psycopg2.errors.WrongObjectType, psycopg2.errors.InvalidParameterValue):
                # The server's machine does not have this locale.
                continue


async def _drop_system_tables(session: Session) -> None:
    tables = await session.query(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE %s", ("directus\\_%",)
    )
    for (table,) in tables:
        await session.query(SQL("DROP TABLE {} CASCADE").format(Identifier(table)))
    await session.query(
        "DROP FUNCTION IF EXISTS directus_touched() CASCADE; DROP FUNCTION IF EXISTS directus_touch(text) CASCADE"
    )
