"""Permissions: the words that each level may be."""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.errors import InvalidRequest
from directus_tx.rules import CollectionRules, Item

_ROWS = ("none", "mine", "role", "full")
LEVELS: Mapping[str, tuple[str, ...]] = {
    "create": ("none", "full"),
    "read": _ROWS,
    "update": _ROWS,
    "delete": _ROWS,
    "comment": ("none", "read", "create", "update", "full"),
    "explain": ("none", "create", "update", "always"),
}


class PermissionRules(CollectionRules):
    """The rules of directus_permissions."""

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        return _checked(payload)

    async def prepare_update(self, ctx: Context, stored: Mapping[str, Any], payload: Item) -> Item:
        return _checked(payload)


def own_permissions(ctx: Context, collection: str | None = None) -> list[Item]:
    """The permissions of the caller's role, those of one collection or all, as the API shows them."""
    rows = ctx.schema.permissions_of(access_of(ctx).role)
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}
        for row in rows
        if collection is None or row["collection"] == collection
    ]


def _checked(payload: Item) -> Item:
    for name, levels in LEVELS.items():
        if payload.get(name) is not None and payload[name] not in levels:
            raise InvalidRequest(f'"{name}" is one of {", ".join(levels)}.')
    return payload
