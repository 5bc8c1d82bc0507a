"""directus plugin."""

import pathlib
import re
import shutil
import tempfile
from importlib.resources import files

import click
from jinja2 import Environment, StrictUndefined

from directus_tx.cli.command import Failed

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 40
"""The maximum length of the name of a plugin."""

FILES = (
    ("pyproject.toml", "pyproject.toml"),
    ("README.rst", "README.rst"),
    (".gitignore", "gitignore"),
    (".github/workflows/tests.yml", "workflow.yml"),
    ("{module}/__init__.py", "plugin.py"),
    ("tests/test_{module}.py", "test.py"),
)
"""The files of a new plugin, each with its template in the directory skeleton."""


@click.group()
def plugin() -> None:
    """Write plugins, which extend the server."""


@plugin.command("new")
@click.argument("name")
@click.option("--directory", "-C", metavar="DIR", help="The directory to create.  [default: ./directus-tx-NAME]")
def new_plugin(name: str, directory: str | None) -> None:
    """Write the package of a new plugin, with tests.

    It has a hook, a route, tests of both, and a workflow for GitHub that runs the tests.

    \b
    Example:
      directus plugin new greetings
      cd directus-tx-greetings
      pip install -e ".[test]"
      pytest
    """
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise Failed(
            f'"{name}" cannot be the name of a plugin: it must consist of at most {MAX_NAME} lower-case letters and digits, with'
            " single hyphens between them, and begin with a letter"
        )
    distribution = f"directus-tx-{name}"
    target = pathlib.Path(directory or distribution)
    if target.exists() or target.is_symlink():
        raise Failed(f"{target} exists already")
    try:
        write_skeleton(target, name, distribution)
    except OSError as error:
        raise Failed(f"{error.filename or target}: {error.strerror}") from None
    click.echo(f"The plugin {name} has been written to {target}. Its README.rst says how to test and install it.")


def write_skeleton(target: pathlib.Path, name: str, distribution: str) -> None:
    """Writes the files of a new plugin to a directory, which must not exist: all or none. Raises OSError."""
    module = distribution.replace("-", "_")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    templates = files("directus_tx.cli") / "skeleton"
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    written = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=parent))
    try:
        for path, template in FILES:
            text = (templates / f"{template}.jinja").read_text(encoding="utf-8")
            file = written / path.format(module=module)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                environment.from_string(text).render(name=name, distribution=distribution, module=module), encoding="utf-8"
            )
        # mkdtemp makes directories that only their owner can read.
        written.chmod(0o755)
        written.rename(target)
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        raise
