"""The projects of a server: finding, opening, creating and deleting them."""

import hmac
import pathlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx import private_files
from directus_tx.accounts.passwords import PasswordHasher
from directus_tx.config import DatabaseSettings, StorageSettings
from directus_tx.db.connection import Parameters
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from directus_tx.errors import (
    ApiError,
    InvalidRequest,
    NotFound,
    ProjectExists,
    ServiceUnavailable,
    Unauthorized,
)
from directus_tx.files.storage.adapters import SHIPPED, Adapters
from directus_tx.files.storage.opening import Storages
from directus_tx.projects.availability import Availability
from directus_tx.projects.files import (
    BrokenProjectFile,
    ProjectConfig,
    ProjectDatabase,
    ProjectFiles,
    new_keys,
)
from directus_tx.projects.project import Project, lost
from directus_tx.projects.provisioning import Databases, NewProject, install
from directus_tx.projects.rotation import reseal
from directus_tx.schema.custom import NOTHING_CUSTOM, CustomSchema
from directus_tx.schema.model import LeftOut
from directus_tx.schema.plugin_migrations import PluginMigrations
from directus_tx.sealing import Keys

log = Logger()
OPENED_AT_ONCE = 2
"""The number of projects that are opened at the same time in the background. A request opens its project at once."""

REMINDER = 60.0
"""Seconds after which the log says again what is wrong with a project file that is asked for."""


@frozen
class ProjectPlugins:
    """What plugins add to projects, with the names of the plugins: directories with templates of mails, migrations of their tables, and
    field types, operators and aggregate functions. `enabled` says whether a plugin is enabled in a project. `skip`: a project is opened
    also if the tables of a plugin cannot be migrated."""

    mail_templates: Sequence[tuple[str, pathlib.Path]] = ()
    migrations: Sequence[PluginMigrations] = ()
    schemas: Sequence[tuple[str, CustomSchema]] = ()
    enabled: Callable[[str, Project], bool] = lambda plugin, project: True
    skip: bool = False

    def custom(self, project: Project) -> CustomSchema:
        """Returns what the plugins that are enabled in a project add to its schema."""
        found = [custom for plugin, custom in self.schemas if self.enabled(plugin, project)]
        if not found:
            return NOTHING_CUSTOM
        return CustomSchema(
            {name: each for custom in found for name, each in custom.types.items()},
            {name: each for custom in found for name, each in custom.operators.items()},
            {name: each for custom in found for name, each in custom.aggregates.items()},
        )


