"""What a system collection adds to the writing and reading of items: `items` calls these, modules of `system` fill them in."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import frozen

from directus_tx.access import Grant
from directus_tx.compile.plan import Item as Item
from directus_tx.context import Context
from directus_tx.items.history import Record
from directus_tx.query import Query


class Shown(Enum):
    """What an item is shown for: as one of a list, as looked for by key, as the answer to a write."""

    LISTED = "listed"
    BY_KEY = "by key"
    WRITTEN = "written"


@frozen
class Policy:
    """A pattern that a field's values must match besides the field's validation, and the name of what demands it in messages."""

    pattern: str
    name: str


class CollectionRules:
    """The rules of an ordinary collection: none. A subclass overrides what its collection needs.

    All run inside the write's transaction; any may refuse by raising an ApiError. Payloads have values as the client sent them, not
    yet parsed: what a value means is for `check_values` to judge.
    """

    unlogged: bool = False
    """Whether writes leave neither activity nor revision."""

    needed: tuple[str, ...] = ()
    """Fields that `present` must see, whether the client asked for them or not."""

    server_written: frozenset[str] = frozenset()
    """Fields that the server alone writes: what clients send for them is left out, by whichever way it comes."""

    administrator_written: frozenset[str] = frozenset()
    """Fields that administrators write beside the server: what others send for them is left out."""

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        """The payload to create an item with."""
        return payload

    async def prepare_update(self, ctx: Context, stored: Mapping[str, Any], payload: Item) -> Item:
        """The payload to change an item with, *stored* being its present row."""
        return payload

    async def check_values(self, ctx: Context, grant: Grant, stored: Mapping[str, Any] | None, row: Mapping[str, Any]) -> None:
        """Refuses values as they are about to be stored: parsed, related items written. *row* has those that change; *stored* is the
        present row, None for a new item; *grant* the caller's, as the writer knows it."""

    def unwritable(self, *, admin: bool) -> frozenset[str]:
        """The fields that a caller does not write."""
        return self.server_written if admin else self.server_written | self.administrator_written

    async def prepare_delete(self, ctx: Context, keys: Sequence[Any]) -> None:
        """Refuses, or does what must come before the deletion of these items."""

    async def created(self, ctx: Context, key: Any, payload: Item) -> None:
        """Does what follows from a new item."""

    async def updated(
        self, ctx: Context, key: Any, before: Mapping[str, Any], payload: Item, log: "Callable[[Record], None]"
    ) -> None:
        """Does what follows from a changed item, *before* being its row until then. *log* adds to the history."""

    async def deleted(self, ctx: Context, keys: Sequence[Any]) -> None:
        """Does what follows from the deletion of these items."""

    def policies(self, ctx: Context) -> Mapping[str, Policy]:
        """Patterns, by field, that the values of new and changed items must match besides the fields' validation."""
        return NO_POLICIES

    def present(self, ctx: Context, query: Query, item: Item, shown_for: Shown) -> None:
        """Changes an item in place to what the client is shown. It holds the fields asked for and those of `needed`."""


NO_POLICIES: Mapping[str, Policy] = {}
NO_RULES = CollectionRules()
Rules = Mapping[str, CollectionRules]
"""The rules of the system collections, by name."""
