"""Collection presets: what users have set for themselves, and what is set for them. No history is kept of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from directus_tx.access import Grant, access_of
from directus_tx.context import Context
from directus_tx.errors import CreateForbidden, UpdateForbidden
from directus_tx.items.changes import Change
from directus_tx.items.rules import CollectionRules

PRESETS = "directus_collection_presets"


class PresetRules(CollectionRules):
    """The rules of directus_collection_presets. A preset belongs to its `user`; one without a user is for the members of its `role`,
    one without both is for everybody."""

    unlogged = True

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """A new preset for which nobody is named belongs to its creator, unless that may make presets for everybody."""
        if _level(access_of(ctx).grant(PRESETS)) == "full" or ctx.accountability.user is None:
            return
        for change in changes:
            if change.new and not {"user", "role"} & change.payload.keys():
                change.payload["user"] = ctx.accountability.user

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises CreateForbidden, UpdateForbidden where a preset would belong to others than the caller may change presets of: with
        the level `full` of update anybody, with `role` the members of the caller's role, else the caller alone."""
        if _level(grant) == "full":
            return
        given = [change for change in changes if change.new or any(_moved(change, name) for name in ("user", "role"))]
        colleagues = await _colleagues(ctx, grant, {_after(change, "user") for change in given})
        for change in given:
            # One that is for another role as well is not the caller's to change.
            if _after(change, "user") not in colleagues or _after(change, "role") not in (None, ctx.accountability.role):
                forbidden = CreateForbidden if change.new else UpdateForbidden
                raise forbidden("A preset may be given to those alone whose presets you may change.")


def _level(grant: Grant) -> str:
    return grant.level(grant.permission, "update")


def _after(change: Change, name: str) -> Any:
    """The value of a column after a change."""
    return change.row[name] if name in change.row else (change.stored or {}).get(name)


def _moved(change: Change, name: str) -> bool:
    return change.stored is not None and _after(change, name) != change.stored[name]


async def _colleagues(ctx: Context, grant: Grant, users: Iterable[Any]) -> set[Any]:
    """Those of the users whose presets the caller may change."""
    who = ctx.accountability
    if who.user is None:
        return set()
    if _level(grant) != "role" or who.role is None:
        return {who.user}
    sql = "SELECT id FROM directus_users WHERE id = ANY(%s::bigint[]) AND role = %s"
    return {who.user, *(key for (key,) in await ctx.db.query(sql, ([user for user in users if user is not None], who.role)))}