class Projects:
    """All projects of a server. `server` is the database server for projects that do not name another one. *adapters* are the kinds of
    storages by name, *plugins* what plugins add to projects."""

    def __init__(
        self,
        reactor: Any,
        data_dir: pathlib.Path,
        server: Parameters,
        settings: DatabaseSettings,
        hasher: PasswordHasher,
        super_admin_token: str = "",
        storage: StorageSettings | None = None,
        adapters: Adapters = SHIPPED,
        plugins: "ProjectPlugins | None" = None,
    ) -> None:
        self._plugins = plugins or ProjectPlugins()
        self.hasher = hasher
        self.databases = Databases(reactor, server, settings)
        self.files = ProjectFiles(data_dir / "projects", self.databases.lacking)
        self.storages = Storages(reactor, data_dir, storage or StorageSettings(), adapters)
        self.super_admin_token_file = data_dir / "super_admin_token"
        self._token = super_admin_token
        self.on_outbox: Callable[[Project], None] = lambda project: None
        """Called with a project whose outbox may have messages to be delivered."""
        self._open: dict[str, Project] = {}
        self._broken: dict[str, float] = {}
        """What is wrong with project files, and when it was logged."""
        self._making: set[str] = set()
        self._told: dict[str, str] = {}

    @property
    def availability(self) -> Availability:
        """Whether the configured database server can be used yet."""
        return self.databases.availability

    # finding

    def get(self, key: str) -> Project:
        """Returns the project with a key. Raises Unauthorized, as clients expect, if there is none, and ServiceUnavailable if its file
        is broken."""
        config = self._config(key)
        project = self._open.get(key)
        if project is not None and project.config is not config:
            defer.ensureDeferred(self._open.pop(key).close())
            project = None
        if config is None:
            raise Unauthorized("There is no such project.")
        if project is None:
            own = self.databases.is_own(config.database)
            pool = self.databases.pool(config.database)
            availability = self.availability if own else None
            self._open[key] = project = Project(config, pool, self.databases.settings, self.storages, availability)
            project.plugin_migrations = [each for each in self._plugins.migrations if self._plugins.enabled(each.plugin, project)]
            project.skips_plugins = self._plugins.skip
            project.custom = self._plugins.custom(project)
            project.on_outbox = lambda project: self.on_outbox(project)
        return project

    def _config(self, key: str) -> ProjectConfig | None:
        """Returns the contents of the project's file, or None if there is no file. Raises ServiceUnavailable if it is broken, which
        is logged, but not for each request."""
        try:
            config = self.files.get(key)
        except BrokenProjectFile as error:
            self._tell_broken(key, str(error))
            raise ServiceUnavailable("The project's configuration is broken; see the server's log.") from None
        return config

    def _tell_broken(self, key: str, error: str) -> None:
        """Logs what is wrong with a project file, but not for each request."""
        now = time.monotonic()
        if now < self._broken.get(error, 0.0) + REMINDER:
            return
        self._broken = {text: told for text, told in self._broken.items() if now < told + REMINDER}
        self._broken[error] = now
        log.error("project {key}: {error}", key=key, error=error)

    def mail_templates(self, key: str) -> list[pathlib.Path]:
        """Returns the directories of the mail templates of a project, the one that counts most first: its own, which may not exist, and
        those of the plugins that are enabled in it."""
        project = self.get(key)
        return [
            self.files.directory / f"{key}.mail",
            *(directory for plugin, directory in self._plugins.mail_templates if self._plugins.enabled(plugin, project)),
        ]

    def listed(self) -> list[str]:
        """Returns the keys of the projects that are not private."""
        return self.files.keys()

    async def open_all(self) -> None:
        """Opens the projects that are not open yet, up to OPENED_AT_ONCE at the same time. A failure is logged once, and does not keep
        other projects waiting; call this again later."""
        keys = iter(self.files.keys(private=True))

        async def work() -> None:
            for key in keys:
                await self._open_one(key)

        works = [defer.Deferred.fromCoroutine(work()) for _ in range(OPENED_AT_ONCE)]
        await defer.gatherResults(works, consumeErrors=True)

    async def _open_one(self, key: str) -> None:
        try:
            project = self.get(key)
            if project.state != "ready":
                await project.open(until_migrated=True)
                await project.snapshot()
            self._told.pop(key, None)
        except defer.CancelledError:
            raise
        except Exception as error:
            text = without_values(error)
            if self._told.get(key) != text:
                self._told[key] = text
                log.error("project {key} cannot be opened: {error}", key=key, error=text)

    def states(self) -> dict[str, tuple[str, str]]:
        """Returns the state of each project, and the error if it is failing. Of a project whose file is broken, the error says that."""
        found: dict[str, tuple[str, str]] = {}
        for key in self.files.keys(private=True):
            project = self._open.get(key)
            if project is None:
                found[key] = ("failing", self._told[key]) if key in self._told else ("pending", "")
            else:
                state = project.state
                text = without_values(project.error) if project.error is not None else "The database cannot be reached."
                found[key] = (state, text if state == "failing" else "")
        return found

    def opened(self) -> list[tuple[str, Project]]:
        """Returns the projects that are in use, with their keys."""
        return sorted(self._open.items())

    def left_out(self) -> dict[str, tuple[LeftOut, ...]]:
        """Returns the tables and views that are not collections, by the keys of the projects whose schema has been read."""
        return {key: seen.left_out for key, project in self.opened() if (seen := project.current()) is not None}

    async def close(self) -> None:
        for project in self._open.values():
            await project.close()
        self._open.clear()
        self.storages.close()
        self.databases.close()

    # the super admin token

    def check_super_admin(self, token: object) -> None:
        """Raises InvalidRequest if the token is missing, Unauthorized if it is wrong."""
        if not isinstance(token, str) or not token:
            raise InvalidRequest('"super_admin_token" is required.')
        wanted = self.super_admin_token()
        if not wanted or not hmac.compare_digest(wanted.encode(), token.encode()):
            raise Unauthorized("The super admin token is wrong.")

    def super_admin_token(self) -> str:
        """Returns the token of the configuration, or the one that `provide_super_admin_token` has stored; empty if there is
        none."""
        if not self._token and self.super_admin_token_file.exists():
            self._token = self.super_admin_token_file.read_text(encoding="utf-8").strip()
        return self._token

    def provide_super_admin_token(self) -> str | None:
        """Creates the super admin token, unless one is configured or stored in the data directory, and stores it there, readable
        by its owner only. Returns the token if it has been created, otherwise None."""
        if self.super_admin_token():
            return None
        token = secrets.token_urlsafe(24)
        try:
            private_files.create(self.super_admin_token_file, f"{token}\n".encode())
        except FileExistsError:
            return None
        return token

    # creating and deleting

    async def create(self, new: NewProject) -> Project:
        """Creates a project completely or not at all: its database, unless an existing one is named, with the system tables and
        the first administrator, and its file.

        Raises Unauthorized if a super admin token is given and wrong, ProjectExists, ServiceUnavailable, and InvalidRequest if the
        database cannot be used.
        """
        lacking = self.databases.lacking(new.database) if new.database is not None else []
        if lacking:
            names = " and ".join(f'"db_{name}"' for name in lacking)
            raise InvalidRequest(f"A database that is not on the configured database server requires {names}.")
        if new.super_admin_token is not None:
            self.check_super_admin(new.super_admin_token)
        self.storages.check(new.tables.get("storage", {}))
        self.files.check_writable(new.key)
        if new.key in self._making or self._config(new.key) is not None:
            raise ProjectExists
        self._making.add(new.key)
        try:
            config, administrator = await self._make(new)
        finally:
            self._making.discard(new.key)
        log.info("project {project} created", project=config.key)
        project = self.get(config.key)
        project.has_own_users = not administrator
        if project.has_own_users:
            await self._count_lost_secrets(project)
        return project

    async def _count_lost_secrets(self, project: Project) -> None:
        """Counts the secrets in the database of a new project that were encrypted with another key, and logs their number."""
        try:
            project.lost_secrets = (await reseal(Session(project.database), project.keys)).lost
        except ApiError as error:
            log.warn("project {project}: {error}", project=project.key, error=without_values(error))
        if project.lost_secrets:
            log.warn("project {project}: {lost}", project=project.key, lost=lost(project.lost_secrets))

    async def _make(self, new: NewProject) -> tuple[ProjectConfig, bool]:
        """Returns the file of the project, and whether its administrator has been created."""
        if new.database is not None and self.databases.is_own(new.database):
            await self.availability.wait()
        hashed = await self.hasher.hash(new.user_password)
        named = new_keys()
        if new.database is not None and not new.force:
            # Each of two projects with one database must be able to decrypt what the other has encrypted.
            for other in self.sharing(new.database):
                named |= {"secret_key": other.secret_key, "former_secret_keys": other.former_secret_keys}
        place = new.database or await self.databases.make(new.key)
        database = self.databases.pool(place)
        try:
            try:
                administrator = await install(Session(database), new, hashed, Keys(named["secret_key"]))
            finally:
                await database.close()
            config = ProjectConfig(new.key, new.private, place, **(named | dict(new.tables)))
            self.files.add(config)
        except BaseException:
            if place.owned:
                await self.databases.drop(place.name)
            raise
        return config, administrator

    def sharing(self, database: ProjectDatabase, *, but: str | None = None) -> list[ProjectConfig]:
        """Returns the projects whose system tables are in a database, except the project *but*. They have the same secret keys."""
        found = []
        for key in self.files.keys(private=True):
            try:
                config = self._config(key)
            except ServiceUnavailable:
                continue
            if config is not None and key != but and self._place(config.database) == self._place(database):
                found.append(config)
        return found

    def _place(self, database: ProjectDatabase) -> tuple[Any, ...]:
        parameters = self.databases.parameters(database)
        return (*(parameters.get(name) for name in ("host", "port", "dbname")), database.system_schema)

    async def restore(self, config: ProjectConfig, restore: Callable[[Parameters], Awaitable[None]]) -> Project:
        """Creates a project from its file and its database, completely or not at all. *restore* is called with the parameters of an empty
        database, and fills it.

        Raises ProjectExists, ServiceUnavailable, InvalidRequest, and the errors of *restore*.
        """
        if config.key in self._making or self._config(config.key) is not None:
            raise ProjectExists
        self._making.add(config.key)
        try:
            made = await self.databases.make_empty(config.key)
            place = evolve(made, schemas=config.database.schemas, system_schema=config.database.system_schema)
            try:
                await restore(self.databases.parameters(place))
                self.files.add(evolve(config, database=place))
            except BaseException:
                await self.databases.drop(place.name)
                raise
        finally:
            self._making.discard(config.key)
        log.info("project {project} restored", project=config.key)
        return self.get(config.key)

    async def delete(self, key: str) -> None:
        """Deletes a project. If the server created its database, that is dropped and the files in the project's own directory are removed;
        an existing database that was named is not changed, and its files stay.

        Raises NotFound, and ServiceUnavailable if its database server cannot be used yet or its file cannot be removed.
        """
        config = self._config(key)
        if config is None:
            raise NotFound("There is no such project.")
        if config.database.owned:
            await self.availability.wait()
        self.files.remove(config)
        project = self._open.pop(key, None)
        self._told.pop(key, None)
        if project is not None:
            await project.close()
        if config.database.owned:
            await self.databases.drop(config.database.name)
            try:
                await self.storages.remove(key, config.storage)
            except (ValueError, OSError) as error:
                log.error("project {project}: its files cannot be removed: {error}", project=key, error=error)
        log.info("project {project} deleted", project=key)
