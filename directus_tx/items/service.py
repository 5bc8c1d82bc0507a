"""The `Items` service: what reading and writing items needs from the server."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from directus_tx.config import LimitSettings
from directus_tx.context import Context
from directus_tx.items.changes import Event
from directus_tx.items.hooks import Hooks
from directus_tx.items.rules import NO_RULES, CollectionRules
from directus_tx.items.values import Hasher
from directus_tx.outbox.messages import Message
from directus_tx.schema.model import Collection


class Publisher(Protocol):
    """Makes the messages that the outside world gets about events."""

    async def messages(self, ctx: Context, events: Sequence[Event]) -> Sequence[Message]:
        """Returns the messages about the events of a request, in order. *ctx* is in the transaction that has written them; the messages
        become part of it."""


class Gate(Protocol):
    """Asks others whether items may be written."""

    async def check(
        self, ctx: Context, collection: Collection, action: str, items: Sequence[Mapping[str, Any]], spent: float
    ) -> float:
        """Returns the seconds that asking took. *action* is "create", "update" or "delete"; *items* are what is to be written, as sent,
        and the keys of items that exist; *spent* are the seconds that the request has asked before. Raises an ApiError to refuse."""


@frozen
class Items:
    """The parts of the server that reading and writing items needs. `directus_tx.service` creates it once, and functions take it beside
    the context: the `rules` of system collections by name, the `plugins`, the `limits` of a request, the `hasher` of hash fields, the
    `publishers` that every write is passed to, and the `gates` that are asked before."""

    rules: Mapping[str, CollectionRules]
    plugins: Hooks
    limits: LimitSettings
    hasher: Hasher
    publishers: tuple[Publisher, ...]
    gates: tuple[Gate, ...] = ()

    def rules_of(self, collection: str) -> CollectionRules:
        """Returns the rules of a collection, `NO_RULES` for ordinary collections."""
        return self.rules.get(collection, NO_RULES)
