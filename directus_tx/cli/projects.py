"""directus project, directus migrate."""

import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import evolve
from twisted.internet import defer
from twisted.internet.threads import deferToThread

from directus_tx.backend import OPENING_INTERVAL
from directus_tx.cli.command import Environment, Failed, ask, online, told
from directus_tx.cli.output import lines_of
from directus_tx.cli.passwords import password, password_option
from directus_tx.config import libpq_parameters
from directus_tx.db.connection import Parameters, connected, pause
from directus_tx.db.session import Session
from directus_tx.errors import ApiError, InvalidRequest
from directus_tx.outbox.records import hold
from directus_tx.projects import archive
from directus_tx.projects.files import ProjectConfig, ProjectDatabase, check_system_schema
from directus_tx.projects.project import lost
from directus_tx.projects.provisioning import check_key, checked
from directus_tx.projects.rotation import reseal, with_new_key, without_keys
from directus_tx.schema.numbers import whole_number

T = TypeVar("T")

KNOWN_AFTER = 2 * OPENING_INTERVAL
"""Seconds after which all servers know a project file that was changed."""

IMPORTED = "The project was imported; the one that was exported may have delivered the message."
"""The error of messages that are held in an imported project."""

ARGUMENTS = {
    '"project"': "the key of the project",
    '"project_name"': "--name",
    '"user_email"': "--email",
    '"user_password"': "the password",
}
"""What the command calls attributes of POST /server/projects, which errors name."""

MIGRATED_AT_ONCE = 4
"""The number of projects that are migrated at the same time."""


@click.group()
def project() -> None:
    """List, create, delete, export and import projects."""


@project.command("list")
@online
async def list_projects(environment: Environment) -> None:
    """List all projects, including private ones."""
    files = environment.backend.projects.files
    public = set(files.keys())
    rows = [{"project": key, "private": key not in public} for key in files.keys(private=True)]
    environment.output.table(rows, ("project", "private"), [(row["project"], row["private"]) for row in rows])


def _refused(error: InvalidRequest) -> Failed:
    """Returns the failure of a command for an error that names an attribute of POST /server/projects, with the argument in its place."""
    message = error.message
    for attribute, argument in ARGUMENTS.items():
        message = message.replace(attribute, argument)
    return Failed(message)


