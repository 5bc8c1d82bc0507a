"""Relations: where they may lead."""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import Grant
from directus_tx.context import Context
from directus_tx.errors import SystemCollection
from directus_tx.items.rules import CollectionRules
from directus_tx.schema.model import UNRELATABLE


class RelationRules(CollectionRules):
    """The rules of directus_relations."""

    async def check_values(self, ctx: Context, grant: Grant, stored: Mapping[str, Any] | None, row: Mapping[str, Any]) -> None:
        """Raises SystemCollection where the relation would lead to a collection that none may lead to. Taking a name away is
        allowed."""
        if all(row.get(name) is None for name in ("collection_many", "field_many", "collection_one", "field_one")):
            return
        changed = {**(stored or {}), **row}
        for name in (changed.get("collection_many"), changed.get("collection_one")):
            if name in UNRELATABLE:
                raise SystemCollection(f'A relation may not lead to "{name}".')
