"""directus token, directus session: what lets users in without their passwords."""

from collections.abc import Sequence
from datetime import timedelta

import click

from directus_tx.accounts import sessions, user_tokens
from directus_tx.cli.command import Environment, Failed, online
from directus_tx.context import Context

LARGEST = 2**63 - 1
"""The largest id."""

TOKENS = ("id", "user", "name", "read_only", "collections", "created_on", "expires_on", "last_used_on")
_ids = click.argument("ids", nargs=-1, required=True, type=click.IntRange(1, LARGEST), metavar="ID...")
_email = click.argument("email", required=False)


@click.group()
def token() -> None:
    """Make, list and revoke named tokens of users."""


@token.command("create")
@click.argument("project")
@click.argument("email")
@click.option("--name", required=True, help="What the token is for. Each token of a user has another name.")
@click.option(
    "--days", type=click.IntRange(1, user_tokens.MAX_LIFETIME.days), help="The days after which it expires.  [default: never]"
)
@click.option("--read-only", is_flag=True, help="Nothing can be written with it.")
@click.option("--collection", "collections", multiple=True, help="Only for items of this collection. Can be repeated.")
@online
async def create_token(
    environment: Environment,
    project: str,
    email: str,
    name: str,
    days: int | None,
    read_only: bool,
    collections: Sequence[str],
) -> None:
    """Make a token of a user and show it. It cannot be shown again.

    With --read-only or --collection it can do less than its user: it reads and writes items only, and it cannot change users, permissions
    or settings.

    \b
    Examples:
      directus token create shop import@example.com --name "nightly import"
      directus token create shop web@example.com --name website --read-only \\
          --collection articles --collection directus_files --days 365
    """
    ctx = await environment.context(project)
    made, text = await user_tokens.create(
        ctx,
        await find_user(ctx, email),
        name,
        expires_on=None if days is None else ctx.now + timedelta(days=days),
        read_only=read_only,
        collections=list(collections) or None,
    )
    environment.output.result(
        made.shown | {"user": made.user, "token": text}, f"token {made.id} created, shown this once: {text}"
    )


@token.command("list")
@click.argument("project")
@_email
@online
async def list_tokens(environment: Environment, project: str, email: str | None) -> None:
    """List the tokens of a project or of one of its users. Those that have expired are left out."""
    ctx = await environment.context(project)
    found = await user_tokens.read(ctx, await _user(ctx, email))
    shown = [each.shown | {"user": each.user} for each in found]
    rows = [[" ".join(row[n] or ()) if n == "collections" else row[n] for n in TOKENS] for row in shown]
    environment.output.table(shown, TOKENS, rows)


@token.command("revoke")
@click.argument("project")
@_ids
@online
async def revoke_tokens(environment: Environment, project: str, ids: Sequence[int]) -> None:
    """End tokens at once, in all processes of the server."""
    ctx = await environment.context(project)
    gone = [id for id in dict.fromkeys(ids) if await user_tokens.revoke(ctx, id)]
    _tell(environment, "token", "revoked", ids, gone)


@click.group()
def session() -> None:
    """List and end sessions of users."""


@session.command("list")
@click.argument("project")
@_email
@online
async def list_sessions(environment: Environment, project: str, email: str | None) -> None:
    """List the sessions of a project or of one of its users. Those that have expired are left out."""
    ctx = await environment.context(project)
    user = await _user(ctx, email)
    found = await sessions.read_all(ctx) if user is None else await sessions.read(ctx, user)
    environment.output.table(found, sessions.SHOWN, [[each[name] for name in sessions.SHOWN] for each in found])


@session.command("revoke")
@click.argument("project")
@click.argument("ids", nargs=-1, type=click.IntRange(1, LARGEST), metavar="[ID]...")
@click.option("--user", "email", metavar="EMAIL", help="All sessions of this user.")
@online
async def revoke_sessions(environment: Environment, project: str, ids: Sequence[int], email: str | None) -> None:
    """End sessions. A cookie is worthless at once; a JWT identifies its user until it expires, but cannot be refreshed.

    \b
    Examples:
      directus session revoke shop 17 18
      directus session revoke shop --user editor@example.com
    """
    if bool(ids) == bool(email):
        raise click.UsageError("Name the sessions, either by ids or by --user.")
    ctx = await environment.context(project)
    user = await _user(ctx, email)
    wanted = list(ids) if user is None else [each["id"] for each in await sessions.read(ctx, user)]
    gone = [id for id in dict.fromkeys(wanted) if await sessions.revoke(ctx, id)]
    _tell(environment, "session", "ended", wanted, gone)


async def _user(ctx: Context, email: str | None) -> int | None:
    return None if email is None else await find_user(ctx, email)


async def find_user(ctx: Context, email: str) -> int:
    """Returns the id of the user with an e-mail address. Raises Failed if there is none."""
    rows = await ctx.db.query("SELECT id FROM directus_users WHERE lower(email) = lower(%s)", (email,))
    if not rows:
        raise Failed(f"there is no user {email}")
    return int(rows[0][0])


def _tell(environment: Environment, what: str, done: str, wanted: Sequence[int], gone: Sequence[int]) -> None:
    """Writes the result of ending tokens or sessions. Raises Failed if there was none of those that were named."""
    missing = [id for id in dict.fromkeys(wanted) if id not in gone]
    if missing:
        environment.output.note(f"there is no {what} {', '.join(map(str, missing))}")
        if not gone:
            raise Failed(f"no {what} was {done}")
    environment.output.result({done: list(gone)}, f"{what}s that were {done}: {len(gone)}")
