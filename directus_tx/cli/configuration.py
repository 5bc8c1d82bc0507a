"""directus config."""

import json

import click

from directus_tx.cli.command import offline
from directus_tx.cli.output import Output
from directus_tx.config import Settings, described


@click.group("config")
def configuration() -> None:
    """Check and show the configuration."""


@configuration.command()
@offline
def check(settings: Settings, output: Output) -> None:
    """Check the configuration without starting the server."""
    output.result({"ok": True}, "the configuration is valid")


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
