"""Collection presets: what users have set for themselves, and what is set for them. No history is kept of them."""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import Grant, access_of
from directus_tx.context import Context
from directus_tx.errors import CreateForbidden, UpdateForbidden
from directus_tx.items.rules import CollectionRules, Item

PRESETS = "directus_collection_presets"


class PresetRules(CollectionRules):
    """The rules of directus_collection_presets. A preset belongs to its `user`; one without a user is for the members of its `role`,
    one without both is for everybody."""

    unlogged = True

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        """A preset for which nobody is named belongs to its creator, unless that may make presets for everybody."""
        level = _level(access_of(ctx).grant(PRESETS))
        if level == "full" or "user" in payload or "role" in payload or ctx.accountability.user is None:
            return payload
        return payload | {"user": ctx.accountability.user}

    async def check_values(self, ctx: Context, grant: Grant, stored: Mapping[str, Any] | None, row: Mapping[str, Any]) -> None:
        """Raises CreateForbidden, UpdateForbidden where the preset would belong to others than the caller may change presets of: with
        the level `full` of update anybody, with `role` the members of the caller's role, else the caller alone."""
        if _level(grant) == "full" or (stored is not None and all(row.get(n, stored[n]) == stored[n] for n in ("user", "role"))):
            return
        after = {**(stored or {}), **row}
        if not await _within_reach(ctx, grant, after.get("user"), after.get("role")):
            forbidden = CreateForbidden if stored is None else UpdateForbidden
            raise forbidden("A preset may be given to those alone whose presets you may change.")


def _level(grant: Grant) -> str:
    return grant.level(grant.permission, "update")


async def _within_reach(ctx: Context, grant: Grant, user: Any, role: Any) -> bool:
    """Whether the caller may change a preset of a user; one that is for another role as well is not the caller's to change."""
    who = ctx.accountability
    if who.user is None or user is None or role not in (None, who.role):
        return False
    if user == who.user:
        return True
    if _level(grant) != "role" or who.role is None:
        return False
    return bool(await ctx.db.query("SELECT 1 FROM directus_users WHERE id = %s AND role = %s", (user, who.role)))
