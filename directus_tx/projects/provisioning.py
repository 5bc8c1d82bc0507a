"""Creates projects: checks the attributes of POST /server/projects, creates and drops databases, and installs the system
tables."""

import re
import secrets
from collections.abc import Mapping
from typing import Any

import psycopg2
from attrs import field, frozen
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.accounts.mails import pages_of
from directus_tx.accounts.sso.settings import sign_on_settings
from directus_tx.config import DatabaseSettings
from directus_tx.context import ADMINISTRATOR
from directus_tx.db.budget import COUNT, ConnectionBudget, process_name
from directus_tx.db.connection import (
    NO_ANSWER,
    PATIENCE,
    PUBLIC,
    Connection,
    Parameters,
    TooManyConnections,
    connected,
    holding,
)
from directus_tx.db.pool import Database
from directus_tx.db.session import SCHEMA_LOCK, Session
from directus_tx.db.sql import SQL, Identifier, Literal
from directus_tx.errors import ApiError, InvalidRequest, ServiceUnavailable, UpdateForbidden
from directus_tx.mail.addresses import is_mailable
from directus_tx.mail.server import check_table
from directus_tx.projects.availability import Availability
from directus_tx.projects.files import KEY, RESERVED, ProjectDatabase, check_system_schema
from directus_tx.schema import event_triggers
from directus_tx.schema.migrations import fingerprint, has_schema, has_table, migrate
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.parsing import MAX_HASHED
from directus_tx.schema.patterns import is_email
from directus_tx.schema.sealed import USER_TOKEN
from directus_tx.sealing import Keys

log = Logger()
DEFAULT_CONNECTIONS = 80
"""The maximum number of connections to a database server until it has been asked."""

TEMPLATE_PATIENCE = 30.0
"""Seconds to wait while other requests or processes make the template database."""

_TEMPLATE_IN_USE = "Others are making the database that new ones are copied from; try again."

_SHARED = frozenset({"application_name", "sslmode", "sslrootcert"})
"""The keywords of libpq that also apply to other database servers: the name of this process, and how a connection is encrypted."""

_CREDENTIALS = frozenset({"user", "password", "passfile", "service", "sslcert", "sslkey", "sslpassword"})
"""The keywords of libpq that hold credentials."""


@frozen
class NewProject:
    """The checked attributes of a new project. `database` is None if the server creates one. `super_admin_token` is the one that has been
    sent, None if the operator of the server creates the project."""

    key: str
    user_email: str
    user_password: str = field(repr=False)
    super_admin_token: str | None = field(default=None, repr=False)
    user_token: str | None = field(default=None, repr=False)
    project_name: str = ""
    private: bool = False
    force: bool = False
    existing: bool = False
    database: ProjectDatabase | None = None
    tables: Mapping[str, Any] = field(factory=dict, repr=False)


_TEXTS = ("project_name", "user_token", "db_host", "db_name", "db_user", "db_password", "db_system_schema", "mail_from")
_HOST = re.compile(r"[0-9A-Za-z._:-]{1,253}")
DEFAULT_PORT = 5432
MAX_NAME = 63
"""The maximum bytes of a name in PostgreSQL. It truncates longer names and would connect to another database."""

MAX_TOKEN = 255
_FLAGS = ("private", "force", "existing")
_TABLES = ("mail", "storage", "cache", "cors", "auth")


def check_key(key: str) -> str:
    """Returns the key of a new project. Raises InvalidRequest if it is not valid."""
    if not KEY.fullmatch(key) or key in RESERVED:
        raise InvalidRequest(
            '"project" must consist of at most 40 letters, digits, dashes and underscores, and must not be a reserved word.'
        )
    return key


