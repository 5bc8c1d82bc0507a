"""The unit of writing: a `Change` is one item on its way into the database, an `Event` is what has become of it."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen, mutable

from directus_tx.compile.plan import Item as Item
from directus_tx.schema.model import Collection, Field
from directus_tx.schema.types import parse, restored

Key = Any
Row = Mapping[str, Any]
"""A stored row: the values of its columns by name, as the database driver gives them; decimals and floats as their exact text."""

Parent = tuple[str, str | None]
"""The collection and key of the item through whose list another one is written. The key is None where the parent is new: clients are
used to that."""


@mutable(eq=False)
class Change:
    """One item to be written: created where `stored` is None, else changed.

    `payload` has the fields that were sent, with what plugins and the collection's rules have made of them. `row` has the values for
    the columns: it is filled while the change is prepared. `action` is what the history calls it.
    """

    collection: Collection
    action: str
    payload: Item
    key: Key = None
    stored: Row | None = None
    parent: Parent | None = None
    row: Item = field(factory=dict)
    from_history: bool = False
    """Whether the payload has the values in the form of the history."""

    @property
    def new(self) -> bool:
        return self.stored is None

    def parse(self, field: Field, value: Any) -> Any:
        """A value of the payload as it is bound for its column. Raises what `schema.types.parse` raises."""
        return restored(field, value) if self.from_history else parse(field, value)

    def value(self, name: str) -> Any:
        """What a column will hold, as far as the payload says: its own value parsed, else the stored one, else None. Raises what
        `parse` raises."""
        if name in self.payload:
            return self.parse(self.collection.fields[name], self.payload[name])
        return None if self.stored is None else self.stored[name]


@frozen(eq=False)
class Event:
    """One item that has been written, within the transaction that does so.

    `action` is "create", "update", "soft-delete", "revert" or "delete". `before` is the row until then, None for a new item; `after`
    is the row since then, None for a deleted one. `payload` has the fields as they were sent and prepared, relational ones with the
    keys of the items they led to. Rows hold hashes and tokens: whoever shows them or keeps them leaves those out (`history.logged`).
    """

    action: str
    collection: Collection
    key: Key
    before: Row | None
    after: Row | None
    payload: Row = field(factory=dict)
    parent: Parent | None = None
