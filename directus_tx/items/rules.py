"""Hooks for system collections: `items` calls them, and the modules of `system` implement them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum

from attrs import frozen

from directus_tx.access import Grant
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.items.changes import Change, Event, Key
from directus_tx.items.history import Record
from directus_tx.query import Query


class Shown(Enum):
    """Why an item is shown: in a list, read by its key, or as the result of a write."""

    LISTED = "listed"
    BY_KEY = "by key"
    WRITTEN = "written"


ReadOthers = Callable[[str, Sequence[Key]], Awaitable[Mapping[Key, Item]]]
"""Returns the items of a collection with these keys, by key, as the caller sees them."""


@frozen
class Policy:
    """A pattern that the values of a field must match in addition to its validation. `name` is what messages call the pattern."""

    pattern: str
    name: str


class CollectionRules:
    """The rules of a collection. These defaults do nothing; subclasses override what a system collection needs.

    Rules of writing run in the transaction, once for all items of a batch, so that they need no statement for each item. Any can raise
    an ApiError to refuse the request.
    """

    unlogged: bool = False
    """Whether writes are left out of the activity and the revisions."""

    created_as: str = "create"
    """The name of the creation of an item in the activity."""

    needed: tuple[str, ...] = ()
    """Fields that `present` needs, whether or not the query asks for them."""

    server_written: frozenset[str] = frozenset()
    """Fields that only the server writes. Values sent by clients are ignored."""

    administrator_written: frozenset[str] = frozenset()
    """Fields that only the server and administrators write. Values sent by other callers are ignored."""

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Prepares changes before they are validated. All items are new, or all are locked and have their stored rows. Can change the
        payloads. Values in payloads are as sent; use `Change.value`, which parses them, for checks."""

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Checks the parsed values in the `row` of each change before they are stored. Related items have been written. *grant* is the
        caller's grant."""

    def unwritable(self, *, admin: bool) -> frozenset[str]:
        """Returns the fields that the caller cannot write."""
        return self.server_written if admin else self.server_written | self.administrator_written

    async def prepare_delete(self, ctx: Context, keys: Sequence[Key]) -> None:
        """Called before a deletion. The items may be missing, or the caller may not be allowed to delete them."""

    async def after(self, ctx: Context, events: Sequence[Event]) -> Sequence[Record]:
        """Called after items have been created, updated or deleted, all by the same action. Returns additional records for the
        history."""
        return ()

    def policies(self, ctx: Context) -> Mapping[str, Policy]:
        """Returns patterns, by field, that values must match in addition to the validation of the field."""
        return NO_POLICIES

    def present(self, ctx: Context, query: Query, item: Item, shown_for: Shown) -> None:
        """Changes an item in place before it is shown. It holds the requested fields and those of `needed`."""

    async def complete(self, items: Sequence[Item], shown_for: Shown, read: ReadOthers) -> None:
        """Adds to the items of a list what items of other collections hold, after `present`."""


NO_POLICIES: Mapping[str, Policy] = {}
NO_RULES = CollectionRules()
Rules = Mapping[str, CollectionRules]
"""The rules of the system collections, by name."""
