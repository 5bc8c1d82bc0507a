"""directus user."""

import click

from directus_tx.accounts import attempts
from directus_tx.cli.command import Environment, Failed, online, role_named
from directus_tx.cli.output import lines_of
from directus_tx.cli.passwords import password, password_option
from directus_tx.context import ADMINISTRATOR, Context
from directus_tx.items import create_items, update_items
from directus_tx.query import Query, WriteOptions

USERS = "directus_users"
LISTED = ("id", "email", "first_name", "last_name", "role", "status", "last_access_on")


@click.group()
def user() -> None:
    """List, create and unlock users, set passwords."""


@user.command("list")
@click.argument("project")
@online
async def list_users(environment: Environment, project: str) -> None:
    """List the users of a project."""
    ctx = await environment.context(project)
    rows = await ctx.db.query(
        "SELECT u.id, u.email, u.first_name, u.last_name, r.name, u.status, u.last_access_on"
        " FROM directus_users AS u LEFT JOIN directus_roles AS r ON r.id = u.role ORDER BY u.id"
    )
    environment.output.table([dict(zip(LISTED, row, strict=True)) for row in rows], LISTED, rows)


@user.command("create")
@click.argument("project")
@click.argument("email")
@click.option("--role", default=str(ADMINISTRATOR), help="The name or the id of the role.  [default: administrator]")
@click.option("--first-name")
@click.option("--last-name")
@password_option
@online
async def create_user(
    environment: Environment,
    project: str,
    email: str,
    role: str,
    first_name: str | None,
    last_name: str | None,
    generate: bool,
) -> None:
    """Create an active user.

    \b
    Examples:
      directus user create shop somebody@example.com
      directus user create shop editor@example.com --role Editor --generate
    """
    ctx = await environment.context(project)
    payload = {
        "email": email,
        "role": role_named(ctx, role),
        "status": "active",
        "first_name": first_name,
        "last_name": last_name,
    }
    typed, shown = password(generate=generate)
    result = await create_items(
        environment.backend.items,
        ctx,
        USERS,
        payload | {"password": typed},
        Query(fields=("id", "email", "role")),
        WriteOptions(),
    )
    environment.output.result(result.data | shown, f"user {result.data['id']} created", *lines_of(shown))


@user.command("password")
@click.argument("project")
@click.argument("email")
@password_option
@online
async def set_password(environment: Environment, project: str, email: str, generate: bool) -> None:
    """Set the password of a user, found by e-mail address."""
    ctx = await environment.context(project)
    id, _ = await _found(ctx, email)
    typed, shown = password(generate=generate)
    await update_items(
        environment.backend.items,
        ctx,
        USERS,
        [str(id)],
        {"password": typed},
        Query(fields=("id",)),
        WriteOptions(),
    )
    environment.output.result({"id": id} | shown, f"password of {email} changed", *lines_of(shown))


@user.command("unlock")
@click.argument("project")
@click.argument("email")
@online
async def unlock(environment: Environment, project: str, email: str) -> None:
    """Let a user sign in again after too many failed sign-ins. The count of failed sign-ins restarts."""
    ctx = await environment.context(project)
    id, status = await _found(ctx, email)
    if status not in ("suspended", "active"):
        raise Failed(f"{email} is not suspended: the status is {status}")
    if status == "suspended":
        query, options = Query(fields=("id",)), WriteOptions()
        await update_items(environment.backend.items, ctx, USERS, [str(id)], {"status": "active"}, query, options)
    else:
        await ctx.transaction(lambda ctx: attempts.admit(ctx, id))
    environment.output.result({"id": id, "status": "active"}, f"{email} can sign in")


async def _found(ctx: Context, email: str) -> tuple[int, str]:
    """Returns the id and the status of the user with an e-mail address. Raises Failed."""
    rows = await ctx.db.query("SELECT id, status FROM directus_users WHERE lower(email) = lower(%s)", (email,))
    if not rows:
        raise Failed(f"there is no user {email}")
    return int(rows[0][0]), str(rows[0][1])
