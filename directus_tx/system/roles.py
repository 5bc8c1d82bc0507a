"""Roles: a new one may at once do what everybody signed in needs to do."""

from typing import Any

from directus_tx.context import Context
from directus_tx.db import SQL, Identifier
from directus_tx.history import values
from directus_tx.rules import CollectionRules, Item
from directus_tx.schema.system import CATALOGUE

_NAMES = ("collection", "status", "create", "read", "update", "delete", "comment", "explain")
_LEVELS = frozenset(_NAMES[2:])


class RoleRules(CollectionRules):
    """The rules of directus_roles."""

    async def created(self, ctx: Context, key: Any, payload: Item) -> None:
        """Gives the role the permissions of the catalogue."""
        rows = CATALOGUE.role_permissions
        bound: list[Any] = []
        for row in rows:
            bound += [key, *(row.get(name, "none" if name in _LEVELS else None) for name in _NAMES)]
        names = SQL(", ").join([Identifier(name) for name in ("role", *_NAMES)])
        sql = SQL("INSERT INTO directus_permissions ({}) VALUES {}")
        await ctx.db.query(sql.format(names, values(len(rows), len(_NAMES) + 1)), bound)
