"""The `Items` service: what reading and writing items needs from the server."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import frozen

from directus_tx.config import LimitSettings
from directus_tx.context import Context
from directus_tx.items.changes import Event
from directus_tx.items.rules import NO_RULES, CollectionRules
from directus_tx.items.values import Hasher
from directus_tx.outbox.messages import Message
from directus_tx.plugins.manager import Plugins


class Publisher(Protocol):
    """Makes the messages that the outside world gets about events."""

    async def messages(self, ctx: Context, events: Sequence[Event]) -> Sequence[Message]:
        """Returns the messages about the events of a request, in order. *ctx* is in the transaction that has written them; the messages
        become part of it."""


@frozen
class Items:
    """The parts of the server that reading and writing items needs. `directus_tx.service` creates it once, and functions take it beside
    the context: the `rules` of system collections by name, the `plugins`, the `limits` of a request, the `hasher` of hash fields, and the
    `publishers` that every write is passed to."""

    rules: Mapping[str, CollectionRules]
    plugins: Plugins
    limits: LimitSettings
    hasher: Hasher
    publishers: tuple[Publisher, ...]

    def rules_of(self, collection: str) -> CollectionRules:
        """Returns the rules of a collection, `NO_RULES` for ordinary collections."""
        return self.rules.get(collection, NO_RULES)
