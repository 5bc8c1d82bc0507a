"""Webhooks: who may have the items of a collection sent away."""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import Grant, access_of
from directus_tx.context import Context
from directus_tx.errors import CreateForbidden, UpdateForbidden
from directus_tx.items.rules import CollectionRules


class WebhookRules(CollectionRules):
    """The rules of directus_webhooks."""

    async def check_values(self, ctx: Context, grant: Grant, stored: Mapping[str, Any] | None, row: Mapping[str, Any]) -> None:
        """Raises CreateForbidden, UpdateForbidden where the webhook would send items, or fields of them, that the caller may not
        read."""
        name = row.get("collection", (stored or {}).get("collection"))
        if grant.admin or (name in ctx.schema.collections and access_of(ctx).grant(str(name)).whole):
            return
        forbidden = CreateForbidden if stored is None else UpdateForbidden
        raise forbidden("A webhook needs the right to read all items of its collection, and all of their fields.")
