"""The `directus` command: its groups, its version, and how it ends."""

import os
import sys
from collections.abc import Mapping, Sequence

import click

from directus_tx import __version__
from directus_tx.cli.accounts import session, token
from directus_tx.cli.advise import advise
from directus_tx.cli.configuration import configuration
from directus_tx.cli.files import files
from directus_tx.cli.graphql import graphql
from directus_tx.cli.identities import identity
from directus_tx.cli.mail import mail
from directus_tx.cli.outbox import outbox
from directus_tx.cli.permissions import permissions
from directus_tx.cli.plugin import plugin
from directus_tx.cli.plugins import plugins
from directus_tx.cli.projects import migrate, project
from directus_tx.cli.schema import schema
from directus_tx.cli.serve import serve
from directus_tx.cli.users import user
from directus_tx.config import ConfigError, load
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.registered import commands_of


class Commands(click.Group):
    """The server's own commands and those of plugins, which are only loaded if they may be needed."""

    _of_plugins: Mapping[str, click.Command] | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._loaded()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self._loaded().get(cmd_name)

    def _loaded(self) -> Mapping[str, click.Command]:
        """Returns the commands of plugins. What is wrong with plugins is written to standard error."""
        if self._of_plugins is None:
            self._of_plugins = {}
            try:
                plugins = Plugins(None, load(_config_file(), os.environ).plugins)
                plugins.load()
                found = commands_of(plugins)
            except (PluginError, ConfigError) as error:
                click.echo(f"directus: {error}", err=True)
            else:
                self._of_plugins = found.commands
                for plugin, reason in found.wrong.items():
                    click.echo(f"directus: the plugin {plugin}: {reason}", err=True)
        return self._of_plugins


def _config_file() -> str | None:
    """Returns the configuration file that the arguments of the command name, whose settings say where plugins are."""
    arguments = sys.argv[1:]
    for place, argument in enumerate(arguments):
        if argument in ("-c", "--config") and place + 1 < len(arguments):
            return arguments[place + 1]
        if argument.startswith("--config="):
            return argument.partition("=")[2]
    return None


@click.group(cls=Commands, context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100})
@click.version_option(__version__, prog_name="directus")
def directus() -> None:
    """Run a directus_tx server, and manage its projects.

    The other commands use the configuration and the data directory of the server, whether it is running or not. Run them in the directory
    of the server, or name its data directory with --data-dir.

    \b
    Shell completion, for bash (for zsh and fish accordingly):
      eval "$(_DIRECTUS_COMPLETE=bash_source directus)"
    """


for group in (
    serve,
    project,
    schema,
    user,
    token,
    session,
    identity,
    permissions,
    mail,
    outbox,
    files,
    graphql,
    plugin,
    advise,
    migrate,
    plugins,
    configuration,
):
    directus.add_command(group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. The exit status is 0 if it succeeds, 1 if it fails, 2 if the arguments or the configuration are invalid."""
    try:
        status = directus.main(arguments, prog_name="directus", standalone_mode=False)
    except click.Abort:
        click.echo("directus: interrupted", err=True)
        raise SystemExit(1) from None
    except click.UsageError as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        click.echo(f"directus: {error.message}", err=True)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
