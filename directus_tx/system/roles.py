"""Roles: a new one may at once do what everybody signed in needs to do; two of them stay."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from directus_tx.context import ADMINISTRATOR, PUBLIC, Context
from directus_tx.db import SQL, Identifier
from directus_tx.errors import Unauthorized, UpdateForbidden
from directus_tx.history import values
from directus_tx.rules import CollectionRules, Item
from directus_tx.schema.system import CATALOGUE

_NAMES = ("collection", "status", "create", "read", "update", "delete", "comment", "explain")
_LEVELS = frozenset(_NAMES[2:])


class RoleRules(CollectionRules):
    """The rules of directus_roles."""

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        """Every role has an external id, by which other systems know it."""
        return payload if payload.get("external_id") else payload | {"external_id": str(uuid.uuid4())}

    async def prepare_update(self, ctx: Context, stored: Mapping[str, Any], payload: Item) -> Item:
        """Raises UpdateForbidden where somebody else changes the administrators' role."""
        if stored["id"] == ADMINISTRATOR and not ctx.accountability.admin:
            raise UpdateForbidden("Only administrators may change their role.")
        return payload

    async def prepare_delete(self, ctx: Context, keys: Sequence[Any]) -> None:
        """Raises Unauthorized for the roles that every project has."""
        if {ADMINISTRATOR, PUBLIC} & set(keys):
            raise Unauthorized("The roles of administrators and of the public stay.")

    async def created(self, ctx: Context, key: Any, payload: Item) -> None:
        """Gives the role the permissions of the catalogue."""
        rows = CATALOGUE.role_permissions
        bound: list[Any] = []
        for row in rows:
            bound += [key, *(row.get(name, "none" if name in _LEVELS else None) for name in _NAMES)]
        names = SQL(", ").join([Identifier(name) for name in ("role", *_NAMES)])
        sql = SQL("INSERT INTO directus_permissions ({}) VALUES {}")
        await ctx.db.query(sql.format(names, values(len(rows), len(_NAMES) + 1)), bound)

    async def deleted(self, ctx: Context, keys: Sequence[Any]) -> None:
        """The permissions of a role go with it."""
        await ctx.db.query("DELETE FROM directus_permissions WHERE role = ANY(%s)", (list(keys),))
