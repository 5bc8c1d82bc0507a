"""The messages of webhooks about items that have been written."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from directus_tx.access.caller import Access
from directus_tx.context import Accountability, Context
from directus_tx.items.changes import Event, Row
from directus_tx.items.history import logged
from directus_tx.outbox.copies import Copy, together
from directus_tx.outbox.messages import Message
from directus_tx.outgoing.failures import RequestFailed
from directus_tx.outgoing.urls import origin_of
from directus_tx.schema.model import Collection, Snapshot, Webhook
from directus_tx.schema.showing import answer

KIND = "webhook"
"""The kind of the messages."""

BODILESS = frozenset({"get", "head"})
"""HTTP methods whose requests have no body."""

BOOKKEEPING = frozenset({"user_updated", "datetime_updated"})
"""Field types whose values the server sets with each update."""

_ACTIONS = {"create": "create", "delete": "delete"}


class WebhookEvents:
    """Makes the messages of the `after` webhooks: a `Publisher`."""

    async def messages(self, ctx: Context, events: Sequence[Event]) -> Sequence[Message]:
        """Returns a message for each event, for all active webhooks for it whose owners may read all items and fields of the collection."""
        webhooks = ctx.schema.webhooks_of
        found: list[Message] = []
        if not webhooks:
            return found
        async for event in ctx.in_slices(events):
            action = f"item.{_ACTIONS.get(event.action, 'update')}:after"
            wanted = [
                webhook
                for webhook in webhooks.get((event.collection.collection, action), ())
                if may_send(ctx.schema, webhook, event.collection)
            ]
            if wanted:
                name, key = event.collection.collection, str(event.key)
                shared = {"event": action, "collection": name, "item": key, "body": body_of(event)}
                found.append(together(shared, [_copy(webhook, name, key) for webhook in wanted]))
        return found


def subject_of(webhook: int) -> str:
    """Returns the subject of the messages of a webhook."""
    return f"{KIND}:{webhook}"


def may_send(schema: Snapshot, webhook: Webhook, collection: Collection) -> bool:
    """Whether the owner of a webhook is active and may read all items and fields of the collection. A webhook whose owner is not known, or
    that the command has made, was made by an administrator, or by a user who was allowed to."""
    if webhook.owner is None:
        return True
    if not webhook.owner_active:
        return False
    access = Access(schema, Accountability(user=webhook.owner, role=webhook.owner_role))
    return access.admin or access.grant(collection.collection).whole


def body_of(event: Event) -> Mapping[str, Any]:
    """Returns what webhooks send about an event, as the API shows values: the row of a created or deleted item; of an updated one the key,
    the fields that were sent, and those that have changed. Without passwords, hashes and tokens."""
    collection = event.collection
    row = event.before if event.after is None else event.after
    assert row is not None
    names = [name for name in collection.columns if name in row]
    if event.before is not None and event.after is not None:
        names = [name for name in names if _is_told(collection, name, event)]
    return logged(collection, {name: _shown(collection, name, row) for name in names})


def _is_told(collection: Collection, name: str, event: Event) -> bool:
    field = collection.fields[name]
    assert event.before is not None
    assert event.after is not None
    return (
        field.primary_key
        or name in event.payload
        or field.type in BOOKKEEPING
        or (name in event.before and event.before[name] != event.after[name])
    )


def _shown(collection: Collection, name: str, row: Row) -> Any:
    convert = answer(collection.fields[name])
    return row[name] if convert is None else convert(row[name])


@lru_cache(maxsize=10_000)
def _destination(url: str) -> str:
    """Returns the destination of messages to a URL. If the URL cannot be used, the delivery says why."""
    try:
        return origin_of(url)
    except RequestFailed:
        return "invalid"


def _copy(webhook: Webhook, collection: str, item: str) -> Copy:
    sequence = f"{webhook.id}:{collection}:{item}"
    return Copy(KIND, _destination(webhook.url), {"webhook": webhook.id}, subject_of(webhook.id), sequence)
