"""The `directus` command: its groups, its version, and how it ends."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

import click
from click.shell_completion import CompletionItem

from directus_tx import __version__
from directus_tx.config import ConfigError, Settings, load
from directus_tx.control_codes import escaped
from directus_tx.importing import without_collections
from directus_tx.plugins.discovery import find_installed


class LazyCommand(click.Command):
    """A command of the server whose module has not been imported: its name, the *module* below `directus_tx.cli` and the *attribute* where
    it is, and the short help that lists of commands show."""

    def __init__(self, name: str, module: str, attribute: str, short_help: str) -> None:
        super().__init__(name, help=short_help)
        self.module = module
        self.attribute = attribute

    def imported(self) -> click.Command:
        """Imports the module. Returns the command itself."""
        with without_collections():
            module = importlib.import_module(f"directus_tx.cli.{self.module}")
        command: click.Command = getattr(module, self.attribute)
        return command


class Commands(click.Group):
    """The server's own commands, which are imported when they are used, and those of plugins, which are only loaded if they may be
    needed."""

    _of_plugins: Mapping[str, click.Command] | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._loaded()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = self._listed(ctx, cmd_name)
        if isinstance(command, LazyCommand):
            command = self.commands[cmd_name] = command.imported()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands as click does, without importing them."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        commands = [(name, self._listed(ctx, name)) for name in names]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit)) for name, each in commands if each and not each.hidden])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Returns the completions of a command's name, or of an option, as click does, without importing the commands."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        commands = [(name, self._listed(ctx, name)) for name in names]
        found = [CompletionItem(name, help=each.get_short_help_str()) for name, each in commands if each and not each.hidden]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _listed(self, ctx: click.Context, name: str) -> click.Command | None:
        """Returns what lists of commands show of a command."""
        return super().get_command(ctx, name) or self._loaded().get(name)

    def _loaded(self) -> Mapping[str, click.Command]:
        """Returns the commands of plugins. What is wrong with plugins is written to standard error."""
        if self._of_plugins is None:
            self._of_plugins = {}
            try:
                self._of_plugins = _commands_of_plugins(load(_config_file(), os.environ))
            except ConfigError as error:
                click.echo(f"directus: {error}", err=True)
        return self._of_plugins


def _commands_of_plugins(settings: Settings) -> Mapping[str, click.Command]:
    """Returns the commands of plugins by name. What is wrong with plugins is written to standard error."""
    chosen = settings.plugins
    if not (chosen.directory or chosen.enabled or chosen.disabled or any(find_installed())):
        return {}
    # Here, because they import most of the server, which help and completion need only if there are plugins.
    with without_collections():
        from directus_tx.plugins.manager import PluginError, Plugins
        from directus_tx.registered import commands_of
    plugins = Plugins(None, chosen)
    try:
        plugins.load()
    except PluginError as error:
        click.echo(f"directus: {error}", err=True)
        return {}
    found = commands_of(plugins)
    for plugin, reason in found.wrong.items():
        click.echo(f"directus: the plugin {plugin}: {reason}", err=True)
    return found.commands


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


for own in (
    LazyCommand("advise", "advise", "advise", "Show which indexes the lists of a project use or need."),
    LazyCommand("config", "configuration", "configuration", "Check and show the configuration."),
    LazyCommand("files", "files", "files", "Compare the files of a project with its storage."),
    LazyCommand("graphql", "graphql", "graphql", "Show the schema of GraphQL."),
    LazyCommand("identity", "identities", "identity", "List, link and remove the accounts with which users sign on."),
    LazyCommand("mail", "mail", "mail", "Try the mail server of a project."),
    LazyCommand("migrate", "projects", "migrate", "Bring the system tables of all projects up to date."),
    LazyCommand("outbox", "outbox", "outbox", "List, retry and remove messages of webhooks and mail."),
    LazyCommand("permissions", "permissions", "permissions", "Export and import roles and permissions."),
    LazyCommand("plugin", "plugin", "plugin", "Write plugins, which extend the server."),
    LazyCommand("plugins", "plugins", "plugins", "List the plugins, their hooks, and what the hooks cost."),
    LazyCommand("project", "projects", "project", "List, create, delete, export and import projects."),
    LazyCommand("schema", "schema", "schema", "Show and adopt the tables of a project."),
    LazyCommand("serve", "serve", "serve", "Run the server in the foreground."),
    LazyCommand("session", "accounts", "session", "List and end sessions of users."),
    LazyCommand("token", "accounts", "token", "Make, list and revoke named tokens of users."),
    LazyCommand("user", "users", "user", "List, create and unlock users, set passwords."),
):
    directus.add_command(own)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. The exit status is 0 if it succeeds, 1 if it fails, 2 if the arguments or the configuration are invalid."""
    try:
        status = directus.main(arguments, prog_name="directus", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # The program that reads the output has ended, for example head. Python would write what is left at its own end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except click.Abort:
        click.echo("directus: interrupted", err=True)
        raise SystemExit(1) from None
    except click.UsageError as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        click.echo(f"directus: {escaped(error.message)}", err=True)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
