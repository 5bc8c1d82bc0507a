"""A `Change` is an item that is being written. An `Event` describes an item that has been written."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen, mutable

from directus_tx.compile.plan import Item as Item
from directus_tx.schema.model import Collection, Field
from directus_tx.schema.parsing import parse, restored

Key = Any
Row = Mapping[str, Any]
"""A stored row: the values of its columns by name, as the driver returns them. Decimals and floats are their exact text."""

Parent = tuple[str, str | None]
"""The collection and key of the item whose one-to-many field another item is written through. The key is None if the parent is new, as
in Directus 8."""


@mutable(eq=False)
class Change:
    """An item to be written: created if `stored` is None, otherwise updated.

    `payload` holds the fields as sent, after changes by plugins and by the rules of the collection. `row` holds the values of the
    columns and is filled while the change is prepared. `action` is the action in the history.
    """

    collection: Collection
    action: str
    payload: Item
    key: Key = None
    stored: Row | None = None
    parent: Parent | None = None
    row: Item = field(factory=dict)
    from_history: bool = False
    """Whether the values of the payload come from a revision."""
    unchanged: set[str] = field(factory=set)
    """The fields of the payload whose values are the stored ones."""

    @property
    def new(self) -> bool:
        return self.stored is None

    @property
    def changed_row(self) -> Item:
        """The values of `row` without those that are the stored ones."""
        stored = self.stored
        if stored is None or not self.unchanged:
            return self.row
        # The server may have replaced a value since, for example a datetime_updated.
        return {n: v for n, v in self.row.items() if not (n in self.unchanged and v is stored[n])}

    @property
    def leaves_row(self) -> bool:
        """Whether all values of the payload are the stored ones, so that the row need not be written and its triggers need not run. Values
        of virtual columns are not part of a stored row; the row is then read again by an update."""
        sent = bool(self.unchanged) and self.unchanged >= self.payload.keys() and not self.changed_row
        return sent and not any(each.virtual for each in self.collection.columns.values())

    def parse(self, field: Field, value: Any) -> Any:
        """Returns a value of the payload parsed for its column. Raises the errors of `schema.parsing.parse`."""
        return restored(field, value) if self.from_history else parse(field, value)

    def value(self, name: str) -> Any:
        """Returns the value that a column will have: the parsed value of the payload if it has one, otherwise the stored one, otherwise
        None. Raises the errors of `schema.parsing.parse`."""
        if name in self.payload:
            return self.parse(self.collection.fields[name], self.payload[name])
        return None if self.stored is None else self.stored[name]


@frozen(eq=False)
class Event:
    """An item that has been written, in a transaction that is not committed yet.

    `action` is "create", "update", "soft-delete", "revert" or "delete". `before` is the row before the write, None for a new item;
    `after` is the row after it, None for a deleted item. `payload` holds the fields as sent and prepared; many-to-one fields hold keys.
    Rows contain hashes and tokens, which must not be shown or kept (`history.logged` removes them).
    """

    action: str
    collection: Collection
    key: Key
    before: Row | None
    after: Row | None
    payload: Row = field(factory=dict)
    parent: Parent | None = None


@frozen
class WrittenItem:
    """What plugins are told of an event. `action` is "create", "update", "soft-delete", "revert" or "delete"."""

    action: str
    collection: str
    key: Key
