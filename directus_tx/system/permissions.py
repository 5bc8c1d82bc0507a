"""Permissions: the words that each level may be."""

from collections.abc import Mapping
from typing import Any

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


def _checked(payload: Item) -> Item:
    for name, levels in LEVELS.items():
        if payload.get(name) is not None and payload[name] not in levels:
            raise InvalidRequest(f'"{name}" is one of {", ".join(levels)}.')
    return payload
