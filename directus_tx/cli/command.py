"""What the commands have in common: the options, the configuration, the connection to the projects, and how failures end."""

import functools
import os
import pathlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from attrs import field, frozen
from twisted.internet import defer, task

from directus_tx import config
from directus_tx.backend import Backend, use_monotonic_clock, use_shared_lookups
from directus_tx.cli.output import Output
from directus_tx.context import ADMINISTRATOR, Accountability, Context, current_time
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from directus_tx.embedded import EmbeddedError
from directus_tx.errors import ApiError, InternalError, ServiceUnavailable
from directus_tx.plugins import context as plugins
from directus_tx.process import StartError
from directus_tx.suggestions import suggestion

FAILED, MISUSED = 1, 2
"""Exit statuses: the command has failed; its arguments or the configuration are invalid. 0 is success."""

F = TypeVar("F", bound=Callable[..., Any])


class Failed(click.ClickException):
    """Ends the command with a message and exit status 1."""

    exit_code = FAILED


class Misconfigured(click.ClickException):
    """Ends the command with the mistakes of the configuration and exit status 2."""

    exit_code = MISUSED


@frozen
class Environment:
    """What a command that uses the projects is called with: the `backend`, which is open, and the `output`."""

    backend: Backend
    output: Output

    def check(self, key: str) -> None:
        """Raises Failed if there is no project with the key."""
        files = self.backend.projects.files
        if files.get(key) is None:
            raise Failed(f"there is no project {key}{suggestion(key, files.keys(private=True))}")

    async def context(self, key: str) -> Context:
        """Returns a context in a project, with the administrator role but no user. Raises Failed if there is no such project, and
        ApiError."""
        self.check(key)
        project = self.backend.projects.get(key)
        schema = await project.snapshot()
        who = Accountability(None, ADMINISTRATOR, "", "directus command")
        session, plugins = Session(project.database), project.config.plugins
        return Context(key, schema, who, current_time(), session, project.keys, "command", plugins=plugins)


@frozen
class PluginEnvironment:
    """What a command of a plugin is called with: the `output`, and the projects."""

    output: Output
    _environment: Environment = field(alias="environment", repr=False)

    def projects(self) -> list[str]:
        """Returns the keys of all projects."""
        return self._environment.backend.projects.files.keys(private=True)

    async def context(self, project: str) -> plugins.Context:
        """Returns a context in a project, with the administrator role but no user. Raises Failed if there is no such project, and
        ApiError."""
        return plugins.Context(await self._environment.context(project), self._environment.backend.items)


def plugin_command(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a command of a coroutine function of a plugin, as `online` does, that is called with a PluginEnvironment and the command's own
    arguments."""

    @functools.wraps(work)
    async def with_environment(environment: Environment, **arguments: Any) -> None:
        await work(PluginEnvironment(environment.output, environment), **arguments)

    return online(with_environment)


def _common(command: F) -> F:
    """Adds the options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write the result as JSON."),
        click.option(
            "--data-dir", "-d", metavar="DIR", help="The data directory of the server (server.data_dir).  [default: ./var]"
        ),
        click.option("--config", "-c", "config_file", metavar="FILE", help="The configuration of the server, a TOML file."),
    ):
        command = option(command)
    return command


def settings_of(config_file: str | None, data_dir: str | None) -> config.Settings:
    """Returns the settings of a file (or none), the environment and the option --data-dir. Raises Misconfigured."""
    overrides: dict[tuple[str, str], Any] = {("server", "data_dir"): data_dir} if data_dir else {}
    try:
        return config.load(config_file, os.environ, overrides)
    except config.ConfigError as error:
        raise Misconfigured("\n  ".join(["the configuration is invalid:", *error.mistakes])) from None


def offline(work: Callable[..., None]) -> Callable[..., None]:
    """Makes a command of a function that is called with the settings, the output and the command's own arguments."""

    @_common
    @functools.wraps(work)
    def command(*, config_file: str | None, data_dir: str | None, as_json: bool, **arguments: Any) -> None:
        work(settings_of(config_file, data_dir), Output(as_json=as_json), **arguments)

    return command


def online(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a command of a coroutine function that is called with an Environment and the command's own arguments. If these include
    *init* and it is true, the data directory is created if it does not exist; otherwise the command fails if no server has used
    the directory."""

    @_common
    @functools.wraps(work)
    def command(*, config_file: str | None, data_dir: str | None, as_json: bool, **arguments: Any) -> None:
        settings = settings_of(config_file, data_dir)
        if not arguments.pop("init", False):
            _check_used(pathlib.Path(settings.server.data_dir))
        failures: list[Exception] = []

        async def run(reactor: Any) -> None:
            use_monotonic_clock(reactor)
            use_shared_lookups(reactor)
            output = Output(as_json=as_json)
            try:
                backend = Backend(settings, reactor)
                await backend.open()
                try:
                    await work(Environment(backend, output), **arguments)
                finally:
                    await backend.close()
            except (click.ClickException, BrokenPipeError) as error:
                failures.append(error)
            except ApiError as error:
                failures.append(Failed(told(error)))
            except (EmbeddedError, StartError) as error:
                failures.append(Failed(str(error)))

        # The command runs to its end before its failure is raised, because `task.react` would log it.
        try:
            task.react(lambda reactor: defer.ensureDeferred(run(reactor)))
        except SystemExit as end:
            if end.code:
                raise
        if failures:
            raise failures[0]

    return command


def told(error: ApiError) -> str:
    """Returns the message of an error for the user of the command, who gets more details than clients: of internal errors, the reason
    why the database cannot be used, and the object for which the database lacks a privilege."""
    if isinstance(error, InternalError):
        return without_values(error)
    if isinstance(error, ServiceUnavailable) and error.__cause__ is not None:
        return f"{error.message.rstrip('.')}: {' '.join(without_values(error.__cause__).split())}"
    denied = None if error.diagnostics is None else error.diagnostics.denied
    return error.message if denied is None else f"{error.message.rstrip('.')} with the {denied}."


def _check_used(data_dir: pathlib.Path) -> None:
    """Raises Failed if no server has used a data directory, so that a command in another directory does not make a new server there."""
    if not any((data_dir / name).exists() for name in ("projects", "postgres", "super_admin_token")):
        raise Failed(
            f"{data_dir.absolute()} is not the data directory of a server. Run the command in the directory of the server, or"
            ' name its data directory with --data-dir. "directus project create --init" makes a new one.'
        )


def ask(question: str) -> str:
    """Asks a question on standard error, so that standard output has only the result. Returns an empty text at the end of input."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().rstrip("\n")


def role_named(ctx: Context, named: str) -> int:
    """Returns the id of the role with a name, without regard to case, or with an id. Raises Failed."""
    roles = {str(role["name"]).lower(): int(role["id"]) for role in ctx.schema.roles.values()}
    if named.isascii() and named.isdigit() and int(named) in roles.values():
        return int(named)
    if named.lower() in roles:
        return roles[named.lower()]
    names = (str(role["name"]) for role in ctx.schema.roles.values())
    raise Failed(f"there is no role {named}{suggestion(named, names)}")
