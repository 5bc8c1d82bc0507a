"""directus serve."""

import sys
from typing import Any

import click
from twisted.scripts import twistd

from directus_tx.cli.command import Failed, Misconfigured, settings_of


@click.command()
@click.option("--listen", "-l", multiple=True, metavar="ENDPOINT", help="Address to listen on (server.listen). Can be repeated.")
@click.option(
    "--processes", "-p", type=click.IntRange(1), help="Number of processes that serve the addresses (server.processes)."
)
@click.option("--demo", is_flag=True, help="Create the project demo with a small blog if it does not exist.")
@click.option("--data-dir", "-d", metavar="DIR", help="The data directory (server.data_dir).  [default: ./var]")
@click.option("--config", "-c", metavar="FILE", help="The configuration, a TOML file.")
def serve(*, listen: tuple[str, ...], demo: bool, config: str | None, **options: Any) -> None:
    """Run the server in the foreground.

    This is the same as "twistd -n --pidfile= directus". twistd can also run it in the background.

    \b
    Examples:
      directus serve --demo
      directus serve --config /etc/directus/directus.toml --processes 4
    """
    # twistd would answer to a mistake with the usage of another command.
    try:
        settings_of(config, options["data_dir"])
    except Misconfigured as error:
        raise Failed(error.message) from None
    options["config"] = config
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    flags = ["--demo"] if demo else []
    sys.argv = ["twistd", "-n", "--pidfile=", "directus", *named, *(f"--listen={each}" for each in listen), *flags]
    twistd.run()
