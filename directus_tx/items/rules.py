"""What a system collection adds to the writing and reading of items: `items` calls these, modules of `system` fill them in."""

from collections.abc import Mapping, Sequence
from enum import Enum

from attrs import frozen

from directus_tx.access import Grant
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.items.changes import Change, Event, Key
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

    Those of writing run inside the write's transaction, once for all items of a statement, so that none needs a statement an item. Any
    may refuse by raising an ApiError.
    """

    unlogged: bool = False
    """Whether writes leave neither activity nor revision."""

    needed: tuple[str, ...] = ()
    """Fields that `present` must see, whether the client asked for them or not."""

    server_written: frozenset[str] = frozenset()
    """Fields that the server alone writes: what clients send for them is left out, by whichever way it comes."""

    administrator_written: frozenset[str] = frozenset()
    """Fields that administrators write beside the server: what others send for them is left out."""

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Prepares items of the collection to be written: all are new, or all are locked and have their stored row. May change their
        payloads, whose values are as sent; `Change.value` gives them parsed, which is what a check goes by."""

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Refuses values as they are about to be stored: in the `row` of each change, parsed, related items written. *grant* is the
        caller's, as the writer knows it."""

    def unwritable(self, *, admin: bool) -> frozenset[str]:
        """The fields that a caller does not write."""
        return self.server_written if admin else self.server_written | self.administrator_written

    async def prepare_delete(self, ctx: Context, keys: Sequence[Key]) -> None:
        """Does what must come before a deletion. The items may not be there, or not be the caller's to delete."""

    async def after(self, ctx: Context, events: Sequence[Event]) -> Sequence[Record]:
        """Does what follows from items that have just been created, changed or deleted, all in the same way. Gives what the history
        keeps beside the events themselves."""
        return ()

    def policies(self, ctx: Context) -> Mapping[str, Policy]:
        """Patterns, by field, that the values of new and changed items must match besides the fields' validation."""
        return NO_POLICIES

    def present(self, ctx: Context, query: Query, item: Item, shown_for: Shown) -> None:
        """Changes an item in place to what the client is shown. It holds the fields asked for and those of `needed`."""


NO_POLICIES: Mapping[str, Policy] = {}
NO_RULES = CollectionRules()
Rules = Mapping[str, CollectionRules]
"""The rules of the system collections, by name."""