def _database(context: click.Context, option: click.Parameter, url: str | None) -> ProjectDatabase | None:
    """Returns the database of a URL. Raises click.BadParameter."""
    if not url:
        return None
    try:
        found = libpq_parameters(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    name = found.pop("dbname")
    known: dict[str, Any] = {each: found.pop(each, None) for each in ("host", "port", "user", "password")}
    if isinstance(known["port"], str):
        # In the query string it is text.
        port = whole_number(known["port"])
        if port is None or not 0 < port < 65536:
            raise click.BadParameter("the port is not valid")
        known["port"] = port
    # A password in the arguments can be seen by all users of the machine.
    known["password"] = known["password"] or os.environ.get("PGPASSWORD")
    if found:
        names = ", ".join(sorted(found))
        raise click.BadParameter(f"parameters that a project's database cannot have: {names}")
    return ProjectDatabase(name, **known)


@project.command("create")
@click.argument("key", metavar="PROJECT")
@click.option("--email", required=True, help="The e-mail address of the administrator.")
@click.option("--name", help="The name of the project.  [default: its key]")
@click.option("--private", is_flag=True, help="Do not show the project in lists.")
@click.option("--db-name", metavar="NAME", help="Use an existing database of the configured database server.")
@click.option(
    "--database-url",
    "database",
    metavar="URL",
    callback=_database,
    help="Use an existing database: postgresql://user@host:port/dbname. The password may be in PGPASSWORD.",
)
@click.option(
    "--system-schema", metavar="NAME", help="The schema of the system tables in an existing database.  [default: public]"
)
@click.option("--existing", is_flag=True, help="The database has the system tables of a project already. Use them.")
@click.option("--force", is_flag=True, help="The database has the system tables of a project already. Replace them.")
@click.option("--init", is_flag=True, help="Create the data directory if it does not exist.")
@password_option
@online
async def create_project(
    environment: Environment,
    key: str,
    email: str,
    name: str | None,
    private: bool,
    db_name: str | None,
    database: ProjectDatabase | None,
    system_schema: str | None,
    existing: bool,
    force: bool,
    generate: bool,
) -> None:
    """Create a project and its administrator.

    \b
    Examples:
      directus project create shop --email admin@example.com
      directus project create shop --email admin@example.com --generate --json
      directus project create shop --email admin@example.com \\
          --database-url postgresql://shop@db.example.com/shop
    """
    if db_name and database:
        raise click.UsageError("--db-name and --database-url exclude each other.")
    if db_name:
        database = ProjectDatabase(db_name)
    if (existing or force or system_schema) and database is None:
        raise click.UsageError("--existing, --force and --system-schema need --db-name or --database-url.")
    if database is not None and system_schema:
        try:
            database = evolve(database, system_schema=check_system_schema(system_schema))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--system-schema") from None
    typed, shown = password(generate=generate)
    attributes = {
        "project": key,
        "project_name": name or key,
        "user_email": email,
        "user_password": typed,
        "private": private,
        "existing": existing,
        "force": force,
    }
    try:
        new = checked(attributes, operator=True)
    except InvalidRequest as error:
        raise _refused(error) from None
    made = await environment.backend.projects.create(evolve(new, database=database))
    if made.has_own_users:
        environment.output.result(
            {"project": key, "email": None},
            f"project {key} created with the users that its database has; {email} was not created and the password is not used",
        )
        if made.lost_secrets:
            environment.output.note(f"{key}: {lost(made.lost_secrets)}")
        return
    environment.output.result(
        {"project": key, "email": email} | shown, f"project {key} created, administrator {email}", *lines_of(shown)
    )


@project.command("export")
@click.argument("key", metavar="PROJECT")
@click.argument("file", type=click.Path(dir_okay=False, path_type=pathlib.Path))
@online
async def export_project(environment: Environment, key: str, file: pathlib.Path) -> None:
    """Write a project with its database to a file.

    The keys of the project are in the file, uploaded files are not. The server may be running.

    FILE must not exist. It holds secrets, so only its owner can read it.

    \b
    Example:
      directus project export shop shop-$(date +%F).tar
      directus project import shop-2026-01-31.tar --data-dir /srv/other/var
    """
    projects = environment.backend.projects
    environment.check(key)
    config = projects.files.get(key)
    assert config is not None
    parameters = projects.databases.parameters(config.database)
    with environment.output.working(f"exporting {key}"):
        await _blocking(archive.write, file, config, parameters, _programs(environment))
    environment.output.result({"project": key, "file": str(file)}, f"project {key} exported to {file}")


@project.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option("--key", metavar="PROJECT", help="The key of the project.  [default: as in the file]")
@click.option("--init", is_flag=True, help="Create the data directory if it does not exist.")
@online
async def import_project(environment: Environment, file: pathlib.Path, key: str | None) -> None:
    """Create a project from a file of `directus project export`.

    The server creates a database for it, also if the project used an existing one. Users, tokens and passwords stay valid. Webhooks and
    mail that were not delivered yet are held, because the project that was exported may deliver them: see `directus outbox retry`.
    """
    config = await _blocking(archive.read_config, file)
    if key is not None:
        try:
            config = evolve(config, key=check_key(key))
        except InvalidRequest as error:
            raise _refused(error) from None
    programs = _programs(environment)

    held = 0

    async def restore(parameters: Parameters) -> None:
        nonlocal held
        await _blocking(archive.restore, file, parameters, programs)
        async with connected(environment.backend.reactor, parameters) as connection:
            held = await hold(connection, IMPORTED)

    with environment.output.working(f"importing {config.key}"):
        await environment.backend.projects.restore(config, restore)
    if held:
        environment.output.note(
            f"webhooks and mails that were not delivered yet are held: {held}."
            f" If the project that was exported does not deliver them: directus outbox retry {config.key} --state held"
        )
    environment.output.result({"project": config.key, "held": held}, f"project {config.key} imported")


def _programs(environment: Environment) -> pathlib.Path:
    """Returns the directory of the PostgreSQL programs to use. Raises Failed."""
    embedded = environment.backend.embedded
    try:
        return embedded.programs if embedded is not None else archive.find_programs()
    except archive.ArchiveError as error:
        raise Failed(str(error)) from None


async def _blocking(work: Callable[..., T], *arguments: Any) -> T:
    """Calls a function of `archive` in a thread. Raises Failed for ArchiveError."""
    try:
        return await deferToThread(work, *arguments)
    except archive.ArchiveError as error:
        raise Failed(str(error)) from None


@project.command("delete")
@click.argument("key", metavar="PROJECT")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@online
async def delete_project(environment: Environment, key: str, yes: bool) -> None:
    """Delete a project.

    If the server created its database, the database and the files are deleted, too.
    """
    environment.check(key)
    config = environment.backend.projects.files.get(key)
    assert config is not None
    what = "and its database and files" if config.database.owned else f"but not its database {config.database.name}"
    if not yes and ask(f"Delete project {key} {what}? Type its key: ") != key:
        raise Failed("not deleted; use --yes to delete without confirmation")
    await environment.backend.projects.delete(key)
    environment.output.result({"project": key}, f"project {key} deleted")


@project.command("rotate-key")
@click.argument("key", metavar="PROJECT")
@online
async def rotate_key(environment: Environment, key: str) -> None:
    """Give a project a new secret key.

    The server signs tokens and seals secrets with it from now on. Nobody is signed out: what the former keys have signed and sealed stays
    valid until `directus project forget-keys`. The server may be running. Comments in the project file are lost. Other projects with the
    same database get the same key.
    """
    environment.check(key)
    projects = environment.backend.projects
    files = projects.files
    config = files.get(key)
    assert config is not None
    others = projects.sharing(config.database, but=key)
    new = files.change(config, with_new_key)
    for other in others:
        files.change(other, lambda found: with_new_key(found, new.secret_key))
    number = len(new.former_secret_keys)
    environment.output.result(
        {"project": key, "former_keys": number}, f"project {key} has a new secret key; former keys that are valid: {number}"
    )


@project.command("forget-keys")
@click.argument("key", metavar="PROJECT")
@online
async def forget_keys(environment: Environment, key: str) -> None:
    """Forget the former secret keys of a project.

    Secrets in the database that were sealed with them are sealed with the present key first. JWTs that they have signed are no longer
    valid: wait for the lifetime of JWTs (auth_token_ttl) after `directus project rotate-key`. The server may be running.

    \b
    Example:
      directus project rotate-key shop
      sleep 1h
      directus project forget-keys shop
    """
    environment.check(key)
    projects = environment.backend.projects
    config = projects.files.get(key)
    assert config is not None
    number = len(config.former_secret_keys)
    if number:
        await _until_known(environment, config)
        project = projects.get(key)
        config = project.config
        number = len(config.former_secret_keys)
        await project.open(until_migrated=True)
        found = await reseal(Session(project.database), project.keys)
        if found.lost:
            raise Failed(
                f"the former keys are kept, because secrets in the database are sealed with none of the keys: {found.lost}."
                " Set the tokens and two-factor secrets of users that are shown as null anew,"
                " and make new secrets for the webhooks whose messages are held"
            )
        for each in (config, *projects.sharing(config.database, but=key)):
            projects.files.change(each, lambda found: without_keys(found, config.former_secret_keys))
    environment.output.result({"project": key, "forgotten": number}, f"former keys of project {key} that are forgotten: {number}")


async def _until_known(environment: Environment, config: ProjectConfig) -> None:
    """Waits until servers that run have read the project file: what is sealed with a new key they could not use before."""
    files = environment.backend.projects.files
    with environment.output.working("waiting until servers know the new key"):
        while (left := KNOWN_AFTER - files.age(config)) > 0:
            await pause(environment.backend.reactor, min(left, KNOWN_AFTER))


@click.command()
@online
async def migrate(environment: Environment) -> None:
    """Bring the system tables of all projects up to date."""
    projects = environment.backend.projects
    keys = projects.files.keys(private=True)
    failed: list[str] = []
    with environment.output.progress() as progress:
        bar = progress.add_task("migrating", total=len(keys))

        async def open_each(rest: list[str]) -> None:
            while rest:
                key = rest.pop(0)
                try:
                    project = projects.get(key)
                    await project.open(until_migrated=True)
                    await project.snapshot()
                except ApiError as error:
                    failed.append(key)
                    environment.output.note(f"{key}: {told(error)}")
                progress.advance(bar)

        rest = list(keys)
        await defer.gatherResults([defer.ensureDeferred(open_each(rest)) for _ in range(MIGRATED_AT_ONCE)])
    summary = "all projects are up to date" if not failed else f"{len(failed)} of {len(keys)} projects failed"
    environment.output.result({"failed": sorted(failed)}, summary)
    if failed:
        raise SystemExit(1)
