"""Collects what plugins register, and checks it."""

import contextlib
import inspect
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen, mutable
from twisted.application.service import IService

from directus_tx import context
from directus_tx.accounts.sso.settings import DRIVERS, AuthenticationDriver
from directus_tx.compile.aggregates import FUNCTIONS
from directus_tx.compile.operators import OPERATORS
from directus_tx.config import ConfigError, Settings, check_class, plugin_settings, unknown_plugin_settings
from directus_tx.context import ADMINISTRATOR, Accountability, current_time
from directus_tx.db.session import Session
from directus_tx.errors import ServiceUnavailable, Unauthorized
from directus_tx.extensions import ExtensionError, Extensions
from directus_tx.files.storage.adapters import SHIPPED, StorageAdapter
from directus_tx.outbox.kinds import Kind
from directus_tx.outgoing.client import Client
from directus_tx.plugins.context import Context
from directus_tx.plugins.manager import Plugins
from directus_tx.plugins.services import PluginService
from directus_tx.projects.registry import Projects
from directus_tx.schema.custom import CustomSchema, check_aggregate, check_field_type, check_operator
from directus_tx.schema.datatypes import FIELD_TYPES
from directus_tx.schema.plugin_migrations import PluginMigrations, read_migrations

if TYPE_CHECKING:
    from directus_tx.http.custom import CustomRoute

MAX_NAME = 50
"""The maximum length of the names of storages, of drivers and of kinds of messages."""


