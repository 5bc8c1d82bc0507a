"""Collection presets: view settings of users, of roles and of everyone. They have no history."""

from collections.abc import Iterable, Sequence
from typing import Any

from directus_tx.access import Grant, access_of
from directus_tx.context import Context
from directus_tx.errors import CreateForbidden, UpdateForbidden
from directus_tx.items.changes import Change
from directus_tx.items.rules import CollectionRules
from directus_tx.system.references import check_references

PRESETS = "directus_collection_presets"


class PresetRules(CollectionRules):
    """The rules of directus_collection_presets. A preset belongs to its `user`; without a user it applies to the members of its
    `role`; without both it applies to everyone."""

    unlogged = True

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Makes the caller the user of new presets that name neither user nor role, unless the caller may create presets for
        everyone."""
        if _level(access_of(ctx).grant(PRESETS)) == "full" or ctx.accountability.user is None:
            return
        async for change in ctx.in_slices(changes):
            if change.new and not {"user", "role"} & change.payload.keys():
                change.payload["user"] = ctx.accountability.user

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises CreateForbidden or UpdateForbidden if a preset would belong to a user whose presets the caller may not change.
        The update level `full` allows presets of everyone, `role` those of members of the caller's role, other levels the
        caller's own. Raises InvalidRequest for a user or role that does not exist."""
        if _level(grant) == "full":
            await check_references(ctx, changes)
            return
        given = [change for change in changes if change.new or any(_moved(change, name) for name in ("user", "role"))]
        colleagues = await _colleagues(ctx, grant, {_after(change, "user") for change in given})
        for change in given:
            # A preset that also names another role may not be changed by the caller.
            if _after(change, "user") not in colleagues or _after(change, "role") not in (None, ctx.accountability.role):
                forbidden = CreateForbidden if change.new else UpdateForbidden
                raise forbidden("You may not assign a preset to a user whose presets you may not change.")
        await check_references(ctx, changes)


def _level(grant: Grant) -> str:
    return grant.level(grant.permission, "update")


def _after(change: Change, name: str) -> Any:
    """Returns the value of a column after the change."""
    return change.row[name] if name in change.row else (change.stored or {}).get(name)


def _moved(change: Change, name: str) -> bool:
    return change.stored is not None and _after(change, name) != change.stored[name]


async def _colleagues(ctx: Context, grant: Grant, users: Iterable[Any]) -> set[Any]:
    """Returns the users, among *users* and the caller, whose presets the caller may change."""
    who = ctx.accountability
    if who.user is None:
        return set()
    if _level(grant) != "role" or who.role is None:
        return {who.user}
    sql = "SELECT id FROM directus_users WHERE id = ANY(%s::bigint[]) AND role = %s"
    return {who.user, *(key for (key,) in await ctx.db.query(sql, ([user for user in users if user is not None], who.role)))}
