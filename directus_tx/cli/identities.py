"""directus identity: the accounts of providers of single sign-on that belong to users."""

from collections.abc import Sequence

import click

from directus_tx.accounts.sso import identities
from directus_tx.accounts.sso.identities import Key
from directus_tx.accounts.sso.openid import MAX_SUBJECT
from directus_tx.accounts.sso.requests import text_of
from directus_tx.cli.accounts import LARGEST, find_user
from directus_tx.cli.command import Environment, Failed, online
from directus_tx.errors import NotFound, NotUnique


@click.group()
def identity() -> None:
    """List, link and remove the accounts with which users sign on."""


@identity.command("list")
@click.argument("project")
@click.argument("email", required=False)
@online
async def list_identities(environment: Environment, project: str, email: str | None) -> None:
    """List the accounts of all users of a project, or of one."""
    ctx = await environment.context(project)
    found = await identities.read(ctx, None if email is None else await find_user(ctx, email))
    rows = [[each[name] for name in identities.SHOWN] for each in found]
    environment.output.table(found, identities.SHOWN, rows)


@identity.command("link")
@click.argument("project")
@click.argument("email")
@click.argument("provider")
@click.argument("subject")
@online
async def link_identity(environment: Environment, project: str, email: str, provider: str, subject: str) -> None:
    """Let a user sign on with an account of a provider.

    PROVIDER is the name of a provider of single sign-on in the project file. SUBJECT is what the provider identifies the account by, for
    example the number of an account of GitHub.

    \b
    Example:
      directus identity link shop ada@example.com github 583231
    """
    ctx = await environment.context(project)
    user = await find_user(ctx, email)
    if text_of(subject, MAX_SUBJECT) != subject:
        raise Failed(f"a subject is a text of at most {MAX_SUBJECT} characters")
    backend = environment.backend
    try:
        found = backend.sign_on.provider(backend.projects.get(project), provider)
    except NotFound:
        raise Failed(
            f"auth.social_providers of the project file has no provider {provider}, or its settings are not valid"
        ) from None
    key = Key(provider, found.driver.issuer, subject)
    try:
        id = await ctx.transaction(lambda ctx: identities.link(ctx, key, user))
    except NotUnique:
        raise Failed("the account belongs to a user already: directus identity list shows whose it is") from None
    environment.output.result({"id": id, "user": user}, f"account {id} linked to {email}")


@identity.command("remove")
@click.argument("project")
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(1, LARGEST), metavar="ID...")
@online
async def remove_identities(environment: Environment, project: str, ids: Sequence[int]) -> None:
    """Remove accounts from their users, by their ids in the list. Sessions go on: see directus session revoke."""
    ctx = await environment.context(project)
    gone = [id for id in dict.fromkeys(ids) if await identities.remove(ctx, id)]
    missing = [str(id) for id in dict.fromkeys(ids) if id not in gone]
    if missing:
        environment.output.note(f"there is no account {', '.join(missing)}")
        if not gone:
            raise Failed("no account was removed")
    environment.output.result({"removed": gone}, f"accounts that were removed: {len(gone)}")
