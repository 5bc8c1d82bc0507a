"""Webhooks: who may send the items of a collection to another server."""

from collections.abc import Sequence

from directus_tx.access import Grant, access_of
from directus_tx.context import Context
from directus_tx.errors import CreateForbidden, UpdateForbidden
from directus_tx.items.changes import Change
from directus_tx.items.rules import CollectionRules


class WebhookRules(CollectionRules):
    """The rules of directus_webhooks."""

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises CreateForbidden or UpdateForbidden if a webhook would send items or fields that the caller may not read."""
        if grant.admin:
            return
        async for change in ctx.in_slices(changes):
            name = change.row.get("collection", (change.stored or {}).get("collection"))
            if name not in ctx.schema.collections or not access_of(ctx).grant(str(name)).whole:
                forbidden = CreateForbidden if change.new else UpdateForbidden
                raise forbidden("A webhook requires permission to read all items and fields of its collection.")