class RegistrationError(Exception):
    """What a plugin registers cannot be used. The message names the plugin and says why."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"the plugin {plugin}: {reason}")
        self.plugin = plugin
        self.reason = reason


@mutable(eq=False)
class Server:
    """The server, as a plugin sees it: `name` is that of the plugin, `settings` are its settings, an instance of the class that it has
    registered, or None. `worker` is the number of the process among several that serve the same addresses, from 1; 0 if it is the only
    one. `client` and the methods can be used once the server has started: in services, endpoints and hooks."""

    name: str
    settings: Any
    reactor: Any
    worker: int = 0
    _parts: Any = None

    @property
    def client(self) -> Client:
        """Makes HTTP requests to other servers, within the limits of [outgoing]."""
        client: Client = self._started().outgoing
        return client

    def projects(self) -> list[str]:
        """Returns the keys of the projects in which the plugin is enabled, without those whose project files are broken."""
        parts = self._started()
        projects: Projects = parts.projects
        found = []
        for key in projects.files.keys(private=True):
            with contextlib.suppress(ServiceUnavailable, Unauthorized):
                if parts.plugins.enabled(self.name, projects.get(key)):
                    found.append(key)
        return found

    async def context(self, project: str) -> Context:
        """Returns a context in a project, with the administrator role but no user. Raises Unauthorized if there is no such project, and
        ServiceUnavailable."""
        parts = self._started()
        found = parts.projects.get(project)
        schema = await found.snapshot()
        agent = f"plugin {self.name}"
        who = Accountability(None, ADMINISTRATOR, "", agent)
        own = context.Context(
            project, schema, who, current_time(), Session(found.database), found.keys, agent, plugins=found.config.plugins
        )
        return Context(own, parts.items)

    def _started(self) -> Any:
        if self._parts is None:
            raise RuntimeError("the server has not started yet: use this in services, endpoints and hooks")
        return self._parts


@frozen
class Registered:
    """What the plugins of a server have registered. `servers` are what they were called with, by plugin."""

    servers: Mapping[str, Server]
    routes: "tuple[CustomRoute, ...]"
    extensions: Extensions
    storages: Mapping[str, StorageAdapter]
    drivers: Mapping[str, AuthenticationDriver]
    mail_templates: tuple[tuple[str, pathlib.Path], ...]
    kinds: tuple[Kind, ...]
    services: tuple[PluginService, ...]
    migrations: tuple[PluginMigrations, ...]
    schemas: tuple[tuple[str, CustomSchema], ...]

    def start(self, parts: Any, worker: int = 0) -> None:
        """Lets plugins use the parts of the server, its backend."""
        for server in self.servers.values():
            server._parts, server.worker = parts, worker


def collect(plugins: Plugins, settings: Settings, kinds: tuple[str, ...] = ()) -> Registered:
    """Returns what plugins register. *kinds* are the names of the server's own kinds of messages. A plugin that registers something wrong
    is refused (`Plugins.refuse`). Raises PluginError, and ConfigError if there are settings of plugins that are not there."""
    while True:
        try:
            return _Collector(plugins, settings, kinds).collected()
        except RegistrationError as error:
            plugins.refuse(error.plugin, error.reason)


class _Collector:
    def __init__(self, plugins: Plugins, settings: Settings, kinds: tuple[str, ...]) -> None:
        self.plugins = plugins
        self.settings = settings
        self.kinds = kinds
        self.names = sorted(plugins.loaded)
        self.servers: dict[str, Server] = {}

    def collected(self) -> Registered:
        own = self._settings()
        self.servers = {name: Server(name, own.get(name), self.plugins.reactor) for name in self.names}
        for plugin, found in self._values("configure"):
            with _named(plugin, "configure"):
                raise ValueError(f"it must return nothing, not {type(found).__name__}")
        for plugin, error in commands_of(self.plugins).wrong.items():
            raise RegistrationError(plugin, error)
        return Registered(
            servers=self.servers,
            routes=tuple(self._routes()),
            extensions=self._extensions(),
            storages={**SHIPPED, **self._mapping("register_storages", StorageAdapter, SHIPPED)},
            drivers=self._mapping("register_authentication_drivers", AuthenticationDriver, DRIVERS, _check_driver),
            mail_templates=tuple(self._mail_templates()),
            kinds=tuple(self._kinds()),
            services=tuple(self._services()),
            migrations=tuple(self._migrations()),
            schemas=tuple(self._schemas()),
        )

    def _settings(self) -> dict[str, Any]:
        """Returns the settings of the plugins that have some."""
        classes: dict[str, type | None] = dict.fromkeys(self.names)
        for plugin, found in self._values("register_settings", None):
            with _named(plugin, "register_settings"):
                check_class(found)
            classes[plugin] = found
        found = {}
        for plugin, cls in classes.items():
            try:
                found[plugin] = plugin_settings(self.settings.plugin_tables, plugin, cls)
            except ConfigError as error:
                raise RegistrationError(plugin, "; ".join(error.mistakes)) from None
        unknown = unknown_plugin_settings(self.settings.plugin_tables, classes)
        if unknown and not self.plugins.failed:
            # The settings of plugins that have failed are not known.
            raise ConfigError(unknown)
        return found

    def _routes(self) -> "Iterator[CustomRoute]":
        registered = list(self._values("register_routes"))
        if not registered:
            return
        # Here, because importing `http` takes longer than most commands, which need it only if there are such plugins.
        from directus_tx.http.custom import TimeLimits, check_places, custom_routes
        from directus_tx.http.endpoints import all_routes

        limits = TimeLimits(self.plugins.reactor, self.settings.plugins.route_timeout)
        for plugin, given in registered:
            with _named(plugin, "register_routes"):
                found = list(custom_routes(plugin, given, partial(self.plugins.enabled, plugin), limits))
                check_places([*all_routes(), *found])
            yield from found

    def _extensions(self) -> Extensions:
        """Returns the extensions of the admin app that plugins bring."""
        extensions = Extensions()
        for plugin, given in self._values("register_extensions"):
            with _named(plugin, "register_extensions"):
                for path in given if isinstance(given, (list, tuple)) else [given]:
                    if not isinstance(path, (str, os.PathLike)):
                        raise ValueError(f"it must return the path of a directory, not {type(path).__name__}")
                    try:
                        extensions.add(pathlib.Path(path), plugin)
                    except ExtensionError as error:
                        raise ValueError("; ".join(error.mistakes)) from error
        return extensions

    def _mapping(self, hook: str, cls: type, shipped: Any, check: Callable[[Any], None] = lambda value: None) -> dict[str, Any]:
        """Returns what a hook registers by name: instances of a class."""
        found: dict[str, Any] = {}
        for plugin, given in self._values(hook):
            with _named(plugin, hook):
                if not isinstance(given, Mapping):
                    raise ValueError(f"it must return a dict, not {type(given).__name__}")
                for name, value in given.items():
                    _check_name(name, found, shipped)
                    if not isinstance(value, cls):
                        raise ValueError(f'"{name}" must be a {cls.__name__}, not {type(value).__name__}')
                    check(value)
                found.update(given)
        return found

    def _mail_templates(self) -> Iterator[tuple[str, pathlib.Path]]:
        for plugin, given in self._values("register_mail_templates"):
            with _named(plugin, "register_mail_templates"):
                if not isinstance(given, (str, os.PathLike)):
                    raise ValueError(f"it must return the path of a directory, not {type(given).__name__}")
                path = pathlib.Path(given)
                if not path.is_dir():
                    raise ValueError(f"{path} is not a directory")
            yield plugin, path

    def _kinds(self) -> Iterator[Kind]:
        taken = set(self.kinds)
        for plugin, given in self._values("register_outbox_kinds"):
            with _named(plugin, "register_outbox_kinds"):
                for kind in _listed(given):
                    _check_name(getattr(kind, "name", None), taken, ())
                    taken.add(kind.name)
                    limit = getattr(kind, "time_limit", None)
                    if not isinstance(limit, (int, float)) or isinstance(limit, bool) or limit <= 0:
                        raise ValueError(f'"{kind.name}": time_limit must be a number of seconds')
                    if not inspect.iscoroutinefunction(getattr(kind, "deliver", None)):
                        raise ValueError(f'"{kind.name}": deliver must be a coroutine function')
            yield from given

    def _services(self) -> Iterator[PluginService]:
        for plugin, given in self._values("register_services"):
            with _named(plugin, "register_services"):
                for service in _listed(given):
                    if not IService.providedBy(service):
                        raise ValueError(f"a service must provide IService, which {type(service).__name__} does not")
                found = [PluginService(self.plugins.reactor, plugin, service) for service in given]
            yield from found

    def _schemas(self) -> Iterator[tuple[str, CustomSchema]]:
        """Yields what plugins add to the schema of projects. Names are unique, also if the plugins are not enabled in the same project."""
        kinds = (
            ("types", "register_field_types", FIELD_TYPES, check_field_type),
            ("operators", "register_operators", (*OPERATORS, "logical"), check_operator),
            ("aggregates", "register_aggregates", FUNCTIONS, check_aggregate),
        )
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for attribute, hook, shipped, check in kinds:
            taken: set[str] = set()
            for plugin, given in self._values(hook):
                with _named(plugin, hook):
                    if not isinstance(given, Mapping):
                        raise ValueError(f"it must return a dict, not {type(given).__name__}")
                    for name, value in given.items():
                        _check_name(name, taken, shipped)
                        with _about(name):
                            check(name, value)
                        taken.add(name)
                found.setdefault(plugin, {})[attribute] = dict(given)
        for plugin, attributes in found.items():
            yield plugin, CustomSchema(**attributes)

    def _migrations(self) -> Iterator[PluginMigrations]:
        for plugin, given in self._values("register_migrations"):
            with _named(plugin, "register_migrations"):
                if not isinstance(given, (str, os.PathLike)):
                    raise ValueError(f"it must return the path of a directory, not {type(given).__name__}")
                found = read_migrations(plugin, pathlib.Path(given))
            yield found

    def _values(self, hook: str, *without: None) -> Iterator[tuple[str, Any]]:
        """Yields what the implementations of a hook return, with the names of their plugins. None is left out: it registers nothing."""
        for plugin, call in self.plugins.implementations(hook):
            with _named(plugin, hook):
                found = call() if without else call(server=self.servers[plugin])
                if inspect.iscoroutine(found):
                    found.close()
                    raise ValueError("it must be a plain function, not a coroutine function")
            if found is not None:
                yield plugin, found


@frozen
class Commands:
    """The commands of plugins by name, and what is wrong with the plugins whose commands cannot be used."""

    commands: Mapping[str, click.Command]
    wrong: Mapping[str, str]


COMMANDS = (
    "serve project schema user token session identity permissions mail outbox files advise graphql migrate config plugins plugin"
).split()
"""The names of the server's own commands."""


