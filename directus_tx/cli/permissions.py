"""directus permissions."""

import json
import sys

import click

from directus_tx.cli.command import Environment, Failed, online
from directus_tx.query import WriteOptions
from directus_tx.system.roles import export_roles, import_roles


@click.group()
def permissions() -> None:
    """Export and import roles and permissions."""


@permissions.command("export")
@click.argument("project")
@online
async def export_document(environment: Environment, project: str) -> None:
    """Write the roles of a project and their permissions as JSON."""
    output = environment.output
    output.json(export_roles(await environment.context(project)), indent=None if output.as_json else 2)


@permissions.command("import")
@click.argument("project")
@click.argument("file")
@click.option("--dry-run", is_flag=True, help="Show the changes without making them.")
@online
async def import_document(environment: Environment, project: str, file: str, dry_run: bool) -> None:
    """Change the roles of a project to match a document.

    FILE is what `directus permissions export` has written, or "-" for standard input. The changes are shown.

    \b
    Example:
      directus permissions export staging > roles.json
      directus permissions import shop roles.json --dry-run
    """
    try:
        with sys.stdin if file == "-" else open(file, encoding="utf-8") as stream:
            document = json.load(stream)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise Failed(f"{file} is not valid JSON: {error}") from None
    ctx = await environment.context(project)
    done = await import_roles(environment.backend.items, ctx, document, WriteOptions(), dry_run=dry_run)
    lines = [
        " ".join(
            [change["action"], change["role"]]
            + [f"{change[name]}" for name in ("collection", "status") if change.get(name)]
            + [json.dumps(change[name], ensure_ascii=False) for name in ("before", "after") if change[name] is not None]
        )
        for change in done["changes"]
    ]
    end = "nothing to change" if not lines else f"{len(lines)} changes{' would be made' if dry_run else ' made'}"
    environment.output.result(done, *lines, end)