def checked(attributes: Mapping[str, Any], *, operator: bool = False) -> NewProject:
    """Returns the checked attributes of POST /server/projects. If the *operator* of the server creates the project, no super admin token is
    needed. Raises InvalidRequest, naming the attribute that is not valid."""
    for name in ("project", "user_email", "user_password", *(() if operator else ("super_admin_token",))):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise InvalidRequest(f'"{name}" is required and must be a text.')
    for name in _TEXTS:
        if not isinstance(attributes.get(name), (str, type(None))):
            raise InvalidRequest(f'"{name}" must be a text.')
    for name in ("project", "user_email", "user_password", "super_admin_token", *_TEXTS):
        if "\x00" in (attributes.get(name) or ""):
            raise InvalidRequest(f'"{name}" contains a character that cannot be stored (NUL).')
    for name in ("db_name", "db_user"):
        if len((attributes.get(name) or "").encode()) > MAX_NAME:
            raise InvalidRequest(f'"{name}" must have at most {MAX_NAME} bytes.')
    if len(attributes.get("user_token") or "") > MAX_TOKEN:
        raise InvalidRequest(f'"user_token" must have at most {MAX_TOKEN} characters.')
    if len(attributes["user_password"]) > MAX_HASHED:
        raise InvalidRequest(f'"user_password" must have at most {MAX_HASHED} characters.')
    if attributes.get("db_host") and not _HOST.fullmatch(attributes["db_host"]):
        raise InvalidRequest('"db_host" must be the name or address of one host.')
    for name in _FLAGS:
        if not isinstance(attributes.get(name), (bool, type(None))):
            raise InvalidRequest(f'"{name}" must be true or false.')
    for name in _TABLES:
        if not isinstance(attributes.get(name), (dict, type(None))):
            raise InvalidRequest(f'"{name}" must be an object.')
    try:
        check_table(attributes.get("mail") or {})
    except ValueError as error:
        raise InvalidRequest(f'"mail": {error}.') from None
    auth = attributes.get("auth") or {}
    if auth.get("password_providers"):
        # With them, the server would connect to any address.
        raise InvalidRequest('"auth" cannot be used: password_providers can be set in the project file only.')
    for mistake in (*sign_on_settings(auth).mistakes, *pages_of(auth)[1]):
        raise InvalidRequest(f'"auth" cannot be used: {mistake}.')
    if attributes.get("mail_from") and not is_mailable(attributes["mail_from"]):
        raise InvalidRequest('"mail_from" is not an address that mail can be sent from.')
    key = check_key(attributes["project"])
    if not is_email(attributes["user_email"]) or len(attributes["user_email"]) > 128:
        raise InvalidRequest('"user_email" is not a valid e-mail address.')
    port = attributes.get("db_port")
    if isinstance(port, str):
        port = whole_number(port) or 0
    if not (port is None or (isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536)):
        raise InvalidRequest('"db_port" is not a valid port.')
    database = None
    if attributes.get("db_name"):
        database = ProjectDatabase(
            attributes["db_name"],
            attributes.get("db_host") or None,
            port,
            attributes.get("db_user") or None,
            attributes.get("db_password") or None,
            system_schema=checked_system_schema(attributes.get("db_system_schema")),
        )
    for name in ("db_host", "db_system_schema"):
        if attributes.get(name) and database is None:
            raise InvalidRequest(f'"{name}" requires "db_name".')
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


def checked_system_schema(name: str | None) -> str:
    """Returns the schema of the system tables of a new project, by default public. Raises InvalidRequest."""
    try:
        return check_system_schema(name or PUBLIC)
    except ValueError as error:
        raise InvalidRequest(f'"db_system_schema" {error}.') from None


