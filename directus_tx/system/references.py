"""Checks that the roles and users to which rows of system collections refer exist."""

from collections.abc import Mapping, Sequence
from typing import Any

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import InvalidRequest
from directus_tx.items.changes import Change

_TARGETS: Mapping[str, tuple[str, str]] = {"role": ("directus_roles", "role"), "user": ("directus_users", "user")}
"""The fields that refer to a row: the collection of the row, and what messages call it."""


async def check_references(ctx: Context, changes: Sequence[Change]) -> None:
    """Raises InvalidRequest if a change sets `role` or `user` to the key of a row that does not exist. The rows are locked, so that they
    are not deleted before this transaction ends. A caller who may not read all users is not told which of them exist."""
    for name, (collection, kind) in _TARGETS.items():
        if name != "role" and not access_of(ctx).grant(collection).reads_all:
            continue
        wanted = {change.row[name]: None for change in changes if name in change.row and _refers_anew(change, name)}
        if not wanted:
            continue
        sql = SQL("SELECT id FROM {} WHERE id = ANY(%s::bigint[]) ORDER BY id FOR KEY SHARE").format(Identifier(collection))
        found = {key for (key,) in await ctx.db.query(sql, (list(wanted),))}
        missing = [str(key) for key in wanted if key not in found]
        if missing:
            raise InvalidRequest(f'"{name}": there is no {kind} {", ".join(missing[:10])}.')


def _refers_anew(change: Change, name: str) -> bool:
    value: Any = change.row[name]
    return value is not None and (change.stored is None or change.stored[name] != value)
