"""directus config."""

import json

import click

from directus_tx.backend import load_plugins
from directus_tx.checks import database_problems, problems, project_problems
from directus_tx.cli.command import MISUSED, offline
from directus_tx.cli.output import Output
from directus_tx.config import Settings, described
from directus_tx.plugins.manager import Plugins
from directus_tx.process import StartError


@click.group("config")
def configuration() -> None:
    """Check and show the configuration."""


@configuration.command()
@offline
def check(settings: Settings, output: Output) -> None:
    """Check the configuration without starting the server.

    Checks the settings, the addresses to listen on, the files and directories, the plugins, the embedded PostgreSQL, and, if there is
    a database.url, that the database server can be reached. The server itself checks all but the files of projects and the
    database server before it starts: it waits for the latter, and a project whose file is broken does not keep others from being served.
    """
    plugins = Plugins(None, settings.plugins)
    found = problems(settings)
    try:
        _, registered = load_plugins(plugins, settings)
    except StartError as error:
        found += [*str(error).splitlines(), *project_problems(settings)]
    else:
        found += [f"the plugin {name} cannot be used: {reason}" for name, reason in plugins.failed.items()]
        found += project_problems(settings, registered.storages, registered.drivers)
    found += database_problems(settings)
    output.result({"ok": not found, "problems": found}, *(found or ["the configuration is valid"]))
    if found:
        raise SystemExit(MISUSED)


@configuration.command()
@offline
def show(settings: Settings, output: Output) -> None:
    """Show all settings, one a line, without secrets."""
    lines = []
    for name, value in described(settings).items():
        if isinstance(value, dict):
            lines += [f"{name}.{key} = {json.dumps(each)}" for key, each in value.items()]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    output.result(described(settings), *lines)