class Databases:
    """Opens pools for the databases of projects, and creates and drops databases. `server` is the database server on which they
    are created; `availability` says whether it can be used yet."""

    def __init__(self, reactor: Any, server: Parameters, settings: DatabaseSettings) -> None:
        self.reactor = reactor
        self.server = {**server, "application_name": process_name(server.get("application_name", ""))}
        self.settings = settings
        self.delivers = False
        """Whether this process delivers the messages that it writes to outboxes, so that it need not be notified of them."""
        self._budgets: dict[tuple[Any, Any], ConnectionBudget] = {}
        self.availability = Availability(reactor)
        self._template = defer.DeferredLock()
        self._has_template = False

    def close(self) -> None:
        """Stops the timers of the connection budgets."""
        for budget in self._budgets.values():
            budget.stop()

    def pool(self, place: ProjectDatabase) -> Database:
        """Returns a new pool for a project's database."""
        parameters, settings = self.parameters(place), self.settings
        if self.delivers:
            # The trigger of directus_outbox asks for it.
            parameters = {**parameters, "options": f"{parameters.get('options', '')} -c directus.delivers=on".strip()}
        return Database(
            self.reactor,
            self.budget(parameters),
            parameters,
            pool_size=settings.pool_size,
            queue_size=settings.queue_size,
            queue_timeout=settings.queue_timeout,
            statement_timeout=settings.statement_timeout,
            lock_timeout=settings.lock_timeout,
            system_schema=place.system_schema,
        )

    def parameters(self, place: ProjectDatabase) -> Parameters:
        """Returns the libpq keywords for a project's database. The configured user, password and certificates are not sent to
        other database servers, and the configured password is not used with another user. If the system tables have a schema of their own,
        it is the first one of the search_path."""
        found = self._address(place)
        if place.system_schema == PUBLIC:
            return found
        options = f"{found.get('options', '')} -c search_path={place.system_schema},{PUBLIC}"
        return {**found, "options": options.strip()}

    def _address(self, place: ProjectDatabase) -> Parameters:
        named = {"host": place.host, "port": place.port, "user": place.user, "password": place.password, "dbname": place.name}
        named = {key: value for key, value in named.items() if value is not None}
        if not self.is_own(place):
            return {key: value for key, value in self.server.items() if key in _SHARED} | named
        if place.user is not None:
            return {key: value for key, value in self.server.items() if key not in _CREDENTIALS} | named
        return {**self.server, **named}

    def is_own(self, place: ProjectDatabase) -> bool:
        """Whether a database is on the configured database server."""
        port = str(self.server.get("port") or DEFAULT_PORT)
        return place.host in (None, self.server.get("host")) and (place.port is None or str(place.port) == port)

    def lacking(self, place: ProjectDatabase) -> list[str]:
        """Returns the missing ones of "host", "user" and "password", which a database on another server must have. The password
        is not required if the host is the directory of a Unix socket, because PostgreSQL then knows the user of the operating
        system."""
        if self.is_own(place):
            return []
        needed = ("host", "user") if (place.host or "").startswith("/") else ("host", "user", "password")
        return [name for name in needed if not getattr(place, name)]

    def budget(self, parameters: Parameters) -> ConnectionBudget:
        """Returns the connection budget that the pools of a database server share."""
        where = (parameters.get("host"), parameters.get("port"))
        if where not in self._budgets:
            limit, shared = self.settings.max_connections or DEFAULT_CONNECTIONS, not self.settings.max_connections
            self._budgets[where] = ConnectionBudget(self.reactor, limit, self.settings.idle_timeout, shared=shared)
        return self._budgets[where]

    async def measure(self) -> None:
        """Connects to the database server, and asks it how many connections this process may open, unless the setting
        max_connections is given. Raises ServiceUnavailable."""
        (row,) = await self._ask(COUNT)
        budget = self.budget(self.server)
        if budget.shared:
            budget.share(row)

    async def check(self, timeout: float) -> None:
        """Asks the database server to answer. Raises ServiceUnavailable if it does not within *timeout* seconds. A server that refuses
        the connection because it has reached its limit answers."""
        asking = defer.Deferred.fromCoroutine(self._ask("SELECT 1", patience=0.0))
        try:
            await asking.addTimeout(timeout, self.reactor)
        except defer.TimeoutError:
            raise ServiceUnavailable(NO_ANSWER) from None
        except TooManyConnections:
            pass

    async def engine(self) -> str:
        """Returns the name and version of the database server. Raises ServiceUnavailable."""
        await self.availability.wait()
        ((version,),) = await self._ask("SELECT current_setting('server_version')")
        return f"PostgreSQL {version}"

    async def _ask(self, statement: str, patience: float = PATIENCE) -> list[Any]:
        """Runs a statement on a new connection to the database server. Raises ServiceUnavailable."""
        try:
            async with connected(self.reactor, self.server, patience=patience) as connection:
                return await connection.run(statement)
        except psycopg2.Error as error:
            raise ServiceUnavailable("The database server does not answer.") from error

    async def make(self, key: str) -> ProjectDatabase:
        """Creates a database with the system tables, as a copy of the template. Raises InvalidRequest if the role may not create
        databases, ServiceUnavailable if the database server cannot be used."""
        await self.availability.wait()
        async with holding(self.reactor, self._template, TEMPLATE_PATIENCE, _TEMPLATE_IN_USE):
            if not self._has_template:
                await self._make_template()
                self._has_template = True
        # The suffix prevents a conflict with the database of a deleted project of the same key that could not be dropped.
        name = f"directus_{key}_{secrets.token_hex(3)}"
        try:
            await self._copy_template(name)
        except ServiceUnavailable:
            # Whether the database exists is not known if the connection was lost.
            await self.drop(name)
            raise
        return ProjectDatabase(name, owned=True)

    async def make_empty(self, key: str) -> ProjectDatabase:
        """Creates an empty database for a project that is restored into it. Raises InvalidRequest if the role may not create databases,
        ServiceUnavailable if the database server cannot be used."""
        await self.availability.wait()
        name = f"directus_{key}_{secrets.token_hex(3)}"
        async with connected(self.reactor, self.server) as connection:
            try:
                await _create_utf8(connection, name)
            except psycopg2.errors.InsufficientPrivilege:
                raise InvalidRequest("The server has no permission to create databases.") from None
        return ProjectDatabase(name, owned=True)

    async def _copy_template(self, name: str) -> None:
        create = SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template()))
        async with connected(self.reactor, self.server) as connection:
            try:
                await connection.run(create)
            except psycopg2.errors.InvalidCatalogName:
                # The template has been dropped since it was created.
                await self._make_template()
                await connection.run(create)
            except psycopg2.errors.InsufficientPrivilege:
                raise InvalidRequest(
                    "The server has no permission to create databases: give the name of an existing one as db_name."
                ) from None

    async def _make_template(self) -> None:
        """Creates the database that others are copied from, unless it exists: one for each set of migrations, also if several
        servers start at the same time."""
        async with connected(self.reactor, self.server) as connection:
            await connection.run(SQL("SET lock_timeout = {}").format(Literal(int(TEMPLATE_PATIENCE * 1000))))
            try:
                await connection.run("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
            except psycopg2.errors.LockNotAvailable:
                raise ServiceUnavailable(_TEMPLATE_IN_USE) from None
            await connection.run("RESET lock_timeout")
            if await connection.run("SELECT 1 FROM pg_database WHERE datname = %s", (template(),)):
                return
            unfinished = f"{template()}_new"
            await connection.run(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(unfinished)))
            try:
                await _create_utf8(connection, unfinished)
            except psycopg2.errors.InsufficientPrivilege:
                raise InvalidRequest(
                    "The server has no permission to create databases: give the name of an existing one as db_name."
                ) from None
            database = self.pool(ProjectDatabase(unfinished))
            try:
                await migrate(Session(database))
                await event_triggers.provide(Session(database), wanted=self.settings.event_trigger != "off", asked=False)
            finally:
                await database.close()
            rename = SQL("ALTER DATABASE {} RENAME TO {}")
            await connection.run(rename.format(Identifier(unfinished), Identifier(template())))

    async def drop(self, name: str) -> None:
        """Drops a database. A failure is logged and not raised."""
        try:
            async with connected(self.reactor, self.server) as connection:
                await connection.run(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        except ApiError as error:
            log.error("database {name} could not be dropped: {error}", name=name, error=error)


def template() -> str:
    """Returns the name of the template database."""
    return f"directus_tx_template_{fingerprint()}"


async def _create_utf8(connection: Connection, name: str) -> None:
    """Creates an empty database with encoding UTF-8 and, if the machine has one, a locale in which lower() works beyond ASCII."""
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'"
    for locale in (" LC_COLLATE 'C' LC_CTYPE {}", ""):
        for ctype in ("C.UTF-8", "C.utf8", "en_US.UTF-8") if locale else ("",):
            try:
                await connection.run(SQL(create + locale).format(Identifier(name), Literal(ctype)))
                return
            except (psycopg2.errors.WrongObjectType, psycopg2.errors.InvalidParameterValue):
                # The machine of the database server does not have this locale.
                continue


async def install(session: Session, new: NewProject, hashed: str, keys: Keys) -> bool:
    """Creates the system tables and the first administrator in a database and stores the name of the project. *keys* are those of the
    project. Returns False, and creates
    nothing, if `existing` is set and the database contains a project. Raises InvalidRequest if it contains one and neither `existing` nor
    `force` is set, or if the role may not create tables."""
    try:
        return await _install(session, new, hashed, keys)
    except UpdateForbidden as error:
        if error.diagnostics is None or error.diagnostics.sqlstate != "42501":
            raise
        schema = session.database.system_schema
        raise InvalidRequest(f"The database role has no permission to create tables in the schema {schema}.") from error


async def _install(session: Session, new: NewProject, hashed: str, keys: Keys) -> bool:
    schema = session.database.system_schema
    if schema != PUBLIC:
        await _provide_schema(session, schema)
    taken = await has_table(session, schema, "directus_users")
    if taken and new.database is not None and not (new.existing or new.force):
        raise InvalidRequest("The database already contains a project: set existing to use it, or force to replace it.")
    if taken and new.force:
        await session.schema_change(_drop_system_tables)
    await migrate(session)
    token = new.user_token or None

    async def work(session: Session) -> None:
        await session.query("UPDATE directus_settings SET value = %s WHERE key = 'project_name'", (new.project_name,))
        await session.query(
            "INSERT INTO directus_users (status, role, first_name, last_name, email, password, token, token_fingerprint, locale)"
            " VALUES ('active', %s, 'Admin', 'User', %s, %s, %s, %s, 'en-US')",
            (ADMINISTRATOR, new.user_email, hashed, USER_TOKEN.sealed(keys, token), USER_TOKEN.mark(keys, token)),
        )

    if taken and new.existing and not new.force:
        return False
    await session.transaction(work)
    return True


async def _provide_schema(session: Session, schema: str) -> None:
    """Creates the schema of the system tables, unless it exists. Raises InvalidRequest if the role may not do that, or if the schema cannot
    be used."""
    if await has_table(session, PUBLIC, "directus_users"):
        # Should the schema be dropped, the names of system tables would refer to those.
        raise InvalidRequest("The schema public has the system tables of a project: another schema cannot be used for this one.")
    if not await has_schema(session, schema):
        create = SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema))
        try:
            await session.transaction(lambda session: session.query(create))
        except UpdateForbidden as error:
            raise InvalidRequest(
                f'There is no schema "{schema}", and the database role has no permission to create it.'
                f" The owner of the database can: CREATE SCHEMA {schema} AUTHORIZATION the role."
            ) from error
    other = await session.query(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
        " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname NOT LIKE %s ORDER BY 1 LIMIT 1",
        (schema, "directus\\_%"),
    )
    for (name,) in other:
        raise InvalidRequest(f'The schema "{schema}" has other tables ("{name}"): the system tables need a schema of their own.')
    (usable,) = (await session.query("SELECT has_schema_privilege(%s, 'USAGE')", (schema,)))[0]
    if not usable:
        raise InvalidRequest(f'The database role lacks the privilege USAGE of the schema "{schema}".')


async def _drop_system_tables(session: Session) -> None:
    # Another server may use the database.
    schema = session.database.system_schema
    tables = await session.query(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = %s AND tablename LIKE %s", (schema, "directus\\_%")
    )
    await session.lock_tables(tables)
    for table in tables:
        await session.query(SQL("DROP TABLE {} CASCADE").format(Identifier(*table)))
    functions = await session.query(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = %s AND p.proname LIKE %s",
        (schema, "directus\\_%"),
    )
    for (signature,) in functions:
        # As PostgreSQL writes it, quoted where that is needed.
        await session.query(f"DROP FUNCTION IF EXISTS {signature} CASCADE")
