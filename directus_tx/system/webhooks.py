"""Webhooks: who may send the items of a collection to another server, and where to."""

from collections.abc import Sequence

from directus_tx.access import Grant, access_of
from directus_tx.access.grant import ROW_LEVELS
from directus_tx.context import Context
from directus_tx.errors import CreateForbidden, InvalidRequest, UpdateForbidden
from directus_tx.items.changes import Change, Event
from directus_tx.items.history import Record
from directus_tx.items.rules import CollectionRules
from directus_tx.outgoing.failures import Refused
from directus_tx.outgoing.urls import check_url
from directus_tx.webhooks import secrets

REQUIREMENT = "A webhook requires permission to read all items and fields of its collection."

DECISIVE = ("collection", "directus_action", "url")
"""The fields that say what a webhook sends, and where."""


class WebhookRules(CollectionRules):
    """The rules of directus_webhooks."""

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises CreateForbidden or UpdateForbidden if a webhook would send items or fields that the caller may not read, and
        InvalidRequest for a URL that no request can be made to."""
        async for change in ctx.in_slices(changes):
            url = change.row.get("url")
            if url:
                try:
                    check_url(url)
                except Refused as error:
                    raise InvalidRequest(f'"url": {error}') from None
        if grant.admin:
            return
        async for change in ctx.in_slices(changes):
            name = change.row.get("collection", (change.stored or {}).get("collection"))
            if not _reads_whole(ctx, name):
                forbidden = CreateForbidden if change.new else UpdateForbidden
                raise forbidden(REQUIREMENT)

    async def after(self, ctx: Context, events: Sequence[Event]) -> Sequence[Record]:
        """Gives new webhooks a secret and an owner. Who changes what a webhook sends, or where, becomes its owner."""
        await secrets.add(ctx, [event.key for event in events if event.action == "create"])
        changed = [
            event.key
            for event in events
            if event.before is not None
            and event.after is not None
            and any(event.before[name] != event.after[name] for name in DECISIVE)
        ]
        if changed:
            await secrets.take_over(ctx, changed)
        return ()


async def check_update(ctx: Context, webhook: int) -> None:
    """Raises UpdateForbidden if the caller may not update a webhook, which exists and which the caller may read."""
    grant = access_of(ctx).grant("directus_webhooks")
    grant.check_possible("update")
    rows = await ctx.db.query("SELECT status, collection FROM directus_webhooks WHERE id = %s", (webhook,))
    for status, collection in rows:
        if grant.level(grant.of(status), "update") not in ROW_LEVELS:
            raise UpdateForbidden(f"You may not change this item of {grant.title}.")
        if not grant.admin and not _reads_whole(ctx, collection):
            raise UpdateForbidden(REQUIREMENT)


def _reads_whole(ctx: Context, name: str | None) -> bool:
    """Whether the caller may read all items and fields of a collection, which exists."""
    return name in ctx.schema.collections and access_of(ctx).grant(str(name)).whole