def commands_of(plugins: Plugins) -> Commands:
    """Returns the commands that plugins register. Raises nothing."""
    commands: dict[str, click.Command] = {}
    wrong: dict[str, str] = {}
    for plugin, call in plugins.implementations("register_commands"):
        try:
            with _named(plugin, "register_commands"):
                found = call()
                for command in _listed(found or []):
                    if not isinstance(command, click.Command):
                        raise ValueError(f"a command must be one of click, not {type(command).__name__}")
                    _check_name(command.name, commands, COMMANDS)
                    commands[command.name or ""] = command
        except RegistrationError as error:
            wrong[plugin] = error.reason
    return Commands(commands, wrong)


def _listed(given: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"it must return a list, not {type(given).__name__}")
    return given


def _check_name(name: Any, taken: Any, shipped: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"a name must be a text of at most {MAX_NAME} characters, not {name!r}")
    if name in taken or name in shipped:
        raise ValueError(f'the name "{name}" is taken')


def _check_driver(driver: AuthenticationDriver) -> None:
    if driver.settings is not None:
        check_class(driver.settings)


@contextlib.contextmanager
def _about(name: str) -> Iterator[None]:
    """A context that puts a name in front of the messages of ValueErrors."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'"{name}": {error}') from None


@contextlib.contextmanager
def _named(plugin: str, hook: str) -> Iterator[None]:
    """A context that raises RegistrationError for every exception."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise RegistrationError(plugin, f"{hook}: {reason}") from error
