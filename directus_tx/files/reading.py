"""Decides who may read the contents of files.

Without the setting private_assets, whoever knows the address of a content may read it. With it, a caller may read the content of a file
who may read the file.
"""

from typing import Any

from attrs import evolve

from directus_tx.access import access_of, refusals
from directus_tx.access.grant import Grant, Permission
from directus_tx.access.view import not_deleted
from directus_tx.compile.file_data import FIELD, FILES
from directus_tx.context import Context
from directus_tx.db.sql import Clause, all_of
from directus_tx.files.contents import BY_KEY, Original, find_original
from directus_tx.schema.model import Snapshot

SETTING = "private_assets"

UNSTORED = {"Cache-Control": "no-store"}
"""The headers of refusals: a cache must not answer others with them, or the same caller who has signed in since."""


def are_private(schema: Snapshot) -> bool:
    """Whether only callers who may read a file may read its content. False if the setting is missing, empty, 0 or false."""
    return schema.setting(SETTING).strip().lower() not in ("", "0", "false")


async def find_readable(ctx: Context, field: str, value: Any) -> Original:
    """Returns the content of a file that the caller may read, with one statement. *field* is one of the constants BY_... of `contents`.
    Raises the errors of a read of a file, which are the same whether there is such a file or not: ItemNotFound, and Unauthorized for the
    public if it may read no files."""
    access = access_of(ctx)
    grant = access.grant(FILES)
    statement: tuple[bool, str, Clause] = grant.kept(("readable contents", field), lambda: _readable(grant, field))
    possible, sql, visible = statement
    found = await find_original(ctx.db, field, value, sql, visible.parameters(ctx.bind_values())) if possible else None
    if found is None:
        refusal = refusals.unread(grant, public=access.public and not possible)
        refusal.headers = UNSTORED
        raise refusal
    return found


def _readable(grant: Grant, field: str) -> tuple[bool, str, Clause]:
    """Returns whether the caller may read the contents of some files, and the condition on these as SQL and as a clause.

    A caller from whom permissions hide the URLs of the content (the field `data`), or the field by which it is looked for, may not read
    it: the answer would tell what that field holds."""
    needed = {FIELD} if field == BY_KEY else {FIELD, field}

    def bounded(permission: Permission) -> Permission:
        return evolve(permission, read="none") if permission.hidden & needed else permission

    if not grant.admin:
        statuses = grant.statuses
        grant = evolve(
            grant,
            permission=bounded(grant.permission),
            statuses=None if statuses is None else {status: bounded(each) for status, each in statuses.items()},
        )
    visible = all_of([grant.condition("read", "f"), not_deleted("f", grant.collection)])
    return grant.allows("read"), _sql(visible), visible


def _sql(clause: Clause) -> str:
    return clause.sql.as_string(None)  # type: ignore[arg-type] # names need no connection
