"""directus graphql."""

import click
from attrs import evolve

from directus_tx.cli.command import Environment, online, role_named
from directus_tx.context import ADMINISTRATOR, PUBLIC, Accountability
from directus_tx.graphql.service import GraphQL


@click.group(short_help="Show the schema of GraphQL.")
def graphql() -> None:
    """Show the schema of GraphQL of a project."""


@graphql.command("schema")
@click.argument("project")
@click.option("--role", default=str(ADMINISTRATOR), help="The name or the id of the role.  [default: administrator]")
@online
async def show_schema(environment: Environment, project: str, role: str) -> None:
    """Print the schema of a role in the schema definition language.

    \b
    Examples:
      directus graphql schema shop
      directus graphql schema shop --role Public > schema.graphql
    """
    ctx = await environment.context(project)
    id = role_named(ctx, role)
    who = Accountability(None, None if id == PUBLIC else id, "", "directus command")
    settings = environment.backend.settings
    text = await GraphQL(settings.graphql, settings.limits).schema_text(evolve(ctx, accountability=who))
    environment.output.result({"project": project, "role": id, "schema": text}, text.rstrip())
